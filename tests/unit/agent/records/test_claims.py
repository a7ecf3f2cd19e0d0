"""Claiming under faults: lost races, lost answers, refusals, cancellation."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.agent.records.claims import SLOTS
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.errors import Exhausted, TooManyRequests, TryAgain, UnknownOutcome, Unreachable
from spiderpool.records.build import record_of
from tests.fakes.cluster import Call
from tests.fakes.objects import make_facts, make_pod, make_record
from tests.unit.agent.simulation import SHORT, Simulation, ips


def strangers(simulation: Simulation, *addresses: str) -> None:
    """Let pods of another node hold addresses."""
    for address in addresses:
        pod = make_pod(f"other-{address}", uid=f"u-{address}", node="node2")
        simulation.cluster.seed(make_record(address, facts=make_facts(pod=pod)))


async def test_a_lost_create_costs_the_next_candidate(simulation: Simulation) -> None:
    """With nine of ten addresses in foreign hands, the tenth is found."""
    simulation.pool()
    strangers(simulation, *(f"10.6.0.{n}" for n in range(10, 20) if n != 14))
    pod = simulation.pod()

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.6.0.14"] == ips(answer)


async def test_after_three_losses_the_pool_is_listed_once(simulation: Simulation) -> None:
    """A pool that is nearly full costs at most three lost creates and one list of metadata, not a create an address."""
    simulation.pool(ips=["10.6.0.1-10.6.0.200"])
    strangers(simulation, *(f"10.6.0.{n}" for n in range(1, 200)))
    pod = simulation.pod()

    async with simulation.agent() as agent:
        lists = simulation.cluster.count("list", SpiderIP)
        answer = await agent.add(pod)

    assert ["10.6.0.200"] == ips(answer)
    assert 1 == simulation.cluster.count("list", SpiderIP) - lists
    assert 4 >= simulation.cluster.count("create", SpiderIP)


async def test_what_one_add_lost_the_next_does_not_try(simulation: Simulation) -> None:
    """Two ADDs into a pool of four with three foreign addresses try each foreign address at most once between them."""
    simulation.pool(ips=["10.6.0.10-10.6.0.13"])
    strangers(simulation, "10.6.0.10", "10.6.0.11")
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent() as agent:
        await agent.add(first)
        await agent.add(second)

    assert 4 >= simulation.cluster.count("create", SpiderIP)


async def test_adds_that_run_together_never_try_the_same_address(simulation: Simulation) -> None:
    """Ten ADDs at once into ten addresses need ten creates."""
    simulation.pool()
    pods = [simulation.pod(f"web-{n}") for n in range(10)]

    async with simulation.agent() as agent:
        answers = await asyncio.gather(*(agent.add(pod) for pod in pods))

    assert 10 == len({ip for answer in answers for ip in ips(answer)})
    assert 10 == simulation.cluster.count("create", SpiderIP)


async def test_two_agents_share_a_pool_to_its_last_address(simulation: Simulation) -> None:
    """Twenty pods on two nodes get the twenty addresses of a pool, each its own, none fails."""
    simulation.pool(ips=["10.6.0.10-10.6.0.29"])
    pods = [simulation.pod(f"web-{n}", node=f"node{n % 2 + 1}") for n in range(20)]

    async with (
        simulation.agent("node1", wait_s=1) as one,
        simulation.agent("node2", wait_s=1) as two,
    ):
        answers = await asyncio.gather(*((one, two)[n % 2].add(pod) for n, pod in enumerate(pods)))

    assert 20 == len({ip for answer in answers for ip in ips(answer)}) == len(simulation.held())


async def test_a_create_without_an_answer_that_happened_is_kept(simulation: Simulation) -> None:
    """
    A lost answer is followed by a read of that name.

    The record is this call's, no second one is made.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next(
            "create", SpiderIP, UnknownOutcome("cut"), after_commit=True
        )
        answer = await agent.add(pod)

    assert list(simulation.held()) == ips(answer)
    assert 1 == simulation.cluster.count("create", SpiderIP)


