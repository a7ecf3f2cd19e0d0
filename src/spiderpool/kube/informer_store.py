"""
Replica: the memory of an informer.

Decides which of two pieces of news about an object is the later one. No I/O but the log: an object
that cannot be read is passed over, so that it hides no others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import structlog

from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.kube.cluster import Change, Listing, WatchEvent

T = TypeVar("T", bound=KubeObject)
Key = tuple[str, str]
"""(namespace, name), as `KubeObject.key`."""
KeyFunction = Callable[[T], Hashable | None]
Subscriber = Callable[[Change, T | None, T | None], None]
"""
Called with the change, the object before (None when added) and after (None when deleted).

Must not block or raise.
"""

_log = structlog.get_logger(__name__)

# as long as an API server remembers events (etcd's compaction, every 5 minutes)
TOMBSTONE_S = 300.0


def version(resource_version: str) -> int:
    """
    Read a resource version as a number; the only place that does.

    Versions used to be opaque, yet one's own write and a watch of the same resource must be put in
    order. Comparing them as numbers is a promise of the API since KEP-5504, and what etcd always
    gave.
    """
    return int(resource_version or 0)


class InformerStore(Generic[T]):
    """
    Objects by key, with indexes and subscribers.

    Later news win, whatever order they arrive in.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """
        Begin empty.

        Args:
            clock: monotonic seconds.
        """
        self.objects: dict[Key, T] = {}
        self._clock = clock
        self._indexes: dict[str, _Index[T]] = {}
        self._subscribers: list[Subscriber[T]] = []
        # UID → (version up to which news are old, when it was dug); in the order of digging.
        self._tombstones: dict[str, tuple[float, float]] = {}

    def index(self, name: str, function: KeyFunction[T]) -> None:
        """Keep objects findable by what `function` gives."""
        index = self._indexes[name] = _Index(function)
        for obj in self.objects.values():
            index.change(None, obj)

    def by_index(self, name: str, value: Hashable) -> tuple[T, ...]:
        """Return the objects for which the index's function gave `value`."""
        return tuple(self.objects[key] for key in self._indexes[name].keys.get(value, ()))

    def subscribe(self, subscriber: Subscriber[T]) -> Callable[[], None]:
        """Call `subscriber` at every change from now on; the result ends that."""
        self._subscribers.append(subscriber)
        return lambda: self._subscribers.remove(subscriber)

    def put(self, obj: T) -> None:
        """Take in an object, unless what is known is as late, or the object was buried."""
        old = self.objects.get(obj.key)
        seen = version(obj.metadata.resource_version)
        if old is not None and seen <= version(old.metadata.resource_version):
            return
        if seen <= self._tombstones.get(obj.metadata.uid, (-1, 0))[0]:
            return
        self._change(obj.key, obj)

    def apply(self, event: WatchEvent[T]) -> None:
        """Take in an event of a watch."""
        obj = event.object
        if event.change is not Change.DELETED:
            self.put(obj)
            return
        # DELETED also means "left the selection": the object may come back, in a later version.
        seen = version(obj.metadata.resource_version)
        self._dig(obj.metadata.uid, seen)
        old = self.objects.get(obj.key)
        if old is not None and version(old.metadata.resource_version) <= seen:
            self._change(obj.key, None)

    def bury(self, obj: KubeObject) -> None:
        """
        Drop an object whose deletion is certain, and what had its name before.

        No news bring it back.
        """
        self._dig(obj.metadata.uid, math.inf)
        old = self.objects.get(obj.key)
        if old is None:
            return
        earlier = version(old.metadata.resource_version) <= version(obj.metadata.resource_version)
        if earlier or old.metadata.uid == obj.metadata.uid:
            self._change(obj.key, None)

    def replace(self, listing: Listing[T], *, restored: bool = False) -> None:
        """
        Take in a whole list; what it lacks goes, except what is later than the list.

        Args:
            listing: what the API server says.
            restored: its versions have gone back (a backup of etcd came back): what it says goes.
                The list itself may show it.
        """
        restored = restored or self._went_back(listing)
        if restored:
            self._tombstones.clear()
        listed = {obj.key: obj for obj in listing.items}
        taken = version(listing.resource_version)
        for key, old in list(self.objects.items()):
            gone = key not in listed and (
                restored or version(old.metadata.resource_version) <= taken
            )
            if gone or (restored and not _same(old, listed.get(key))):
                self._change(key, listed.get(key))
        for obj in listed.values():
            self.put(obj)

    def _went_back(self, listing: Listing[T]) -> bool:
        """
        Return whether a list rewrites history.

        It is later than an object that is known, and has an earlier version of that object.
        """
        taken = version(listing.resource_version)
        for obj in listing.items:
            old = self.objects.get(obj.key)
            if old is None or old.metadata.uid != obj.metadata.uid:
                continue
            known = version(old.metadata.resource_version)
            if version(obj.metadata.resource_version) < known <= taken:
                return True
        return False

    def _dig(self, uid: str, until: float) -> None:
        now = self._clock()
        while (
            self._tombstones
            and (eldest := next(iter(self._tombstones)))
            and self._tombstones[eldest][1] < now - TOMBSTONE_S
        ):
            del self._tombstones[eldest]
        known = self._tombstones.pop(uid, (-1, 0))[0]
        self._tombstones[uid] = (max(until, known), now)

    def _change(self, key: Key, new: T | None) -> None:
        old = self.objects.get(key)
        if new is not None and not self._fits(new):
            new = None
        if new is old:
            return
        for index in self._indexes.values():
            index.change(old, new)
        if new is None:
            del self.objects[key]
        else:
            self.objects[key] = new
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(_change_of(old, new), old, new)
            except Exception:  # noqa: BLE001 - what it does to one subscriber concerns nobody else
                _log.exception("news of an object could not be taken in", name="/".join(key))

    def _fits(self, obj: T) -> bool:
        """Return whether all indexes can place an object; one that they cannot is passed over."""
        try:
            for index in self._indexes.values():
                index.place(obj)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it
            _log.warning(
                "object cannot be read and is passed over",
                kind=obj.resource.plural,
                namespace=obj.metadata.namespace,
                name=obj.metadata.name,
                reason=str(error),
            )
            return False
        return True


class _Index(Generic[T]):
    """Keys of objects by what a function gives for them."""

    def __init__(self, function: KeyFunction[T]) -> None:
        self._function = function
        # a dict keeps the order in which objects came
        self.keys: dict[Hashable, dict[Key, None]] = {}

    def place(self, obj: T) -> Hashable | None:
        """Return where an object belongs."""
        return self._function(obj)

    def change(self, old: T | None, new: T | None) -> None:
        """Move an object from where it was to where it is."""
        before = None if old is None else self.place(old)
        after = None if new is None else self.place(new)
        if before == after:
            return
        if old is not None and before is not None:
            self._drop(before, old.key)
        if new is not None and after is not None:
            self.keys.setdefault(after, {})[new.key] = None

    def _drop(self, value: Hashable, key: Key) -> None:
        keys = self.keys[value]
        del keys[key]
        if not keys:
            del self.keys[value]


def _same(old: KubeObject, new: KubeObject | None) -> bool:
    return (
        new is not None
        and old.metadata.uid == new.metadata.uid
        and old.metadata.resource_version == new.metadata.resource_version
    )


def _change_of(old: KubeObject | None, new: KubeObject | None) -> Change:
    if new is None:
        return Change.DELETED
    return Change.ADDED if old is None else Change.MODIFIED
