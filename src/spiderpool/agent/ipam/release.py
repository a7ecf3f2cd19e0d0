"""
DEL: what a container had is given back, unless its pod lives or its holder keeps it.

Each record is released on condition of the very state that was judged; changed meanwhile, it is
read and judged again.

Source: docs/reference/release-and-reclaim.md#del.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from spiderpool.agent.informers import BY_POD, BY_UID, Informers
from spiderpool.agent.node.caller import PodCall
from spiderpool.agent.records.claims import Claims
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.kube.compare_and_swap import compare_and_swap
from spiderpool.kube.readers.holder_owners import read_owners
from spiderpool.model.pod import is_alive
from spiderpool.records.build import name_of
from spiderpool.records.verdicts import Action, Verdict, judge_release

REMEMBERED: Final = 10_000  # pods seen to be deleted; a DEL comes within seconds or minutes

Judge = Callable[[SpiderIP], Verdict]


class Tombstones:
    """
    UIDs of pods that this agent saw being removed.

    No live read is needed to know that they are gone.
    """

    def __init__(self) -> None:
        self._uids: OrderedDict[str, None] = OrderedDict()

    def follow(self, change: Change, old: Pod | None, _new: Pod | None) -> None:
        """Take in a change of the pods' informer."""
        if change is Change.DELETED and old is not None:
            self._uids[old.metadata.uid] = None
            while len(self._uids) > REMEMBERED:
                self._uids.popitem(last=False)

    def __contains__(self, uid: str) -> bool:
        return uid in self._uids


class Releases:
    """Releases addresses."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        claims: Claims,
        *,
        deletions: Deletions,
        on_loss: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Join what a DEL needs.

        Args:
            cluster: the store.
            informers: this node's pods and records.
            claims: knows creates that never got an answer.
            deletions: releases records.
            on_loss: told of each release that met a changed record.
        """
        self._cluster = cluster
        self._informers = informers
        self._claims = claims
        self._deletions = deletions
        self._on_loss = on_loss
        self._tombstones = Tombstones()
        informers.pods.subscribe(self._tombstones.follow)

    async def delete(self, call: PodCall, container_id: str) -> None:
        """Release what a container had; the caller has the pod's lock."""
        await self._claims.resolve(call.uid)
        records = self._records_of(call)
        if records:
            pod = await self._find_pod(call, records)
            await asyncio.gather(
                *(self._settle(record, pod, container_id, call.uid) for record in records)
            )
        self._claims.drop(call.uid)

    async def delete_all(self, uid: str) -> None:
        """
        Release all that a pod holds, alive or not.

        Its addresses are in use by others on the wire, so nobody gets them.
        """

        def judge(record: SpiderIP) -> Verdict:
            mine = record.spec.holder.uid == uid
            return Verdict(Action.RELEASE if mine else Action.KEEP, "address conflict")

        held = [record for record in self._informers.records.by_index(BY_UID, uid) if record.held]
        await asyncio.gather(
            *(self._release(record, judge, IPState.QUARANTINED) for record in held)
        )

    def _records_of(self, call: PodCall) -> tuple[SpiderIP, ...]:
        """
        Return this node's records of a pod, by UID and by name.

        A runtime may not tell the UID, or tell another one.
        """
        of_uid = self._informers.records.by_index(BY_UID, call.uid) if call.uid else ()
        found = (*of_uid, *self._informers.records.by_index(BY_POD, call.key))
        return tuple({record.metadata.name: record for record in found if record.held}.values())

    async def _find_pod(self, call: PodCall, records: Iterable[SpiderIP]) -> Pod | None:
        """
        Return the live pod of the name, None when it is gone.

        Read live unless the informer is sure that it ended.
        """
        uids = {record.spec.holder.uid for record in records}
        known = self._informers.pods.named(call.name, call.namespace)
        if known is not None and uids == {known.metadata.uid} and not is_alive(known):
            return known
        if known is None and all(uid in self._tombstones for uid in uids):
            return None
        try:
            return await self._cluster.get(Pod, call.name, call.namespace)
        except NotFound:
            if known is not None:
                self._informers.pods.forget(known)
            return None

    async def _settle(self, record: SpiderIP, pod: Pod | None, container_id: str, uid: str) -> None:
        """Judge a record and act on it."""
        owners = await read_owners(self._cluster, record)

        def judge(found: SpiderIP) -> Verdict:
            return judge_release(found, pod, container_id, uid, owners)

        if pod is None and judge(record).action is not Action.RELEASE:
            # Nobody asks again for a pod that is gone: what a late watch, or a write without an
            # answer, hides counts too.
            found = await self._read(record)
            if found is None:
                self._deletions.forget(record)
                return
            record = found
        await self._release(record, judge)

    async def _release(
        self, record: SpiderIP, judge: Judge, state: IPState = IPState.COOLING
    ) -> None:
        """Release a record if it is judged so, as long as it is what was judged."""

        async def write(found: SpiderIP | None) -> None:
            if found is None:
                self._deletions.forget(record)
            elif found.held and judge(found).action is Action.RELEASE:
                await self._deletions.release(found, state)

        async def reread() -> SpiderIP | None:
            self._on_loss()
            return await self._read(record)

        await compare_and_swap(record, write, reread, subject=name_of(record))

    async def _read(self, record: SpiderIP) -> SpiderIP | None:
        """Read a record again; another record of the same address is somebody else's."""
        found = await if_exists(self._cluster.get(SpiderIP, record.metadata.name))
        return found if found is not None and found.metadata.uid == record.metadata.uid else None