async def test_a_create_without_an_answer_that_did_not_happen_is_repeated(
    simulation: Simulation,
) -> None:
    """A request that never arrived costs one read and one more create."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next("create", SpiderIP, UnknownOutcome("cut"))
        answer = await agent.add(pod)

    assert list(simulation.held()) == ips(answer)


async def test_a_lost_answer_beside_a_lost_race_goes_to_the_next_candidate(
    simulation: Simulation,
) -> None:
    """When the read shows somebody else's record, the address is lost like any other."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    strangers(simulation, "10.6.0.10", "10.6.0.11")
    simulation.cluster.drop(SpiderIP, "10.6.0.11")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next("create", SpiderIP, UnknownOutcome("cut"))
        answer = await agent.add(pod)

    assert ["10.6.0.11"] == ips(answer)


async def test_an_unresolved_create_is_found_by_the_repeated_add(simulation: Simulation) -> None:
    """
    When not even the read is answered the ADD fails.

    The next one finds the record that was made.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        simulation.cluster.faults.fail_next(
            "create", SpiderIP, UnknownOutcome("cut"), after_commit=True
        )
        simulation.cluster.faults.fail_next("get", SpiderIP, Unreachable("down"), times=50)
        with pytest.raises(Unreachable):
            await agent.add(pod)
        simulation.cluster.faults._planned.clear()
        answer = await agent.add(pod)
        simulation.cluster.release_watch()

    assert list(simulation.held()) == ips(answer)


async def test_an_unresolved_create_is_released_by_the_del(simulation: Simulation) -> None:
    """
    A DEL reads what the ADD could not learn, also before the watch tells of it.

    Nothing leaks.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        simulation.cluster.faults.fail_next(
            "create", SpiderIP, UnknownOutcome("cut"), after_commit=True
        )
        simulation.cluster.faults.fail_next("get", SpiderIP, Unreachable("down"), times=50)
        with pytest.raises(Unreachable):
            await agent.add(pod)
        simulation.cluster.faults._planned.clear()
        simulation.cluster.drop(type(pod), "web-1", "ns")
        await agent.delete(pod)
        simulation.cluster.release_watch()

    assert {} == simulation.held()


@pytest.mark.parametrize("after_commit", [True, False])
async def test_an_undoing_without_an_answer_is_resolved_by_the_next_add(
    simulation: Simulation, after_commit: bool
) -> None:
    """
    A record whose deletion got no answer is read before the next ADD.

    What is answered is held, however late the watch.
    """
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        simulation.cluster.faults.fail_next(
            "delete", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit
        )
        hanging_up = asyncio.create_task(agent.add(pod))
        while not simulation.held():
            await asyncio.sleep(0)
        hanging_up.cancel()
        await asyncio.gather(hanging_up, return_exceptions=True)
        answer = await agent.add(pod)
        simulation.cluster.release_watch()

    assert list(simulation.held()) == ips(answer)


async def test_too_many_requests_are_borne(simulation: Simulation) -> None:
    """HTTP 429 is waited out as asked, and the ADD succeeds."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.fail_next(
            "create", SpiderIP, TooManyRequests("later", retry_after_s=0.05), times=2
        )
        answer = await agent.add(pod)

    assert 1 == len(ips(answer))
    assert 3 == simulation.cluster.count("create", SpiderIP)


async def test_an_absent_api_server_fails_the_add_with_code_11(simulation: Simulation) -> None:
    """When nobody answers for a while the runtime is told to try again."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await asyncio.sleep(0.01)
        simulation.cluster.faults.down = True
        with pytest.raises(Unreachable) as caught:
            await agent.add(pod)
        simulation.cluster.faults.down = False

    assert 11 == caught.value.cni_code


async def test_many_adds_learn_together_that_the_api_server_is_away(simulation: Simulation) -> None:
    """
    No ADD waits until others have given up.

    One after the other they would take twenty times as long as one bears.
    """
    simulation.pool(ips=["10.6.0.1-10.6.0.200"])
    pods = [simulation.pod(f"web-{number}") for number in range(20 * SLOTS)]

    async with simulation.agent() as agent:
        await asyncio.sleep(0.01)
        simulation.cluster.faults.down = True
        began = time.monotonic()
        answers = await asyncio.gather(*(agent.add(pod) for pod in pods), return_exceptions=True)
        took_s = time.monotonic() - began
        simulation.cluster.faults.down = False

    assert {Unreachable} == {type(answer) for answer in answers}
    assert 12 * SHORT.absent_s > took_s


