"""
Telling users on their Pod why it gets no address.

One Event per pod and reason, with the same text as the CNI error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from spiderpool.agent.node.caller import PodCall
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import (
    AddressHeld,
    Exhausted,
    InvalidRequest,
    NoPool,
    SpiderpoolError,
    TryAgain,
    Unreachable,
)
from spiderpool.kube.events import EventRecorder
from spiderpool.model.event_reasons import EventReason

COMPONENT: Final = "spiderpool-agent"

# What only the runtime and the agent can repair is no news for a user: kubelet repeats the call.
_REASONS: Final[tuple[tuple[type[SpiderpoolError], EventReason | None], ...]] = (
    (AddressHeld, EventReason.ADDRESS_HELD),
    (Exhausted, EventReason.EXHAUSTED),
    (NoPool, EventReason.NO_POOL),
    (InvalidRequest, EventReason.WRONG_INPUT),
    (Unreachable, None),
    (TryAgain, EventReason.POSTPONED),
    (SpiderpoolError, EventReason.FAILED),
)


@dataclass(frozen=True, slots=True)
class Reports:
    """Writes Events about pods; never holds up the caller."""

    recorder: EventRecorder
    find_pod: Callable[[PodCall], Pod | None]

    def add_failed(self, call: PodCall, error: SpiderpoolError) -> None:
        """Report why an ADD failed, if its pod is known and the reason is one for users."""
        reason = reason_of(error)
        pod = self.find_pod(call)
        if reason is not None and pod is not None:
            self.recorder.record(pod, reason, error.message)

    def left_out(self, pod: Pod, message: str) -> None:
        """Report that a pod does not get all that it asks for, and runs without it."""
        self.recorder.record(pod, EventReason.ROUTE_LEFT_OUT, message)

    def policy_left_out(self, call: PodCall, message: str) -> None:
        """Report the same of a route that the administrator asks for."""
        pod = self.find_pod(call)
        if pod is not None:
            self.left_out(pod, message)


def reason_of(error: SpiderpoolError) -> EventReason | None:
    """Return the Event's reason for an error, None when it is not for users."""
    return next(reason for kind, reason in _REASONS if isinstance(error, kind))
