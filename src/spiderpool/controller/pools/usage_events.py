"""
Pools that are nearly full: an Event when that begins, and one when it is over.

Read from the pools' status, which is derived: nothing decides from it, and looking costs nothing.
Automatic pools are left out, since they are made as large as their application, so nearly full is
how they should be.
"""

from __future__ import annotations

from spiderpool.api.crd.group import LABEL_OWNER_APP_NAME
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.audit.usage import is_nearly_full
from spiderpool.controller.runtime.context import Context, RecordEvent
from spiderpool.kube.cluster import Change
from spiderpool.model.event_reasons import EventReason


class Fullness:
    """Tells on each pool that it is nearly full, and that it is not any more."""

    def __init__(self, context: Context, record_event: RecordEvent, *, percent: int) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: the informers.
            record_event: writes an Event.
            percent: of a pool's addresses; 0 = never tell.
        """
        self._context = context
        self._record_event = record_event
        self._percent = percent
        self._full: set[str] = set()  # UIDs

    def start(self) -> None:
        """Follow the pools and look at each once."""
        self._context.follow(self._context.pools, self._on_pool)
        for pool in self._context.pools:
            self._look_at(pool)

    def _on_pool(self, _: Change, old: SpiderIPPool | None, new: SpiderIPPool | None) -> None:
        """A pool came, changed or went."""
        if new is not None:
            self._look_at(new)
        elif old is not None:
            self._full.discard(old.metadata.uid)

    def _look_at(self, pool: SpiderIPPool) -> None:
        """Write the Event when it begins and when it ends."""
        uid, status = pool.metadata.uid, pool.status
        held, total = status.allocated_ip_count or 0, status.total_ip_count or 0
        was = uid in self._full
        now = LABEL_OWNER_APP_NAME not in pool.metadata.labels and is_nearly_full(
            held, total, self._percent, was=was
        )
        if now == was:
            return
        numbers = f"pool {pool.metadata.name}: {held} of {total} addresses are held"
        if now:
            self._full.add(uid)
            self._record_event(
                pool,
                EventReason.POOL_NEARLY_FULL,
                f"{numbers}; when none is left pods wait: add addresses, or a further pool",
            )
        else:
            self._full.discard(uid)
            self._record_event(
                pool, EventReason.POOL_USAGE_NORMAL, f"{numbers}: not nearly full any more"
            )
