"""Names of a StatefulSet's pods, and the ordinals that it wants."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.model.statefulset import (
    StatefulName,
    parse_stateful_name,
    position_of,
    wanted_ordinals,
)
from tests.fakes.objects import make_statefulset


@pytest.mark.parametrize(
    ("name", "start", "expected"),
    [("db-0", None, 0), ("db-3", None, 3), ("db-7", 5, 2), ("db-4", 5, None), ("web", None, None)],
)
def test_position_of_a_pod(name: str, start: int | None, expected: int | None) -> None:
    """The position counts from where the StatefulSet's ordinals start."""
    assert expected == position_of(name, make_statefulset("db", start=start))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("db-0", StatefulName("db", 0)),
        ("a-1-22", StatefulName("a-1", 22)),
        ("web", None),
        ("web-x", None),
        ("db-1a", None),
    ],
)
def test_names(name: str, expected: StatefulName | None) -> None:
    """
    A pod of a StatefulSet has the StatefulSet's name, a dash and a number.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    assert expected == parse_stateful_name(name)


@given(start=st.integers(0, 100), replicas=st.integers(0, 100), position=st.integers(0, 200))
def test_a_wanted_ordinal_has_a_position(start: int, replicas: int, position: int) -> None:
    """Law: a pod is wanted if its position is below the number of replicas."""
    statefulset = make_statefulset("db", replicas=replicas, start=start)
    wanted = wanted_ordinals(statefulset)

    assert (position < replicas) == ((start + position) in wanted)
    assert position == position_of(f"db-{start + position}", statefulset)
