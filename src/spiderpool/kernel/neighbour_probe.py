"""
Probes and announcements of addresses on a link: ARP and IPv6 neighbour discovery.

Frames are sent and read beside the kernel's own stack: the address that is asked for is not on the
interface yet. Functions block; they belong into `Namespaces.run`.
Source: RFC 826, RFC 5227 section 2.1 (ARP probe, announcement), RFC 4861 sections 4.3, 4.4, 7.2.6,
RFC 4862 section 5.4 (a probe without a source address is answered to all nodes); packet(7);
docs/reference/allocation.md#detection.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.errors import SpiderpoolError
from spiderpool.model.netns_contents import IPV4, IPV6

WAIT_S: Final = 0.1  # for an answer; the original's
CONFLICT_TRIES: Final = 2  # a lost frame must not look like a free address
GATEWAY_TRIES: Final = 5  # 0.5 s in all, the original's cap; over with the first answer

_ARP, _IPV6 = 0x0806, 0x86DD
_SOL_PACKET, _ADD_MEMBERSHIP, _ALL_MULTICAST = 263, 1, 2
_MEMBERSHIP: Final = struct.Struct("=iHH8s")
_ARP_FRAME: Final = struct.Struct("!HHBBH6s4s6s4s")
_IPV6_HEADER: Final = struct.Struct("!IHBB16s16s")
_ICMP: Final = struct.Struct("!BBHI16s")
_OPTION: Final = struct.Struct("!BB6s")
_REQUEST, _REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_TARGET_ADDRESS: Final = 2  # option "target link-layer address"
_OVERRIDE: Final = 0x20000000
_ICMPV6, _HOP_LIMIT = 58, 255
_BROADCAST: Final = b"\xff" * 6
_NOBODY4, _NOBODY6 = bytes(4), bytes(16)
_ALL_NODES: Final = IPv6Address("ff02::1").packed
_SOLICITED: Final = IPv6Address("ff02::1:ff00:0").packed[:13]
_MTU: Final = 2048


@dataclass(frozen=True, slots=True)
class Probe:
    """
    Who has `target`? `sender` is who asks, None for nobody.

    Then nobody learns anything wrong from the probe.
    """

    target: IPAddress
    sender: IPAddress | None = None


def solicit(
    ifname: str, probes: Iterable[Probe], *, tries: int, wait_s: float = WAIT_S
) -> dict[IPAddress, str]:
    """
    Probe all addresses at once, again those that got no answer.

    Blocks until all have an answer or the tries are over.

    Args:
        ifname: the interface, in this thread's network namespace.
        probes: what to ask for.
        tries: how often at most.
        wait_s: after each try.
    Returns:
        The MAC of each answer, by address.

    Raises:
        SpiderpoolError: nothing can be sent on the interface.
    """
    by_target = {probe.target: probe for probe in probes}
    answers: dict[IPAddress, str] = {}
    with ExitStack() as stack:
        sockets: dict[int, socket.socket] = {
            family: stack.enter_context(_open(ifname, family))
            for family in sorted({probe.target.version for probe in by_target.values()})
        }
        for _ in range(tries):
            waiting = {ip: probe for ip, probe in by_target.items() if ip not in answers}
            if not waiting:
                break
            for probe in waiting.values():
                _send(
                    sockets[probe.target.version],
                    ifname,
                    _probe_frame(sockets[probe.target.version], probe),
                )
            _listen(sockets, waiting.keys(), answers, wait_s)
    return answers


def announce(ifname: str, ips: Iterable[IPAddress]) -> None:
    """Announce that these addresses are here now; what cannot be sent is left out."""
    for ip in ips:
        try:
            with _open(ifname, ip.version) as link:
                _send(link, ifname, _announcement(link, ip))
        except SpiderpoolError:
            continue


@dataclass(frozen=True, slots=True)
class _Frame:
    protocol: int
    to: bytes
    payload: bytes


def _open(ifname: str, family: int) -> socket.socket:
    protocol = _ARP if family == IPV4 else _IPV6
    link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        if family == IPV6:
            # A macvlan gets only the groups that somebody asked for.
            index = socket.if_nametoindex(ifname)
            link.setsockopt(
                _SOL_PACKET, _ADD_MEMBERSHIP, _MEMBERSHIP.pack(index, _ALL_MULTICAST, 0, b"")
            )
        link.bind((ifname, protocol))
        link.setblocking(False)
    except OSError as error:
        link.close()
        raise SpiderpoolError(
            f"interface {ifname}: {error.strerror or error}; neighbours cannot be asked"
        ) from error
    return link


def _send(link: socket.socket, ifname: str, frame: _Frame) -> None:
    try:
        link.sendto(frame.payload, (ifname, frame.protocol, 0, 0, frame.to))
    except OSError as error:
        raise SpiderpoolError(
            f"interface {ifname}: {error.strerror}; neighbours cannot be asked"
        ) from error


def _listen(
    sockets: dict[int, socket.socket],
    waiting: Iterable[IPAddress],
    answers: dict[IPAddress, str],
    wait_s: float,
) -> None:
    """Take answers until the time is over or none is missing."""
    missing = set(waiting)
    deadline = time.monotonic() + wait_s
    families = {link: family for family, link in sockets.items()}
    while missing and (left_s := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select(list(families), [], [], left_s)
        for link in ready:
            data, source = link.recvfrom(_MTU)
            found = _read_arp(data) if families[link] == IPV4 else _read_advertisement(data, source)
            # A packet socket also receives what this host sends (packet(7)).
            if source[2] != socket.PACKET_OUTGOING and found is not None and found[0] in missing:
                answers[found[0]] = found[1].hex(":")
                missing.discard(found[0])


def _probe_frame(link: socket.socket, probe: Probe) -> _Frame:
    mac: bytes = link.getsockname()[4]
    if isinstance(probe.target, IPv4Address):
        # From 0.0.0.0 it is a probe, which changes nobody's ARP cache (RFC 5227, 2.1.1).
        sender = _NOBODY4 if probe.sender is None else probe.sender.packed
        return _arp(mac, sender, probe.target.packed)
    # From `::`, as duplicate address detection asks: the owner answers to all nodes, so that this
    # socket hears the answer though no address is configured yet (RFC 4862, 5.4; RFC 4861, 7.2.4).
    group = _SOLICITED + probe.target.packed[13:]
    icmp = _ICMP.pack(_SOLICITATION, 0, 0, 0, probe.target.packed)
    return _neighbour_discovery(_NOBODY6, group, icmp)


def _announcement(link: socket.socket, ip: IPAddress) -> _Frame:
    mac: bytes = link.getsockname()[4]
    if isinstance(ip, IPv4Address):
        return _arp(mac, ip.packed, ip.packed)
    icmp = _ICMP.pack(_ADVERTISEMENT, 0, 0, _OVERRIDE, ip.packed) + _OPTION.pack(
        _TARGET_ADDRESS, 1, mac
    )
    return _neighbour_discovery(ip.packed, _ALL_NODES, icmp)


def _arp(mac: bytes, sender: bytes, target: bytes) -> _Frame:
    return _Frame(
        _ARP,
        _BROADCAST,
        _ARP_FRAME.pack(1, 0x0800, 6, 4, _REQUEST, mac, sender, _BROADCAST, target),
    )


def _neighbour_discovery(source: bytes, group: bytes, icmp: bytes) -> _Frame:
    pseudo = source + group + struct.pack("!II", len(icmp), _ICMPV6)
    icmp = icmp[:2] + struct.pack("!H", _checksum(pseudo + icmp)) + icmp[4:]
    # Receivers drop neighbour discovery with another hop limit than 255 (RFC 4861, 7.1.1). A
    # multicast group has the MAC 33:33 and its last four bytes (RFC 2464, 7).
    header = _IPV6_HEADER.pack(6 << 28, len(icmp), _ICMPV6, _HOP_LIMIT, source, group)
    return _Frame(_IPV6, b"\x33\x33" + group[12:], header + icmp)


def _checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071); ICMPv6 lengths here are even."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _read_arp(data: bytes) -> tuple[IPAddress, bytes] | None:
    """Return who speaks for which address: a reply, or a probe of somebody who has it."""
    if len(data) < _ARP_FRAME.size:
        return None
    kind, protocol, _, _, operation, mac, sender, _, _ = _ARP_FRAME.unpack_from(data)
    if (kind, protocol) != (1, 0x0800) or operation not in {_REQUEST, _REPLY} or sender == _NOBODY4:
        return None
    return IPv4Address(sender), mac


def _read_advertisement(data: bytes, source: Sequence[Any]) -> tuple[IPAddress, bytes] | None:
    """Return who speaks for which address in a neighbour advertisement."""
    if len(data) < _IPV6_HEADER.size + _ICMP.size:
        return None
    _, _, following, hops, _, _ = _IPV6_HEADER.unpack_from(data)
    kind, code, _, _, target = _ICMP.unpack_from(data, _IPV6_HEADER.size)
    if (following, hops, kind, code) != (_ICMPV6, _HOP_LIMIT, _ADVERTISEMENT, 0):
        return None
    options = data[_IPV6_HEADER.size + _ICMP.size :]
    mac = (
        options[2:8]
        if len(options) >= _OPTION.size and options[0] == _TARGET_ADDRESS
        else bytes(source[4][:6])
    )
    return IPv6Address(target), mac
