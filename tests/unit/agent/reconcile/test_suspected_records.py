"""The node's word about records that the controller suspects."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.build import known_uids
from spiderpool.agent.reconcile import suspected_records
from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.api.crd.group import ANNO_IN_USE, ANNO_SUSPECT
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Event, Pod
from spiderpool.errors import Unreachable
from spiderpool.ipam.pod_request import Request
from spiderpool.records import verdicts
from spiderpool.records.build import (
    hand_over,
    let_go,
    marked,
    put_in_place,
    record_of,
    suspicion_of,
)
from spiderpool.records.verdicts import Verdict, judge_leak_check
from tests.fakes.objects import DEPLOYMENT, make_facts, make_pod, make_record
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import Agent, Simulation

QUESTION = "pod gone: pod ns/web-1 does not exist"


def in_use(ip: str, uid: str = "", *containers: str) -> tuple[InUseNamespace, ...]:
    """Make a namespace that has an address."""
    link = InUseInterface(nic="eth0", addresses=(f"{ip}/16",))
    made = InUseNamespace(
        path="/var/run/netns/cni-1", inode=7, pod_uid=uid, containers=containers, interfaces=(link,)
    )
    return (made,)


@asynccontextmanager
async def node(simulation: Simulation, *uses: InUseNamespace) -> AsyncIterator[Agent]:
    """Run an agent whose node's namespaces have something."""

    async def look() -> tuple[InUseNamespace, ...]:
        return uses

    async with simulation.agent(look=look) as agent:
        yield agent


def suspect(simulation: Simulation, question: str = QUESTION) -> SpiderIP:
    """Let the controller ask about the only record."""
    (record,) = simulation.cluster.all(SpiderIP)
    return simulation.cluster.seed(marked(record, ANNO_SUSPECT, question))


async def lose(simulation: Simulation, agent: Agent) -> None:
    """Let a pod go whose DEL never comes."""
    pod = simulation.pod()
    await agent.add(pod)
    simulation.cluster.drop(Pod, "web-1", "ns")
    await asyncio.sleep(0.01)


async def test_an_address_that_nobody_uses_is_released(simulation: Simulation) -> None:
    """The agent releases it, and the record says why."""
    simulation.pool()

    async with node(simulation, *in_use("10.9.9.9")) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(lambda: not simulation.held())

    (record,) = simulation.cluster.all(SpiderIP)
    assert (IPState.COOLING, QUESTION) == (record.spec.state, suspicion_of(record))


async def test_a_question_from_before_the_start_is_answered(simulation: Simulation) -> None:
    """An agent that was away when it was asked answers when it is back."""
    simulation.pool()
    async with node(simulation) as agent:
        await lose(simulation, agent)
    suspect(simulation)

    async with node(simulation):
        await until(lambda: not simulation.held())


async def test_an_address_that_is_in_use_stays(simulation: Simulation) -> None:
    """The agent says which namespace has it, once, and does not release it."""
    simulation.pool(ips=["10.6.0.10"])

    async with node(simulation, *in_use("10.6.0.10", "old-uid")) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(
            lambda: any(
                ANNO_IN_USE in record.metadata.annotations
                for record in simulation.cluster.all(SpiderIP)
            )
        )
        await asyncio.sleep(0.3)

    (record,) = simulation.cluster.all(SpiderIP)
    assert record.held
    text = "10.6.0.10 is still in use in /var/run/netns/cni-1 (pod UID old-uid)"
    assert text == record.metadata.annotations[ANNO_IN_USE]
    assert 1 == simulation.cluster.count("replace", SpiderIP)


async def test_what_was_in_use_before_the_start_is_looked_at_again(simulation: Simulation) -> None:
    """An address that a former agent found in use is released by the next one, once nothing has it any more."""
    simulation.pool(ips=["10.6.0.10"])
    async with node(simulation, *in_use("10.6.0.10", "old-uid")) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(
            lambda: any(
                ANNO_IN_USE in record.metadata.annotations
                for record in simulation.cluster.all(SpiderIP)
            )
        )

    async with node(simulation):
        await until(lambda: not simulation.held())


async def test_a_living_pod_is_no_suspect(simulation: Simulation) -> None:
    """When the pod lives after all the mark is taken off."""
    simulation.pool()
    pod = simulation.pod()

    async with node(simulation) as agent:
        await agent.add(pod)
        suspect(simulation)
        await until(lambda: not any(map(suspicion_of, simulation.cluster.all(SpiderIP))))

    assert ["web-1"] == list(simulation.held().values())


