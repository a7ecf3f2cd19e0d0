"""
Election: one of several processes leads, decided by a Lease; nobody's wall clock matters.

A candidate counts from when *it* saw the lease change, the leader from before *it* asked for the
renewal. So the leader stops (`renew_s`) before anybody else may begin (`duration_s`), as long as
monotonic clocks run at about the same speed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from spiderpool.api.kubernetes.core import Lease, LeaseSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Conflict, NotFound, SpiderpoolError
from spiderpool.kube.cluster import Cluster

RELEASE_S = 3.0  # at the end, the API server may be gone too

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Times:
    """
    Times of an election, seconds; the defaults are those of Kubernetes' own components.

    `duration_s`: how long a lease that nobody renews binds others. `renew_s`: how long a leader
    leads after its last renewal. `retry_s`: between attempts. `gap_s`: between losing and trying
    again.
    """

    duration_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0
    gap_s: float = 1.0


class Election:
    """Takes part in an election under one identity."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        namespace: str,
        identity: str,
        *,
        times: Times | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; `run` takes part.

        Args:
            cluster: the client of the API.
            name: of the Lease, made when missing.
            namespace: of the Lease.
            identity: no two living processes may have the same, such as the pod's name.
            times: see there.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._name = name
        self._namespace = namespace
        self._identity = identity
        self._times = times or Times()
        self._clock = clock
        self._until = -math.inf
        self._lease: Lease | None = None  # as last read or written; None = read it first
        self._seen_holder = ""
        self._seen_version = ""
        self._seen_at = -math.inf  # when that version was first seen

    @property
    def leading(self) -> bool:
        """Return whether we lead at this moment, by our own clock."""
        return self._clock() < self._until

    @property
    def holder(self) -> str:
        """Who led when the lease was last seen; empty = nobody, or it was not seen yet."""
        return self._seen_holder

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """
        Take part until cancelled, or until `work` returns or raises.

        Args:
            work: runs while we lead; cancelled when we do not any more, and started again when we
            lead again.
        """
        try:
            while True:
                await self._until_elected()
                _log.info("leading", lease=self._name, identity=self._identity)
                if await self._lead(work):
                    return
                _log.warning("not leading any more", lease=self._name, identity=self._identity)
                await asyncio.sleep(self._times.gap_s)
        finally:
            await self._release()

    async def _until_elected(self) -> None:
        # Nobody signals that a lease ran out.
        while not await self._attempt(self._times.renew_s):  # noqa: ASYNC110
            await asyncio.sleep(self._times.retry_s)

    async def _lead(self, work: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Run `work` and renew; whether it came to its end before the leadership did."""
        task = asyncio.create_task(work(), name=f"leader of {self._name}")
        try:
            while self.leading and not task.done():
                await asyncio.wait({task}, timeout=min(self._times.retry_s, self._remaining_s()))
                if not task.done() and self.leading:
                    await self._attempt(self._remaining_s())
            if task.done():
                await task
                return True
            return False
        finally:
            await _end(task)

    def _remaining_s(self) -> float:
        return max(0.0, self._until - self._clock())

    async def _attempt(self, limit_s: float) -> bool:
        """Try once to become or stay leader; a refusal or a broken API server is a no."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._claim()
        except (SpiderpoolError, TimeoutError) as error:
            self._lease = None  # what is known of it may be wrong: read it again
            if not isinstance(error, Conflict):
                _log.warning(
                    "lease not renewed", lease=self._name, error=str(error) or "no answer in time"
                )
            return False

    async def _claim(self) -> bool:
        lease = self._lease if self.leading and self._lease is not None else await self._observe()
        asked_at = self._clock()
        if lease is None:
            meta = ObjectMeta(name=self._name, namespace=self._namespace)
            self._remember(await self._cluster.create(Lease(metadata=meta, spec=self._spec(None))))
        elif self._is_bound(lease):
            return False
        else:
            self._remember(await self._write(lease, self._spec(lease)))
        self._until = asked_at + self._times.renew_s
        return True

    async def _observe(self) -> Lease | None:
        try:
            lease = await self._cluster.get(Lease, self._name, self._namespace)
        except NotFound:
            return None
        self._remember(lease)
        return lease

    def _remember(self, lease: Lease) -> None:
        if self._seen_version != lease.metadata.resource_version:
            self._seen_version, self._seen_at = lease.metadata.resource_version, self._clock()
        self._lease = lease
        self._seen_holder = lease.spec.holder_identity or ""

    def _is_bound(self, lease: Lease) -> bool:
        """Return whether another's lease still binds us."""
        holder = lease.spec.holder_identity
        if not holder or holder == self._identity:
            return False
        duration_s = lease.spec.lease_duration_seconds or self._times.duration_s
        return self._clock() < self._seen_at + duration_s

    def _spec(self, old: Lease | None) -> LeaseSpec:
        now = _micro_time()
        spec = old.spec if old is not None else LeaseSpec()
        ours = spec.holder_identity == self._identity
        return LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=math.ceil(self._times.duration_s),
            acquire_time=spec.acquire_time if ours else now,
            renew_time=now,
            lease_transitions=(spec.lease_transitions or 0) + (old is not None and not ours),
        )

    async def _write(self, lease: Lease, spec: LeaseSpec) -> Lease:
        meta = lease.metadata
        body = {
            "metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version},
            "spec": spec,
        }
        return await self._cluster.patch(Lease, self._name, body, namespace=self._namespace)

    async def _release(self) -> None:
        """Release the Lease, so that the next leader need not wait for its end."""
        self._until = -math.inf
        with suppress(SpiderpoolError, TimeoutError):
            async with asyncio.timeout(RELEASE_S):
                lease = await self._cluster.get(Lease, self._name, self._namespace)
                if lease.spec.holder_identity == self._identity:
                    spec = LeaseSpec(
                        holder_identity="", lease_duration_seconds=1, renew_time=_micro_time()
                    )
                    await self._write(lease, spec)


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task and wait for its end."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("leader's work failed while it ended", exc_info=error)


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
