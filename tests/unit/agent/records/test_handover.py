"""Addresses that outlive their pod: StatefulSets and virtual machines over restarts and nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Conflict, TryAgain, UnknownOutcome
from spiderpool.model.pool import Pool
from spiderpool.records.build import record_of
from tests.fakes.cluster import Call
from tests.fakes.objects import STATEFULSET, make_facts, make_pod, make_record, make_statefulset
from tests.unit.agent.simulation import Simulation, ips, with_owner


async def restart(
    simulation: Simulation, pod: Pod, uid: str = "second", node: str = "node2", **more: Any
) -> Pod:
    """Replace a StatefulSet's pod by its next incarnation."""
    simulation.cluster.drop(Pod, pod.metadata.name, pod.metadata.namespace)
    await asyncio.sleep(0.02)
    return simulation.pod(pod.metadata.name, uid=uid, node=node, stateful=True, **more)


async def test_a_statefulset_pod_keeps_its_address_on_another_node(simulation: Simulation) -> None:
    """
    The next pod of the name gets the same address.

    The record names its UID, node and sandbox.
    """
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        second = await restart(simulation, first)
        after = await two.add(second)

    assert before == after
    (record,) = simulation.cluster.all(SpiderIP)
    holder = record.spec.holder
    assert ("second", "node2", "sandbox-second") == (holder.uid, holder.node, holder.container_id)
    assert "node2" == record.metadata.labels[LABEL_NODE]


async def test_a_pod_that_is_made_again_has_its_pool_s_routes_of_today(
    simulation: Simulation,
) -> None:
    """
    The address stays.

    Gateway, routes, the pod's own routes and `cleangateway` are those of the day.
    """
    simulation.pool(gateway=None)
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        simulation.pool(gateway="10.6.0.1", routes=[{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}])
        own = {"ipam.spidernet.io/routes": [{"dst": "10.8.0.0/16", "gw": "10.6.0.3"}]}
        second = await restart(simulation, first, annotations=own)
        after = await two.add(second)
        simulation.pool(gateway="10.6.0.5")
        same = await two.add(second, container="second sandbox")
        clean = {
            "ipam.spidernet.io/ippools": [
                {"interface": "eth0", "ipv4": ["blue"], "cleangateway": True}
            ]
        }
        third = await restart(simulation, second, uid="third", annotations=clean)
        last = await two.add(third)

    assert ips(before) == ips(after) == ips(same) == ips(last)
    assert before.routes is None
    today = [("10.7.0.0/16", "10.6.0.2"), ("10.8.0.0/16", "10.6.0.3"), ("0.0.0.0/0", "10.6.0.1")]
    assert today == [(route.dst, route.gw) for route in after.routes or ()]
    assert after == same  # another sandbox of the same pod: what it was started with
    assert last.routes is None
    assert "10.6.0.5" == (last.ips or ())[0].gateway


async def test_a_pod_that_is_made_again_without_its_pool_keeps_its_routes(
    simulation: Simulation,
) -> None:
    """A pool that cannot be read tells nothing new."""
    simulation.pool(gateway="10.6.0.1", default=False)
    pools = {"ipam.spidernet.io/ippool": {"ipv4": ["blue"]}}
    first = simulation.pod("db-1", uid="first", stateful=True, annotations=pools)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        simulation.pool(gateway="10.6.0.9", ipVersion=6, default=False)
        second = await restart(simulation, first, annotations=pools)
        after = await two.add(second)

    assert before == after


async def test_a_restart_asks_the_api_server_s_memory_only(simulation: Simulation) -> None:
    """
    For a list from etcd the API server reads all records of the cluster.

    Only a pod that never had an address needs one.
    """
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(simulation, first)
        simulation.cluster.calls.clear()
        await two.add(second)

    assert 1 == simulation.cluster.count("list", SpiderIP)
    assert {"second"} == {record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)}


async def test_what_the_api_server_s_memory_lacks_is_asked_of_etcd(simulation: Simulation) -> None:
    """The address of a moment ago, which the memory does not have yet, is found all the same."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        simulation.cluster.hold_watch()
        before = await one.add(first)
        simulation.cluster.drop(Pod, "db-1", "ns")
        second = simulation.pod("db-1", uid="second", node="node2", stateful=True)
        after = await two.add(second)
        simulation.cluster.release_watch()

    assert ips(before) == ips(after)


async def test_the_old_node_s_late_del_takes_nothing(simulation: Simulation) -> None:
    """After the hand-over the old node's agent sees the record leave, and its DEL succeeds without touching it."""
    simulation.pool()
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(simulation, first)
        await two.add(second)
        await asyncio.sleep(0.02)
        await one.delete(first)

    assert ["db-1"] == list(simulation.held().values())


