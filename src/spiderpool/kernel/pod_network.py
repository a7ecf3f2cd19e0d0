"""
The network of one pod and its node, to read and to change.

One entry into the pod's namespace opens everything; after that any thread can read and change.

Functions block; the agent runs them in a few threads of its own.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.datapath.coordinator_plan import DISABLE_IPV6, RP_FILTER
from spiderpool.datapath.diff import Drop, Operation, Put
from spiderpool.datapath.plan_types import (
    Item,
    Kind,
    Picture,
    Setting,
    VethPair,
    View,
    link_settings,
)
from spiderpool.errors import NotFound, SpiderpoolError
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.rtnetlink import (
    GET_ADDRESS,
    GET_LINK,
    GET_NAMESPACE_ID,
    GET_NEIGHBOUR,
    GET_ROUTE,
    GET_RULE,
    MISSING,
    Keep,
    Message,
    Refusal,
    RouteSocket,
    containing,
)
from spiderpool.model.netns_contents import IPV4, IPV6, Address, Link, Neighbour, Route, Rule

SYSCTLS: Final = (RP_FILTER, DISABLE_IPV6)
PAIRED: Final = frozenset({"veth", "netkit"})  # kinds whose `peer` is the other end


@dataclass(slots=True)
class PodNetwork:
    """
    Open doors to a pod's namespace and its node's. A context manager.

    `sysctls` are open files: each belongs to the pod's namespace, wherever it is written from.
    """

    node: RouteSocket
    pod: RouteSocket
    pod_namespace: Namespaces
    sysctls: dict[str, int] = field(default_factory=dict)

    def close(self) -> None:
        """Close all."""
        self.node.close()
        self.pod.close()
        self.pod_namespace.close()
        for fd in self.sysctls.values():
            os.close(fd)
        self.sysctls = {}

    def inside(self, host: Namespaces) -> Namespaces:
        """Return the pod's network namespace with the node's files; open as long as both are."""
        return Namespaces((*host.fds, *self.pod_namespace.fds))

    @property
    def sent(self) -> int:
        """How often something was sent to the kernel."""
        return self.node.sent + self.pod.sent


def open_pod_network(netns: str) -> PodNetwork:
    """
    Enter a pod's namespace from the node's, and open the sockets of both.

    The thread stays in the pod's namespace, so it has to end afterwards (`Namespaces.run`).

    Raises:
        NotFound: there is no such namespace.
    """
    with contextlib.ExitStack() as undo:
        node = undo.enter_context(RouteSocket())
        namespace = undo.enter_context(Namespaces.network(netns))
        namespace.enter()
        pod = undo.enter_context(RouteSocket())
        sysctls: dict[str, int] = {}
        for name in SYSCTLS:
            with contextlib.suppress(OSError):  # a kernel without IPv6 has no such file
                sysctls[name] = os.open(
                    f"/proc/sys/{name.replace('.', '/')}", os.O_RDWR | os.O_CLOEXEC
                )
                undo.callback(os.close, sysctls[name])
        undo.pop_all()
    return PodNetwork(node, pod, namespace, sysctls)


# --- looking


def look(
    network: PodNetwork,
    ifname: str,
    container_id: str,
    default_nic: str,
    inner: str,
    *,
    host_table: int | None = None,
    told: Sequence[IPAddress] = (),
) -> View:
    """
    See all that a decision about a NIC needs.

    Args:
        network: the open pod network.
        ifname: the NIC.
        container_id: the sandbox.
        default_nic: name of the pod's first NIC.
        inner: name of the pod's end of the coordinator's pair, which leads to the node when it is
        there.
        host_table: the node's table for pods, when it may have entries without a rule.
        told: addresses of the NIC when it may be gone.
    """
    pod = look_at_pod(network)
    leading = pod.link(inner) or pod.link(default_nic)
    host_end = None if leading is None else find_host_end(network, leading)
    ips = [
        address.ip
        for address in pod.addresses
        if address.usable and address.dev not in {"lo", inner}
    ]
    mine = {address.ip for address in pod.addresses_of(ifname)} | set(told)
    node = look_at_node(network.node, mine, host_end, host_table)
    sources = {ip: source for ip in ips if (source := find_source(network.node, ip)) is not None}
    return View(ifname, container_id, pod, node, host_end, sources)


def look_at_pod(network: PodNetwork) -> Picture:
    """See everything in the pod's namespace."""
    links = sorted(
        (wire.read_link(data) for data in network.pod.dump(GET_LINK, wire.ask_links())),
        key=lambda link: link.index,
    )
    names = {link.index: link.name for link in links}
    name_of = _naming(names)
    items: set[Item] = set(link_settings(links))
    items |= _read_addresses(network.pod, name_of)
    for family in (IPV4, IPV6):
        items |= _read_routes(network.pod, wire.ask_routes(family), name_of)
    items |= _read_rules(network.pod)
    items |= _read_neighbours(network.pod, name_of)
    for name, fd in network.sysctls.items():
        items.add(Setting(Kind.SYSCTL, name, os.pread(fd, 64, 0).decode().strip()))
    return Picture(tuple(links), frozenset(items))


