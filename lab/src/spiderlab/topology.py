"""Who has which name and address: nodes, networks, gateways. Pure; touches nothing.

```
 sl-client 10.9.0.2
     │ outside
 sl-router ── gateways: 172.18.0.1 (node network), 10.6.0.1 (ens192), 10.7.0.1 (ens224) ── uplink ──
 the machine, 169.254.77.1
     │        │        │
 sl-switch: bridges node, ens192, ens224
     │        │        │
 sl-NODE:   eth0    ens192   ens224
```
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from spiderlab.errors import LabError
from spiderlab.peers import QUICK, Peers

SWITCH, ROUTER, CLIENT = "sl-switch", "sl-router", "sl-client"
HOST_LINK = "sl-uplink"

# Link-local addresses: no real route can be in their way, and nobody takes them for a node's
# address.
HOST_ADDRESS = IPv4Interface("169.254.77.1/30")
ROUTER_HOST_ADDRESS = IPv4Interface("169.254.77.2/30")

POD_NETWORK, POD_NETWORK6 = IPv4Network("10.233.64.0/18"), IPv6Network("fd00:64::/56")
SERVICE_NETWORK, SERVICE_NETWORK6 = IPv4Network("10.233.0.0/18"), IPv6Network("fd00:233::/108")
FIRST_POD_BLOCK = 36  # node1 gets 10.233.100.0/24, as in the documents of the product
MAX_NODES = 20
NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LONGEST_NAME = 40  # the file name of a namespace stays short

MAC_PREFIX = (0x02, 0x5B)
"""Locally administered."""

DEFAULT_NODES = ("node1", "node2", "node3")
API_PORT = 6443


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One layer 2 network.

    A bridge in the switch, a NIC of this name on each node, a gateway on the router.
    """

    name: str
    bridge: str
    network: IPv4Network
    network6: IPv6Network
    first_node: int
    """The number of node1's address in `network`; the next nodes follow."""

    @property
    def gateway(self) -> IPv4Interface:
        """The router's address, the network's first."""
        return IPv4Interface((self.network[1], self.network.prefixlen))

    @property
    def gateway6(self) -> IPv6Interface:
        """The router's IPv6 address, the network's first."""
        return IPv6Interface((self.network6[1], self.network6.prefixlen))

    def address(self, index: int) -> IPv4Interface:
        """The address of the node with this index (0 is the first)."""
        return IPv4Interface((self.network[self.first_node + index], self.network.prefixlen))

    def mac(self, index: int) -> str:
        """
        The MAC address of the node's NIC.

        Of its own for ever, so that neighbours of a rebooted node still know it.
        """
        return ":".join(f"{byte:02x}" for byte in (*MAC_PREFIX, *self.address(index).ip.packed))

    def address6(self, index: int) -> IPv6Interface:
        """The IPv6 address of the node with this index."""
        return IPv6Interface((self.network6[0x11 + index], self.network6.prefixlen))


NODE_NETWORK = Segment(
    "eth0", "node", IPv4Network("172.18.0.0/16"), IPv6Network("fd00:18::/64"), 11
)
ENS192 = Segment(
    "ens192", "ens192", IPv4Network("10.6.0.0/16"), IPv6Network("fd00:6::/64"), 168 * 256 + 71
)
ENS224 = Segment(
    "ens224", "ens224", IPv4Network("10.7.0.0/16"), IPv6Network("fd00:7::/64"), 168 * 256 + 71
)
SEGMENTS = (NODE_NETWORK, ENS192, ENS224)

OUTSIDE, OUTSIDE6 = IPv4Network("10.9.0.0/24"), IPv6Network("fd00:9::/64")
OUTSIDE_GATEWAY, OUTSIDE_GATEWAY6 = IPv4Interface("10.9.0.1/24"), IPv6Interface("fd00:9::1/64")
CLIENT_ADDRESS, CLIENT_ADDRESS6 = IPv4Interface("10.9.0.2/24"), IPv6Interface("fd00:9::2/64")


@dataclass(frozen=True, slots=True)
class Node:
    """One node; everything about it follows from its name and its place in the list."""

    name: str
    index: int

    @property
    def namespace(self) -> str:
        """The name of its network namespace on the machine."""
        return f"sl-{self.name}"

    @property
    def ip(self) -> IPv4Address:
        """Its InternalIP."""
        return NODE_NETWORK.address(self.index).ip

    @property
    def ip6(self) -> IPv6Address:
        """Its IPv6 InternalIP."""
        return NODE_NETWORK.address6(self.index).ip

    @property
    def pods(self) -> IPv4Network:
        """The block its pods' addresses come from."""
        return list(POD_NETWORK.subnets(new_prefix=24))[FIRST_POD_BLOCK + self.index]

    @property
    def pods6(self) -> IPv6Network:
        """The IPv6 block its pods' addresses come from."""
        return IPv6Network((int(POD_NETWORK6[0]) + ((FIRST_POD_BLOCK + self.index) << 64), 64))

    def port(self, segment: Segment) -> str:
        """The name of the switch's end of this node's link in a segment (at most 15 characters)."""
        return f"n{self.index + 1}-{segment.bridge}"


@dataclass(frozen=True)
class Topology:
    """The lab as asked for; all the rest is derived from it."""

    nodes: tuple[Node, ...]
    ipv6: bool = True
    peers: Peers = QUICK

    @cached_property
    def control_plane(self) -> Node:
        """
        The node whose namespaces etcd, API server, controller manager and scheduler run in.

        The first.
        """
        return self.nodes[0]

    @property
    def api_server(self) -> str:
        """The URL that nodes and the machine reach the API server at."""
        return f"https://{self.control_plane.ip}:{API_PORT}"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """All network namespaces of the lab."""
        return (SWITCH, ROUTER, CLIENT, *(node.namespace for node in self.nodes))

    @property
    def pod_networks(self) -> str:
        """Pod networks, joined as Kubernetes' flags want them."""
        return f"{POD_NETWORK},{POD_NETWORK6}" if self.ipv6 else str(POD_NETWORK)

    @property
    def service_networks(self) -> str:
        """Service networks, joined as Kubernetes' flags want them."""
        return f"{SERVICE_NETWORK},{SERVICE_NETWORK6}" if self.ipv6 else str(SERVICE_NETWORK)

    def node(self, name: str) -> Node:
        """The node of this name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LabError(
            f"there is no node {name}; the lab has {', '.join(n.name for n in self.nodes)}"
        )


def parse_topology(names: Sequence[str], *, ipv6: bool = True, peers: Peers = QUICK) -> Topology:
    """Check the nodes' names and number them."""
    if not names:
        raise LabError("no node named: give at least one, such as --nodes node1")
    if len(names) > MAX_NODES:
        raise LabError(
            f"{len(names)} nodes asked for, at most {MAX_NODES} fit into the pod network"
        )
    if len(set(names)) != len(names):
        raise LabError(f"node names repeat in {','.join(names)}")
    for name in names:
        if not NODE_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            raise LabError(
                f"node name {name!r}: use lower-case letters, digits and '-', at most 40, as "
                "Kubernetes asks"
            )
        if f"sl-{name}" in {SWITCH, ROUTER, CLIENT}:
            raise LabError(
                f"node name {name!r} is the name of one of the lab's own network namespaces; "
                "choose another"
            )
    return Topology(tuple(Node(name, index) for index, name in enumerate(names)), ipv6, peers)
