"""
How many addresses an automatic pool has, and which.

Source: docs/reference/annotations.md#ippool-ip-number,
docs/reference/automatic-pools.md#which-applications,
docs/reference/automatic-pools.md#growing-and-shrinking.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import parse_ranges, render_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.api.kubernetes.workloads import (
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    StatefulSet,
    Workload,
)
from spiderpool.errors import Exhausted, InvalidRequest, TryAgain
from spiderpool.ipam.pool_size import (
    Holding,
    IPNumber,
    SizeLimits,
    lowest,
    parse_number,
    replicas_of,
    resize,
)

NONE = AddressSet.empty(4)
SETS = st.frozensets(st.integers(0, 40), max_size=30).map(
    lambda found: AddressSet.of(map(IPv4Address, found), 4)
)


def ips(*items: str) -> AddressSet:
    """Read ranges of the last number only: `3-5` is 10.6.0.3-10.6.0.5."""
    return parse_ranges(
        4, ["-".join(f"10.6.0.{part}" for part in item.split("-")) for item in items]
    )


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", IPNumber(5, flexible=False)),
        ("0", IPNumber(0, flexible=False)),
        ("+1", IPNumber(1, flexible=True)),
        ("abc+3", IPNumber(3, flexible=True)),
        ("1+2", IPNumber(2, flexible=True)),
    ],
)
def test_number(text: str, number: IPNumber) -> None:
    """
    `N` is a fixed number, `+N` comes on top of the replicas; what precedes the sign is ignored.

    Source: docs/reference/annotations.md#ippool-ip-number.
    """
    assert number == parse_number(text)


@pytest.mark.parametrize("text", ["", "+", "++1", "-1", "+-1", "1.5", "five", " 5", "٣", "9" * 30])
def test_wrong_number(text: str) -> None:
    """Anything else is refused with what to write."""
    with pytest.raises(InvalidRequest, match="write a number of addresses"):
        parse_number(text)


@given(st.text())
def test_any_number(text: str) -> None:
    """Any text is read or refused, and what is read is written again in a form that means the same."""
    try:
        number = parse_number(text)
    except InvalidRequest:
        return
    assert number == parse_number(str(number))


@pytest.mark.parametrize(
    ("kind", "document", "count"),
    [
        (Deployment, {"spec": {"replicas": 3}}, 3),
        (StatefulSet, {"spec": {}}, 0),
        (DaemonSet, {"status": {"desiredNumberScheduled": 7}}, 7),
        (Job, {"spec": {"completions": 4, "parallelism": 2}}, 4),
        (Job, {"spec": {"parallelism": 2}}, 2),
        (Job, {"spec": {}}, 1),
        (Job, {"spec": {"parallelism": 0}}, 1),
        (CronJob, {"spec": {"jobTemplate": {"spec": {"completions": 5}}}}, 5),
    ],
)
def test_replicas(kind: type[Workload], document: dict[str, Any], count: int) -> None:
    """
    Each kind says in its own way how many pods it wants.

    Source: docs/reference/automatic-pools.md#which-applications.
    """
    assert count == replicas_of(msgspec.convert(document, kind))


def test_new_pool_gets_the_lowest() -> None:
    """A new pool has the lowest free addresses of its subnet, over gaps."""
    assert ["10.6.0.2-10.6.0.3", "10.6.0.7"] == render_ranges(
        resize(Holding(NONE, None, NONE, NONE), 3, ips("2-3", "7-9"))
    )


def test_growing_and_shrinking() -> None:
    """A pool grows by the lowest free addresses and shrinks by its lowest idle ones."""
    grown = resize(Holding(ips("5-6"), ips("5-6"), ips("5"), NONE), 4, ips("1", "8-9"))
    shrunk = resize(Holding(ips("1-4"), ips("1-4"), ips("1", "3"), NONE), 2, NONE)

    assert ips("1", "5-6", "8") == grown
    assert ips("1", "3") == shrunk


def test_crash_between_the_two_writes() -> None:
    """
    What was granted is finished.

    The pool becomes what the subnet's status says, not what it was.
    """
    assert ips("1-4") == resize(Holding(ips("1-3"), ips("1-4"), NONE, NONE), 4, ips("9"))
    assert ips("3") == resize(Holding(ips("1-3"), ips("3"), NONE, NONE), 1, ips("9"))


def test_granted_address_that_a_manual_pool_took() -> None:
    """An address that was granted and that somebody took for a pool by hand is replaced by another."""
    assert ips("1", "3-4") == resize(Holding(NONE, ips("1-3"), NONE, ips("2")), 3, ips("4-9"))


def test_too_small_a_subnet() -> None:
    """The refusal says how many addresses are missing."""
    with pytest.raises(Exhausted, match="3 more addresses are needed, 2 are free"):
        resize(Holding(ips("1"), ips("1"), NONE, NONE), 4, ips("8-9"))


def test_pods_in_the_way() -> None:
    """
    A pool whose addresses pods hold is not cut below them.

    The words are the original's.

    Source: docs/reference/automatic-pools.md#growing-and-shrinking.
    """
    with pytest.raises(
        TryAgain,
        match="IPPool available free IPs are not enough: 2 of 3 addresses have to leave the pool",
    ):
        resize(Holding(ips("1-3"), None, ips("1-2"), NONE), 1, NONE)


@given(SETS, st.none() | SETS, SETS, SETS, SETS, st.integers(0, 45))
def test_resize(
    listed: AddressSet,
    granted: AddressSet | None,
    holders: AddressSet,
    blocked: AddressSet,
    subnet: AddressSet,
    size: int,
) -> None:
    """
    Whatever a crash left.

    The size is met, what pods hold stays, nothing comes from others, twice is once.
    """
    held = holders & listed
    holding = Holding(listed, granted, held, blocked - held)
    free = subnet - blocked - listed
    try:
        result = resize(holding, size, free)
    except Exhausted:
        assert size > (holding.begun | free).size
        return
    except TryAgain:
        assert size < held.size
        return

    assert size == result.size
    assert held.issubset(result)
    assert not result.overlaps(holding.blocked)
    assert result.issubset(listed | (granted or listed) | free)
    assert result == resize(Holding(result, result, held, holding.blocked), size, free - result)


def test_large_pool_leaves_step_by_step() -> None:
    """
    What leaves at once is bounded, whatever the size of the pool.

    2**64 addresses cost what 256 do.
    """
    whole = AddressSet.from_spans(6, ((0, 2**64 - 1),))
    holding = Holding(whole, None, AddressSet.empty(6), AddressSet.empty(6))

    result = resize(holding, 1, AddressSet.empty(6))
    assert ((256, 2**64 - 1),) == result.spans
    assert whole == resize(holding, 1, AddressSet.empty(6), 0)


@pytest.mark.parametrize(
    ("replicas", "largest"), [(0, 64), (1, 67), (320, 1024), (10**9, 1024), (None, 1024)]
)
def test_limits(replicas: int | None, largest: int) -> None:
    """
    A pool is as large as the replicas excuse, and never larger than the limit.

    Source: docs/reference/automatic-pools.md#limits.
    """
    assert largest == SizeLimits().largest(replicas)


@given(SETS, st.integers(0, 40))
def test_lowest(addresses: AddressSet, count: int) -> None:
    """The lowest of a set are what comes first when walking it."""
    assert list(addresses)[:count] == list(lowest(addresses, count))
