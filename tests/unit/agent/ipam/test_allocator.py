"""ADD: what a pod gets, what it gets again, and what it leaves behind when it fails."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Event, Namespace, Pod, ReplicaSet
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, OwnerReference
from spiderpool.errors import (
    AddressHeld,
    Exhausted,
    InvalidRequest,
    NoPool,
    NotFound,
    TooManyRequests,
    TryAgain,
)
from tests.fakes.objects import make_namespace, make_pod
from tests.unit.agent.reconcile.test_endpoints import until
from tests.unit.agent.simulation import CONFIG, Simulation, ips, with_owner


def ippools(*items: dict[str, Any]) -> dict[str, Any]:
    """Make the annotation `ippools`."""
    return {"ipam.spidernet.io/ippools": json.dumps(items)}


async def test_a_pod_gets_one_address_of_the_default_pool(simulation: Simulation) -> None:
    """An ADD creates one record and answers with its address, prefix length, pool and gateway."""
    simulation.pool(gateway="10.6.0.1")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert answer.ips is not None
    (ip,) = answer.ips
    assert simulation.held() == {ip.address.removesuffix("/16"): "web-1"}
    assert (4, "eth0", "blue", "10.6.0.1") == (ip.version, ip.nic, ip.ip_pool, ip.gateway)


async def test_one_write_and_no_read_is_all_that_an_add_costs(simulation: Simulation) -> None:
    """An ADD of a known pod into a free pool asks the API server once before the answer."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await asyncio.sleep(0.01)
        before = len(simulation.cluster.calls)
        await agent.add(pod)
        calls = [(call.verb, call.plural) for call in simulation.cluster.calls[before:]]

    assert [("create", "spiderips")] == [call for call in calls if call[1] != "spiderendpoints"]


@pytest.mark.parametrize("kind", [Pod, ReplicaSet, Namespace])
async def test_a_busy_api_server_delays_what_an_add_reads(
    simulation: Simulation, kind: type[KubeObject]
) -> None:
    """
    What the watches do not know yet is asked for again when the API server says "later".

    Pod, owner and namespace.
    """
    simulation.pool()
    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        simulation.cluster.seed(make_namespace("young"))
        simulation.cluster.seed(
            ReplicaSet(metadata=ObjectMeta(name="rs", namespace="young", uid="rs-uid"))
        )
        pod = simulation.cluster.seed(with_owner(make_pod("web-1", "young"), "ReplicaSet", "rs"))
        simulation.cluster.faults.fail_next(
            "get", kind, TooManyRequests("later", retry_after_s=0.01)
        )

        answer = await agent.add(pod)

    assert 1 == len(ips(answer))


async def test_the_record_says_who_holds_the_address_and_where(simulation: Simulation) -> None:
    """Pod, UID, NIC, node, sandbox and top owner are in the record."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        await agent.add(pod, container="c-7", network="macvlan")

    (record,) = simulation.cluster.all(SpiderIP)
    holder = record.spec.holder
    assert ("ns", "web-1", "uid-web-1", "eth0", "node1", "c-7", "macvlan") == (
        holder.namespace,
        holder.name,
        holder.uid,
        holder.nic,
        holder.node,
        holder.container_id,
        holder.network,
    )
    assert holder.owner is not None
    assert ("Pod", "web-1") == (holder.owner.kind, holder.owner.name)


async def test_a_repeated_add_gets_the_same_address(simulation: Simulation) -> None:
    """A second ADD of the same sandbox writes nothing and answers the same."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        first = await agent.add(pod)
        await asyncio.sleep(0.01)
        writes = simulation.cluster.count("create")
        second = await agent.add(pod)

    assert first == second
    assert writes == simulation.cluster.count("create")


