"""CNI results and errors in every version's form."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.result import (
    Dns,
    Interface,
    Ip,
    Result,
    Route,
    parse_result,
    render,
    render_error,
)
from spiderpool.cni.versions import ALL
from spiderpool.errors import DelegateFailed, InvalidRequest, Undecodable

FULL = Result(
    interfaces=(
        Interface("veth1", "02:00:00:00:00:01"),
        Interface("eth0", "02:00:00:00:00:02", 1450, "/ns/x", "", "0000:1"),
    ),
    ips=(
        Ip(IPv4Interface("10.1.0.5/16"), IPv4Address("10.1.0.1"), 1),
        Ip(IPv6Interface("fd00::5/64"), None, 1),
        Ip(IPv4Interface("10.2.0.5/16"), None, 1),
    ),
    routes=(
        Route(IPv4Network("0.0.0.0/0"), IPv4Address("10.1.0.1"), mtu=1400, priority=0),
        Route(IPv6Network("fd01::/64")),
    ),
    dns=Dns(nameservers=("10.1.0.3",), domain="d", search=("s",), options=("o",)),
)

# Written by hand from the specifications: 0.2.0, 0.4.0, 1.0.0, 1.1.0.
DNS = {"nameservers": ["10.1.0.3"], "domain": "d", "search": ["s"], "options": ["o"]}
OLD_INTERFACES = [
    {"name": "veth1", "mac": "02:00:00:00:00:01"},
    {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/ns/x"},
]
IPS = [
    {"interface": 1, "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
    {"interface": 1, "address": "fd00::5/64"},
    {"interface": 1, "address": "10.2.0.5/16"},
]
OLD_ROUTES = [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "fd01::/64"}]
FORMS: dict[str, dict[str, Any]] = {
    "0.2.0": {
        "cniVersion": "0.2.0",
        "ip4": {
            "ip": "10.1.0.5/16",
            "gateway": "10.1.0.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
        },
        "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "fd01::/64"}]},
        "dns": DNS,
    },
    "0.4.0": {
        "cniVersion": "0.4.0",
        "interfaces": OLD_INTERFACES,
        "ips": [{"version": version, **ip} for version, ip in zip("464", IPS, strict=True)],
        "routes": OLD_ROUTES,
        "dns": DNS,
    },
    "1.0.0": {
        "cniVersion": "1.0.0",
        "interfaces": OLD_INTERFACES,
        "ips": IPS,
        "routes": OLD_ROUTES,
        "dns": DNS,
    },
    "1.1.0": {
        "cniVersion": "1.1.0",
        "interfaces": [OLD_INTERFACES[0], {**OLD_INTERFACES[1], "mtu": 1450, "pciID": "0000:1"}],
        "ips": IPS,
        "routes": [{**OLD_ROUTES[0], "mtu": 1400, "priority": 0}, OLD_ROUTES[1]],
        "dns": DNS,
    },
}


@pytest.mark.parametrize("version", FORMS)
def test_forms(version: str) -> None:
    """Each version has its specification's form."""
    assert FORMS[version] == msgspec.json.decode(render(FULL, version))


@pytest.mark.parametrize("version", ALL)
def test_empty(version: str) -> None:
    """A result without anything is valid in every version."""
    assert {"cniVersion": version, "dns": {}} == msgspec.json.decode(render(Result(), version))


V4 = st.builds(IPv4Interface, st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)))
V6 = st.builds(IPv6Interface, st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)))
GATEWAYS = st.none() | st.ip_addresses()
NUMBERS = st.none() | st.integers(0, 2**31)
TEXTS = st.text("abc:0/-", max_size=6)
INTERFACES = st.builds(Interface, TEXTS, TEXTS, st.integers(0, 9000), TEXTS, TEXTS, TEXTS)
IPS_ANY = st.builds(Ip, V4 | V6, GATEWAYS, NUMBERS)
ROUTES = st.builds(
    Route,
    (V4 | V6).map(lambda interface: interface.network),
    GATEWAYS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
)
TUPLES = st.lists(TEXTS, max_size=2).map(tuple)
RESULTS = st.builds(
    Result,
    st.lists(INTERFACES, max_size=3).map(tuple),
    st.lists(IPS_ANY, max_size=3).map(tuple),
    st.lists(ROUTES, max_size=3).map(tuple),
    st.builds(Dns, TUPLES, TEXTS, TUPLES, TUPLES),
)


@given(RESULTS)
def test_newest_keeps_all(result: Result) -> None:
    """What the newest form says is read back as it was."""
    assert result == parse_result(msgspec.json.decode(render(result, "1.1.0")))


@given(RESULTS, st.sampled_from(ALL))
def test_second_reading_loses_nothing(result: Result, version: str) -> None:
    """A form loses what it cannot say once, and nothing more after that."""
    once = parse_result(msgspec.json.decode(render(result, version)))

    assert once == parse_result(msgspec.json.decode(render(once, version)))


@pytest.mark.parametrize(
    "value",
    [
        {"ips": [{"address": "10.0.0.1/33"}]},
        {"ips": [{}]},
        {"ips": "10.0.0.1"},
        {"ips": [{"address": "10.0.0.1/8", "interface": "0"}]},
        {"interfaces": [1]},
        {"interfaces": [{"name": 5}]},
        {"routes": [{"dst": "x"}]},
        {"dns": {"nameservers": "10.0.0.1"}},
        {"ip4": {"gateway": "10.0.0.1"}},
        {"ip4": [1]},
    ],
)
def test_damaged(value: dict[str, Any]) -> None:
    """What no version writes is refused, with code 6."""
    with pytest.raises(Undecodable) as refusal:
        parse_result(value)

    assert 6 == refusal.value.cni_code


def test_host_bits() -> None:
    """A destination with host bits is read: Go plugins print it as it was configured."""
    assert (Route(IPv4Network("10.1.0.0/16")),) == parse_result(
        {"routes": [{"dst": "10.1.0.5/16"}]}
    ).routes


def test_errors() -> None:
    """An error has version, code and message; details when there are any."""
    assert {"cniVersion": "0.3.1", "code": 7, "msg": "no"} == msgspec.json.decode(
        render_error(InvalidRequest("no"), "0.3.1")
    )
    failed = DelegateFailed("no", cni_code=51, details="why")
    assert {
        "cniVersion": "1.1.0",
        "code": 51,
        "msg": "no",
        "details": "why",
    } == msgspec.json.decode(render_error(failed, "1.1.0"))
