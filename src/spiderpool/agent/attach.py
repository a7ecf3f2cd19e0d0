"""
The meta plugin: one CNI call of the runtime becomes calls for all networks that the pod asks for.

This module tells the stories of ADD, DEL, CHECK, STATUS and GC; decisions are in `cni`, plugins are run by `delegate`.
Calls for one container run one at a time; the IPAM calls that plugins send back to the agent are not held up by that.
Source: reference meta-plugin.md 3 to 5.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import structlog

from spiderpool.agent.admit import Turns
from spiderpool.agent.cachedir import CacheDir
from spiderpool.agent.delegate import Plugins
from spiderpool.agent.devices import Devices
from spiderpool.agent.lookup import PATIENCE, Networks
from spiderpool.agent.server import Peer
from spiderpool.agent.unbroken import unbroken
from spiderpool.api.core import Pod
from spiderpool.api.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORK_STATUS, ANNO_NETWORKS
from spiderpool.cni.cache import CachedResult, cached_result, parse_delegates, render_delegates
from spiderpool.cni.gc import Attachment, valid_attachments
from spiderpool.cni.metaconf import MetaConfig, parse_meta_config
from spiderpool.cni.netconf import NetworkConfig, read_config
from spiderpool.cni.plan import BOTH, Delegate, Network, plan_delegates, route_change, with_default_routes
from spiderpool.cni.request import Call, parse_args
from spiderpool.cni.result import document, parse_result, render
from spiderpool.cni.status import Attached, network_status
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
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.routes import interface_names, move_default_routes
from spiderpool.kube.cluster import Cluster
from spiderpool.model.networks import NetworkSelection, parse_default_network, parse_networks
from spiderpool.model.pod import is_mirror

READY_S: Final = 45.0
READY_PAUSE_S: Final = 1.0
RUNTIME_IFNAME: Final = "eth0"  # what every runtime calls the default network's interface

log = structlog.get_logger(__name__)


class Reports(Protocol):
    """Where Events about pods go; must not hold up the caller."""

    def normal(self, pod: Pod, reason: str, message: str) -> None:
        """Tell that something was done."""
        ...

    def warning(self, pod: Pod, reason: str, message: str) -> None:
        """Tell that something is wrong."""
        ...


class MetaPlugin:
    """Serves the CNI calls of `spiderpool-multus`."""

    def __init__(self, cluster: Cluster, reports: Reports, turns: Turns | None = None, ready_s: float = READY_S) -> None:
        """
        Begin without any container.

        Args:
            cluster: the door to the API.
            reports: for Events.
            turns: hands out turns by container; not those of the IPAM, which the plugins run here wait for.
            ready_s: how long ADD waits for the readiness file.
        """
        self._cluster = cluster
        self._reports = reports
        self._turns = turns or Turns()
        self._ready_s = ready_s

    async def __call__(self, call: Call, peer: Peer) -> str:
        """Serve one call; gives what the executable prints."""
        config = parse_meta_config(call.config)
        with _host_of(peer) as host:
            attempt = self._attempt(call, config, host)
            container = ("container", call.container_id)
            match call.command:
                case "ADD":
                    return await self._turns.add(container, call.container_id, lambda: _holding(attempt))
                case "DEL":
                    await self._turns.delete(container, call.container_id, attempt.delete)
                case "CHECK":
                    async with self._turns.of(container):
                        await attempt.check()
                case "STATUS":
                    await attempt.status()
                case "GC":
                    await self._collect(call, config, host)
        return ""

    async def settle(self) -> None:
        """End all ADDs, and wait until they have taken back what they made."""
        await self._turns.settle()

    def _attempt(self, call: Call, config: MetaConfig, host: Namespaces) -> Attempt:
        return Attempt(self._cluster, self._reports, call, config, host, self._ready_s)

    async def _collect(self, call: Call, config: MetaConfig, host: Namespaces) -> None:
        """
        Undo what belongs to containers that the runtime does not know any more, then tell every known network who lives.

        All is tried; what went wrong is reported at the end.
        """
        alive = {attachment.container_id for attachment in valid_attachments(call.config)}
        attempt = self._attempt(call, config, host)
        caches = attempt.caches
        results = await caches.results()
        known = {*await caches.containers(), *(result.container_id for result in results)}
        networks = await attempt.known_networks(sorted(known))
        wrong = []
        for container_id in sorted(known - alive):
            stale = self._attempt(_about(call, container_id, results), config, host)
            try:
                await self._turns.delete(("container", container_id), container_id, stale.delete)
            except SpiderpoolError as error:
                wrong.append(f"container {container_id}: {error.message}")
        left = await caches.results()
        for network in networks:
            living = [Attachment(result.container_id, result.ifname) for result in left if result.network == network.name]
            wrong += await attempt.plugins.collect(network, living)
        if wrong:
            raise DelegateFailed(" / ".join(wrong))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call, with all that it needs."""

    cluster: Cluster
    reports: Reports
    call: Call
    config: MetaConfig
    host: Namespaces
    ready_s: float = READY_S

    @property
    def caches(self) -> CacheDir:
        """What is kept between calls."""
        return CacheDir(self.config.cni_dir, self.host)

    @property
    def plugins(self) -> Plugins:
        """The node's plugins."""
        return Plugins(self.call, self.config.bin_dir, self.host)

    @property
    def networks(self) -> Networks:
        """Where networks are found."""
        return Networks(self.cluster, self.config, self.host)

    def copy(self) -> Attempt:
        """Give the same attempt on namespaces of its own, to be closed by whoever asks."""
        return replace(self, host=self.host.copy())

    # --- ADD --------------------------------------------------------------------------------------------------------------

    async def add(self) -> str:
        """Attach all networks; all or none."""
        await self._wait_until_ready()
        try:
            pod = await self._find_pod()
        except NotFound:
            return self._placeholder()
        delegates = await self._plan(pod)
        with await self._network_namespace() as netns:
            await self._refuse_taken_names(netns, delegates)
            await self.caches.save_delegates(self.call.container_id, render_delegates(delegates))
            return await self._attach_all(pod, netns, delegates)

    async def _wait_until_ready(self) -> None:
        """Wait for the readiness file, for which another component of the node stands."""
        deadline = time.monotonic() + self.ready_s
        while not await self._is_ready():
            if time.monotonic() > deadline:
                raise TryAgain(
                    f"readiness file {self.config.readiness_file} is not there after {self.ready_s:g} s; "
                    "is the default network's component on this node running?"
                )
            await asyncio.sleep(READY_PAUSE_S)

    async def _is_ready(self) -> bool:
        file = self.config.readiness_file
        return not file or await self.host.run(lambda: Path("/", file).exists())

    async def _find_pod(self) -> Pod | None:
        """
        Read the pod live; None when the runtime names none.

        Raises:
            NotFound: it is gone.
            TryAgain: the pod of that name is another one by now, or not yet the one of this call.
        """
        args = self.call.args
        if not args.name:
            return None
        pod = await PATIENCE.bear(lambda: self.cluster.get(Pod, args.name, args.namespace))
        if args.uid and args.uid != pod.metadata.uid and not is_mirror(pod):
            raise TryAgain(f"{self._title()}the pod of that name has UID {pod.metadata.uid}, the call is for {args.uid}")
        return pod

    def _placeholder(self) -> str:
        """Give the result for a pod that is gone: the runtime goes on, and takes the sandbox down."""
        log.info("pod is gone; nothing attached", pod=self.call.args.name, container=self.call.container_id)
        interface = {"name": self.call.ifname, "sandbox": self.call.netns}
        ip = {"address": "0.0.0.0/32", "gateway": "0.0.0.0", "interface": 0}  # noqa: S104 - as Multus says "none"
        return render(parse_result({"interfaces": [interface], "ips": [ip]}), self.call.cni_version)

    async def _plan(self, pod: Pod | None) -> tuple[Delegate, ...]:
        networks = await self._networks_of(pod)
        networks = await Devices(self.host).hand_out(pod, networks)
        return plan_delegates(networks, self.call.ifname, self.call.container_id, self.config.runtime_config)

    async def _networks_of(self, pod: Pod | None) -> list[Network]:
        """Find all networks of a pod: the default one, those of every pod, those that it asks for."""
        selections = self._selections(pod)
        networks = await self._configured_networks(pod)
        default = self._default_selection(pod)
        if default is not None:
            networks[0] = await self._select(pod, default)
        return networks + [await self._select(pod, selection) for selection in selections]

    async def _configured_networks(self, pod: Pod | None) -> list[Network]:
        if not self.config.cluster_network:
            return [_inline(item, index) for index, item in enumerate(self.config.delegates)]
        networks = [await self.networks.configured(self.config.cluster_network)]
        if pod is None or pod.metadata.namespace not in self.config.system_namespaces:
            networks += [await self.networks.configured(value) for value in self.config.default_networks]
        return networks

    def _selections(self, pod: Pod | None) -> tuple[NetworkSelection, ...]:
        if pod is None:
            return ()
        selections = parse_networks(pod.metadata.annotations.get(ANNO_NETWORKS, ""), pod.metadata.namespace)
        for selection in selections:
            self._refuse_foreign(pod, selection)
        return selections

    def _refuse_foreign(self, pod: Pod, selection: NetworkSelection) -> None:
        allowed = {pod.metadata.namespace, *self.config.allowed_namespaces}
        if self.config.namespace_isolation and selection.namespace not in allowed:
            raise InvalidRequest(
                f"{self._title()}network {selection.full_name} is in another namespace, and namespaceIsolation is on; "
                f"use one of namespace {', '.join(sorted(allowed))}"
            )

    def _default_selection(self, pod: Pod | None) -> NetworkSelection | None:
        if pod is None or ANNO_DEFAULT_NETWORK not in pod.metadata.annotations:
            return None
        return parse_default_network(pod.metadata.annotations[ANNO_DEFAULT_NETWORK], self.config.namespace)

    async def _select(self, pod: Pod | None, selection: NetworkSelection) -> Network:
        try:
            network = await self.networks.defined(selection.namespace, selection.name)
        except NotFound as error:
            if pod is not None:
                self.reports.warning(pod, "NoNetworkFound", error.message)
            raise
        return Network(network.name, network.config, selection, network.resource_name)

    async def _network_namespace(self) -> Namespaces:
        """Open the pod's network namespace by the path that means it where the caller lives."""
        try:
            return await self.host.run(lambda: Namespaces.network(self.call.netns))
        except NotFound as error:
            raise BadEnvironment(f"{self._title()}CNI_NETNS: {error.message}") from error

    async def _refuse_taken_names(self, netns: Namespaces, delegates: Sequence[Delegate]) -> None:
        """Refuse before anything is touched: an ADD for a living container must not end its network."""
        taken = await netns.run(interface_names)
        for delegate in delegates:
            if delegate.ifname in taken:
                raise BadEnvironment(
                    f"{self._title(delegate.name)}interface {delegate.ifname} is in the container already; "
                    "a second ADD needs a DEL before it, or another interface name"
                )

    async def _attach_all(self, pod: Pod | None, netns: Namespaces, delegates: Sequence[Delegate]) -> str:
        tried: list[Delegate] = []
        outcomes: list[dict[str, Any]] = []
        try:
            for delegate in delegates:
                if tried:
                    await self._refuse_taken_names(netns, [delegate])
                tried.append(delegate)
                outcomes.append(await self._attach(netns, delegate))
            await self._tell(pod, delegates, outcomes)
            return render(parse_result(outcomes[0]), self.call.cni_version)
        except BaseException:
            await unbroken(self._detach_all(tried))
            raise

    async def _attach(self, netns: Namespaces, delegate: Delegate) -> dict[str, Any]:
        await Devices(self.host).lay_out(delegate, self.call.container_id)
        try:
            outcome = await self.plugins.add(delegate)
            kept = await self._move_routes(netns, delegate, outcome)
        except SpiderpoolError as error:
            raise DelegateFailed(
                f'{self._title(delegate.name)}error adding container to network "{delegate.config.name}": {error.message}',
                cni_code=error.cni_code,
                details=error.details,
            ) from error
        call = self.call
        await self.caches.save_result(cached_result(delegate, call.container_id, call.netns, call.args, kept))
        return outcome

    async def _move_routes(self, netns: Namespaces, delegate: Delegate, outcome: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do to the kernel's default routes what the pod asks for; gives the result as it is true afterwards."""
        change = route_change(delegate)
        result = parse_result(outcome)
        if change is None or not (result.interfaces or result.ips):
            return outcome
        if not await netns.run(lambda: move_default_routes(delegate.ifname, change.remove, change.add)):
            return outcome
        lost = BOTH if change.add else delegate.lose
        return document(with_default_routes(result, lost, change.add), outcome["cniVersion"])

    async def _tell(self, pod: Pod | None, delegates: Sequence[Delegate], outcomes: Sequence[Mapping[str, Any]]) -> None:
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
        for delegate, item in zip(delegates, attached, strict=True):
            if item.result.interfaces or item.result.ips:
                addresses = " ".join(str(ip.address) for ip in item.result.ips)
                self.reports.normal(pod, "AddedInterface", f"Add {delegate.ifname} [{addresses}] from {delegate.name}")

    async def _write_status(self, pod: Pod, status: str) -> None:
        if not status:
            return
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid, "annotations": {ANNO_NETWORK_STATUS: status}}}

        async def write() -> None:
            await self.cluster.patch(Pod, meta.name, body, namespace=meta.namespace, subresource="status")

        try:
            try:
                await PATIENCE.bear(write)
            except UnknownOutcome:
                await PATIENCE.bear(write)  # writing the same twice is no harm
        except NotFound:
            log.info("pod is gone; its network status is not written", pod=meta.name, namespace=meta.namespace)
        except Conflict as error:
            raise TryAgain(f"{self._title()}the pod was replaced during ADD: {error.message}") from error

    # --- DEL --------------------------------------------------------------------------------------------------------------

    async def delete(self) -> None:
        """
        Detach all networks, the last first; a failure of one does not spare the others.

        What is needed to do it again stays until all has succeeded: a retry must not turn into a silent success.
        """
        delegates = await self._remembered()
        wrong = await self._detach_all(delegates)
        if wrong:
            text = " / ".join(error.message for error in wrong)
            raise DelegateFailed(f"{self._title()}{text}", cni_code=wrong[0].cni_code, details=wrong[0].details)
        await self.caches.drop_delegates(self.call.container_id)

    async def _remembered(self) -> tuple[Delegate, ...]:
        """
        Give the delegates of a container's ADD.

        From its own list; where that is lost or damaged from the results kept of each, else from the pod; nothing known
        means nothing to do.
        """
        text = await self.caches.delegates(self.call.container_id)
        if text is not None:
            try:
                return parse_delegates(text, self.call.ifname, self.config.runtime_config)
            except Undecodable as error:
                log.warning("list of delegates is rebuilt", container=self.call.container_id, reason=error.message)
        mine = [result for result in await self.caches.results() if result.container_id == self.call.container_id]
        if mine:
            return _from_results(mine, self.call.ifname)
        return await self._planned_anew()

    async def _planned_anew(self) -> tuple[Delegate, ...]:
        try:
            pod = await self._find_pod()
        except SpiderpoolError as error:
            log.info("nothing is known about the container", container=self.call.container_id, reason=error.message)
            return ()
        if pod is None:
            return ()
        try:
            return await self._plan(pod)
        except SpiderpoolError as error:
            log.warning("networks of the pod's annotations cannot be found", pod=pod.metadata.name, reason=error.message)
            networks = await self._configured_networks(pod)
            return plan_delegates(networks, self.call.ifname, self.call.container_id, self.config.runtime_config)

    async def _detach_all(self, delegates: Sequence[Delegate]) -> list[SpiderpoolError]:
        wrong = []
        for delegate in reversed(delegates):
            try:
                await self._detach(delegate)
            except SpiderpoolError as error:
                log.warning("detaching failed", container=self.call.container_id, network=delegate.name, reason=error.message)
                wrong.append(error)
        return wrong

    async def _detach(self, delegate: Delegate) -> None:
        network, container_id, ifname = delegate.config.name, self.call.container_id, delegate.ifname
        result = await self.caches.result(network, container_id, ifname)
        await self.plugins.delete(delegate, result)
        await Devices(self.host).clear(delegate, container_id)
        await self.caches.drop_result(network, container_id, ifname)

    # --- CHECK, STATUS, GC ------------------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Ask every plugin whether what it made is still there; the first that misses something ends it."""
        container_id = self.call.container_id
        text = await self.caches.delegates(container_id)
        if text is None:
            raise CheckFailed(f"{self._title()}nothing is known of container {container_id}; it needs a DEL and an ADD")
        for delegate in parse_delegates(text, self.call.ifname, self.config.runtime_config):
            result = await self.caches.result(delegate.config.name, container_id, delegate.ifname)
            if result is None:
                raise CheckFailed(
                    f"{self._title(delegate.name)}interface {delegate.ifname} was never attached, or its record is lost"
                )
            await self.plugins.check(delegate, result)

    async def status(self) -> None:
        """Say whether the default network can serve an ADD; answers at once."""
        if not await self._is_ready():
            raise NotAvailable(f"readiness file {self.config.readiness_file} is not there")
        try:
            networks = await self._configured_networks(None)
        except SpiderpoolError as error:
            raise NotAvailable(error.message) from error
        await self.plugins.status(networks[0].config)

    async def known_networks(self, containers: Sequence[str]) -> list[NetworkConfig]:
        """Give every network that this node has or had in use, each once."""
        found: dict[str, NetworkConfig] = {}
        for container_id in containers:
            text = await self.caches.delegates(container_id)
            try:
                delegates = parse_delegates(text or b"", self.call.ifname, {})
            except Undecodable:
                continue
            found |= {delegate.config.name: delegate.config for delegate in delegates}
        try:
            found |= {network.config.name: network.config for network in await self._configured_networks(None)}
        except SpiderpoolError as error:
            log.warning("default network cannot be found", reason=error.message)
        return list(found.values())

    def _title(self, network: str = "") -> str:
        """Say whom an error is about, as Multus' users know it."""
        args = self.call.args
        pod = f"{args.namespace}/{args.name}/{args.uid}"
        return f"[{pod}:{network}]: " if network else f"[{pod}]: "


