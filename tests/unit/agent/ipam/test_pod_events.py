"""Which failures are told on the Pod."""

from __future__ import annotations

import pytest

from spiderpool.agent.ipam.pod_events import reason_of
from spiderpool.errors import (
    Exhausted,
    InvalidRequest,
    NoPool,
    SpiderpoolError,
    TooManyRequests,
    TryAgain,
    UnknownOutcome,
    Unreachable,
)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Exhausted("x"), "IPAddressesUsedOut"),
        (NoPool("x"), "NoIPPoolAvailable"),
        (InvalidRequest("x"), "WrongInput"),
        (TryAgain("x"), "IPAllocationPostponed"),
        (SpiderpoolError("x"), "IPAllocationFailed"),
        (Unreachable("x"), None),
        (TooManyRequests("x"), None),
        (UnknownOutcome("x"), None),
    ],
)
def test_each_failure_has_its_reason(error: SpiderpoolError, reason: str | None) -> None:
    """An API server that is away is no news for a pod's owner; all else is."""
    assert reason == reason_of(error)
