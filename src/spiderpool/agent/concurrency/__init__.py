"""Locks by key, retries and shields: how calls run side by side."""
