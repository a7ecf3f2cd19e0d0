"""Addresses as text: ranges of the custom resources, names of SpiderIP objects, label values."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from spiderpool.addressing.sets import AddressSet, IPAddress, IPNetwork, Span, address
from spiderpool.errors import InvalidRequest

RANGE_FORM: Final = "write one address (A) or a range (A-B), without blanks and not as CIDR"
RECORD_V6: Final = re.compile(r"[0-9a-f]{4}(-[0-9a-f]{4}){7}")
CIDR_FORM: Final = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}")


def parse_address(text: str) -> IPAddress:
    """
    Read one address.

    Zone names (`fe80::1%eth0`) are refused: they mean something on one machine only.
    """
    try:
        ip = ip_address(text)
    except ValueError:
        raise InvalidRequest(f'"{text}" is not an IP address') from None
    if isinstance(ip, IPv6Address) and ip.scope_id is not None:
        raise InvalidRequest(f'"{text}" names a zone: write {text.partition("%")[0]}')
    return ip


def parse_network(text: str, *, strict: bool = False) -> IPNetwork:
    """
    Read a CIDR.

    Args:
        text: address, slash, prefix length as a decimal number.
        strict: refuse bits below the prefix (`10.6.0.1/16`) instead of clearing them.
    """
    try:
        # the library also takes a bare address and a netmask
        network = ip_network(text, strict=False) if CIDR_FORM.fullmatch(text) else None
    except ValueError:
        network = None
    if network is None:
        raise InvalidRequest(f'"{text}" is not a CIDR such as 10.6.0.0/16 or fd00::/64')
    if strict and str(network.network_address) != text.partition("/")[0]:
        raise InvalidRequest(f'"{text}" is not a network address: write {network}')
    return network


def family_of(text: str) -> int:
    """Return the family, 4 or 6, of an address, a range or a CIDR."""
    return parse_address(re.split("[-/]", text, maxsplit=1)[0]).version


def parse_ranges(family: int, items: Iterable[str]) -> AddressSet:
    """
    Read range items (`A` or `A-B`, A not above B) of one family.

    They may overlap and come in any order.
    """
    return AddressSet.from_spans(family, [parse_range(family, item) for item in items])


def parse_range(family: int, item: str) -> Span:
    """Read one range item."""
    first, dash, last = item.partition("-")
    try:
        low = parse_address(first)
        high = parse_address(last) if dash else low
    except InvalidRequest:
        raise InvalidRequest(f'"{item}" is not an IPv{family} range: {RANGE_FORM}') from None
    if low.version != family or high.version != family:
        raise InvalidRequest(f'"{item}" is not an IPv{family} range: {RANGE_FORM}')
    if int(low) > int(high):
        raise InvalidRequest(f'"{item}" runs backwards: {low} is above {high}; write {high}-{low}')
    return int(low), int(high)


def render_ranges(addresses: AddressSet) -> list[str]:
    """Write a set as the fewest sorted range items."""
    return [render_span(addresses.family, span) for span in addresses.spans]


def render_span(family: int, span: Span) -> str:
    """Write one interval as a range item."""
    low, high = span
    return (
        str(address(family, low))
        if low == high
        else f"{address(family, low)}-{address(family, high)}"
    )


def record_name(ip: IPAddress) -> str:
    """
    Return the name of the SpiderIP object of an address.

    One address has one name, since the name is the lock: IPv6 in full (`fd00-0000-…-0001`), colons
    not being allowed in names.
    """
    return str(ip) if ip.version == 4 else ip.exploded.replace(":", "-")  # noqa: PLR2004


def parse_record_name(name: str) -> IPAddress:
    """Return the address that a SpiderIP object's name stands for."""
    ip = parse_address(name.replace("-", ":") if RECORD_V6.fullmatch(name) else name)
    if record_name(ip) != name:
        raise InvalidRequest(
            f'"{name}" is not the name of a SpiderIP: {ip} is named {record_name(ip)}'
        )
    return ip


def cidr_label(cidr: str) -> str:
    """
    Write a CIDR as a label value: `172-18-41-0-24`, `fc00-f853-ccd-e793---64`.

    Source: docs/reference/objects.md#labels-and-annotations.
    """
    return re.sub("[.:/]", "-", cidr)
