"""
Pods that nobody would draw in a document.

ADD once and again, CHECK, DEL, on a real kernel, with nothing left behind.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spiderpool.errors import SpiderpoolError
from tests.contract.coordinator.stage import PodNics, Stage, believe_every_gateway, dual

Nics = list[tuple[str, Callable[[], Any]]]
"""Names of NICs, each with what makes it and gives its plugin's result."""


def _ipv6_only(_: Stage, pod: PodNics) -> Nics:
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "fd00:6::172/64")),
        ("net1", lambda: pod.macvlan("net1", "ens224", "fd00:7::173/64")),
    ]


def _no_gateways(_: Stage, pod: PodNics) -> Nics:
    return [
        (
            "eth0",
            lambda: pod.macvlan(
                "eth0", "ens192", "10.6.168.172/16", "fd00:6::172/64", gateways=False
            ),
        ),
        ("net1", lambda: pod.macvlan("net1", "ens224", "10.7.168.173/16", gateways=False)),
    ]


def _host_addresses(_: Stage, pod: PodNics) -> Nics:
    """Addresses of /32 and /128, whose gateways are declared to be on the link."""

    def make(name: str, master: str, cidr: str, gateway: str, cidr6: str, gateway6: str) -> Any:
        result = pod.macvlan(name, master, cidr, cidr6, gateways=False)
        pod.netns.ip("route", "append", "default", "via", gateway, "dev", name, "onlink")
        pod.netns.ip("-6", "route", "append", "default", "via", gateway6, "dev", name, "onlink")
        return result

    return [
        (
            "eth0",
            lambda: make(
                "eth0", "ens192", "10.6.168.172/32", "10.6.0.1", "fd00:6::172/128", "fd00:6::1"
            ),
        ),
        (
            "net1",
            lambda: make(
                "net1", "ens224", "10.7.168.173/32", "10.7.0.1", "fd00:7::173/128", "fd00:7::1"
            ),
        ),
    ]


def _long_names(_: Stage, pod: PodNics) -> Nics:
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "10.6.168.172/16")),
        (
            "fifteen-letters",
            lambda: pod.macvlan("fifteen-letters", "ens224", "10.7.168.173/16", "fd00:7::173/64"),
        ),
    ]


def _families_by_turns(_: Stage, pod: PodNics) -> Nics:
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "fd00:6::172/64")),
        ("net1", lambda: pod.macvlan("net1", "ens224", "fd00:7::173/64")),
        ("net2", lambda: pod.macvlan("net2", "ens192", "10.6.168.174/16")),
        ("net3", lambda: pod.macvlan("net3", "ens224", "10.7.168.175/16", "fd00:7::175/64")),
    ]


def _five_nics(_: Stage, pod: PodNics) -> Nics:
    def nic(number: int) -> Callable[[], Any]:
        name = f"net{number}" if number else "eth0"
        return lambda: pod.macvlan(
            name, "ens224" if number % 2 else "ens192", f"10.{6 + number % 2}.9.{number + 1}/16"
        )

    return [(f"net{number}" if number else "eth0", nic(number)) for number in range(5)]


def _two_addresses_a_nic(_: Stage, pod: PodNics) -> Nics:
    def make(name: str, master: str, *cidrs: str) -> Any:
        result = pod.macvlan(name, master, *cidrs)
        for cidr in cidrs:
            more = cidr.replace("17", "18")
            pod.netns.ip("addr", "add", more, "dev", name, *(["nodad"] if ":" in more else []))
        return result

    return [
        ("eth0", lambda: make("eth0", "ens192", "10.6.168.172/16", "fd00:6::172/64")),
        ("net1", lambda: make("net1", "ens224", "10.7.168.173/16")),
    ]


def _same_address_on_lo(_: Stage, pod: PodNics) -> Nics:
    """The pod has its addresses on `lo` too, as some load balancers want it."""
    pod.netns.ip("link", "set", "lo", "up")
    pod.netns.ip("addr", "add", "10.6.168.172/32", "dev", "lo")
    pod.netns.ip("addr", "add", "10.99.0.1/32", "dev", "lo")
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "10.6.168.172/16")),
        ("net1", lambda: pod.macvlan("net1", "ens224", "10.7.168.173/16")),
    ]


def _same_network_twice(_: Stage, pod: PodNics) -> Nics:
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "10.6.168.172/16", "fd00:6::172/64")),
        ("net1", lambda: pod.macvlan("net1", "ens192", "10.6.168.173/16", "fd00:6::173/64")),
    ]


def _node_address_in_the_pod(ground: Stage, pod: PodNics) -> Nics:
    """The node has one of the pod's addresses on a bridge, as another runtime may leave it."""
    ground.node.in_node("ip", "link", "add", "br-x", "type", "bridge")
    ground.node.in_node("ip", "addr", "add", "10.6.168.172/32", "dev", "br-x")
    ground.node.in_node("ip", "link", "set", "br-x", "up")
    return [("eth0", lambda: pod.macvlan("eth0", "ens192", "10.6.168.172/16"))]


