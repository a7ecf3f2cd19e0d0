"""The Kubernetes API over HTTP: typed in and out, nothing retried."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar, cast
from urllib.parse import quote, urlencode

import msgspec
import structlog

from spiderpool import errors
from spiderpool.api.kubernetes.core import PartialObject, Pod
from spiderpool.api.kubernetes.meta import KubeObject, ListMeta, ObjectList
from spiderpool.api.kubernetes.workloads import Scale
from spiderpool.kube.api_status import read_status_event
from spiderpool.kube.cluster import Change, Cluster, Listing, PatchType, WatchEvent
from spiderpool.kube.exec import LARGEST, PROTOCOLS, Executed, collect, exec_query
from spiderpool.kube.transport import JSON, Access, Call, Observe, Transport

T = TypeVar("T", bound=KubeObject)
D = TypeVar("D")

PAGE = 500  # objects a page of a consistent list, as kubectl asks for
# the server ends a watch after this time; below the 5 min after which load balancers cut one
WATCH_SECONDS = 290

_log = structlog.get_logger(__name__)

_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


class KubeClient:
    """
    The port `Cluster` over HTTP; an asynchronous context manager.

    Arguments, results and errors of its methods are those of the port.
    """

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str = "spiderpool",
        limit: int = 100,
        timeout_s: float = 30.0,
        observe: Observe | None = None,
    ) -> None:
        """
        Keep the arguments; the first call opens the first connection.

        Args:
            access: the server, whom to trust, and credentials.
            user_agent: what the API server's log calls us.
            limit: connections at a time; a request that finds none free waits for one.
            timeout_s: for a whole call, the wait for a connection included; watches have no end.
            observe: is told of each call and its outcome.
        """
        self._server = access.server.rstrip("/")
        self._exchange = Transport(
            access, user_agent=user_agent, limit=limit, timeout_s=timeout_s, observe=observe
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections; watches end."""
        await self._exchange.close()

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        """Read one object live."""
        return await self._ask(
            kind, Call("get", "GET", kind, self._url(kind, name, namespace), name=name)
        )

    async def get_metadata(
        self, kind: type[KubeObject], name: str, namespace: str = ""
    ) -> PartialObject:
        """Read one object's metadata only."""
        call = Call(
            "get", "GET", kind, self._url(kind, name, namespace), accept=_METADATA, name=name
        )
        return await self._ask(PartialObject, call)

    async def get_scale(self, kind: type[KubeObject], name: str, namespace: str) -> int:
        """Read how many replicas an object wants, from its scale subresource."""
        call = Call("get", "GET", kind, self._url(kind, name, namespace, "scale"), name=name)
        return (await self._ask(Scale, call)).spec.replicas

    async def list_objects(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[T]:
        """Read all objects that match, following pages."""
        scope = _Scope(kind, namespace, labels, fields)
        return await self._list(kind, scope, resource_version, JSON)

    async def list_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[PartialObject]:
        """Read the metadata of all objects that match, following pages."""
        scope = _Scope(kind, namespace, labels, fields)
        return await self._list(PartialObject, scope, resource_version, _METADATA_LIST)

    async def list_names(self, kind: type[KubeObject], *, labels: str = "") -> tuple[str, ...]:
        """
        Read the names of all objects that match, from the table that kubectl would print.

        Nothing else of it is decoded.
        """
        query = _Scope(kind, "", labels, "").query() | {
            "resourceVersion": "0",
            "resourceVersionMatch": "NotOlderThan",
            "includeObject": "None",
        }
        folder = self._folder(kind, "", anywhere=True)
        call = Call("list", "GET", kind, f"{folder}?{urlencode(query)}", accept=_TABLE)
        table = _decode(_table_decoder, call, await self._exchange.send(call))
        return tuple(row.cells.name for row in table.rows or ())

    async def latest_version(
        self, kind: type[KubeObject], namespace: str = "", *, fields: str = ""
    ) -> str:
        """Read the version that the store is at now."""
        query = _Scope(kind, namespace, "", fields).query() | {"limit": "1"}
        folder = self._folder(kind, namespace, anywhere=True)
        call = Call("list", "GET", kind, f"{folder}?{urlencode(query)}", accept=_METADATA_LIST)
        page = _decode(_list_decoder(PartialObject), call, await self._exchange.send(call))
        return page.metadata.resource_version

    async def create(self, obj: T) -> T:
        """Create an object."""
        kind, meta = type(obj), obj.metadata
        call = Call(
            "create",
            "POST",
            kind,
            self._folder(kind, meta.namespace),
            name=meta.name or meta.generate_name,
        )
        return await self._ask(kind, call, _encode(_typed(obj)))

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """Write a whole object on condition of its UID and resource version."""
        kind, meta = type(obj), obj.metadata
        if not (meta.uid and meta.resource_version):
            raise ValueError(
                f"update {kind.resource.plural} {meta.name}: uid and resourceVersion must both be "
                "set"
            )
        url = self._url(kind, meta.name, meta.namespace, subresource)
        return await self._ask(
            kind, Call("update", "PUT", kind, url, name=meta.name), _encode(_typed(obj))
        )

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
        url = self._url(kind, name, namespace, subresource)
        call = Call("patch", "PATCH", kind, url, content_type=patch_type.value, name=name)
        return await self._ask(kind, call, _encode(body))

    async def delete(
        self,
        kind: type[KubeObject],
        name: str,
        namespace: str = "",
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        propagation: str | None = None,
    ) -> None:
        """Delete an object, on condition of UID and resource version where given."""
        conditions = _Preconditions(uid, resource_version) if uid or resource_version else None
        call = Call("delete", "DELETE", kind, self._url(kind, name, namespace), name=name)
        await self._exchange.send(call, _encode(_DeleteOptions(propagation, conditions)))

    async def read_from_pod(self, name: str, namespace: str, port: int, path: str) -> bytes:
        """
        Send a GET to a port of a pod through the API server.

        Needs the right `get` of `pods/proxy`.

        Args:
            name: of the pod.
            namespace: of the pod.
            port: where a server of the pod listens.
            path: what is asked for, beginning with "/".
        Raises:
            NotFound: there is no such pod, or the pod answers 404.
            Unreachable: the pod does not answer.
        """
        folder = self._folder(Pod, namespace)
        url = f"{folder}/{quote(name, safe='')}:{port}/proxy/{path.lstrip('/')}"
        return await self._exchange.send(
            Call("get", "GET", Pod, url, name=f"{namespace}/{name}:{port}{path}")
        )

    async def execute(
        self, pod: str, namespace: str, container: str, command: Sequence[str], *, timeout_s: float
    ) -> Executed:
        """
        Run a command in a container, as `kubectl exec` does.

        Args:
            pod: its name.
            namespace: of the pod.
            container: its name.
            command: program and arguments.
            timeout_s: for the whole command.
        Raises:
            NotFound: there is no such pod or container.
            TryAgain: the command did not end in time.
            SpiderpoolError: the command did not start.
        """
        url = f"{self._url(Pod, pod, namespace, 'exec')}?{exec_query(container, command)}"
        call = Call("exec in", "GET", Pod, url, name=f"{namespace}/{pod}")
        async with self._exchange.open_socket(call, PROTOCOLS, LARGEST) as socket:
            return await collect(socket, call.subject, timeout_s)

    def watch(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Follow changes after `resource_version`; ends when the server closes it."""
        return self._watch(kind, _Scope(kind, namespace, labels, fields), resource_version, JSON)

    def watch_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[PartialObject], None]:
        """Follow changes of metadata after `resource_version`; ends when the server closes it."""
        return self._watch(
            PartialObject, _Scope(kind, namespace, labels, fields), resource_version, _METADATA
        )

    async def _ask(self, shape: type[T], call: Call, body: bytes | None = None) -> T:
        decoder: msgspec.json.Decoder[T] = _decoder(shape)
        return _decode(decoder, call, await self._exchange.send(call, body))

    async def _list(
        self, shape: type[T], scope: _Scope, resource_version: str | None, accept: str
    ) -> Listing[T]:
        """Join the pages of a list; a list from the API server's memory comes whole."""
        query = scope.query()
        if resource_version is None:
            query["limit"] = str(PAGE)
        else:
            query |= {"resourceVersion": resource_version, "resourceVersionMatch": "NotOlderThan"}
        folder = self._folder(scope.kind, scope.namespace, anywhere=True)
        call = Call("list", "GET", scope.kind, folder, accept=accept)
        items: list[T] = []
        while True:
            data = await self._exchange.send(replace(call, url=f"{folder}?{urlencode(query)}"))
            page = _read_page(call, shape, data)
            items.extend(page.items or ())
            if not page.metadata.continue_:
                return Listing(tuple(items), page.metadata.resource_version)
            query["continue"] = page.metadata.continue_

    async def _watch(
        self, shape: type[T], scope: _Scope, resource_version: str, accept: str
    ) -> AsyncGenerator[WatchEvent[T], None]:
        query = scope.query() | {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        url = f"{self._folder(scope.kind, scope.namespace, anywhere=True)}?{urlencode(query)}"
        call = Call("watch", "GET", scope.kind, url, accept=accept)
        async with aclosing(self._exchange.stream(call)) as lines:
            async for line in lines:
                yield _read_event(call, shape, line)

    def _folder(self, kind: type[KubeObject], namespace: str, *, anywhere: bool = False) -> str:
        """
        Name the URL under which objects of a kind are.

        `anywhere` allows all namespaces at once.
        """
        resource = kind.resource
        root = f"{self._server}{resource.root}"
        if resource.namespaced and namespace:
            return f"{root}/namespaces/{quote(namespace, safe='')}/{resource.plural}"
        if resource.namespaced and not anywhere:
            raise ValueError(f"{resource.plural}: the namespace is empty")
        return f"{root}/{resource.plural}"

    def _url(self, kind: type[KubeObject], name: str, namespace: str, subresource: str = "") -> str:
        if not name:  # the URL would be that of all objects
            raise ValueError(f"{kind.resource.plural}: the name is empty")
        url = f"{self._folder(kind, namespace)}/{quote(name, safe='')}"
        return f"{url}/{subresource}" if subresource else url


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which objects a list or watch speaks of."""

    kind: type[KubeObject]
    namespace: str
    labels: str
    fields: str

    def query(self) -> dict[str, str]:
        """Render the selectors."""
        pairs = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in pairs.items() if value}


class _RawPage(msgspec.Struct, frozen=True):
    """A page of a list whose objects are not read yet."""

    metadata: ListMeta = ListMeta()
    items: tuple[msgspec.Raw, ...] | None = ()


class _Envelope(msgspec.Struct, frozen=True):
    """One line of a watch; what `object` is depends on `type`."""

    type: str
    object: msgspec.Raw


class _Cells(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """
    The first cell of a row, which is the name for custom resources and ConfigMaps.

    The others are skipped.
    """

    name: str


class _Row(msgspec.Struct, frozen=True, gc=False):
    """An object, as kubectl shows it."""

    cells: _Cells


class _Table(msgspec.Struct, frozen=True):
    """Objects as kubectl shows them; `rows` is null when there are none."""

    rows: tuple[_Row, ...] | None


class _Preconditions(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """What must be true of an object for its deletion."""

    uid: str | None = None
    resource_version: str | None = None


class _DeleteOptions(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True):
    """The body of a deletion."""

    propagation_policy: str | None = None
    preconditions: _Preconditions | None = None


@cache
def _decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    return msgspec.json.Decoder(kind)


@cache
def _list_decoder(kind: type[T]) -> msgspec.json.Decoder[ObjectList[T]]:
    return msgspec.json.Decoder(ObjectList[kind])  # type: ignore[valid-type]


_table_decoder = msgspec.json.Decoder(_Table)
_raw_list_decoder = msgspec.json.Decoder(_RawPage)
_envelope_decoder = msgspec.json.Decoder(_Envelope)
_encode = msgspec.json.Encoder().encode


def _typed(obj: T) -> T:
    """Return an object with the `apiVersion` and `kind` that the API server insists on."""
    if obj.kind:
        return obj
    return msgspec.structs.replace(
        obj, api_version=obj.resource.api_version, kind=obj.resource.kind
    )


def _decode(decoder: msgspec.json.Decoder[D], call: Call, data: bytes | msgspec.Raw) -> D:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise errors.Undecodable(f"{call.subject}: {error}") from error


def _read_page(call: Call, shape: type[T], data: bytes) -> ObjectList[T]:
    """
    Read a page of a list.

    An object that cannot be read is left out and told: one bad object must not hide all others.
    """
    try:
        return _list_decoder(shape).decode(data)
    except msgspec.DecodeError:
        page = _decode(_raw_list_decoder, call, data)
    items = []
    for raw in page.items or ():
        try:
            items.append(_decoder(shape).decode(raw))
        except msgspec.DecodeError as error:
            _pass_over(call, raw, error)
    return ObjectList(metadata=page.metadata, items=tuple(items))


def _pass_over(call: Call, raw: msgspec.Raw, error: msgspec.DecodeError) -> PartialObject:
    """
    Log an object that cannot be read, and return its metadata.

    Raises `Undecodable` when not even its metadata can.
    """
    partial: PartialObject = _decode(_decoder(PartialObject), call, raw)
    meta = partial.metadata
    _log.warning(
        "object cannot be read and is passed over",
        kind=call.kind.resource.plural,
        namespace=meta.namespace,
        name=meta.name,
        reason=str(error),
    )
    return partial


def _read_event(call: Call, shape: type[T], line: bytes) -> WatchEvent[T]:
    """
    Read a line of a watch.

    An object that has become unreadable is told as one that went: nobody can go by it any more.
    """
    envelope = _decode(_envelope_decoder, call, line)
    if envelope.type == "ERROR":
        raise read_status_event(call.subject, bytes(envelope.object))
    if envelope.type == "BOOKMARK":
        return WatchEvent(
            Change.BOOKMARK, cast("T", _decode(_decoder(PartialObject), call, envelope.object))
        )
    decoder: msgspec.json.Decoder[T] = _decoder(shape)
    try:
        return WatchEvent(Change(envelope.type), decoder.decode(envelope.object))
    except msgspec.DecodeError as error:
        partial = _pass_over(call, envelope.object, error)
        return WatchEvent(Change.DELETED, cast("T", partial))


_conforms: type[Cluster] = KubeClient
