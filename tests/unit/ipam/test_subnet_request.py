"""
What a template says about automatic pools.

Source: docs/reference/annotations.md#subnets-and-subnet,
docs/reference/annotations.md#ippool-ip-number.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.errors import InvalidRequest
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.ipam.subnet_request import (
    AutomaticRequest,
    SubnetRequest,
    read_automatic_request,
    read_subnets,
)

SUBNETS = "ipam.spidernet.io/subnets"
SUBNET = "ipam.spidernet.io/subnet"
NUMBER = "ipam.spidernet.io/ippool-ip-number"
RECLAIM = "ipam.spidernet.io/ippool-reclaim"


def write(annotations: dict[str, Any]) -> dict[str, str]:
    """Write annotations as text."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in annotations.items()
    }


def test_several_nics() -> None:
    """Each item is a NIC; of each list only the first subnet counts."""
    items = [
        {"interface": "eth0", "ipv4": ["a", "b"], "ipv6": ["c"]},
        {"interface": "net1", "ipv4": ["d"], "ipv6": []},
    ]
    pod_request = read_automatic_request(write({SUBNETS: items, NUMBER: "+1"}))

    assert (
        AutomaticRequest(
            (SubnetRequest("eth0", {4: "a", 6: "c"}), SubnetRequest("net1", {4: "d"})),
            IPNumber(1, flexible=True),
            True,
        )
        == pod_request
    )


def test_one_nic() -> None:
    """
    `subnet` is for eth0 unless it names another interface.

    `subnets` wins where both are written.
    """
    assert (SubnetRequest("eth0", {4: "a"}),) == read_subnets(write({SUBNET: {"ipv4": ["a"]}}))
    assert (SubnetRequest("net1", {6: "a"}),) == read_subnets(
        write({SUBNET: {"interface": "net1", "ipv6": ["a"]}})
    )
    both = write({SUBNET: {"ipv4": ["a"]}, SUBNETS: [{"interface": "eth0", "ipv4": ["b"]}]})
    assert (SubnetRequest("eth0", {4: "b"}),) == read_subnets(both)
    assert () == read_subnets({})


@pytest.mark.parametrize(
    ("text", "reclaim"), [("true", True), ("1", True), ("F", False), ("False", False), ("0", False)]
)
def test_reclaim(text: str, reclaim: bool) -> None:
    """Pools go with their application unless told otherwise, in the words of Go's ParseBool."""
    assert reclaim is read_automatic_request({RECLAIM: text}).reclaim
    assert read_automatic_request({}).reclaim


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        (
            {
                SUBNETS: "[",
            },
            f"wrong input: annotation {SUBNETS}: the value is not JSON",
        ),
        ({SUBNETS: []}, "the list is empty"),
        ({SUBNETS: {"ipv4": ["a"]}}, "not a JSON array"),
        ({SUBNETS: [{"ipv4": ["a"]}]}, 'item 1 has no "interface"'),
        ({SUBNETS: [{"interface": "eth0"}]}, "item 1 names no subnet"),
        ({SUBNETS: [{"interface": "a b", "ipv4": ["s"]}]}, 'item 1: interface "a b" is no name'),
        ({SUBNET: {"interface": ".", "ipv4": ["s"]}}, 'the value: interface "." is no name'),
        ({SUBNETS: [{"interface": "eth0", "ipv4": [""]}]}, "item 1 has an empty subnet name"),
        (
            {SUBNETS: [{"interface": "a", "ipv4": ["s"]}, {"interface": "a", "ipv4": ["t"]}]},
            "interface a is listed twice",
        ),
        (
            {SUBNETS: [{"interface": "a", "ipv4": ["s"]}, {"interface": "b", "ipv4": ["s"]}]},
            "subnet s is listed twice for IPv4",
        ),
        ({SUBNET: {}}, f"wrong input: annotation {SUBNET}: the value names no subnet"),
        ({SUBNET: []}, "the value is a list; it must be an object"),
        ({NUMBER: "many"}, f'wrong input: annotation {NUMBER}: the value is "many"'),
        (
            {RECLAIM: "yes"},
            f'wrong input: annotation {RECLAIM}: the value is "yes"; write true or false',
        ),
    ],
)
def test_refusals(annotations: dict[str, Any], words: str) -> None:
    """Each mistake is refused with the annotation, the item and what to write."""
    with pytest.raises(InvalidRequest) as caught:
        read_automatic_request(write(annotations))
    assert words in caught.value.message


@given(
    st.sampled_from([SUBNETS, SUBNET, NUMBER, RECLAIM]),
    st.text()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["interface", "ipv4", "ipv6", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ).map(json.dumps),
)
def test_any_text(key: str, text: str) -> None:
    """Any text is read or refused with a sentence that names the annotation."""
    words = f"wrong input: annotation {key}: "
    try:
        read_automatic_request({key: text})
    except InvalidRequest as error:
        words = error.message[: len(words)]
    assert words == f"wrong input: annotation {key}: "
