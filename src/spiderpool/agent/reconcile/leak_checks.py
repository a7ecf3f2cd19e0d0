"""
Records of this node that the controller suspects: released when no namespace has their address.

Nobody else can know that. A pod that lives after all takes the suspicion off; an address that is
still in use is told, and looked at again.

Source: docs/reference/release-and-reclaim.md#the-nodes-answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.records.deletions import Deletions
from spiderpool.agent.records.informers import BY_UID, Informers
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.group import ANNO_IN_USE
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import Conflict, NotFound, SpiderpoolError
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.model.claim import ClaimKey
from spiderpool.records.build import marked, suspicion_of, unmarked
from spiderpool.records.lifecycle import IN_USE_CHECK_S, Action, Verdict, judge_leak_check

GATHER_S: Final = 0.2  # marks come in bursts, and one look into the kernel serves all
RETRY_S: Final = 5.0

Look = Callable[[], Awaitable[tuple[InUseNamespace, ...]]]
"""Looks into the namespaces of this node's pods."""

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
        """
        self._cluster = cluster
        self._informers = informers
        self._deletions = deletions
        self._pod_locks = pod_locks
        self._node = node
        self._look = look
        self._due: dict[str, float] = {}
        self._news = asyncio.Event()
        informers.records.subscribe(self._follow)

    async def run(self) -> None:
        """Answer what was asked before, then what is asked; ends by being cancelled."""
        for record in self._informers.records:
            # also where a former agent answered that it was still worn: nobody else looks again
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
                twin_in_use = any(user_of(twin, in_use) for twin in self._twins(record))
                again_s = await self._judge(
                    record, user_of(record, in_use), twin_in_use=twin_in_use
                )
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

    async def _judge(self, record: SpiderIP, in_use_in: str, *, twin_in_use: bool) -> float | None:
        """Judge one record and act on it; gives after which time to look again."""
        holder = record.spec.holder
        async with self._pod_locks.of((holder.namespace, holder.name)):
            pod = await self._pod_of(record)
            verdict = judge_leak_check(
                record,
                pod,
                suspicion_of(record).partition(": ")[0],
                in_use_in,
                twin_in_use=twin_in_use,
            )
            try:
                return await self._act(record, verdict)
            except (Conflict, NotFound):
                return RETRY_S  # it changed meanwhile: if it is still asked for, it is judged again

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


def user_of(record: SpiderIP, namespaces: Iterable[InUseNamespace]) -> str:
    """Say which namespace wears the address of a record; empty when none does."""
    address = record.spec.address
    for namespace in namespaces:
        if any(ip == address for _, ip in namespace.pairs):
            return (
                f"{namespace.path} (pod UID {namespace.pod_uid})"
                if namespace.pod_uid
                else namespace.path
            )
    return ""
