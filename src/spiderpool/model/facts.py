"""Everything that a decision about a pod looks at, read once before it is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Namespace, Node, Pod
from spiderpool.configuration.config import Features
from spiderpool.model.network_selection import NetworkSelection
from spiderpool.model.pool import Pool


@dataclass(frozen=True, slots=True)
class Facts:
    """
    The state of the cluster as one ADD sees it.

    `owner`: the pod's top owner (the pod itself when nothing owns it). `automatic`: the pools made
    for that owner.
    `reserved`: per family, of living SpiderReservedIPs.
    `networks`: the parsed annotation `k8s.v1.cni.cncf.io/networks`. `default_network`: the
    cluster's default network, as `namespace/name` or `name`; None where no meta plugin is set up.
    `agent_namespace`: where networks without a namespace are.
    `position`: of the pod among the ordinals of its StatefulSet; None where it belongs to none, or
    asks for no exact address.
    `master_addresses`: addresses of the physical NIC below the one asked for; None unless the
    request has `matchMasterSubnet`.
    """

    pod: Pod
    owner: Application
    features: Features
    node: Node | None = None
    namespace: Namespace | None = None
    pools: Mapping[str, Pool] = field(default_factory=dict)
    automatic: tuple[Pool, ...] = ()
    reserved: Mapping[int, AddressSet] = field(default_factory=dict)
    networks: tuple[NetworkSelection, ...] = ()
    default_network: str | None = None
    agent_namespace: str = ""
    master_addresses: tuple[IPAddress, ...] | None = None
    position: int | None = None

    def reserved_of(self, family: int) -> AddressSet:
        """Return the reserved addresses of a family."""
        return self.reserved.get(family) or AddressSet.empty(family)
