"""
Decisions about a pod's links, addresses, routes and rules, and about its node's kernel settings.

Pure.
"""
