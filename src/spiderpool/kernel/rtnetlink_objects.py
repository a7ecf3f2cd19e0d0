"""Links, addresses, routes, rules and neighbours, from and to messages of the routing netlink."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.datapath.plan_types import Item, Kind, Setting, VethPair
from spiderpool.kernel.rtnetlink import (
    APPEND,
    CREATE,
    DEL_ADDRESS,
    DEL_LINK,
    DEL_NEIGHBOUR,
    DEL_ROUTE,
    DEL_RULE,
    EXCL,
    MISSING,
    NEW_ADDRESS,
    NEW_LINK,
    NEW_NEIGHBOUR,
    NEW_ROUTE,
    NEW_RULE,
    REPLACE,
    Message,
    attribute,
    attributes,
    nested,
    number,
    read_number,
    read_short_number,
    read_text,
    text,
)
from spiderpool.model.netns_contents import (
    ALL_MARKS,
    IPV4,
    IPV6,
    LINK_SCOPE,
    LOCAL_TABLE,
    Address,
    Link,
    Neighbour,
    Route,
    Rule,
)

FAMILIES: Final = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
_VERSIONS: Final = {socket.AF_INET.value: IPV4, socket.AF_INET6.value: IPV6}

_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_SCOPE_OFFSET: Final = 3  # in an address
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_RULE: Final = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR: Final = struct.Struct("=BxHiHBB")
_HOP: Final = struct.Struct("=HBBi")
_GENERIC: Final = struct.Struct("=B3x")  # rtgenmsg

_UP, _BROADCAST, _LOOPBACK, _MULTICAST = 0x1, 0x2, 0x8, 0x1000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_TXQLEN = 1, 3, 4, 5, 10, 13
_IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = 18, 28, 29
_IFLA_LINK_NETNSID, _IFLA_PARENT_DEV_NAME = 37, 56
_NETNSA_NSID, _NETNSA_FD, _NO_NAMESPACE_ID = 1, 3, 0xFFFFFFFF  # net_namespace.h: -1 = not assigned

_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFLA_VLAN_ID: Final = 1
_SKIP_STATISTICS: Final = 1 << 3  # RTEXT_FILTER_SKIP_STATS: half of a link's message
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_GLOBAL_SCOPE: Final = 0  # RT_SCOPE_UNIVERSE
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC = 1, 4, 5, 6, 7
_RTA_METRICS, _RTA_MULTIPATH, _RTA_TABLE = 8, 9, 15
_UNICAST: Final = 1
_PROTO_BOOT: Final = 3  # as Go's netlink library and ip(8) write routes that nobody manages
_RTNH_F_ONLINK: Final = 0x4
_RTM_F_CLONED: Final = 0x200
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_FWMARK = 1, 2, 3, 6, 10
_FRA_SUPPRESS_IFGROUP, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE, _FRA_FWMASK, _FRA_PROTOCOL = (
    13,
    14,
    15,
    16,
    21,
)
_RULE_KEYS: Final = {
    _FRA_DST,
    _FRA_SRC,
    _FRA_IIFNAME,
    _FRA_PRIORITY,
    _FRA_FWMARK,
    _FRA_TABLE,
    _FRA_FWMASK,
} | {
    _FRA_SUPPRESS_IFGROUP,
    _FRA_SUPPRESS_PREFIXLEN,
    _FRA_PROTOCOL,
}
_TO_TABLE: Final = 1
_NDA_DST, _NDA_LLADDR, _NDA_IFINDEX = 1, 2, 8
_PERMANENT, _STALE = 0x80, 0x04
_MISSING: Final = 0x01 | 0x20  # NUD_INCOMPLETE, NUD_FAILED
_PROXY: Final = 0x8
_OFF: Final = 0xFFFFFFFF  # -1, of a suppressor
_WORD: Final = 0xFF

NameOf = Callable[[int], str]
"""Returns the name of a link's index."""


# --- requests


def ask_links() -> bytes:
    """Ask for all links."""
    return _LINK.pack(0, 0, 0, 0, 0) + number(_IFLA_EXT_MASK, _SKIP_STATISTICS)


def ask_link(index: int = 0, name: str = "") -> bytes:
    """Ask for one link."""
    named = text(_IFLA_IFNAME, name) if name else b""
    return _LINK.pack(0, 0, index, 0, 0) + named + number(_IFLA_EXT_MASK, _SKIP_STATISTICS)


def ask_namespace_id(fd: int) -> bytes:
    """Ask for the number that the socket's namespace knows another one by; `fd` means that one."""
    return _GENERIC.pack(0) + number(_NETNSA_FD, fd)


