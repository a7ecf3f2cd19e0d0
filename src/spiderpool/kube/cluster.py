"""
The port to Kubernetes: what stories may ask of the API, and what can go wrong.

`kube.client.KubeClient` implements it over HTTP, `tests.fakes.cluster.FakeCluster` in memory; one
contract suite runs against both.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from spiderpool.api.kubernetes.core import PartialObject
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.errors import NotFound

T = TypeVar("T", bound=KubeObject)
R = TypeVar("R")


class PatchType(enum.StrEnum):
    """Content types of a patch."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class Change(enum.StrEnum):
    """What a watch reports."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """
    One change of one object.

    A bookmark's object is a `PartialObject` of which only the resource version counts.
    """

    change: Change
    object: T


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """All objects of a list (pages joined) and the version to watch from."""

    items: tuple[T, ...]
    resource_version: str


class Cluster(Protocol):
    """
    The Kubernetes API.

    Every method raises, besides what it names: `Unreachable` (no connection, 5xx, time-out of a
    read), `TooManyRequests` (429), `UnknownOutcome` (a write was sent and no answer came),
    `Forbidden` (401, 403), `Rejected` (400, 422 and admission refusals). Nothing is retried here:
    who calls decides.
    """

    async def get(self, kind: type[T], name: str, namespace: str = "") -> T:
        """
        Read one object live, not from the API server's memory.

        Args:
            kind: the type of the object.
            name: of the object.
            namespace: empty for kinds without namespaces.
        Raises:
            NotFound: there is no such object.
        """
        ...

    async def get_metadata(
        self, kind: type[KubeObject], name: str, namespace: str = ""
    ) -> PartialObject:
        """
        Read one object's metadata only.

        Arguments and errors as for `get`. The API server leaves out the rest, so the kind's fields
        need not be known.
        """
        ...

    async def get_scale(self, kind: type[KubeObject], name: str, namespace: str) -> int:
        """
        Read how many replicas an object wants, from its scale subresource.

        Args:
            kind: the type of the object.
            name: of the object.
            namespace: of the object.
        Raises:
            NotFound: there is no such object, or its kind has no scale subresource.
        """
        ...

    async def list_objects(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[T]:
        """
        Read all objects that match, following pages.

        Args:
            kind: what to list.
            namespace: empty = all.
            labels: a label selector in text form.
            fields: a field selector in text form.
            resource_version: None = consistent (read from etcd), "0" = whatever the API server has
            in memory.
        """
        ...

    async def list_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str | None = None,
    ) -> Listing[PartialObject]:
        """
        Read the metadata of all objects that match, following pages.

        Arguments as for `list_objects`.
        """
        ...

    async def list_names(self, kind: type[KubeObject], *, labels: str = "") -> tuple[str, ...]:
        """
        Read the names of all objects that match, from the API server's memory.

        Half the cost of `list_metadata` for the API server, a fifth of its bytes.
        """
        ...

    async def latest_version(
        self, kind: type[KubeObject], namespace: str = "", *, fields: str = ""
    ) -> str:
        """
        Read the version that the store is at now, by the shortest consistent list of a kind.

        Args:
            kind: of which objects to list one.
            namespace: empty = all.
            fields: a field selector in text form, for who may list no more than it selects.
        """
        ...

    async def create(self, obj: T) -> T:
        """Create an object. Raises `AlreadyExists`."""
        ...

    async def replace(self, obj: T, *, subresource: str = "") -> T:
        """
        Write a whole object on condition of its `metadata.uid` and `resourceVersion`.

        Both must be set. Only for kinds whose every field this project knows. Raises `Conflict`,
        `NotFound`.
        """
        ...

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
        """
        Change parts of an object.

        Args:
            kind: the type of the object.
            name: of the object.
            body: a merge patch, or the operations of a JSON patch. `metadata.uid` and
                `metadata.resourceVersion` in a merge patch make it conditional.
            namespace: empty for kinds without namespaces.
            patch_type: what `body` is.
            subresource: such as "status"; empty = the object itself.
        Returns:
            The object as it is afterwards.

        Raises:
            Conflict: the condition does not hold.
            NotFound: there is no such object.
        """
        ...

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
        """
        Delete an object.

        Args:
            kind: the type of the object.
            name: of the object.
            namespace: empty for kinds without namespaces.
            uid: delete only the object with this UID; None = any with the name.
            resource_version: delete only this version; None = any.
            propagation: of the deletion to dependents, such as "Background"; None = the default.
        Raises:
            NotFound: there is no such object.
            Conflict: UID or version are others.
        """
        ...

    def watch(
        self,
        kind: type[T],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """
        Follow changes; asks for bookmarks and ends when the server closes the watch.

        Args:
            kind: the type of the objects.
            namespace: empty = all.
            labels: a label selector in text form.
            fields: a field selector in text form.
            resource_version: changes after this version are reported.
        Raises:
            Gone: the version is too old; list again.
        """
        ...

    def watch_metadata(
        self,
        kind: type[KubeObject],
        *,
        namespace: str = "",
        labels: str = "",
        fields: str = "",
        resource_version: str,
    ) -> AsyncGenerator[WatchEvent[PartialObject], None]:
        """Follow changes of metadata only; arguments and errors as for `watch`."""
        ...


async def if_exists(reading: Awaitable[R]) -> R | None:
    """Return what a read gives, None when there is no such object."""
    try:
        return await reading
    except NotFound:
        return None