async def test_of_two_addresses_the_one_that_is_not_in_use_goes(simulation: Simulation) -> None:
    """A living pod whose claim holds two addresses keeps the one that it has."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    pod = simulation.pod()

    async with node(simulation, *in_use("10.6.0.10"), *in_use("10.9.9.9")) as agent:
        await agent.add(pod)
        (record,) = simulation.cluster.all(SpiderIP)
        other = "10.6.0.11" if record.spec.ip == "10.6.0.10" else "10.6.0.10"
        simulation.cluster.seed(record_of(replace(record.spec, ip=other)))
        await asyncio.sleep(0.02)
        for each in simulation.cluster.all(SpiderIP):
            simulation.cluster.seed(
                marked(
                    each,
                    ANNO_SUSPECT,
                    "held twice: pod ns/web-1 holds another IPv4 address for eth0",
                )
            )
        await until(lambda: {"10.6.0.10": "web-1"} == simulation.held())


async def test_what_cannot_be_read_is_not_released(simulation: Simulation) -> None:
    """Without the API server's word about the pod the address stays."""
    simulation.pool()

    async with node(simulation) as agent:
        await lose(simulation, agent)
        simulation.cluster.faults.fail_next("get", Pod, Unreachable("down"), times=1000)
        suspect(simulation)
        await until(lambda: simulation.cluster.count("get", Pod) > 1)
        await asyncio.sleep(0.3)

    assert ["web-1"] == list(simulation.held().values())


