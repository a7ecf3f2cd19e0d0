"""
Informer.

The objects of one list, kept up to date by a watch, with one's own writes visible at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Coroutine,
    Hashable,
    Iterator,
    ValuesView,
)
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

import structlog

from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.errors import Gone, SpiderpoolError
from spiderpool.kube.backoff import Backoff
from spiderpool.kube.cluster import Change, Cluster, Listing, WatchEvent
from spiderpool.kube.informer_store import InformerStore, Key, KeyFunction, Subscriber, version

T = TypeVar("T", bound=KubeObject)
R = TypeVar("R")
_Listed = Coroutine[Any, Any, Listing[T]]

# A watch that the server ends sooner, without an event, is followed by a wait; one that stands
# longer is answered: connecting takes less.
SHORT_WATCH_S = 10.0
# A watch is ended by us after so long, to see whether the store's history is still the one that we
# know. Each process chooses its own moment.
CHECK_S = 600.0
# The same for the few processes that derive things from all others' writes: a store that comes back
# from a backup under a running API server ends no watch.
SHORT_CHECK_S = 60.0
# So long a list is good for: what a restored store changed unnoticed is known after it.
RELIST_S = 3600.0

_log = structlog.get_logger(__name__)


class Informer(Generic[T]):
    """
    The objects that match, a little late but never behind one's own writes.

    Survives restarts of the API server: it goes on from where it was, or lists again when that is
    too old. Errors are logged, kept in `trouble`, and met with ever longer waits up to 10 s.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        consistent: bool = False,
        check_s: float = CHECK_S,
    ) -> None:
        """
        Keep the arguments; `start` begins.

        Args:
            cluster: the client of the API.
            kind: what to informer.
            namespace: empty = all.
            labels: a label selector in text form.
            fields: a field selector in text form.
            consistent: list from etcd, not from the API server's memory.
            check_s: the longest time between two looks whether the store's history is still ours.
        """
        self._cluster = cluster
        self._kind = kind
        self._asked: type[KubeObject] = kind  # the resource; `MetadataInformer` holds less of it
        self._namespace = namespace
        self._check_s = check_s
        self._labels = labels
        self._fields = fields
        self._store: InformerStore[T] = InformerStore(time.monotonic)
        self._position = _Position(consistent=consistent)
        self._task: asyncio.Task[None] | None = None
        self._synced = asyncio.Event()
        self._changed = asyncio.Event()
        self._store.subscribe(lambda *_: self._wake())
        self.trouble: SpiderpoolError | None = None

    async def start(self) -> None:
        """Begin to list and watch in a task of its own."""
        if self._task is None:
            self._task = asyncio.create_task(
                self._run(), name=f"informer {self._asked.resource.plural}"
            )

    async def stop(self) -> None:
        """End the task; what is watched stays readable."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def synced(self) -> None:
        """Wait until the first list is complete."""
        await self._synced.wait()

    @property
    def is_synced(self) -> bool:
        """Return whether the first list is complete."""
        return self._synced.is_set()

    def get(self, key: Key) -> T | None:
        """Return the object of that (namespace, name)."""
        return self._store.objects.get(key)

    def named(self, name: str, namespace: str = "") -> T | None:
        """Return the object of that name."""
        return self._store.objects.get((namespace, name))

    def values(self) -> ValuesView[T]:
        """Return all objects, a live view: copy it before you await while walking it."""
        return self._store.objects.values()

    def __len__(self) -> int:
        return len(self._store.objects)

    def __iter__(self) -> Iterator[T]:
        return iter(tuple(self._store.objects.values()))

    def index(self, name: str, keyfunc: KeyFunction[T]) -> None:
        """Keep objects findable by what `keyfunc` gives; None = not in this index."""
        self._store.index(name, keyfunc)

    def by_index(self, name: str, value: Hashable) -> tuple[T, ...]:
        """Return the objects for which the index's function gave `value`."""
        return self._store.by_index(name, value)

    def subscribe(self, subscriber: Subscriber[T]) -> Callable[[], None]:
        """Call `subscriber` at every change from now on; the result ends that."""
        return self._store.subscribe(subscriber)

    async def wait_for(
        self, predicate: Callable[[Informer[T]], R | None], timeout_s: float
    ) -> R | None:
        """
        Return the first true result of `predicate`, asked now and after each change.

        None when the time is over.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not (result := predicate(self)):
                    await self._changed.wait()
                return result
        return None

    def remember(self, obj: T) -> None:
        """
        Take in what the API server answered to a write of one's own.

        Older news of it are ignored from now on.
        """
        self._store.put(obj)

    def forget(self, obj: KubeObject) -> None:
        """
        Drop an object that one's own deletion removed (it had no finalizers).

        It does not come back by older news.
        """
        self._store.bury(obj)

    def dismiss(self, obj: T) -> None:
        """
        Drop what one's own write moved out of the selection.

        It may come back in a later version.
        """
        self._store.apply(WatchEvent(Change.DELETED, obj))

    def _list(self, resource_version: str | None) -> _Listed[T]:
        return self._cluster.list_objects(
            self._kind,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=resource_version,
        )

    def _watch(self, resource_version: str) -> AsyncGenerator[WatchEvent[T], None]:
        return self._cluster.watch(
            self._kind,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=resource_version,
        )

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            try:
                if not self._position.must_list:
                    await self._check_history()
                if self._position.must_list:
                    await self._relist()
                if await self._follow():
                    backoff.reset()
                    continue
            except SpiderpoolError as error:
                self._note(error)
            except Exception:  # noqa: BLE001 - a subscriber's fault must not end the informer
                _log.exception("watch interrupted", kind=self._asked.resource.plural)
                self._position.must_list = True
            await asyncio.sleep(backoff.next_s(self.trouble))

    async def _check_history(self) -> None:
        """
        List again when the store has gone back or lost what we saw, or the last list is old.

        An etcd that came back from a backup has lower versions. The API server accepts a watch that
        begins in the future and tells nothing until that version comes. The store may also have
        caught up with our version by now: then what happened last before it came back is what it
        has lost. Both are asked within the selection: we may be allowed no more.
        """
        last, lost = self._position.last or self._newest(), False
        if last is None:
            latest = await self._cluster.latest_version(
                self._asked, self._namespace, fields=self._fields
            )
        else:
            namespace, name = last.key
            found = await self._cluster.list_metadata(
                self._asked, namespace=namespace, fields=f"metadata.name={name}"
            )
            latest = found.resource_version
            now = next((obj.metadata.resource_version for obj in found.items), None)
            lost = last.is_lost(now)
        self._position.compare(latest, time.monotonic())
        if lost:
            self._position.must_list = self._position.restored = True

    def _newest(self) -> _LastChange | None:
        """Return the latest version that is known of any object."""
        latest = max(
            self._store.objects.values(),
            key=lambda obj: version(obj.metadata.resource_version),
            default=None,
        )
        return None if latest is None else _LastChange.of(latest, deleted=False)

    async def _relist(self) -> None:
        listing = await self._list(self._position.list_from)
        self._store.replace(listing, restored=self._position.restored)
        self._position.listed(listing.resource_version, time.monotonic())
        self.trouble = None
        self._synced.set()
        self._wake()

    async def _follow(self) -> bool:
        """Apply events until the server closes the watch; whether it was worth while."""
        began = time.monotonic()
        any_came = False
        # Where nothing changes no event comes to tell that all is well again.
        stands = asyncio.get_running_loop().call_later(SHORT_WATCH_S, self._recover)
        try:
            async with (
                _ended_after(self._check_s * random.uniform(0.5, 1.0)),  # noqa: S311 - spreads load
                aclosing(self._watch(self._position.seen)) as events,
            ):
                async for event in events:
                    any_came, self.trouble = True, None
                    if event.change is not Change.BOOKMARK:
                        self._store.apply(event)
                        self._position.last = _LastChange.of(
                            event.object, deleted=event.change is Change.DELETED
                        )
                    self._position.seen = event.object.metadata.resource_version
        finally:
            stands.cancel()
        return any_came or time.monotonic() - began > SHORT_WATCH_S

    def _recover(self) -> None:
        self.trouble = None

    def _note(self, error: SpiderpoolError) -> None:
        self.trouble = error
        self._position.failed(error)
        # that is how a long silence ends, and the list that follows repairs it
        if not isinstance(error, Gone):
            _log.warning("watch interrupted", kind=self._asked.resource.plural, error=error.message)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True, slots=True)
class _LastChange:
    """The last change that a watch told: of which object, up to which version."""

    key: Key
    version: int
    deleted: bool

    @classmethod
    def of(cls, obj: KubeObject, *, deleted: bool) -> Self:
        """Take it from an object as the watch told it."""
        return cls(obj.key, version(obj.metadata.resource_version), deleted)

    def is_lost(self, now: str | None) -> bool:
        """
        Return whether the store does not know the change any more.

        Args:
            now: the version that the object has, None when there is none.
        """
        if now is None:
            return not self.deleted  # or it went while nobody watched: the list tells
        return version(now) < self.version


@dataclass(slots=True)
class _Position:
    """Where an informer is in the history of its objects, and how it goes on."""

    consistent: bool
    seen: str = ""
    must_list: bool = True
    # the API server knows only versions before `seen`: a backup of etcd came back
    restored: bool = False
    listed_s: float = 0.0
    last: _LastChange | None = None

    @property
    def list_from(self) -> str | None:
        """
        Which list to ask for.

        Never one that is older than what was seen, and from memory where that will do.
        """
        return None if self.consistent or self.restored else self.seen or "0"

    def listed(self, resource_version: str, now_s: float) -> None:
        """A list is complete."""
        self.seen, self.must_list, self.restored, self.last = resource_version, False, False, None
        self.listed_s = now_s

    def compare(self, latest: str, now_s: float) -> None:
        """Decide by the version that the store is at whether to list again."""
        if version(latest) < version(self.seen):
            self.must_list = self.restored = True
        elif now_s - self.listed_s > RELIST_S:
            self.must_list = True

    def failed(self, error: SpiderpoolError) -> None:
        """Decide whether to list again."""
        if isinstance(error, Gone):
            self.must_list = True
        elif "Too large resource version" in error.message:
            self.must_list = self.restored = True


@asynccontextmanager
async def _ended_after(seconds: float) -> AsyncIterator[None]:
    """End what is inside after some seconds, as if it had ended by itself."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise


class MetadataInformer(Informer[PartialObject]):
    """An informer of metadata only."""

    def __init__(
        self,
        cluster: Cluster,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        consistent: bool = False,
        check_s: float = CHECK_S,
    ) -> None:
        """Keep the arguments, which are those of `Informer`; nothing runs yet."""
        super().__init__(
            cluster,
            PartialObject,
            namespace=namespace,
            labels=labels,
            fields=fields,
            consistent=consistent,
            check_s=check_s,
        )
        self._asked = kind

    def _list(self, resource_version: str | None) -> _Listed[PartialObject]:
        return self._cluster.list_metadata(
            self._asked,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=resource_version,
        )

    def _watch(self, resource_version: str) -> AsyncGenerator[WatchEvent[PartialObject], None]:
        return self._cluster.watch_metadata(
            self._asked,
            namespace=self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=resource_version,
        )
