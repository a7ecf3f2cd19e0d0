"""
Records of this node that the controller suspects: released when no namespace has their address.

Nobody else can know that. A pod that lives after all takes the suspicion off; an address that is
still in use is told, and looked at again. What a namespace has whose pod is gone is taken off it:
the runtime's DEL may never come.

Source: docs/reference/release-and-reclaim.md#the-nodes-answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.informers import BY_UID, Informers
from spiderpool.agent.reconcile.sightings import (
    Fence,
    Look,
    Sightings,
    has_address,
    is_gone,
    name_of,
)
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.group import ANNO_IN_USE
from spiderpool.api.crd.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Conflict, NotFound, SpiderpoolError, TryAgain
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.model.claim import ClaimKey
from spiderpool.model.pod import runtime_uids
from spiderpool.records.build import marked, suspicion_of, unmarked
from spiderpool.records.verdicts import (
    IN_USE_CHECK_S,
    Action,
    NamespaceUse,
    Verdict,
    judge_leak_check,
)

GATHER_S: Final = 0.2  # suspicions come in bursts, and one look into the kernel serves all
RETRY_S: Final = 5.0
# Addresses of pods that are gone, and that one other living pod keeps from being given by having
# them on its interfaces: more than a pod comes by in good faith.
MOST_PINNED: Final = 8

Uses = Sequence[tuple[InUseNamespace, NamespaceUse]]

log = structlog.get_logger(__name__)


class LeakChecks:
    """Answers the controller's questions about this node."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        deletions: Deletions,
        pod_locks: KeyedLock,
        *,
        node: str,
        look: Look,
        fence: Fence,
        on_fenced: Callable[[str, str], None],
        on_pinned: Callable[[str, str], None],
    ) -> None:
        """
        Follow the records from now on.

        Args:
            cluster: the store.
            informers: this node's pods and records.
            deletions: releases records.
            pod_locks: nothing is released while a call of its pod runs.
            node: name of this agent's node.
            look: into the kernel.
            fence: takes addresses off namespaces.
            on_fenced: told of the pool of each address that was taken off, and in which words.
            on_pinned: the same of each address that is released though another pod has it.
        """
        self._cluster = cluster
        self._informers = informers
        self._deletions = deletions
        self._pod_locks = pod_locks
        self._node = node
        self._look = look
        self._fence = fence
        self._on_fenced = on_fenced
        self._on_pinned = on_pinned
        self._pinned: dict[str, set[str]] = {}  # names of records, by UID of the pod that pins them
        self._sightings = Sightings()
        self._due: dict[str, float] = {}
        self._news = asyncio.Event()
        informers.records.subscribe(self._follow)

    async def run(self) -> None:
        """Answer what was asked before, then what is asked; ends by being cancelled."""
        for record in self._informers.records:
            # also where a former agent answered that it was still in use: nobody else looks again
            if self._is_asked(record):
                self._ask_later(record.metadata.name, 0.0)
        while True:
            await self._wait()
            await asyncio.sleep(GATHER_S)
            names = [name for name, due_s in self._due.items() if due_s <= time.monotonic()]
            for name in names:
                self._due.pop(name, None)
            await self._answer(names)

    def _follow(self, _change: Change, _old: SpiderIP | None, new: SpiderIP | None) -> None:
        if new is not None and self._is_asked(new) and ANNO_IN_USE not in new.metadata.annotations:
            self._ask_later(new.metadata.name, 0.0)

    def _is_asked(self, record: SpiderIP) -> bool:
        return record.held and bool(suspicion_of(record)) and record.spec.holder.node == self._node

    def _ask_later(self, name: str, after_s: float) -> None:
        self._due[name] = time.monotonic() + after_s
        self._news.set()

    async def _wait(self) -> None:
        """Wait until something is due."""
        while not self._due or min(self._due.values()) > time.monotonic():
            self._news.clear()
            left_s = (
                min(self._due.values(), default=time.monotonic() + IN_USE_CHECK_S)
                - time.monotonic()
            )
            try:
                async with asyncio.timeout(max(0.0, left_s)):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _answer(self, names: Iterable[str]) -> None:
        """
        Judge records of these names; what cannot be judged now is judged later.

        The look may be older than the judgement: a pod that was dead when its record was marked
        starts nothing any more.
        """
        names = tuple(names)
        try:
            in_use = await self._look()
        except Exception as error:  # noqa: BLE001 - what cannot be seen now is looked at again
            log.warning("the namespaces of this node cannot be looked into now", reason=str(error))
            for name in names:
                self._ask_later(name, RETRY_S)
            return
        for name in names:
            record = self._informers.records.named(name)
            if record is None or not self._is_asked(record):
                continue
            try:
                twin_in_use = any(
                    has_address(each, twin.spec.address)
                    for twin in self._twins(record)
                    for each in in_use
                )
                again_s = await self._judge(record, in_use, twin_in_use=twin_in_use)
            except SpiderpoolError as error:
                log.info(
                    "a suspected address cannot be judged yet",
                    ip=record.spec.ip,
                    reason=error.message,
                )
                again_s = RETRY_S
            except Exception:  # one bad record must not keep others from their check
                log.exception("a suspected address cannot be judged yet", ip=record.spec.ip)
                again_s = RETRY_S
            if again_s is not None:
                self._ask_later(name, again_s)

    def _twins(self, record: SpiderIP) -> list[SpiderIP]:
        """Return the other records that the same claim holds."""
        others = self._informers.records.by_index(BY_UID, record.spec.holder.uid)
        key = ClaimKey.of_record(record)
        return [
            o
            for o in others
            if o.held and o.metadata.name != record.metadata.name and ClaimKey.of_record(o) == key
        ]

    async def _judge(
        self, record: SpiderIP, in_use: Iterable[InUseNamespace], *, twin_in_use: bool
    ) -> float | None:
        """Judge one record and act on it; gives after which time to look again."""
        holder = record.spec.holder
        async with self._pod_locks.of((holder.namespace, holder.name)):
            pod = await self._pod_of(record)
            uses = self._uses(record, in_use)
            verdict = judge_leak_check(
                record,
                pod,
                suspicion_of(record).partition(": ")[0],
                [use for _, use in uses],
                twin_in_use=twin_in_use,
            )
            if verdict.action is not Action.KEEP or pod is not None:
                self._unpin(record)
            try:
                if thief := self._pinner(record, pod, verdict, uses):
                    await self._set_aside(record, thief)
                    return None
                if verdict.action is Action.FENCE:
                    return await self._take_off(record, uses)
                return await self._act(record, verdict)
            except (Conflict, NotFound):
                return RETRY_S  # it changed meanwhile: if it is still asked for, it is judged again

    def _uses(self, record: SpiderIP, in_use: Iterable[InUseNamespace]) -> Uses:
        """Return which namespaces have the address of a record, their pods, and since when."""
        living = runtime_uids(self._informers.pods)
        found = [each for each in in_use if has_address(each, record.spec.address)]
        gone = [each for each in found if is_gone(each, living)]
        seen = self._sightings.of(record.metadata.name, gone, time.monotonic())
        sandbox = {record.spec.holder.container_id} - {""}
        return [
            (
                each,
                NamespaceUse(
                    name_of(each),
                    gone=each in gone,
                    paused=bool(sandbox) and sandbox == set(each.containers),
                    seen_s=seen.get(each.inode, 0.0),
                ),
            )
            for each in found
        ]

    def _pinner(
        self, record: SpiderIP, pod: Pod | None, verdict: Verdict, uses: Uses
    ) -> InUseNamespace | None:
        """
        Return the namespace that alone keeps an address of a pod that is gone, and too many others.

        Its pod lives, and has no right to the address.
        """
        theirs = [each for each, _ in uses if each.pod_uid != record.spec.holder.uid]
        if pod is not None or verdict.action is not Action.KEEP or len(theirs) != len(uses):
            return None
        over = None
        for each in theirs:
            pinned = self._pinned.setdefault(each.pod_uid, set())
            if record.metadata.name not in pinned and len(pinned) >= MOST_PINNED:
                over = each
            else:
                pinned.add(record.metadata.name)
        return over

    def _unpin(self, record: SpiderIP) -> None:
        """Note that nobody pins the address of a record any more."""
        for uid, names in tuple(self._pinned.items()):
            names.discard(record.metadata.name)
            if not names:
                del self._pinned[uid]

    async def _set_aside(self, record: SpiderIP, thief: InUseNamespace) -> None:
        """Let an address go that another pod has without right: it is quarantined, then free."""
        self._unpin(record)
        await self._deletions.release(record, IPState.QUARANTINED, suspicion=suspicion_of(record))
        holder = record.spec.holder
        text = (
            f"{record.spec.ip} of {holder.namespace}/{holder.name}, which is gone, is in use in "
            f"{name_of(thief)} of node {self._node}, whose pod already keeps {MOST_PINNED} such "
            "addresses; it is released"
        )
        log.warning("an address that another pod pins is released", ip=record.spec.ip)
        self._on_pinned(record.spec.pool, text)

    async def _take_off(self, record: SpiderIP, uses: Uses) -> float:
        """
        Take the address of a record off the namespaces that nobody lives in.

        Returns:
            After which time to look again; seen to be in use nowhere, it is released then.
        """
        due = [each for each, use in uses if not use.fence_in_s]
        await self._confirm(record, due)
        address = record.spec.address
        for each in due:
            await self._fence(each, address)
        inodes = {each.inode for each in due}
        if any(each.inode in inodes and has_address(each, address) for each in await self._look()):
            log.warning("an address cannot be taken off", ip=record.spec.ip)
            return RETRY_S
        holder, where = record.spec.holder, ", ".join(map(name_of, due))
        log.warning("address fenced", ip=record.spec.ip, namespace=where)
        self._on_fenced(
            record.spec.pool,
            f"{record.spec.ip} of {holder.namespace}/{holder.name} was taken off {where} "
            f"of node {self._node}: the pod is gone, and its DEL has not come",
        )
        return 0.0

    async def _confirm(self, record: SpiderIP, namespaces: Iterable[InUseNamespace]) -> None:
        """
        Read live that nobody lives in the namespaces, and that the record is as it was judged.

        Raises:
            TryAgain: it is not so, the informers are late.
        """
        meta = record.metadata
        live = await self._cluster.get(SpiderIP, meta.name)
        if live.metadata.resource_version != meta.resource_version:
            raise TryAgain(f"record {meta.name} has changed")
        listing = await self._cluster.list_objects(Pod, fields=f"spec.nodeName={self._node}")
        uids = runtime_uids(listing.items)
        concerned = {record.spec.holder.uid, *(each.pod_uid for each in namespaces)}
        if living := concerned & {*uids, *uids.values()}:
            raise TryAgain(f"pod UID {', '.join(sorted(living))} exists")

    async def _act(self, record: SpiderIP, verdict: Verdict) -> float | None:
        if verdict.action is Action.RELEASE:
            await self._deletions.release(record, suspicion=suspicion_of(record))
            return None
        if not verdict.patience_s:
            await self._write(unmarked(record))
            return None
        if ANNO_IN_USE not in record.metadata.annotations:
            await self._write(marked(record, ANNO_IN_USE, verdict.reason))
        return verdict.patience_s

    async def _write(self, record: SpiderIP) -> None:
        self._informers.records.remember(await self._cluster.replace(record))

    async def _pod_of(self, record: SpiderIP) -> Pod | None:
        """
        Return the live pod that has the holder's UID.

        A virtual machine's pod has another name than its records.
        """
        holder = record.spec.holder
        if holder.kind is HolderKind.VIRTUAL_MACHINE:
            return next(
                (pod for pod in self._informers.pods if pod.metadata.uid == holder.uid), None
            )
        pod = await if_exists(self._cluster.get(Pod, holder.name, holder.namespace))
        return pod if pod is not None and pod.metadata.uid == holder.uid else None