def ask_addresses() -> bytes:
    """Ask for all addresses."""
    return _ADDRESS.pack(0, 0, 0, 0, 0)


def ask_routes(family: int, table: int = 0) -> bytes:
    """Ask for the unicast routes of a family, and of a table when one is given."""
    wanted = number(_RTA_TABLE, table) if table else b""
    return _ROUTE.pack(FAMILIES[family], 0, 0, 0, 0, 0, 0, _UNICAST, 0) + wanted


def ask_route(ip: IPAddress) -> bytes:
    """Ask how an address is reached."""
    return _ROUTE.pack(FAMILIES[ip.version], ip.max_prefixlen, 0, 0, 0, 0, 0, 0, 0) + attribute(
        _RTA_DST, ip.packed
    )


def ask_rules() -> bytes:
    """Ask for the rules of all families."""
    return _RULE.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)


def ask_neighbours(index: int = 0) -> bytes:
    """Ask for the neighbours on a link, or on all."""
    wanted = number(_NDA_IFINDEX, index) if index else b""
    return _NEIGHBOUR.pack(0, 0, 0, 0, 0, 0) + wanted


# --- answers


def read_link(data: bytes) -> Link:
    """Read a link."""
    _, _, index, flags, _ = _LINK.unpack_from(data)
    found = attributes(data, _LINK.size)
    info = attributes(found.get(_IFLA_LINKINFO, b""), 0)
    kind = read_text(info.get(_IFLA_INFO_KIND))
    shared = _UP | _BROADCAST | _MULTICAST
    return Link(
        index=index,
        name=read_text(found.get(_IFLA_IFNAME)),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=read_number(found.get(_IFLA_MTU)) or 0,
        up=bool(flags & _UP),
        shared=flags & shared == shared,
        tx_queue_len=read_number(found.get(_IFLA_TXQLEN)) or 0,
        peer=read_number(found.get(_IFLA_LINK)) or None,
        kind=kind,
        vlan_id=read_short_number(attributes(info.get(_IFLA_INFO_DATA, b""), 0).get(_IFLA_VLAN_ID))
        if kind == "vlan"
        else None,
    )


def read_peer_namespace(data: bytes) -> int | None:
    """Return the number of the namespace of a link's `peer`; None = the link's own, or unknown."""
    return read_number(attributes(data, _LINK.size).get(_IFLA_LINK_NETNSID))


def read_namespace_id(data: bytes) -> int | None:
    """Read the answer to `ask_namespace_id`; a namespace that was never met has none."""
    found = read_number(attributes(data, _GENERIC.size).get(_NETNSA_NSID))
    return None if found == _NO_NAMESPACE_ID else found


def is_parent_outside(data: bytes) -> bool:
    """Return whether the index of a link's `peer` is that of another network namespace."""
    return _IFLA_LINK_NETNSID in attributes(data, _LINK.size)


def read_parent_device(data: bytes) -> str:
    """
    Return the device of a link, such as its PCI address.

    Empty for virtual links, and before Linux 5.14.
    """
    return read_text(attributes(data, _LINK.size).get(_IFLA_PARENT_DEV_NAME))


def is_no_loopback(data: bytes, start: int, _: int) -> bool:
    """Return whether a link is not the loopback, by its header alone, without decoding it."""
    _, _, _, flags, _ = _LINK.unpack_from(data, start)
    return not flags & _LOOPBACK


def is_no_link_local(data: bytes, start: int, _: int) -> bool:
    """
    Return whether an address may matter, by its header alone, without decoding it.

    Every veth has an IPv6 link-local one.
    """
    return data[start] != socket.AF_INET6 or data[start + _SCOPE_OFFSET] != LINK_SCOPE


def is_given(data: bytes, start: int, _: int) -> bool:
    """
    Return whether an address was given: for good, and for more than this link; by its header.

    What a router's advertisement gave has a lifetime instead.
    """
    _, _, flags, scope, _ = _ADDRESS.unpack_from(data, start)
    return bool(flags & _IFA_F_PERMANENT) and scope == _GLOBAL_SCOPE


def read_address(data: bytes, name_of: NameOf) -> Address:
    """Read an address."""
    family, length, _, _, index = _ADDRESS.unpack_from(data)
    found = attributes(data, _ADDRESS.size)
    # On a link with a peer address, IFA_ADDRESS is the peer's.
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return Address(name_of(index), _ip(family, packed), length)


