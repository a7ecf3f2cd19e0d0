"""
Load generators and their reports.

Our speed as a ratio to what the API server can do, from one run.
"""
