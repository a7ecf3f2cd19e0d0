"""A small cluster in memory, as the controller's leader sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import pytest

from spiderpool.addressing.ranges import cidr_label
from spiderpool.api.crd.group import ANNO_IMPORTED, FINALIZER, LABEL_IPPOOL_CIDR
from spiderpool.api.crd.ippool import IPPoolSpec, IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.spiderip import Holder, IPState, SpiderIP, SpiderIPSpec
from spiderpool.api.kubernetes.core import Pod, PodSpec, PodStatus
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.configuration.config import Features
from spiderpool.controller.runtime.context import Context
from spiderpool.kube.informer import Informer
from spiderpool.records.build import record_of
from tests.fakes.cluster import FakeCluster

FEATURES = Features(
    enable_ipv4=True, enable_ipv6=True, enable_stateful_set=True, enable_kubevirt_static_ip=True
)
NAMESPACE = "spiderpool"


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@dataclass(slots=True)
class Told:
    """The Events that were written: (name, reason, message)."""

    events: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, obj: KubeObject, reason: str, message: str) -> None:
        """Note one."""
        self.events.append((obj.metadata.name, reason, message))


def make_pool(
    name: str = "blue",
    *,
    marked: bool = True,
    going: bool = False,
    allocated: str | None = None,
    ips: tuple[str, ...] = ("10.6.0.10-10.6.0.19",),
    subnet: str = "10.6.0.0/16",
    gateway: str | None = "10.6.0.1",
) -> SpiderIPPool:
    """Make a pool of ten addresses."""
    return SpiderIPPool(
        metadata=ObjectMeta(
            name=name,
            finalizers=(FINALIZER,),
            generation=1,
            labels={LABEL_IPPOOL_CIDR: cidr_label(subnet)},
            annotations={ANNO_IMPORTED: "true"} if marked else {},
            deletion_timestamp="2026-01-01T00:00:00Z" if going else None,
        ),
        spec=IPPoolSpec(
            subnet=subnet, ip_version=6 if ":" in subnet else 4, ips=ips, gateway=gateway
        ),
        status=IPPoolStatus(allocated_ips=allocated),
    )


def make_record(
    ip: str = "10.6.0.10",
    pod: str = "p",
    uid: str = "u",
    *,
    pool: str = "blue",
    static: bool = False,
    state: IPState = IPState.HELD,
    namespace: str = "ns",
    nic: str = "eth0",
) -> SpiderIP:
    """Make the record of an address."""
    holder = Holder(namespace=namespace, name=pod, uid=uid, nic=nic, node="node1")
    return record_of(
        SpiderIPSpec(
            ip=ip,
            pool=pool,
            family=6 if ":" in ip else 4,
            prefix_length=16,
            holder=holder,
            static=static,
            state=state,
            gateway="10.6.0.1",
        )
    )


def make_pod(
    name: str = "p",
    uid: str = "u",
    *,
    namespace: str = "ns",
    phase: str = "Running",
    **meta: object,
) -> Pod:
    """Make a pod."""
    return Pod(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=uid, **meta),  # type: ignore[arg-type]
        spec=PodSpec(node_name="node1"),
        status=PodStatus(phase=phase),
    )


async def settle(pod_locks: int = 25) -> None:
    """Let the informers take in what happened."""
    for _ in range(pod_locks):
        await asyncio.sleep(0)


@dataclass(slots=True)
class Scene:
    """A fake cluster and leaders over it."""

    cluster: FakeCluster
    clock: Clock
    told: Told
    stack: AsyncExitStack

    async def lead(self) -> Context:
        """Begin a leadership with fresh informers."""
        pools = Informer(self.cluster, SpiderIPPool)
        await pools.start()
        self.stack.push_async_callback(pools.stop)
        return await self.stack.enter_async_context(Context(self.cluster, pools, FEATURES))

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, and the informers take in what happened."""
        self.clock.now += seconds
        await settle()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Return an empty cluster; what was started ends with the test."""
    async with AsyncExitStack() as stack:
        yield Scene(FakeCluster(), Clock(), Told(), stack)