def read_routes(data: bytes, name_of: NameOf) -> Iterable[Route]:
    """Read a route: one for each next hop; none for what is no plain unicast route."""
    family, length, _, _, table, _, scope, kind, flags = _ROUTE.unpack_from(data)
    found = attributes(data, _ROUTE.size)
    table = read_number(found.get(_RTA_TABLE)) or table
    if family not in _VERSIONS or kind != _UNICAST or table == LOCAL_TABLE or flags & _RTM_F_CLONED:
        return
    dst = _network(family, found.get(_RTA_DST), length)
    for index, gateway, hop_flags in _hops(found, flags):
        yield Route(
            dst=dst,
            dev=name_of(index),
            table=table,
            gateway=None if gateway is None else _ip(family, gateway),
            src=None if _RTA_PREFSRC not in found else _ip(family, found[_RTA_PREFSRC]),
            scope=scope if family == socket.AF_INET else 0,
            metric=read_number(found.get(_RTA_PRIORITY)) or 0,
            onlink=bool(hop_flags & _RTNH_F_ONLINK),
        )


def read_source(data: bytes) -> IPAddress | None:
    """Read from which address the node would send, out of the answer to `ask_route`."""
    family = data[0]
    packed = attributes(data, _ROUTE.size).get(_RTA_PREFSRC)
    return None if packed is None else _ip(family, packed)


def read_rule(data: bytes) -> Rule | None:
    """Read a rule; None for another family's."""
    family, dst_length, src_length, tos, table, _, _, action, flags = _RULE.unpack_from(data)
    if family not in _VERSIONS:
        return None
    found = attributes(data, _RULE.size)
    mark, mask = read_number(found.get(_FRA_FWMARK)), read_number(found.get(_FRA_FWMASK))
    if mark is None and mask is not None:
        mark = 0  # the kernel leaves it out
    suppresses = any(
        read_number(found.get(key)) not in {None, _OFF}
        for key in (_FRA_SUPPRESS_PREFIXLEN, _FRA_SUPPRESS_IFGROUP)
    )
    more = bool(found.keys() - _RULE_KEYS or tos or flags or action != _TO_TABLE or suppresses)
    return Rule(
        family=_VERSIONS[family],
        table=read_number(found.get(_FRA_TABLE)) or table,
        priority=read_number(found.get(_FRA_PRIORITY)) or 0,
        src=_network(family, found[_FRA_SRC], src_length) if _FRA_SRC in found else None,
        mark=mark,
        dst=_network(family, found[_FRA_DST], dst_length) if _FRA_DST in found else None,
        mask=ALL_MARKS if mask is None else mask,
        iif=read_text(found.get(_FRA_IIFNAME)),
        more=more,
    )


def read_neighbour(data: bytes, name_of: NameOf) -> Neighbour | None:
    """Read a neighbour; None for a proxy's or another family's."""
    family, _, index, state, flags, _ = _NEIGHBOUR.unpack_from(data)
    found = attributes(data, _NEIGHBOUR.size)
    if family not in _VERSIONS or flags & _PROXY or _NDA_DST not in found:
        return None
    return Neighbour(
        ip=_ip(family, found[_NDA_DST]),
        dev=name_of(index),
        mac=found.get(_NDA_LLADDR, b"").hex(":"),
        permanent=bool(state & _PERMANENT),
        missing=bool(state & _MISSING),
    )


def _hops(found: Mapping[int, bytes], flags: int) -> Iterable[tuple[int, bytes | None, int]]:
    """Walk the next hops: index, gateway, flags."""
    if _RTA_MULTIPATH not in found:
        index = read_number(found.get(_RTA_OIF))
        if index is not None:
            yield index, found.get(_RTA_GATEWAY), flags
        return
    data, offset = found[_RTA_MULTIPATH], 0
    while offset + _HOP.size <= len(data):
        length, hop_flags, _, index = _HOP.unpack_from(data, offset)
        yield (
            index,
            attributes(data[offset : offset + length], _HOP.size).get(_RTA_GATEWAY),
            hop_flags,
        )
        offset += (length + 3) & ~3


def _ip(family: int, packed: bytes) -> IPAddress:
    return IPv4Address(packed) if family == socket.AF_INET else IPv6Address(packed)


def _network(family: int, packed: bytes | None, length: int) -> IPNetwork:
    if family == socket.AF_INET:
        return IPv4Network((packed or bytes(4), length))
    return IPv6Network((packed or bytes(16), length))


# --- changes


