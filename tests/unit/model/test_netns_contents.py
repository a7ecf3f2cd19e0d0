"""What a namespace's rules, routes and addresses say of themselves."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from spiderpool.model.netns_contents import Address, Route, Rule

PLAIN = Rule(4, 500, 1000)
CONDITIONS: list[dict[str, Any]] = [
    {"src": ip_network("10.1.0.5/32")},
    {"dst": ip_network("0.0.0.0/0")},
    {"mark": 0, "mask": 0xFF},
    {"iif": "eth0"},
    {"more": True},
]


def test_unconditional_rule() -> None:
    """A rule that looks at nothing holds for every packet, whatever its priority."""
    assert PLAIN.is_unconditional
    assert replace(PLAIN, priority=None).is_unconditional


@pytest.mark.parametrize("condition", CONDITIONS)
def test_conditional_rule(condition: dict[str, Any]) -> None:
    """Each condition makes a rule another one, that does not hold for every packet."""
    rule = replace(PLAIN, **condition)

    assert not rule.is_unconditional
    assert PLAIN.selector != rule.selector
    assert rule.selector == replace(rule, priority=7).selector


def test_place_of_a_route() -> None:
    """Two routes of one destination, table and metric have one place, whatever they lead to."""
    network = ip_network("10.1.0.0/16")

    assert (
        Route(network, "eth0").place == Route(network, "net1", gateway=ip_address("10.9.0.1")).place
    )
    assert Route(network, "eth0").place != Route(network, "eth0", metric=7).place


@pytest.mark.parametrize(
    ("ip", "usable"),
    [("10.1.0.5", True), ("fd00::5", True), ("169.254.1.1", False), ("fe80::1", False)],
)
def test_usable_addresses(ip: str, usable: bool) -> None:
    """An address that holds for its link alone is no address of a pod's."""
    assert usable == Address("eth0", ip_address(ip), 24).usable
    assert Address("eth0", ip_address("10.1.0.5"), 24).network == ip_network("10.1.0.0/24")
