"""Released addresses: they rest while others are free, come back at once to who had them, and serve when nothing else does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.agent.records.cooling import Cooling
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Exhausted, UnknownOutcome
from spiderpool.records.build import let_go, record_of
from tests.fakes.cluster import Call
from tests.fakes.objects import make_facts, make_pod, make_record, make_statefulset
from tests.unit.agent.testbed import Agent, World, ips

NONE = AddressSet.empty(4)


def states(world: World) -> dict[str, tuple[str, IPState]]:
    """Give who is shown at each address, and in which state."""
    return {record.spec.ip: (record.spec.holder.name, record.spec.state) for record in world.cluster.all(SpiderIP)}


async def come_and_go(world: World, agent: Agent, name: str, **more: Any) -> str:
    """Let a pod have an address and release it; gives the address."""
    pod = world.pod(name, **more)
    (ip,) = ips(await agent.add(pod))
    world.cluster.drop(Pod, name, "ns")
    await asyncio.sleep(0.01)
    await agent.delete(pod)
    return ip


def rests(world: World, ip: str, since: str, node: str = "node2") -> None:
    """Let a pod of another node have released an address."""
    pod = make_pod(f"other-{ip}", uid=f"u-{ip}", node=node)
    world.cluster.seed(let_go(make_record(ip, facts=make_facts(pod=pod)), IPState.COOLING, since))


async def test_a_release_keeps_the_last_holder_visible(world: World) -> None:
    """A released address shows who had it last, and since when it rests; nobody holds it."""
    world.pool()

    async with world.agent() as agent:
        ip = await come_and_go(world, agent, "web-1")

    assert {ip: ("web-1", IPState.COOLING)} == states(world)
    assert all(record.spec.state_since for record in world.cluster.all(SpiderIP))


async def test_without_cool_down_a_release_deletes(world: World) -> None:
    """A pool whose coolDownSeconds is 0 has no resting addresses."""
    world.pool(coolDownSeconds=0)

    async with world.agent() as agent:
        await come_and_go(world, agent, "web-1")

    assert {} == states(world)


async def test_a_resting_address_is_left_alone_while_others_are_free(world: World) -> None:
    """The next pod gets the other address, with one create and no other call."""
    world.pool(ips=["10.6.0.10-10.6.0.11"])

    async with world.agent() as agent:
        first = await come_and_go(world, agent, "web-1")
        second = world.pod("web-2")
        await asyncio.sleep(0.01)
        before = len(world.cluster.calls)
        answer = await agent.add(second)
        calls = [(call.verb, call.plural) for call in world.cluster.calls[before:] if call.plural == "spiderips"]

    assert {first} == {"10.6.0.10", "10.6.0.11"} - set(ips(answer))
    assert [("create", "spiderips")] == calls


async def test_a_full_pool_gives_what_rests_longest(world: World) -> None:
    """When nothing else is free an ADD takes the oldest released address, wherever it was released, by one update."""
    world.pool(ips=["10.6.0.10-10.6.0.12"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:02Z")
    rests(world, "10.6.0.11", "2026-01-01T00:00:01Z")
    rests(world, "10.6.0.12", "2026-01-01T00:00:03Z")
    pods = [world.pod(f"web-{n}") for n in range(3)]

    async with world.agent() as agent:
        got = [ips(await agent.add(pod))[0] for pod in pods]

    assert ["10.6.0.11", "10.6.0.10", "10.6.0.12"] == got
    assert 3 == world.cluster.count("replace", SpiderIP)


async def test_two_nodes_share_what_rests(world: World) -> None:
    """Twenty pods on two nodes get the twenty addresses that were released just now, each its own."""
    world.pool(ips=["10.6.0.10-10.6.0.29"])
    for n in range(10, 30):
        rests(world, f"10.6.0.{n}", "2026-01-01T00:00:00Z", node=f"node{n % 2 + 1}")
    pods = [world.pod(f"web-{n}", node=f"node{n % 2 + 1}") for n in range(20)]

    async with world.agent("node1", wait_s=1) as one, world.agent("node2", wait_s=1) as two:
        answers = await asyncio.gather(*((one, two)[n % 2].add(pod) for n, pod in enumerate(pods)))

    assert 20 == len({ip for answer in answers for ip in ips(answer)}) == len(world.held())


async def test_a_waiting_add_takes_what_another_node_releases(world: World) -> None:
    """An ADD in a full pool is woken by a release on another node; no list is due by then."""
    world.pool(ips=["10.6.0.10"])
    first, second = world.pod("web-1", node="node2"), world.pod("web-2")

    async with world.agent("node2") as two, world.agent("node1", wait_s=1.5) as one:
        await two.add(first)
        waiting = asyncio.create_task(one.add(second))
        await asyncio.sleep(0.1)
        lists = world.cluster.count("list", SpiderIP)
        world.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.01)
        await two.delete(first)
        answer = await waiting

    assert ["10.6.0.10"] == ips(answer)
    assert lists == world.cluster.count("list", SpiderIP)


async def test_what_an_ended_watch_told_is_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody needs a pool's watch any more, what rested on other nodes is not believed to rest for ever."""
    world.pool(ips=["10.6.0.10-10.6.0.11"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")
    rests(world, "10.6.0.11", "2026-01-01T00:00:01Z")

    async with world.agent() as agent:
        monkeypatch.setattr(agent.app.watches, "_idle_s", 0.02)
        assert ["10.6.0.10"] == ips(await agent.add(world.pod("web-1")))
        view = agent.app.claims._taken.of("blue")
        assert 1 == len(view.cooling)
        await asyncio.sleep(0.1)
        assert 0 == len(view.cooling)


async def test_an_address_that_has_rested_long_enough_is_free(world: World) -> None:
    """When the controller deletes a resting record at the last moment, the ADD creates it instead."""
    world.pool(ips=["10.6.0.10"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")

    def expire(call: Call) -> None:
        if call.verb == "replace":
            world.cluster.drop(SpiderIP, call.name)

    world.cluster.on_write(expire)
    async with world.agent(wait_s=1) as agent:
        assert ["10.6.0.10"] == ips(await agent.add(world.pod()))


async def test_a_waiting_add_notices_that_its_pool_grew(world: World) -> None:
    """An ADD in a full pool gets an address that is added to the pool meanwhile."""
    world.pool(ips=["10.6.0.10"])
    first, second = world.pod("web-1"), world.pod("web-2")

    async with world.agent(wait_s=1.5) as agent:
        await agent.add(first)
        waiting = asyncio.create_task(agent.add(second))
        await asyncio.sleep(0.1)
        await world.cluster.patch(SpiderIPPool, "blue", {"spec": {"ips": ["10.6.0.10-10.6.0.11"]}})
        answer = await waiting

    assert ["10.6.0.11"] == ips(answer)


async def test_a_waiting_add_notices_that_a_reservation_went(world: World) -> None:
    """The only address becomes free for pods when its reservation is deleted."""
    world.pool(ips=["10.6.0.10"])
    world.cluster.seed(SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.10",))))
    pod = world.pod()

    async with world.agent(wait_s=1.5) as agent:
        waiting = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.1)
        world.cluster.drop(SpiderReservedIP, "r")
        answer = await waiting

    assert ["10.6.0.10"] == ips(answer)


async def test_a_full_pool_is_emptied_before_its_backup_is_used(world: World) -> None:
    """The order of pools is the user's: what rests in the first one is taken before the second one is touched."""
    world.pool("blue", default=False, ips=["10.6.0.10"])
    world.pool("red", "10.7.0.0/16", default=False, ips=["10.7.0.10"])
    annotations = {"ipam.spidernet.io/ippool": {"ipv4": ["blue", "red"]}}

    async with world.agent() as agent:
        await come_and_go(world, agent, "web-1", annotations=annotations)
        got = [ips(await agent.add(world.pod(f"late-{n}", annotations=annotations))) for n in range(2)]

    assert [["10.6.0.10"], ["10.7.0.10"]] == got


async def test_a_reserved_address_is_not_taken_though_it_rests(world: World) -> None:
    """A reservation binds new ADDs, those that take over a released address among them."""
    world.pool(ips=["10.6.0.10"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")
    world.cluster.seed(SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.10",))))

    async with world.agent() as agent:
        with pytest.raises(Exhausted):
            await agent.add(world.pod())


async def test_a_static_pod_takes_its_resting_address_back(world: World) -> None:
    """A StatefulSet that is deleted and made again has its addresses again, though others are free."""
    world.pool(ips=["10.6.0.1-10.6.0.200"])
    statefulset = world.cluster.seed(make_statefulset("db", replicas=1))
    first = world.pod("db-0", uid="first", stateful=True)

    async with world.agent("node1") as one, world.agent("node2") as two:
        before = await one.add(first)
        world.cluster.drop(type(statefulset), "db", "ns")
        world.cluster.drop(Pod, "db-0", "ns")
        await asyncio.sleep(0.01)
        await one.delete(first)
        assert {"db-0": IPState.COOLING} == dict(states(world).values())
        after = await two.add(world.pod("db-0", uid="second", node="node2", stateful=True))

    assert before == after
    assert {"db-0": IPState.HELD} == dict(states(world).values())


async def test_an_add_that_fails_lets_a_taken_address_rest_again(world: World) -> None:
    """What a failing ADD took over says again what it said before; the agent does not believe that the pod holds it."""
    world.pool("blue", ips=["10.6.0.10"])
    world.pool("six", "fd00::/64", ips=[])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")
    pod = world.pod()

    async with world.agent() as agent:
        for _ in range(2):
            with pytest.raises(Exhausted):
                await agent.add(pod)

    assert {"10.6.0.10": ("other-10.6.0.10", IPState.COOLING)} == states(world)


async def test_a_taken_address_that_changed_meanwhile_is_lost(world: World) -> None:
    """When the last holder takes its address back at the last moment, the other ADD goes on looking."""
    world.pool(ips=["10.6.0.10-10.6.0.11"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")
    rests(world, "10.6.0.11", "2026-01-01T00:00:09Z")
    touched: list[str] = []

    def touch(call: Call) -> None:
        if call.verb == "replace" and not touched:
            touched.append(call.name)
            (record,) = [found for found in world.cluster.all(SpiderIP) if found.metadata.name == call.name]
            world.cluster.seed(record_of(replace(record.spec, state=IPState.HELD), record.metadata))

    world.cluster.on_write(touch)
    async with world.agent() as agent:
        answer = await agent.add(world.pod())

    assert ["10.6.0.10"] == touched
    assert ["10.6.0.11"] == ips(answer)


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_take_over_without_an_answer_is_resolved(world: World, after_commit: bool) -> None:
    """Whether or not an update happened whose answer was lost, the pod has the address once."""
    world.pool(ips=["10.6.0.10"])
    rests(world, "10.6.0.10", "2026-01-01T00:00:00Z")

    async with world.agent() as agent:
        world.cluster.faults.fail_next("replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit)
        answer = await agent.add(world.pod())

    assert ["10.6.0.10"] == ips(answer)
    assert {"10.6.0.10": ("web-1", IPState.HELD)} == states(world)


async def test_an_address_in_conflict_is_given_to_nobody(world: World) -> None:
    """An address that somebody else uses on the wire is quarantined: no ADD gets it, not even the same pod's."""
    world.pool(ips=["10.6.0.10"])
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        await agent.app.ipam.releases.delete_all(pod.metadata.uid)
        with pytest.raises(Exhausted):
            await agent.add(pod)

    assert {"10.6.0.10": ("web-1", IPState.QUARANTINED)} == states(world)


async def test_the_end_of_a_cooling_record_is_no_lost_address(world: World) -> None:
    """When the controller deletes a released record, the agent does not make it again."""
    world.pool()

    async with world.agent() as agent:
        ip = await come_and_go(world, agent, "web-1")
        world.cluster.drop(SpiderIP, ip)
        await asyncio.sleep(0.02)

    assert {} == states(world)


async def test_a_repeated_del_leaves_a_resting_address_alone(world: World) -> None:
    """The second DEL of a sandbox writes nothing."""
    world.pool()
    pod = world.pod()

    async with world.agent() as agent:
        await agent.add(pod)
        world.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.01)
        await agent.delete(pod)
        writes = world.cluster.count("replace", SpiderIP)
        await agent.delete(pod)

    assert writes == world.cluster.count("replace", SpiderIP)


NUMBERS = st.integers(min_value=0, max_value=30)


@given(
    records=st.dictionaries(NUMBERS, st.integers(min_value=0, max_value=3), max_size=20),
    usable=st.sets(NUMBERS),
    reserved_numbers=st.sets(NUMBERS),
    seed=st.binary(max_size=4),
)
def test_every_fitting_address_is_taken_once_and_the_oldest_first(
    records: dict[int, int], usable: set[int], reserved_numbers: set[int], seed: bytes
) -> None:
    """Law: taking until nothing is left gives each usable, unreserved address once, in the order of release."""
    cooling = Cooling()
    for number, second in records.items():
        cooling.put(let_go(make_record(f"10.6.0.{number}"), IPState.COOLING, f"2026-01-01T00:00:0{second}Z"))
    wanted, kept = of(usable), of(reserved_numbers)

    taken = []
    while (record := cooling.take(wanted, kept, seed)) is not None:
        taken.append(int(record.spec.ip.rpartition(".")[2]))

    assert sorted((usable - reserved_numbers) & records.keys()) == sorted(taken)
    assert [records[number] for number in taken] == sorted(records[number] for number in taken)
    assert len(records) - len(taken) == len(cooling)


def test_an_older_state_of_a_record_changes_nothing() -> None:
    """News that come late neither bring a record back nor drop its successor."""
    old, new = at_version("5"), at_version("7")
    cooling = Cooling()

    assert cooling.put(new)
    assert not cooling.put(old)
    cooling.drop(old)
    assert new == cooling.take(parse_ranges(4, ["10.6.0.10"]), NONE, b"")


def at_version(version: str) -> SpiderIP:
    """Make a released record in some version."""
    record = let_go(make_record(), IPState.COOLING, "2026-01-01T00:00:00Z")
    return replace(record, metadata=replace(record.metadata, resource_version=version))


def of(numbers: set[int]) -> AddressSet:
    """Make a set of addresses of 10.6.0.0/24."""
    return parse_ranges(4, [f"10.6.0.{number}" for number in sorted(numbers)])
