"""
The stage a benchmark plays on: nodes, pods, pools and credentials in the running lab.

The pods are bound to Node objects that no kubelet serves; their leases are kept alive here, so that
they stay Ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import msgspec
import yaml

from bench.api import Api
from spiderpool.api.crd.group import LABEL_POOL
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Namespace, PartialObject, Pod
from spiderpool.errors import AlreadyExists, NotFound
from spiderpool.kube.client import KubeClient

NAMESPACE = "bench"
POOL_PREFIX = "bench-"
RAW_POOL = "raw"  # named by the raw measurement's records; no such pool exists
GONE_WITHIN_S = 300
LEASE_SECONDS = 40
T = TypeVar("T")
R = TypeVar("R")


async def in_flight(jobs: Iterable[T], work: Callable[[T], Awaitable[R]], width: int) -> list[R]:
    """Work through `jobs`, `width` at a time; results in the order in which they end."""
    results: list[R] = []
    queue: Iterator[T] = iter(jobs)

    async def worker() -> None:
        for job in queue:
            result = await work(job)
            results.append(result)

    await asyncio.gather(*(worker() for _ in range(width)))
    return results


async def until_gone(look: Callable[[], Awaitable[object]], what: str) -> None:
    """
    Wait until `look` finds nothing.

    Raises:
        RuntimeError: it is still there after GONE_WITHIN_S.
    """
    with contextlib.suppress(NotFound):
        for _ in range(GONE_WITHIN_S * 5):
            await look()
            await asyncio.sleep(0.2)
        raise RuntimeError(f"{what} is still there {GONE_WITHIN_S} s after its deletion")


async def write_identity(
    api: Api, admin: Path, namespace: str, account: str, node: str, target: Path
) -> Path:
    """
    Write a kubeconfig with a service account's token that names a node.

    The load has the identity of that node's agent, and with it its FlowSchema and its rights: a
    token that names no node writes nothing.
    """
    token = await api.json(
        "POST",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
        {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "expirationSeconds": 7200,
                "boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": node},
            },
        },
    )
    config = yaml.safe_load(admin.read_text())
    config["users"] = [
        {"name": config["users"][0]["name"], "user": {"token": token["status"]["token"]}}
    ]
    target.write_text(yaml.safe_dump(config))
    target.chmod(0o600)
    return target


NODES: Final = tuple(f"bench-node{i}" for i in range(1, 5))


class Stage:
    """Nodes, pods and pools of one benchmark; leaving it removes them."""

    def __init__(self, client: KubeClient, api: Api, nodes: tuple[str, ...]) -> None:
        """Name the nodes; nothing is made yet."""
        self.client = client
        self.api = api
        self.nodes = nodes
        self._heart: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Remove what a former run left, make namespace and nodes, and begin to renew leases."""
        await self._clear()
        await self.client.create(msgspec.convert(_object("v1", "Namespace", NAMESPACE), Namespace))
        for node in self.nodes:
            await self._make_node(node)
        self._heart = asyncio.create_task(self._beat())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove all that was made."""
        if self._heart:
            self._heart.cancel()
        await self._clear()

    async def _clear(self) -> None:
        """Remove all objects of the benchmark and its namespace, and wait until they are gone."""
        await self.remove_pods()
        for node in self.nodes:
            with contextlib.suppress(NotFound):
                await self.api.json("DELETE", f"/api/v1/nodes/{node}")
        for pool in await self._own_pools():
            await self.remove_records(pool)
            await self.remove_pool(pool)
        await self.remove_records(RAW_POOL)
        with contextlib.suppress(NotFound):
            await self.client.delete(Namespace, NAMESPACE)
        await until_gone(lambda: self.client.get(Namespace, NAMESPACE), f"namespace {NAMESPACE}")

    async def _own_pools(self) -> list[str]:
        listing = await self.client.list_metadata(SpiderIPPool)
        return [p.metadata.name for p in listing.items if p.metadata.name.startswith(POOL_PREFIX)]

    async def remove_records(self, pool: str) -> None:
        """
        Delete a pool's records, whatever holds them.

        The controller may be faster, since there are no such pods.
        """

        async def remove(record: PartialObject) -> None:
            with contextlib.suppress(NotFound):
                await self.client.delete(SpiderIP, record.metadata.name)

        await in_flight(
            (await self.client.list_metadata(SpiderIP, labels=f"{LABEL_POOL}={pool}")).items,
            remove,
            50,
        )

    async def _make_node(self, node: str) -> None:
        body = _object("v1", "Node", node)
        body["metadata"]["labels"] = {"kubernetes.io/hostname": node, "bench": "true"}
        body["spec"] = {"taints": [{"key": "bench", "value": "true", "effect": "NoSchedule"}]}
        with contextlib.suppress(AlreadyExists):
            await self.api.json("POST", "/api/v1/nodes", body)
        await self.api.json(
            "PATCH", f"/api/v1/nodes/{node}/status", {"status": {"conditions": [_ready()]}}
        )
        lease = _object("coordination.k8s.io/v1", "Lease", node)
        lease["spec"] = {
            "holderIdentity": node,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": _micro_now(),
        }
        with contextlib.suppress(AlreadyExists):
            await self.api.json("POST", f"{_LEASES}", lease)

    async def _beat(self) -> None:
        while True:
            for node in self.nodes:
                with contextlib.suppress(Exception):  # a missed beat is made good by the next one
                    await self.api.json(
                        "PATCH", f"{_LEASES}/{node}", {"spec": {"renewTime": _micro_now()}}
                    )
            await asyncio.sleep(5)

    async def make_pool(self, name: str, subnet: str, ips: str, **spec: Any) -> None:
        """Make a pool; its name begins with POOL_PREFIX, by which what is left over is found."""
        body = _object("spiderpool.spidernet.io/v2beta1", "SpiderIPPool", name)
        body["spec"] = {"subnet": subnet, "ips": [ips], **spec}
        await self.client.create(msgspec.convert(body, SpiderIPPool))

    async def remove_pool(self, name: str) -> None:
        """Delete a pool and wait until its finalizer let it go."""
        with contextlib.suppress(NotFound):
            await self.client.delete(SpiderIPPool, name)
        await until_gone(lambda: self.client.get(SpiderIPPool, name), f"pool {name}")

    async def make_pods(
        self, count: int, pool: str, prefix: str, *, family: int = 4, width: int = 50
    ) -> list[Pod]:
        """Create `count` pods that ask for `pool`, spread evenly over the nodes."""

        async def make(job: tuple[int, str]) -> Pod:
            number, node = job
            body = _object("v1", "Pod", f"{prefix}-{number}")
            body["metadata"]["namespace"] = NAMESPACE
            body["metadata"]["annotations"] = {
                "ipam.spidernet.io/ippool": f'{{"ipv{family}":["{pool}"]}}'
            }
            body["spec"] = {"nodeName": node, "containers": [{"name": "c", "image": "busybox:1"}]}
            answer = await self.api.json("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)
            return msgspec.convert(answer, Pod)

        return await in_flight(
            zip(range(count), itertools.cycle(self.nodes), strict=False), make, width
        )

    async def mark_terminating(self, pods: list[Pod]) -> None:
        """
        Delete the pods with their grace period.

        The objects stay, as they do while a kubelet takes a pod down.
        """
        await in_flight(pods, lambda p: self.client.delete(Pod, p.metadata.name, NAMESPACE), 50)

    async def remove_pods(self) -> None:
        """Delete all pods of the benchmark without grace, and wait until they are gone."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods"
        while True:
            listing = await self.client.list_metadata(Pod, namespace=NAMESPACE)
            if not listing.items:
                return
            await in_flight(listing.items, lambda p: self._force(f"{path}/{p.metadata.name}"), 50)

    async def _force(self, path: str) -> None:
        with contextlib.suppress(NotFound):
            await self.api.json("DELETE", path, {"gracePeriodSeconds": 0})


_LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def exact_range(first: str, count: int) -> str:
    """Write the range of `count` addresses from `first` on."""
    start = ipaddress.ip_address(first)
    return f"{start}-{start + (count - 1)}"


def _object(api_version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}


def _micro_now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _ready() -> dict[str, str]:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Bench",
        "message": "kept alive by the benchmark",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
