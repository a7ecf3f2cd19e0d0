"""
The test's pods and Services on a cluster.

Made, waited for, their addresses read, and taken away again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.kubernetes.core import Event, Namespace
from spiderpool.cli.connectivity.manifests import (
    LABEL,
    NETWORK_STATUS,
    Probe,
    ProbePod,
    Recipe,
    Service,
    render_namespace,
    render_pod,
    render_service,
)
from spiderpool.connectivity.matrix import Goal, Kind
from spiderpool.errors import AlreadyExists, InvalidRequest, NotFound, SpiderpoolError, TryAgain
from spiderpool.kube.cluster import Cluster

POLL_S: Final = 0.5
READY_S: Final = 90.0
GONE_S: Final = 90.0

Say = Callable[[str], None]


class AttachedNetwork(msgspec.Struct, frozen=True):
    """One network of a pod, as its meta plugin reports it (network-status)."""

    name: str = ""
    interface: str = ""
    ips: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """The test's corner of a cluster."""

    cluster: Cluster
    recipe: Recipe
    probes: tuple[Probe, ...]
    say: Say

    async def build(self) -> None:
        """Make everything and wait until all pods run."""
        await self._make_namespace()
        self.say(f"namespace {self.recipe.namespace}: {len(self.probes)} pods")
        servers = [probe for probe in self.probes if probe.answers]
        await asyncio.gather(
            *(self.cluster.create(render_service(probe, self.recipe)) for probe in servers),
            *(self._create_pod(probe) for probe in self.probes),
        )
        await self._until_running()

    async def remove(self) -> None:
        """Delete the namespace with all that is in it, and wait until it is gone."""
        name = self.recipe.namespace
        with contextlib.suppress(NotFound):
            await self.cluster.delete(Namespace, name)
            async with _limit(GONE_S, f"namespace {name} is still being deleted; look at its pods"):
                while True:
                    await self.cluster.get_metadata(Namespace, name)
                    await asyncio.sleep(POLL_S)

    async def pods(self) -> dict[str, ProbePod]:
        """Read the pods, by name."""
        listing = await self.cluster.list_objects(
            ProbePod, namespace=self.recipe.namespace, labels=f"{LABEL}=true"
        )
        return {pod.metadata.name: pod for pod in listing.items}

    async def addresses(self) -> dict[tuple[str, Goal, int], IPAddress]:
        """Read what can be asked, by node, goal and family."""
        pods = await self.pods()
        services = await self.cluster.list_objects(
            Service, namespace=self.recipe.namespace, labels=f"{LABEL}=true"
        )
        by_name = {service.metadata.name: service for service in services.items}
        servers = [probe for probe in self.probes if probe.answers]
        return {
            (probe.node, goal, address.version): address
            for probe in servers
            for goal, address in read_addresses(probe, pods[probe.name], by_name[probe.name])
        }

    async def _make_namespace(self) -> None:
        """Make the namespace, after taking away one that an earlier run left."""
        name = self.recipe.namespace
        try:
            await self.cluster.create(render_namespace(name))
        except AlreadyExists:
            found = await self.cluster.get_metadata(Namespace, name)
            if found.metadata.labels.get(LABEL) != "true":
                raise InvalidRequest(
                    f"namespace {name} exists and is not this test's; choose another by --namespace"
                ) from None
            self.say(f"namespace {name} is left from an earlier run: deleting it first")
            await self.remove()
            await self.cluster.create(render_namespace(name))

    async def _create_pod(self, probe: Probe) -> None:
        """Create a pod; right after its namespace its service account may not be there yet."""
        async with _limit(READY_S, f"pod {probe.name} is refused for want of its service account"):
            while True:
                try:
                    await self.cluster.create(render_pod(probe, self.recipe))
                except SpiderpoolError as error:
                    if "serviceaccount" not in error.message:
                        raise
                    await asyncio.sleep(POLL_S)
                else:
                    return

    async def _until_running(self) -> None:
        waiting: list[str] = [probe.name for probe in self.probes]
        try:
            async with asyncio.timeout(READY_S):
                while waiting:
                    pods = await self.pods()
                    waiting = [
                        probe.name for probe in self.probes if not _runs(pods.get(probe.name))
                    ]
                    await asyncio.sleep(POLL_S if waiting else 0)
        except TimeoutError:
            words = await self._complaints(waiting[0])
            raise TryAgain(
                f"after {READY_S:g} s pods do not run: {', '.join(waiting)}; {waiting[0]}: {words}"
            ) from None

    async def _complaints(self, pod: str) -> str:
        """Return the last warning about a pod."""
        events = await self.cluster.list_objects(
            Event, namespace=self.recipe.namespace, fields=f"involvedObject.name={pod}"
        )
        warnings = [event.message for event in events.items if event.type == "Warning"]
        return warnings[-1] if warnings else "no Event says why"


def _runs(pod: ProbePod | None) -> bool:
    return pod is not None and pod.status.phase == "Running" and bool(pod.status.pod_ips)


def read_addresses(
    probe: Probe, pod: ProbePod, service: Service
) -> Iterator[tuple[Goal, IPAddress]]:
    """
    Return the addresses of a pod that answers, each with what it is in the matrix.

    Args:
        probe: what it is.
        pod: running, with its network-status when it has a second NIC.
        service: its Service.
    """
    main = {
        Kind.OVERLAY: Goal.OVERLAY_POD,
        Kind.UNDERLAY: Goal.UNDERLAY_POD,
        Kind.MULTI: Goal.MULTI_OVERLAY_IP,
    }[probe.kind]
    behind = {
        Kind.OVERLAY: Goal.OVERLAY_SERVICE,
        Kind.UNDERLAY: Goal.UNDERLAY_SERVICE,
        Kind.MULTI: Goal.MULTI_SERVICE,
    }[probe.kind]
    yield from ((main, ip_address(each.ip)) for each in pod.status.pod_ips)
    yield from ((behind, ip_address(text)) for text in service.spec.cluster_ips if text != "None")
    if probe.kind is Kind.MULTI:
        extra = [network for network in read_networks(pod) if network.interface == "net1"]
        yield from (
            (Goal.MULTI_UNDERLAY_IP, ip_address(text))
            for network in extra
            for text in network.ips or ()
        )


def read_networks(pod: ProbePod) -> tuple[AttachedNetwork, ...]:
    """Read a pod's network-status; none when it has not got one."""
    text = pod.metadata.annotations.get(NETWORK_STATUS, "[]")
    try:
        return msgspec.json.decode(text, type=tuple[AttachedNetwork, ...])
    except msgspec.DecodeError as error:
        raise SpiderpoolError(
            f"pod {pod.metadata.name}: annotation {NETWORK_STATUS}: {error}"
        ) from error


def families_of(addresses: Iterable[IPAddress]) -> tuple[int, ...]:
    """Return the families that addresses are of."""
    return tuple(sorted({address.version for address in addresses}))


@contextlib.asynccontextmanager
async def _limit(seconds: float, words: str) -> AsyncIterator[None]:
    """Raise TryAgain with a sentence when the body takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TryAgain(f"after {seconds:g} s: {words}") from None
