"""
What a lab may run in place of its own.

Which default network, which meta plugin, and what each needs. Pure.
"""

from dataclasses import dataclass
from enum import StrEnum


class Cni(StrEnum):
    """The default network."""

    LAB_CALICO = "lab-calico"
    """
    The lab's stand-in for Calico without encapsulation.

    Quick to start, routes made by the lab.
    """
    KUBE_ROUTER = "kube-router"
    """The real one: a bridge on each node, routes by BGP, NetworkPolicy."""


class Meta(StrEnum):
    """Who calls the CNI plugins of a pod's further networks."""

    BUILTIN = "builtin"
    """Spiderpool itself."""
    MULTUS = "multus"
    """The real Multus, installed by Spiderpool's chart."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The programs of others that a lab runs."""

    cni: Cni = Cni.LAB_CALICO
    meta: Meta = Meta.BUILTIN

    def __str__(self) -> str:
        return f"--cni {self.cni} --meta {self.meta}"

    @property
    def packages(self) -> dict[str, str]:
        """Programs of the distribution that these peers start, each with its package."""
        return {"ipset": "ipset"} if self.cni is Cni.KUBE_ROUTER else {}


QUICK = Peers()
"""The lab's own: what starts fastest and needs no further build."""