async def test_a_new_sandbox_of_a_living_pod_gets_the_same_address(simulation: Simulation) -> None:
    """After a sandbox restart the record names the new sandbox, so that the late DEL of the old one takes nothing."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        first = await agent.add(pod, container="old")
        second = await agent.add(pod, container="new")
        await agent.delete(pod, container="old")

    assert first == second
    assert ["new"] == [
        record.spec.holder.container_id for record in simulation.cluster.all(SpiderIP)
    ]


async def test_the_next_agent_of_the_node_gives_the_same_address(simulation: Simulation) -> None:
    """An ADD after a restart of the agent finds the record in the consistent first list."""
    simulation.pool()
    pod = simulation.pod()
    async with simulation.agent() as agent:
        first = await agent.add(pod)

    async with simulation.agent() as agent:
        second = await agent.add(pod)

    assert first == second


async def test_both_families_are_given_together(simulation: Simulation) -> None:
    """With default pools of both families a pod gets one address of each."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod()

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert answer.ips is not None
    assert [4, 6] == [ip.version for ip in answer.ips]


async def test_a_disabled_family_is_left_out(simulation: Simulation) -> None:
    """Default pools of a family that the configuration switches off are not looked at."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod()
    config = CONFIG.__class__(enable_ipv4=True)

    async with simulation.agent(config=config) as agent:
        answer = await agent.add(pod)

    assert answer.ips is not None
    assert [4] == [ip.version for ip in answer.ips]


async def test_the_first_add_takes_the_addresses_of_all_nics_of_ippools(
    simulation: Simulation,
) -> None:
    """
    With annotation `ippools` the ADD of eth0 claims for net1 too.

    The ADD of net1 then creates nothing.
    """
    simulation.pool("blue", default=False)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10-10.7.0.19"], default=False)
    annotations = {
        **ippools({"interface": "eth0", "ipv4": ["blue"]}, {"interface": "net1", "ipv4": ["red"]}),
        "v1.multus-cni.io/default-network": "kube-system/macvlan0",
        "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
    }
    pod = simulation.pod(annotations=annotations)

    async with simulation.agent() as agent:
        first = await agent.add(pod, "eth0")
        creates = simulation.cluster.count("create", SpiderIP)
        second = await agent.add(pod, "net1")

    assert 2 == creates == simulation.cluster.count("create", SpiderIP)
    assert first == second
    assert first.ips is not None
    assert [("eth0", "blue"), ("net1", "red")] == [(ip.nic, ip.ip_pool) for ip in first.ips]


async def test_two_nics_on_one_pool_have_two_addresses(simulation: Simulation) -> None:
    """An address is one per pod, NIC and family; the original gave both NICs the same one."""
    simulation.pool()
    pod = simulation.pod(annotations={"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1"})

    async with simulation.agent() as agent:
        await agent.add(pod, "eth0")
        answer = await agent.add(pod, "net1")

    assert 2 == len(set(ips(answer)))


@pytest.mark.parametrize("full", ["blue", "red"])
async def test_a_full_pool_on_either_nic_takes_nothing(simulation: Simulation, full: str) -> None:
    """When one NIC gets no address the other's is given back, and ever again when the ADD is repeated."""
    simulation.pool("blue", default=False, ips=[] if full == "blue" else ["10.6.0.10"])
    simulation.pool("red", "10.7.0.0/16", default=False, ips=[] if full == "red" else ["10.7.0.10"])
    annotations = {
        **ippools({"interface": "eth0", "ipv4": ["blue"]}, {"interface": "net1", "ipv4": ["red"]}),
        "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
    }
    pod = simulation.pod(annotations=annotations)

    async with simulation.agent() as agent:
        for _ in range(3):
            with pytest.raises(
                Exhausted, match=rf"all IP addresses used out.*pool {full}: 0 addresses"
            ):
                await agent.add(pod)
            assert {} == simulation.held()


async def test_an_exhausted_add_says_numbers_and_tells_them_on_the_pod(
    simulation: Simulation,
) -> None:
    """The error names pool and counts, and the Event on the Pod has the same text."""
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent() as agent:
        await agent.add(first)
        with pytest.raises(Exhausted) as caught:
            await agent.add(second)
        await asyncio.sleep(0.02)

    assert "pool blue: 1 of 1 addresses held, none free" in caught.value.message
    (event,) = simulation.cluster.all(Event)
    assert (caught.value.message, "IPAddressesUsedOut", "uid-web-2") == (
        event.message,
        event.reason,
        event.involved_object.uid,
    )


