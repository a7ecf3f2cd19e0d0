"""Fixed underlay addresses for Kubernetes pods, on one or several interfaces."""