def make_pair(pair: VethPair, pod: int) -> Message:
    """
    Return the message that makes a veth pair with the node's end up.

    `pod` is a file descriptor of the namespace of the pod's end.

    That end cannot be made up at once: the kernel joins the ends after it.
    """
    peer = _LINK.pack(0, 0, 0, 0, 0)
    peer += (
        text(_IFLA_IFNAME, pair.pod)
        + attribute(_IFLA_ADDRESS, _mac(pair.pod_mac))
        + number(_IFLA_MTU, pair.mtu)
    )
    peer += number(_IFLA_NET_NS_FD, pod)
    body = _LINK.pack(0, 0, 0, _UP, _UP)
    body += (
        text(_IFLA_IFNAME, pair.host)
        + attribute(_IFLA_ADDRESS, _mac(pair.host_mac))
        + number(_IFLA_MTU, pair.mtu)
    )
    body += nested(
        _IFLA_LINKINFO,
        text(_IFLA_INFO_KIND, "veth"),
        nested(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER | 0x8000, peer)),
    )
    return Message(NEW_LINK, CREATE | EXCL, body)


def make_link(name: str, kind: str, *options: bytes, parent: int = 0) -> Message:
    """
    Make a virtual interface.

    Args:
        name: its name; one that is taken is an error.
        kind: the kernel's name of its driver, such as `vlan`.
        options: attributes of the driver.
        parent: index of the interface that it stands on, 0 for none.
    """
    body = _LINK.pack(0, 0, 0, 0, 0) + text(_IFLA_IFNAME, name)
    if parent:
        body += number(_IFLA_LINK, parent)
    body += nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind), nested(_IFLA_INFO_DATA, *options))
    return Message(NEW_LINK, CREATE | EXCL, body)


def set_up(index: int, *, up: bool = True) -> Message:
    """Set a link up or down."""
    # The last field says which flags change: the others keep their values.
    return Message(NEW_LINK, 0, _LINK.pack(0, 0, index, _UP if up else 0, _UP))


def set_master(index: int, master: int) -> Message:
    """Put a link into a bond or bridge."""
    return Message(NEW_LINK, 0, _LINK.pack(0, 0, index, 0, 0) + number(_IFLA_MASTER, master))


def remove_link(index: int) -> Message:
    """Remove a link; one that is gone is no error."""
    return Message(DEL_LINK, 0, _LINK.pack(0, 0, index, 0, 0), MISSING)


def put_message(item: Item, index: int, *, again: bool = False) -> Message:
    """
    Make something on the link of that index; what is there already is no error.

    Args:
        item: anything but a sysctl.
        index: of the item's link; 0 for a rule.
        again: it was there before and comes back, perhaps beside others of its kind.
    """
    there = frozenset({errno.EEXIST})
    match item:
        case Setting():
            return Message(NEW_LINK, 0, _setting(item, index))
        case Address():
            return Message(NEW_ADDRESS, CREATE | EXCL, _address(item, index), there)
        case Route():
            # A default route may come back beside another one of the same metric.
            return Message(
                NEW_ROUTE,
                CREATE | (APPEND if again or item.is_default else EXCL),
                _route(item, index),
                there,
            )
        case Rule():
            return Message(NEW_RULE, CREATE | EXCL, _rule(item), there)
        case Neighbour():
            state = _PERMANENT if item.permanent else _STALE
            return Message(NEW_NEIGHBOUR, CREATE | REPLACE, _neighbour(item, index, state))


def make_route(route: Route, index: int) -> Message:
    """
    Make a route on the link of that index.

    One of the same destination, metric and table is an error.
    """
    return Message(NEW_ROUTE, CREATE | EXCL, _route(route, index))


def without_link(data: bytes, index: int) -> Message | None:
    """
    Take the next hops of a link out of a route that was read; other links' next hops stay.

    Args:
        data: the route.
        index: of the link.
    Returns:
        None when no next hop is the link's.
    """
    family, length, _, tos, table, protocol, scope, kind, flags = _ROUTE.unpack_from(data)
    found = attributes(data, _ROUTE.size)
    if all(hop != index for hop, _, _ in _hops(found, flags)):
        return None
    others = _raw_hops_but(found.get(_RTA_MULTIPATH, b""), index)
    if not others:
        return drop_as_read(data)
    body = _ROUTE.pack(family, length, 0, tos, table, protocol, scope, kind, 0)
    for key in (_RTA_DST, _RTA_TABLE, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS):
        if key in found:
            body += attribute(key, found[key])
    return Message(NEW_ROUTE, CREATE | REPLACE, body + attribute(_RTA_MULTIPATH, others))


def _raw_hops_but(data: bytes, index: int) -> bytes:
    """Return the next hops of other links than one, ready to be sent: states are the kernel's."""
    kept, offset = b"", 0
    while offset + _HOP.size <= len(data):
        length, flags, weight, link = _HOP.unpack_from(data, offset)
        if link != index:
            rest = data[offset + _HOP.size : offset + length]
            hop = _HOP.pack(length, flags & _RTNH_F_ONLINK, weight, link) + rest
            kept += hop + bytes(-len(hop) % 4)
        offset += (length + 3) & ~3
    return kept


