"""The configuration file and environment variables: read, checked, and refused with what to do."""
