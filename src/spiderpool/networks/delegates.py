"""
What a meta plugin's ADD will do: delegates, their interface names and values, default routes.

Pure: networks come resolved, results come from elsewhere.
Source: docs/reference/meta-plugin.md#what-a-plugin-gets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.netconf import NetworkConfig, with_cni_args, with_device
from spiderpool.cni.request import CniArgs
from spiderpool.cni.result import Result, Route
from spiderpool.errors import BadEnvironment, InvalidRequest
from spiderpool.model.link_names import NO_IFNAME, valid_ifname
from spiderpool.model.network_selection import Bandwidth, NetworkSelection, PortMapping

BOTH = frozenset({4, 6})
DEFAULT_NETWORKS: Final[Mapping[int, IPv4Network | IPv6Network]] = {
    4: IPv4Network("0.0.0.0/0"),
    6: IPv6Network("::/0"),
}
COORDINATOR: Final = "coordinator"
COORDINATORS_NIC: Final = "veth0"  # docs/reference/coordinator.md#modes
META_PLUGIN: Final = "spiderpool-multus"
# Plugins hand their environment on to those that they run: a meta plugin that has this one runs
# below itself. The executable passes on what begins with CNI_.
CALLED_BY: Final = "CNI_CALLED_BY"
DEVICE_INFO_DIR = "/var/run/k8s.cni.cncf.io/devinfo"
_CAPABILITIES = (
    "portMappings",
    "bandwidth",
    "ips",
    "mac",
    "infinibandGUID",
    "deviceID",
    "CNIDeviceInfoFile",
)
_OWN_ARGS = (
    "IgnoreUnknown",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
)


@dataclass(frozen=True, slots=True)
class Network:
    """
    A network that a pod gets, resolved to its configuration.

    `name` is what status and Events call it. `device_id` comes from a device plugin for
    `resource_name`.
    """

    name: str
    config: NetworkConfig
    selection: NetworkSelection | None = None
    resource_name: str = ""
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class Delegate:
    """
    One network as it is called: everything that ADD, CHECK and DEL of it need to say the same.

    `gateways`: None = the element says nothing about default routes. `lose`: families whose default
    routes it must give up. `capability_args`: values for `runtimeConfig`, before each plugin's own
    choice.
    """

    name: str
    config: NetworkConfig
    ifname: str
    requested_ifname: str = ""
    ips: tuple[str, ...] = ()
    mac: str = ""
    infiniband_guid: str = ""
    gateways: tuple[IPAddress, ...] | None = None
    lose: frozenset[int] = frozenset()
    device_id: str = ""
    resource_name: str = ""
    capability_args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RouteChange:
    """
    What happens to the default routes of one interface.

    Those families go, then one route for each gateway comes.
    """

    remove: frozenset[int]
    add: tuple[IPAddress, ...]


def plan_delegates(
    networks: Sequence[Network], ifname: str, container_id: str, runtime_config: Mapping[str, Any]
) -> tuple[Delegate, ...]:
    """
    Turn networks into delegates, the default network first.

    Args:
        networks: with their configurations; the default network is the first.
        ifname: name of the default network's interface, from the runtime.
        container_id: of the pod's sandbox.
        runtime_config: capability arguments of the runtime (`runtimeConfig`).
    Raises:
        BadEnvironment: a requested interface name that is none.
        InvalidRequest: two networks would get one interface name, or one gets the coordinator's.
    """
    delegates = [
        _plan(network, i, ifname, container_id, runtime_config)
        for i, network in enumerate(networks)
    ]
    _refuse_same_names(delegates)
    _refuse_coordinators_name(delegates)
    if all(delegate.gateways is None for delegate in delegates[1:]):
        # A key in the default network's own element alone replaces its gateway and concerns nobody
        # else.
        return tuple(delegates)
    named = frozenset(gateway.version for one in delegates for gateway in one.gateways or ())
    # An empty list stands for whatever default routes the network's own plugin makes.
    first = BOTH if any(one.gateways == () for one in delegates[1:]) else named
    return tuple(
        replace(delegate, lose=_losses(delegate, named, BOTH if index else first))
        for index, delegate in enumerate(delegates)
    )


def route_change(delegate: Delegate) -> RouteChange | None:
    """
    Say what happens to a delegate's default routes, None when nothing does.

    The default network gives up the families that somebody else has gateways of. A further network
    has no default routes but by its own gateways. An empty list keeps those that the network's own
    plugin made. What leaves the pod without a default route of a family is put back at the end.

    Source: docs/reference/meta-plugin.md#default-routes.
    """
    gateways = delegate.gateways or ()
    remove = delegate.lose | {gateway.version for gateway in gateways}
    return RouteChange(frozenset(remove), gateways) if remove else None


def with_default_routes(
    result: Result, lost: Collection[int], gateways: Sequence[IPAddress]
) -> Result:
    """
    Return a result as it is true after its default routes were changed.

    Args:
        result: what the plugin answered.
        lost: families whose default routes are gone.
        gateways: of the new default routes.
    """
    kept = [
        route
        for route in result.routes
        if route.dst not in {DEFAULT_NETWORKS[family] for family in lost}
    ]
    new = [Route(DEFAULT_NETWORKS[gateway.version], gateway) for gateway in gateways]
    return replace(result, routes=(*kept, *new))


def automatic_ifname(index: int, default: str) -> str:
    """
    Return the interface name of a delegate that asks for none.

    Its position counts, named ones take a number too.
    """
    return default if index == 0 else f"net{index}"


def delegate_args(args: CniArgs, delegate: Delegate, command: str) -> str:
    """
    Return a delegate's `CNI_ARGS`.

    Each key stands there once; the pod's own keys also when empty.

    Args:
        args: of the call: the pod, and foreign keys, which are passed on.
        delegate: on ADD its MAC and addresses are added, where it asks for any.
        command: the CNI verb.
    """
    values = {
        "IgnoreUnknown": "true",
        "K8S_POD_NAMESPACE": args.namespace,
        "K8S_POD_NAME": args.name,
        "K8S_POD_INFRA_CONTAINER_ID": args.infra_container_id,
        "K8S_POD_UID": args.uid,
    }
    values |= {key: value for key, value in args.pairs if key not in _OWN_ARGS}
    if command == "ADD":
        if delegate.mac:
            values["MAC"] = delegate.mac
        if delegate.ips:
            values["IP"] = ",".join(delegate.ips)
    return ";".join(f"{key}={value}" for key, value in values.items())


def delegate_env(
    env: Mapping[str, str],
    delegate: Delegate,
    command: str,
    bin_dir: str,
    args: CniArgs,
    netns: str,
) -> dict[str, str]:
    """
    Return the environment of one delegate's plugins.

    Args:
        env: the caller's, which is passed on.
        delegate: the network.
        command: the CNI verb.
        bin_dir: where plugins are looked for first; empty = only on the caller's path.
        args: of the call.
        netns: path of the pod's network namespace; empty where it is gone.
    """
    path = ":".join(part for part in (bin_dir, env.get("CNI_PATH", "")) if part)
    return {
        **env,
        "CNI_COMMAND": command,
        "CNI_NETNS": netns,
        "CNI_IFNAME": delegate.ifname,
        "CNI_PATH": path,
        "CNI_ARGS": delegate_args(args, delegate, command),
        CALLED_BY: META_PLUGIN,
    }


def device_info_file(name: str, container_id: str, ifname: str) -> str:
    """
    Return the path where a plugin writes about the device that it used.

    Args:
        name: of the network.
        container_id: of the pod's sandbox.
        ifname: name of the interface in the pod.
    Source: NPWG, Device Information Specification.
    """
    return f"{DEVICE_INFO_DIR}/cni/" + f"{name}-{container_id}_{ifname}".replace("/", "-")


def device_plugin_file(resource_name: str, device_id: str) -> str:
    """Return the path where a device plugin tells about a device."""
    return f"{DEVICE_INFO_DIR}/dp/" + f"{resource_name}-{device_id}-device.json".replace("/", "-")


def _plan(
    network: Network, index: int, ifname: str, container_id: str, runtime_config: Mapping[str, Any]
) -> Delegate:
    selection = network.selection or NetworkSelection(namespace="", name="")
    if selection.interface and not valid_ifname(selection.interface):
        raise BadEnvironment(
            f"network {network.name}: interface {selection.interface!r} {NO_IFNAME}"
        )
    if index == 0 and selection.interface not in {"", ifname}:
        raise InvalidRequest(
            f"default network {network.name}: interface {selection.interface} is asked for, but "
            f"the runtime names it {ifname}; "
            "remove the interface"
        )
    name = selection.interface or automatic_ifname(index, ifname)
    device_id = network.device_id or selection.device_id
    info_file = device_info_file(network.name, container_id, name) if device_id else ""
    return Delegate(
        name=network.name,
        config=with_device(with_cni_args(network.config, selection.cni_args), network.device_id),
        ifname=name,
        requested_ifname=selection.interface if index else "",
        ips=selection.ips,
        mac=selection.mac,
        infiniband_guid=selection.infiniband_guid,
        gateways=selection.default_route,
        device_id=device_id,
        resource_name=network.resource_name,
        capability_args=_capability_args(
            selection, runtime_config, device_id, info_file, default=index == 0
        ),
    )


def _capability_args(
    selection: NetworkSelection,
    runtime_config: Mapping[str, Any],
    device_id: str,
    info_file: str,
    *,
    default: bool,
) -> dict[str, Any]:
    supplied = {key: runtime_config[key] for key in _CAPABILITIES if runtime_config.get(key)}
    if default:
        return supplied
    # The runtime's port mappings are the pod's hostPorts: they lead to the default network and
    # nowhere else.
    supplied.pop("portMappings", None)
    own = {
        "portMappings": [_port_mapping(item) for item in selection.port_mappings],
        "bandwidth": _bandwidth(selection.bandwidth),
        "ips": list(selection.ips),
        "mac": selection.mac,
        "infinibandGUID": selection.infiniband_guid,
        "deviceID": device_id,
        "CNIDeviceInfoFile": info_file,
    }
    return supplied | {key: value for key, value in own.items() if value}


def _port_mapping(item: PortMapping) -> dict[str, Any]:
    body: dict[str, Any] = {"hostPort": item.host_port, "containerPort": item.container_port}
    return body | {
        key: value
        for key, value in (("protocol", item.protocol), ("hostIP", item.host_ip))
        if value
    }


def _bandwidth(item: Bandwidth | None) -> dict[str, int] | None:
    if item is None:
        return None
    return {
        "ingressRate": item.ingress_rate,
        "ingressBurst": item.ingress_burst,
        "egressRate": item.egress_rate,
        "egressBurst": item.egress_burst,
    }


def _refuse_same_names(delegates: Sequence[Delegate]) -> None:
    seen: dict[str, Delegate] = {}
    for delegate in delegates:
        other = seen.setdefault(delegate.ifname, delegate)
        if other is not delegate:
            raise InvalidRequest(
                f"networks {other.name} and {delegate.name} would both be interface "
                f"{delegate.ifname}; ask for another interface name for one of them"
            )


def _refuse_coordinators_name(delegates: Sequence[Delegate]) -> None:
    """Refuse the name by which the coordinator makes, and knows, the pod's way to the node."""
    taken = next((one for one in delegates if one.ifname == COORDINATORS_NIC), None)
    if taken is not None and any(
        lookup(plugin, "type") == COORDINATOR for one in delegates for plugin in one.config.plugins
    ):
        raise InvalidRequest(
            f"network {taken.name}: interface {taken.ifname} is what {COORDINATOR} makes in this "
            "pod; ask for another name"
        )


def _losses(
    delegate: Delegate, named: frozenset[int], unless_asked: frozenset[int]
) -> frozenset[int]:
    """
    Return the families of which a network gives up its default routes.

    Args:
        delegate: the network.
        named: families of all gateways of the pod.
        unless_asked: what it gives up without a key of its own.
    """
    if delegate.gateways == ():
        return named
    return unless_asked - {gateway.version for gateway in delegate.gateways or ()}
