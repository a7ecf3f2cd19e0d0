"""
The CNI configuration of a SpiderMultusConfig, as text of its NetworkAttachmentDefinition.

The order of keys is the original's: a changed text is how other tools notice a change.
Source: docs/reference/networks.md#the-definition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from spiderpool.api.crd.coordinator import CoordinatorSpec
from spiderpool.api.crd.multusconfig import (
    ANNO_CNI_VERSION,
    ANNO_CNICONFIG_NAME,
    ANNO_CR_NAME,
    ANNO_RESOURCE_NAME,
    Bond,
    CNIType,
    DefaultPools,
    IbSriovConfig,
    IpoibConfig,
    MasterConfig,
    MultusConfigSpec,
    OvsConfig,
    SpiderMultusConfig,
    SriovConfig,
    Trunk,
    VlanConfig,
    VlanMode,
)
from spiderpool.errors import InvalidRequest
from spiderpool.model.limits import CONFIG_BYTES, check_depth, check_text

CNI_VERSION: Final = "0.3.1"
# Of ifacer, where a bond has no name (docs/reference/networks.md#ifacer).
BOND_NAME: Final = "sp_bond0"
OVS_RESOURCE: Final = "ovs-cni.network.kubevirt.io/"
# What the original's webhook and CRD store in every network that says nothing of it. It is not
# written: the cluster's setting would never be heard.
STORED_HOST_RULE_TABLE: Final = 500
STORED_RP_FILTER: Final = 0

Plugin = dict[str, Any]
Main = Callable[[MultusConfigSpec, Plugin], Iterator[Plugin]]


def definition_name(config: SpiderMultusConfig) -> str:
    """Return the name of the definition."""
    return config.metadata.annotations.get(ANNO_CR_NAME) or config.metadata.name


def render_annotations(config: SpiderMultusConfig) -> dict[str, str]:
    """
    Return the annotations of the definition.

    All of ours, and the resource that a pod on this network needs.
    """
    resource = _resource(config.spec)
    return {**config.metadata.annotations, **({ANNO_RESOURCE_NAME: resource} if resource else {})}


def render_config(config: SpiderMultusConfig) -> str:
    """
    Return the definition's `spec.config`.

    Raises:
        InvalidRequest: the block of its plugin is missing, or a further plugin is no JSON object.
    """
    spec, annotations = config.spec, config.metadata.annotations
    if spec.type is CNIType.CUSTOM:
        return spec.custom_cni or ""
    document = {
        "cniVersion": annotations.get(ANNO_CNI_VERSION) or CNI_VERSION,
        "name": annotations.get(ANNO_CNICONFIG_NAME) or definition_name(config),
        "plugins": list(_plugins(spec)),
    }
    return msgspec.json.encode(document).decode()


def block_of(spec: MultusConfigSpec) -> object:
    """Return the settings that belong to the plugin, None when they are missing."""
    blocks: Mapping[CNIType, object] = {
        CNIType.MACVLAN: spec.macvlan,
        CNIType.IPVLAN: spec.ipvlan,
        CNIType.VLAN: spec.vlan,
        CNIType.SRIOV: spec.sriov,
        CNIType.IB_SRIOV: spec.ibsriov,
        CNIType.IPOIB: spec.ipoib,
        CNIType.OVS: spec.ovs,
        CNIType.CUSTOM: spec.custom_cni,
    }
    return blocks[spec.type]


def read_chained(text: str) -> Plugin:
    """
    Read a further plugin.

    Raises `InvalidRequest` when the text is not a JSON object with `type`.
    """
    check_text(text, CONFIG_BYTES, "a further plugin")
    try:
        plugin = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        raise InvalidRequest(f"{text!r} is not a JSON object") from None
    check_depth(text, plugin, "a further plugin")
    kind = plugin.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidRequest(f"{text!r} has no type; write the name of a CNI plugin")
    return plugin


def _plugins(spec: MultusConfigSpec) -> Iterator[Plugin]:
    """Walk the plugins in the order in which they run."""
    block = block_of(spec)
    if block is None:
        raise InvalidRequest(f"cniType is {spec.type}, and its settings are missing")
    match block:
        case VlanConfig():
            yield from _vlan(block, spec)
        case MasterConfig():
            yield from _on_master(block, spec)
        case SriovConfig():
            yield from _sriov(block, spec)
        case IbSriovConfig():
            yield _ib_sriov(block, spec)
        case IpoibConfig():
            yield {"type": "ipoib", "master": block.master, **_ipam(spec, block.ippools)}
        case OvsConfig():
            yield _ovs(block, spec)
    # a Go map is written in the order of its keys, at every depth
    yield from (_in_order(read_chained(text)) for text in spec.chain_cni_json_data or ())
    if spec.enable_coordinator is not False:
        yield _coordinator(spec.coordinator or CoordinatorSpec())
    if isinstance(block, SriovConfig) and block.mtu:
        yield {"type": "tuning", "mtu": block.mtu}


def _on_master(block: MasterConfig, spec: MultusConfigSpec) -> Iterator[Plugin]:
    """Render macvlan and ipvlan: on a bond, a VLAN or both when asked for."""
    vlan_id = block.vlan_id or 0
    base = _base(block)
    if vlan_id or len(block.master) > 1:
        yield _ifacer(block, vlan_id)
    mode = {"mode": "bridge"} if spec.type is CNIType.MACVLAN else {}
    master = f"{base}.{vlan_id}" if vlan_id else base
    yield {
        "type": str(spec.type),
        "master": master,
        **mode,
        "mtu": block.mtu or 0,
        **_ipam(spec, block.ippools),
    }


def _vlan(block: VlanConfig, spec: MultusConfigSpec) -> Iterator[Plugin]:
    """Render the VLAN plugin, which makes the VLAN itself."""
    if len(block.master) > 1:
        yield _ifacer(block, 0)
    mode = block.vlan_mode or VlanMode.MANUAL
    plugin: Plugin = {"type": "vlan", "master": _base(block), "vlanMode": str(mode)}
    if mode is VlanMode.MANUAL:
        plugin["vlanId"] = block.vlan_id or 0
    yield {**plugin, "mtu": block.mtu or 0, **_ipam(spec, block.ippools)}


def _base(block: MasterConfig) -> str:
    """Name the interface that the pod's interface, or its VLAN, is on."""
    if not block.master:
        raise InvalidRequest("master is empty; name an interface of the nodes")
    if len(block.master) == 1:
        return block.master[0]
    return (block.bond.name if block.bond else "") or BOND_NAME


