"""Reclaim of addresses whose pods are gone."""
