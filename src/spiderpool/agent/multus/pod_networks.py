"""
Which networks a pod gets: the node's default, those of every pod, those of its annotations.

Source: docs/reference/meta-plugin.md#network-selections,
docs/reference/meta-plugin.md#networks-of-a-pod.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from spiderpool.agent.multus.devices import Devices
from spiderpool.agent.multus.network_lookup import Networks
from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS
from spiderpool.api.kubernetes.core import Pod
from spiderpool.cni.netconf import read_config
from spiderpool.cni.request import Call
from spiderpool.errors import InvalidRequest, NotFound, TryAgain
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kube.cluster import Cluster
from spiderpool.model.event_reasons import EventReason
from spiderpool.model.limits import NETWORK_NAME, check_text
from spiderpool.model.network_selection import (
    NetworkSelection,
    parse_default_network,
    parse_networks,
)
from spiderpool.model.pod import is_run_as
from spiderpool.networks.allowed_plugins import check_plugin_types
from spiderpool.networks.delegates import Delegate, Network, plan_delegates
from spiderpool.networks.meta_config import MetaConfig


class Reports(Protocol):
    """Where Events about pods go; must not hold up the caller."""

    def record(self, about: Pod, reason: EventReason, message: str, /) -> None:
        """Report something about a pod."""
        ...


@dataclass(frozen=True, slots=True)
class PodNetworks:
    """Finds the networks of the pod that a call is about."""

    cluster: Cluster
    reports: Reports
    call: Call
    config: MetaConfig
    host: Namespaces

    @property
    def networks(self) -> Networks:
        """Where networks are found."""
        return Networks(self.cluster, self.config, self.host)

    async def find_pod(self) -> Pod | None:
        """
        Read the pod live; None when the runtime names none.

        Raises:
            NotFound: it is gone.
            TryAgain: the pod of that name is another one by now, or not yet the one of this call.
        """
        args = self.call.args
        if not args.name:
            return None
        pod = await self.cluster.get(Pod, args.name, args.namespace)
        if args.uid and not is_run_as(pod, args.uid):
            raise TryAgain(
                f"{title(self.call)}the pod of that name has UID {pod.metadata.uid}, the call is "
                f"for {args.uid}"
            )
        return pod

    async def plan(self, pod: Pod | None) -> tuple[Delegate, ...]:
        """
        Return what is called for a pod, in its order, or for a call without a pod.

        Raises:
            InvalidRequest: the pod, or one of its networks, asks for what it may not.
        """
        networks = await self._networks_of(pod)
        for network in networks:
            # What the administrator configured is not bound to the list, what a pod chooses is.
            allowed = self.config.node.allowed_plugins if network.selection is not None else ()
            check_text(network.config.name, NETWORK_NAME, f"network {network.name}: its CNI name")
            check_plugin_types(network.config.plugins, f"network {network.name}", allowed)
        return self._named(await Devices(self.host).hand_out(pod, networks))

    async def plan_without_networks(self, pod: Pod | None) -> tuple[Delegate, ...]:
        """Return what every pod gets, whatever this one asks for."""
        return self._named(await self.configured(pod))

    def _named(self, networks: Sequence[Network]) -> tuple[Delegate, ...]:
        return plan_delegates(
            networks, self.call.ifname, self.call.container_id, self.config.runtime_config
        )

    async def _networks_of(self, pod: Pod | None) -> list[Network]:
        """
        Find all networks of a pod.

        The default one, those of every pod, those that it asks for.
        """
        selections = self._selections(pod)
        networks = await self.configured(pod)
        default = self._default_selection(pod)
        if default is not None:
            networks[0] = await self._select(pod, default)
        return networks + [await self._select(pod, selection) for selection in selections]

    async def configured(self, pod: Pod | None) -> list[Network]:
        """Return the networks of the configuration, the default one first."""
        if not self.config.cluster_network:
            return [_inline(item, index) for index, item in enumerate(self.config.delegates)]
        networks = [await self.networks.configured(self.config.cluster_network)]
        if pod is None or pod.metadata.namespace not in self.config.system_namespaces:
            networks += [
                await self.networks.configured(value) for value in self.config.default_networks
            ]
        return networks

    def _selections(self, pod: Pod | None) -> tuple[NetworkSelection, ...]:
        if pod is None:
            return ()
        selections = parse_networks(
            pod.metadata.annotations.get(ANNO_NETWORKS, ""), pod.metadata.namespace
        )
        for selection in selections:
            self._refuse_foreign(pod, selection)
        return selections

    def _refuse_foreign(self, pod: Pod, selection: NetworkSelection, *more: str) -> None:
        """Refuse a network of another namespace, where that is asked for; `more` are no others."""
        allowed = {pod.metadata.namespace, *self.config.allowed_namespaces, *more}
        if self.config.namespace_isolation and selection.namespace not in allowed:
            raise InvalidRequest(
                f"{title(self.call)}network {selection.full_name} is in another namespace, and "
                "namespaceIsolation is on; "
                f"use one of namespace {', '.join(sorted(allowed))}"
            )

    def _default_selection(self, pod: Pod | None) -> NetworkSelection | None:
        if pod is None or ANNO_DEFAULT_NETWORK not in pod.metadata.annotations:
            return None
        selection = parse_default_network(
            pod.metadata.annotations[ANNO_DEFAULT_NETWORK], self.config.namespace
        )
        # Default networks are the administrator's, in the meta plugin's own namespace.
        self._refuse_foreign(pod, selection, self.config.namespace)
        return selection

    async def _select(self, pod: Pod | None, selection: NetworkSelection) -> Network:
        try:
            network = await self.networks.defined(selection.namespace, selection.name)
        except NotFound as error:
            if pod is not None:
                self.reports.record(pod, EventReason.NO_NETWORK, error.message)
            raise
        return Network(network.name, network.config, selection, network.resource_name)


def _inline(item: Mapping[str, Any], index: int) -> Network:
    config = read_config(item, f"delegate {index} of the configuration")
    return Network(config.name, config)


def title(call: Call, network: str = "") -> str:
    """Say which an error is about, as Multus' users know it."""
    pod = f"{call.args.namespace}/{call.args.name}/{call.args.uid}"
    return f"[{pod}:{network}]: " if network else f"[{pod}]: "