async def test_a_full_pool_is_not_asked_again_and_again(simulation: Simulation) -> None:
    """An ADD that waits in a full pool lists its names and what rests in it, once each, and creates nothing."""
    simulation.pool(ips=["10.6.0.10"])
    strangers(simulation, "10.6.0.10")
    pod = simulation.pod()

    async with simulation.agent(wait_s=0.3) as agent:
        lists = simulation.cluster.count("list", SpiderIP)
        with pytest.raises(Exhausted, match="pool blue: 1 of 1 addresses held, none free"):
            await agent.add(pod)

    assert 2 == simulation.cluster.count("list", SpiderIP) - lists
    assert 1 == simulation.cluster.count("create", SpiderIP)


async def test_an_add_that_is_cancelled_amid_a_create_takes_it_back(simulation: Simulation) -> None:
    """A caller that hangs up while the create is under way leaves nothing behind."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.faults.latency_s = 0.05
        running = asyncio.create_task(agent.add(pod))
        while not simulation.cluster.count("create", SpiderIP):
            await asyncio.sleep(0.005)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await agent.app.ipam.pod_locks.settle()

    assert 1 == simulation.cluster.count("create", SpiderIP)
    assert {} == simulation.held()


async def test_undoing_touches_only_what_this_call_wrote(simulation: Simulation) -> None:
    """A record that somebody changed since the ADD wrote it is left alone when the ADD is undone."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64", ips=["fd00::10"])
    strangers(simulation, "fd00::10")
    pod = simulation.pod()
    touched: list[str] = []

    def touch(call: Call) -> None:
        if call.verb == "delete" and not touched:
            touched.append(call.name)
            (record,) = [
                r for r in simulation.cluster.all(SpiderIP) if r.spec.holder.name == "web-1"
            ]
            simulation.cluster.seed(record_of(record.spec, record.metadata))

    simulation.cluster.on_write(touch)
    async with simulation.agent() as agent:
        with pytest.raises(Exhausted):
            await agent.add(pod)

    assert 1 == len(touched)
    assert {"10.6.0.10", "fd00::10"} & set(simulation.held()) | set(touched) <= set(
        simulation.held()
    )


async def test_a_cooling_address_of_ones_own_is_taken_back(simulation: Simulation) -> None:
    """The last holder's own key takes a cooling address back; for anybody else it is taken."""
    simulation.pool(ips=["10.6.0.10"])
    pod = simulation.pod()
    record = make_record("10.6.0.10", facts=make_facts(pod=pod))
    cooling = record_of(replace(record.spec, state=IPState.COOLING), record.metadata)
    simulation.cluster.seed(cooling)

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.6.0.10"] == ips(answer)
    assert [IPState.HELD] == [found.spec.state for found in simulation.cluster.all(SpiderIP)]


async def test_a_late_write_of_the_former_agent_is_recognised(simulation: Simulation) -> None:
    """
    A create that a killed agent had sent may appear after its successor's first list.

    It is read, not lost.
    """
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        first = await agent.add(pod)
    (record,) = simulation.cluster.all(SpiderIP)
    simulation.cluster.drop(SpiderIP, record.metadata.name)

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        simulation.cluster.seed(record_of(record.spec))
        second = await agent.add(pod)
        simulation.cluster.release_watch()

    assert first == second
    assert 1 == len(simulation.held())


async def test_a_late_write_that_the_watch_tells_of_first_is_recognised(
    simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A former agent's write that is carried out after the ADD's decision is the answer, not a second address."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        await agent.add(pod)
    (late,) = simulation.cluster.all(SpiderIP)
    simulation.cluster.drop(SpiderIP, late.metadata.name)

    async with simulation.agent() as agent:
        claims = agent.app.claims
        claim = claims.claim

        async def claim_late(*args: Any) -> SpiderIP | None:
            """Have the write carried out, and told, just before the claim begins."""
            simulation.cluster.seed(record_of(late.spec))
            await agent.app.informers.records.wait_for(
                lambda records: records.named(late.metadata.name), 1.0
            )
            return await claim(*args)

        monkeypatch.setattr(claims, "claim", claim_late)
        answer = await agent.add(pod)

    assert [late.spec.ip] == ips(answer)
    assert 1 == len(simulation.held())


async def test_the_time_of_an_add_is_limited(simulation: Simulation) -> None:
    """An ADD that takes too long is undone and asks to try again."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        agent.app.ipam.pod_locks._add_time_s = 0.05
        simulation.cluster.faults.latency_s = 0.08
        with pytest.raises(TryAgain, match="not done after"):
            await agent.add(pod)
        simulation.cluster.faults.latency_s = 0

    assert {} == simulation.held()
