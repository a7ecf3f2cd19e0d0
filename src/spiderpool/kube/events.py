"""
Events on objects: one per object and reason, however often the cause repeats and its words change.

Good news is told once for each thing that happened (one Event for each network that a pod got);
only bad news repeats itself.

`Ledger` decides what is due (pure); `EventRecorder` writes it. Events are a courtesy: nothing waits
for them, and what cannot be written is dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from spiderpool.api.kubernetes.core import Event, EventSource, ObjectReference
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.errors import AlreadyExists, NotFound, SpiderpoolError, TryAgain
from spiderpool.kube.cluster import Cluster
from spiderpool.model.event_reasons import NORMAL, EventReason

PERIOD_S = 30.0  # between two writes of one Event
AGAIN_S = 2.0  # after a write that may succeed later
# Events whose repetitions are counted; the API server forgets them after an hour anyway
REMEMBERED = 2048
MESSAGE_LIMIT = 1024  # bytes; what the API server takes for an Event's text
STOP_S = 2.0

_NAME_LIMIT = 253
_log = structlog.get_logger(__name__)


Key = tuple[str, str, str, str]


@dataclass(slots=True)
class Entry:
    """One Event: what is to be said, and how much of it is written."""

    about: ObjectReference
    type: str
    reason: str
    message: str
    last_at: str  # RFC 3339
    first_at: str
    unwritten: int = 0  # occurrences that the API server does not know of yet
    written: int = 0  # occurrences that it knows of, as far as we know
    not_before: float = 0.0

    @property
    def key(self) -> Key:
        """What makes it one Event."""
        return _key(self.about, self.type, self.reason, self.message)


class Ledger:
    """Counts occurrences and says which Events are due to be written."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._dirty: dict[Key, Entry] = {}

    def note(self, about: ObjectReference, type_: str, reason: str, message: str, at: str) -> None:
        """
        Count one occurrence.

        Args:
            about: the object that the Event is on.
            type_: "Normal" or "Warning".
            reason: one word (docs/reference/events.md).
            message: what happened; the newest text of an Event counts.
            at: when, in RFC 3339.
        """
        key = _key(about, type_, reason, message)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Entry(about, type_, reason, message, at, at)
        entry.message, entry.last_at = message, at
        entry.unwritten += 1
        self._entries.move_to_end(key)
        self._dirty[key] = entry
        if len(self._entries) > REMEMBERED:
            oldest, _ = self._entries.popitem(last=False)
            self._dirty.pop(oldest, None)

    def due(self, now: float) -> list[Entry]:
        """Return the entries to write now, and forget that they were due."""
        keys = [key for key, entry in self._dirty.items() if entry.not_before <= now]
        return [self._dirty.pop(key) for key in keys]

    def all(self) -> list[Entry]:
        """Return all entries that have something to write, due or not."""
        return list(self._dirty.values())

    def next_due(self) -> float | None:
        """Say when the next entry is due; None = nothing to write."""
        return min((entry.not_before for entry in self._dirty.values()), default=None)

    def settled(self, entry: Entry, count: int, written: int, now: float) -> None:
        """
        Note that an Event was written.

        Args:
            entry: what it is of.
            count: how many of its occurrences were new in this write.
            written: how many occurrences the Event now has.
            now: monotonic seconds; the next write waits `PERIOD_S`.
        """
        entry.unwritten -= count
        entry.written = written
        entry.not_before = now + PERIOD_S

    def postponed(self, entry: Entry, now: float) -> None:
        """Note that a write failed and may succeed later."""
        entry.not_before = now + AGAIN_S
        self._dirty[entry.key] = entry


