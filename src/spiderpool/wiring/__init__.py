"""Decisions about a pod's links and routes: pure."""
