"""Load generators and their reports: our speed as a ratio to what the API server can do, from one run."""
