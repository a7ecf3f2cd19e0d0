"""DEL: what is given back, and what stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod, StatefulSet
from spiderpool.errors import InvalidRequest, TooManyRequests, TryAgain, UnknownOutcome, Unreachable
from spiderpool.records.build import record_of
from tests.fakes.cluster import Call
from tests.fakes.objects import make_pod, make_statefulset
from tests.unit.agent.simulation import Simulation, ips


def end(simulation: Simulation, pod: Pod) -> Pod:
    """Let a pod be in deletion."""
    meta = replace(pod.metadata, resource_version="", deletion_timestamp="2025-01-01T00:00:00Z")
    return simulation.cluster.seed(replace(pod, metadata=meta))


def remove(simulation: Simulation, pod: Pod) -> None:
    """Let a pod be gone."""
    simulation.cluster.drop(Pod, pod.metadata.name, pod.metadata.namespace)


async def test_the_del_of_a_pod_in_deletion_is_one_conditional_update(
    simulation: Simulation,
) -> None:
    """
    A pod that the watch shows as ending costs no read.

    One update, with UID and resource version.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.05)
        before = len(simulation.cluster.calls)
        await agent.delete(pod)
        calls = [(call.verb, call.plural) for call in simulation.cluster.calls[before:]]

    assert [("replace", "spiderips")] == [call for call in calls if call[1] != "spiderendpoints"]
    assert {} == simulation.held()


async def test_the_del_of_a_pod_that_was_seen_to_go_needs_no_read(simulation: Simulation) -> None:
    """A pod whose removal the watch told is gone for certain."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        remove(simulation, pod)
        await asyncio.sleep(0.05)
        reads = simulation.cluster.count("get", Pod)
        await agent.delete(pod)

    assert reads == simulation.cluster.count("get", Pod)
    assert {} == simulation.held()


async def test_a_living_pod_keeps_its_address(simulation: Simulation) -> None:
    """A DEL for a sandbox that is started again takes nothing; the live pod is asked."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await agent.delete(pod)

    assert ["web-1"] == list(simulation.held().values())


async def test_a_pod_whose_end_the_watch_does_not_know_yet_is_read_live(
    simulation: Simulation,
) -> None:
    """The informer says alive, the API says gone: the API decides."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        simulation.cluster.hold_watch()
        remove(simulation, pod)
        await agent.delete(pod)
        simulation.cluster.release_watch()

    assert {} == simulation.held()


async def test_the_late_del_of_an_old_sandbox_takes_nothing(simulation: Simulation) -> None:
    """When the record names another sandbox the DEL succeeds and changes nothing, though the pod is ending."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, container="new")
        end(simulation, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod, container="old")

    assert ["web-1"] == list(simulation.held().values())


async def test_a_del_of_an_unknown_pod_succeeds(simulation: Simulation) -> None:
    """Nobody knows the pod: success, no request."""
    async with simulation.agent() as agent:
        before = simulation.cluster.count("get")
        await agent.delete(make_pod("ghost"))

        assert before == simulation.cluster.count("get")


async def test_a_del_without_uid_finds_the_record_by_name(simulation: Simulation) -> None:
    """A runtime that does not tell the UID still gets its sandbox's address released."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, container="c-1")
        remove(simulation, pod)
        await asyncio.sleep(0.01)
        await agent.delete(make_pod(uid=""), container="c-1")

    assert {} == simulation.held()


async def test_all_nics_and_families_go_with_one_del(simulation: Simulation) -> None:
    """A DEL releases all that the sandbox had, also for a NIC whose own ADD never came."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})

    async with simulation.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        assert 4 == len(simulation.held())
        end(simulation, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod)

    assert {} == simulation.held()


async def test_a_record_that_changed_is_judged_again(simulation: Simulation) -> None:
    """A release that meets a changed record reads it; still this sandbox's, it goes."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.05)
        touch_once(simulation, lambda record: record)
        await agent.delete(pod)

    assert {} == simulation.held()


async def test_a_record_that_became_another_sandbox_s_stays(simulation: Simulation) -> None:
    """A release that meets a record of another sandbox leaves it."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.05)
        touch_once(
            simulation,
            lambda record: replace(
                record,
                spec=replace(
                    record.spec,
                    holder=replace(record.spec.holder, container_id="newer", uid="newer"),
                ),
            ),
        )
        await agent.delete(pod)

    assert ["newer"] == [record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)]


