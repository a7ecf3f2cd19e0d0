"""The CNI protocol without I/O."""
