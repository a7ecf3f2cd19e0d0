"""
SpiderEndpoints of this node's pods, derived from SpiderIPs for people and other tools.

A queue of pods whose addresses changed. While CNI calls run it works slowly, since they need the
same API server: an endpoint costs it as much as an ADD. Else an endpoint is right within a second.
What was pending when an agent died is found again by comparing all at the next start.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from spiderpool.agent.informers import BY_POD, Informers
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import AlreadyExists, Conflict, NotFound, SpiderpoolError, UnknownOutcome
from spiderpool.kube.backoff import Backoff
from spiderpool.kube.cluster import Change, Cluster
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.label_values import label_value
from spiderpool.records.projections import kept_endpoint, merge_endpoint

WORKERS: Final = 10
# after the last CNI call: in a burst over many nodes another one's may still run
QUIET_S: Final = 0.5
BUSY_PAUSE_S: Final = 1.0  # between two endpoints while CNI calls run
BUSY_LIMIT_S: Final = 60.0  # older ones do not pause any more, but still go one by one
LOOK_S: Final = 0.05

Name = tuple[str, str]
"""(namespace, name) of an endpoint: of the pod, or of the virtual machine that it runs."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Version:
    """
    The last state of an endpoint that this agent wrote or saw.

    Of which pod, and what a deletion must be conditional on.
    """

    pod_uid: str
    uid: str
    resource_version: str


