"""CPU time of the API server for one ADD and one pool status while a hundred agents watch."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

from bench.api import Api
from bench.raw import record
from bench.stage import RAW_POOL, Stage, in_flight
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Namespace, Node, Pod
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.errors import Gone, Unreachable
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import connect

WATCHERS = 100
ADDS = 500
STATUS_WRITES = 100


async def cpu_seconds(api: Api) -> float:
    """Read the API server's own count of processor seconds."""
    text = (await api.text("GET", "/metrics")).decode()
    found = re.search(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    if not found:
        raise RuntimeError("the API server's metrics have no process_cpu_seconds_total")
    return float(found[1])


@contextlib.asynccontextmanager
async def watching(identity: Path, count: int) -> AsyncIterator[None]:
    """Open what `count` agents would open: a client each, with six watches."""
    async with contextlib.AsyncExitStack() as clients, asyncio.TaskGroup() as watches:
        tasks = []
        for number in range(count):
            client = await clients.enter_async_context(connect(str(identity)))
            for kind, labels, fields in scopes(f"watcher-{number}"):
                version = (
                    await client.list_metadata(kind, labels="nobody=here", resource_version="0")
                ).resource_version
                tasks.append(watches.create_task(_follow(client, kind, labels, fields, version)))
        await asyncio.sleep(3)
        yield
        for task in tasks:
            task.cancel()


def scopes(node: str) -> tuple[tuple[type[KubeObject], str, str], ...]:
    """Name what the agent of a node watches: kind, label selector, field selector."""
    return (
        (SpiderIPPool, "", ""),
        (SpiderReservedIP, "", ""),
        (Namespace, "", ""),
        (Node, "", f"metadata.name={node}"),
        (Pod, "", f"spec.nodeName={node}"),
        (SpiderIP, f"{LABEL_NODE}={node}", ""),
    )


async def _follow(
    client: KubeClient, kind: type[KubeObject], labels: str, fields: str, version: str
) -> None:
    while True:
        with contextlib.suppress(Gone, Unreachable):
            async for _ in client.watch(
                kind, labels=labels, fields=fields, resource_version=version
            ):
                pass


async def cost(stage: Stage, identity: Path, watchers: int) -> dict[str, float]:
    """Measure with so many watchers; milliseconds of the API server's CPU, idle use taken off."""
    client = stage.client
    pool = f"bench-watch-{watchers}"
    await stage.make_pool(pool, "198.23.0.0/16", "198.23.0.1-198.23.0.9")
    async with watching(identity, watchers):
        begin = await cpu_seconds(stage.api)
        await asyncio.sleep(5)
        idle_per_s = (await cpu_seconds(stage.api) - begin) / 5

        loop = asyncio.get_running_loop()
        records = [record(number) for number in range(ADDS)]
        begin, at = await cpu_seconds(stage.api), loop.time()
        await in_flight(records, client.create, 10)
        adds = await cpu_seconds(stage.api) - begin - idle_per_s * (loop.time() - at)

        begin, at = await cpu_seconds(stage.api), loop.time()
        for number in range(STATUS_WRITES):
            await client.patch(
                SpiderIPPool, pool, {"status": {"allocatedIPCount": number}}, subresource="status"
            )
        writes = await cpu_seconds(stage.api) - begin - idle_per_s * (loop.time() - at)
    await stage.remove_records(RAW_POOL)
    await stage.remove_pool(pool)
    return {
        "watchers": watchers,
        "add_cpu_ms": round(adds / ADDS * 1000, 3),
        "pool_status_cpu_ms": round(writes / STATUS_WRITES * 1000, 3),
        "idle_cpu_percent": round(idle_per_s * 100, 1),
    }
