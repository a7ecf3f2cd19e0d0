"""A pool is read once; one that cannot be read says why instead of breaking its reader."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from spiderpool.api.crd.group import ANNO_IMPORTED, LABEL_OWNER_APP_NAME
from tests.fakes.objects import make_pool


def test_sets() -> None:
    """Excluded addresses are not in the total, the gateway is not usable either."""
    pool = make_pool(
        ips=["10.6.0.1-10.6.0.10"], excludeIPs=["10.6.0.2", "10.6.0.4-10.6.0.5"], gateway="10.6.0.1"
    )

    assert pool.total.size == 7
    assert pool.usable.size == 6
    assert ip_address("10.6.0.1") not in pool.usable
    assert pool.broken is None
    assert pool.family == 4


@pytest.mark.parametrize(
    ("subnet", "ips", "usable"),
    [
        ("10.66.9.0/24", "10.66.9.0", []),
        ("10.66.9.0/24", "10.66.9.255", []),
        ("10.66.9.0/24", "10.66.9.0-10.66.9.2", ["10.66.9.1", "10.66.9.2"]),
        ("10.66.8.0/23", "10.66.8.255-10.66.9.0", ["10.66.8.255", "10.66.9.0"]),
        ("10.66.9.0/30", "10.66.9.0-10.66.9.3", ["10.66.9.1", "10.66.9.2"]),
        ("10.66.9.0/31", "10.66.9.0-10.66.9.1", ["10.66.9.0", "10.66.9.1"]),
        ("10.66.9.0/32", "10.66.9.0", ["10.66.9.0"]),
        ("fd00:9::/64", "fd00:9::-fd00:9::1", ["fd00:9::1"]),
        ("fd00:9::/127", "fd00:9::-fd00:9::1", ["fd00:9::", "fd00:9::1"]),
        ("127.0.0.0/8", "127.0.0.1-127.0.0.9", []),
        ("224.0.0.0/8", "224.0.0.1-224.0.0.9", []),
        ("0.0.0.0/0", "10.0.0.0-10.0.0.1", ["10.0.0.0", "10.0.0.1"]),
        ("fe80::/64", "fe80::1-fe80::9", []),
    ],
)
def test_no_pod_gets_what_is_no_host(subnet: str, ips: str, usable: list[str]) -> None:
    """Network and broadcast addresses and those of other classes are never given, whatever a pool lists."""
    pool = make_pool(subnet=subnet, ips=[ips], gateway=None)

    assert usable == [str(ip) for ip in pool.usable]
    assert pool.total.size >= pool.usable.size


def test_why_an_address_is_not_given() -> None:
    """Each address that is listed and never given has its reason."""
    routes = [{"dst": "10.7.0.0/16", "gw": "10.66.9.2"}, {"dst": "10.8.0.0/16", "gw": "x"}]
    pool = make_pool(
        "p", "10.66.9.0/24", ips=["10.66.9.0-10.66.9.3"], gateway="10.66.9.1", routes=routes
    )
    reasons = [pool.why_withheld(ip_address(f"10.66.9.{number}")) for number in range(5)]

    assert [
        "is the network address of 10.66.9.0/24",
        "is the gateway of pool p",
        "is the gateway of a route of pool p",
        None,
        None,
    ] == reasons
    assert ["10.66.9.3"] == [str(ip) for ip in pool.usable]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"ips": ["10.6.0.9-10.6.0.1"]}, "runs backwards"),
        ({"ips": ["10.7.0.1"]}, "10.7.0.1 is outside subnet 10.6.0.0/16"),
        ({"subnet": "10.6.0.0"}, "is not a CIDR"),
        (
            {"subnet": "10.6.0.0/16", "ipVersion": 6},
            "ipVersion is 6, but subnet 10.6.0.0/16 is IPv4",
        ),
        ({"gateway": "fd00::1"}, "gateway fd00::1 is not an IPv4 address"),
        ({"gateway": "x"}, '"x" is not an IP address'),
        ({"excludeIPs": ["10.6.0.0/24"]}, "not as CIDR"),
    ],
)
def test_broken(spec: dict[str, Any], words: str) -> None:
    """A pool that cannot be read has no addresses, and a reason."""
    pool = make_pool(**spec)

    assert pool.broken is not None
    assert words in pool.broken
    assert not pool.total
    assert not pool.usable


def test_flags() -> None:
    """Terminating, automatic, default and disabled are told from the object."""
    plain = make_pool()
    pool = make_pool(deleted=True, labels={LABEL_OWNER_APP_NAME: "web"}, default=True, disable=True)

    assert (False, False, False, False) == (
        plain.terminating,
        plain.auto,
        plain.default,
        plain.disabled,
    )
    assert (True, True, True, True) == (pool.terminating, pool.auto, pool.default, pool.disabled)


def test_import() -> None:
    """A pool waits to be taken over while it lists allocations and has no mark."""
    status = {"allocatedIPs": "{}"}

    assert not make_pool(annotations={}, status=status).imported
    assert make_pool(annotations={ANNO_IMPORTED: "true"}, status=status).imported
    assert make_pool(annotations={}).imported
