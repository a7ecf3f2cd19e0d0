"""
The netlink codec on a real kernel, with ip(8) as the second witness.

What the codec reads must be what ip(8) shows, read into the same model by `connectivity.survey`;
what the codec makes must be what it reads back. Links of kinds that this kernel may lack (VLAN,
bond) are made where ip(8) can make them, and refused in words where ip(8) cannot.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import pytest

from spiderpool.cli.connectivity.inside.survey import look
from spiderpool.connectivity.survey import NamespaceSurvey, read_surveys
from spiderpool.datapath.ifacer import Bond, Enslave, MakeBond, MakeVlan, Remove, SetUp
from spiderpool.datapath.plan_types import Item, Kind, Setting, VethPair
from spiderpool.errors import SpiderpoolError, TryAgain, Unsupported
from spiderpool.kernel import pod_namespaces, rtnetlink
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.node_links import apply_step
from spiderpool.kernel.read_links import read_links
from spiderpool.kernel.rtnetlink import Message, Refusal, RouteSocket, number
from spiderpool.model.netns_contents import LOCAL_TABLE, UNICAST, Address, Neighbour, Route, Rule
from tests.contract.meta.node import PodNetns, pod_netns

R = TypeVar("R")

ASK = {
    Address: (rtnetlink.GET_ADDRESS, [wire.ask_addresses()]),
    Route: (rtnetlink.GET_ROUTE, [wire.ask_routes(4), wire.ask_routes(6)]),
    Rule: (rtnetlink.GET_RULE, [wire.ask_rules()]),
    Neighbour: (rtnetlink.GET_NEIGHBOUR, [wire.ask_neighbours()]),
}


@pytest.fixture
def pod() -> Iterator[PodNetns]:
    """A namespace with a veth pair, both ends up and with addresses of both families."""
    with pod_netns() as made:
        made.ip("link", "add", "nic1", "type", "veth", "peer", "name", "nic2")
        for place, name in enumerate(("nic1", "nic2"), 1):
            made.ip("link", "set", name, "up", "addrgenmode", "none")
            made.ip("addr", "add", f"10.{place}.0.5/24", "dev", name)
            made.ip("addr", "add", f"fd00:{place}::5/64", "dev", name, "nodad")
        yield made


async def inside(pod: PodNetns, work: Callable[[], R]) -> R:
    """Do something in the pod."""
    with Namespaces.network(pod.path) as namespace:
        return await namespace.run(work)


async def send(pod: PodNetns, *messages: Message) -> None:
    """Send changes in the pod, each on its own."""

    def work() -> None:
        with RouteSocket() as netlink:
            for message in messages:
                netlink.change([message])

    await inside(pod, work)


async def seen(pod: PodNetns, kind: type[R]) -> set[R]:
    """Read all items of a kind with the codec."""

    def work() -> set[Any]:
        names = {link.index: link.name for link in read_links().values()}
        request, bodies = ASK[kind]
        with RouteSocket() as netlink:
            answers = [data for body in bodies for data in netlink.dump(request, body)]
        return {item for data in answers for item in decoded(kind, data, names.__getitem__)}

    return await inside(pod, work)


def decoded(kind: type, data: bytes, name_of: Callable[[int], str]) -> list[Any]:
    """Decode one answer."""
    if kind is Route:
        return list(wire.read_routes(data, name_of))
    if kind is Address:
        return [wire.read_address(data, name_of)]
    if kind is Rule:
        return [rule for rule in [wire.read_rule(data)] if rule is not None]
    neighbour = wire.read_neighbour(data, name_of)
    # The kernel makes those of multicast addresses in its own time, and ip(8) leaves them out.
    return [] if neighbour is None or neighbour.ip.is_multicast else [neighbour]


def shown(pod: PodNetns) -> NamespaceSurvey:
    """Read the namespace from what ip(8) prints."""
    (station,) = read_surveys(json.dumps([look("node", "pod", pod.path)]))
    return station


async def index_of(pod: PodNetns, name: str) -> int:
    """Return the index of a link."""
    return (await inside(pod, read_links))[name].index


# --- one model, two readers -----------------------------------------------------------------------


def fill(pod: PodNetns) -> None:
    """Make one of everything that the model knows."""
    pod.ip(
        "link",
        "add",
        "mv0",
        "link",
        "nic1",
        "address",
        "02:00:00:00:00:01",
        "type",
        "macvlan",
        "mode",
        "bridge",
    )
    pod.ip("link", "add", "br0", "mtu", "1400", "type", "bridge")
    pod.ip("link", "set", "mv0", "txqueuelen", "7")
    pod.ip("addr", "add", "10.3.0.5", "peer", "10.3.0.6/32", "dev", "mv0")
    pod.ip("route", "add", "default", "via", "10.1.0.1", "dev", "nic1")
    pod.ip(
        "route",
        "add",
        "10.50.0.0/16",
        "via",
        "10.99.0.1",
        "dev",
        "nic1",
        "onlink",
        "table",
        "500",
        "src",
        "10.1.0.5",
    )
    pod.ip("route", "add", "10.51.0.0/16", "dev", "nic2", "metric", "9", "scope", "link")
    pod.ip("route", "add", "blackhole", "10.52.0.0/16")
    pod.ip("-6", "route", "add", "default", "via", "fd00:1::1", "dev", "nic1")
    pod.ip(
        "-6",
        "route",
        "add",
        "fd00:50::/64",
        "via",
        "fd00:2::1",
        "dev",
        "nic2",
        "metric",
        "7",
        "table",
        "100",
    )
    pod.ip("rule", "add", "from", "10.1.0.5", "lookup", "101", "priority", "999")
    pod.ip(
        "rule",
        "add",
        "to",
        "10.9.0.0/16",
        "fwmark",
        "0x1/0xff",
        "iif",
        "nic1",
        "lookup",
        "500",
        "priority",
        "1000",
    )
    pod.ip("rule", "add", "fwmark", "0x0/0xff", "lookup", "100", "priority", "1001")
    pod.ip("rule", "add", "fwmark", "0x2", "lookup", "100", "priority", "1002")
    pod.ip("rule", "add", "oif", "nic1", "lookup", "100", "priority", "1003")
    pod.ip("rule", "add", "iif", "none", "lookup", "100", "priority", "1004")
    pod.ip("rule", "add", "from", "10.8.0.0/16", "prohibit", "priority", "1005")
    pod.ip("-6", "rule", "add", "from", "fd00:1::5", "lookup", "101", "priority", "999")
    pod.ip("neigh", "add", "10.1.0.9", "lladdr", "02:00:00:00:00:09", "dev", "nic1")
    pod.ip("neigh", "add", "10.1.0.8", "lladdr", "02:00:00:00:00:08", "dev", "nic1", "nud", "stale")
    pod.ip("neigh", "add", "10.1.0.7", "dev", "nic1", "nud", "failed")
    pod.ip("neigh", "add", "fd00:1::9", "lladdr", "02:00:00:00:00:09", "dev", "nic1")


async def test_one_model_of_a_namespace(pod: PodNetns) -> None:
    """Links, addresses, routes, rules and neighbours are the same values by netlink and by ip(8)."""
    fill(pod)
    station = shown(pod)
    links = await inside(pod, read_links)
    plain = {
        route for route in station.routes if route.type == UNICAST and route.table != LOCAL_TABLE
    }

    assert set(station.links) == set(links.values())
    assert {"lo", "nic1", "nic2", "mv0", "br0"} <= set(links)
    assert links["nic1"].index == links["mv0"].peer
    assert set(station.addresses) == await seen(pod, Address)
    assert plain == await seen(pod, Route)
    assert 5 < len(plain)
    # ip(8) does not say what a rule refuses by, so such a rule is `more` in both and no table is
    # told.
    assert set(station.rules) == await seen(pod, Rule)
    assert [999, 1000, 1001, 1002, 1003, 1004, 1005] == sorted(
        rule.priority or 0
        for rule in station.rules
        if rule.family == 4 and 0 < (rule.priority or 0) < 32766
    )
    assert [1003, 1004, 1005] == sorted(rule.priority or 0 for rule in station.rules if rule.more)
    neighbours = await seen(pod, Neighbour)
    assert set(station.neighbours) == neighbours
    assert {ip_address("10.1.0.7")} == {each.ip for each in neighbours if each.missing}


@pytest.mark.parametrize("family", [4, 6])
async def test_table_that_nobody_made(pod: PodNetns, family: int) -> None:
    """A table without any route is refused by the kernel at the end of a dump, and has no routes."""
    body = wire.ask_routes(family, 777)

    def work() -> list[bytes]:
        with RouteSocket() as netlink:
            with pytest.raises(Refusal, match="No such file or directory"):
                netlink.dump(rtnetlink.GET_ROUTE, body)
            return netlink.dump_routes(body)

    assert [] == await inside(pod, work)


# --- what the codec makes ------------------------------------------------------------------------


NIC1: dict[str, Item] = {
    "address": Address("nic1", ip_address("10.1.0.77"), 24),
    "address of IPv6": Address("nic1", ip_address("fd00:1::77"), 64),
    "route": Route(
        ip_network("10.60.0.0/16"),
        "nic1",
        gateway=ip_address("10.1.0.1"),
        src=ip_address("10.1.0.5"),
    ),
    "route of a high table": Route(ip_network("10.61.0.5/32"), "nic1", 500, scope=253, metric=5),
    "route on link": Route(
        ip_network("10.62.0.0/16"), "nic1", 100, gateway=ip_address("10.99.0.1"), onlink=True
    ),
    "default route": Route(ip_network("0.0.0.0/0"), "nic1", 101, gateway=ip_address("10.1.0.1")),
    "default route of IPv6": Route(
        ip_network("::/0"), "nic1", 101, gateway=ip_address("fd00:1::1"), metric=1024
    ),
    "route of IPv6": Route(
        ip_network("fd00:60::/48"), "nic1", gateway=ip_address("fd00:1::1"), metric=9
    ),
    "rule": Rule(4, 101, 999, src=ip_network("10.1.0.5/32")),
    "rule of a high table": Rule(4, 500, 1000),
    "rule of a mark": Rule(4, 100, 1000, mark=1),
    "rule of a mask": Rule(4, 100, 1000, mark=0x10, mask=0xF0),
    "rule of no mark": Rule(4, 100, 1000, mark=0, mask=0xF0),
    "rule to a network": Rule(4, 100, 1000, dst=ip_network("10.9.0.0/16"), iif="nic1"),
    "rule of IPv6": Rule(
        6, 101, 999, src=ip_network("fd00:1::5/128"), dst=ip_network("fd00:9::/48"), mark=3
    ),
    "neighbour": Neighbour(ip_address("10.1.0.99"), "nic1", "02:00:00:00:00:99"),
    "neighbour of IPv6": Neighbour(ip_address("fd00:1::99"), "nic1", "02:00:00:00:00:99"),
    "learned neighbour": Neighbour(
        ip_address("10.1.0.98"), "nic1", "02:00:00:00:00:98", permanent=False
    ),
}


@pytest.mark.parametrize("name", NIC1)
async def test_put_and_drop(pod: PodNetns, name: str) -> None:
    """What is put is read back as it is wanted, a second time is no error, and dropping gives back what was there."""
    item = NIC1[name]
    kind = type(item)
    index = 0 if kind is Rule else await index_of(pod, "nic1")
    before = await seen(pod, kind)

    await send(pod, wire.put_message(item, index), wire.put_message(item, index))
    made = await seen(pod, kind)
    await send(pod, wire.drop_message(item, index), wire.drop_message(item, index))

    assert {item} == made - before
    assert before == await seen(pod, kind)


@pytest.mark.parametrize(
    ("setting", "shows"),
    [
        (Setting(Kind.MAC, "nic1", "02:00:00:00:00:11"), ("mac", "02:00:00:00:00:11")),
        (Setting(Kind.TX_QUEUE_LEN, "nic1", "77"), ("tx_queue_len", 77)),
        (Setting(Kind.UP, "nic1", "False"), ("up", False)),
    ],
)
async def test_settings(pod: PodNetns, setting: Setting, shows: tuple[str, Any]) -> None:
    """A link's setting has the wanted value, in the kernel and by ip(8)."""
    await send(pod, wire.put_message(setting, await index_of(pod, "nic1")))

    link = (await inside(pod, read_links))["nic1"]
    assert shows[1] == getattr(link, shows[0])
    assert link == shown(pod).link("nic1")


