"""Intervals of addresses; knows no pools."""
