"""The lab's links, addresses, routes and sysctls, as `ip -batch` lines by namespace. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from spiderlab.peers import Cni
from spiderlab.topology import (
    CLIENT,
    CLIENT_ADDRESS,
    CLIENT_ADDRESS6,
    HOST_LINK,
    NODE_NETWORK,
    OUTSIDE_GATEWAY,
    OUTSIDE_GATEWAY6,
    POD_NETWORK,
    POD_NETWORK6,
    ROUTER,
    ROUTER_HOST_ADDRESS,
    SEGMENTS,
    SWITCH,
    Node,
    Topology,
)


@dataclass(frozen=True, slots=True)
class Wiring:
    """What one namespace gets, in this order: settings, links, iptables rules."""

    namespace: str
    sysctls: dict[str, str]
    batch: tuple[str, ...]
    iptables: tuple[str, ...] = ()
    """Arguments after `iptables`; those with an IPv6 network are for ip6tables."""
    ip6tables: tuple[str, ...] = ()


FORWARDING = {
    "net.ipv4.ip_forward": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
}
# Nobody else is on these wires, and an address that is "tentative" for a second fails a program
# that binds it.
QUIET_IPV6 = {
    "net.ipv6.conf.all.accept_dad": "0",
    "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.default.accept_ra": "0",
}
NO_IPV6 = {"net.ipv6.conf.all.disable_ipv6": "1", "net.ipv6.conf.default.disable_ipv6": "1"}


def _ipv6_settings(topology: Topology) -> dict[str, str]:
    return QUIET_IPV6 if topology.ipv6 else NO_IPV6


def plan_switch() -> Wiring:
    """Bridges without addresses: frames pass, the switch itself takes no part."""
    batch = []
    for segment in SEGMENTS:
        batch += [
            f"link add {segment.bridge} type bridge forward_delay 0",
            f"link set {segment.bridge} up",
        ]
    bridged = {f"net.bridge.bridge-nf-call-{family}tables": "0" for family in ("ip", "ip6", "arp")}
    return Wiring(SWITCH, {**NO_IPV6, **bridged}, tuple(batch))


def plan_router(topology: Topology) -> Wiring:
    """
    Gateways of all segments, the outside network, and the machine's link.

    No default route, so nothing leaves.
    """
    batch = ["link set lo up"]
    for segment in SEGMENTS:
        batch.append(
            f"link add {segment.bridge} type veth peer name gw-{segment.bridge} netns {SWITCH}"
        )
        batch.append(f"addr add {segment.gateway} dev {segment.bridge}")
        if topology.ipv6:
            batch.append(f"addr add {segment.gateway6} dev {segment.bridge} nodad")
        batch.append(f"link set {segment.bridge} up")
    batch.append(f"link add outside type veth peer name eth0 netns {CLIENT}")
    batch.append(f"addr add {OUTSIDE_GATEWAY} dev outside")
    if topology.ipv6:
        batch.append(f"addr add {OUTSIDE_GATEWAY6} dev outside nodad")
    batch.append("link set outside up")
    batch += [f"addr add {ROUTER_HOST_ADDRESS} dev {HOST_LINK}", f"link set {HOST_LINK} up"]
    return Wiring(ROUTER, {**FORWARDING, **_ipv6_settings(topology)}, tuple(batch))


def plan_switch_ports() -> Wiring:
    """Plug the router's ends into the bridges."""
    batch = []
    for segment in SEGMENTS:
        batch += [
            f"link set gw-{segment.bridge} master {segment.bridge}",
            f"link set gw-{segment.bridge} up",
        ]
    return Wiring(SWITCH, {}, tuple(batch))


def plan_client(topology: Topology) -> Wiring:
    """One host outside of the cluster that knows the router only."""
    batch = ["link set lo up", f"addr add {CLIENT_ADDRESS} dev eth0"]
    if topology.ipv6:
        batch.append(f"addr add {CLIENT_ADDRESS6} dev eth0 nodad")
    batch += ["link set eth0 up", f"route add default via {OUTSIDE_GATEWAY.ip}"]
    if topology.ipv6:
        batch.append(f"route add default via {OUTSIDE_GATEWAY6.ip}")
    return Wiring(CLIENT, _ipv6_settings(topology), tuple(batch))


def plan_node(topology: Topology, node: Node) -> Wiring:
    """
    NICs and addresses of a node.

    With the lab's own default network also routes to the other nodes' pods, and masquerade;
    another default network makes both by itself.
    """
    batch = ["link set lo up"]
    for segment in SEGMENTS:
        link = f"link add {segment.name} address {segment.mac(node.index)}"
        batch.append(f"{link} type veth peer name {node.port(segment)} netns {SWITCH}")
        batch.append(f"addr add {segment.address(node.index)} dev {segment.name}")
        if topology.ipv6:
            batch.append(f"addr add {segment.address6(node.index)} dev {segment.name} nodad")
        batch.append(f"link set {segment.name} up")
    own_network = topology.peers.cni is Cni.LAB_CALICO
    batch += _default_routes(topology)
    batch += _pod_routes(topology, node) if own_network else ()
    masquerade = (
        "-t nat -A POSTROUTING -s {0} ! -d {0} -m comment --comment lab-nat-outgoing -j MASQUERADE"
    )
    return Wiring(
        node.namespace,
        {**FORWARDING, **_ipv6_settings(topology), "net.ipv4.conf.all.arp_notify": "1"},
        tuple(batch),
        iptables=(masquerade.format(POD_NETWORK),) if own_network else (),
        ip6tables=(masquerade.format(POD_NETWORK6),) if own_network and topology.ipv6 else (),
    )


def _default_routes(topology: Topology) -> Iterator[str]:
    yield f"route add default via {NODE_NETWORK.gateway.ip} dev eth0"
    if topology.ipv6:
        yield f"route add default via {NODE_NETWORK.gateway6.ip} dev eth0"


def _pod_routes(topology: Topology, node: Node) -> Iterator[str]:
    yield f"route add blackhole {node.pods}"
    if topology.ipv6:
        yield f"route add blackhole {node.pods6}"
    for other in topology.nodes:
        if other != node:
            yield f"route add {other.pods} via {other.ip} dev eth0"
            if topology.ipv6:
                yield f"route add {other.pods6} via {other.ip6} dev eth0"


def plan_node_ports(node: Node) -> Wiring:
    """Plug a node's three links into the switch."""
    batch = []
    for segment in SEGMENTS:
        batch += [
            f"link set {node.port(segment)} master {segment.bridge}",
            f"link set {node.port(segment)} up",
        ]
    return Wiring(SWITCH, {}, tuple(batch))
