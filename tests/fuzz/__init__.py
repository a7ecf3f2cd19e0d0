"""Texts that a tenant writes, made up by chance: every reader answers in time, or refuses with a sentence."""
