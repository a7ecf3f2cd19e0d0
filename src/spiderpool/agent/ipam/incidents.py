"""
Incidents: what should not happen to addresses, counted and told to administrators and users.

One counter and one Event each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from spiderpool.agent.metrics import Metrics
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.kubernetes.core import Pod
from spiderpool.kube.events import EventRecorder
from spiderpool.model.event_reasons import EventReason


@dataclass(frozen=True, slots=True)
class Incidents:
    """Counts incidents and queues their Events; a pool that is gone has no Event."""

    metrics: Metrics
    recorder: EventRecorder
    find_pool: Callable[[str], SpiderIPPool | None]

    def address_lost(self, pod: Pod, text: str) -> None:
        """Report that somebody else has an address that a living pod uses."""
        self.metrics.lost_addresses.inc()
        self.recorder.record(pod, EventReason.ADDRESS_LOST, text)

    def address_fenced(self, pool: str, text: str) -> None:
        """Report that an address of a pool was taken off a namespace."""
        self.metrics.fenced_addresses.inc()
        self._record(pool, EventReason.FENCED, text)

    def pool_misused(self, pool: str, text: str) -> None:
        """Report a tenant or machine that has, or answers for, too many addresses of a pool."""
        self.metrics.suspicious_addresses.inc()
        self._record(pool, EventReason.MISUSED, text)

    def _record(self, name: str, reason: EventReason, text: str) -> None:
        pool = self.find_pool(name)
        if pool is not None:
            self.recorder.record(pool, reason, text)
