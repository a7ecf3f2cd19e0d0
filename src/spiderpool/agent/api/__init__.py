"""The agent's HTTP servers: the unix socket and the port for probes and reports."""
