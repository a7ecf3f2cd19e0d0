"""
The applications that may want automatic pools: their pod templates and replicas.

Kubernetes' own controllers of pods are watched. Of others the pods tell (their annotations are the
template's), and where the configuration lists the kind, the object itself: whether it still exists
and how many replicas its scale subresource says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import PartialObject, Pod
from spiderpool.api.kubernetes.meta import KubeObject, OwnerReference, Resource
from spiderpool.api.kubernetes.workloads import WORKLOADS, Workload
from spiderpool.configuration.config import ThirdPartyKind
from spiderpool.controller.runtime.context import Context
from spiderpool.errors import Forbidden, NotFound
from spiderpool.ipam.automatic_pool import App
from spiderpool.ipam.pool_size import replicas_of
from spiderpool.ipam.subnet_request import wants_subnets
from spiderpool.kube.cluster import Change, Cluster
from spiderpool.kube.informer import Informer, MetadataInformer
from spiderpool.model.owners import manager_of, next_owner, referred

BY_KEY: Final = "application"
NATIVE: Final = {(kind.resource.api_version, kind.resource.kind): kind for kind in WORKLOADS}
# without a pod; of a kind that is not listed nothing else can be known
# (docs/reference/automatic-pools.md#when-pools-go)
GONE_AFTER_S: Final = 300.0

Notify = Callable[[str], None]
"""Told the key (in label form) of an application that may have changed."""


@dataclass(frozen=True, slots=True)
class Target:
    """
    An application as it is now.

    `replicas` is None when nothing says how many pods it wants. `object` is what Events speak of.
    """

    app: App
    annotations: Mapping[str, str]
    replicas: int | None
    host_network: bool
    object: KubeObject
    native: bool = True


class NativeApplications:
    """Informers of Kubernetes' own controllers of pods; an asynchronous context manager."""

    def __init__(self, cluster: Cluster, notify: Notify) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the door.
            notify: told of each change.
        """
        self._cluster = cluster
        self._notify = notify
        self._informers: dict[tuple[str, str], Informer[Workload]] = {}
        for name, kind in NATIVE.items():
            informer = self._informers[name] = Informer[Workload](cluster, kind)
            informer.index(BY_KEY, _key_of)
            informer.subscribe(self._on_change)

    async def __aenter__(self) -> Self:
        """Fill the informers."""
        try:
            for informer in self._informers.values():
                await informer.start()
            for informer in self._informers.values():
                await informer.synced()
        except BaseException:  # cancelled while they fill: then nobody calls the exit
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        for informer in self._informers.values():
            await informer.stop()

    def keys(self) -> Iterable[str]:
        """Return the keys of all applications whose templates ask for automatic pools."""
        for informer in self._informers.values():
            for workload in informer:
                key = _key_of(workload)
                if key is not None and wants_subnets(workload.template.metadata.annotations):
                    yield key

    def find(self, key: str) -> Target | None:
        """Return the application of that key, None when there is none."""
        for informer in self._informers.values():
            for workload in informer.by_index(BY_KEY, key):
                return _target(workload)
        return None

    async def exists(self, owner: Application, namespace: str) -> bool:
        """Ask the API server itself whether an application exists: informers may be late."""
        try:
            found = await self._cluster.get_metadata(
                NATIVE[owner.api_version, owner.kind], owner.name, namespace
            )
        except NotFound:
            return False
        return found.metadata.uid == owner.uid

    def _on_change(self, _: Change, old: Workload | None, new: Workload | None) -> None:
        """
        An application came, changed or went.

        Most changes are of its status and concern nobody.
        """
        if old is not None and new is not None and _of_interest(old) == _of_interest(new):
            return
        for workload in (old, new):
            if workload is not None and wants_subnets(workload.template.metadata.annotations):
                key = _key_of(workload)
                if key is not None:
                    self._notify(key)


def _of_interest(workload: Workload) -> tuple[object, ...]:
    """Return what a pool depends on."""
    return (workload.metadata.uid, _key_of(workload), workload.template, replicas_of(workload))


def _key_of(workload: Workload) -> str | None:
    """
    Return an application's key, None for what a Deployment or CronJob manages.

    Source: docs/reference/automatic-pools.md#which-applications.
    """
    resource = workload.resource
    owners = workload.metadata.owner_references
    managed = manager_of(resource.api_version, resource.kind, owners) is not None
    return None if managed else _app(workload).label_key


def _app(workload: Workload) -> App:
    """Name a native application."""
    meta, resource = workload.metadata, workload.resource
    owner = Application(
        api_version=resource.api_version, kind=resource.kind, name=meta.name, uid=meta.uid
    )
    return App(owner, meta.namespace)


def _target(workload: Workload) -> Target:
    """Read a native application."""
    template = workload.template
    return Target(
        app=_app(workload),
        annotations=template.metadata.annotations,
        replicas=replicas_of(workload),
        host_network=template.spec.host_network,
        object=workload,
    )


@dataclass(frozen=True, slots=True)
class Sight:
    """
    What is known of an application.

    `target` is None when nobody knows it any more; then `gone` says whether that has lasted long
    enough to believe it.
    `again_s`: when to ask again, None = at the next change.
    """

    target: Target | None = None
    gone: bool = False
    again_s: float | None = None


class ForeignApplications:
    """Applications of other kinds, known by their pods; an asynchronous context manager."""

    def __init__(
        self,
        context: Context,
        kinds: Iterable[ThirdPartyKind],
        notify: Notify,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            context: the informer of pods, and the door.
            kinds: which kinds may be read.
            notify: told of each change.
            clock: monotonic seconds.
        """
        self._context = context
        self._listed = {(kind.api_group, kind.kind): kind for kind in kinds}
        self._notify = notify
        self._clock = clock
        self._objects: dict[tuple[str, str], MetadataInformer] = {}
        self._known: dict[str, Target] = {}
        self._missed: dict[str, float] = {}  # since when an application has no pod
        context.pods.index(BY_KEY, _foreign_key)

    async def __aenter__(self) -> Self:
        """Follow the pods."""
        self._context.follow(self._context.pods, self._on_pod)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        for informer in self._objects.values():
            await informer.stop()

    def keys(self) -> set[str]:
        """Return the keys of all applications that have a pod which asks for automatic pools."""
        return {key for pod in self._context.pods if (key := _foreign_key(pod)) is not None}

    async def find(self, key: str) -> Sight:
        """
        Look for an application.

        Without a pod, only an object of a listed kind proves that there is one.
        """
        pods = self._context.pods.by_index(BY_KEY, key)
        if pods:
            newest = max(
                pods, key=lambda pod: (pod.metadata.creation_timestamp or "", pod.metadata.name)
            )
            self._known[key] = _foreign_target(newest)
            self._missed.pop(key, None)
        target = self._known.get(key)
        if target is not None and self._listed_as(target.app.owner) is not None:
            return await self._read(key, target)
        if pods:
            return Sight(target)
        left_s = self._missed.setdefault(key, self._clock()) + GONE_AFTER_S - self._clock()
        if left_s > 0:
            return Sight(target, again_s=left_s)
        self._forget(key)
        return Sight(gone=True)

    async def exists(self, owner: Application, namespace: str) -> bool | None:
        """Ask whether an object of a listed kind exists; None when that cannot be known."""
        listed = self._listed_as(owner)
        if listed is None:
            return None
        try:
            found = await self._context.cluster.get_metadata(
                kind_of(owner.api_version, listed), owner.name, namespace
            )
        except NotFound:
            return False
        except Forbidden:
            return None
        return found.metadata.uid == owner.uid

    async def _read(self, key: str, target: Target) -> Sight:
        """Look at the object itself: whether it exists, and its scale subresource."""
        await self._follow(target.app.owner)
        if await self.exists(target.app.owner, target.app.namespace) is False:
            self._forget(key)
            return Sight(gone=True)
        replicas = await self._scale(target.app.owner, target.app.namespace)
        return Sight(
            Target(target.app, target.annotations, replicas, False, target.object, native=False)
        )

    async def _scale(self, owner: Application, namespace: str) -> int | None:
        """Read how many replicas an object of a listed kind wants; None when it does not say."""
        listed = self._listed_as(owner)
        try:
            return (
                None
                if listed is None
                else await self._context.cluster.get_scale(
                    kind_of(owner.api_version, listed), owner.name, namespace
                )
            )
        except (NotFound, Forbidden):
            return None

    def _listed_as(self, owner: Application) -> ThirdPartyKind | None:
        """Return what the configuration says of a kind."""
        return self._listed.get((owner.api_version.rpartition("/")[0], owner.kind))

    def _forget(self, key: str) -> None:
        """Drop what is kept of an application that is gone."""
        self._known.pop(key, None)
        self._missed.pop(key, None)

    def _on_pod(self, _: Change, old: PartialObject | None, new: PartialObject | None) -> None:
        """A pod came, changed or went."""
        if (
            old is not None
            and new is not None
            and old.metadata.annotations == new.metadata.annotations
        ):
            return
        for pod in (old, new):
            key = None if pod is None else _foreign_key(pod)
            if key is not None:
                self._notify(key)

    async def _follow(self, owner: Application) -> None:
        """Follow the objects of a listed kind from when its first pod is met."""
        listed, name = self._listed_as(owner), (owner.api_version, owner.kind)
        if listed is None or name in self._objects:
            return
        informer = self._objects[name] = MetadataInformer(
            self._context.cluster, kind_of(owner.api_version, listed)
        )
        informer.subscribe(lambda _, old, new: self._on_object(name, old, new))
        await informer.start()

    def _on_object(self, name: tuple[str, str], *objects: PartialObject | None) -> None:
        """An object of a listed kind came, changed or went."""
        for obj in objects:
            if obj is not None:
                owner = Application(
                    api_version=name[0], kind=name[1], name=obj.metadata.name, uid=obj.metadata.uid
                )
                self._notify(App(owner, obj.metadata.namespace).label_key)


