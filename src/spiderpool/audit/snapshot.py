"""
The four sources of the audit, read.

Pods, SpiderIPs, what is derived from them, and what interfaces have.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.agent.interfaces import InUseNamespace, NodeInterfaces
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.core import Pod
from spiderpool.model.pool import Pool
from spiderpool.records.verdicts import HolderOwners

# Records; above it a pool's status is written once in 10 s (docs/reference/objects.md#pool-status).
SMALL_POOL: Final = 200
# whether one of the pools is large → how long after a change all is written
PROJECTION_LAG_S: Final = {False: 2.0, True: 12.0}

Name = tuple[str, str]
"""(namespace, name)."""
Slot = tuple[str, IPAddress]
"""NIC and address."""


@dataclass(frozen=True)
class Snapshot:
    """
    All sources, read.

    `owners`: for each static record, by its name, the objects that judge it. `interfaces`: of the
    nodes whose agents answered.
    `nodes`: names of the nodes that exist, None = not known; `lost`: of those among them that are
    not Ready.
    `namespace`: where the product runs, for commands.
    """

    pods: tuple[Pod, ...] = ()
    records: tuple[SpiderIP, ...] = ()
    pools: tuple[SpiderIPPool, ...] = ()
    endpoints: tuple[SpiderEndpoint, ...] = ()
    owners: Mapping[str, HolderOwners] = field(default_factory=dict)
    interfaces: tuple[NodeInterfaces, ...] = ()
    nodes: frozenset[str] | None = None
    namespace: str = "kube-system"
    subnets: tuple[SpiderSubnet, ...] = ()
    lost: frozenset[str] = frozenset()

    @cached_property
    def held(self) -> tuple[SpiderIP, ...]:
        """The records that a pod or a virtual machine holds."""
        return tuple(record for record in self.records if record.held_by_workload)

    @cached_property
    def record_of(self) -> Mapping[IPAddress, SpiderIP]:
        """Every record by its address."""
        return {record.spec.address: record for record in self.records}

    @cached_property
    def pod_of(self) -> Mapping[str, Pod]:
        """Pods by UID."""
        return {pod.metadata.uid: pod for pod in self.pods}

    @cached_property
    def pod_named(self) -> Mapping[Name, Pod]:
        """Pods by namespace and name."""
        return {pod.key: pod for pod in self.pods}

    @cached_property
    def parsed(self) -> Mapping[str, Pool]:
        """Pools by name, read."""
        return {pool.metadata.name: Pool.parse(pool) for pool in self.pools}

    @cached_property
    def in_use(self) -> Mapping[str, tuple[InUseNamespace, ...]]:
        """Network namespaces by pod UID."""
        found: dict[str, list[InUseNamespace]] = defaultdict(list)
        for node in self.interfaces:
            for each in node.namespaces:
                found[each.pod_uid].append(each)
        return {uid: tuple(each) for uid, each in found.items()}

    @cached_property
    def read_nodes(self) -> frozenset[str]:
        """Nodes whose interfaces are known."""
        return frozenset(node.node for node in self.interfaces)

    @cached_property
    def addresses_in_use(self) -> frozenset[IPAddress]:
        """Every address on any interface that is known."""
        return frozenset(
            ip for each in self.in_use.values() for namespace in each for _, ip in namespace.pairs
        )

    @cached_property
    def has_large_pool(self) -> bool:
        """Return whether a pool has so many records that its status is written rarely."""
        counts: dict[str, int] = defaultdict(int)
        for record in self.records:
            counts[record.spec.pool] += 1
        return max(counts.values(), default=0) > SMALL_POOL

    @property
    def lag_s(self) -> float:
        """How long the derived sources may be behind."""
        return PROJECTION_LAG_S[self.has_large_pool]

    def living(self, record: SpiderIP) -> Pod | None:
        """Return the pod with a record's UID; that of a virtual machine has another name."""
        return self.pod_of.get(record.spec.holder.uid)

    def in_pools(self, ip: IPAddress) -> str | None:
        """Name the pool that has an address."""
        return next(
            (
                name
                for name, pool in self.parsed.items()
                if pool.family == ip.version and ip in pool.total
            ),
            None,
        )
