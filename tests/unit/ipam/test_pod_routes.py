"""Which routes a pod's address has."""

from __future__ import annotations

from ipaddress import ip_network
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.crd.ippool import Route
from spiderpool.ipam.pod_routes import (
    answered_routes,
    attach_routes,
    left_out_text,
    network_of,
    stored_routes,
)
from spiderpool.records.build import Terms
from tests.fakes.objects import make_pool, make_record

POOL = [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}]
ROUTES = st.builds(
    lambda dst, gw: Route(dst=f"10.{dst}.0.0/16", gw=f"10.6.0.{gw}"),
    st.integers(1, 3),
    st.integers(1, 3),
)


def test_routes_go_with_their_gateway() -> None:
    """
    A route goes with the first network that contains its gateway.

    Others are told.
    """
    networks = [
        ip_network(text) for text in ("10.6.0.0/16", "fd00::/64", "10.6.0.0/16", "10.7.0.0/16")
    ]
    routes = [
        Route(dst="10.0.0.0/8", gw=gw)
        for gw in ("10.7.0.1", "10.6.0.1", "192.168.0.1", "10.6.0.2", "fd00::1")
    ]
    attached = attach_routes(networks, routes)

    assert ((routes[1], routes[3]), (routes[4],), (), (routes[0],)) == attached.per_network
    assert (routes[2],) == attached.unmatched


def answered(
    *own: tuple[str, str], clean_gateway: bool = False, ip: str = "10.6.0.10", **spec: object
) -> list[tuple[str, str]]:
    """Return the routes of an address whose pod asks for some of its own."""
    pool = make_pool(**{"gateway": "10.6.0.1", "routes": POOL, **spec})  # type: ignore[arg-type]
    terms = Terms.of(pool, [Route(dst=dst, gw=gw) for dst, gw in own], clean_gateway=clean_gateway)
    record = make_record(ip, pool, routes=terms.routes, clean_gateway=clean_gateway)
    return [(route.dst, route.gw) for route in answered_routes(record.spec)]


USUAL = [("10.7.0.0/16", "10.6.0.2"), ("0.0.0.0/0", "10.6.0.1")]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        pytest.param([], USUAL, id="none"),
        pytest.param([("0.0.0.0/0", "10.6.0.1")], USUAL, id="the gateway as default"),
        pytest.param([("10.7.0.0/16", "10.6.0.2")], USUAL, id="a route of the pool"),
        pytest.param(
            [("10.9.0.0/16", "10.6.0.3")] * 2,
            [USUAL[0], ("10.9.0.0/16", "10.6.0.3"), USUAL[1]],
            id="itself",
        ),
        pytest.param(
            [("10.7.0.0/16", "10.6.0.2")] * 2 + [("0.0.0.0/0", "10.6.0.1")] * 2,
            USUAL,
            id="everything twice",
        ),
        pytest.param(
            [("10.7.0.0/16", "10.6.0.9")],
            [("10.7.0.0/16", "10.6.0.9"), USUAL[1]],
            id="another gateway than the pool's route",
        ),
        pytest.param(
            [("0.0.0.0/0", "10.6.0.9")],
            [USUAL[0], ("0.0.0.0/0", "10.6.0.9")],
            id="another default gateway",
        ),
        pytest.param(
            [("10.9.0.0/16", "10.6.0.3"), ("10.9.0.0/16", "10.6.0.4")],
            [USUAL[0], ("10.9.0.0/16", "10.6.0.3"), USUAL[1]],
            id="two ways to one destination",
        ),
        pytest.param([("10.9.0.0/16", "10.6.0.10")], USUAL, id="its own address as gateway"),
    ],
)
def test_one_route_to_each_destination(
    own: list[tuple[str, str]], expected: list[tuple[str, str]]
) -> None:
    """
    Custom routes that only repeat what is so anyway change nothing.

    Of two that differ the pod's own counts.
    """
    assert expected == answered(*own)


def test_forms_of_one_destination() -> None:
    """A pool may write a destination with host bits; it is the same one."""
    routes = [{"dst": "10.7.1.1/16", "gw": "10.6.0.2"}]

    assert [("10.7.1.1/16", "10.6.0.2"), ("0.0.0.0/0", "10.6.0.1")] == answered(routes=routes)
    assert [("10.7.0.0/16", "10.6.0.2"), ("0.0.0.0/0", "10.6.0.1")] == answered(
        ("10.7.0.0/16", "10.6.0.2"), routes=routes
    )


def test_without_a_default_route() -> None:
    """A pod that wants no default route of its pool may have one of its own, by the pool's gateway too."""
    assert USUAL[:1] == answered(clean_gateway=True)
    assert [*USUAL[:1], ("0.0.0.0/0", "10.6.0.1")] == answered(
        ("0.0.0.0/0", "10.6.0.1"), clean_gateway=True
    )
    assert [*USUAL[:1], ("0.0.0.0/0", "10.6.0.9")] == answered(
        ("0.0.0.0/0", "10.6.0.9"), gateway=None
    )


def test_ipv6() -> None:
    """The same holds for IPv6, in whatever form an address is written."""
    spec: dict[str, Any] = {
        "subnet": "fd00:6::/64",
        "ips": ["fd00:6::10"],
        "gateway": "fd00:6::1",
        "routes": [],
    }

    assert [("::/0", "fd00:6::1")] == answered(("::/0", "fd00:6:0::1"), ip="fd00:6::10", **spec)


def test_records_of_before() -> None:
    """What an earlier version stored twice is answered once."""
    twice = (Route(dst="10.7.0.0/16", gw="10.6.0.2"),) * 2 + (
        Route(dst="0.0.0.0/0", gw="10.6.0.1"),
    )
    record = make_record("10.6.0.10", make_pool(gateway="10.6.0.1"), routes=twice)

    assert USUAL == [(route.dst, route.gw) for route in answered_routes(record.spec)]


@given(st.lists(ROUTES, max_size=6), st.lists(ROUTES, max_size=6))
def test_no_destination_twice(pool: list[Route], own: list[Route]) -> None:
    """Whatever pool and pod say, a destination has one route, and each destination of either has one."""
    stored = stored_routes(pool, own, None)

    assert len(stored) == len({route.dst for route in stored})
    assert {route.dst for route in stored} == {route.dst for route in (*pool, *own)}
    assert all(route in own for route, other in product(stored, own) if route.dst == other.dst)


def test_words_about_what_is_left_out() -> None:
    """The user learns which routes, why, and what there is."""
    record = make_record("10.6.0.10", make_pool())
    networks = [network_of(record.spec)]
    routes = [Route(dst="10.9.0.0/16", gw=gw) for gw in ("10.99.0.1", "10.6.255.255", "10.6.0.9")]
    unmatched = attach_routes(networks, routes).unmatched

    assert (
        "annotation ipam.spidernet.io/routes: left out: "
        "10.9.0.0/16 via 10.99.0.1 (the gateway is in no subnet of this pod: 10.6.0.0/16); "
        "10.9.0.0/16 via 10.6.255.255 (the gateway is the broadcast address of 10.6.0.0/16)"
    ) == left_out_text(unmatched, networks)
