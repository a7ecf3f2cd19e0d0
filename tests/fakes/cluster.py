"""
FakeCluster: an API server in memory, which loses races, forgets answers and lags on request.

The contract suite runs against it and against a real API server, so it answers as that one does. It
has no garbage collector, no admission and no controllers: nothing happens to an object unless
somebody writes.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import itertools
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgspec

from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.meta import KubeObject, Resource
from spiderpool.errors import (
    AlreadyExists,
    Conflict,
    Gone,
    NotFound,
    Rejected,
    SpiderpoolError,
    Unreachable,
)
from spiderpool.kube.cluster import Change, Cluster, Listing, PatchType, WatchEvent
from tests.fakes.patches import json_patch, merge_patch
from tests.fakes.selectors import Predicate, field_predicate, label_predicate

T = TypeVar("T", bound=KubeObject)
Json = dict[str, Any]
Key = tuple[str, str]
Folder = tuple[str, str]
"""(group, plural)."""

KEPT_BY_SERVER = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
)
WITH_STATUS = frozenset(
    {
        "pods",
        "nodes",
        "namespaces",
        "jobs",
        "replicasets",
        "statefulsets",
        "deployments",
        "daemonsets",
        "spiderippools",
        "spidersubnets",
        "spidercoordinators",
    }
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that somebody made."""

    verb: str
    plural: str
    name: str


Hook = Callable[[Call], Awaitable[None] | None]


@dataclass(slots=True)
class _Fault:
    verb: str
    kind: type[KubeObject] | None
    error: Exception
    after_commit: bool
    times: int

    def meets(self, verb: str, kind: type[KubeObject], *, after_commit: bool) -> bool:
        here = self.verb in {verb, "*"} and (
            self.kind is None or self.kind.resource == kind.resource
        )
        return here and self.after_commit is after_commit


@dataclass(slots=True)
class Faults:
    """What goes wrong next, and how slow everything is."""

    latency_s: float = 0.0
    down: bool = False
    _planned: list[_Fault] = field(default_factory=list)

    def fail_next(
        self,
        verb: str,
        kind: type[KubeObject] | None,
        error: Exception,
        *,
        after_commit: bool = False,
        times: int = 1,
    ) -> None:
        """
        Let the next calls of a verb on a kind fail.

        Args:
            verb: get, list, watch, create, replace, patch, delete; or * for any.
            kind: None for any.
            error: what is raised.
            after_commit: the write happens, its answer is lost.
            times: how many calls.
        """
        self._planned.append(_Fault(verb, kind, error, after_commit, times))

    def strike(self, verb: str, kind: type[KubeObject], *, after_commit: bool = False) -> None:
        """Raise what was planned for this call."""
        if self.down:
            raise Unreachable("the API server is down")
        for fault in self._planned:
            if fault.meets(verb, kind, after_commit=after_commit):
                fault.times -= 1
                if fault.times == 0:
                    self._planned.remove(fault)
                raise fault.error


@dataclass(frozen=True, slots=True)
class _Entry:
    """One change in the history; `folder` None = a bookmark for everybody."""

    version: int
    folder: Folder | None
    key: Key = ("", "")
    old: Json | None = None
    new: Json | None = None


@dataclass(frozen=True, slots=True)
class Backup:
    """What a store had at one moment."""

    version: int
    folders: dict[Folder, dict[Key, Json]]
    history: list[_Entry]