async def test_veth_pair(pod: PodNetns) -> None:
    """A pair has one end here, up, and the other in the other namespace, each with its MAC and MTU."""
    pair = VethPair("veth-host", "veth0", 1450, "02:00:00:00:01:01", "02:00:00:00:01:02")
    with pod_netns() as other:
        fd = os.open(other.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await send(pod, wire.make_pair(pair, fd))
        finally:
            os.close(fd)
        host, end = (
            (await inside(pod, read_links))["veth-host"],
            (await inside(other, read_links))["veth0"],
        )

        assert ("veth", "02:00:00:00:01:01", 1450, True) == (host.kind, host.mac, host.mtu, host.up)
        assert ("veth", "02:00:00:00:01:02", 1450, False) == (end.kind, end.mac, end.mtu, end.up)
        assert (host.peer, end.peer) == (end.index, host.index)
        await send(pod, wire.remove_link(host.index), wire.remove_link(host.index))
        assert "veth0" not in await inside(other, read_links)


async def test_virtual_links(pod: PodNetns) -> None:
    """A macvlan on its parent, a bridge and what is in it: as ip(8) shows them."""
    nic1, nic2 = await index_of(pod, "nic1"), await index_of(pod, "nic2")
    bridge_mode = number(1, 4)  # IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE
    await send(
        pod,
        wire.make_link("mv0", "macvlan", bridge_mode, parent=nic1),
        wire.make_link("br0", "bridge"),
    )
    await send(
        pod,
        wire.set_master(nic2, await index_of(pod, "br0")),
        wire.set_up(await index_of(pod, "br0")),
    )

    details = {link["ifname"]: link for link in json.loads(pod.ip("-d", "-j", "link"))}
    assert ("nic1", "bridge") == (
        details["mv0"]["link"],
        details["mv0"]["linkinfo"]["info_data"]["mode"],
    )
    assert ("bridge", True) == (
        details["br0"]["linkinfo"]["info_kind"],
        "UP" in details["br0"]["flags"],
    )
    assert "br0" == details["nic2"]["master"]
    with pytest.raises(Refusal, match="File exists"):
        await send(pod, wire.make_link("br0", "bridge"))


# --- links of the node
# -----------------------------------------------------------------------------


async def test_steps(pod: PodNetns) -> None:
    """
    A link is set up and removed.

    Removing what is gone is no error, setting it up is one, with its name.
    """
    pod.ip("link", "add", "br0", "type", "bridge")

    await inside(pod, lambda: apply_step(SetUp("br0")))
    assert (await inside(pod, read_links))["br0"].up
    for _ in range(2):
        await inside(pod, lambda: apply_step(Remove("br0")))
    with pytest.raises(
        SpiderpoolError, match="interface br0 cannot be set up: interface br0 does not exist"
    ):
        await inside(pod, lambda: apply_step(SetUp("br0")))


async def test_vlan(pod: PodNetns) -> None:
    """A VLAN interface is what ip(8) shows of it; a kernel without them says so."""
    step = MakeVlan("nic1.100", "nic1", 100)
    if not can_make(pod, "link", "nic1", "type", "vlan", "id", "99"):
        with pytest.raises(
            Unsupported,
            match=r"nic1\.100 cannot be made: the kernel of this node has no VLAN interfaces",
        ):
            await inside(pod, lambda: apply_step(step))
        return
    await inside(pod, lambda: apply_step(step))

    link = (await inside(pod, read_links))["nic1.100"]
    assert ("vlan", 100, await index_of(pod, "nic1")) == (link.kind, link.vlan_id, link.peer)
    assert link == shown(pod).link("nic1.100")


async def test_bond(pod: PodNetns) -> None:
    """A bond has its options by ip(8), and takes an interface; a kernel without bonds says so."""
    step = MakeBond(Bond("bond0", 1, (("miimon", 100), ("fail_over_mac", 1), ("resend_igmp", 3))))
    if not can_make(pod, "type", "bond"):
        with pytest.raises(
            Unsupported, match=r"bond0 cannot be made: the kernel of this node has no bonds"
        ):
            await inside(pod, lambda: apply_step(step))
        return
    for each in (step, Enslave("nic1", "bond0")):
        await inside(pod, lambda each=each: apply_step(each))  # type: ignore[misc]

    details = {link["ifname"]: link for link in json.loads(pod.ip("-d", "-j", "link"))}
    data = details["bond0"]["linkinfo"]["info_data"]
    assert ("active-backup", 100, "active", 3) == tuple(
        data[key] for key in ("mode", "miimon", "fail_over_mac", "resend_igmp")
    )
    assert "bond0" == details["nic1"]["master"]


def can_make(pod: PodNetns, *arguments: str) -> bool:
    """Return whether ip(8) can make a link of a kind."""
    try:
        pod.ip("link", "add", "tried", *arguments)
    except subprocess.CalledProcessError:
        return False
    pod.ip("link", "delete", "tried")
    return True


# --- dumps that something changes under ----------------------------------------------------------


LINKS = 120  # more than fit into one datagram


class Meddling(socket.socket):
    """A routing socket that has something done after the first datagram of an answer."""

    def __init__(self, meddle: Callable[[], None], times: int) -> None:
        """Open it as the product does."""
        super().__init__(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self.settimeout(5)
        self.bind((0, 0))
        self._meddle, self._times, self._fresh = meddle, times, False

    def send(self, *arguments: Any) -> int:
        """Send a request."""
        self._fresh = True
        return super().send(*arguments)

    def recv(self, *arguments: Any) -> bytes:
        """Receive a datagram of the answer."""
        data = super().recv(*arguments)
        if self._fresh and self._times:
            self._fresh, self._times = False, self._times - 1
            self._meddle()
        return data


@pytest.fixture
def crowded(pod: PodNetns) -> PodNetns:
    """A namespace with so many links that the kernel tells them in several datagrams."""
    for place in range(LINKS // 2):
        pod.ip("link", "add", f"a{place}", "type", "veth", "peer", "name", f"b{place}")
    return pod


def change_links() -> None:
    """Make a link, and take it away again, in this thread's namespace."""
    with RouteSocket() as netlink:
        netlink.change([wire.make_link("passing", "bridge")])
        netlink.change([wire.remove_link(socket.if_nametoindex("passing"))])


async def test_interrupted_dump(crowded: PodNetns) -> None:
    """
    A list of links under which one comes and goes is read again, until nothing changes.

    All are in it.
    """

    def work() -> tuple[set[str], int]:
        with RouteSocket(Meddling(change_links, times=2)) as netlink:
            links = [
                wire.read_link(data) for data in netlink.dump(rtnetlink.GET_LINK, wire.ask_links())
            ]
            return {link.name for link in links}, netlink.sent

    names, sent = await inside(crowded, work)

    assert {f"{end}{place}" for end in "ab" for place in range(LINKS // 2)} <= names
    assert "passing" not in names
    assert 3 == sent


async def test_dump_that_is_interrupted_for_ever(crowded: PodNetns) -> None:
    """A list that changes under every read is nobody's to act on."""

    def work() -> None:
        with RouteSocket(Meddling(change_links, times=99)) as netlink:
            netlink.dump(rtnetlink.GET_LINK, wire.ask_links())

    with pytest.raises(TryAgain, match="changed during each"):
        await inside(crowded, work)


async def test_namespace_that_changes_for_ever(
    crowded: PodNetns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pod's namespace that cannot be read is told by its path, and never taken for an empty one."""
    files, proc = tmp_path / "netns", tmp_path / "proc"
    for folder in (files, proc / "self" / "ns"):
        folder.mkdir(parents=True)
    (proc / "self" / "ns" / "net").symlink_to(pod_namespaces.OWN)
    (files / "cni-1").symlink_to(crowded.path)
    monkeypatch.setattr(
        pod_namespaces, "RouteSocket", lambda: RouteSocket(Meddling(change_links, times=99))
    )

    with pytest.raises(TryAgain, match=r"namespace .*cni-1: .*changed during each"):
        await pod_namespaces.read_pod_namespaces({}, folder=files, proc=proc)
