"""
A real Kubernetes in network namespaces.

Three nodes, an underlay with two networks, no container engine, no registry.
"""

from spiderlab.errors import LabError
from spiderlab.lab import Lab, LabNode

__all__ = ["Lab", "LabError", "LabNode"]
