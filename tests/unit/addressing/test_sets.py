"""AddressSet behaves as Python's own sets do, at any size."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.sets import AddressSet, address

BASE = {4: int(IPv4Address("10.6.0.0")), 6: int(IPv6Address("fd00::"))}
FAMILIES = st.sampled_from([4, 6])
NUMBERS = st.sets(st.integers(0, 60), max_size=40)


def made(family: int, numbers: set[int]) -> AddressSet:
    """Make a set of small numbers above a base address."""
    return AddressSet.of([address(family, BASE[family] + number) for number in numbers], family)


def numbers_of(addresses: AddressSet) -> set[int]:
    """Read back what `made` was given."""
    return {int(ip) - BASE[addresses.family] for ip in addresses}


@given(FAMILIES, NUMBERS, NUMBERS)
def test_algebra(family: int, left: set[int], right: set[int]) -> None:
    """Union, intersection, difference and comparison agree with Python's sets."""
    a, b = made(family, left), made(family, right)

    assert left | right == numbers_of(a | b)
    assert left & right == numbers_of(a & b)
    assert left - right == numbers_of(a - b)
    assert bool(left & right) == a.overlaps(b)
    assert (left <= right) == a.issubset(b)
    assert (left == right) == (a == b)


@given(FAMILIES, NUMBERS, NUMBERS)
def test_results_are_in_normal_form(family: int, left: set[int], right: set[int]) -> None:
    """Spans of every result are sorted and do not touch, so equal sets are equal values."""
    a, b = made(family, left), made(family, right)

    for result in (a | b, a & b, a - b):
        assert all(
            high + 1 < low
            for (_, high), (low, _) in zip(result.spans, result.spans[1:], strict=False)
        )
        assert result == AddressSet.of(list(result), family)


@given(FAMILIES, NUMBERS)
def test_positions(family: int, numbers: set[int]) -> None:
    """Positions count the addresses upward, and `position` is the inverse of `at`."""
    addresses = made(family, numbers)

    assert len(numbers) == addresses.size
    assert sorted(numbers) == [
        int(addresses.at(position)) - BASE[family] for position in range(addresses.size)
    ]
    assert all(
        addresses.position(addresses.at(position)) == position for position in range(addresses.size)
    )


@given(FAMILIES, NUMBERS, st.integers(0, 60))
def test_membership(family: int, numbers: set[int], number: int) -> None:
    """An address is inside exactly when it was put in, and addresses of the other family never are."""
    addresses = made(family, numbers)

    assert (number in numbers) == (address(family, BASE[family] + number) in addresses)
    assert address(10 - family, number) not in addresses
    assert "10.6.0.1" not in addresses


def test_a_huge_network_is_one_span() -> None:
    """An IPv6 /64 costs one interval, and counting, cutting and looking up work on it."""
    network = AddressSet.network(ip_network("fd00::/64"))
    rest = network - AddressSet.of([ip_address("fd00::5")])

    assert 2**64 == network.size
    assert 2**64 - 1 == rest.size
    assert ip_address("fd00::6") == rest.at(5)
    assert ip_address("fd00::ffff:ffff:ffff:ffff") == rest.at(rest.size - 1)
    assert next(iter(network)) == ip_address("fd00::")


def test_the_whole_address_space() -> None:
    """Nothing is lost at the ends of the address space."""
    everything = AddressSet.network(ip_network("::/0"))

    assert 2**128 == everything.size
    assert AddressSet.empty(6) == everything - everything
    assert ip_address("::") not in everything - AddressSet.of([ip_address("::")])


@pytest.mark.parametrize(
    "spans", [((5, 4),), ((0, 1), (2, 3)), ((4, 5), (0, 1)), ((0, 2**32),), ((-1, 0),)]
)
def test_values_out_of_form_are_refused(spans: tuple[tuple[int, int], ...]) -> None:
    """A set that is not in normal form cannot be made."""
    with pytest.raises(ValueError, match="out of order or range"):
        AddressSet(4, spans)


def test_families_do_not_mix() -> None:
    """Sets of two families never meet, and a set needs to know its family."""
    four, six = made(4, {1}), made(6, {1})

    with pytest.raises(ValueError, match="IPv4 meets a set of IPv6"):
        _ = four | six
    with pytest.raises(ValueError, match="both families"):
        AddressSet.of([four.at(0), six.at(0)])
    with pytest.raises(ValueError, match="name it"):
        AddressSet.of([])
    with pytest.raises(ValueError, match="neither 4 nor 6"):
        AddressSet(5, ())


def test_positions_outside_are_refused() -> None:
    """What has no position is said, not guessed."""
    with pytest.raises(IndexError, match="position 1 in a set of 1"):
        made(4, {1}).at(1)
    with pytest.raises(IndexError, match="position -1"):
        made(4, {1}).at(-1)
    with pytest.raises(ValueError, match="is not in the set"):
        made(4, {1}).position(ip_address("10.6.0.9"))