async def test_an_add_waits_for_an_address_that_becomes_free(simulation: Simulation) -> None:
    """While an ADD waits in a full pool, a release on its node wakes it."""
    simulation.pool(ips=["10.6.0.10"])
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent(wait_s=1.5) as agent:
        await agent.add(first)
        waiting = asyncio.create_task(agent.add(second))
        await asyncio.sleep(0.05)
        simulation.cluster.seed(ended(first))
        await agent.delete(first)
        answer = await asyncio.wait_for(waiting, 0.5)

    assert ["10.6.0.10"] == ips(answer)


async def test_pools_are_tried_in_the_order_written(simulation: Simulation) -> None:
    """The second pool of an annotation is used once the first is full, not before."""
    simulation.pool("zebra", default=False, ips=["10.6.0.10"])
    simulation.pool("apple", default=False, ips=["10.6.0.20"])
    annotations = {"ipam.spidernet.io/ippool": {"ipv4": ["zebra", "apple"]}}
    first, second = (
        simulation.pod("web-1", annotations=annotations),
        simulation.pod("web-2", annotations=annotations),
    )

    async with simulation.agent() as agent:
        assert ["10.6.0.10"] == ips(await agent.add(first))
        assert ["10.6.0.20"] == ips(await agent.add(second))


async def test_reserved_and_excluded_addresses_are_not_given(simulation: Simulation) -> None:
    """Of ten addresses, eight reserved and one excluded, one is left."""
    simulation.pool(excludeIPs=["10.6.0.19"])
    simulation.cluster.seed(reservation("10.6.0.10-10.6.0.17"))
    pod = simulation.pod()

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.6.0.18"] == ips(answer)


