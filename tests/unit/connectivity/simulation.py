"""
The three pods on three nodes of docs/reference/packet-paths.md#the-pods, in the words of `ip`.

Nodes route un-encapsulated ("plain via node IP"). Pod1: Calico only, on node1. Pod2: Calico and
macvlan, on node2 (layout D).
Pod3: macvlan only, on node3 (layout A).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import pairwise
from typing import Final

from spiderpool.connectivity.firewall import read_firewall
from spiderpool.connectivity.survey import Ends, NamespaceSurvey, Tracked
from spiderpool.model.netns_contents import LOCAL_TABLE, MAIN_TABLE, Address, Link, Route, Rule

POD1, POD2, POD2_NET1, POD3 = "10.233.100.1", "10.233.101.2", "10.7.200.1", "10.7.200.2"
NODE1, NODE2, NODE3 = "10.7.168.71", "10.7.168.72", "10.7.168.73"
SERVICE: Final = "10.233.0.10"
TO_KUBE_FORWARD: Final = (
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'
)
INVALID_DROP: Final = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"

BORN: Final = (
    "0: from all lookup local\n32766: from all lookup main\n32767: from all lookup default"
)


TABLES: Final = {"local": LOCAL_TABLE, "main": MAIN_TABLE, "default": 253}

Nic = tuple[Link, tuple[Address, ...]]
"""An interface with its addresses."""


def routes(text: str, table: int = MAIN_TABLE) -> tuple[Route, ...]:
    """Read lines of `ip route`."""
    return tuple(_route(line.split(), table) for line in text.splitlines() if line.strip())


def _route(words: list[str], table: int) -> Route:
    kind = words.pop(0) if words[0] in {"blackhole", "unreachable"} else "unicast"
    pairs = dict(pairwise(words))
    via, source = pairs.get("via"), pairs.get("src")
    return Route(
        dst=ip_network("0.0.0.0/0" if words[0] == "default" else words[0]),
        dev=pairs.get("dev", ""),
        gateway=ip_address(via) if via else None,
        table=table,
        type=kind,
        src=ip_address(source) if source else None,
    )


def rules(text: str) -> tuple[Rule, ...]:
    """Read lines of `ip rule`."""
    return tuple(map(_rule, filter(str.strip, text.splitlines())))


def _rule(line: str) -> Rule:
    priority, _, rest = line.partition(":")
    words = rest.split()
    pairs = dict(pairwise(words))
    source = pairs["from"]
    return Rule(
        priority=int(priority),
        family=4,
        table=table_number(pairs["lookup"]),
        src=None if source == "all" else ip_network(source),
        mark=int(pairs["fwmark"], 16) if "fwmark" in pairs else None,
    )


def table_number(name: str) -> int:
    """Return the number of a routing table."""
    return TABLES[name] if name in TABLES else int(name)


def link(name: str, index: int, *addresses: str, kind: str = "", peer: int | None = None) -> Nic:
    """Make an interface with addresses."""
    return Link(index, name, kind=kind, peer=peer), tuple(
        Address(name, ip_address(ip), 32) for ip in addresses
    )


def station(
    node: str, pod: str, nics: tuple[Nic, ...], extra_rules: str = "", **tables: str
) -> NamespaceSurvey:
    """Make a namespace from links, rules besides those it is born with, and tables (`main`, `t100` …)."""
    addresses = tuple(address for _, own in nics for address in own)
    shown = tuple(
        route
        for name, text in tables.items()
        for route in routes(text, table_number(name.removeprefix("t")))
    )
    return NamespaceSurvey(
        node,
        pod,
        tuple(made for made, _ in nics),
        addresses,
        rules(f"{BORN}\n{extra_rules}"),
        (*_own(addresses), *shown),
    )


def _own(addresses: tuple[Address, ...]) -> Iterator[Route]:
    """Return what the kernel writes into the table `local` for addresses."""
    for address in addresses:
        yield Route(ip_network(address.ip), address.dev, table=LOCAL_TABLE, type="local")


def node(
    number: int, address: str, nics: tuple[Nic, ...], pods: str, table500: str = ""
) -> NamespaceSurvey:
    """Make a node: the underlay's NIC, routes to the other nodes' pods, the rule of table 500."""
    others = {1: NODE1, 2: NODE2, 3: NODE3}
    remote = "\n".join(
        f"10.233.{99 + n}.0/26 via {a} dev ens192" for n, a in others.items() if n != number
    )
    main = f"""default via 10.7.0.1 dev ens192
        10.7.0.0/16 dev ens192 proto kernel scope link src {address}
        blackhole 10.233.{99 + number}.0/26
        {remote}
        {pods}"""
    everything = (link("ens192", 2, address), *nics)
    return station(
        f"node{number}", "", everything, "1000: from all lookup 500", main=main, t500=table500
    )


NODE1_STATION: Final = node(
    1, NODE1, (link("cali1", 11, kind="veth", peer=3),), f"{POD1} dev cali1 scope link"
)
NODE2_STATION: Final = node(
    2,
    NODE2,
    (link("cali2", 12, kind="veth", peer=3),),
    f"{POD2} dev cali2 scope link",
    f"{POD2_NET1} dev cali2 scope link",
)
NODE3_STATION: Final = node(
    3, NODE3, (link("veth3", 13, kind="veth", peer=4),), "", f"{POD3} dev veth3 scope link"
)

POD1_STATION: Final = station(
    "node1",
    "pod1",
    (link("eth0", 3, POD1, kind="veth", peer=11),),
    main="default via 169.254.1.1 dev eth0\n169.254.1.1 dev eth0 scope link",
)
POD2_STATION: Final = station(
    "node2",
    "pod2",
    (
        link("eth0", 3, POD2, kind="veth", peer=12),
        link("net1", 4, POD2_NET1, kind="macvlan", peer=2),
    ),
    f"32764: from {POD2} lookup 100\n32765: from {POD2_NET1} lookup 101",
    main=f"""default via 169.254.1.1 dev eth0
        10.7.0.0/16 dev net1 proto kernel scope link src {POD2_NET1}
        {NODE2} dev eth0 scope link src {POD2}
        10.233.0.0/18 via {NODE2} dev eth0 src {POD2}
        10.233.64.0/18 via {NODE2} dev eth0 src {POD2}
        169.254.0.0/16 via {NODE2} dev eth0 src {POD2}
        169.254.1.1 dev eth0 scope link""",
    t100="default via 169.254.1.1 dev eth0",
    t101=f"""default via 10.7.0.1 dev net1
        10.7.0.0/16 dev net1 scope link src {POD2_NET1}
        {NODE2} dev eth0 scope link src {POD2}""",
)
POD3_STATION: Final = station(
    "node3",
    "pod3",
    (link("eth0", 3, POD3, kind="macvlan", peer=2), link("veth0", 4, kind="veth", peer=13)),
    "1000: from all fwmark 0x1 lookup 100",
    main=f"""default via 10.7.0.1 dev eth0
        10.7.0.0/16 dev eth0 proto kernel scope link src {POD3}
        {NODE3} dev veth0 scope link src {POD3}
        10.233.0.0/18 via {NODE3} dev veth0 src {POD3}
        10.233.64.0/18 via {NODE3} dev veth0 src {POD3}
        169.254.0.0/16 via {NODE3} dev veth0 src {POD3}""",
    t100=f"default via {NODE3} dev veth0 src {POD3}",
)
SIMULATION: Final = (
    NODE1_STATION,
    NODE2_STATION,
    NODE3_STATION,
    POD1_STATION,
    POD2_STATION,
    POD3_STATION,
)


def ends(
    source: str, destination: str, source_port: int = 40000, destination_port: int = 80
) -> Ends:
    """Make one direction of a connection."""
    return Ends(ip_address(source), source_port, ip_address(destination), destination_port)


def tracked(
    original: Ends, reply: Ends, state: str = "ESTABLISHED", *, replied: bool = True, mark: int = 0
) -> Tracked:
    """Make what conntrack knows of a connection."""
    return Tracked("tcp", state, original, reply, replied=replied, assured=replied, mark=mark)


def seen(
    world: tuple[NamespaceSurvey, ...],
    name: str,
    *connections: Tracked,
    drops: int | None = None,
    table: str = "",
) -> tuple[NamespaceSurvey, ...]:
    """
    Return a world in which a namespace tracks connections and has rules.

    Args:
        world: as it was.
        name: the namespace.
        connections: what it tracks.
        drops: packets that kube-proxy's rule against INVALID ones had; None: no such rule.
        table: further rules, as `iptables-save -c` prints them, in front of kube-proxy's.
    """
    own = "" if drops is None else f"[0:0] {TO_KUBE_FORWARD}\n[{drops}:0] {INVALID_DROP}"
    firewalls = {4: read_firewall(f"{table}\n{own}")}
    return tuple(
        replace(each, tracked=connections, firewalls=firewalls) if each.name == name else each
        for each in world
    )
