"""
The cluster's coordinator settings for one pod.

For `GET /v1/coordinator/config`, and for our own coordinator.

Source: docs/reference/agent-api.md#coordinator-settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from spiderpool.agent.informers import Informers
from spiderpool.agent.ipam.facts import FactSource
from spiderpool.agent.node.caller import PodCall, pod_call
from spiderpool.api.agent.socket_bodies import CoordinatorConfigArgs
from spiderpool.api.crd.coordinator import PHASE_SYNCED, SpiderCoordinator
from spiderpool.api.crd.group import ANNO_DEFAULT_ROUTE_NIC
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import NotAvailable, SpiderpoolError, TryAgain


class CoordinatorConfig(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"
):
    """The answer; the first four are always there."""

    mode: str
    overlay_pod_cidr: tuple[str, ...] = msgspec.field(name="overlayPodCIDR")
    service_cidr: tuple[str, ...] = msgspec.field(name="serviceCIDR")
    tune_pod_routes: bool
    hijack_cidr: tuple[str, ...] = msgspec.field(default=(), name="hijackCIDR")
    policy_routes: tuple[Route, ...] = ()
    pod_mac_prefix: str = msgspec.field(default="", name="podMACPrefix")
    pod_default_route_nic: str = msgspec.field(default="", name="podDefaultRouteNIC")
    host_rule_table: int | None = None
    pod_rp_filter: int | None = msgspec.field(default=None, name="podRPFilter")
    tx_queue_len: int | None = None
    veth_link_address: str = ""
    veth_mtu: int | None = msgspec.field(default=None, name="vethMTU")


@dataclass(frozen=True, slots=True)
class CoordinatorConfigs:
    """Where a pod's settings come from."""

    informers: Informers
    source: FactSource

    async def serve(self, args: CoordinatorConfigArgs) -> CoordinatorConfig:
        """Serve `GET /v1/coordinator/config`."""
        return await self.config_of(pod_call(args.pod_namespace, args.pod_name))

    async def config_of(self, call: PodCall) -> CoordinatorConfig:
        """
        Return the settings for a pod.

        Raises:
            SpiderpoolError: there is no SpiderCoordinator, it is not synced, or the pod cannot be
            read.
        """
        coordinator = self.coordinator()
        pod = self.informers.pods.named(call.name, call.namespace) or await self.source.read_pod(
            call
        )
        return render_config(coordinator, pod)

    async def document_of(self, call: PodCall) -> dict[str, Any]:
        """Return the same by the names of the answer; it goes through no text."""
        document: dict[str, Any] = msgspec.to_builtins(await self.config_of(call))
        return document

    def coordinator(self) -> SpiderCoordinator:
        """Return the cluster's settings when they can be used."""
        # The controller keeps one of them; a further one has no phase and must not stop the
        # cluster's pods.
        found = sorted(
            self.informers.coordinators,
            key=lambda one: (not (one.status and one.status.phase), one.metadata.name),
        )
        # What is watched serves while a watch is interrupted: nothing comes by it for minutes when
        # nothing changes.
        if not found and self.informers.coordinators.trouble is not None:
            raise TryAgain(
                f"SpiderCoordinators cannot be read: {self.informers.coordinators.trouble.message}"
            )
        if not found:
            raise SpiderpoolError("no SpiderCoordinator exists; create one named default")
        status = found[0].status
        if status is None or status.phase != PHASE_SYNCED:
            phase, reason = ("", "") if status is None else (status.phase, status.reason)
            raise NotAvailable(
                f"spidercoordinator: {found[0].metadata.name} no ready: its phase is "
                f"{phase or 'empty'}, not {PHASE_SYNCED}"
                f"{f' ({reason})' if reason else ''}"
            )
        return found[0]


def render_config(coordinator: SpiderCoordinator, pod: Pod) -> CoordinatorConfig:
    """Join cluster settings, detected networks and the pod's request for its default route."""
    spec, status = coordinator.spec, coordinator.status
    of_pod = pod.metadata.annotations.get(ANNO_DEFAULT_ROUTE_NIC, "")
    return CoordinatorConfig(
        mode=spec.mode or "auto",
        overlay_pod_cidr=(status.overlay_pod_cidr if status else None) or (),
        service_cidr=(status.service_cidr if status else None) or (),
        tune_pod_routes=True if spec.tune_pod_routes is None else spec.tune_pod_routes,
        hijack_cidr=spec.hijack_cidr,
        policy_routes=spec.policy_routes,
        pod_mac_prefix=spec.pod_mac_prefix or "",
        pod_default_route_nic=of_pod or spec.pod_default_route_nic or "",
        host_rule_table=spec.host_rule_table,
        pod_rp_filter=spec.pod_rp_filter,
        tx_queue_len=spec.tx_queue_len,
        veth_link_address=spec.veth_link_address or "",
        veth_mtu=spec.veth_mtu,
    )
