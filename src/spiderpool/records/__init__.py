"""
The life of one SpiderIP: how it is built, handed over, released, and what is derived from it.

Pure.
"""