async def test_a_reservation_made_while_the_agent_runs_counts(simulation: Simulation) -> None:
    """An ADD after the watch told of a reservation does not give a reserved address."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        simulation.cluster.seed(reservation("10.6.0.10"))
        await asyncio.sleep(0.01)
        answer = await agent.add(pod)

    assert ["10.6.0.11"] == ips(answer)


async def test_an_exact_address_is_given_or_nothing(simulation: Simulation) -> None:
    """
    A call that wants 10.6.0.15 gets it.

    A second pod that wants it too gets an error that names its holder.
    """
    simulation.pool()
    first, second = simulation.pod("web-1"), simulation.pod("web-2")

    async with simulation.agent() as agent:
        answer = await agent.add(first, ips=(ip_address("10.6.0.15"),))
        with pytest.raises(
            AddressHeld, match=r"10\.6\.0\.15, .* is held by pod ns/web-1 \(eth0, node node1\)"
        ):
            await agent.add(second, ips=(ip_address("10.6.0.15"),))

    assert ["10.6.0.15"] == ips(answer)


async def test_custom_routes_go_with_the_first_address_that_reaches_their_gateway(
    simulation: Simulation,
) -> None:
    """A route of annotation `routes` is stored with one address, also when two pools have the subnet."""
    simulation.pool("blue", default=False)
    simulation.pool("red", default=False, ips=["10.6.0.30-10.6.0.39"])
    annotations = {
        **ippools({"interface": "eth0", "ipv4": ["blue"]}, {"interface": "net1", "ipv4": ["red"]}),
        "k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1",
        "ipam.spidernet.io/routes": [{"dst": "192.168.0.0/24", "gw": "10.6.0.9"}],
    }
    pod = simulation.pod(annotations=annotations)

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert answer.routes is not None
    assert [("eth0", "192.168.0.0/24", "10.6.0.9")] == [
        (route.if_name, route.dst, route.gw) for route in answer.routes
    ]


ROUTES = "ipam.spidernet.io/routes"
REPEATED = {
    "the gateway as default": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}],
    "a route of the pool": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
    "itself": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}] * 2,
}


@pytest.mark.parametrize("own", REPEATED.values(), ids=REPEATED.keys())
async def test_custom_routes_that_only_repeat_what_is_so(
    simulation: Simulation, own: list[dict[str, str]]
) -> None:
    """A destination has one route: a CNI plugin would be refused the second one by the kernel."""
    simulation.pool(gateway="10.6.0.1", routes=[{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}])
    plain, pod = simulation.pod("plain"), simulation.pod(annotations={ROUTES: own})

    async with simulation.agent() as agent:
        usual, answer = await agent.add(plain), await agent.add(pod)
        again = await agent.add(pod, container="second")

    assert usual.routes == answer.routes == again.routes
    assert 2 == len(answer.routes or ())


async def test_custom_routes_that_go_nowhere_are_told(simulation: Simulation) -> None:
    """A route whose gateway is in no subnet of the pod is left out, and an Event says so."""
    simulation.pool()
    pod = simulation.pod(annotations={ROUTES: [{"dst": "10.9.0.0/16", "gw": "10.99.0.1"}]})

    async with simulation.agent() as agent:
        answer = await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(Event)))

    (event,) = simulation.cluster.all(Event)
    assert ("RouteLeftOut", "web-1") == (event.reason, event.involved_object.name)
    assert event.message.endswith(
        "10.9.0.0/16 via 10.99.0.1 (the gateway is in no subnet of this pod: 10.6.0.0/16)"
    )
    assert answer.routes is None


async def test_of_custom_routes_to_one_destination_the_first_counts(simulation: Simulation) -> None:
    """The pod gets one of them, and an Event names the other."""
    simulation.pool(gateway="10.6.0.1")
    destinations = ("10.9.0.0/16", "0.0.0.0/0")
    own = [{"dst": dst, "gw": gw} for dst in destinations for gw in ("10.6.0.1", "10.6.0.2")]
    pod = simulation.pod(annotations={ROUTES: own})

    async with simulation.agent() as agent:
        answer = await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(Event)))

    (event,) = simulation.cluster.all(Event)
    assert event.message.endswith(
        "left out: 10.9.0.0/16 via 10.6.0.2 (a route before it has the same destination); "
        "0.0.0.0/0 via 10.6.0.2 (a route before it has the same destination)"
    )
    assert {(dst, "10.6.0.1") for dst in destinations} == {
        (route.dst, route.gw) for route in answer.routes or ()
    }


async def test_custom_routes_of_a_later_interface_are_not_told(simulation: Simulation) -> None:
    """
    While a later interface may have what a route needs nothing is told.

    What no pool could serve is told at once.
    """
    simulation.pool("blue")
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], default=False)
    routes = [{"dst": "10.9.0.0/16", "gw": gw} for gw in ("10.7.0.1", "10.99.0.1")]
    annotations = {"k8s.v1.cni.cncf.io/networks": "kube-system/macvlan1", ROUTES: routes}
    pod = simulation.pod(annotations=annotations)

    async with simulation.agent() as agent:
        await agent.add(pod)
        await until(lambda: bool(simulation.cluster.all(Event)))
        first = [event.message for event in simulation.cluster.all(Event)]
        answer = await agent.add(pod, nic="net1", default_ipv4=("red",))

    assert [False] == ["10.7.0.1" in message for message in first]
    assert answer.routes is not None
    assert [("net1", "10.7.0.1")] == [(route.if_name, route.gw) for route in answer.routes]


async def test_nobody_gets_the_gateway_of_his_own_route(simulation: Simulation) -> None:
    """An address that is the next hop of the pod's own route goes to other pods."""
    simulation.pool(ips=["10.6.0.10-10.6.0.11"])
    pod = simulation.pod(annotations={ROUTES: [{"dst": "10.9.0.0/16", "gw": "10.6.0.11"}]})

    async with simulation.agent() as agent:
        answer = await agent.add(pod)
        other = await agent.add(simulation.pod("other"))

    assert (["10.6.0.10"], ["10.6.0.11"]) == (ips(answer), ips(other))


async def test_a_running_pod_keeps_its_address_when_its_pool_is_disabled(
    simulation: Simulation,
) -> None:
    """What a pod holds it gets again, whatever became of its pool."""
    simulation.pool()
    pod = simulation.pod()

    async with simulation.agent() as agent:
        first = await agent.add(pod)
        simulation.pool(disable=True, default=False)
        await asyncio.sleep(0.01)
        second = await agent.add(pod, container="sandbox-2")

    assert first == second


async def test_a_family_missing_after_a_cut_off_add_is_claimed(simulation: Simulation) -> None:
    """A pod that holds IPv4 only, since its first ADD died, gets IPv6 too."""
    simulation.pool("blue")
    simulation.pool("six", "fd00::/64")
    pod = simulation.pod()
    async with simulation.agent() as agent:
        first = await agent.add(pod)
    simulation.cluster.drop(
        SpiderIP,
        next(r.metadata.name for r in simulation.cluster.all(SpiderIP) if r.spec.family == 6),
    )

    async with simulation.agent() as agent:
        second = await agent.add(pod)

    assert first == second


