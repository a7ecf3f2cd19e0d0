"""
The meta plugin: one CNI call of the runtime becomes calls for all networks that the pod asks for.

Calls for one container run one at a time; the IPAM calls that plugins send back to the agent are
not held up by that.
Source: docs/reference/meta-plugin.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import structlog

from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.concurrency.retrying_cluster import RetryingCluster
from spiderpool.agent.multus.attachment import READY_S, Attachment
from spiderpool.agent.multus.plugin_absences import Absences
from spiderpool.agent.multus.pod_networks import Reports, title
from spiderpool.agent.multus.slots import Slots
from spiderpool.agent.node.caller import Peer, host_of
from spiderpool.cni.request import Call, parse_args
from spiderpool.cni.valid_attachments import Attachment as Living
from spiderpool.cni.valid_attachments import valid_attachments
from spiderpool.errors import DelegateFailed, InvalidRequest, SpiderpoolError
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kube.cluster import Cluster
from spiderpool.networks.delegates import CALLED_BY, META_PLUGIN
from spiderpool.networks.meta_config import (
    MetaConfig,
    NodePolicy,
    other_folders,
    parse_meta_config,
)
from spiderpool.networks.result_cache import CachedResult

log = structlog.get_logger(__name__)

RUNTIME_IFNAME: Final = "eth0"  # what every runtime calls the default network's interface
# an ADD makes several calls, and the runtime waits for all of them
RETRY: Final = RetryPolicy(busy_s=20.0, absent_s=2.5)


class MetaPlugin:
    """Serves the CNI calls of `spiderpool-multus`."""

    def __init__(
        self,
        cluster: Cluster,
        reports: Reports,
        node: NodePolicy,
        pod_locks: KeyedLock | None = None,
        ready_s: float = READY_S,
    ) -> None:
        """
        Begin without any container.

        Args:
            cluster: the client of the API.
            reports: for Events.
            node: folders, and what may be executed.
            pod_locks: locks by container; not those of the IPAM, which the plugins run
            here wait for.
            ready_s: how long ADD waits for the readiness file.
        """
        self._cluster = RetryingCluster(cluster, RETRY)
        self._reports = reports
        self._pod_locks = pod_locks or KeyedLock()
        self._node = node
        self._ready_s = ready_s
        self._absences = Absences()
        self._slots = Slots()
        self._adding: set[str] = set()  # containers younger than the list that comes with a GC

    async def __call__(self, call: Call, peer: Peer) -> str:
        """Serve one call; gives what the executable prints."""
        if CALLED_BY in call.env:
            return _serve_reentrant(call)
        for key, folder in other_folders(call.config, self._node).items():
            log.warning("folder of the configuration is not used", key=key, folder=folder)
        config = parse_meta_config(call.config, self._node)
        with host_of(peer) as host:
            attachment = self._attachment(call, config, host)
            container = ("container", call.container_id)
            match call.command:
                case "ADD":
                    return await self._pod_locks.add(
                        container, call.container_id, lambda: self._add(attachment)
                    )
                case "DEL":
                    await self._pod_locks.delete(container, call.container_id, attachment.delete)
                case "CHECK":
                    async with self._pod_locks.of(container):
                        await attachment.check()
                case "STATUS":
                    await attachment.status()
                case "GC":
                    await self._collect(call, config, host)
        return ""

    async def settle(self) -> None:
        """End all ADDs, and wait until they have taken back what they made."""
        await self._pod_locks.settle()

    async def _add(self, attachment: Attachment) -> str:
        """
        Run an ADD that may outlive the call which began it.

        Cancelled, it still takes back what it made.
        """
        own = attachment.copy()
        container_id = own.call.container_id
        with own.host:
            self._adding.add(container_id)
            try:
                return await own.add()
            finally:
                self._adding.discard(container_id)

    def _attachment(self, call: Call, config: MetaConfig, host: Namespaces) -> Attachment:
        return Attachment(
            self._cluster,
            self._reports,
            call,
            config,
            host,
            self._ready_s,
            self._absences,
            self._slots,
        )

    async def _collect(self, call: Call, config: MetaConfig, host: Namespaces) -> None:
        """
        Detach containers that the runtime does not know any more, then call GC of all networks.

        All is tried; what went wrong is reported at the end.
        """
        alive = {living.container_id for living in valid_attachments(call.config)}
        attachment = self._attachment(call, config, host)
        caches = attachment.caches
        results = await caches.results()
        known = {*await caches.containers(), *(result.container_id for result in results)}
        networks = await attachment.known_networks(sorted(known))
        wrong = []
        for container_id in sorted(known - alive - self._adding):
            stale = self._attachment(_about(call, container_id, results), config, host)
            try:
                await self._pod_locks.delete(
                    ("container", container_id), container_id, stale.delete
                )
            except SpiderpoolError as error:
                wrong.append(f"container {container_id}: {error.message}")
        left = await caches.results()
        for network in networks:
            living = [
                Living(result.container_id, result.ifname)
                for result in left
                if result.network == network.name
            ]
            wrong += await attachment.plugins.collect(network, living)
        if wrong:
            raise DelegateFailed(" / ".join(wrong))


def _serve_reentrant(call: Call) -> str:
    """
    Answer a call that comes from below a call of ours, which holds the container's lock.

    Whatever ADD could have been refused, so that DEL and GC have nothing to do.

    Raises:
        InvalidRequest: for every other verb.
    """
    if call.command in {"DEL", "GC"}:
        return ""
    raise InvalidRequest(
        f"{title(call)}{META_PLUGIN} is called by a plugin that it called itself; a meta plugin "
        "cannot be a part of a network: name the plugin that makes the interface"
    )


def _about(call: Call, container_id: str, results: Sequence[CachedResult]) -> Call:
    """Return the DEL of a container that the runtime has forgotten, by its kept results."""
    args = next(
        (
            parse_args(_joined(result.args))
            for result in results
            if result.container_id == container_id
        ),
        call.args,
    )
    env = {**call.env, "CNI_COMMAND": "DEL", "CNI_CONTAINERID": container_id}
    return replace(
        call,
        command="DEL",
        container_id=container_id,
        netns="",
        ifname=RUNTIME_IFNAME,
        args=args,
        env=env,
    )


def _joined(pairs: Sequence[tuple[str, str]]) -> str:
    return ";".join(["IgnoreUnknown=1", *(f"{key}={value}" for key, value in pairs)])