@pytest.mark.parametrize("after_commit", [True, False])
async def test_a_release_without_an_answer_is_resolved(
    simulation: Simulation, after_commit: bool
) -> None:
    """
    Return whether or not a release happened whose answer was lost.

    Afterwards the address is free and the DEL succeeds.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.05)
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit
        )
        await agent.delete(pod)

    assert {} == simulation.held()


async def test_too_many_requests_are_borne(simulation: Simulation) -> None:
    """HTTP 429 is waited out, and the DEL succeeds."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.05)
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, TooManyRequests("later", retry_after_s=0.02)
        )
        await agent.delete(pod)

    assert {} == simulation.held()


async def test_an_absent_api_server_makes_the_runtime_repeat_the_del(
    simulation: Simulation,
) -> None:
    """A DEL that could not be done fails with code 11, so that it is repeated."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await asyncio.sleep(0.05)
        simulation.cluster.faults.down = True
        with pytest.raises(Unreachable) as caught:
            await agent.delete(pod)
        simulation.cluster.faults.down = False

    assert 11 == caught.value.cni_code


async def test_a_del_ends_the_running_add_of_its_sandbox(simulation: Simulation) -> None:
    """The ADD takes back what it made, and then the DEL runs."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64", ips=[])
    pod = simulation.pod()

    async with simulation.agent(wait_s=5) as agent:
        adding = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.05)
        assert ["web-1"] == list(simulation.held().values())
        await agent.delete(pod)
        assert {} == simulation.held()
        with pytest.raises(TryAgain, match="ended by a DEL"):
            await adding


@pytest.mark.parametrize(
    ("statefulset", "kept"),
    [
        (make_statefulset("db", replicas=2), True),
        (make_statefulset("db", replicas=1), False),
        (make_statefulset("db", replicas=1, start=1), True),
        (None, False),
    ],
)
async def test_a_static_pod_s_address_is_judged_by_its_owner(
    simulation: Simulation, statefulset: StatefulSet | None, kept: bool
) -> None:
    """
    Pod db-1 keeps its address while its StatefulSet wants an ordinal 1.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    simulation.pool()
    pod = simulation.pod("db-1", stateful=True)
    if statefulset is not None:
        simulation.cluster.seed(statefulset)

    async with simulation.agent() as agent:
        await agent.add(pod)
        end(simulation, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod)

    assert kept == ("db-1" in simulation.held().values())


async def test_a_released_address_can_be_had_again(simulation: Simulation) -> None:
    """After a DEL the pool has its address back, without waiting for a watch or a list."""
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent() as agent:
        await agent.add(first)
        end(simulation, first)
        await asyncio.sleep(0.01)
        simulation.cluster.hold_watch()
        await agent.delete(first)
        answer = await agent.add(second)
        simulation.cluster.release_watch()

    assert ["10.6.0.10"] == ips(answer)


def touch_once(simulation: Simulation, change: Any) -> None:
    """Let another writer change the only record just before it is released."""
    done: list[str] = []

    def touch(call: Call) -> None:
        if call.verb == "replace" and call.plural == "spiderips" and not done:
            done.append(call.name)
            changed = change(simulation.cluster.all(SpiderIP)[0])
            simulation.cluster.seed(record_of(changed.spec, changed.metadata))

    simulation.cluster.on_write(touch)


@pytest.mark.parametrize("steps", range(10))
async def test_an_add_cut_off_while_it_takes_a_record_over_leaves_nothing(
    simulation: Simulation, steps: int
) -> None:
    """However far an ADD of a new sandbox came before it was cut off, and however late watches are, its DEL finds it."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, "eth0", "old")
        await asyncio.sleep(0.05)
        simulation.cluster.hold_watch()
        adding = asyncio.create_task(agent.add(pod, "eth0", "new"))
        for _ in range(steps):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait([adding])
        remove(simulation, pod)
        for container in ("old", "new"):
            await agent.delete(pod, container)
        simulation.cluster.release_watch()

    assert {} == simulation.held()


async def test_a_take_over_without_an_answer_leaves_nothing(simulation: Simulation) -> None:
    """The holder was written, nobody heard of it, and reading it again fails."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, "eth0", "old")
        await asyncio.sleep(0.05)
        simulation.cluster.hold_watch()
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, UnknownOutcome("cut"), after_commit=True
        )
        simulation.cluster.faults.fail_next("get", SpiderIP, InvalidRequest("not now"))
        with pytest.raises(InvalidRequest):
            await agent.add(pod, "eth0", "new")
        remove(simulation, pod)
        for container in ("old", "new"):
            await agent.delete(pod, container)
        simulation.cluster.release_watch()

    assert {} == simulation.held()