async def test_a_look_that_fails_is_repeated(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the kernel cannot be asked nothing is released, and it is asked again."""
    monkeypatch.setattr(suspected_records, "RETRY_S", 0.01)
    simulation.pool()
    looks: list[Exception | None] = [
        OSError(24, "Too many open files"),
        KeyError("nobody expected this"),
        None,
    ]

    async def look() -> tuple[InUseNamespace, ...]:
        if error := looks.pop(0):
            raise error
        return ()

    async with simulation.agent(look=look) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(lambda: not simulation.held())

    assert [] == looks


async def test_one_bad_record_does_not_end_the_checks(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody expected keeps neither this record nor others from their check."""
    monkeypatch.setattr(suspected_records, "RETRY_S", 0.01)
    simulation.pool()
    judge, failures = judge_leak_check, [ValueError("a text that is no address")]

    def fail_once(*args: Any, **more: Any) -> Verdict:
        if failures:
            raise failures.pop()
        return judge(*args, **more)

    monkeypatch.setattr(suspected_records, "judge_leak_check", fail_once)
    async with node(simulation) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(lambda: not simulation.held())
        assert "" == agent.app.supervisor.trouble


async def test_another_node_s_record_is_not_ours_to_judge(simulation: Simulation) -> None:
    """A record that has moved to another node, and is still in this one's informer, is left alone."""
    simulation.pool()
    async with node(simulation) as agent:
        await lose(simulation, agent)
        record = suspect(simulation)
        moved = replace(record.spec, holder=replace(record.spec.holder, node="node2"))
        simulation.cluster.seed(replace(record, spec=moved))
        await asyncio.sleep(0.4)

    assert ["web-1"] == list(simulation.held().values())


class Kernel:
    """The namespaces of a node, from which addresses can be taken; `fenced` are those."""

    def __init__(self, *uses: InUseNamespace, stubborn: bool = False) -> None:
        self.uses = uses
        self.stubborn = stubborn
        self.fenced: list[str] = []

    async def look(self) -> tuple[InUseNamespace, ...]:
        """Look into all namespaces."""
        return self.uses

    async def fence(self, namespace: InUseNamespace, ip: IPAddress) -> None:
        """Take an address off, unless somebody puts it on again."""
        self.fenced.append(f"{ip} {namespace.path}")
        if not self.stubborn:
            bare = replace(namespace, interfaces=())
            self.uses = tuple(bare if use == namespace else use for use in self.uses)

    def agent(self, simulation: Simulation) -> AbstractAsyncContextManager[Agent]:
        """Run the node's agent."""
        return simulation.agent(look=self.look, fence=self.fence)


async def test_what_only_the_sandbox_has_is_taken_off_and_released(
    simulation: Simulation,
) -> None:
    """
    The pod is gone and its DEL does not come: the address leaves the namespace, then the record.

    An Event tells it.
    """
    simulation.pool(ips=["10.6.0.10"])
    kernel = Kernel(*in_use("10.6.0.10", "uid-web-1", "sandbox-uid-web-1"))

    async with kernel.agent(simulation) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(lambda: not simulation.held())
        await until(lambda: bool(simulation.cluster.all(Event)))
        counted = agent.app.metrics.render().decode()

    assert ["10.6.0.10 /var/run/netns/cni-1"] == kernel.fenced
    (event,) = simulation.cluster.all(Event)
    assert ("IPFenced", "blue") == (event.reason, event.involved_object.name)
    assert "10.6.0.10 of ns/web-1 was taken off /var/run/netns/cni-1" in event.message
    assert re.search(
        r"^spiderpool_ipam_fenced_address_counts_total{.*} 1.0$", counted, re.MULTILINE
    )


async def test_containers_that_may_run_have_a_minute(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace with more than the sandbox is left alone until it was seen for a minute."""
    monkeypatch.setattr(verdicts, "FENCE_AFTER_S", 0.6)
    simulation.pool(ips=["10.6.0.10"])
    kernel = Kernel(*in_use("10.6.0.10", "uid-web-1", "sandbox-uid-web-1", "app"))

    async with kernel.agent(simulation) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await asyncio.sleep(0.5)
        assert [] == kernel.fenced
        await until(lambda: not simulation.held())

    assert ["10.6.0.10 /var/run/netns/cni-1"] == kernel.fenced


async def test_an_address_that_stays_on_is_not_released(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken off and is still there is held, and is tried again."""
    monkeypatch.setattr(suspected_records, "RETRY_S", 0.01)
    simulation.pool(ips=["10.6.0.10"])
    kernel = Kernel(*in_use("10.6.0.10", "uid-web-1", "sandbox-uid-web-1"), stubborn=True)

    async with kernel.agent(simulation) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await until(lambda: len(kernel.fenced) > 1)

    assert ["web-1"] == list(simulation.held().values())
    assert () == simulation.cluster.all(Event)


@pytest.mark.parametrize("uid", ["uid-other", "0123456789abcdef0123456789abcdef"])
async def test_nothing_is_taken_off_who_lives(simulation: Simulation, uid: str) -> None:
    """
    A namespace of a pod that exists keeps what it has.

    So does one of a pod that kubelet reads from a file.
    """
    simulation.pool(ips=["10.6.0.10"])
    simulation.pod("other")
    kernel = Kernel(*in_use("10.6.0.10", uid, "sandbox-uid-web-1"))

    async with kernel.agent(simulation) as agent:
        await lose(simulation, agent)
        suspect(simulation)
        await asyncio.sleep(0.5)

    assert [] == kernel.fenced
    assert ["web-1"] == list(simulation.held().values())


async def test_a_late_informer_fences_nobody(simulation: Simulation) -> None:
    """A pod that the informer does not know yet is found by a live read."""
    simulation.pool(ips=["10.6.0.10"])
    kernel = Kernel(*in_use("10.6.0.10", "uid-new", "sandbox-uid-web-1"))

    async with kernel.agent(simulation) as agent:
        await lose(simulation, agent)
        simulation.pod("new")
        await asyncio.sleep(0.01)
        agent.app.informers.pods.forget(simulation.cluster.all(Pod)[0])
        suspect(simulation)
        await asyncio.sleep(0.5)

    assert [] == kernel.fenced
    assert ["web-1"] == list(simulation.held().values())


def test_whatever_changes_the_holder_ends_a_suspicion() -> None:
    """A hand-over, a claim in its place and an ordinary release take question and answer off a record."""
    record = marked(marked(make_record(), ANNO_SUSPECT, QUESTION), ANNO_IN_USE, "in use")
    fresh = make_record(facts=make_facts(pod=make_pod("web-2", uid="uid-2")))
    changed = [
        hand_over(record, make_pod(uid="uid-2"), DEPLOYMENT, Request("eth0")),
        put_in_place(record, fresh),
        let_go(record, IPState.COOLING, "now"),
    ]

    assert [{}, {}, {}] == [each.metadata.annotations for each in changed]


async def test_what_another_pod_pins_is_counted(simulation: Simulation) -> None:
    """
    A living pod that puts addresses of pods that are gone onto its interfaces keeps eight of them.

    The others are quarantined, and the pool has an Event.
    """
    simulation.pool(ips=["10.6.0.10-10.6.0.21"])
    thief = simulation.pod("thief")
    stolen = InUseInterface(nic="eth9", addresses=tuple(f"10.6.0.{n}/16" for n in range(10, 22)))
    space = InUseNamespace(
        path="/proc/1/ns/net", inode=9, pod_uid=thief.metadata.uid, interfaces=(stolen,)
    )
    pods = [simulation.pod(f"web-{number}") for number in range(12)]
    uses: list[InUseNamespace] = []

    async def look() -> tuple[InUseNamespace, ...]:
        return tuple(uses)

    async with simulation.agent(look=look) as agent:
        for pod in pods:
            await agent.add(pod)
        uses.append(space)
        for pod in pods:
            simulation.cluster.drop(Pod, pod.metadata.name, "ns")
        await asyncio.sleep(0.01)
        for record in simulation.cluster.all(SpiderIP):
            simulation.cluster.seed(marked(record, ANNO_SUSPECT, QUESTION))
        await until(lambda: len(simulation.held()) == 8)
        await asyncio.sleep(0.4)

    assert 8 == len(simulation.held())
    loose = [record for record in simulation.cluster.all(SpiderIP) if not record.held]
    assert {IPState.QUARANTINED} == {record.spec.state for record in loose}
    events = simulation.cluster.all(Event)
    assert ("IPMisused", "blue") == (events[0].reason, events[0].involved_object.name)


async def test_processes_of_a_pod_that_is_gone_are_this_node_s(simulation: Simulation) -> None:
    """
    While a record names a pod its processes are looked into, though the pod's object is gone.

    Runtimes that keep no files of namespaces have nothing else that tells of them.
    """
    simulation.pool()

    async with simulation.agent() as agent:
        await lose(simulation, agent)
        simulation.pod("other")
        await asyncio.sleep(0.01)
        known = known_uids(agent.app.informers)

    assert {"uid-web-1": "uid-web-1", "uid-other": "uid-other"} == known