def _rules_of_others(_: Stage, pod: PodNics) -> Nics:
    """Another plugin has made rules and tables of its own."""
    pod.netns.ip("link", "set", "lo", "up")
    pod.netns.ip("rule", "add", "from", "10.9.9.9", "lookup", "101", "pref", "700")
    pod.netns.ip("rule", "add", "to", "10.8.0.0/16", "lookup", "102", "pref", "701")
    pod.netns.ip("route", "add", "10.8.0.0/16", "dev", "lo", "table", "102")
    return [
        ("eth0", lambda: pod.macvlan("eth0", "ens192", "10.6.168.172/16")),
        ("net1", lambda: pod.macvlan("net1", "ens224", "10.7.168.173/16")),
    ]


def _overlay_and_more(_: Stage, pod: PodNics) -> Nics:
    """Two NICs beside Calico's, one dual-stack, one without a gateway."""
    pod.calico("10.233.100.2/32")
    first = lambda: pod.macvlan("net1", "ens192", "10.6.212.145/16", "fd00:6::145/64")  # noqa: E731
    return [
        ("net1", first),
        ("net2", lambda: pod.macvlan("net2", "ens224", "10.7.212.145/16", gateways=False)),
    ]


def _overlay_ipv6_only(_: Stage, pod: PodNics) -> Nics:
    """An additional NIC of the family that the first one has not."""
    pod.calico("10.233.100.2/32")
    return [("net1", lambda: pod.macvlan("net1", "ens192", "fd00:6::145/64"))]


def _overlay_without_the_first(_: Stage, pod: PodNics) -> Nics:
    """The NIC beside Calico's has no coordinator, the one after it has."""
    pod.calico("10.233.100.2/32")
    pod.macvlan("net1", "ens224", "10.7.212.145/16", gateways=False)
    return [("net2", lambda: pod.macvlan("net2", "ens192", "10.6.212.145/16"))]


ODD: list[Callable[[Stage, PodNics], Nics]] = [
    _ipv6_only,
    _no_gateways,
    _host_addresses,
    _long_names,
    _families_by_turns,
    _five_nics,
    _two_addresses_a_nic,
    _same_address_on_lo,
    _same_network_twice,
    _node_address_in_the_pod,
    _rules_of_others,
    _overlay_and_more,
    _overlay_ipv6_only,
    _overlay_without_the_first,
]


# Through gateways that are nowhere: the kernel refuses them in the middle of the pod's batch.
REFUSED = {
    "policyRoutes": [
        {"dst": "10.66.0.0/16", "gw": "192.0.2.1"},
        {"dst": "fd66::/64", "gw": "2001:db8::1"},
    ]
}
ELSEWHERE = (_ipv6_only, _no_gateways, _host_addresses, _five_nics, _overlay_and_more)


@pytest.mark.parametrize(
    ("odd", "default_route"), [*((odd, "") for odd in ODD), *((odd, "net1") for odd in ELSEWHERE)]
)
async def test_odd_pod(
    ground: Stage, odd: Callable[[Stage, PodNics], Nics], default_route: str
) -> None:
    """
    ADD of each NIC, one that fails first, then twice; CHECK of all; DEL, the last NIC first.

    The one that fails leaves all as it was, the second of the others too; when a NIC is gone all is
    as before it was made.
    """
    dual(ground)
    await ground.warm_up("10.6.0.99/16", "fd00:6::99/64")
    with ground.pod() as pod:
        nics = odd(ground, pod)
        pod_request = (
            {"podDefaultRouteNic": default_route}
            if default_route in {name for name, _ in nics}
            else {}
        )
        done: list[tuple[str, Any, tuple[set[str], ...]]] = []
        for name, make in nics:
            before = ground.everything(pod)
            given = make()
            bare = ground.everything(pod)
            with pytest.MonkeyPatch.context() as patch:
                believe_every_gateway(patch)
                with pytest.raises(SpiderpoolError, match="cannot add route"):
                    await ground.run("ADD", pod, name, given, **pod_request, **REFUSED)
            assert bare == ground.everything(pod)
            await ground.run("ADD", pod, name, given, **pod_request)
            whole = ground.everything(pod)
            await ground.run("ADD", pod, name, given, **pod_request)
            assert whole == ground.everything(pod)
            done.append((name, given, before))

        for name, given, _ in done:
            assert await ground.run("CHECK", pod, name, given, **pod_request) is None
        for name, given, before in reversed(done):
            await ground.run("DEL", pod, name, given)
            pod.netns.ip("link", "delete", name)
            assert before == ground.everything(pod)
