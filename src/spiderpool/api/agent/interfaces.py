"""
What the kernel of a node says about addresses.

The answer of the agent's `GET /v1/interfaces`, read by `spiderpoolctl`.
"""

from __future__ import annotations

from ipaddress import ip_interface

import msgspec

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.kubernetes.meta import Kube


class InUseInterface(Kube, frozen=True, kw_only=True):
    """
    One interface.

    Its addresses of global scope without a lifetime, each with its prefix length.
    """

    nic: str
    mac: str = ""
    addresses: tuple[str, ...] = ()


class InUseNamespace(Kube, frozen=True, kw_only=True):
    """
    One network namespace.

    `path`: a file that names it, on its node. `inode`: its number, as lsns(8) shows it. `pod_uid`:
    of the pod whose processes live in it; empty when there are none.
    `containers`: their identifiers as the runtime has them, the oldest process first, which is the
    sandbox's. `others`: whether processes live in it that are no pod's.
    """

    path: str
    inode: int = 0
    pod_uid: str = msgspec.field(default="", name="podUID")
    containers: tuple[str, ...] = ()
    others: bool = False
    interfaces: tuple[InUseInterface, ...] = ()

    @property
    def pairs(self) -> frozenset[tuple[str, IPAddress]]:
        """Every NIC with every address of its."""
        return frozenset(
            (link.nic, ip_interface(text).ip) for link in self.interfaces for text in link.addresses
        )


class NodeInterfaces(Kube, frozen=True, kw_only=True):
    """All network namespaces of a node's pods, the node's own left out."""

    node: str
    namespaces: tuple[InUseNamespace, ...] = ()
