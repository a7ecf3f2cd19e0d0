"""Attacks of a tenant on the lab: each fails, is told, and costs nobody else anything."""