def look_at_node(
    node: RouteSocket,
    ips: Iterable[IPAddress],
    host_end: Link | None,
    host_table: int | None = None,
) -> Picture:
    """
    See the node's own addresses, its rules, and what it knows of these addresses.

    Neighbours are looked for where routes to the addresses lead: both are made together, and a node
    has thousands of others.
    """
    names = {} if host_end is None else {host_end.index: host_end.name}
    name_of = _asking(node, names)
    leading = set(names)
    known = tuple(ips)
    theirs = containing(ip.packed for ip in known)
    items: set[Item] = set(_read_addresses(node, name_of))
    rules = _read_rules(node)
    items |= rules
    # All tables that a rule looks up without a condition: the pods' own is among them, whatever its
    # number.
    tables = {(rule.family, rule.table) for rule in rules if rule.is_unconditional}
    if host_table is not None:
        tables |= {(ip.version, host_table) for ip in known}
    for family, table in sorted(tables):
        if known and table not in _KERNEL_TABLES:
            routes = _read_routes(node, wire.ask_routes(family, table), name_of, theirs)
            leading |= {
                index for index, name in names.items() if any(route.dev == name for route in routes)
            }
            items |= routes
    for index in sorted(leading):
        items |= {
            neighbour
            for neighbour in _read_neighbours(node, name_of, index)
            if neighbour.ip in known
        }
    links = tuple(Link(index, name) for index, name in sorted(names.items()))
    return Picture(links, frozenset(items))


_KERNEL_TABLES: Final = frozenset({253, 254, 255})


def find_host_end(network: PodNetwork, inner: Link) -> Link | None:
    """
    Return the node's end of a pair; None when it is not on this node.

    Indexes alone prove nothing: a pod with NET_ADMIN chooses those of a pair of its own, and may
    choose those of another pod's. What the node's end says of the namespace of its peer is the
    kernel's.
    """
    if inner.kind not in PAIRED or not inner.peer:
        return None
    try:
        data = network.node.get(GET_LINK, wire.ask_link(inner.peer))
        found = wire.read_link(data)
        if found.kind not in PAIRED or found.peer != inner.index:
            return None
        ((pod, _),) = network.pod_namespace.fds
        known = network.node.get(GET_NAMESPACE_ID, wire.ask_namespace_id(pod))
    except Refusal as error:
        if error.code in MISSING:
            return None
        raise
    theirs = wire.read_peer_namespace(data)
    return found if theirs is not None and theirs == wire.read_namespace_id(known) else None


def find_link(socket: RouteSocket, name: str) -> Link | None:
    """Return a link by its name."""
    try:
        return wire.read_link(socket.get(GET_LINK, wire.ask_link(name=name)))
    except Refusal as error:
        if error.code in MISSING:
            return None
        raise


def find_source(node: RouteSocket, ip: IPAddress) -> IPAddress | None:
    """Return the node's address from which it would reach another; None when it would not."""
    try:
        return wire.read_source(node.get(GET_ROUTE, wire.ask_route(ip)))
    except Refusal:
        return None


def _read_addresses(socket: RouteSocket, name_of: wire.NameOf) -> set[Item]:
    answers = socket.dump(GET_ADDRESS, wire.ask_addresses(), wire.is_no_link_local)
    found = (wire.read_address(data, name_of) for data in answers)
    return {address for address in found if not address.ip.is_link_local}


def _read_routes(
    socket: RouteSocket, body: bytes, name_of: wire.NameOf, keep: Keep | None = None
) -> set[Route]:
    answers = socket.dump_routes(body, keep)
    return {route for data in answers for route in wire.read_routes(data, name_of)}


def _read_rules(socket: RouteSocket) -> set[Rule]:
    answers = socket.dump(GET_RULE, wire.ask_rules())
    return {rule for data in answers if (rule := wire.read_rule(data)) is not None}


def _read_neighbours(socket: RouteSocket, name_of: wire.NameOf, index: int = 0) -> set[Neighbour]:
    answers = socket.dump(GET_NEIGHBOUR, wire.ask_neighbours(index))
    found = (wire.read_neighbour(data, name_of) for data in answers)
    return {neighbour for neighbour in found if neighbour is not None}


def _naming(names: dict[int, str]) -> wire.NameOf:
    """Return names of links that are known."""
    return lambda index: names.get(index, f"#{index}")


def _asking(socket: RouteSocket, names: dict[int, str]) -> wire.NameOf:
    """
    Return names of links, asking for each once.

    A node may have thousands, and few of them matter.
    """

    def name_of(index: int) -> str:
        if index not in names:
            try:
                names[index] = wire.read_link(socket.get(GET_LINK, wire.ask_link(index))).name
            except Refusal:
                names[index] = f"#{index}"  # gone meanwhile
        return names[index]

    return name_of


# --- changing


def make_pair(network: PodNetwork, pair: VethPair) -> None:
    """Make a veth pair; what is left of an earlier one of that name goes first."""
    stale = find_link(network.node, pair.host)
    if stale is not None:
        network.node.change([wire.remove_link(stale.index)])
    message = wire.make_pair(pair, network.pod_namespace.fds[0][0])
    _change(network.node, [message], [f"veth pair {pair.host} with {pair.pod}"])


