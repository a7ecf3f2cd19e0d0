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
