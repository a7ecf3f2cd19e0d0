"""A cluster in memory with agents on its nodes, and what runtimes ask of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from spiderpool.agent.app import App, informed, serving
from spiderpool.agent.build import build
from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.node.caller import PodCall
from spiderpool.agent.settings import read_settings
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import OwnerReference
from spiderpool.configuration.config import Config
from spiderpool.ipam.pod_request import Request
from spiderpool.ipam.response import IpamAddResponse, render_answer
from spiderpool.kube.cluster import Cluster
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_ippool, make_namespace, make_node, make_pod

CONFIG = Config(
    enable_ipv4=True, enable_ipv6=True, enable_stateful_set=True, enable_kubevirt_static_ip=True
)
SHORT = RetryPolicy(busy_s=0.3, absent_s=0.1)


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent, and the calls of its node's runtime."""

    app: App

    async def add(
        self, pod: Pod, nic: str = "eth0", container: str | None = None, **more: Any
    ) -> IpamAddResponse:
        """Let the runtime ADD an interface; further keys are those of `Request`."""
        request = Request(nic=nic, container_id=sandbox_of(pod, container), **more)
        allocation = await self.app.ipam.allocate(call_of(pod), request)
        return render_answer(allocation.records, allocation.facts.features, allocation.facts.pools)

    async def delete(self, pod: Pod, container: str | None = None) -> None:
        """Let the runtime DEL a sandbox."""
        await self.app.ipam.release(call_of(pod), sandbox_of(pod, container))


@dataclass(frozen=True, slots=True)
class Simulation:
    """A cluster and a folder for sockets."""

    cluster: FakeCluster
    folder: Path

    @asynccontextmanager
    async def agent(
        self, node: str = "node1", *, cluster: Cluster | None = None, **more: Any
    ) -> AsyncIterator[Agent]:
        """Run an agent without listeners; further keys: `config`, `wait_s`, `quiet_s`, `env`."""
        async with informed(app := self.make(node, cluster=cluster, **more)):
            yield Agent(app)

    @asynccontextmanager
    async def serving_agent(self, node: str = "node1", **more: Any) -> AsyncIterator[Agent]:
        """Run an agent with its socket and ports."""
        async with serving(app := self.make(node, **more)):
            yield Agent(app)

    def make(self, node: str, *, cluster: Cluster | None = None, **more: Any) -> App:
        """Put an agent together that does not wait long for anything."""
        config = more.pop("config", CONFIG)
        config = replace(config, ipam_unix_socket_path=str(self.folder / f"{node}.sock"))
        env = {
            "SPIDERPOOL_POD_NAMESPACE": "kube-system",
            "SPIDERPOOL_POD_NAME": f"agent-{node}",
            "SPIDERPOOL_NODE_NAME": node,
            "SPIDERPOOL_HEALTH_PORT": "0",
            "SPIDERPOOL_METRIC_HTTP_PORT": "0",
            **more.pop("env", {}),
        }
        metrics = Metrics("v0")
        return build(
            read_settings(env),
            config,
            cluster or self.cluster,
            metrics,
            retry=SHORT,
            wait_s=more.pop("wait_s", 0.05),
            quiet_s=more.pop("quiet_s", 0.0),
            look=more.pop("look", None) or _nothing,
            fence=more.pop("fence", None) or _no_fence,
        )

    def pool(self, name: str = "blue", subnet: str = "10.6.0.0/16", **spec: Any) -> SpiderIPPool:
        """Have a default pool of ten addresses; keywords are keys of its spec."""
        return self.cluster.seed(make_ippool(name, subnet, **{"default": True, **spec}))

    def pod(
        self, name: str = "web-1", uid: str | None = None, *, stateful: bool = False, **more: Any
    ) -> Pod:
        """Have a pod bound to `node1`; further keys as `make_pod`."""
        pod = make_pod(name, uid=uid or f"uid-{name}", **more)
        if stateful:
            pod = with_owner(pod)
        return self.cluster.seed(pod)

    def held(self) -> dict[str, str]:
        """Return who holds what: address → pod name."""
        return {
            record.spec.ip: record.spec.holder.name
            for record in self.cluster.all(SpiderIP)
            if record.held
        }


async def _nothing() -> tuple[InUseNamespace, ...]:
    """Look into a node without namespaces."""
    return ()


async def _no_fence(_namespace: InUseNamespace, _ip: object) -> None:
    """Take nothing off."""


def new_simulation(folder: Path) -> Simulation:
    """Make a cluster of two nodes and the namespace `ns`."""
    cluster = FakeCluster()
    for node in ("node1", "node2"):
        cluster.seed(make_node(node))
    cluster.seed(make_namespace("ns"))
    return Simulation(cluster, folder)


def call_of(pod: Pod) -> PodCall:
    """Name a pod as the runtime does."""
    return PodCall(pod.metadata.namespace, pod.metadata.name, pod.metadata.uid)


def sandbox_of(pod: Pod, container: str | None = None) -> str:
    """Return a pod's sandbox: that of the test, or one of the pod's own."""
    return f"sandbox-{pod.metadata.uid}" if container is None else container


def ips(answer: IpamAddResponse) -> list[str]:
    """Return the addresses of an answer without their prefix lengths."""
    return [ip.address.partition("/")[0] for ip in answer.ips or ()]


def with_owner(
    pod: Pod, kind: str = "StatefulSet", name: str = "db", api_version: str = "apps/v1"
) -> Pod:
    """Let a controller own a pod."""
    owner = OwnerReference(
        api_version=api_version, kind=kind, name=name, uid=f"{name}-uid", controller=True
    )
    return replace(pod, metadata=replace(pod.metadata, owner_references=(owner,)))