def set_up(socket: RouteSocket, link: Link) -> None:
    """Set a link up."""
    _change(
        socket,
        [wire.put_message(Setting(Kind.UP, link.name, str(True)), link.index)],
        [f"cannot set {link.name} up"],
    )


def remove_link(socket: RouteSocket, name: str) -> None:
    """Remove a link with all that is on it; one that is gone is no error."""
    link = find_link(socket, name)
    if link is not None:
        # The other end of a veth pair goes with it, wherever it is.
        socket.change([wire.remove_link(link.index)])


def change_pod(network: PodNetwork, operations: Sequence[Operation], links: Iterable[Link]) -> None:
    """
    Carry out operations in the pod: sysctls, then the rest as one batch.

    Args:
        network: of the pod.
        operations: what to add and to drop.
        links: the pod's, as they were read; newer ones are looked up.
    Raises:
        SpiderpoolError: the kernel refuses one; the others are done.
        NotFound: a link that is to get something is not there.
    """
    # Sysctls first: with disable_ipv6 the kernel refuses IPv6 addresses (EACCES).
    rest = []
    for operation in operations:
        item = operation.item
        if isinstance(item, Setting) and item.kind is Kind.SYSCTL:
            if isinstance(operation, Put):
                _write_sysctl(network, item)
        else:
            rest.append(operation)
    _carry_out(network.pod, rest, links)


def change_node(
    network: PodNetwork, operations: Sequence[Operation], links: Iterable[Link]
) -> None:
    """
    Carry out operations on the node as one batch.

    Args:
        network: of the pod and its node.
        operations: what to add and to drop.
        links: the node's, as they were read; newer ones are looked up.
    Raises:
        SpiderpoolError: the kernel refuses one; the others are done.
        NotFound: a link that is to get something is not there.
    """
    _carry_out(network.node, operations, links)


def _carry_out(socket: RouteSocket, operations: Sequence[Operation], links: Iterable[Link]) -> None:
    indexes = {link.name: link.index for link in links}
    messages, titles = [], []
    for operation in operations:
        message = _message(operation, _finding(socket, indexes))
        if message is not None:
            messages.append(message)
            titles.append(_title(operation))
    _change(socket, messages, titles)


def _message(operation: Operation, index_of: Callable[[str], int | None]) -> Message | None:
    item = operation.item
    name = "" if isinstance(item, Rule) else item.name if isinstance(item, Setting) else item.dev
    index = index_of(name) if name else 0
    if isinstance(operation, Drop):
        # A setting that had no value keeps the one that it got; what was on a link that is gone is
        # gone.
        return (
            None if isinstance(item, Setting) or index is None else wire.drop_message(item, index)
        )
    if index is None:
        raise NotFound(f"link {name} is not there: {_title(operation)}")
    return wire.put_message(item, index)


def _finding(socket: RouteSocket, indexes: dict[str, int]) -> Callable[[str], int | None]:
    """Return indexes of links, asking for those that were made since the last look."""

    def index_of(name: str) -> int | None:
        if name not in indexes:
            link = find_link(socket, name)
            if link is None:
                return None
            indexes[name] = link.index
        return indexes[name]

    return index_of


def _change(socket: RouteSocket, messages: Sequence[Message], titles: Sequence[str]) -> None:
    try:
        socket.change(messages)
    except Refusal as error:
        raise SpiderpoolError(f"{titles[error.position]}: {error.message}") from error


def _write_sysctl(network: PodNetwork, item: Setting) -> None:
    fd = network.sysctls.get(item.name)
    if fd is None:
        raise SpiderpoolError(
            f"sysctl {item.name} cannot be set to {item.value} in the pod: this kernel does not "
            "have it"
        )
    try:
        os.pwrite(fd, item.value.encode(), 0)
    except OSError as error:
        raise SpiderpoolError(
            f"sysctl {item.name} cannot be set to {item.value} in the pod: {error.strerror}"
        ) from error


def _title(operation: Operation) -> str:
    verb = (
        "remove"
        if isinstance(operation, Drop)
        else "set"
        if isinstance(operation.item, Setting)
        else "add"
    )
    return f"cannot {verb} {describe(operation.item)}"


def describe(item: Item) -> str:
    """Name an item for a message, as ip(8) would."""
    match item:
        case Setting():
            return f"{item.kind} {item.value} of {item.name}"
        case Address():
            return f"address {item.ip}/{item.prefix_length} on {item.dev}"
        case Route():
            via = f" via {item.gateway}" if item.gateway else ""
            return f"route {item.dst}{via} dev {item.dev} table {item.table}"
        case Rule():
            source = f" from {item.src}" if item.src else ""
            to = f" to {item.dst}" if item.dst else ""
            mark = f" fwmark {item.mark:#x}" if item.mark else ""
            iif = f" iif {item.iif}" if item.iif else ""
            return f"rule{source}{to}{mark}{iif} lookup {item.table} (IPv{item.family})"
        case Neighbour():
            return f"neighbour {item.ip} dev {item.dev} lladdr {item.mac}"
