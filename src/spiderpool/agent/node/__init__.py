"""The agent's node: CNI files, kernel settings, kube-proxy's rules."""
