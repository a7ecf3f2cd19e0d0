"""
One container and its networks: the stories of ADD, DEL and CHECK, and what STATUS looks at.

All or nothing: an ADD that fails, or that nobody waits for any more, takes back what it made.
Source: docs/reference/meta-plugin.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog

from spiderpool.agent.concurrency.shield import shielded
from spiderpool.agent.multus.cache_directory import CacheDir
from spiderpool.agent.multus.delegate_calls import PluginAbsent, Plugins
from spiderpool.agent.multus.devices import Devices
from spiderpool.agent.multus.plugin_absences import Absences
from spiderpool.agent.multus.pod_networks import PodNetworks, Reports, title
from spiderpool.agent.multus.slots import Slots
from spiderpool.api.crd.group import ANNO_NETWORK_STATUS
from spiderpool.api.kubernetes.core import Pod
from spiderpool.cni.netconf import NetworkConfig, read_config
from spiderpool.cni.request import Call
from spiderpool.cni.result import document, parse_result, render
from spiderpool.errors import (
    BadEnvironment,
    CheckFailed,
    Conflict,
    DelegateFailed,
    InvalidRequest,
    NotAvailable,
    NotFound,
    SpiderpoolError,
    TryAgain,
    Undecodable,
    UnknownOutcome,
)
from spiderpool.kernel.default_routes import move_default_routes, restore_default_routes
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.read_links import interface_names
from spiderpool.kube.cluster import Cluster
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.netns_contents import Route
from spiderpool.networks.delegates import (
    Delegate,
    RouteChange,
    route_change,
    with_default_routes,
)
from spiderpool.networks.meta_config import MetaConfig
from spiderpool.networks.network_status import Attached, network_status
from spiderpool.networks.result_cache import (
    CachedResult,
    cached_result,
    parse_delegates,
    render_delegates,
)

READY_S: Final = 45.0
READY_PAUSE_S: Final = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One call, with all that it needs."""

    cluster: Cluster
    reports: Reports
    call: Call
    config: MetaConfig
    host: Namespaces
    ready_s: float = READY_S
    absences: Absences = field(default_factory=Absences)
    slots: Slots = field(default_factory=Slots)

    @property
    def caches(self) -> CacheDir:
        """What is kept between calls."""
        return CacheDir(self.config.node.cni_dir, self.host)

    @property
    def plugins(self) -> Plugins:
        """The node's plugins."""
        return Plugins(self.call, self.config.node.bin_dir, self.host, self.slots)

    @property
    def networks(self) -> PodNetworks:
        """Where the pod's networks are found."""
        return PodNetworks(self.cluster, self.reports, self.call, self.config, self.host)

    def copy(self) -> Attachment:
        """Return the same on namespaces of its own, to be closed by the caller."""
        return replace(self, host=self.host.copy())

    # --- ADD

    async def add(self) -> str:
        """Attach all networks; all or none."""
        await self._wait_until_ready()
        try:
            pod = await self.networks.find_pod()
        except NotFound:
            return self._placeholder()
        delegates = await self._plan(pod)
        with await self._network_namespace() as netns:
            await self._refuse_taken_names(netns, delegates)
            await self.caches.save_delegates(self.call.container_id, render_delegates(delegates))
            return await self._attach_all(pod, netns, delegates)

    async def _plan(self, pod: Pod | None) -> tuple[Delegate, ...]:
        """Plan the pod's networks; what its user must change is told on the pod too."""
        try:
            return await self.networks.plan(pod)
        except InvalidRequest as error:
            if pod is not None:
                self.reports.record(pod, EventReason.WRONG_INPUT, error.message)
            raise

    async def _wait_until_ready(self) -> None:
        """Wait for the readiness file, for which another component of the node stands."""
        deadline = time.monotonic() + self.ready_s
        while not await self._is_ready():
            if time.monotonic() > deadline:
                raise TryAgain(
                    f"readiness file {self.config.readiness_file} is not there after "
                    f"{self.ready_s:g} s; is the default network's component on this node running?"
                )
            await asyncio.sleep(READY_PAUSE_S)

    async def _is_ready(self) -> bool:
        file = self.config.readiness_file
        return not file or await self.host.run(lambda: Path("/", file).exists())

    def _placeholder(self) -> str:
        """
        Return the result for a pod that is gone.

        The runtime goes on, and takes the sandbox down.
        """
        log.info(
            "pod is gone; nothing attached",
            pod=self.call.args.name,
            container=self.call.container_id,
        )
        interface = {"name": self.call.ifname, "sandbox": self.call.netns}
        # As Multus says "none".
        ip = {"address": "0.0.0.0/32", "gateway": "0.0.0.0", "interface": 0}  # noqa: S104
        return render(parse_result({"interfaces": [interface], "ips": [ip]}), self.call.cni_version)

    async def _network_namespace(self) -> Namespaces:
        """Open the pod's network namespace by the path that means it where the caller lives."""
        try:
            return await self.host.run(lambda: Namespaces.network(self.call.netns))
        except NotFound as error:
            raise BadEnvironment(f"{title(self.call)}CNI_NETNS: {error.message}") from error

    async def _refuse_taken_names(self, netns: Namespaces, delegates: Sequence[Delegate]) -> None:
        """
        Refuse before anything is touched.

        An ADD for a living container must not end its network.
        """
        present = await netns.run(interface_names)
        for delegate in delegates:
            if delegate.ifname in present:
                raise BadEnvironment(
                    f"{title(self.call, delegate.name)}interface {delegate.ifname} is in the "
                    "container already; a second ADD needs a DEL before it, or another interface "
                    "name"
                )

    async def _attach_all(
        self, pod: Pod | None, netns: Namespaces, delegates: Sequence[Delegate]
    ) -> str:
        tried: list[Delegate] = []
        outcomes: list[dict[str, Any]] = []
        removed: list[Route] = []
        try:
            for delegate in delegates:
                if tried:
                    await self._refuse_taken_names(netns, [delegate])
                tried.append(delegate)
                outcomes.append(await self._attach(netns, delegate, removed))
            await self._restore_routes(netns, delegates, outcomes, removed)
            await self._report(pod, delegates, outcomes)
            return render(parse_result(outcomes[0]), self.call.cni_version)
        except BaseException:
            await shielded(self._detach_all(tried))
            raise

    async def _attach(
        self, netns: Namespaces, delegate: Delegate, removed: list[Route]
    ) -> dict[str, Any]:
        """Call one network; `removed` gets the default routes that it gives up."""
        await Devices(self.host).lay_out(delegate, self.call.container_id)
        try:
            outcome = await self.plugins.add(delegate)
            kept = await self._move_routes(netns, delegate, outcome, removed)
        except SpiderpoolError as error:
            raise DelegateFailed(
                f"{title(self.call, delegate.name)}error adding container to network "
                f'"{delegate.config.name}": {error.message}',
                cni_code=error.cni_code,
                details=error.details,
            ) from error
        await self._keep(delegate, kept)
        return outcome

    async def _keep(self, delegate: Delegate, result: Mapping[str, Any]) -> None:
        call = self.call
        await self.caches.save_result(
            cached_result(delegate, call.container_id, call.netns, call.args, result)
        )

    async def _restore_routes(
        self,
        netns: Namespaces,
        delegates: Sequence[Delegate],
        outcomes: Sequence[Mapping[str, Any]],
        removed: Sequence[Route],
    ) -> None:
        """Put default routes back of a family of which the pod would have none at all."""
        back = await netns.run(lambda: restore_default_routes(removed)) if removed else ()
        for delegate, outcome in zip(delegates, outcomes, strict=True):
            families = {route.dst.version for route in back if route.dev == delegate.ifname}
            change = route_change(delegate)
            if families and change is not None:
                lost = change.remove - families
                result = with_default_routes(parse_result(outcome), lost, change.add)
                await self._keep(delegate, document(result, outcome["cniVersion"]))

    async def _move_routes(
        self,
        netns: Namespaces,
        delegate: Delegate,
        outcome: Mapping[str, Any],
        removed: list[Route],
    ) -> Mapping[str, Any]:
        """
        Do to the kernel's default routes what the pod asks for.

        Returns the result as it is true afterwards.
        """
        change = route_change(delegate)
        result = parse_result(outcome)
        if change is None or not (result.interfaces or result.ips):
            return outcome
        gone = await netns.run(lambda: _change_routes(delegate.ifname, change))
        if gone is None:
            return outcome
        removed += gone
        kept = with_default_routes(result, change.remove, change.add)
        return document(kept, outcome["cniVersion"])

    async def _report(
        self, pod: Pod | None, delegates: Sequence[Delegate], outcomes: Sequence[Mapping[str, Any]]
    ) -> None:
        """Write what the pod got where its users look: the status annotation and Events."""
        if pod is None:
            return
        devices = Devices(self.host)
        attached = [
            Attached(
                name=delegate.name,
                result=parse_result(outcome),
                default=index == 0,
                device_info=await devices.read_info(delegate, self.call.container_id),
            )
            for index, (delegate, outcome) in enumerate(zip(delegates, outcomes, strict=True))
        ]
        await self._write_status(pod, network_status(attached))
        added = [_added(delegate, item) for delegate, item in zip(delegates, attached, strict=True)]
        if any(added):
            # One Event for all: a second one with the same reason would count as a repetition of
            # the first.
            self.reports.record(pod, EventReason.ADDED_INTERFACE, "; ".join(filter(None, added)))

    async def _write_status(self, pod: Pod, status: str) -> None:
        if not status:
            return
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid, "annotations": {ANNO_NETWORK_STATUS: status}}}

        async def write() -> None:
            await self.cluster.patch(
                Pod, meta.name, body, namespace=meta.namespace, subresource="status"
            )

        try:
            try:
                await write()
            except UnknownOutcome:
                await write()  # writing the same twice is no harm
        except NotFound:
            log.info(
                "pod is gone; its network status is not written",
                pod=meta.name,
                namespace=meta.namespace,
            )
        except Conflict as error:
            raise TryAgain(
                f"{title(self.call)}the pod was replaced during ADD: {error.message}"
            ) from error

    # --- DEL

    async def delete(self) -> None:
        """
        Detach all networks, the last first; a failure of one does not spare the others.

        What is needed to do it again stays until all has succeeded: a retry must not turn into a
        silent success.
        """
        delegates = await self._remembered()
        wrong = await self._detach_all(delegates)
        if wrong:
            text = " / ".join(error.message for error in wrong)
            raise DelegateFailed(
                f"{title(self.call)}{text}", cni_code=wrong[0].cni_code, details=wrong[0].details
            )
        await self.caches.drop_delegates(self.call.container_id)
        self.absences.forget(self.call.container_id)

    async def _remembered(self) -> tuple[Delegate, ...]:
        """
        Return the delegates of a container's ADD.

        From its own list; where that is lost or damaged from the results kept of each, else from
        the pod; nothing known means nothing to do.
        """
        text = await self.caches.delegates(self.call.container_id)
        if text is not None:
            try:
                return parse_delegates(text, self.call.ifname, self.config.runtime_config)
            except Undecodable as error:
                log.warning(
                    "list of delegates is rebuilt",
                    container=self.call.container_id,
                    reason=error.message,
                )
        mine = [
            result
            for result in await self.caches.results()
            if result.container_id == self.call.container_id
        ]
        if mine:
            return _from_results(mine, self.call.ifname)
        return await self._plan_again()

    async def _plan_again(self) -> tuple[Delegate, ...]:
        try:
            pod = await self.networks.find_pod()
        except SpiderpoolError as error:
            log.info(
                "nothing is known about the container",
                container=self.call.container_id,
                reason=error.message,
            )
            return ()
        if pod is None:
            return ()
        try:
            return await self.networks.plan(pod)
        except SpiderpoolError as error:
            log.info(
                "networks of the pod's annotations cannot be found",
                pod=pod.metadata.name,
                reason=error.message,
            )
            return await self.networks.plan_without_networks(pod)

    async def _detach_all(self, delegates: Sequence[Delegate]) -> list[SpiderpoolError]:
        """Detach each; an error of one does not keep the others."""
        wrong = []
        for delegate in reversed(delegates):
            try:
                await self._detach(delegate)
            except Exception as error:  # noqa: BLE001 - one network must not keep the others
                failure = self._failure(delegate, error)
                log.warning(
                    "detaching failed",
                    container=self.call.container_id,
                    network=delegate.name,
                    reason=failure.message,
                )
                wrong.append(failure)
        return wrong

    def _failure(self, delegate: Delegate, error: Exception) -> SpiderpoolError:
        if isinstance(error, SpiderpoolError):
            return error
        log.error("unexpected error", exc_info=error)
        return SpiderpoolError(
            f"network {delegate.name}, interface {delegate.ifname}: {type(error).__name__}: {error}"
        )

    async def _detach(self, delegate: Delegate) -> None:
        network, container_id, ifname = (
            delegate.config.name,
            self.call.container_id,
            delegate.ifname,
        )
        result = await self.caches.result(network, container_id, ifname)
        try:
            await self.plugins.delete(delegate, result)
        except PluginAbsent as error:
            # Fenced in by time: a plugin that is not there for good must not keep the pod for ever.
            if result is not None and not self.absences.is_over(container_id, error.plugin):
                raise
            log.warning(
                "plugin is not on this node; its network is passed over",
                container=container_id,
                network=delegate.name,
                reason=error.message,
            )
        except DelegateFailed as error:
            # What never was attached, and fails again for the same reason, must not keep the pod
            # from going.
            if result is not None or error.cni_code == TryAgain.cni_code:
                raise
            log.info(
                "never attached, and cannot be detached",
                network=delegate.name,
                reason=error.message,
            )
        await Devices(self.host).clear(delegate, container_id)
        await self.caches.drop_result(network, container_id, ifname)

    # --- CHECK, STATUS, GC

    async def check(self) -> None:
        """
        Ask every plugin whether what it made is still there.

        The first that misses something ends it.
        """
        container_id = self.call.container_id
        text = await self.caches.delegates(container_id)
        if text is None:
            raise CheckFailed(
                f"{title(self.call)}nothing is known of container {container_id}; it needs a DEL "
                "and an ADD"
            )
        for delegate in parse_delegates(text, self.call.ifname, self.config.runtime_config):
            result = await self.caches.result(delegate.config.name, container_id, delegate.ifname)
            if result is None:
                raise CheckFailed(
                    f"{title(self.call, delegate.name)}interface {delegate.ifname} was never "
                    "attached, or its record is lost"
                )
            await self.plugins.check(delegate, result)

    async def status(self) -> None:
        """Say whether the default network can serve an ADD; answers at once."""
        if not await self._is_ready():
            raise NotAvailable(f"readiness file {self.config.readiness_file} is not there")
        try:
            networks = await self.networks.configured(None)
        except SpiderpoolError as error:
            raise NotAvailable(error.message) from error
        await self.plugins.status(networks[0].config)

    async def known_networks(self, containers: Sequence[str]) -> list[NetworkConfig]:
        """Return every network that this node has or had in use, each once."""
        found: dict[str, NetworkConfig] = {}
        for container_id in containers:
            text = await self.caches.delegates(container_id)
            try:
                delegates = parse_delegates(text or b"", self.call.ifname, {})
            except Undecodable:
                continue
            found |= {delegate.config.name: delegate.config for delegate in delegates}
        try:
            found |= {
                network.config.name: network.config
                for network in await self.networks.configured(None)
            }
        except SpiderpoolError as error:
            log.warning("default network cannot be found", reason=error.message)
        return list(found.values())


def _change_routes(ifname: str, change: RouteChange) -> tuple[Route, ...] | None:
    return move_default_routes(ifname, change.remove, change.add)


def _added(delegate: Delegate, item: Attached) -> str:
    """Return in Multus' words what a network gave, empty when it has nothing to show."""
    if not item.result.interfaces and not item.result.ips:
        return ""
    addresses = " ".join(str(ip.address) for ip in item.result.ips)
    return f"Add {delegate.ifname} [{addresses}] from {delegate.name}"


def _from_results(results: Sequence[CachedResult], default: str) -> tuple[Delegate, ...]:
    """Make delegates of kept results, the default network's first; one that is damaged is left."""
    delegates = []
    for result in results:
        where = f"kept result of network {result.network}"
        try:
            config = read_config(result.config, where)
        except SpiderpoolError as error:
            log.warning("kept result is not used", network=result.network, reason=error.message)
            continue
        delegates.append(
            Delegate(
                name=result.network,
                config=config,
                ifname=result.ifname,
                requested_ifname=result.ifname,
                capability_args=result.capability_args,
            )
        )
    return tuple(
        sorted(delegates, key=lambda delegate: (delegate.ifname != default, delegate.ifname))
    )
