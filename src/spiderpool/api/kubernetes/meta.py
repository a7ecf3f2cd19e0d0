"""
What all Kubernetes objects share: metadata, references, label selectors.

No rules here, only shapes.
"""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

import msgspec


class Kube(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """
    A JSON object of the Kubernetes API.

    CamelCase keys, absent when default, unknown keys ignored.
    """


class OwnerReference(Kube, frozen=True, kw_only=True):
    """Who this object belongs to."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(Kube, frozen=True, kw_only=True):
    """
    Metadata of an object, as far as this project reads it.

    The rest survives because updates are patches.
    """

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class LabelSelectorRequirement(Kube, frozen=True, kw_only=True):
    """One expression of a label selector."""

    key: str
    """Key of the label."""
    operator: str
    """`In`, `NotIn`, `Exists` or `DoesNotExist`."""
    values: tuple[str, ...] = ()
    """Values of the label; for `In` and `NotIn` only."""


class LabelSelector(Kube, frozen=True, kw_only=True):
    """A label selector: all labels and all expressions must match."""

    match_labels: dict[str, str] = {}
    """Labels that must be there, key and value."""
    match_expressions: tuple[LabelSelectorRequirement, ...] = ()
    """Expressions that must hold."""


class Resource(msgspec.Struct, frozen=True):
    """Where objects of one kind live in the API: group, version, plural, scope."""

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = False

    @property
    def api_version(self) -> str:
        """The `apiVersion` text."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The URL path of the group and version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"


class KubeObject(Kube, frozen=True, kw_only=True):
    """An object of the API: subclasses set `resource` and add `spec`, `status` and so on."""

    resource: ClassVar[Resource]

    api_version: str = ""
    """Version of the API that the object is written in."""
    kind: str = ""
    """Kind of the object."""
    # The API server (1.34) refuses definitions that describe `metadata`.
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name); the namespace is empty for cluster-scoped objects."""
        return (self.metadata.namespace, self.metadata.name)


T = TypeVar("T", bound=KubeObject)


class ListMeta(Kube, frozen=True, kw_only=True):
    """Metadata of a list: the position to watch from, and the token of the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class ObjectList(Kube, Generic[T], frozen=True, kw_only=True):
    """One page of a list."""

    metadata: ListMeta = ListMeta()
    items: tuple[T, ...] | None = ()  # an empty metadata-only list of the API server says null