async def test_a_pod_without_any_pool_hears_why(simulation: Simulation) -> None:
    """Each pool that was looked at is named with its reason, in the error and in the Event."""
    simulation.pool("blue", disable=True)
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], nodeName=["node2"])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        with pytest.raises(NoPool) as caught:
            await agent.add(pod)
        await asyncio.sleep(0.02)

    assert "blue: disabled" in caught.value.message
    assert "unmatched Node name of IPPool red: restricted to node node2" in caught.value.message
    assert [caught.value.message] == [event.message for event in simulation.cluster.all(Event)]


async def test_a_malformed_annotation_is_refused_with_its_name(simulation: Simulation) -> None:
    """The error begins with the original's words and names the annotation."""
    simulation.pool()
    pod = simulation.pod(annotations={"ipam.spidernet.io/ippool": "{"})

    async with simulation.agent() as agent:
        with pytest.raises(
            InvalidRequest, match=r"^wrong input: annotation ipam.spidernet.io/ippool: "
        ):
            await agent.add(pod)


async def test_an_unknown_pod_is_said_to_be_unknown(simulation: Simulation) -> None:
    """A pod that the API does not know gets an error with its name."""
    simulation.pool()

    async with simulation.agent() as agent:
        with pytest.raises(NotFound, match="pod ns/ghost does not exist"):
            await agent.add(make_pod("ghost"))


async def test_a_pod_that_is_newer_than_the_watch_is_read_live(simulation: Simulation) -> None:
    """An ADD does not wait for the watch to tell of its pod."""
    simulation.pool()

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        pod = simulation.pod()
        answer = await agent.add(pod)
        simulation.cluster.release_watch()

    assert ips(answer)


async def test_a_runtime_that_starts_another_uid_is_sent_away(simulation: Simulation) -> None:
    """When runtime and API name different UIDs even live, the ADD asks to try again and takes nothing."""
    simulation.pool()
    simulation.pod("web-1", uid="api")

    async with simulation.agent() as agent:
        with pytest.raises(TryAgain, match="the runtime starts UID runtime, the API has UID api"):
            await agent.add(make_pod("web-1", uid="runtime"))

    assert {} == simulation.held()


async def test_a_mirror_pod_may_have_another_uid(simulation: Simulation) -> None:
    """
    Kubelet's own pods from files have a UID that the API does not know.

    They get their address.
    """
    simulation.pool()
    simulation.pod("web-1", uid="api", mirror="runtime")

    async with simulation.agent() as agent:
        answer = await agent.add(make_pod("web-1", uid="runtime"))

    assert ips(answer)


async def test_a_claim_to_be_a_mirror_pod_is_none(simulation: Simulation) -> None:
    """Annotations that anybody may write do not let a pod be taken for another one of its name."""
    simulation.pool()
    claimed = {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "runtime"}
    simulation.pod("web-1", uid="api", annotations=claimed)

    async with simulation.agent() as agent:
        with pytest.raises(TryAgain):
            await agent.add(make_pod("web-1", uid="runtime"))

    assert {} == simulation.held()


async def test_a_stale_informer_does_not_decide_for_a_new_pod_of_the_name(
    simulation: Simulation,
) -> None:
    """While the watch still shows the former pod, the new one of its name is read live."""
    simulation.pool()
    simulation.pod("web-1", uid="old")

    async with simulation.agent() as agent:
        simulation.cluster.hold_watch()
        pod = simulation.pod("web-1", uid="new")
        await agent.add(pod)
        simulation.cluster.release_watch()

    assert ["new"] == [record.spec.holder.uid for record in simulation.cluster.all(SpiderIP)]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"deleted": True}, "being deleted"),
        ({"phase": "Succeeded", "restart": "Never"}, "has ended"),
        ({"phase": "Failed", "restart": "Never"}, "has ended"),
        ({"phase": "Failed", "reason": "Evicted"}, "has ended"),
    ],
)
async def test_a_pod_that_ended_gets_nothing(
    simulation: Simulation, more: dict[str, Any], words: str
) -> None:
    """
    Pods that have no use for an address are refused.

    Source: docs/reference/allocation.md#alive-pods.
    """
    simulation.pool()
    pod = simulation.pod(**more)

    async with simulation.agent() as agent:
        with pytest.raises(InvalidRequest, match=words):
            await agent.add(pod)

    assert {} == simulation.held()


