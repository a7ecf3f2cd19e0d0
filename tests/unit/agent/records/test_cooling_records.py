"""
Released addresses.

They rest while others are free, come back at once to who had them, and serve when nothing else
does.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.agent.records.cooling_informers import MOST, CoolingWatches
from spiderpool.agent.records.cooling_records import Cooling
from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Exhausted, UnknownOutcome
from spiderpool.records.build import let_go, record_of
from tests.fakes.cluster import Call
from tests.fakes.objects import make_facts, make_pod, make_record, make_statefulset
from tests.unit.agent.simulation import Agent, Simulation, ips

NONE = AddressSet.empty(4)


def states(simulation: Simulation) -> dict[str, tuple[str, IPState]]:
    """Return who is shown at each address, and in which state."""
    return {
        record.spec.ip: (record.spec.holder.name, record.spec.state)
        for record in simulation.cluster.all(SpiderIP)
    }


async def come_and_go(simulation: Simulation, agent: Agent, name: str, **more: Any) -> str:
    """Let a pod have an address and release it; gives the address."""
    pod = simulation.pod(name, **more)
    (ip,) = ips(await agent.add(pod))
    simulation.cluster.drop(Pod, name, "ns")
    await asyncio.sleep(0.01)
    await agent.delete(pod)
    return ip


def rests(simulation: Simulation, ip: str, since: str, node: str = "node2") -> None:
    """Let a pod of another node have released an address."""
    pod = make_pod(f"other-{ip}", uid=f"u-{ip}", node=node)
    simulation.cluster.seed(
        let_go(make_record(ip, facts=make_facts(pod=pod)), IPState.COOLING, since)
    )


async def test_a_release_keeps_the_last_holder_visible(simulation: Simulation) -> None:
    """A released address shows who had it last, and since when it rests; nobody holds it."""
    simulation.pool()

    async with simulation.agent() as agent:
        ip = await come_and_go(simulation, agent, "web-1")

    assert {ip: ("web-1", IPState.COOLING)} == states(simulation)
    assert all(record.spec.state_since for record in simulation.cluster.all(SpiderIP))


async def test_without_cool_down_a_release_deletes(simulation: Simulation) -> None:
    """A pool whose coolDownSeconds is 0 has no resting addresses."""
    simulation.pool(coolDownSeconds=0)

    async with simulation.agent() as agent:
        await come_and_go(simulation, agent, "web-1")

    assert {} == states(simulation)


async def test_a_resting_address_is_left_alone_while_others_are_free(
    simulation: Simulation,
) -> None:
    """The next pod gets the other address, with one create and no other call."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])

    async with simulation.agent() as agent:
        first = await come_and_go(simulation, agent, "web-1")
        second = simulation.pod("web-2")
        await asyncio.sleep(0.01)
        before = len(simulation.cluster.calls)
        answer = await agent.add(second)
        calls = [
            (call.verb, call.plural)
            for call in simulation.cluster.calls[before:]
            if call.plural == "spiderips"
        ]

    assert {first} == {"10.6.0.10", "10.6.0.11"} - set(ips(answer))
    assert [("create", "spiderips")] == calls


