"""
The leader keeps a NetworkAttachmentDefinition for each SpiderMultusConfig.

The definition belongs to its network, so that it goes with it. One that nobody owns is taken over;
one of another network stays as it is. A definition that somebody changed or deleted is put right at
once.
Source: docs/reference/networks.md#the-definition.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from spiderpool.api.crd.multusconfig import SpiderMultusConfig
from spiderpool.api.kubernetes.core import (
    NetworkAttachmentDefinition,
    NetworkAttachmentDefinitionSpec,
)
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.controller.runtime.context import RecordEvent
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.errors import InvalidRequest, NotFound
from spiderpool.kube.cluster import Change, Cluster
from spiderpool.kube.informer import Informer
from spiderpool.model.event_reasons import EventReason
from spiderpool.networks.definition import definition_name, render_annotations, render_config

RESYNC_S: Final = 60.0
GOING_S: Final = 5.0  # a definition that is being deleted: the original's delay
KIND: Final = SpiderMultusConfig.resource.kind

Clock = Callable[[], float]


class MultusConfigs:
    """Keeps the definitions of all networks."""

    def __init__(
        self,
        cluster: Cluster,
        record_event: RecordEvent,
        *,
        resync_s: float = RESYNC_S,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the fenced door.
            record_event: writes Events.
            resync_s: how often each network is looked at without a reason.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._record_event = record_event
        self._resync_s = resync_s
        self._configs = Informer(cluster, SpiderMultusConfig)
        self._definitions = Informer(cluster, NetworkAttachmentDefinition)
        self.queue = WorkQueue("networks", self._reconcile, clock=clock)

    async def start(self) -> None:
        """Follow networks and definitions; what is not listed yet comes as a change."""
        self._configs.subscribe(self._on_config)
        self._definitions.subscribe(self._on_definition)
        await self._configs.start()
        await self._definitions.start()

    async def stop(self) -> None:
        """End the watches."""
        await asyncio.gather(self._configs.stop(), self._definitions.stop())

    def _on_config(
        self, _change: Change, _old: SpiderMultusConfig | None, new: SpiderMultusConfig | None
    ) -> None:
        """Look at a network that is new or changed."""
        if new is not None:
            self.queue.add(_key(new.metadata))

    def _on_definition(
        self,
        _change: Change,
        old: NetworkAttachmentDefinition | None,
        new: NetworkAttachmentDefinition | None,
    ) -> None:
        """Look at the network whose definition changed or went."""
        for definition in (old, new):
            for owner in definition.metadata.owner_references if definition is not None else ():
                if owner.kind == KIND and definition is not None:
                    self.queue.add(f"{definition.metadata.namespace}/{owner.name}")

    async def _reconcile(self, key: str) -> float | None:
        """
        Bring the definition of one network up to date.

        Returns seconds until it is looked at again.
        """
        namespace, _, name = key.partition("/")
        config = self._configs.named(name, namespace)
        if config is None or config.metadata.deletion_timestamp is not None:
            return None
        try:
            wanted = render_definition(config)
        # no webhook looked at it; a change of the object brings us back
        except InvalidRequest as error:
            self._record_event(config, EventReason.NETWORK_NOT_WRITTEN, error.message)
            return None
        return await self._write(config, wanted)

    async def _write(
        self, config: SpiderMultusConfig, wanted: NetworkAttachmentDefinition
    ) -> float:
        """Create, change or leave alone."""
        try:
            found = await self._cluster.get(
                NetworkAttachmentDefinition, wanted.metadata.name, wanted.metadata.namespace
            )
        except NotFound:
            await self._cluster.create(wanted)
            return self._resync_s
        if found.metadata.deletion_timestamp is not None:
            return GOING_S
        if other := await self._other_owner(config, found):
            self._record_event(
                config,
                EventReason.NETWORK_NOT_WRITTEN,
                f"network-attachment-definition {wanted.metadata.name} is managed by {KIND} "
                f"{other}",
            )
            return self._resync_s
        body = change(found, wanted)
        if body is not None:
            await self._cluster.patch(
                NetworkAttachmentDefinition,
                wanted.metadata.name,
                body,
                namespace=wanted.metadata.namespace,
            )
        return self._resync_s

    async def _other_owner(
        self, config: SpiderMultusConfig, found: NetworkAttachmentDefinition
    ) -> str:
        """Name the living network that a definition belongs to and that is not this one."""
        for owner in found.metadata.owner_references:
            if (
                owner.kind != KIND
                or owner.uid == config.metadata.uid
                or owner.name == config.metadata.name
            ):
                continue
            try:
                live = await self._cluster.get_metadata(
                    SpiderMultusConfig, owner.name, config.metadata.namespace
                )
            except NotFound:
                continue
            if live.metadata.uid == owner.uid:
                return owner.name
        return ""


def render_definition(config: SpiderMultusConfig) -> NetworkAttachmentDefinition:
    """Make the definition of a network. Raises `InvalidRequest` when its settings make none."""
    meta = config.metadata
    owner = OwnerReference(
        api_version=config.resource.api_version,
        kind=KIND,
        name=meta.name,
        uid=meta.uid,
        controller=True,
        block_owner_deletion=True,
    )
    return NetworkAttachmentDefinition(
        metadata=ObjectMeta(
            name=definition_name(config),
            namespace=meta.namespace,
            annotations=render_annotations(config),
            owner_references=(owner,),
        ),
        spec=NetworkAttachmentDefinitionSpec(config=render_config(config)),
    )


def change(
    found: NetworkAttachmentDefinition, wanted: NetworkAttachmentDefinition
) -> dict[str, Any] | None:
    """
    Return the merge patch that makes a definition what it must be, None when it is.

    Labels are others' business.
    """
    meta, new = found.metadata, wanted.metadata
    same = (
        meta.annotations == new.annotations
        and found.spec == wanted.spec
        and meta.owner_references == new.owner_references
    )
    if same:
        return None
    gone = dict.fromkeys(meta.annotations.keys() - new.annotations.keys())
    return {
        "metadata": {
            "resourceVersion": meta.resource_version,
            "annotations": {**new.annotations, **gone},
            "ownerReferences": new.owner_references,
        },
        "spec": {"config": wanted.spec.config},
    }


def _key(meta: ObjectMeta) -> str:
    """Name a network in the queue."""
    return f"{meta.namespace}/{meta.name}"
