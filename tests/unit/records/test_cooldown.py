"""A released address rests, or its record is deleted."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from spiderpool.api.crd.spiderip import IPState
from spiderpool.model.pool import Pool
from spiderpool.records.build import let_go
from spiderpool.records.cooldown import release, rest_s
from tests.fakes.objects import make_pool, make_record

NOW = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("state", [IPState.COOLING, IPState.QUARANTINED])
def test_an_address_rests_in_its_pool(state: IPState) -> None:
    """The record says since when its address rests, and in which state."""
    record = make_record()

    assert let_go(record, state, "2025-01-02T03:04:05Z") == release(
        record, make_pool(coolDownSeconds=30), NOW, state
    )


def test_reasons_stay_on_the_record() -> None:
    """The suspicion that led to the release, and who else uses the address, stay visible."""
    why = {"suspicion": "pod gone: x", "conflict_mac": "02:00:00:00:00:01"}
    released = release(make_record(), make_pool(), NOW, IPState.QUARANTINED, **why)

    assert released is not None
    assert "02:00:00:00:00:01" == released.spec.conflict_mac
    assert "pod gone: x" in released.metadata.annotations.values()


@pytest.mark.parametrize(
    ("pool", "state"),
    [
        (None, IPState.COOLING),
        (None, IPState.QUARANTINED),
        (make_pool(deleted=True), IPState.COOLING),
        (make_pool(deleted=True), IPState.QUARANTINED),
        (make_pool(coolDownSeconds=0), IPState.COOLING),
    ],
)
def test_nothing_rests_without_a_place_and_a_time(pool: Pool | None, state: IPState) -> None:
    """The record is deleted when its pool is gone or going, or has no cool-down."""
    assert release(make_record(), pool, NOW, state) is None


def test_quarantine_needs_no_cool_down() -> None:
    """An address that somebody else uses is set aside whatever its pool's cool-down is."""
    assert (
        release(make_record(), make_pool(coolDownSeconds=0), NOW, IPState.QUARANTINED) is not None
    )


@pytest.mark.parametrize(
    ("ip", "pool", "state", "seconds"),
    [
        ("10.6.0.10", make_pool(coolDownSeconds=30), IPState.COOLING, 30),
        ("10.6.0.99", make_pool(ips=["10.6.0.10"], coolDownSeconds=30), IPState.COOLING, 0),
        ("10.6.0.10", None, IPState.COOLING, 0),
        ("10.6.0.10", None, IPState.QUARANTINED, 300),
    ],
)
def test_how_long_an_address_rests(
    ip: str, pool: Pool | None, state: IPState, seconds: float
) -> None:
    """The pool says so as long as it has the address; quarantine takes 5 minutes."""
    assert seconds == rest_s(let_go(make_record(ip), state, "2025-01-01T00:00:00Z"), pool)
