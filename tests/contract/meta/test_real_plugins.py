"""The meta plugin with the CNI project's own plugins on a real kernel."""

from __future__ import annotations

import shutil
from typing import Any

import msgspec
import pytest

from spiderlab.binaries import program
from spiderpool.cni.valid_attachments import KEYS
from spiderpool.errors import DelegateFailed
from tests.contract.meta.node import Node, PodNetns


@pytest.fixture
def wired(host: Node) -> Node:
    """A node with an uplink on which macvlan interfaces can stand, and the plugins for it."""
    for name in ("macvlan", "host-local", "static", "ptp", "tuning"):
        shutil.copy(program(name), host.home / "bin" / name)
    host.in_node("ip", "link", "add", "ens192", "type", "veth", "peer", "name", "wire")
    for link in ("ens192", "wire"):
        host.in_node("ip", "link", "set", link, "up")
    return host


def ptp(host: Node, *subnets: str) -> dict[str, Any]:
    """A default network: veth, host-local, default routes for its families."""
    ranges = [[{"subnet": subnet}] for subnet in subnets]
    routes = [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets]
    ipam = {
        "type": "host-local",
        "dataDir": str(host.home / "leases"),
        "ranges": ranges,
        "routes": routes,
    }
    return {"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "ptp", "ipam": ipam}]}


MACVLAN = {"type": "macvlan", "master": "ens192", "ipam": {"type": "static"}}


async def test_two_networks(wired: Node, netns: PodNetns) -> None:
    """
    A pod gets eth0 from the cluster's network and net1 with the addresses that it asks for.

    DEL leaves nothing.
    """
    wired.define("cluster", ptp(wired, "10.5.0.0/24"), "spiderpool")
    wired.define("under", {"cniVersion": "1.0.0", **MACVLAN})
    wired.pod(
        [{"name": "under", "ips": ["10.6.0.20/16", "fd00:6::20/64"], "mac": "02:00:00:00:06:20"}]
    )

    result = msgspec.json.decode(await wired.run("ADD", netns=netns.path))

    assert ["10.5.0.2/24"] == [ip["address"] for ip in result["ips"]]
    assert "link/ether 02:00:00:00:06:20" in netns.ip("addr", "show", "net1")
    assert "10.6.0.20/16" in netns.ip("addr", "show", "net1")
    assert "fd00:6::20/64" in netns.ip("addr", "show", "net1")
    assert [
        ("spiderpool/cluster", "eth0", ["10.5.0.2"]),
        ("default/under", "net1", ["10.6.0.20", "fd00:6::20"]),
    ] == [(entry["name"], entry["interface"], entry["ips"]) for entry in await wired.status()]
    told = "Add eth0 [10.5.0.2/24] from spiderpool/cluster; Add net1 [10.6.0.20/16 fd00:6::20/64] from default/under"
    assert [("p1", "AddedInterface", told)] == wired.reported.events

    await wired.run("DEL", netns=netns.path)

    assert "net1" not in netns.ip("link")
    assert "eth0" not in netns.ip("link")
    assert wired.cached() == []
    assert [] == list((wired.home / "leases").rglob("10.5.*"))


async def test_check_sees_a_lost_interface(wired: Node, netns: PodNetns) -> None:
    """CHECK passes after ADD and reaches every network: without net1 it fails."""
    wired.define("cluster", ptp(wired, "10.5.0.0/24"), "spiderpool")
    wired.define("under", {"cniVersion": "1.0.0", **MACVLAN})
    wired.pod([{"name": "under", "ips": ["10.6.0.20/16"]}])
    await wired.run("ADD", netns=netns.path)

    await wired.run("CHECK", netns=netns.path)
    netns.ip("link", "delete", "net1")

    with pytest.raises(DelegateFailed, match="net1"):
        await wired.run("CHECK", netns=netns.path)


DUAL = ("10.5.0.0/24", "fd00:5::/64")


@pytest.mark.parametrize(
    ("gateways", "eth0", "net1"),
    [
        (None, {"10.5.0.1", "fd00:5::1"}, set()),
        (["10.6.0.1"], {"fd00:5::1"}, {"10.6.0.1"}),
        (["fd00:6::1"], {"10.5.0.1"}, {"fd00:6::1"}),
        (["10.6.0.1", "fd00:6::1"], set(), {"10.6.0.1", "fd00:6::1"}),
        ([], set(), {"10.6.9.9", "fd00:6::9"}),
    ],
)
async def test_default_route(
    wired: Node, netns: PodNetns, gateways: list[str] | None, eth0: set[str], net1: set[str]
) -> None:
    """
    With `default-route` the kernel's default routes move: of the gateway's family, and no other.

    An empty list keeps those of the owner's own plugin.

    Source: docs/reference/meta-plugin.md#default-routes.
    """
    wired.define("cluster", ptp(wired, *DUAL), "spiderpool")
    own = (
        [{"dst": "0.0.0.0/0", "gw": "10.6.9.9"}, {"dst": "::/0", "gw": "fd00:6::9"}]
        if gateways == []
        else []
    )
    wired.define(
        "under", {"cniVersion": "1.0.0", **MACVLAN, "ipam": {"type": "static", "routes": own}}
    )
    key = {} if gateways is None else {"default-route": gateways}
    wired.pod([{"name": "under", "ips": ["10.6.0.20/16", "fd00:6::20/64"], **key}])

    await wired.run("ADD", netns=netns.path)

    assert eth0 == {str(route.gateway) for route in netns.defaults("eth0")}
    assert net1 == {str(route.gateway) for route in netns.defaults("net1")}
    await wired.run("CHECK", netns=netns.path)
    await wired.run("DEL", netns=netns.path)
    assert wired.cached() == []


async def test_default_route_of_one_family(wired: Node, netns: PodNetns) -> None:
    """
    A network with a gateway of one family has none of the other, though its plugin makes one.

    Where the pod would have none of that family, it comes back.
    """
    own = [{"dst": "0.0.0.0/0", "gw": "10.6.9.9"}, {"dst": "::/0", "gw": "fd00:6::9"}]
    ipam = {"type": "static", "routes": own}
    wired.define("under", {"cniVersion": "1.0.0", **MACVLAN, "ipam": ipam})
    element = {"name": "under", "ips": ["10.6.0.20/16", "fd00:6::20/64"]}
    seen = []
    for subnets in (DUAL, DUAL[:1]):
        wired.define("cluster", ptp(wired, *subnets), "spiderpool")
        wired.pod([{**element, "default-route": ["10.6.0.1"]}])
        await wired.run("ADD", netns=netns.path)
        defaults = [netns.defaults(nic) for nic in ("eth0", "net1")]
        seen.append([[str(route.gateway) for route in routes] for routes in defaults])
        await wired.run("CHECK", netns=netns.path)
        await wired.run("DEL", netns=netns.path)

    assert [
        [["fd00:5::1"], ["10.6.0.1"]],
        [[], ["10.6.0.1", "fd00:6::9"]],
    ] == seen


async def test_default_route_of_the_plugin_s_own(wired: Node, netns: PodNetns) -> None:
    """
    An empty list means the routes that the plugin makes.

    A family of which it makes none stays where it is.
    """
    wired.define("cluster", ptp(wired, *DUAL), "spiderpool")
    ipam = {"type": "static", "routes": [{"dst": "0.0.0.0/0", "gw": "10.6.9.9"}]}
    wired.define("under", {"cniVersion": "1.0.0", **MACVLAN, "ipam": ipam})
    ips = ["10.6.0.20/16", "fd00:6::20/64"]
    wired.pod([{"name": "under", "ips": ips, "default-route": []}])

    await wired.run("ADD", netns=netns.path)

    assert ["fd00:5::1"] == [str(route.gateway) for route in netns.defaults("eth0")]
    assert ["10.6.9.9"] == [str(route.gateway) for route in netns.defaults("net1")]
    await wired.run("CHECK", netns=netns.path)
    await wired.run("DEL", netns=netns.path)


async def test_collect_and_status(wired: Node, netns: PodNetns) -> None:
    """GC takes the interfaces and leases of a forgotten container, and the plugins themselves take part in GC and STATUS."""
    latest = {**ptp(wired, "10.5.0.0/24"), "cniVersion": "1.1.0"}
    wired.define("cluster", latest, "spiderpool")
    wired.define("under", {"cniVersion": "1.1.0", **MACVLAN})
    wired.pod([{"name": "under", "ips": ["10.6.0.20/16"]}])
    await wired.run("STATUS", cniVersion="1.1.0")
    await wired.run("ADD", netns=netns.path)

    config: dict[str, Any] = {
        "cniVersion": "1.1.0",
        KEYS[0]: [{"containerID": "c1", "ifname": "eth0"}],
    }
    await wired.run("GC", container="", pod="", **config)
    assert "net1" in netns.ip("link")

    config[KEYS[0]] = []
    await wired.run("GC", container="", pod="", **config)
    assert [] == wired.cached()
    assert [] == list((wired.home / "leases").rglob("10.5.*"))
