"""
ADD and DEL under load.

N pods into exactly N addresses over four agents, against the API server's own rate of creations.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from dataclasses import dataclass

import msgspec

from bench.agents import AgentProcess
from bench.load import Answer, burst, percentile
from bench.stage import NAMESPACE, Stage, exact_range
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import LABEL_POOL
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod

SETTLE_LIMIT_S = 300.0
READS = ("get",)
LISTS = ("list",)
WRITES = ("create", "update", "patch", "delete")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement, in the order in which it is printed."""

    n: int
    adds_per_s: float
    raw_per_s: float
    ratio: float
    p50_ms: float
    p99_ms: float
    writes_per_add: float
    reads_per_add: float
    lists_per_add: float
    failed_calls: int
    duplicates: int
    leftovers: int
    settled_s: float
    peak_rss_mb: float
    releases_per_s: float

    def line(self) -> str:
        """Write the row as one JSON line."""
        return msgspec.json.encode({k: round(getattr(self, k), 3) for k in self.__slots__}).decode()


@dataclass(frozen=True, slots=True)
class Calls:
    """The agents' calls to the API server between two looks, by kind."""

    writes: float
    reads: float
    lists: float


def calls_between(before: Counter[str], after: Counter[str]) -> Calls:
    """
    Sum what was added.

    The write of an endpoint comes after the answer and counts all the same.
    """

    def total(verbs: tuple[str, ...]) -> float:
        return sum(after[key] - before[key] for key in after if key.split()[0] in verbs)

    return Calls(total(WRITES), total(READS), total(LISTS))


def count_calls(agents: dict[str, AgentProcess]) -> Counter[str]:
    """Add up the counters of all agents."""
    total: Counter[str] = Counter()
    for agent in agents.values():
        total.update(agent.counters())
    return total


async def measure(stage: Stage, agents: dict[str, AgentProcess], n: int, raw_per_s: float) -> Row:
    """
    Run one round.

    Make pool and pods, ADD all, wait until derived objects are right, DEL all, look for leftovers.
    """
    pool = f"bench-{n}-{time.time_ns() % 10**9}"
    await stage.make_pool(pool, "198.20.0.0/16", exact_range("198.20.1.0", n))
    pods = await stage.make_pods(n, pool, pool)
    # as long as a kubelet takes to start sandboxes: the pods are in the agents' watches
    await asyncio.sleep(2)
    sockets = {node: agent.socket for node, agent in agents.items()}

    before = await asyncio.to_thread(count_calls, agents)
    seconds, answers = await burst(sockets, pods, "POST")
    calls = calls_between(before, await asyncio.to_thread(count_calls, agents))
    settled_s = await settle(stage, pool, pods, answers)
    await stage.mark_terminating(pods)
    await asyncio.sleep(1)
    release_seconds, releases = await burst(sockets, pods, "DELETE")
    left = await held(stage, pool)
    await stage.remove_pods()
    await stage.remove_pool(pool)

    times = [a.seconds * 1000 for a in answers]
    given = [ip for a in answers for ip in a.addresses]
    return Row(
        n=n,
        adds_per_s=n / seconds,
        raw_per_s=raw_per_s,
        ratio=n / seconds / raw_per_s if raw_per_s else 0.0,
        p50_ms=statistics.median(times),
        p99_ms=percentile(times, 0.99),
        writes_per_add=calls.writes / n,
        reads_per_add=calls.reads / n,
        lists_per_add=calls.lists / n,
        failed_calls=sum(not a.ok for a in [*answers, *releases]),
        duplicates=len(given) - len(set(given)),
        leftovers=left,
        settled_s=settled_s,
        peak_rss_mb=max(agent.peak_rss_mb() for agent in agents.values()),
        releases_per_s=n / release_seconds,
    )


async def held(stage: Stage, pool: str) -> int:
    """Count the Held records of a pool."""
    listing = await stage.client.list_objects(SpiderIP, labels=f"{LABEL_POOL}={pool}")
    return sum(ip.spec.state == IPState.HELD for ip in listing.items)


async def settle(stage: Stage, pool: str, pods: list[Pod], answers: list[Answer]) -> float:
    """
    Wait until each answered pod's endpoint and the pool's status say what the answers said.

    Returns:
        Seconds since the last answer; infinity when the limit passed.
    """
    begin = time.perf_counter()
    wanted = {ip for a in answers for ip in a.addresses}
    uids = {p.metadata.uid for p in pods}
    while time.perf_counter() - begin < SETTLE_LIMIT_S:
        status = (await stage.client.get(SpiderIPPool, pool)).status
        shown = set(msgspec.json.decode(status.allocated_ips or "{}"))
        if status.allocated_ip_count == len(wanted) and shown == wanted:
            endpoints = await stage.client.list_objects(
                SpiderEndpoint, namespace=NAMESPACE, resource_version="0"
            )
            if wanted == {
                ip.ipv4.split("/")[0]
                for e in endpoints.items
                if e.status and e.status.current.uid in uids
                for ip in e.status.current.ips
                if ip.ipv4
            }:
                return time.perf_counter() - begin
        await asyncio.sleep(0.25)
    return float("inf")
