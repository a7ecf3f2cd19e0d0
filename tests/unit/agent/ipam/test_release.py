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
from tests.unit.agent.testbed import World, ips


def end(world: World, pod: Pod) -> Pod:
    """Let a pod be in deletion."""
    meta = replace(pod.metadata, resource_version="", deletion_timestamp="2025-01-01T00:00:00Z")
    return world.cluster.seed(replace(pod, metadata=meta))


def remove(world: World, pod: Pod) -> None:
    """Let a pod be gone."""
    world.cluster.drop(Pod, pod.metadata.name, pod.metadata.namespace)


async def test_the_del_of_a_pod_in_deletion_is_one_conditional_update(world: World) -> None:
    """A pod that the watch shows as ending costs no read: one update, with UID and resource version."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.05)
        before = len(world.cluster.calls)
        await agent.delete(pod)
        calls = [(call.verb, call.plural) for call in world.cluster.calls[before:]]

    assert [("replace", "spiderips")] == [call for call in calls if call[1] != "spiderendpoints"]
    assert {} == world.held()


async def test_the_del_of_a_pod_that_was_seen_to_go_needs_no_read(world: World) -> None:
    """A pod whose removal the watch told is gone for certain."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        remove(world, pod)
        await asyncio.sleep(0.05)
        reads = world.cluster.count("get", Pod)
        await agent.delete(pod)

    assert reads == world.cluster.count("get", Pod)
    assert {} == world.held()


async def test_a_living_pod_keeps_its_address(world: World) -> None:
    """A DEL for a sandbox that is started again takes nothing; the live pod is asked."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        await agent.delete(pod)

    assert ["web-1"] == list(world.held().values())


async def test_a_pod_whose_end_the_watch_does_not_know_yet_is_read_live(world: World) -> None:
    """The mirror says alive, the API says gone: the API decides."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        world.cluster.hold_watch()
        remove(world, pod)
        await agent.delete(pod)
        world.cluster.release_watch()

    assert {} == world.held()


async def test_the_late_del_of_an_old_sandbox_takes_nothing(world: World) -> None:
    """When the record names another sandbox the DEL succeeds and changes nothing, though the pod is ending."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod, container="new")
        end(world, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod, container="old")

    assert ["web-1"] == list(world.held().values())


async def test_a_del_of_an_unknown_pod_succeeds(world: World) -> None:
    """Nobody knows the pod: success, no request."""
    async with world.agent() as agent:
        before = world.cluster.count("get")
        await agent.delete(make_pod("ghost"))

        assert before == world.cluster.count("get")


async def test_a_del_without_uid_finds_the_record_by_name(world: World) -> None:
    """A runtime that does not tell the UID still gets its sandbox's address released."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod, container="c-1")
        remove(world, pod)
        await asyncio.sleep(0.01)
        await agent.delete(make_pod(uid=""), container="c-1")

    assert {} == world.held()


async def test_all_nics_and_families_go_with_one_del(world: World) -> None:
    """A DEL releases all that the sandbox had, also for a NIC whose own ADD never came."""
    world.pool("blue")
    world.pool("six", "fd00::/64")
    pod = world.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})

    async with world.agent() as agent:
        await agent.add(pod, "eth0")
        await agent.add(pod, "net1")
        assert 4 == len(world.held())
        end(world, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod)

    assert {} == world.held()


async def test_a_record_that_changed_is_judged_again(world: World) -> None:
    """A release that meets a changed record reads it; still this sandbox's, it goes."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.05)
        touch_once(world, lambda record: record)
        await agent.delete(pod)

    assert {} == world.held()


async def test_a_record_that_became_another_sandbox_s_stays(world: World) -> None:
    """A release that meets a record of another sandbox leaves it."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.05)
        touch_once(
            world,
            lambda record: replace(
                record, spec=replace(record.spec, holder=replace(record.spec.holder, container_id="newer", uid="newer"))
            ),
        )
        await agent.delete(pod)

    assert ["newer"] == [record.spec.holder.uid for record in world.cluster.all(SpiderIP)]


