"""
Comparison of everything that is known about addresses, and the explanation of one pod's addresses.

Pure.
"""
