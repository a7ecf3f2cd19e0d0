"""Entry points for people and jobs."""
