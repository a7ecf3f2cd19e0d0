"""
Connections between pods of several CNIs: the matrix of cases, and why a case fails.

Pure.
"""
