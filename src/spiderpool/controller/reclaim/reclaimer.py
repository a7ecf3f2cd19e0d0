"""
Reclaim of addresses whose pods are gone, have ended, or hang in deletion.

A record is suspected when the informers say so. The node's own DEL is usually on its way, so it is
judged some seconds later, from live objects. On a Ready node the node is asked first: a mark on the
record, which the node's agent answers by releasing it when no namespace has the address any more.
Silence is no consent; time decides on a node that is gone or out of service. Every write is
conditional on the state that was judged. `records.verdicts` judges; durations run on this
process' monotonic clock, from when it first saw a state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

import structlog

from spiderpool.api.crd.group import ANNO_IN_USE, ANNO_NETWORK_STATUS, ANNO_SUSPECT
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import Node, PartialObject, Pod
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.controller.reclaim.orphan_endpoints import drop_endpoint, drop_orphans
from spiderpool.controller.runtime.context import (
    BY_CLAIM,
    BY_HOLDER,
    BY_STATEFULSET,
    Context,
    RecordEvent,
)
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.errors import Conflict, NotFound
from spiderpool.kube.cluster import Change, if_exists
from spiderpool.kube.readers.holder_owners import read_owners
from spiderpool.model.claim import ClaimKey
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.pool import Pool
from spiderpool.records.build import marked, suspicion_of, unmarked
from spiderpool.records.cooldown import release, rest_s
from spiderpool.records.verdicts import (
    RULES,
    SECOND_LOOK_S,
    Next,
    NodeState,
    Rules,
    Step,
    Trigger,
    Verdict,
    judge_leak,
    next_step,
)

T = TypeVar("T", bound=KubeObject)

RECORDS: Final = "records"
ENDPOINTS: Final = "endpoints"
STATIC_LOOK_S: Final = 60.0  # what judges a virtual machine is not watched


log = structlog.get_logger("spiderpool.controller")

Count = Callable[[Trigger | None], None]
"""Told of each reclaimed address why it was, and of each attempt that failed (None)."""


@dataclass(slots=True)
class Suspicion:
    """
    Since when a state of a record is seen, and since when its node's agent is asked.

    `told`: that nobody answers for the node.
    """

    of: tuple[str, ...]
    since: float
    asked: float | None = None
    told: bool = False


class Reclaim:
    """Releases the addresses of pods that are gone; static holders are judged by their owner."""

    def __init__(
        self,
        context: Context,
        *,
        record_event: RecordEvent,
        count: Count,
        workers: int = 1,
        scan_s: float = 600.0,
        enabled: bool = True,
        rules: Rules = RULES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; `start` begins.

        Args:
            context: informers and client.
            record_event: writes an Event.
            count: counts.
            workers: records judged at the same time.
            scan_s: seconds between two looks at everything.
            enabled: whether addresses that are held are looked at; those that rest always are.
            rules: the switches.
            clock: monotonic seconds.
        """
        self._context = context
        self._record_event = record_event
        self._count = count
        self._enabled = enabled
        self._rules = rules
        self._clock = clock
        self._suspicions: dict[str, Suspicion] = {}
        self._blank: frozenset[tuple[str, str]] = frozenset()
        self._deleting: set[str] = set()
        self._scan_s = scan_s
        self.queue = WorkQueue("reclaim", self._reconcile, workers=workers, clock=clock)
        self.rounds = WorkQueue("reclaim rounds", self._round, clock=clock)

    def start(self) -> None:
        """Follow records, pods and StatefulSets, and look at all now and from time to time."""
        self._context.follow(self._context.records, self._on_record)
        self._context.follow(self._context.pods, self._on_pod)
        self._context.follow(self._context.ended, self._on_ended)
        self._context.follow(self._context.statefulsets, self._on_statefulset)
        self.rounds.add(RECORDS)
        self.rounds.add(ENDPOINTS)

    # --- what makes us look

    async def _round(self, key: str) -> float:
        """
        Look at everything of one kind.

        Leadership begins with it, and it is repeated in case an event was missed.
        """
        if key == RECORDS:
            if self._enabled and self._rules.blank:
                await self._find_blank()
            self._look_at(self._context.records)
        else:
            await drop_orphans(self._context)
        return self._scan_s

    async def _find_blank(self) -> None:
        """
        Find the pods that run and have no address in their status.

        The informers have metadata only.
        """
        listing = await self._context.cluster.list_objects(
            Pod, fields="status.phase=Running", resource_version="0"
        )
        self._blank = frozenset(
            pod.key for pod in listing.items if not pod.status.pod_ips and not pod.spec.host_network
        )

    def _on_record(self, _: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """
        A record came, changed or went.

        A new pod's record may come before its pod, which the second look clears up.
        """
        if old is not None and old.held and suspicion_of(old):
            self._see_answer(old, new)
        if new is not None:
            self._look_at([new])
        for record in (old, new):
            if record is not None and record.held:
                self._look_at(self._twins(record))

    def _on_pod(self, _: Change, old: PartialObject | None, new: PartialObject | None) -> None:
        """
        A pod went, another one has its name, it is in deletion now, or its networks are there.

        Then it has all that it asks for: what is fixed to its name beside that is not wanted.
        """
        if old is None:
            return
        if (
            new is None
            or new.metadata.uid != old.metadata.uid
            or new.metadata.deletion_timestamp is not None
            or networks_of(new) != networks_of(old)
        ):
            self._look_at(self._context.records.by_index(BY_HOLDER, old.key))

    def _on_ended(self, _: Change, __: PartialObject | None, new: PartialObject | None) -> None:
        """A pod finished."""
        if new is not None:
            self._look_at(self._context.records.by_index(BY_HOLDER, new.key))

    def _on_statefulset(
        self, _: Change, old: PartialObject | None, new: PartialObject | None
    ) -> None:
        """
        A StatefulSet went, or its specification changed.

        It may not want all its pods any more.
        """
        either = new or old
        if either is not None and (
            old is None or new is None or old.metadata.generation != new.metadata.generation
        ):
            self._look_at(self._context.records.by_index(BY_STATEFULSET, either.key))

    def _look_at(self, records: Iterable[SpiderIP]) -> None:
        """Queue the records among some that look leaked."""
        for record in records:
            if self._looks(record) is not None or suspicion_of(record):
                self.queue.add(record.metadata.name)

    def _looks(self, record: SpiderIP) -> str | None:
        """
        Return what the informers know against a record, None when there is nothing.

        A virtual machine has no pod of its name, so it always looks leaked; its objects are read
        then.
        """
        holder = record.spec.holder
        if not record.held:
            return record.spec.state
        if not record.held_by_workload or not self._enabled:
            return None
        key = (holder.namespace, holder.name)
        pod, ended = self._context.pods.get(key), self._context.ended.get(key)
        words = {
            "gone": pod is None or pod.metadata.uid != holder.uid,
            "ending": pod is not None and pod.metadata.deletion_timestamp is not None,
            "ended": ended is not None and ended.metadata.uid == holder.uid,
            "blank": key in self._blank,
            "twice": bool(self._twins(record)),
        }
        return next((word for word, true in words.items() if true), None)

    def _twins(self, record: SpiderIP) -> list[SpiderIP]:
        """
        Return the other records that the same claim holds.

        A write of a dead agent may come late.
        """
        held = self._context.records.by_index(BY_CLAIM, ClaimKey.of_record(record))
        return [other for other in held if other.metadata.name != record.metadata.name]

    # --- what we do

    async def _reconcile(self, name: str) -> float | None:
        """
        Look at one record.

        Note a suspicion, and after some time, if it still stands, judge it from live objects.
        """
        record = self._context.records.named(name)
        looks = None if record is None else self._looks(record)
        if record is None or looks is None:
            self._suspicions.pop(name, None)
            if record is not None and record.held and suspicion_of(record):
                await self._write(unmarked(record))
            return None
        suspicion = self._suspicion_of(record, looks)
        rest = suspicion.since + self._first_rest_s(record, looks) - self._clock()
        if rest > 0:
            return rest
        if not record.held:
            await self._delete(record)
            return None
        return await self._settle(record, suspicion)

    async def _settle(self, record: SpiderIP, suspicion: Suspicion) -> float | None:
        """Judge a held record, and do what comes next."""
        node = await self._node_of(record)
        verdict = await self._judge(record, node)
        now = self._clock()
        if suspicion.asked is None and suspicion_of(record):
            suspicion.asked = now  # by a former leader
        step = next_step(
            verdict,
            node,
            seen_s=now - suspicion.since,
            asked_s=None if suspicion.asked is None else now - suspicion.asked,
            answer=record.metadata.annotations.get(ANNO_IN_USE, ""),
            name=record.spec.holder.node,
        )
        return await self._do(step, record, verdict, suspicion)

    async def _do(
        self, step: Next, record: SpiderIP, verdict: Verdict, suspicion: Suspicion
    ) -> float | None:
        """Carry a step out, and say when to look again."""
        match step.step:
            case Step.KEEP:
                self._suspicions.pop(record.metadata.name, None)
                if suspicion_of(record):
                    await self._write(unmarked(record))
                return STATIC_LOOK_S if record.spec.static else None
            case Step.ASK:
                await self._write(marked(record, ANNO_SUSPECT, f"{verdict.trigger}: {step.reason}"))
                suspicion.asked = self._clock()
            case Step.RELEASE:
                await self._release(record, verdict.trigger or Trigger.POD_GONE, step.reason)
                return None
            case Step.WAIT:
                if step.unheard and not suspicion.told:
                    suspicion.told = True
                    log.warning("address stays", ip=record.spec.ip, reason=step.reason)
                    self._say(
                        record, EventReason.NODE_UNHEARD, f"{_whose(record)} stays: {step.reason}"
                    )
        return step.wait_s

    def _suspicion_of(self, record: SpiderIP, looks: str) -> Suspicion:
        """
        Return since when a record looks like this.

        Another holder, or another look, begins again.
        """
        holder, meta = record.spec.holder, record.metadata
        of = (
            meta.uid,
            record.spec.state_since or "",
            holder.uid,
            holder.container_id,
            holder.node,
            looks,
        )
        known = self._suspicions.get(meta.name)
        if known is None or known.of != of:
            known = self._suspicions[meta.name] = Suspicion(of, self._clock())
        return known

    def _first_rest_s(self, record: SpiderIP, looks: str) -> float:
        """
        Return how long a record rests before anything is read for it.

        The live objects may ask for more.
        """
        if not record.held:
            return rest_s(record, self._pool_of(record))
        pod = self._context.pods.named(record.spec.holder.name, record.spec.holder.namespace)
        grace = (
            pod.metadata.deletion_grace_period_seconds
            if pod is not None and looks == "ending"
            else None
        )
        return SECOND_LOOK_S + self._rules.additional_s + (grace or 0)

    def _pool_of(self, record: SpiderIP) -> Pool | None:
        pool = self._context.pools.named(record.spec.pool)
        return None if pool is None else Pool.parse(pool)

    # --- reading

    async def _judge(self, record: SpiderIP, node: NodeState) -> Verdict:
        """Read the live objects that decide, and decide."""
        holder = record.spec.holder
        if holder.kind is HolderKind.VIRTUAL_MACHINE:
            return judge_leak(
                record,
                None,
                await read_owners(self._context.cluster, record),
                node=node,
                rules=self._rules,
            )
        pod = await if_exists(self._context.cluster.get(Pod, holder.name, holder.namespace))
        owners = await read_owners(self._context.cluster, record)
        return judge_leak(
            record, pod, owners, node=node, rules=self._rules, twins=self._twins(record)
        )

    async def _node_of(self, record: SpiderIP) -> NodeState:
        """Read the node that a record names."""
        name = record.spec.holder.node
        node = await if_exists(self._context.cluster.get(Node, name)) if name else None
        if node is None:
            return NodeState.GONE
        if node.ready:
            return NodeState.READY
        return NodeState.OUT_OF_SERVICE if node.out_of_service else NodeState.LOST

    # --- writing

    async def _write(self, record: SpiderIP) -> None:
        """
        Write a mark, or its end, on condition of what was judged.

        The watch brings it back to us.
        """
        try:
            self._context.records.remember(await self._context.cluster.replace(record))
        except NotFound:
            return  # released meanwhile

    async def _release(self, record: SpiderIP, trigger: Trigger, reason: str) -> None:
        """Let an address go, on condition that its record is the one that was judged."""
        released = release(record, self._pool_of(record), datetime.now(UTC))
        try:
            if released is None:
                await self._delete(record)
            else:
                self._context.records.remember(await self._context.cluster.replace(released))
        except NotFound:
            return  # its own node was faster
        except Conflict:
            self._count(None)
            raise
        self._reclaimed(record, trigger, reason)
        if record.spec.static:
            await drop_endpoint(self._context, record)

    async def _delete(self, record: SpiderIP) -> None:
        """
        Delete a record on condition that it is the one that was looked at.

        Raises `NotFound` for one that was held.
        """
        meta = record.metadata
        self._deleting.add(meta.uid)
        try:
            await self._context.cluster.delete(
                SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
            )
        except NotFound:
            self._context.records.forget(record)
            if record.held:
                raise
        else:
            self._context.records.forget(record)
        finally:
            self._deleting.discard(meta.uid)
        self._suspicions.pop(meta.name, None)

    def _see_answer(self, old: SpiderIP, new: SpiderIP | None) -> None:
        """Take in what became of a record whose node was asked: released, or still in use."""
        trigger, _, reason = suspicion_of(old).partition(": ")
        gone = new is None and old.metadata.uid not in self._deleting
        if gone or (new is not None and not new.held and suspicion_of(new)):
            self._reclaimed(
                old,
                _trigger(trigger),
                f"{reason}; no namespace of node {old.spec.holder.node} has it",
            )
        elif (
            new is not None
            and (in_use := new.metadata.annotations.get(ANNO_IN_USE))
            and ANNO_IN_USE not in old.metadata.annotations
        ):
            self._say(old, EventReason.STILL_IN_USE, f"{_whose(old)} stays: {reason}, but {in_use}")

    def _reclaimed(self, record: SpiderIP, trigger: Trigger, reason: str) -> None:
        """Log, count and tell."""
        log.info(
            "address reclaimed",
            ip=record.spec.ip,
            pool=record.spec.pool,
            trigger=trigger,
            reason=reason,
        )
        self._count(trigger)
        self._say(record, EventReason.RECLAIMED, f"{_whose(record)} is reclaimed: {reason}")

    def _say(self, record: SpiderIP, reason: EventReason, text: str) -> None:
        """
        Write the Event on the pool, and on the holder's pod if it exists.

        It may be gone, and its namespace too.
        """
        holder = record.spec.holder
        pod = self._context.pods.named(holder.name, holder.namespace)
        pool = self._context.pools.named(record.spec.pool)
        if pool is not None:
            self._record_event(pool, reason, text)
        if pod is not None and pod.metadata.uid == holder.uid:
            self._record_event(Pod(metadata=pod.metadata), reason, text)


def networks_of(pod: PartialObject) -> str:
    """Return what a meta plugin wrote about a pod when it had attached its networks."""
    return pod.metadata.annotations.get(ANNO_NETWORK_STATUS, "")


def _whose(record: SpiderIP) -> str:
    """Name an address and its holder."""
    holder = record.spec.holder
    return (
        f"{record.spec.ip} of {holder.namespace}/{holder.name} "
        f"({holder.nic or 'unnamed interface'})"
    )


def _trigger(text: str) -> Trigger:
    """Read the trigger that a mark names; one of another version is taken for the commonest."""
    return Trigger(text) if text in set(Trigger) else Trigger.POD_GONE