class EventRecorder:
    """Writes Events in the background; `start` before, `stop` after."""

    def __init__(
        self,
        cluster: Cluster,
        component: str,
        *,
        host: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the client of the API.
            component: who speaks, such as `spiderpool-agent`.
            host: the node that it runs on.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._source = EventSource(component=component, host=host)
        self._clock = clock
        self._ledger = Ledger()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to write."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="events")

    async def stop(self) -> None:
        """Write what is left, as far as that takes no time, and end."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    for entry in self._ledger.all():
                        await self._write(entry)

    def record(self, about: KubeObject, reason: EventReason, message: str) -> None:
        """
        Queue an Event about an object; never waits.

        Args:
            about: the object; repetitions for it with the same reason are counted, not written
            again.
            reason: says also whether the news is good.
            message: a sentence; cut to what the API server takes.
        """
        self._ledger.note(reference(about), reason.type, reason, cut(message), _now())
        self._news.set()

    async def _run(self) -> None:
        while True:
            for entry in self._ledger.due(self._clock()):
                await self._write(entry)
            self._news.clear()
            due = self._ledger.next_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    await self._news.wait()

    async def _write(self, entry: Entry) -> None:
        count = entry.unwritten
        try:
            written = await self._send(entry, count)
        except TryAgain as error:
            _log.info(
                "event postponed", reason=entry.reason, about=entry.about.name, error=error.message
            )
            self._ledger.postponed(entry, self._clock())
        except SpiderpoolError as error:  # the namespace is gone, or we may not
            _log.info(
                "event dropped", reason=entry.reason, about=entry.about.name, error=error.message
            )
            self._ledger.settled(entry, count, entry.written, self._clock())
        except Exception:  # noqa: BLE001 - one Event that cannot be written must not end the others
            _log.exception("event dropped", reason=entry.reason, about=entry.about.name)
            self._ledger.settled(entry, count, entry.written, self._clock())
        else:
            self._ledger.settled(entry, count, written, self._clock())

    async def _send(self, entry: Entry, count: int) -> int:
        """Write an Event and give the count that it then has."""
        if entry.written:
            with suppress(NotFound):  # an hour old: gone
                return await self._raise_count(entry, entry.written + count)
        event = self._event(entry, count)
        try:
            return (await self._cluster.create(event)).count
        except AlreadyExists:  # by us before a restart, or by a creation whose answer was lost
            there = await self._cluster.get(Event, event.metadata.name, event.metadata.namespace)
            return await self._raise_count(entry, there.count + count)

    async def _raise_count(self, entry: Entry, count: int) -> int:
        event = self._event(entry, count)
        body = {"count": count, "message": event.message, "lastTimestamp": event.last_timestamp}
        await self._cluster.patch(
            Event, event.metadata.name, body, namespace=event.metadata.namespace
        )
        return count

    def _event(self, entry: Entry, count: int) -> Event:
        about, source = entry.about, self._source
        return Event(
            metadata=ObjectMeta(name=self._name(entry), namespace=about.namespace or "default"),
            involved_object=about,
            reason=entry.reason,
            message=entry.message,
            type=entry.type,
            count=count,
            first_timestamp=entry.first_at,
            last_timestamp=entry.last_at,
            source=source,
            reporting_component=source.component,
            reporting_instance=source.host,
        )

    def _name(self, entry: Entry) -> str:
        """Name the Event by what it says, so that a restart finds it again."""
        about, source = entry.about, self._source
        parts = (about.kind, about.namespace, about.name, *entry.key, source.component, source.host)
        digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
        return f"{about.name[: _NAME_LIMIT - 17].rstrip('-.')}.{digest}"


def reference(obj: KubeObject) -> ObjectReference:
    """Name an object as Events do."""
    meta, resource = obj.metadata, obj.resource
    return ObjectReference(
        api_version=resource.api_version,
        kind=resource.kind,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
    )


def _key(about: ObjectReference, type_: str, reason: str, message: str) -> Key:
    subject = about.uid or f"{about.kind}/{about.namespace}/{about.name}"
    return (subject, type_, reason, message if type_ == NORMAL else "")


def cut(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut a text to a number of bytes, between two characters, with an ellipsis as its end."""
    raw = message.encode()
    if len(raw) <= limit:
        return message
    return raw[: limit - 3].decode(errors="ignore") + "…"  # which takes 3 bytes


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
