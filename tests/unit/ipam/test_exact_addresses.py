"""
The annotation `ipam.spidernet.io/ip`.

Every form, the ordinals of a StatefulSet, and what is refused.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.sets import IPAddress
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.exact_addresses import FixedAddresses, choose, read_fixed_addresses

TEN, ELEVEN = ip_address("10.6.0.10"), ip_address("10.6.0.11")
SIX, SEVEN = ip_address("fd00::6"), ip_address("fd00::7")


def text(value: Any) -> str:
    """Return the annotation's text."""
    return value if isinstance(value, str) else json.dumps(value)


def chosen(value: Any, position: int | None = None) -> dict[str, tuple[IPAddress, ...]]:
    """Return the addresses of each NIC; items without names by number."""
    items = read_fixed_addresses(text(value))
    return {
        item.interface or str(number): choose(item.lists, position, "here")
        for number, item in enumerate(items)
    }


@pytest.mark.parametrize(
    ("value", "position", "expected"),
    [
        ("10.6.0.10", None, {"eth0": (TEN,)}),
        ("10.6.0.10", 0, {"eth0": (TEN,)}),
        (" 10.6.0.10 , fd00::6 ", None, {"eth0": (TEN, SIX)}),
        ('"10.6.0.10"', None, {"eth0": (TEN,)}),
        (["fd00::6", "10.6.0.10"], None, {"eth0": (TEN, SIX)}),
        (["10.6.0.10", "10.6.0.11"], 1, {"eth0": (ELEVEN,)}),
        ("10.6.0.10-10.6.0.11,fd00::6-fd00::7", 1, {"eth0": (ELEVEN, SEVEN)}),
        (["10.6.0.20-10.6.0.22", "10.6.0.11", "10.6.0.10"], 4, {"eth0": (TEN,)}),
        ({"ipv4": ["10.6.0.10"]}, None, {"eth0": (TEN,)}),
        (
            {"interface": "net1", "ipv4": ["10.6.0.10"], "ipv6": ["fd00::6"]},
            None,
            {"net1": (TEN, SIX)},
        ),
        (
            [
                {"interface": "eth0", "ipv4": ["10.6.0.10"]},
                {"interface": "net1", "ipv6": ["fd00::6-fd00::7"]},
            ],
            0,
            {"eth0": (TEN,), "net1": (SIX,)},
        ),
        ([{"ipv4": ["10.6.0.10"]}, {"IPv4": ["10.6.0.11"]}], None, {"0": (TEN,), "1": (ELEVEN,)}),
    ],
)
def test_forms(
    value: Any, position: int | None, expected: dict[str, tuple[IPAddress, ...]]
) -> None:
    """
    Plain addresses and lists are eth0's; objects name their NIC.

    An ordinal picks from each family's list.
    """
    assert expected == chosen(value, position)


@pytest.mark.parametrize(
    ("value", "position", "words"),
    [
        ("", None, "the value is empty"),
        ("a", None, '"a" is not an IP address'),
        ("10.6.0.10,", None, '"" is not an IP address'),
        ("10.6.0.10/16", None, "10.6.0.10/16"),
        ("224.0.0.1", None, "224.0.0.1 can be no pod's address: 224.0.0.0/4 is multicast"),
        ("127.0.0.1", None, "127.0.0.1 can be no pod's address"),
        ("10.6.0.1,fe80::1", None, "fe80::1 can be no pod's address: fe80::/10 is link-local"),
        (["223.255.255.255-224.0.0.1"], None, "224.0.0.1 can be no pod's address"),
        (
            {"interface": "0123456789abcdef", "ipv4": ["10.6.0.10"]},
            None,
            'the value: interface "0123456789abcdef" is no name of an interface',
        ),
        ([{"interface": "a/b", "ipv4": ["10.6.0.10"]}], None, 'item 1: interface "a/b" is no name'),
        ("10.6.0.11-10.6.0.10", None, "runs backwards"),
        ("10.6.0.10-fd00::1", None, "is not an IPv4 range"),
        ("[", None, "the value is not JSON"),
        ([], None, "names no address"),
        ({}, None, "names no address"),
        ({"interface": "net1"}, None, "the value names no address"),
        (
            {"ipv4": ["fd00::6"]},
            None,
            'the value: "ipv4" has an IPv6 address; write it under "ipv6"',
        ),
        ({"ipv4": "10.6.0.10"}, None, 'the value: "ipv4" is a text; it must be a list of texts'),
        ([{"ipv4": ["10.6.0.10"]}, 1], None, "item 2 is a number; it must be an object"),
        (
            [{"interface": "eth0", "ipv4": ["10.6.0.10"]}, {"ipv4": ["10.6.0.11"]}],
            None,
            "name it in all items or in none",
        ),
        (
            [{"interface": "a", "ipv4": ["10.6.0.10"]}, {"interface": "a", "ipv4": ["10.6.0.11"]}],
            None,
            "interface a is listed twice",
        ),
        (["10.6.0.10", "10.6.0.9-10.6.0.12"], 0, "an IPv4 address is listed twice"),
        ("fd00::-fdff::", 0, "65536 is the most"),
        (["10.6.0.10", "10.6.0.11"], None, "2 IPv4 addresses are listed, and this pod takes one"),
        ("10.6.0.10", 1, "1 IPv4 addresses are listed, none for replica 2 of the StatefulSet"),
        ("10.6.0.10-10.6.0.12,fd00::6", 2, "1 IPv6 addresses are listed, none for replica 3"),
    ],
)
def test_refusals(value: Any, position: int | None, words: str) -> None:
    """What cannot be meant is refused with the item and what to write."""
    with pytest.raises(InvalidRequest) as caught:
        chosen(value, position)

    assert words in caught.value.message


@given(st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 20)), min_size=1, max_size=8))
def test_positions_walk_the_list_as_it_is_written(items: list[tuple[int, int]]) -> None:
    """Law: the positions of a list give its ranges one after the other, each upwards."""
    spans = tuple((low, low + more) for low, more in items)
    fixed = FixedAddresses(4, spans)

    assert [number for low, high in spans for number in range(low, high + 1)] == [
        int(fixed.at(position)) for position in range(fixed.size)
    ]


VALID = [
    "10.6.0.10",
    "10.6.0.10,fd00::10",
    '["10.6.0.10-10.6.0.12","fd00::10"]',
    '{"interface":"net1","ipv4":["10.6.0.10"],"ipv6":["fd00::10"]}',
    '[{"interface":"eth0","ipv4":["10.6.0.10"]},{"interface":"net1","ipv4":["10.7.0.10"]}]',
]


@given(st.sampled_from(VALID), st.data())
def test_damaged_annotations(valid: str, data: st.DataObject) -> None:
    """
    A valid value that is damaged anywhere is read or refused with words.

    It never breaks the reader.
    """
    start = data.draw(st.integers(0, len(valid)))
    end = data.draw(st.integers(start, min(len(valid), start + 4)))
    damaged = valid[:start] + data.draw(st.text('[]{}":,-/0af. \x00ü', max_size=3)) + valid[end:]
    try:
        sizes = [
            fixed.size for item in read_fixed_addresses(damaged) for fixed in item.lists.values()
        ]
    except InvalidRequest as error:
        sizes = [len(error.message)]

    assert sizes
    assert all(sizes)