async def test_a_full_pool_gives_what_rests_longest(simulation: Simulation) -> None:
    """When nothing else is free an ADD takes the oldest released address, wherever it was released, by one update."""
    simulation.pool(ips=["10.6.0.10-10.6.0.12"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:02Z")
    rests(simulation, "10.6.0.11", "2026-01-01T00:00:01Z")
    rests(simulation, "10.6.0.12", "2026-01-01T00:00:03Z")
    pods = [simulation.pod(f"web-{n}") for n in range(3)]

    async with simulation.agent() as agent:
        got = [ips(await agent.add(pod))[0] for pod in pods]

    assert ["10.6.0.11", "10.6.0.10", "10.6.0.12"] == got
    assert 3 == simulation.cluster.count("replace", SpiderIP)


async def test_two_nodes_share_what_rests(simulation: Simulation) -> None:
    """Twenty pods on two nodes get the twenty addresses that were released just now, each its own."""
    simulation.pool(ips=["10.6.0.10-10.6.0.29"])
    for n in range(10, 30):
        rests(simulation, f"10.6.0.{n}", "2026-01-01T00:00:00Z", node=f"node{n % 2 + 1}")
    pods = [simulation.pod(f"web-{n}", node=f"node{n % 2 + 1}") for n in range(20)]

    async with (
        simulation.agent("node1", wait_s=1) as one,
        simulation.agent("node2", wait_s=1) as two,
    ):
        answers = await asyncio.gather(*((one, two)[n % 2].add(pod) for n, pod in enumerate(pods)))

    assert 20 == len({ip for answer in answers for ip in ips(answer)}) == len(simulation.held())


async def test_a_waiting_add_takes_what_another_node_releases(simulation: Simulation) -> None:
    """An ADD in a full pool is woken by a release on another node; no list is due by then."""
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1", node="node2"), simulation.pod("web-2")

    async with simulation.agent("node2") as two, simulation.agent("node1", wait_s=1.5) as one:
        await two.add(first)
        waiting = asyncio.create_task(one.add(second))
        await asyncio.sleep(0.1)
        lists = simulation.cluster.count("list", SpiderIP)
        simulation.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.01)
        await two.delete(first)
        answer = await waiting

    assert ["10.6.0.10"] == ips(answer)
    assert lists == simulation.cluster.count("list", SpiderIP)


async def test_watches_have_a_cap(simulation: Simulation) -> None:
    """Sixty full pools have as many watches as is good for the API server; the others are asked by lists."""
    occupancy = Occupancy(simulation.cluster)
    watches = CoolingWatches(simulation.cluster, occupancy, node="node1")
    for number in range(60):
        await watches.follow(f"pool-{number}")

    assert MOST == simulation.cluster.count("watch", SpiderIP)
    await watches.stop()


async def test_what_an_ended_watch_told_is_forgotten(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody needs a pool's watch any more, what rested on other nodes is not believed to rest for ever."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")
    rests(simulation, "10.6.0.11", "2026-01-01T00:00:01Z")

    async with simulation.agent() as agent:
        monkeypatch.setattr(agent.app.watches, "_idle_s", 0.02)
        assert ["10.6.0.10"] == ips(await agent.add(simulation.pod("web-1")))
        view = agent.app.claims._occupancy.of("blue")
        assert 1 == len(view.cooling)
        await asyncio.sleep(0.1)
        assert 0 == len(view.cooling)


async def test_an_address_that_has_rested_long_enough_is_free(simulation: Simulation) -> None:
    """When the controller deletes a resting record at the last moment, the ADD creates it instead."""
    simulation.pool(ips=["10.6.0.10"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")

    def expire(call: Call) -> None:
        if call.verb == "replace":
            simulation.cluster.drop(SpiderIP, call.name)

    simulation.cluster.on_write(expire)
    async with simulation.agent(wait_s=1) as agent:
        assert ["10.6.0.10"] == ips(await agent.add(simulation.pod()))


async def test_a_waiting_add_notices_that_its_pool_grew(simulation: Simulation) -> None:
    """An ADD in a full pool gets an address that is added to the pool meanwhile."""
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent(wait_s=1.5) as agent:
        await agent.add(first)
        waiting = asyncio.create_task(agent.add(second))
        await asyncio.sleep(0.1)
        await simulation.cluster.patch(
            SpiderIPPool, "blue", {"spec": {"ips": ["10.6.0.10-10.6.0.11"]}}
        )
        answer = await waiting

    assert ["10.6.0.11"] == ips(answer)


async def test_a_waiting_add_notices_that_a_reservation_went(simulation: Simulation) -> None:
    """The only address becomes free for pods when its reservation is deleted."""
    simulation.pool(ips=["10.6.0.10"])
    simulation.cluster.seed(
        SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.10",)))
    )
    pod = simulation.pod()

    async with simulation.agent(wait_s=1.5) as agent:
        waiting = asyncio.create_task(agent.add(pod))
        await asyncio.sleep(0.1)
        simulation.cluster.drop(SpiderReservedIP, "r")
        answer = await waiting

    assert ["10.6.0.10"] == ips(answer)


async def test_a_full_pool_is_emptied_before_its_backup_is_used(simulation: Simulation) -> None:
    """
    The order of pools is the user's.

    What rests in the first one is taken before the second one is touched.
    """
    simulation.pool("blue", default=False, ips=["10.6.0.10"])
    simulation.pool("red", "10.7.0.0/16", default=False, ips=["10.7.0.10"])
    annotations = {"ipam.spidernet.io/ippool": {"ipv4": ["blue", "red"]}}

    async with simulation.agent() as agent:
        await come_and_go(simulation, agent, "web-1", annotations=annotations)
        got = [
            ips(await agent.add(simulation.pod(f"late-{n}", annotations=annotations)))
            for n in range(2)
        ]

    assert [["10.6.0.10"], ["10.7.0.10"]] == got


async def test_a_reserved_address_is_not_taken_though_it_rests(simulation: Simulation) -> None:
    """A reservation binds new ADDs, those that take over a released address among them."""
    simulation.pool(ips=["10.6.0.10"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")
    simulation.cluster.seed(
        SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.10",)))
    )

    async with simulation.agent() as agent:
        with pytest.raises(Exhausted):
            await agent.add(simulation.pod())


async def test_a_static_pod_takes_its_resting_address_back(simulation: Simulation) -> None:
    """A StatefulSet that is deleted and made again has its addresses again, though others are free."""
    simulation.pool(ips=["10.6.0.1-10.6.0.200"])
    statefulset = simulation.cluster.seed(make_statefulset("db", replicas=1))
    first = simulation.pod("db-0", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        simulation.cluster.drop(type(statefulset), "db", "ns")
        simulation.cluster.drop(Pod, "db-0", "ns")
        await asyncio.sleep(0.01)
        await one.delete(first)
        assert {"db-0": IPState.COOLING} == dict(states(simulation).values())
        after = await two.add(simulation.pod("db-0", uid="second", node="node2", stateful=True))

    assert before == after
    assert {"db-0": IPState.HELD} == dict(states(simulation).values())


async def test_an_add_that_fails_lets_a_taken_address_rest_again(simulation: Simulation) -> None:
    """
    What a failing ADD took over says again what it said before.

    The agent does not believe that the pod holds it.
    """
    simulation.pool("blue", ips=["10.6.0.10"])
    simulation.pool("six", "fd00::/64", ips=[])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        for _ in range(2):
            with pytest.raises(Exhausted):
                await agent.add(pod)

    assert {"10.6.0.10": ("other-10.6.0.10", IPState.COOLING)} == states(simulation)


async def test_a_taken_address_that_changed_meanwhile_is_lost(simulation: Simulation) -> None:
    """When the last holder takes its address back at the last moment, the other ADD goes on looking."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")
    rests(simulation, "10.6.0.11", "2026-01-01T00:00:09Z")
    touched: list[str] = []

    def touch(call: Call) -> None:
        if call.verb == "replace" and not touched:
            touched.append(call.name)
            (record,) = [
                found
                for found in simulation.cluster.all(SpiderIP)
                if found.metadata.name == call.name
            ]
            simulation.cluster.seed(
                record_of(replace(record.spec, state=IPState.HELD), record.metadata)
            )

    simulation.cluster.on_write(touch)
    async with simulation.agent() as agent:
        answer = await agent.add(simulation.pod())

    assert ["10.6.0.10"] == touched
    assert ["10.6.0.11"] == ips(answer)


@pytest.mark.parametrize("after_commit", [False, True])
async def test_a_take_over_without_an_answer_is_resolved(
    simulation: Simulation, after_commit: bool
) -> None:
    """Return whether or not an update happened whose answer was lost, the pod has the address once."""
    simulation.pool(ips=["10.6.0.10"])
    rests(simulation, "10.6.0.10", "2026-01-01T00:00:00Z")

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit
        )
        answer = await agent.add(simulation.pod())

    assert ["10.6.0.10"] == ips(answer)
    assert {"10.6.0.10": ("web-1", IPState.HELD)} == states(simulation)


async def test_an_address_in_conflict_is_given_to_nobody(simulation: Simulation) -> None:
    """
    An address that somebody else uses on the wire is quarantined.

    No ADD gets it, not even the same pod's.
    """
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        await agent.app.ipam.releases.delete_all(pod.metadata.uid)
        with pytest.raises(Exhausted):
            await agent.add(pod)

    assert {"10.6.0.10": ("web-1", IPState.QUARANTINED)} == states(simulation)


async def test_the_end_of_a_cooling_record_is_no_lost_address(simulation: Simulation) -> None:
    """When the controller deletes a released record, the agent does not make it again."""
    simulation.pool()

    async with simulation.agent() as agent:
        ip = await come_and_go(simulation, agent, "web-1")
        simulation.cluster.drop(SpiderIP, ip)
        await asyncio.sleep(0.02)

    assert {} == states(simulation)


async def test_a_repeated_del_leaves_a_resting_address_alone(simulation: Simulation) -> None:
    """The second DEL of a sandbox writes nothing."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod)
        simulation.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.01)
        await agent.delete(pod)
        writes = simulation.cluster.count("replace", SpiderIP)
        await agent.delete(pod)

    assert writes == simulation.cluster.count("replace", SpiderIP)


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
    """
    Law.

    Taking until nothing is left gives each usable, unreserved address once, in the order of
    release.
    """
    cooling = Cooling()
    for number, second in records.items():
        cooling.put(
            let_go(make_record(f"10.6.0.{number}"), IPState.COOLING, f"2026-01-01T00:00:0{second}Z")
        )
    wanted, kept = of(usable), of(reserved_numbers)

    occupancy = []
    while (record := cooling.take(wanted, kept, seed)) is not None:
        occupancy.append(int(record.spec.ip.rpartition(".")[2]))

    assert sorted((usable - reserved_numbers) & records.keys()) == sorted(occupancy)
    assert [records[number] for number in occupancy] == sorted(
        records[number] for number in occupancy
    )
    assert len(records) - len(occupancy) == len(cooling)


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