class FakeCluster:
    """The port `Cluster` in memory."""

    def __init__(self, *, history_limit: int = 100_000) -> None:
        """
        Begin empty.

        Args:
            history_limit: changes that a watch can look back; older positions are Gone.
        """
        self.faults = Faults()
        self.calls: list[Call] = []
        self._hooks: list[Hook] = []
        self._in_hook = False
        self._folders: dict[Folder, dict[Key, Json]] = {}
        self._history: list[_Entry] = []
        self._history_limit = history_limit
        # versions up to `_forgotten` left the history, or were before it
        self._version = self._forgotten = 100
        self._held_at: int | None = None
        # one entry each time that all watches were ended
        self._watch_end: list[SpiderpoolError | None] = []
        self._news = asyncio.Event()
        self._names = itertools.count()

    # What a test may do beside the port

    def count(self, verb: str, kind: type[KubeObject] | None = None) -> int:
        """Count the calls of a verb so far."""
        return sum(
            c.verb == verb and (kind is None or kind.resource.plural == c.plural)
            for c in self.calls
        )

    def on_write(self, hook: Hook) -> None:
        """Run `hook` before each write of others is carried out; its own writes run no hooks."""
        self._hooks.append(hook)

    def seed(self, obj: T) -> T:
        """Put an object in place with its status, UID and deletion time as given, at once and unconditionally."""
        body = _to_json(obj)
        meta = body["metadata"]
        meta.setdefault("uid", str(uuid.uuid4()))
        meta.setdefault("creationTimestamp", _now())
        folder = _folder(obj.resource)
        key = obj.key
        return _typed(
            type(obj), self._commit(folder, key, self._folders.get(folder, {}).get(key), body)
        )

    def drop(self, kind: type[KubeObject], name: str, namespace: str = "") -> None:
        """Remove an object at once, finalizers or not."""
        folder = _folder(kind.resource)
        self._commit(folder, (namespace, name), self._folders[folder][namespace, name], None)

    def all(self, kind: type[T]) -> tuple[T, ...]:
        """Return all objects of a kind, by key, without a call being counted."""
        objects = self._folders.get(_folder(kind.resource), {})
        return tuple(_typed(kind, objects[key]) for key in sorted(objects))

    def hold_watch(self) -> None:
        """From now on watches, and lists from memory, show nothing new."""
        self._held_at = self._version

    def release_watch(self) -> None:
        """End `hold_watch`; what happened meanwhile arrives."""
        self._held_at = None
        self._wake()

    def bookmark(self) -> None:
        """Send a bookmark to all watches."""
        self._version += 1
        self._remember(_Entry(self._version, None))

    def compact(self) -> None:
        """Forget the history: every position before now is Gone."""
        self._history.clear()
        self._forgotten = self._version

    def back_up(self) -> Backup:
        """Return what is stored now."""
        return Backup(self._version, copy.deepcopy(self._folders), list(self._history))

    def restore(self, backup: Backup) -> None:
        """
        Come back from a backup: versions go back too, and watches end.

        A watch that begins in the future is accepted and tells nothing until that version comes, as
        that of the real one.
        """
        self._version, self._folders = backup.version, copy.deepcopy(backup.folders)
        self._history = list(backup.history)
        self.end_watches()

    def end_watches(self, error: SpiderpoolError | None = None) -> None:
        """End all watches, in peace or by an error."""
        self._watch_end.append(error)
        self._wake()

    def stop(self) -> None:
        """Answer nothing any more; watches break."""
        self.faults.down = True
        self.end_watches(Unreachable("the API server is down"))

    def start(self) -> None:
        """End `stop`."""
        self.faults.down = False

    # The port

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        """Read one object."""
        return _typed(kind, await self._read(kind, name, namespace))

    async def get_metadata(
        self, kind: type[KubeObject], name: str, namespace: str = ""
    ) -> PartialObject:
        """Read one object's metadata."""
        return _typed(PartialObject, _metadata_only(await self._read(kind, name, namespace)))

    async def get_scale(self, kind: type[KubeObject], name: str, namespace: str) -> int:
        """
        Read how many replicas an object wants.

        One without that field has no such subresource.
        """
        found = await self._read(kind, name, namespace)
        if "replicas" not in found.get("spec", {}):
            raise NotFound(f'{kind.resource.plural} "{name}" not found')
        return int(found["spec"]["replicas"])

    async def list_objects(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[T]:
        """List objects."""
        found, version = await self._list(_Scope(kind, namespace, labels, fields), resource_version)
        return Listing(tuple(_typed(kind, obj) for obj in found), version)

    async def list_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[PartialObject]:
        """List metadata."""
        found, version = await self._list(_Scope(kind, namespace, labels, fields), resource_version)
        return Listing(tuple(_typed(PartialObject, _metadata_only(obj)) for obj in found), version)

    async def list_names(self, kind: type[KubeObject], *, labels: str = "") -> tuple[str, ...]:
        """List names."""
        found, _ = await self._list(_Scope(kind, "", labels, ""), "0")
        return tuple(obj["metadata"]["name"] for obj in found)

    async def latest_version(
        self,
        kind: type[KubeObject],
        namespace: str = "",  # noqa: ARG002 - the fake counts versions over all namespaces
        *,
        fields: str = "",  # noqa: ARG002 - and of all objects
    ) -> str:
        """Return the version of the last write."""
        await self._enter("version", kind)
        return str(self._version)

    async def create(self, obj: T) -> T:
        """Create an object."""
        kind, folder = type(obj), _folder(obj.resource)
        body = _new_body(obj, self._names)
        key = (body["metadata"].get("namespace", ""), body["metadata"]["name"])
        if kind.resource.namespaced and not key[0]:
            raise ValueError(f"{kind.resource.plural}: the namespace is empty")
        async with _Write(self, "create", kind, key[1]):
            if key in self._folders.get(folder, {}):
                raise AlreadyExists(f'{kind.resource.plural} "{key[1]}" already exists')
            self._validate(kind, body)
            stored = self._commit(folder, key, None, body)
        return _typed(kind, stored)

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """Write a whole object on condition of UID and resource version."""
        kind, meta = type(obj), obj.metadata
        if not (meta.uid and meta.resource_version):
            raise ValueError(
                f"update {kind.resource.plural} {meta.name}: uid and resourceVersion must both be set"
            )
        body = _to_json(obj)
        return await self._change("replace", kind, obj.key, lambda _: body, subresource)

    async def patch(
        self,
        kind: type[T],
        name: str,
        body: Mapping[str, Any] | list[Mapping[str, Any]],
        *,
        namespace: str = "",
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
    ) -> T:
        """Change parts of an object."""
        plain = msgspec.to_builtins(body)
        if patch_type is PatchType.MERGE:
            return await self._change(
                "patch", kind, (namespace, name), lambda old: merge_patch(old, plain), subresource
            )
        return await self._change(
            "patch", kind, (namespace, name), lambda old: json_patch(old, plain), subresource
        )

    async def delete(
        self,
        kind: type[KubeObject],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,  # noqa: ARG002 - there is no garbage collector here
    ) -> None:
        """Delete an object, or mark it as going while it has finalizers."""
        async with _Write(self, "delete", kind, name):
            old = self._find(kind, name, namespace)
            _check_preconditions(old, uid, resource_version)
            new = _marked(old) if old["metadata"].get("finalizers") else None
            if new != old:
                self._commit(_folder(kind.resource), (namespace, name), old, new)

    def watch(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Follow changes."""
        return self._watch(
            kind, _Scope(kind, namespace, labels, fields), resource_version, lambda obj: obj
        )

    def watch_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[PartialObject], None]:
        """Follow changes of metadata."""
        scope = _Scope(kind, namespace, labels, fields)
        return self._watch(PartialObject, scope, resource_version, _metadata_only)

    # Reading

    async def _read(self, kind: type[KubeObject], name: str, namespace: str) -> Json:
        await self._enter("get", kind, name)
        return self._find(kind, name, namespace)

    async def _enter(self, verb: str, kind: type[KubeObject], name: str = "") -> None:
        """
        Arrive at the server: counted, late, perhaps refused.

        At least one turn of the loop, so that calls interleave.
        """
        self.calls.append(Call(verb, kind.resource.plural, name))
        await asyncio.sleep(self.faults.latency_s)
        if not kind.resource.plural:
            raise NotFound("the server could not find the requested resource")
        self.faults.strike(verb, kind)

    def _find(self, kind: type[KubeObject], name: str, namespace: str) -> Json:
        if not name or (kind.resource.namespaced and not namespace):
            raise ValueError(
                f"{kind.resource.plural}: the {'namespace' if name else 'name'} is empty"
            )
        found = self._folders.get(_folder(kind.resource), {}).get((namespace, name))
        if found is None:
            raise NotFound(f'{kind.resource.plural} "{name}" not found')
        return found

    async def _list(self, scope: _Scope, resource_version: str | None) -> tuple[list[Json], str]:
        matches = scope.predicate()
        await self._enter("list", scope.kind, scope.name)
        folder = _folder(scope.kind.resource)
        if resource_version is None:
            objects, version = self._folders.get(folder, {}), self._version
        else:
            objects, version = self._cached(folder)
            if int(resource_version) > self._version:
                raise Unreachable(
                    f"Timeout: Too large resource version: {resource_version}, current: {self._version}"
                )
        return [objects[key] for key in sorted(objects) if matches(objects[key])], str(version)

    def _cached(self, folder: Folder) -> tuple[dict[Key, Json], int]:
        """Return what the server has in memory: the past, while watches are held."""
        objects = dict(self._folders.get(folder, {}))
        if self._held_at is None:
            return objects, self._version
        for entry in reversed(self._history):
            if entry.version > self._held_at and entry.folder == folder:
                if entry.old is None:
                    objects.pop(entry.key)
                else:
                    objects[entry.key] = entry.old
        return objects, self._held_at

    async def _watch(
        self, shape: type[T], scope: _Scope, resource_version: str, view: Callable[[Json], Json]
    ) -> AsyncGenerator[WatchEvent[T], None]:
        matches, folder = scope.predicate(), _folder(scope.kind.resource)
        ends = len(self._watch_end)
        await self._enter("watch", scope.kind)
        position = int(resource_version or 0)
        if position == 0:
            objects, position = self._cached(folder)
            for key in sorted(objects):
                if matches(objects[key]):
                    yield WatchEvent(Change.ADDED, _typed(shape, view(objects[key])))
        while len(self._watch_end) == ends:
            if position < self._forgotten:
                raise Gone(f"too old resource version: {position} ({self._forgotten})")
            fresh = [
                e
                for e in self._since(position)
                if self._held_at is None or e.version <= self._held_at
            ]
            if not fresh:
                await self._news.wait()
                continue
            for entry in fresh:
                position = entry.version
                event = _event(shape, entry, folder, matches, view)
                if event is not None:
                    yield event
        if (error := self._watch_end[ends]) is not None:
            raise error

    def _since(self, version: int) -> list[_Entry]:
        newer = itertools.takewhile(lambda entry: entry.version > version, reversed(self._history))
        return list(newer)[::-1]

    # Writing

    async def _change(
        self, verb: str, kind: type[T], key: Key, edit: Callable[[Json], Json], subresource: str
    ) -> T:
        async with _Write(self, verb, kind, key[1]):
            if subresource not in {"", "status"} or (
                subresource and kind.resource.plural not in WITH_STATUS
            ):
                raise NotFound("the server could not find the requested resource")
            old = self._find(kind, key[1], key[0])
            edited = edit(old)
            _check_preconditions(
                old, edited["metadata"].get("uid"), edited["metadata"].get("resourceVersion")
            )
            new = _settled(old, edited, kind.resource, subresource)
            self._validate(kind, new)
            stored = old
            if new != old:
                folder = _folder(kind.resource)
                going = "deletionTimestamp" in new["metadata"] and not new["metadata"].get(
                    "finalizers"
                )
                stored = self._commit(folder, key, old, None if going else new)
        return _typed(kind, stored)

    def _validate(self, kind: type[KubeObject], body: Json) -> None:
        try:
            msgspec.convert(body, kind)
        except msgspec.ValidationError as error:
            name = body["metadata"]["name"]
            raise Rejected(f'{kind.resource.kind} "{name}" is invalid: {error}') from error

    def _commit(self, folder: Folder, key: Key, old: Json | None, new: Json | None) -> Json:
        self._version += 1
        objects = self._folders.setdefault(folder, {})
        last = new if new is not None else cast("Json", old)
        last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self._version)}}
        if new is None:
            del objects[key]
        else:
            objects[key] = last
        self._remember(_Entry(self._version, folder, key, old, None if new is None else last))
        return last

    def _remember(self, entry: _Entry) -> None:
        self._history.append(entry)
        if len(self._history) > self._history_limit:
            self._forgotten = self._history.pop(0).version
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def run_hooks(self, call: Call) -> None:
        """Let the other writers of a test have their turn."""
        if self._in_hook:
            return
        self._in_hook = True
        try:
            for hook in self._hooks:
                result = hook(call)
                if inspect.isawaitable(result):
                    await result
        finally:
            self._in_hook = False


class _Write:
    """What surrounds a write: arrival, hooks before it, lost answers after it."""

    def __init__(self, cluster: FakeCluster, verb: str, kind: type[KubeObject], name: str) -> None:
        self._cluster = cluster
        self._verb = verb
        self._kind = kind
        self._name = name

    async def __aenter__(self) -> None:
        await self._cluster._enter(self._verb, self._kind, self._name)
        await self._cluster.run_hooks(Call(self._verb, self._kind.resource.plural, self._name))

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        if error is None:
            await asyncio.sleep(0)  # the answer travels: others may act first
            self._cluster.faults.strike(self._verb, self._kind, after_commit=True)


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which objects a list or watch speaks of."""

    kind: type[KubeObject]
    namespace: str
    labels: str
    fields: str

    @property
    def name(self) -> str:
        """The one name that is selected, as RBAC reads it; empty = no one name."""
        key, _, name = self.fields.partition("=")
        return name if key == "metadata.name" else ""

    def predicate(self) -> Predicate:
        by_label, by_field = (
            label_predicate(self.labels),
            field_predicate(self.fields, self.kind.resource.plural),
        )
        namespace = self.namespace
        return lambda obj: (
            (not namespace or obj["metadata"].get("namespace") == namespace)
            and by_label(obj)
            and by_field(obj)
        )


def _event(
    shape: type[T], entry: _Entry, folder: Folder, matches: Predicate, view: Callable[[Json], Json]
) -> WatchEvent[T] | None:
    """Render an entry for one watch: coming into its selection is ADDED, leaving it is DELETED."""
    if entry.folder is None:
        body = {"metadata": {"resourceVersion": str(entry.version)}}
        return WatchEvent(Change.BOOKMARK, cast("T", _typed(PartialObject, body)))
    if entry.folder != folder:
        return None
    before = entry.old is not None and matches(entry.old)
    after = entry.new is not None and matches(entry.new)
    if not (before or after):
        return None
    change = Change.MODIFIED if before and after else Change.ADDED if after else Change.DELETED
    body = cast("Json", entry.new if after else entry.old)
    body = {**body, "metadata": {**body["metadata"], "resourceVersion": str(entry.version)}}
    return WatchEvent(change, _typed(shape, view(body)))


def _folder(resource: Resource) -> Folder:
    return (resource.group, resource.plural)


def _to_json(obj: KubeObject) -> Json:
    body = cast("Json", msgspec.to_builtins(obj))
    body.setdefault("metadata", {})
    return {**body, "apiVersion": obj.resource.api_version, "kind": obj.resource.kind}


def _typed(kind: type[T], body: Json) -> T:
    return msgspec.convert(body, kind)


def _metadata_only(body: Json) -> Json:
    return {
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": body["metadata"],
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _new_body(obj: KubeObject, names: itertools.count[int]) -> Json:
    body = _to_json(obj)
    given = body["metadata"]
    if given.get("resourceVersion"):
        raise Rejected("resourceVersion should not be set on objects to be created")
    if obj.resource.plural in WITH_STATUS:
        body.pop("status", None)
    server = {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
    kept = {k: v for k, v in given.items() if not k.startswith("deletion")}
    name = given.get("name") or f"{given.get('generateName', '')}{next(names):05x}"
    return {**body, "metadata": {**kept, **server, "name": name}}


def _check_preconditions(old: Json, uid: str | None, resource_version: str | None) -> None:
    meta = old["metadata"]
    if uid and uid != meta["uid"]:
        raise Conflict(
            f"Precondition failed: UID in precondition: {uid}, UID in object meta: {meta['uid']}"
        )
    if resource_version and resource_version != meta["resourceVersion"]:
        raise Conflict(
            f'Operation cannot be fulfilled on "{meta["name"]}": the object has been modified'
        )


def _marked(old: Json) -> Json:
    """Mark an object that has finalizers as going."""
    if "deletionTimestamp" in old["metadata"]:
        return old
    return {
        **old,
        "metadata": {
            **old["metadata"],
            "deletionTimestamp": _now(),
            "deletionGracePeriodSeconds": 0,
        },
    }


def _settled(old: Json, edited: Json, resource: Resource, subresource: str) -> Json:
    """
    Take from an edit what its door lets through.

    `status` through the subresource, all else through the other.
    """
    meta = {k: v for k, v in edited["metadata"].items() if k not in KEPT_BY_SERVER}
    meta |= {k: old["metadata"][k] for k in KEPT_BY_SERVER if k in old["metadata"]}
    meta["resourceVersion"] = old["metadata"]["resourceVersion"]
    if subresource:
        new = {**old, "status": edited.get("status")}
        # Kubernetes' own kinds also take labels and annotations by this door
        if not resource.group:
            new["metadata"] = meta
        return {k: v for k, v in new.items() if v is not None}
    new = {**edited, "metadata": meta}
    if resource.plural in WITH_STATUS:
        new.pop("status", None)
        new |= {"status": old["status"]} if "status" in old else {}
    if _content(new) != _content(old) and "generation" in meta:
        meta["generation"] += 1
    return new


def _content(body: Json) -> Json:
    return {k: v for k, v in body.items() if k not in {"metadata", "status"}}


_conforms: type[Cluster] = FakeCluster