def _ifacer(block: MasterConfig, vlan_id: int) -> Plugin:
    """Render the plugin that makes bond and VLAN on the node."""
    plugin: Plugin = {"vlanID": vlan_id} if vlan_id else {}
    plugin |= {"type": "ifacer", "interfaces": list(block.master)}
    if len(block.master) > 1 and block.bond is not None:
        plugin["bond"] = _bond(block.bond)
    return plugin


def _bond(bond: Bond) -> Plugin:
    """Render a bond."""
    return {"name": bond.name, "mode": bond.mode, "options": bond.options or ""}


def _sriov(block: SriovConfig, spec: MultusConfigSpec) -> Iterator[Plugin]:
    """Render SR-IOV."""
    yield {
        "vlan": block.vlan_id or 0,
        "min_tx_rate": block.min_tx_rate_mbps or 0,
        "max_tx_rate": block.max_tx_rate_mbps or 0,
        "type": "sriov",
        **_ipam(spec, block.ippools),
    }
    if block.rdma_isolation:
        yield {"type": "rdma"}


def _ib_sriov(block: IbSriovConfig, spec: MultusConfigSpec) -> Plugin:
    """Render SR-IOV over InfiniBand."""
    return {
        "type": "ib-sriov",
        "pkey": block.pkey or "",
        "link_state": str(block.link_state or "enable"),
        "rdmaIsolation": block.rdma_isolation is not False,
        "ibKubernetesEnabled": bool(block.enable_ib_kubernetes),
        **_ipam(spec, block.ippools),
    }


def _ovs(block: OvsConfig, spec: MultusConfigSpec) -> Plugin:
    """Render Open vSwitch."""
    plugin: Plugin = {"vlan": block.vlan or 0, "type": "ovs", "bridge": block.bridge}
    if block.device_id:
        plugin["deviceID"] = block.device_id
    plugin |= _ipam(spec, block.ippools)
    if block.trunk:
        plugin["trunk"] = [_trunk(item) for item in block.trunk]
    return plugin


def _trunk(item: Trunk) -> Plugin:
    """Render the VLANs of a port."""
    keys = {"minID": item.min_id, "maxID": item.max_id, "id": item.id}
    return {key: value for key, value in keys.items() if value is not None}


def _ipam(spec: MultusConfigSpec, pools: DefaultPools | None) -> Plugin:
    """Render the address plugin with the network's pools."""
    if spec.disable_ipam:
        return {}
    ipam: Plugin = {"type": "spiderpool"}
    if pools is not None and pools.ipv4:
        ipam["default_ipv4_ippool"] = list(pools.ipv4)
    if pools is not None and pools.ipv6:
        ipam["default_ipv6_ippool"] = list(pools.ipv6)
    if pools is not None and pools.match_master_subnet and spec.type is CNIType.SRIOV:
        ipam["match_master_subnet"] = True
    return {"ipam": ipam}


def _coordinator(spec: CoordinatorSpec) -> Plugin:
    """Render the coordinator's block; what is empty or was not said is left out."""
    values = {
        "vethLinkAddress": spec.veth_link_address or None,
        "vethMTU": spec.veth_mtu,
        "tunePodRoutes": spec.tune_pod_routes,
        "podMACPrefix": spec.pod_mac_prefix or None,
        "mode": spec.mode and str(spec.mode),
        "type": "coordinator",
        "podDefaultRouteNic": spec.pod_default_route_nic or None,
        "podRPFilter": _rp_filter(spec),
        "hostRuleTable": (
            None if spec.host_rule_table == STORED_HOST_RULE_TABLE else spec.host_rule_table
        ),
        "hijackCIDR": list(spec.hijack_cidr) or None,
        "policyRoutes": [{"dst": route.dst, "gw": route.gw} for route in spec.policy_routes]
        or None,
    }
    return {
        key: value
        for key, value in {"txQueueLen": spec.tx_queue_len, **values}.items()
        if value is not None
    }


def _rp_filter(spec: CoordinatorSpec) -> int | None:
    """Return the filter that the network asks for; with a CIDR type the original writes any."""
    if spec.pod_rp_filter == STORED_RP_FILTER and spec.pod_cidr_type is None:
        return None
    return spec.pod_rp_filter


def _in_order(value: Any) -> Any:
    """Sort the keys of an object and of everything in it."""
    if isinstance(value, dict):
        return {key: _in_order(value[key]) for key in sorted(value)}
    return [_in_order(item) for item in value] if isinstance(value, list) else value


def _resource(spec: MultusConfigSpec) -> str:
    """Name the device plugin's resource that a pod on this network takes."""
    block = block_of(spec)
    match block:
        case SriovConfig() | IbSriovConfig():
            return block.resource_name
        case OvsConfig() if block.device_id:
            return OVS_RESOURCE + block.bridge
    return ""