async def test_the_old_node_s_del_with_a_stale_informer_takes_nothing(
    simulation: Simulation,
) -> None:
    """Even when the old node does not know of the hand-over yet, its delete is conditional and fails, and the record stays."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(simulation, first)
        simulation.cluster.hold_watch()
        await two.add(second)
        await one.delete(first)
        simulation.cluster.release_watch()

    assert ["second"] == [record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)]


async def test_a_changed_annotation_moves_a_static_pod_at_its_restart(
    simulation: Simulation,
) -> None:
    """A pod whose annotation names another pool gives the old address back, once it has the new one."""
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], default=False)
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod(
        "db-1",
        uid="first",
        stateful=True,
        annotations={"ipam.spidernet.io/ippool": {"ipv4": ["blue"]}},
    )

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(
            simulation, first, annotations={"ipam.spidernet.io/ippool": {"ipv4": ["red"]}}
        )
        answer = await two.add(second)

    assert ["10.7.0.10"] == ips(answer)
    assert {"10.7.0.10": "db-1"} == simulation.held()


@pytest.mark.parametrize("after_commit", [True, False])
async def test_an_old_address_whose_release_got_no_answer_is_not_kept(
    simulation: Simulation, after_commit: bool
) -> None:
    """A static pod that moved to another pool holds one address, whatever became of the first try to release the other."""
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], default=False)
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod(
        "db-1",
        uid="first",
        stateful=True,
        annotations={"ipam.spidernet.io/ippool": {"ipv4": ["blue"]}},
    )

    async with simulation.agent() as agent:
        await agent.add(first)
        second = await restart(
            simulation,
            first,
            node="node1",
            annotations={"ipam.spidernet.io/ippool": {"ipv4": ["red"]}},
        )
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit
        )
        await agent.add(second)

    assert {"10.7.0.10": "db-1"} == simulation.held()


async def test_a_pool_that_is_left_on_another_node_leaves_nothing_behind(
    simulation: Simulation,
) -> None:
    """The old address is released at once, by the node that has the pod and in its name."""
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], default=False)
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    first = simulation.pod(
        "db-1",
        uid="first",
        stateful=True,
        annotations={"ipam.spidernet.io/ippool": {"ipv4": ["blue"]}},
    )

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(
            simulation, first, annotations={"ipam.spidernet.io/ippool": {"ipv4": ["red"]}}
        )
        assert ["10.7.0.10"] == ips(await two.add(second))

    assert {"10.7.0.10": "db-1"} == simulation.held()
    holders = {record.spec.holder.node for record in simulation.cluster.all(SpiderIP)}
    assert {"node2"} == holders


async def test_of_two_addresses_for_one_nic_the_later_stays(simulation: Simulation) -> None:
    """What an agent left that ended before it had released the former address is released at the pod's next start."""
    for name, subnet, ip in (
        ("blue", "10.6.0.0/16", "10.6.0.10"),
        ("red", "10.7.0.0/16", "10.7.0.10"),
    ):
        pool = Pool.parse(simulation.pool(name, subnet, ips=[ip], default=False))
        made = make_record(
            ip, pool, make_facts(pool, pod=make_pod("db-1", uid="first"), owner=STATEFULSET)
        )
        stamp = "2026-01-02T00:00:00Z" if name == "red" else "2026-01-01T00:00:00Z"
        simulation.cluster.seed(
            replace(made, metadata=replace(made.metadata, creation_timestamp=stamp))
        )
    simulation.cluster.seed(make_statefulset("db", replicas=2))
    annotations = {"ipam.spidernet.io/ippool": {"ipv4": ["blue", "red"]}}
    pod = simulation.pod("db-1", uid="second", stateful=True, annotations=annotations)

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.7.0.10"] == ips(answer)
    assert {"10.7.0.10": "db-1"} == simulation.held()


