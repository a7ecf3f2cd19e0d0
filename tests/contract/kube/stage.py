"""What every test of the contract gets, with the fake and with a real API server behind it."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from spiderpool.api.crd.spiderip import Holder, SpiderIP, SpiderIPSpec
from spiderpool.api.kubernetes.core import ConfigMap, Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.errors import TooManyRequests, UnknownOutcome
from spiderpool.kube.cluster import Cluster
from tests.apiserver.control_plane import ControlPlane
from tests.apiserver.proxy import RETRY_AFTER_S, Fault, Proxy
from tests.fakes.cluster import FakeCluster

_addresses = itertools.count(1)


class WholePod(KubeObject, frozen=True, kw_only=True):
    """A pod with all of its specification, to create one."""

    resource: ClassVar[Resource] = Pod.resource

    spec: Mapping[str, Any]


class Stage(Protocol):
    """A cluster, another writer, and what can go wrong for us."""

    cluster: Cluster
    """Ours: suffers the faults."""
    other: Cluster
    """Another writer's: works."""
    run: str
    """A text that only this test uses, for names and labels."""

    def fail_next(self, verb: str, kind: type[KubeObject], fault: Fault, *, times: int = 1) -> None:
        """Let our next requests of a verb on a kind fail."""
        ...

    def hold_watch(self) -> None:
        """Let our watches show nothing new from now on."""
        ...

    def release_watch(self) -> None:
        """End `hold_watch`."""
        ...

    async def down(self) -> None:
        """End the API server."""
        ...

    async def up(self) -> None:
        """Start it again."""
        ...


class FakeStage:
    """The fake; we may stand before another door to it than the other writer."""

    def __init__(self, door: Callable[[Cluster], Cluster] = lambda cluster: cluster) -> None:
        self.fake = FakeCluster()
        self.cluster: Cluster = door(self.fake)
        self.other: Cluster = self.fake
        self.run = _run()

    def fail_next(self, verb: str, kind: type[KubeObject], fault: Fault, *, times: int = 1) -> None:
        """Let the next requests of a verb on a kind fail."""
        after_commit = fault is Fault.CUT_AFTER
        refused = TooManyRequests(
            "too many requests, please try again later", retry_after_s=RETRY_AFTER_S
        )
        error = refused if fault is Fault.REFUSE else UnknownOutcome("cut")
        self.fake.faults.fail_next(verb, kind, error, after_commit=after_commit, times=times)

    def hold_watch(self) -> None:
        """Let watches show nothing new from now on."""
        self.fake.hold_watch()

    def release_watch(self) -> None:
        """End `hold_watch`."""
        self.fake.release_watch()

    async def down(self) -> None:
        """End the API server."""
        self.fake.stop()

    async def up(self) -> None:
        """Start it again."""
        self.fake.start()


class RealStage:
    """An API server; our way to it leads through a proxy."""

    def __init__(self, plane: ControlPlane, proxy: Proxy, cluster: Cluster, other: Cluster) -> None:
        self._plane = plane
        self.proxy = proxy
        self.cluster = cluster
        self.other = other
        self.run = _run()

    def fail_next(self, verb: str, kind: type[KubeObject], fault: Fault, *, times: int = 1) -> None:
        """Let our next requests of a verb on a kind fail."""
        self.proxy.fail_next(verb, kind.resource.plural, fault, times=times)

    def hold_watch(self) -> None:
        """Let our watches show nothing new from now on."""
        self.proxy.hold_watch()

    def release_watch(self) -> None:
        """End `hold_watch`."""
        self.proxy.release_watch()

    async def down(self) -> None:
        """End the API server."""
        await asyncio.to_thread(self._plane.kill_api_server)

    async def up(self) -> None:
        """Start it again."""
        self._plane.launch_api_server()
        await asyncio.to_thread(self._plane.wait_ready)


def config_map(
    stage: Stage, name: str, labels: Mapping[str, str] | None = None, **data: str
) -> ConfigMap:
    """Make a ConfigMap that carries the test's mark."""
    meta = ObjectMeta(
        name=f"{stage.run}-{name}", namespace="default", labels={"run": stage.run, **(labels or {})}
    )
    return ConfigMap(metadata=meta, data=data)


def pod(stage: Stage, name: str, node: str) -> WholePod:
    """Make a pod that is bound to a node."""
    container = {"name": "c", "image": "none"}
    return WholePod(
        metadata=ObjectMeta(
            name=f"{stage.run}-{name}", namespace="default", labels={"run": stage.run}
        ),
        spec={"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [container]},
    )


def record(stage: Stage, **holder: Any) -> SpiderIP:
    """Make the record of an address that nobody else uses."""
    number = next(_addresses)
    ip = f"10.6.{number // 250}.{number % 250 + 1}"
    return SpiderIP(
        metadata=ObjectMeta(name=ip, labels={"run": stage.run}),
        spec=SpiderIPSpec(ip=ip, pool="blue", family=4, prefix_length=16, holder=Holder(**holder)),
    )


def _run() -> str:
    return f"t{uuid.uuid4().hex[:10]}"
