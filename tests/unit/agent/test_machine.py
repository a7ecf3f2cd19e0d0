"""
Any order of calls, restarts, crashes and lost answers on two nodes.

Never two holders of an address, and nothing leaks.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Exhausted, SpiderpoolError, TooManyRequests, UnknownOutcome
from tests import virtual_time
from tests.fakes.objects import make_statefulset
from tests.unit.agent.ipam.test_allocator import ippools
from tests.unit.agent.simulation import Agent, Simulation, new_simulation, sandbox_of

Shapes = dict[str, tuple[dict[str, Any], tuple[str, ...]]]


def ippool(**families: list[str]) -> dict[str, Any]:
    """Make the annotation `ippool`."""
    return {"ipam.spidernet.io/ippool": json.dumps(families)}


def routes(*items: dict[str, str]) -> dict[str, Any]:
    """Make the annotation `routes`."""
    return {"ipam.spidernet.io/routes": json.dumps(items)}


NODES = ("node1", "node2")
WEB = tuple(f"web-{n}" for n in range(5))
DB = tuple(f"db-{n}" for n in range(2))
ADDRESSES = 6  # fewer than the pods: pools are full at times

NETWORK = {"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"}
BLUE, SIX, GREEN = "blue", "six", "green"
SIZES = {BLUE: ADDRESSES, SIX: ADDRESSES + 1, GREEN: ADDRESSES - 1}
# What a pod may ask for: annotations, and the NICs that its runtime attaches one after the other.
ONE_NIC: Shapes = {"default": ({}, ("eth0",))}
TWO_NICS: Shapes = {
    "default": (NETWORK, ("eth0", "net1")),
    "one pool": (ippool(ipv4=[GREEN]), ("eth0",)),
    "named": (
        NETWORK
        | ippools(
            {"interface": "eth0", "ipv4": [BLUE], "ipv6": [SIX]},
            {"interface": "net1", "ipv4": [GREEN, BLUE]},
        ),
        ("eth0", "net1"),
    ),
    "by order": (
        NETWORK | ippools({"ipv4": [GREEN], "ipv6": [SIX]}, {"ipv4": [GREEN]}),
        ("eth0", "net1"),
    ),
    "routes": (
        ippool(ipv4=[BLUE], ipv6=[SIX]) | routes({"dst": "10.9.0.0/16", "gw": "10.6.0.200"}),
        ("eth0",),
    ),
}


class TwoNodes(RuleBasedStateMachine):
    """
    Pods come, are started, restarted and go on two nodes whose agents may die at any time.

    The model is what runtimes believe: which addresses each NIC of a living pod has since its
    last successful ADD.
    """

    shapes = ONE_NIC

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.runner = virtual_time.new_runner()
        self.simulation: Simulation = new_simulation(Path(self.folder.name))
        self.stack = AsyncExitStack()
        self.agents: dict[str, Agent] = {}
        self.stops: dict[str, AsyncExitStack] = {}
        self.in_use: dict[tuple[str, str], list[str]] = {}  # UID and NIC of a pod → addresses
        self.sandboxes: dict[str, int] = {}
        self.names = 0
        # several ADDs at a time: one may have an address for a moment that it gives back
        self.busy = False
        self.make_pools()
        self.simulation.cluster.seed(make_statefulset("db", replicas=len(DB)))
        self.run(self._start_agents())

    def make_pools(self) -> None:
        """Have the pools that the shapes ask for."""
        self.simulation.pool(BLUE, ips=[f"10.6.0.1-10.6.0.{ADDRESSES}"])

    def run(self, work: Any) -> Any:
        """Run something to its end."""
        return self.runner.run(work)

    async def _start_agents(self) -> None:
        for node in NODES:
            await self._start_agent(node)

    async def _start_agent(self, node: str) -> None:
        self.stops[node] = AsyncExitStack()
        self.agents[node] = await self.stops[node].enter_async_context(
            self.simulation.agent(node, wait_s=0)
        )

    def living(self) -> list[Pod]:
        """Return the pods that the API knows."""
        return list(self.simulation.cluster.all(Pod))

    @rule(name=st.sampled_from(WEB + DB), node=st.sampled_from(NODES), data=st.data())
    def create(self, name: str, node: str, data: st.DataObject) -> None:
        """
        Let the scheduler bind a pod.

        A StatefulSet's may ask for something else than the one before it.
        """
        if name not in [pod.metadata.name for pod in self.living()]:
            self.names += 1
            shape = data.draw(st.sampled_from(sorted(self.shapes)))
            more = {"annotations": self.shapes[shape][0], "labels": {"shape": shape}}
            self.simulation.pod(
                name, uid=f"{name}#{self.names}", node=node, stateful=name in DB, **more
            )

    @precondition(lambda self: self.living())
    @rule(data=st.data(), count=st.integers(min_value=1, max_value=3))
    def add(self, data: st.DataObject, count: int) -> None:
        """
        Let runtimes ADD at the same time, for first or further sandboxes.

        Each may lose retry policy midway.
        """
        living = self.living()
        pods = data.draw(
            st.lists(
                st.sampled_from(living),
                min_size=1,
                max_size=count,
                unique_by=lambda pod: pod.metadata.uid,
            )
        )
        retry = [data.draw(st.sampled_from([None, None, 0, 2, 5, 9])) for _ in pods]
        self.run(self._add_all(pods, retry))

    async def _add_all(self, pods: list[Pod], retry: list[int | None]) -> None:
        self.busy = len(pods) > 1
        async with asyncio.TaskGroup() as tasks:
            for pod, pod_locks in zip(pods, retry, strict=True):
                tasks.create_task(self._start_sandbox(pod, pod_locks))

    async def _start_sandbox(self, pod: Pod, pod_locks: int | None) -> None:
        """Attach one NIC after the other; the first that fails ends it."""
        for nic in self.shapes[pod.metadata.labels["shape"]][1]:
            if not await self._add(pod, nic, pod_locks):
                return

    async def _add(self, pod: Pod, nic: str, pod_locks: int | None) -> bool:
        """Attach a NIC, or hang up after so many turns of the loop."""
        agent, slot = self.agents[pod.spec.node_name], (pod.metadata.uid, nic)
        adding = asyncio.create_task(agent.add(pod, nic, container=self._sandbox(pod)))
        if pod_locks is not None:
            for _ in range(pod_locks):
                await asyncio.sleep(0)
            adding.cancel()
        try:
            answer = await adding
        except Exhausted:
            assert slot not in self.in_use
            assert self.busy or self.is_full()
            return False
        except (SpiderpoolError, asyncio.CancelledError):
            async with agent.app.ipam.pod_locks.of(pod.key):
                return False  # what it made is taken back by now
        given = sorted(ip.address.partition("/")[0] for ip in answer.ips or () if ip.nic == nic)
        assert given
        assert self.in_use.get(slot, given) == given  # asking twice changes nothing
        self.in_use[slot] = given
        return True

    def is_full(self) -> bool:
        """Return whether a pod that is told so, and was alone, met a full pool."""
        return len(self.simulation.cluster.all(SpiderIP)) >= ADDRESSES

    @precondition(lambda self: self.living())
    @rule(data=st.data())
    def restart_sandbox(self, data: st.DataObject) -> None:
        """Let a sandbox die: its DEL comes late, or not at all before the next ADD."""
        pod = data.draw(st.sampled_from(self.living()))
        old = self._sandbox(pod)
        self.sandboxes[pod.metadata.uid] = self.sandboxes.get(pod.metadata.uid, 0) + 1
        if data.draw(st.booleans()):
            self.run(self._quietly(self.agents[pod.spec.node_name].delete(pod, container=old)))

    @precondition(lambda self: self.living())
    @rule(data=st.data(), deletes=st.integers(min_value=1, max_value=2))
    def remove(self, data: st.DataObject, deletes: int) -> None:
        """Let a pod go, and the runtime repeat the DEL of each of its sandboxes until it succeeds."""
        pod = data.draw(st.sampled_from(self.living()))
        self.simulation.cluster.drop(Pod, pod.metadata.name, "ns")
        self.in_use = {
            slot: given for slot, given in self.in_use.items() if slot[0] != pod.metadata.uid
        }
        for _ in range(deletes):
            self.run(self._until_done(pod))

    async def _until_done(self, pod: Pod) -> None:
        for number in range(self.sandboxes.get(pod.metadata.uid, 0) + 1):
            await self._delete(pod, f"{sandbox_of(pod)}-{number}")

    async def _delete(self, pod: Pod, sandbox: str) -> None:
        for _ in range(20):
            with suppress(SpiderpoolError):
                await self.agents[pod.spec.node_name].delete(pod, container=sandbox)
                return
        pytest.fail("a DEL never succeeds")

    @rule(node=st.sampled_from(NODES))
    def restart_agent(self, node: str) -> None:
        """Let an agent stop and its successor start."""
        self.run(self._restart(node))

    async def _restart(self, node: str) -> None:
        await self.stops[node].aclose()
        await self._start_agent(node)

    @rule(
        verb=st.sampled_from(["create", "delete", "replace", "get"]),
        after_commit=st.booleans(),
        busy=st.booleans(),
    )
    def fault(self, verb: str, after_commit: bool, busy: bool) -> None:
        """
        Let the next call of a kind fail.

        Its answer is lost before or after it happened, or the server is busy.
        """
        if verb == "get" or (busy and not after_commit):
            error: SpiderpoolError = TooManyRequests("later", retry_after_s=0.001)
            after_commit = False
        else:
            error = UnknownOutcome("cut")
        self.simulation.cluster.faults.fail_next(verb, SpiderIP, error, after_commit=after_commit)

    @rule(held=st.booleans())
    def lag(self, held: bool) -> None:
        """Let watches stand still, or go on."""
        if held:
            self.simulation.cluster.hold_watch()
        else:
            self.simulation.cluster.release_watch()
            self.run(asyncio.sleep(0.002))

    @invariant()
    def every_pod_keeps_its_own_address(self) -> None:
        """What a living pod has is held by it alone."""
        specs = [record.spec for record in self.simulation.cluster.all(SpiderIP) if record.held]
        held = {spec.ip: (spec.holder.uid, spec.holder.nic) for spec in specs}
        for slot, given in self.in_use.items():
            assert {slot} == {held.get(ip) for ip in given}

    @invariant()
    def nothing_is_held_for_nobody(self) -> None:
        """
        Each held address belongs to a living pod, or to a static one that its StatefulSet wants.

        One a NIC and family.
        """
        records = [record for record in self.simulation.cluster.all(SpiderIP) if record.held]
        living = {pod.metadata.uid for pod in self.living()}
        holders = [record.spec.holder for record in records]
        assert all(holder.uid in living or holder.name in DB for holder in holders)
        slots = [
            (record.spec.holder.name, record.spec.holder.nic, record.spec.family)
            for record in records
        ]
        assert len(slots) == len(set(slots))

    def teardown(self) -> None:
        """Let all pods go, and stop."""
        self.simulation.cluster.faults._planned.clear()
        self.simulation.cluster.release_watch()
        for pod in self.living():
            self.simulation.cluster.drop(Pod, pod.metadata.name, "ns")
            self.run(self._until_done(pod))
        try:
            assert set(self.simulation.held().values()) <= set(DB)
        finally:
            self.run(self._stop())
            self.runner.close()
            self.folder.cleanup()

    async def _stop(self) -> None:
        for stop in self.stops.values():
            await stop.aclose()

    async def _quietly(self, work: Any) -> None:
        with suppress(SpiderpoolError):
            await work

    def _sandbox(self, pod: Pod) -> str:
        return f"{sandbox_of(pod)}-{self.sandboxes.get(pod.metadata.uid, 0)}"


class SeveralNics(TwoNodes):
    """The same with pods of one and two NICs and of both families, that name their pools in all ways."""

    shapes = TWO_NICS

    def make_pools(self) -> None:
        """Have two default pools, one a family, and one for those who name it."""
        super().make_pools()
        self.simulation.pool(SIX, "fd00::/64", ips=[f"fd00::1-fd00::{SIZES[SIX]}"])
        self.simulation.pool(
            GREEN, "10.7.0.0/16", ips=[f"10.7.0.1-10.7.0.{SIZES[GREEN]}"], default=False
        )

    def is_full(self) -> bool:
        """Return whether some pool is full, or was while this very pod had its last address for the other NIC."""
        used = [record.spec.pool for record in self.simulation.cluster.all(SpiderIP)]
        return any(size - used.count(pool) <= 1 for pool, size in SIZES.items())


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("machine", "examples"), [(TwoNodes, 30), (SeveralNics, 20)])
def test_two_nodes(machine: type[TwoNodes], examples: int) -> None:
    """Any story of two nodes keeps every pod its own addresses and leaves nothing behind."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=30, deadline=None, phases=(Phase.generate,)
        ),
    )
