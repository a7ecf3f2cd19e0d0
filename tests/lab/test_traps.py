"""
Requests that users of underlay networks trip over: each works, or says on the pod what to change.

The members of each kind are tested where they are decided; decision 0019 lists them.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.lab.inside import Route
from tests.lab.kube import Refused
from tests.lab.manifests import (
    DEFAULT_NETWORK,
    DEFAULT_ROUTE_NIC,
    IPPOOL,
    IPPOOLS,
    NETWORKS,
    ROUTES,
)
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until
from tests.lab.story import Pod, Story, kubelet_says

GIVEN_BACK_S = 85


def defaults(pod: Pod, family: int) -> list[tuple[str, str]]:
    """Return NIC and gateway of the default routes in the main table."""
    routes = pod.inside.routes(family)
    return [(route.nic, route.gateway) for route in routes if route.dst == "default"]


@pytest.mark.parametrize("dropped", ["network", "nic", "family", "pool"])
def test_what_a_statefulset_drops_is_given_back(story: Story, dropped: str) -> None:
    """
    A StatefulSet whose template drops a network, a NIC, a family or a pool, and is rolled out.

    What its pod does not ask for any more is free within 85 s, and the rest stays.
    """
    four, six, other = story.pool("four"), story.pool("six", family=6), story.pool("other")
    extra = story.pool("extra", ENS224)
    eth0 = {"interface": "eth0", "ipv4": [four], "ipv6": [six]}
    net1 = {"interface": "net1", "ipv4": [extra]}
    networks = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        NETWORKS: story.macvlan("wan", ENS224),
    }
    story.workload("StatefulSet", "db", 1, networks | {IPPOOLS: [eth0, net1]})
    (first,) = story.wait_replicas("db", 1)
    before = {record.pool: record.ip for record in story.records()}
    assert {four, six, extra} == set(before)

    stories: dict[str, tuple[set[str], dict[str, Any]]] = {
        "network": (set(), dict.fromkeys((DEFAULT_NETWORK, NETWORKS, IPPOOLS))),
        "nic": ({four, six}, {NETWORKS: None, IPPOOLS: [eth0]}),
        "family": ({four, extra}, {IPPOOLS: [eth0 | {"ipv6": []}, net1]}),
        "pool": ({six, extra, other}, {IPPOOLS: [eth0 | {"ipv4": [other]}, net1]}),
    }
    kept, change = stories[dropped]
    story.annotate_template("StatefulSet", "db", change)
    story.wait_gone(first)
    story.wait_replicas("db", 1)
    until(
        lambda: kept == {record.pool for record in story.records()},
        f"held are addresses of {sorted(kept)} only",
        within_s=GIVEN_BACK_S,
        seen=lambda: [(record.pool, record.ip, record.uid) for record in story.records()],
    )

    assert {pool: before[pool] for pool in kept if pool in before} == {
        record.pool: record.ip for record in story.records() if record.pool in before
    }


def test_routes_that_only_repeat(story: Story) -> None:
    """Custom routes that repeat the default route, a route of the pool or themselves are made once."""
    gateway = str(ENS192.gateway(4))
    away = {"dst": "10.77.0.0/24", "gw": gateway}
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOL: {"ipv4": [story.pool("p", routes=[away])]},
        ROUTES: [
            {"dst": "0.0.0.0/0", "gw": gateway},
            away,
            *[{"dst": "10.78.0.0/24", "gw": gateway}] * 2,
        ],
    }

    pod = story.pod("pod", annotations)

    assert [
        Route("10.77.0.0/24", "eth0", gateway),
        Route("10.78.0.0/24", "eth0", gateway),
        Route("default", "eth0", gateway),
    ] == sorted(pod.inside.routes(4), key=lambda route: route.dst)


def test_route_that_goes_nowhere(story: Story) -> None:
    """A custom route whose gateway is in no subnet of the pod is told; the pod runs without it."""
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOL: {"ipv4": [story.pool("p")]},
        ROUTES: [{"dst": "10.77.0.0/24", "gw": "10.99.0.1"}],
    }

    pod = story.pod("pod", annotations)

    story.warning(pod, "10.77.0.0/24 via 10.99.0.1", "in no subnet of this pod: 10.6.0.0/16")
    assert [("eth0", str(ENS192.gateway(4)))] == defaults(pod, 4)


def test_networks_with_values_that_cannot_be(story: Story) -> None:
    """Each value that the kernel would refuse is told before anything is made."""
    network = story.macvlan("lan")
    namespace, _, name = network.partition("/")
    pool = story.pool("p")
    item = {"name": name, "namespace": namespace}
    wrong: dict[str, tuple[dict[str, Any], str]] = {
        "slash": ({"name": network, "namespace": None}, f'write "namespace": "{namespace}"'),
        "mac": ({"mac": "01:00:5e:00:00:01"}, "it is a group address"),
        "nic": ({"interface": "0123456789abcdef"}, "at most 15 characters"),
        "ip": ({"ips": ["10.6.0.0/16"]}, "10.6.0.0 is the network address of 10.6.0.0/16"),
    }
    pods = {}
    for key, (change, _) in wrong.items():
        element = {k: value for k, value in (item | change).items() if value is not None}
        annotations = {NETWORKS: [element], IPPOOLS: [{"interface": "net1", "ipv4": [pool]}]}
        pods[key] = story.pod(key, annotations, wait=False)

    for key, (_, words) in wrong.items():
        story.warning(pods[key], "wrong input", NETWORKS, words)
        until(
            lambda pod=pods[key], words=words: kubelet_says(pod, words), f"kubelet says so of {key}"
        )
    assert [] == story.records()


def test_default_route_of_one_family(story: Story) -> None:
    """A default route that is asked for on net1 moves its own family, and no other."""
    pools = [
        {
            "interface": "eth0",
            "ipv4": [story.pool("a4")],
            "ipv6": [story.pool("a6", family=6)],
        },
        {
            "interface": "net1",
            "ipv4": [story.pool("b4", ENS224)],
            "ipv6": [story.pool("b6", ENS224, family=6)],
        },
    ]
    namespace, _, name = story.macvlan("wan", ENS224).partition("/")
    gateway = str(ENS224.gateway(4))
    element = {"name": name, "namespace": namespace, "default-route": [gateway]}
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        NETWORKS: [element],
        IPPOOLS: pools,
    }

    pod = story.pod("pod", annotations)

    assert [("net1", gateway)] == defaults(pod, 4)
    assert [("eth0", str(ENS192.gateway(6)))] == defaults(pod, 6)


def test_addresses_of_no_host(story: Story) -> None:
    """
    Network and broadcast address are given to nobody.

    A gateway or subnet that cannot be one is refused.
    """
    pool = story.pool_of("edges", "10.66.9.0/24", ["10.66.9.0", "10.66.9.255"])
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}

    pod = story.pod("pod", annotations, wait=False)

    story.warning(pod, "10.66.9.0 is the network address of 10.66.9.0/24")
    assert [] == story.records()
    wrong: dict[str, dict[str, Any]] = {
        "spec.gateway": {"subnet": "10.66.8.0/24", "gateway": "10.66.8.255"},
        "spec.subnet": {"subnet": "224.0.0.0/24", "gateway": None},
    }
    for field, spec in wrong.items():
        with pytest.raises(Refused) as refusal:
            story.pool_of("wrong", ips=[], **spec)
        assert [field] == refusal.value.fields


def two_nics(story: Story, **pools: Any) -> dict[str, Any]:
    """Give the annotations of a dual-stack pod with two coordinated NICs; `pools` are of both."""
    items = [
        {
            "interface": nic,
            "ipv4": [story.pool(f"{nic}-4", underlay, **pools)],
            "ipv6": [story.pool(f"{nic}-6", underlay, family=6)],
        }
        for nic, underlay in (("eth0", ENS192), ("net1", ENS224))
    ]
    return {
        DEFAULT_NETWORK: story.coordinated("lan"),
        NETWORKS: story.coordinated("wan", ENS224),
        IPPOOLS: items,
    }


@pytest.mark.parametrize("owner", ["", "net1"])
def test_default_routes_of_two_nics(story: Story, owner: str) -> None:
    """Two dual-stack NICs: one default route a family, both by the NIC that is to have it."""
    wish = {DEFAULT_ROUTE_NIC: owner} if owner else {}

    pod = story.pod("pod", two_nics(story) | wish)

    nic, underlay = ("net1", ENS224) if owner else ("eth0", ENS192)
    for family in (4, 6):
        assert [(nic, str(underlay.gateway(family)))] == defaults(pod, family)


def test_one_destination_by_two_nics(story: Story) -> None:
    """
    Two additional NICs whose pools have a route to one destination.

    It is in each own table, and not in main.
    """
    networks = [
        story.coordinated("lan"),
        story.coordinated("wan", ENS224),
        story.coordinated("wan2", ENS224),
    ]
    nics = (
        ("eth0", ENS192, "10.6.0.1"),
        ("net1", ENS224, "10.7.0.1"),
        ("net2", ENS224, "10.7.0.2"),
    )
    items = []
    for nic, underlay, gateway in nics:
        routes = [] if nic == "eth0" else [{"dst": "10.9.0.0/24", "gw": gateway}]
        items.append({"interface": nic, "ipv4": [story.pool(nic, underlay, routes=routes)]})
    annotations = {
        DEFAULT_NETWORK: networks[0],
        NETWORKS: ",".join(networks[1:]),
        IPPOOLS: items,
    }

    pod = story.pod("pod", annotations)

    assert [] == [route for route in pod.inside.routes(4) if route.dst == "10.9.0.0/24"]
    for table, nic, gateway in ((101, "net1", "10.7.0.1"), (102, "net2", "10.7.0.2")):
        shown = pod.inside.run("ip", "route", "show", "table", str(table)).stdout
        assert f"10.9.0.0/24 via {gateway} dev {nic}" in shown


def test_pool_that_gets_a_gateway_later(story: Story) -> None:
    """A StatefulSet's pod that is made again keeps its address and has its pool's gateway of today."""
    pool = story.pool("p", gateway=None)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    story.workload("StatefulSet", "db", 1, annotations)
    (first,) = story.wait_replicas("db", 1)
    assert [] == defaults(first, 4)
    address, gateway = first.address("eth0"), str(ENS192.gateway(4))

    away = [{"dst": "10.77.0.0/24", "gw": gateway}]
    story.kube.patch("SpiderIPPool", pool, {"spec": {"gateway": gateway, "routes": away}})
    story.delete(first)
    (second,) = story.wait_replicas("db", 1)

    assert address == second.address("eth0")
    assert [("eth0", gateway)] == defaults(second, 4)
    assert Route("10.77.0.0/24", "eth0", gateway) in second.inside.routes(4)
