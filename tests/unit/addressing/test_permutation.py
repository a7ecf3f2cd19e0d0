"""The order of positions: complete, of the seed alone, and even."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.permutation import Permutation, permute, permuted

SIZES = st.integers(1, 300)
HUGE = st.integers(1, 2**128)
SEEDS = st.binary(max_size=20)


@given(SIZES, SEEDS)
def test_each_position_once(n: int, seed: bytes) -> None:
    """Every position comes exactly once."""
    assert list(range(n)) == sorted(permuted(n, seed))


@given(HUGE, SEEDS, st.data())
def test_both_ways(n: int, seed: bytes, data: st.DataObject) -> None:
    """The index of a position is the inverse of the position of an index, at any size."""
    order = Permutation.seeded(n, seed)
    index = data.draw(st.integers(0, n - 1))

    assert 0 <= order.at(index) < n
    assert index == order.index_of(order.at(index))
    assert [(index, order.at(index))] == list(order.indexed([order.at(index)]))


@given(HUGE, SEEDS)
def test_walk_and_ask_agree(n: int, seed: bytes) -> None:
    """Walking gives what asking for each index gives, and the same seed gives the same order."""
    walked = list(islice(permuted(n, seed), 20))

    assert walked == [permute(n, seed, index) for index in range(min(n, 20))]
    assert walked == list(islice(permuted(n, seed), 20))


def test_nothing_to_order() -> None:
    """No positions, no turns."""
    assert not list(permuted(0, b"seed"))


def test_seeds_spread_evenly() -> None:
    """First choices of 20000 seeds over 100 positions stay within six standard deviations of even."""
    first = Counter(next(permuted(100, f"pod-{number}".encode())) for number in range(20000))

    assert all(abs(first[position] - 200) < 6 * 14.1 for position in range(100))


def test_seeds_that_met_part_again() -> None:
    """Two seeds with the same first choice have different second choices nearly always."""
    followers: dict[int, list[int]] = {}
    for number in range(5000):
        first, second = islice(permuted(101, f"pod-{number}".encode()), 2)
        followers.setdefault(first, []).append(second)
    pairs = sum(len(seconds) * (len(seconds) - 1) // 2 for seconds in followers.values())
    met = sum(
        count * (count - 1) // 2
        for seconds in followers.values()
        for count in Counter(seconds).values()
    )

    assert met / pairs < 0.02  # by chance 0.01
