"""
An agent that dies at any point of an ADD or a DEL.

The repeated call gives the same, and nothing leaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_statefulset
from tests.unit.agent.ipam.test_allocator import ippools
from tests.unit.agent.simulation import Agent, Simulation, ips

WRITES = frozenset({"create", "replace", "patch", "delete"})


class DyingCluster:
    """
    The way of one agent to the cluster; at its k-th write of a record the agent dies.

    Dead means: nothing that it asks is ever answered, so no clean-up of its own can help.
    """

    def __init__(self, cluster: FakeCluster, at: int, *, after_commit: bool) -> None:
        self._cluster = cluster
        self._at = at
        self._after_commit = after_commit
        self.writes = 0
        self.dead = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cluster, name)
        if name == "watch" or not asyncio.iscoroutinefunction(method):
            return method
        return self._dying(name, method)

    def _dying(
        self, verb: str, method: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **more: Any) -> Any:
            await self._unless_dead()
            subject = args[0] if isinstance(args[0], type) else type(args[0])
            if verb not in WRITES or subject is not SpiderIP:
                return await method(*args, **more)
            self.writes += 1
            fatal = self.writes == self._at
            if fatal and not self._after_commit:
                self.dead.set()
                await self._unless_dead()
            result = await method(*args, **more)
            if fatal:
                self.dead.set()
                await self._unless_dead()
            return result

        return call

    async def _unless_dead(self) -> None:
        if self.dead.is_set():
            await asyncio.Event().wait()


async def until_death(
    simulation: Simulation, dying: DyingCluster, work: Callable[[Agent], Awaitable[Any]]
) -> bool:
    """Run an agent's work until it ends or the agent dies; whether it died."""
    app = simulation.make("node1", cluster=dying)
    await app.informers.start()
    await app.informers.synced()
    app.claims.inherit(frozenset(pod.metadata.uid for pod in app.informers.pods))
    working = asyncio.ensure_future(work(Agent(app)))
    dead = asyncio.ensure_future(dying.dead.wait())
    await asyncio.wait({working, dead}, return_when=asyncio.FIRST_COMPLETED)
    dead.cancel()
    died = dying.dead.is_set()
    # The process is gone, and everything in it; what it would still do as an undoing hangs at the
    # dead cluster, and goes too.
    while rest := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in rest:
            task.cancel()
        await asyncio.sleep(0)
    with suppress(asyncio.CancelledError):
        await working
    return died


def two_nics(simulation: Simulation) -> Pod:
    """Have a pod of four addresses: two NICs, two families."""
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10-10.7.0.19"], default=False)
    simulation.pool("six", "fd00::/64", default=False)
    simulation.pool("seven", "fd07::/64", ips=["fd07::10-fd07::19"], default=False)
    annotations = {
        **ippools(
            {"interface": "eth0", "ipv4": ["blue"], "ipv6": ["six"]},
            {"interface": "net1", "ipv4": ["red"], "ipv6": ["seven"]},
        ),
        "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
    }
    return simulation.pod(annotations=annotations)


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("k", range(1, 6))
async def test_an_add_that_dies_at_write_k_is_repeated(
    simulation: Simulation, k: int, after_commit: bool
) -> None:
    """
    An ADD makes four writes.

    Whichever it dies at, the next agent gives four addresses and has no fifth.
    """
    pod = two_nics(simulation)
    dying = DyingCluster(simulation.cluster, k, after_commit=after_commit)

    died = await until_death(simulation, dying, lambda agent: agent.add(pod))
    before = set(simulation.held())
    async with simulation.agent() as agent:
        answer = await agent.add(pod)

        assert (k <= 4) == died
        assert before <= set(ips(answer)) == set(simulation.held())
        assert 4 == len(simulation.held())

        simulation.cluster.drop(Pod, "web-1", "ns")
        await agent.delete(pod)

    assert {} == simulation.held()


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("k", range(1, 5))
async def test_a_failing_add_that_dies_while_it_takes_back_leaks_nothing(
    simulation: Simulation, k: int, after_commit: bool
) -> None:
    """
    An ADD whose second NIC is full creates and deletes.

    Killed at either write, nothing is held once the pod is gone.
    """
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=[], default=False)
    annotations = {
        **ippools({"interface": "eth0", "ipv4": ["blue"]}, {"interface": "net1", "ipv4": ["red"]}),
        "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
    }
    pod = simulation.pod(annotations=annotations)
    dying = DyingCluster(simulation.cluster, k, after_commit=after_commit)

    async def add(agent: Agent) -> None:
        with suppress(Exception):
            await agent.add(pod)

    died = await until_death(simulation, dying, add)
    async with simulation.agent() as agent:
        await asyncio.gather(agent.add(pod), return_exceptions=True)

        assert (k <= 2) == died
        assert 1 >= len(simulation.held())

        simulation.cluster.drop(Pod, "web-1", "ns")
        await agent.delete(pod)

    assert {} == simulation.held()


@pytest.mark.parametrize("after_commit", [False, True])
@pytest.mark.parametrize("k", range(1, 6))
async def test_a_del_that_dies_at_write_k_is_repeated(
    simulation: Simulation, k: int, after_commit: bool
) -> None:
    """A DEL makes four deletes; whichever it dies at, the repeated DEL leaves nothing."""
    pod = two_nics(simulation)
    async with simulation.agent() as agent:
        await agent.add(pod)
    simulation.cluster.drop(Pod, "web-1", "ns")
    dying = DyingCluster(simulation.cluster, k, after_commit=after_commit)

    died = await until_death(simulation, dying, lambda agent: agent.delete(pod))
    async with simulation.agent() as agent:
        await agent.delete(pod)

    assert (k <= 4) == died
    assert {} == simulation.held()


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_hand_over_that_dies_is_repeated(
    simulation: Simulation, after_commit: bool
) -> None:
    """
    A static pod's ADD on its new node is one write.

    Killed before or after it, the next agent gives the same address.
    """
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod("db-1", uid="first", node="node2", stateful=True)
    async with simulation.agent("node2") as two:
        before = await two.add(first)
    simulation.cluster.drop(Pod, "db-1", "ns")
    second = simulation.pod("db-1", uid="second", stateful=True)
    dying = DyingCluster(simulation.cluster, 1, after_commit=after_commit)

    assert await until_death(simulation, dying, lambda agent: agent.add(second))
    async with simulation.agent() as agent:
        after = await agent.add(second)

    assert before == after
    assert ["second"] == [record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)]