def drop_as_read(data: bytes) -> Message:
    """Remove a route that was read, with all its next hops; one that is gone is no error."""
    family, length, _, _, table, protocol, scope, kind, _ = _ROUTE.unpack_from(data)
    found = attributes(data, _ROUTE.size)
    body = _ROUTE.pack(family, length, 0, 0, table, protocol, scope, kind, 0)
    for key in (_RTA_DST, _RTA_TABLE, _RTA_PRIORITY, _RTA_OIF, _RTA_GATEWAY):
        if key in found:
            body += attribute(key, found[key])
    return Message(DEL_ROUTE, 0, body, MISSING)


def drop_message(item: Item, index: int) -> Message:
    """Remove something from the link of that index; what is gone is no error."""
    match item:
        case Address():
            return Message(DEL_ADDRESS, 0, _address(item, index), MISSING)
        case Route():
            return Message(DEL_ROUTE, 0, _route(item, index, wildcard=True), MISSING)
        case Rule():
            return Message(DEL_RULE, 0, _rule(item), MISSING)
        case Neighbour():
            return Message(DEL_NEIGHBOUR, 0, _neighbour(item, index, 0), MISSING)
        case Setting():
            raise AssertionError(f"a setting has always a value: {item}")


def _setting(item: Setting, index: int) -> bytes:
    match item.kind:
        case Kind.UP:
            return _LINK.pack(0, 0, index, _UP if item.value == str(True) else 0, _UP)
        case Kind.MAC:
            return _LINK.pack(0, 0, index, 0, 0) + attribute(_IFLA_ADDRESS, _mac(item.value))
        case Kind.TX_QUEUE_LEN:
            return _LINK.pack(0, 0, index, 0, 0) + number(_IFLA_TXQLEN, int(item.value))
        case Kind.SYSCTL:
            raise AssertionError(f"not set by netlink: {item}")


def _address(item: Address, index: int) -> bytes:
    flags = _IFA_F_NODAD if item.ip.version == IPV6 else 0
    head = _ADDRESS.pack(FAMILIES[item.ip.version], item.prefix_length, flags, 0, index)
    return head + attribute(_IFA_LOCAL, item.ip.packed) + attribute(_IFA_ADDRESS, item.ip.packed)


def _route(item: Route, index: int, *, wildcard: bool = False) -> bytes:
    """Render a route; to remove one, protocol and kind of the original are not compared."""
    family = FAMILIES[item.dst.version]
    table = item.table if item.table <= _WORD else 0
    flags = _RTNH_F_ONLINK if item.onlink else 0
    proto, kind = (0, 0) if wildcard else (_PROTO_BOOT, _UNICAST)
    body = _ROUTE.pack(family, item.dst.prefixlen, 0, 0, table, proto, item.scope, kind, flags)
    body += number(_RTA_TABLE, item.table) + number(_RTA_OIF, index)
    if item.dst.prefixlen:
        body += attribute(_RTA_DST, item.dst.network_address.packed)
    if item.gateway is not None:
        body += attribute(_RTA_GATEWAY, item.gateway.packed)
    if item.src is not None:
        body += attribute(_RTA_PREFSRC, item.src.packed)
    if item.metric:
        body += number(_RTA_PRIORITY, item.metric)
    return body


def _rule(item: Rule) -> bytes:
    table = item.table if item.table <= _WORD else 0
    dst, src = (0 if network is None else network.prefixlen for network in (item.dst, item.src))
    body = _RULE.pack(FAMILIES[item.family], dst, src, 0, table, 0, 0, _TO_TABLE, 0) + number(
        _FRA_TABLE, item.table
    )
    if item.priority is not None:
        body += number(_FRA_PRIORITY, item.priority)
    if item.src is not None:
        body += attribute(_FRA_SRC, item.src.network_address.packed)
    if item.dst is not None:
        body += attribute(_FRA_DST, item.dst.network_address.packed)
    if item.mark is not None:
        body += number(_FRA_FWMARK, item.mark) + number(_FRA_FWMASK, item.mask)
    if item.iif:
        body += text(_FRA_IIFNAME, item.iif)
    return body


def _neighbour(item: Neighbour, index: int, state: int) -> bytes:
    body = _NEIGHBOUR.pack(FAMILIES[item.ip.version], 0, index, state, 0, 0) + attribute(
        _NDA_DST, item.ip.packed
    )
    return body + (attribute(_NDA_LLADDR, _mac(item.mac)) if state and item.mac else b"")


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))