class Endpoints:
    """Writes and deletes the endpoints of one node's pods."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        owners: TopOwners,
        *,
        node: str,
        is_busy: Callable[[], bool],
        is_served: Callable[[Name], bool],
        quiet_s: float = QUIET_S,
    ) -> None:
        """
        Join what the projection needs.

        Args:
            cluster: the store.
            informers: this node's pods and records.
            owners: top owners of pods.
            node: name of this agent's node.
            is_busy: whether CNI calls run now.
            is_served: whether a CNI call of this pod runs: its addresses are still changing.
            quiet_s: how long no CNI call must have been before endpoints are written.
        """
        self._cluster = cluster
        self._informers = informers
        self._owners = owners
        self._quiet_s = quiet_s
        self._node_label = label_value(node)
        self._is_busy = is_busy
        self._is_served = is_served
        self._known: dict[Name, Version] = {}
        self._unanswered: dict[Name, str] = {}  # creates whose answer never came: UID of the pod
        # since when; a dict keeps the order in which they came
        self._pending: dict[Name, float] = {}
        self._started_s = 0.0
        self._busy_s = 0.0
        self._working: set[Name] = set()
        self._backoffs: dict[Name, Backoff] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    def follow(self, _change: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """
        Take in a change of a record: the endpoints of both holders may be out of date.

        Args:
            _change: what an informer's subscribers get; not needed.
            old: the record before, None when it is new.
            new: the record now, None when it is gone.
        """
        for record in (old, new):
            if record is not None:
                self.changed(name_of(record))

    def changed(self, name: Name) -> None:
        """Note that what a pod holds may have changed; many notes of one pod are one write."""
        self._busy_s = time.monotonic()
        self._pending.setdefault(name, self._busy_s)
        self._news.set()

    @property
    def pending(self) -> int:
        """How many endpoints may be out of date."""
        return len(self._pending) + len(self._working)

    async def run(self, after: asyncio.Event) -> None:
        """
        Compare everything once, then follow the notes; ends by being cancelled.

        Args:
            after: nothing is written or deleted before: endpoints are what lost records are made
            from again.
        """
        try:
            await after.wait()
            await self._persist_in_looking_back()
            while True:
                await self._news.wait()
                self._news.clear()
                await self._work_off()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _persist_in_looking_back(self) -> None:
        backoff = Backoff()
        while True:
            try:
                await self._look_back()
            except SpiderpoolError as error:
                log.info("endpoints not compared yet", reason=error.message)
                await asyncio.sleep(backoff.next_s(error))
            else:
                return

    async def _look_back(self) -> None:
        """Queue every holder of this node, and every endpoint that a former agent of it left."""
        labels = f"{LABEL_NODE}={self._node_label}"
        listing = await self._cluster.list_objects(
            SpiderEndpoint, labels=labels, resource_version="0"
        )
        for endpoint in listing.items:
            self._note(endpoint)
            self.changed(endpoint.key)
        for record in self._informers.records:
            self.changed(name_of(record))

    async def _work_off(self) -> None:
        """Start work on what is pending, as much at a time as is right now."""
        while self._pending:
            ready = list(islice(filter(self._is_ready, self._pending), WORKERS))
            now = ready[: self._room(self._pending[ready[0]])] if ready else []
            for name in now:
                self._start(name)
            if not now:
                await self._wait_for_room()

    def _is_ready(self, name: Name) -> bool:
        return name not in self._working and not self._is_served(name)

    def _room(self, oldest_s: float) -> int:
        """Return how many more endpoints may be begun now; the first waits since `oldest_s`."""
        now, free = time.monotonic(), WORKERS - len(self._tasks)
        if self._is_busy():
            self._busy_s = now
        if now - self._busy_s >= self._quiet_s:
            return max(0, free)
        # A storm that lasts so long means an API server that is slow: one write at a time takes
        # from it only what it can spare.
        pause_s = 0.0 if now - oldest_s > BUSY_LIMIT_S else BUSY_PAUSE_S
        return int(not self._tasks and now - self._started_s >= pause_s)

    async def _wait_for_room(self) -> None:
        """Wait until a task ends, or calls may have ended."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(LOOK_S)

    def _start(self, name: Name) -> None:
        del self._pending[name]
        self._started_s = time.monotonic()
        self._working.add(name)
        task = asyncio.create_task(self._settle(name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, name: Name) -> None:
        """Bring one endpoint up to date; after an error later again."""
        try:
            await self._reconcile(name)
            self._backoffs.pop(name, None)
        except SpiderpoolError as error:
            log.info(
                "endpoint not written yet", namespace=name[0], name=name[1], reason=error.message
            )
            self._again(name, error)
        except Exception:  # one bad object must not keep the others from theirs
            log.exception("endpoint not written yet", namespace=name[0], name=name[1])
            self._again(name)
        finally:
            self._working.discard(name)
            self._news.set()

    def _again(self, name: Name, error: SpiderpoolError | None = None) -> None:
        """Reconcile an endpoint once more, after an ever longer pause."""
        pause_s = self._backoffs.setdefault(name, Backoff()).next_s(error)
        asyncio.get_running_loop().call_later(pause_s, self.changed, name)

    async def _reconcile(self, name: Name) -> None:
        """Compare what is held with what the endpoint says, and write the difference."""
        records = [
            record for record in self._informers.records.by_index(BY_POD, name) if record.held
        ]
        if not records:
            await self._delete(name)
            return
        # A record of a former pod of this name may be among them: it is reclaimed in its own time.
        pod = next(filter(None, map(self._pod_of, records)), None)
        if pod is None:
            return  # the pod is gone; its endpoint goes with it, or with its records
        records = [record for record in records if record.spec.holder.uid == pod.metadata.uid]
        owner = records[0].spec.holder.owner or await self._owners.of(pod)
        wanted = kept_endpoint(records, pod, owner)
        if wanted is not None:
            await self._write(wanted)

    def _pod_of(self, record: SpiderIP) -> Pod | None:
        """
        Return the pod that holds a record.

        A virtual machine's pod has another name than its records.
        """
        holder = record.spec.holder
        known = self._informers.pods.named(holder.name, holder.namespace)
        if known is not None and known.metadata.uid == holder.uid:
            return known
        return next((pod for pod in self._informers.pods if pod.metadata.uid == holder.uid), None)

    async def _write(self, wanted: SpiderEndpoint) -> None:
        if wanted.key not in self._known:
            try:
                self._note(await self._cluster.create(wanted))
            except AlreadyExists:
                pass
            except UnknownOutcome:
                if wanted.status is not None:
                    self._unanswered[wanted.key] = wanted.status.current.uid
                raise
            else:
                return
        await self._update(wanted)

    async def _update(self, wanted: SpiderEndpoint) -> None:
        """
        Make an endpoint that exists say what it should, whatever program wrote it.

        Finalizers of a former version go.
        """
        namespace, name = wanted.key
        try:
            found = await self._cluster.get(SpiderEndpoint, name, namespace)
            self._note(found)
            merged = merge_endpoint(found, wanted)
            if merged != found:
                self._note(await self._cluster.replace(merged))
        except NotFound:
            self._known.pop(wanted.key, None)
            raise Conflict(
                f"SpiderEndpoint {namespace}/{name} went away while it was written"
            ) from None

    async def _delete(self, name: Name) -> None:
        """Delete the endpoint of a pod that holds nothing, unless it has become another pod's."""
        if name not in self._known:
            await self._learn(name)
        version = self._known.get(name)
        if version is None:
            return  # never written by this agent, nor found at its start
        try:
            await self._cluster.delete(
                SpiderEndpoint,
                name[1],
                name[0],
                uid=version.uid,
                resource_version=version.resource_version,
            )
        except (NotFound, Conflict):
            await self._look_again(name, version)
        else:
            self._known.pop(name, None)

    async def _learn(self, name: Name) -> None:
        """Learn whether a create that got no answer happened all the same."""
        pod_uid = self._unanswered.get(name)
        if pod_uid is None:
            return
        try:
            found = await self._cluster.get(SpiderEndpoint, name[1], name[0])
        except NotFound:
            pass
        else:
            if found.status is not None and found.status.current.uid == pod_uid:
                self._note(found)
        self._unanswered.pop(name, None)

    async def _look_again(self, name: Name, version: Version) -> None:
        """See who changed an endpoint that was to be deleted."""
        try:
            found = await self._cluster.get(SpiderEndpoint, name[1], name[0])
        except NotFound:
            self._known.pop(name, None)
            return
        if found.status is not None and found.status.current.uid != version.pod_uid:
            self._known.pop(name, None)  # a new pod of that name, on whatever node
            return
        self._note(found)
        raise Conflict(f"SpiderEndpoint {name[0]}/{name[1]} was changed while it was deleted")

    def _note(self, endpoint: SpiderEndpoint) -> None:
        meta = endpoint.metadata
        pod_uid = endpoint.status.current.uid if endpoint.status else ""
        self._unanswered.pop(endpoint.key, None)
        self._known[endpoint.key] = Version(pod_uid, meta.uid, meta.resource_version)


def name_of(record: SpiderIP) -> Name:
    """Return the name of the endpoint that tells of a record."""
    return (record.spec.holder.namespace, record.spec.holder.name)