async def test_a_pod_of_another_node_is_sent_away(simulation: Simulation) -> None:
    """An agent does not claim for a pod that the scheduler put elsewhere."""
    simulation.pool()
    pod = simulation.pod(node="node2")

    async with simulation.agent("node1") as agent:
        with pytest.raises(TryAgain, match="bound to node node2, this agent serves node node1"):
            await agent.add(pod)


async def test_a_pool_that_waits_for_the_controller_asks_to_try_again(
    simulation: Simulation,
) -> None:
    """
    Allocations of Go Spiderpool that are not imported yet block their pool.

    Source: docs/reference/takeover.md.
    """
    simulation.pool(
        annotations={}, status={"allocatedIPs": '{"10.6.0.10":{"pod":"ns/x","podUid":"u"}}'}
    )
    pod = simulation.pod()

    async with simulation.agent() as agent:
        with pytest.raises(TryAgain):
            await agent.add(pod)


async def test_namespace_annotations_name_pools(simulation: Simulation) -> None:
    """A namespace's pools are used before the cluster's default pools."""
    simulation.pool("blue")
    simulation.pool("red", "10.7.0.0/16", ips=["10.7.0.10"], default=False)
    simulation.cluster.seed(make_namespace("ns", ipv4='["red"]'))
    pod = simulation.pod()

    async with simulation.agent() as agent:
        answer = await agent.add(pod)

    assert ["10.7.0.10"] == ips(answer)


async def test_a_vast_pool_costs_no_more_than_a_small_one(simulation: Simulation) -> None:
    """Pools of 11.0.0.0/8 and of an IPv6 /64 give an address with one create each, at once."""
    simulation.pool("wide", "11.0.0.0/8", ips=["11.0.0.1-11.255.255.254"])
    simulation.pool("six", "fd00::/64", ips=["fd00::1-fd00::ffff:ffff:ffff:ffff"])
    pod = simulation.pod()

    async with simulation.agent() as agent:
        async with asyncio.timeout(0.5):
            answer = await agent.add(pod)

    assert 2 == len(ips(answer)) == simulation.cluster.count("create", SpiderIP)


async def test_the_top_owner_is_read_once_for_many_pods(simulation: Simulation) -> None:
    """Pods of one ReplicaSet share one metadata read; the record names the Deployment."""
    simulation.pool()
    simulation.cluster.seed(replica_set())
    pods = [
        simulation.cluster.seed(
            with_owner(make_pod(f"web-{n}", uid=f"u{n}"), "ReplicaSet", "web-rs")
        )
        for n in range(5)
    ]

    async with simulation.agent() as agent:
        await asyncio.gather(*(agent.add(pod) for pod in pods))

    assert 1 == simulation.cluster.count("get", ReplicaSet)
    assert {("Deployment", "web")} == {
        (record.spec.holder.owner.kind, record.spec.holder.owner.name)
        for record in simulation.cluster.all(SpiderIP)
        if record.spec.holder.owner
    }


def ended(pod: Pod) -> Pod:
    """Return the pod as it is while it is being deleted."""
    return replace(
        pod,
        metadata=replace(
            pod.metadata, resource_version="", deletion_timestamp="2025-01-01T00:00:00Z"
        ),
    )


def reservation(*items: str) -> SpiderReservedIP:
    """Make a reservation."""
    return SpiderReservedIP(
        metadata=ObjectMeta(name="reserved"), spec=ReservedIPSpec(ip_version=4, ips=items)
    )


def replica_set() -> ReplicaSet:
    """Make the ReplicaSet `web-rs` of the Deployment `web`."""
    owner = OwnerReference(
        api_version="apps/v1", kind="Deployment", name="web", uid="d", controller=True
    )
    return ReplicaSet(
        metadata=ObjectMeta(
            name="web-rs", namespace="ns", uid="web-rs-uid", owner_references=(owner,)
        )
    )