async def _holding(attempt: Attempt) -> str:
    """Run an ADD that may outlive the call which began it: cancelled, it still takes back what it made."""
    own = attempt.copy()
    with own.host:
        return await own.add()


def _host_of(peer: Peer) -> Namespaces:
    """Open the namespaces of the executable that calls: paths mean what they mean there."""
    try:
        return Namespaces.of_process(peer.pid, "mnt", "net")
    except NotFound as error:
        raise TryAgain(f"the caller, process {peer.pid}, is gone") from error


def _inline(item: Mapping[str, Any], index: int) -> Network:
    config = read_config(item, f"delegate {index} of the configuration")
    return Network(config.name, config)


def _about(call: Call, container_id: str, results: Sequence[CachedResult]) -> Call:
    """Give the DEL of a container that the runtime has forgotten, as far as its kept results tell."""
    args = next((parse_args(_joined(result.args)) for result in results if result.container_id == container_id), call.args)
    env = {**call.env, "CNI_COMMAND": "DEL", "CNI_CONTAINERID": container_id}
    return replace(call, command="DEL", container_id=container_id, netns="", ifname=RUNTIME_IFNAME, args=args, env=env)


def _joined(pairs: Sequence[tuple[str, str]]) -> str:
    return ";".join(["IgnoreUnknown=1", *(f"{key}={value}" for key, value in pairs)])


def _from_results(results: Sequence[CachedResult], default: str) -> tuple[Delegate, ...]:
    """Make delegates of kept results, the default network's first."""
    delegates = [
        Delegate(
            name=result.network,
            config=read_config(result.config, f"kept result of network {result.network}"),
            ifname=result.ifname,
            requested_ifname=result.ifname,
            capability_args=result.capability_args,
        )
        for result in results
    ]
    return tuple(sorted(delegates, key=lambda delegate: (delegate.ifname != default, delegate.ifname)))