def kind_of(api_version: str, listed: ThirdPartyKind) -> type[KubeObject]:
    """Make a type for the objects of a listed kind; only their metadata is needed."""
    group, _, version = api_version.rpartition("/")

    class Foreign(KubeObject, frozen=True, kw_only=True):
        """Objects of the kind."""

        resource: ClassVar[Resource] = Resource(
            group, version, listed.kind, listed.resource, namespaced=True
        )

    return Foreign


def _foreign_owner(pod: PartialObject) -> OwnerReference | None:
    """Return the controller of a pod that asks for automatic pools, except Kubernetes' own."""
    if not wants_subnets(pod.metadata.annotations):
        return None
    ref = next_owner(pod.metadata.owner_references)
    return None if ref is None or (ref.api_version, ref.kind) in NATIVE else ref


def _foreign_key(pod: PartialObject) -> str | None:
    """Return the key of a pod's application, None when it is a native one or asks for nothing."""
    ref = _foreign_owner(pod)
    return None if ref is None else _foreign_app(pod, ref).label_key


def _foreign_app(pod: PartialObject, ref: OwnerReference) -> App:
    return App(referred(ref), pod.metadata.namespace)


def _foreign_target(pod: PartialObject) -> Target:
    """Read the application of a pod; Events about it go to the pod, whose kind everybody knows."""
    ref = _foreign_owner(pod)
    if ref is None:
        raise ValueError(f"pod {pod.metadata.name} has no foreign owner")
    return Target(
        _foreign_app(pod, ref),
        pod.metadata.annotations,
        None,
        False,
        Pod(metadata=pod.metadata),
        native=False,
    )