async def test_an_index_annotation_keeps_the_address(simulation: Simulation) -> None:
    """`ippools` without NIC names keeps fixed addresses; the original lost them."""
    simulation.pool("blue", default=False)
    annotations = {"ipam.spidernet.io/ippools": [{"ipv4": ["blue"]}]}
    first = simulation.pod("db-1", uid="first", stateful=True, annotations=annotations)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        second = await restart(simulation, first, annotations=annotations)
        after = await two.add(second)

    assert before == after


async def test_a_hand_over_that_loses_a_race_is_judged_again(simulation: Simulation) -> None:
    """A record that the controller touched meanwhile is read and handed over."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        second = await restart(simulation, first)
        simulation.cluster.faults.fail_next("replace", SpiderIP, Conflict("changed"))
        after = await two.add(second)

    assert before == after


@pytest.mark.parametrize("after_commit", [True, False])
async def test_a_hand_over_without_an_answer_is_resolved(
    simulation: Simulation, after_commit: bool
) -> None:
    """A lost answer is followed by a read: what happened is not done again, what did not is."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        before = await one.add(first)
        second = await restart(simulation, first)
        simulation.cluster.faults.fail_next(
            "replace", SpiderIP, UnknownOutcome("cut"), after_commit=after_commit
        )
        after = await two.add(second)

    assert before == after
    assert ["second"] == [record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)]


async def test_a_record_that_goes_during_a_hand_over_asks_to_try_again(
    simulation: Simulation,
) -> None:
    """A record that was released meanwhile is not given away."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    def drop(call: Call) -> None:
        if call.verb == "replace" and simulation.held():
            simulation.cluster.drop(SpiderIP, call.name)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        second = await restart(simulation, first)
        simulation.cluster.on_write(drop)
        simulation.cluster.faults.fail_next("replace", SpiderIP, Conflict("changed"))
        with pytest.raises(TryAgain):
            await two.add(second)


async def test_a_stateless_pod_of_the_same_name_gets_an_address_of_its_own(
    simulation: Simulation,
) -> None:
    """Only static pods take over by name."""
    simulation.pool()
    first = simulation.pod("web-1", uid="first")

    async with simulation.agent("node1") as one:
        await one.add(first)
        simulation.cluster.drop(Pod, "web-1", "ns")
        await asyncio.sleep(0.02)
        second = simulation.pod("web-1", uid="second")
        await one.add(second)

    assert 2 == len(simulation.held())


async def test_a_virtual_machine_keeps_its_address_under_its_own_name(
    simulation: Simulation,
) -> None:
    """
    Two pods of one machine (a restart, a migration) share the address.

    The record carries the machine's name.
    """
    simulation.pool()
    first = simulation.cluster.seed(machine_pod("launcher-a", "first"))

    async with simulation.agent("node1") as one:
        before = await one.add(first)
        simulation.cluster.drop(Pod, "launcher-a", "ns")
        second = simulation.cluster.seed(machine_pod("launcher-b", "second"))
        after = await one.add(second)

    assert before == after
    assert ["vm"] == list(simulation.held().values())


async def test_a_repeated_add_of_a_static_pod_lists_nothing(simulation: Simulation) -> None:
    """What the own node knows is enough for a retry."""
    simulation.pool()
    pod = simulation.pod("db-1", stateful=True)

    async with simulation.agent() as agent:
        await agent.add(pod)
        lists = simulation.cluster.count("list", SpiderIP)
        await agent.add(pod)

    assert lists == simulation.cluster.count("list", SpiderIP)


async def test_somebody_else_s_static_address_is_not_taken(simulation: Simulation) -> None:
    """A record with the same label but of another holder (a hash collision) is not handed over."""
    simulation.pool()
    first = simulation.pod("db-1", uid="first", stateful=True)

    async with simulation.agent("node1") as one, simulation.agent("node2") as two:
        await one.add(first)
        (record,) = simulation.cluster.all(SpiderIP)
        stranger = replace(record.spec.holder, name="db-7")
        foreign = record_of(replace(record.spec, holder=stranger), record.metadata)
        simulation.cluster.seed(
            replace(foreign, metadata=replace(foreign.metadata, labels=record.metadata.labels))
        )
        second = await restart(simulation, first)
        await two.add(second)

    assert ["db-1", "db-7"] == sorted(simulation.held().values())


def machine_pod(name: str, uid: str) -> Pod:
    """Make a pod that runs the virtual machine `vm`."""
    return with_owner(make_pod(name, uid=uid), "VirtualMachineInstance", "vm", "kubevirt.io/v1")
