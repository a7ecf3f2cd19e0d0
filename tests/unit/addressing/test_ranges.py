"""
Ranges, names and labels.

What is written can be read back, what is malformed is refused with words.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import (
    cidr_label,
    family_of,
    parse_address,
    parse_network,
    parse_ranges,
    parse_record_name,
    record_name,
    render_ranges,
)
from spiderpool.addressing.sets import BITS, AddressSet, IPAddress
from spiderpool.errors import InvalidRequest

IPS = st.ip_addresses()


@st.composite
def sets(draw: st.DrawFn) -> AddressSet:
    """Draw a set of a few intervals anywhere in a family."""
    family = draw(st.sampled_from([4, 6]))
    pairs = draw(st.lists(st.tuples(*[st.integers(0, 2 ** BITS[family] - 1)] * 2), max_size=6))
    return AddressSet.from_spans(family, [(min(pair), max(pair)) for pair in pairs])


@given(sets())
def test_ranges_read_back(addresses: AddressSet) -> None:
    """What is rendered parses to the same set, one item a span."""
    items = render_ranges(addresses)

    assert addresses == parse_ranges(addresses.family, items)
    assert len(addresses.spans) == len(items)


def test_ranges_are_merged() -> None:
    """
    Overlapping and adjacent items in any order become the fewest sorted ranges.

    Source: docs/reference/admission.md#spiderippool.
    """
    items = ["10.6.0.9", "10.6.0.1-10.6.0.4", "10.6.0.3-10.6.0.6", "10.6.0.7", "10.6.0.9"]

    assert ["10.6.0.1-10.6.0.7", "10.6.0.9"] == render_ranges(parse_ranges(4, items))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (
            "10.6.0.9-10.6.0.1",
            '"10.6.0.9-10.6.0.1" runs backwards: 10.6.0.9 is above 10.6.0.1; write 10.6.0.1-10.6.0.9',
        ),
        ("10.6.0.0/24", "not as CIDR"),
        ("10.6.0.1 - 10.6.0.9", "without blanks"),
        (" 10.6.0.1", "without blanks"),
        ("10.6.0.1-", "is not an IPv4 range"),
        ("-10.6.0.1", "is not an IPv4 range"),
        ("10.6.0.1-10.6.0.2-10.6.0.3", "is not an IPv4 range"),
        ("10.6.0.1-fd00::1", "is not an IPv4 range"),
        ("fd00::1", "is not an IPv4 range"),
        ("10.6.0.256", "is not an IPv4 range"),
        ("", "is not an IPv4 range"),
    ],
)
def test_malformed_ranges(item: str, words: str) -> None:
    """A malformed item is refused with the item and the rule."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_ranges(4, ["10.6.0.1", item])

    assert f'"{item}"' in refusal.value.message
    assert words in refusal.value.message


@given(IPS)
def test_names_read_back(ip: IPAddress) -> None:
    """A record's name stands for one address, and is a Kubernetes object name."""
    name = record_name(ip)

    assert ip == parse_record_name(name)
    assert set(name) <= set("0123456789abcdef.-")
    assert name[0].isalnum()
    assert name[-1].isalnum()


def test_names_of_records() -> None:
    """IPv4 as it is, IPv6 as eight groups of four digits."""
    assert record_name(ip_address("10.6.0.9")) == "10.6.0.9"
    assert record_name(ip_address("fd00::a1")) == "fd00-0000-0000-0000-0000-0000-0000-00a1"


@pytest.mark.parametrize(
    "name",
    ["fd00::1", "fd00-0-0-0-0-0-0-1", "FD00-0000-0000-0000-0000-0000-0000-0001", "10.6.0", "x"],
)
def test_other_names_are_refused(name: str) -> None:
    """A second spelling of an address is no record's name."""
    with pytest.raises(InvalidRequest):
        parse_record_name(name)


def test_labels_of_subnets() -> None:
    """
    The label form of a CIDR is the reference's.

    Source: docs/reference/objects.md#labels-and-annotations.
    """
    assert cidr_label("172.18.41.0/24") == "172-18-41-0-24"
    assert cidr_label("fc00:f853:ccd:e793::/64") == "fc00-f853-ccd-e793---64"


@pytest.mark.parametrize(
    ("text", "family"),
    [
        ("10.6.0.1", 4),
        ("10.6.0.0/16", 4),
        ("10.6.0.1-10.6.0.9", 4),
        ("fd00::/64", 6),
        ("fd00::1-fd00::2", 6),
        ("::", 6),
    ],
)
def test_family_of(text: str, family: int) -> None:
    """The family is told from an address, a range and a CIDR alike."""
    assert family == family_of(text)


def test_networks() -> None:
    """
    CIDRs are read with or without bits below the prefix.

    Strict ones must be network addresses.
    """
    assert parse_network("10.6.9.9/16") == parse_network("10.6.0.0/16", strict=True)
    with pytest.raises(InvalidRequest, match=r"write 10\.6\.0\.0/16"):
        parse_network("10.6.9.9/16", strict=True)


@pytest.mark.parametrize(
    "text",
    [
        "10.6.0.0",
        "10.6.0.0/33",
        "10.6.0.0/255.255.0.0",
        "10.6.0.0/-1",
        "10.6.0.0/ 8",
        "x/8",
        "fd00::1%eth0/64",
        "",
    ],
)
def test_malformed_networks(text: str) -> None:
    """What is no CIDR is refused, also what Python's own reader would take."""
    with pytest.raises(InvalidRequest, match="is not a CIDR"):
        parse_network(text)


def test_zones_are_refused() -> None:
    """An address with a zone means something on one machine only."""
    with pytest.raises(InvalidRequest, match="write fe80::1"):
        parse_address("fe80::1%eth0")


@given(st.text(max_size=20))
def test_any_text(text: str) -> None:
    """Any text is an address or is refused; nothing else happens."""
    try:
        ip = parse_address(text)
    except InvalidRequest:
        return
    assert isinstance(ip, IPv4Address | IPv6Address)
