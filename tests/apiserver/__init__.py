"""A real API server for tests, and a proxy that stands in its way."""
