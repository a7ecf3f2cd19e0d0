"""
What the leader's reconcilers share.

A fenced door, the informers with their indexes, the switches.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Self, TypeVar

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import PartialObject, Pod, StatefulSet
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.configuration.config import Features
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.informer import SHORT_CHECK_S, Informer, MetadataInformer
from spiderpool.kube.informer_store import Subscriber
from spiderpool.model.claim import ClaimKey
from spiderpool.model.event_reasons import EventReason
from spiderpool.records.verdicts import statefulset_name

T = TypeVar("T", bound=KubeObject)

# Writes an Event: the object, the reason and the message; repetitions are counted by the writer.
RecordEvent = Callable[[KubeObject, EventReason, str], None]

BY_POOL: Final = "pool"
BY_HOLDER: Final = "holder"
BY_STATEFULSET: Final = "statefulset"
BY_CLAIM: Final = "claim"


@dataclass(slots=True)
class Context:
    """
    The cluster as the leader sees it.

    `records` can be asked by pool name (`BY_POOL`), by namespace and name of the holder
    (`BY_HOLDER`), and of the StatefulSet that judges it (`BY_STATEFULSET`); those that somebody
    holds by their claim (`BY_CLAIM`). `ended`: pods that have finished, metadata only like all
    `pods`.
    """

    cluster: Cluster
    pools: Informer[SpiderIPPool]
    features: Features
    records: Informer[SpiderIP] = field(init=False)
    pods: Informer[PartialObject] = field(init=False)
    ended: Informer[PartialObject] = field(init=False)
    statefulsets: Informer[PartialObject] = field(init=False)
    _following: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        """Make the informers that only a leader keeps."""
        self.records = Informer(self.cluster, SpiderIP, check_s=SHORT_CHECK_S)
        self.records.index(BY_POOL, lambda record: record.spec.pool)
        self.records.index(
            BY_HOLDER, lambda record: (record.spec.holder.namespace, record.spec.holder.name)
        )
        self.records.index(BY_STATEFULSET, _statefulset_of)
        self.records.index(BY_CLAIM, _claim_of)
        self.pods = MetadataInformer(self.cluster, Pod)
        self.ended = MetadataInformer(
            self.cluster, Pod, fields="status.phase!=Pending,status.phase!=Running"
        )
        self.statefulsets = MetadataInformer(self.cluster, StatefulSet)

    async def __aenter__(self) -> Self:
        """Fill the informers."""
        try:
            for informer in self._own:
                await informer.start()
            for informer in (*self._own, self.pools):
                await informer.synced()
        except BaseException:  # cancelled while they fill: then nobody calls the exit
            await self.__aexit__()
            raise
        return self

    def follow(self, informer: Informer[T], subscriber: Subscriber[T]) -> None:
        """
        Subscribe to an informer until leadership ends.

        The informer of pools lives longer than that.
        """
        self._following.callback(informer.subscribe(subscriber))

    async def __aexit__(self, *_: object) -> None:
        """Stop following."""
        self._following.close()
        for informer in self._own:
            await informer.stop()

    @property
    def _own(self) -> tuple[Informer[Any], ...]:
        """The informers that only a leader keeps."""
        return (self.records, self.pods, self.ended, self.statefulsets)


def _claim_of(record: SpiderIP) -> ClaimKey | None:
    """Return the claim that a held record answers."""
    return ClaimKey.of_record(record) if record.held_by_workload else None


def _statefulset_of(record: SpiderIP) -> tuple[str, str] | None:
    """Return namespace and name of the StatefulSet that judges a record, None when none does."""
    if not record.spec.static or record.spec.holder.kind is not HolderKind.POD:
        return None
    name = statefulset_name(record)
    return (record.spec.holder.namespace, name) if name else None
