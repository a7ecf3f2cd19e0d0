"""The custom resources and the Kubernetes objects as types."""
