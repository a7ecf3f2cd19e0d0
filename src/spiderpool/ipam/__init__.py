"""Decisions about addresses: pure, no I/O, clock or randomness."""
