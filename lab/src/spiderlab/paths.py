"""Where the lab keeps its things on the machine."""

import os
from pathlib import Path

RUN = Path("/run/spiderlab")
"""State and lock: gone after a reboot of the machine, like all else of a lab that ran."""

DATA = Path("/var/lib/spiderlab")
"""Configuration, certificates, logs, disks of nodes and etcd; `down` deletes it."""

LOCK = Path("/run/spiderlab.lock")
STATE = RUN / "state.json"
PKI = DATA / "pki"
LOGS = DATA / "logs"
ETCD = DATA / "etcd"
IMAGES = DATA / "images"
KUBECONFIG = DATA / "kubeconfig"
"""The administrator's."""


def cache() -> Path:
    """
    What outlives a lab: programs built, Go's caches.

    The Makefile names another folder by the same variable.
    """
    return Path(os.environ.get("CACHE", "") or Path.home() / ".cache" / "spiderpool")


def node_data(node: str) -> Path:
    """The disk of a node."""
    return DATA / "nodes" / node


def kubeconfig(user: str) -> Path:
    """The kubeconfig of one of the cluster's programs."""
    return PKI / f"{user}.kubeconfig"
