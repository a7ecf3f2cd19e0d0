"""
Agents of Go Spiderpool.

They write allocations into the status of pools, so nothing is taken over while one runs.
"""

from __future__ import annotations

from typing import Final

from spiderpool.api.kubernetes.core import Pod
from spiderpool.kube.cluster import Cluster

AGENT_LABEL: Final = "app.kubernetes.io/component=spiderpool-agent"
# our chart sets it on our agents
OUR_AGENT_LABEL: Final = "spiderpool.spidernet.io/one-object-per-address"


async def list_go_agents(cluster: Cluster, namespace: str) -> list[str]:
    """Name the pods of the release that run Go Spiderpool's agent."""
    listing = await cluster.list_objects(
        Pod, namespace=namespace, labels=f"{AGENT_LABEL},{OUR_AGENT_LABEL}!=true"
    )
    running = [pod for pod in listing.items if pod.status.phase not in {"Succeeded", "Failed"}]
    return sorted(f"{pod.metadata.namespace}/{pod.metadata.name}" for pod in running)
