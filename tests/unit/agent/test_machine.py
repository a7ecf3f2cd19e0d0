"""Any order of calls, restarts, crashes and lost answers on two nodes: never two holders of an address, and nothing leaks."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from spiderpool.api.core import Pod
from spiderpool.api.spiderip import SpiderIP
from spiderpool.errors import Exhausted, SpiderpoolError, TooManyRequests, UnknownOutcome
from tests.fakes.objects import make_statefulset
from tests.unit.agent.world import Agent, World, ips, new_world, sandbox_of

NODES = ("node1", "node2")
WEB = tuple(f"web-{n}" for n in range(5))
DB = tuple(f"db-{n}" for n in range(2))
ADDRESSES = 6  # fewer than the pods: pools are full at times


class TwoNodes(RuleBasedStateMachine):
    """
    Pods come, are started, restarted and go on two nodes whose agents may die at any time.

    The model is what runtimes believe: which address each living pod wears since its last successful ADD.
    """

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.world: World = new_world(Path(self.folder.name))
        self.stack = AsyncExitStack()
        self.agents: dict[str, Agent] = {}
        self.stops: dict[str, AsyncExitStack] = {}
        self.worn: dict[str, str] = {}  # UID of a pod → its address
        self.sandboxes: dict[str, int] = {}
        self.names = 0
        self.world.pool(ips=[f"10.6.0.1-10.6.0.{ADDRESSES}"])
        self.world.cluster.seed(make_statefulset("db", replicas=len(DB)))
        self.run(self._start_agents())

    def run(self, work: Any) -> Any:
        """Run something to its end."""
        return self.runner.run(work)

    async def _start_agents(self) -> None:
        for node in NODES:
            await self._start_agent(node)

    async def _start_agent(self, node: str) -> None:
        self.stops[node] = AsyncExitStack()
        self.agents[node] = await self.stops[node].enter_async_context(self.world.agent(node, wait_s=0))

    def living(self) -> list[Pod]:
        """Give the pods that the API knows."""
        return list(self.world.cluster.all(Pod))

    @rule(name=st.sampled_from(WEB + DB), node=st.sampled_from(NODES))
    def create(self, name: str, node: str) -> None:
        """Let the scheduler bind a pod."""
        if name not in [pod.metadata.name for pod in self.living()]:
            self.names += 1
            self.world.pod(name, uid=f"{name}#{self.names}", node=node, stateful=name in DB)

    @precondition(lambda self: self.living())
    @rule(data=st.data(), hang_up=st.booleans())
    def add(self, data: st.DataObject, hang_up: bool) -> None:
        """Let the runtime ADD, for a first or a further sandbox; it may lose patience midway."""
        pod = data.draw(st.sampled_from(self.living()))
        self.run(self._add(pod, hang_up))

    async def _add(self, pod: Pod, hang_up: bool) -> None:
        uid = pod.metadata.uid
        adding = asyncio.create_task(self.agents[pod.spec.node_name].add(pod, container=self._sandbox(pod)))
        if hang_up:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            adding.cancel()
        try:
            answer = await adding
        except Exhausted:
            assert uid not in self.worn
            assert len(self.world.cluster.all(SpiderIP)) >= ADDRESSES
        except (SpiderpoolError, asyncio.CancelledError):
            await self.agents[pod.spec.node_name].app.ipam.turns.settle()
        else:
            (ip,) = ips(answer)
            assert self.worn.get(uid, ip) == ip  # asking twice changes nothing
            self.worn[uid] = ip

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
        self.world.cluster.drop(Pod, pod.metadata.name, "ns")
        self.worn.pop(pod.metadata.uid, None)
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
        """Let the next call of a kind fail: its answer is lost before or after it happened, or the server is busy."""
        if verb == "get" or (busy and not after_commit):
            error: SpiderpoolError = TooManyRequests("later", retry_after_s=0.001)
            after_commit = False
        else:
            error = UnknownOutcome("cut")
        self.world.cluster.faults.fail_next(verb, SpiderIP, error, after_commit=after_commit)

    @rule(held=st.booleans())
    def lag(self, held: bool) -> None:
        """Let watches stand still, or go on."""
        if held:
            self.world.cluster.hold_watch()
        else:
            self.world.cluster.release_watch()
            self.run(asyncio.sleep(0.002))

    @invariant()
    def every_pod_keeps_its_own_address(self) -> None:
        """What a living pod wears is held by it alone."""
        held = {record.spec.ip: record.spec.holder.uid for record in self.world.cluster.all(SpiderIP) if record.held}
        for uid, ip in self.worn.items():
            assert uid == held.get(ip)

    @invariant()
    def nothing_is_held_for_nobody(self) -> None:
        """Each held address belongs to a living pod, or to a static one that its StatefulSet wants; one a pod."""
        records = [record for record in self.world.cluster.all(SpiderIP) if record.held]
        living = {pod.metadata.uid for pod in self.living()}
        holders = [record.spec.holder for record in records]
        assert all(holder.uid in living or holder.name in DB for holder in holders)
        assert len(holders) == len({holder.name for holder in holders})

    def teardown(self) -> None:
        """Let all pods go, and stop."""
        self.world.cluster.faults._planned.clear()
        self.world.cluster.release_watch()
        for pod in self.living():
            self.world.cluster.drop(Pod, pod.metadata.name, "ns")
            self.run(self._until_done(pod))
        try:
            assert set(self.world.held().values()) <= set(DB)
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


@pytest.mark.timeout(60)
def test_two_nodes_and_one_pool() -> None:
    """Any story of two nodes keeps every pod its own address and leaves nothing behind."""
    run_state_machine_as_test(
        TwoNodes, settings=settings(max_examples=40, stateful_step_count=30, deadline=None, phases=(Phase.generate,))
    )