@pytest.mark.parametrize("after_commit", [True, False])
async def test_a_release_without_an_answer_is_resolved(world: World, after_commit: bool) -> None:
    """Whether or not a release happened whose answer was lost: afterwards the address is free and the DEL succeeds."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.05)
        world.cluster.faults.fail_next("replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit)
        await agent.delete(pod)

    assert {} == world.held()


async def test_too_many_requests_are_borne(world: World) -> None:
    """HTTP 429 is waited out, and the DEL succeeds."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.05)
        world.cluster.faults.fail_next("replace", SpiderIP, TooManyRequests("later", retry_after_s=0.02))
        await agent.delete(pod)

    assert {} == world.held()


async def test_an_absent_api_server_makes_the_runtime_repeat_the_del(world: World) -> None:
    """A DEL that could not be done fails with code 11, so that it is repeated."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        await asyncio.sleep(0.05)
        world.cluster.faults.down = True
        with pytest.raises(Unreachable) as caught:
            await agent.delete(pod)
        world.cluster.faults.down = False

    assert 11 == caught.value.cni_code


async def test_a_del_ends_the_running_add_of_its_sandbox(world: World) -> None:
    """The ADD takes back what it made, and then the DEL runs."""
    world.pool("blue")
    world.pool("six", "fd00::/64", ips=[])
    pod = world.pod()

    async with world.agent(wait_s=5) as agent:
        adding = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.05)
        assert ["web-1"] == list(world.held().values())
        await agent.delete(pod)
        assert {} == world.held()
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
async def test_a_static_pod_s_address_is_judged_by_its_owner(world: World, statefulset: StatefulSet | None, kept: bool) -> None:
    """Pod db-1 keeps its address while its StatefulSet wants an ordinal 1 (reference ipam.md 3.6)."""
    world.pool()
    pod = world.pod("db-1", stateful=True)
    if statefulset is not None:
        world.cluster.seed(statefulset)

    async with world.agent() as agent:
        await agent.add(pod)
        end(world, pod)
        await asyncio.sleep(0.01)
        await agent.delete(pod)

    assert kept == ("db-1" in world.held().values())


async def test_a_released_address_can_be_had_again(world: World) -> None:
    """After a DEL the pool has its address back, without waiting for a watch or a list."""
    world.pool(ips=["10.6.0.10"])
    first, second = world.pod("web-1"), world.pod("web-2")

    async with world.agent() as agent:
        await agent.add(first)
        end(world, first)
        await asyncio.sleep(0.01)
        world.cluster.hold_watch()
        await agent.delete(first)
        answer = await agent.add(second)
        world.cluster.release_watch()

    assert ["10.6.0.10"] == ips(answer)


def touch_once(world: World, change: Any) -> None:
    """Let another writer change the only record just before it is released."""
    done: list[str] = []

    def touch(call: Call) -> None:
        if call.verb == "replace" and call.plural == "spiderips" and not done:
            done.append(call.name)
            changed = change(world.cluster.all(SpiderIP)[0])
            world.cluster.seed(record_of(changed.spec, changed.metadata))

    world.cluster.on_write(touch)


@pytest.mark.parametrize("steps", range(10))
async def test_an_add_cut_off_while_it_takes_a_record_over_leaves_nothing(world: World, steps: int) -> None:
    """However far an ADD of a new sandbox came before it was cut off, and however late watches are, its DEL finds it."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod, "eth0", "old")
        await asyncio.sleep(0.05)
        world.cluster.hold_watch()
        adding = asyncio.create_task(agent.add(pod, "eth0", "new"))
        for _ in range(steps):
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait([adding])
        remove(world, pod)
        for container in ("old", "new"):
            await agent.delete(pod, container)
        world.cluster.release_watch()

    assert {} == world.held()


async def test_a_take_over_without_an_answer_leaves_nothing(world: World) -> None:
    """The holder was written, nobody heard of it, and reading it again fails."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod, "eth0", "old")
        await asyncio.sleep(0.05)
        world.cluster.hold_watch()
        world.cluster.faults.fail_next("replace", SpiderIP, UnknownOutcome("cut"), after_commit=True)
        world.cluster.faults.fail_next("get", SpiderIP, InvalidRequest("not now"))
        with pytest.raises(InvalidRequest):
            await agent.add(pod, "eth0", "new")
        remove(world, pod)
        for container in ("old", "new"):
            await agent.delete(pod, container)
        world.cluster.release_watch()

    assert {} == world.held()
