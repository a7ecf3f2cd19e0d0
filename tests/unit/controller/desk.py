"""A leader that keeps subnets and automatic pools over a fake cluster, and what users do to their applications."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import msgspec

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.api.kubernetes.workloads import Deployment, Workload
from spiderpool.configuration.config import Features, ThirdPartyKind
from spiderpool.controller.pools.deletion import PoolKeeper
from spiderpool.controller.runtime.context import Context
from spiderpool.controller.runtime.fenced_cluster import FencedCluster
from spiderpool.controller.subnets.applications import ForeignApplications, NativeApplications
from spiderpool.controller.subnets.automatic_pools import AutoPools
from spiderpool.controller.subnets.grant_ledger import SubnetLedger
from spiderpool.controller.subnets.subnet_keeper import SubnetKeeper
from spiderpool.ipam.pool_size import SizeLimits
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.informer import Informer
from spiderpool.model.subnet import Grants, read_grants
from tests.fakes.cluster import FakeCluster
from tests.unit.controller.conftest import Clock, Told, make_record, settle

K = TypeVar("K", bound=KubeObject)

FEATURES = Features(
    enable_ipv4=True,
    enable_ipv6=True,
    enable_stateful_set=True,
    enable_spider_subnet=True,
    enable_auto_pool_for_application=True,
)
CLONE_SET = ThirdPartyKind(api_group="apps.kruise.io", kind="CloneSet", resource="clonesets")
SUBNETS = "ipam.spidernet.io/subnets"
SUBNET = "ipam.spidernet.io/subnet"
NUMBER = "ipam.spidernet.io/ippool-ip-number"
ROUNDS = 12


@dataclass(slots=True)
class Desk:
    """The cluster and its leader; `lead` replaces the leader by a new one."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    clock: Clock = field(default_factory=Clock)
    told: Told = field(default_factory=Told)
    limits: SizeLimits = field(default_factory=SizeLimits)
    writes: int | None = None  # how many writes the leader may still do; None = any number
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _loops: list[Any] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        """Begin without a leader."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the leader."""
        await self._stack.aclose()

    async def lead(self) -> None:
        """End the leader that there is, and begin again with what the cluster has."""
        await self._stack.aclose()
        stack = self._stack = AsyncExitStack()
        door: Cluster = FencedCluster(self.cluster, self._may_write)
        pools = await self._follow(door, SpiderIPPool)
        subnets = await self._follow(door, SpiderSubnet)
        reserved = await self._follow(door, SpiderReservedIP)
        context = await stack.enter_async_context(Context(door, pools, FEATURES))
        ledger = SubnetLedger(door, subnets, reserved)
        subnet_keeper = SubnetKeeper(
            context, subnets, ledger, self.told, automatic=True, clock=self.clock
        )
        keeper = PoolKeeper(context, self.told, clock=self.clock)
        auto = AutoPools(
            context, ledger, self.told, redundancy=1, limits=self.limits, clock=self.clock
        )
        natives = await stack.enter_async_context(NativeApplications(door, auto.notify))
        foreigns = ForeignApplications(context, [CLONE_SET], auto.notify, clock=self.clock)
        await stack.enter_async_context(foreigns)
        subnet_keeper.start()
        keeper.start()
        auto.start(subnets, natives, foreigns)
        self._loops = [subnet_keeper.queue, auto.queue, keeper.queue]

    async def _follow(self, door: Cluster, kind: type[K]) -> Informer[K]:
        """Start an informer that ends with the leader."""
        informer = Informer(door, kind)
        await informer.start()
        self._stack.push_async_callback(informer.stop)
        await informer.synced()
        return informer

    def _may_write(self) -> bool:
        """Count a write, or refuse it: as a leader that ends between two writes."""
        if self.writes is None:
            return True
        self.writes -= 1
        return self.writes >= 0

    async def settle(self, rounds: int = ROUNDS, seconds: float = 1.0) -> None:
        """Let time pass and everybody work."""
        for _ in range(rounds):
            self.clock.now += seconds
            await settle()
            for queue in self._loops:
                await queue.run_due()
        await settle()

    # --- what users do
    # ------------------------------------------------------------------------------------------------------

    def subnet(
        self, name: str = "s1", cidr: str = "10.6.0.0/16", *ips: str, **spec: Any
    ) -> SpiderSubnet:
        """Make a subnet, as the webhook leaves it; ten addresses unless told otherwise."""
        family = 6 if ":" in cidr else 4
        ranges = ips or (("fd00:6::10-fd00:6::19",) if family == 6 else ("10.6.0.10-10.6.0.19",))
        return self.cluster.seed(
            SpiderSubnet(
                metadata=ObjectMeta(name=name, finalizers=(FINALIZER,), generation=1),
                spec=SubnetSpec(ip_version=family, subnet=cidr, ips=ranges, **spec),  # type: ignore[arg-type]
            )
        )

    def app(
        self,
        name: str = "web",
        replicas: int = 2,
        annotations: dict[str, Any] | None = None,
        kind: type[Workload] = Deployment,
        uid: str = "00000000-0000-0000-0000-7f619c69194e",
        **spec: Any,
    ) -> Workload:
        """Make or change an application; by default its pods want addresses of subnet `s1`."""
        annotations = {SUBNET: {"ipv4": ["s1"]}} if annotations is None else annotations
        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in annotations.items()
        }
        document = {
            "metadata": {"name": name, "namespace": "ns", "uid": uid},
            "spec": {
                "replicas": replicas,
                "template": {"metadata": {"annotations": texts}, "spec": {}},
                **spec,
            },
        }
        return self.cluster.seed(msgspec.convert(document, kind))

    def foreign_pod(
        self, name: str, owner: str = "clones", annotations: dict[str, Any] | None = None
    ) -> Pod:
        """Make a pod of a CloneSet."""
        texts = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in (annotations or {}).items()
        }
        reference = {
            "apiVersion": "apps.kruise.io/v1alpha1",
            "kind": "CloneSet",
            "name": owner,
            "uid": f"{owner}-00000uid",
            "controller": True,
        }
        metadata = {
            "name": name,
            "namespace": "ns",
            "uid": name,
            "annotations": texts,
            "ownerReferences": [reference],
        }
        return self.cluster.seed(msgspec.convert({"metadata": metadata}, Pod))

    def hold(self, ip: str, pool: str, pod: str = "p") -> SpiderIP:
        """Let a pod have an address."""
        return self.cluster.seed(make_record(ip, pod, pod, pool=pool))

    # --- what there is
    # ------------------------------------------------------------------------------------------------------

    def pools(self) -> dict[str, list[str]]:
        """Return the ranges of all pools, by name."""
        return {pool.metadata.name: list(pool.spec.ips) for pool in self.cluster.all(SpiderIPPool)}

    def pool(self, name: str) -> SpiderIPPool:
        """Return one pool."""
        return next(pool for pool in self.cluster.all(SpiderIPPool) if pool.metadata.name == name)

    def grants(self, name: str = "s1") -> Grants:
        """Return what a subnet's status says."""
        subnet = next(
            subnet for subnet in self.cluster.all(SpiderSubnet) if subnet.metadata.name == name
        )
        return read_grants(subnet.status.controlled_ippools, subnet.spec.ip_version or 4)

    def counts(self, name: str = "s1") -> tuple[int | None, int | None]:
        """Return a subnet's counts: given to pools, and all."""
        subnet = next(
            subnet for subnet in self.cluster.all(SpiderSubnet) if subnet.metadata.name == name
        )
        return subnet.status.allocated_ip_count, subnet.status.total_ip_count

    def claims(self) -> list[str]:
        """Return the addresses that the controller itself has claimed."""
        return [
            record.spec.ip
            for record in self.cluster.all(SpiderIP)
            if record.spec.holder.kind is HolderKind.POOL
        ]


def addresses(*ranges: str) -> AddressSet:
    """Read ranges of IPv4."""
    return parse_ranges(4, ranges)
