"""
Admission of SpiderMultusConfigs: what is filled in, what is refused.

Fields of errors are the original's names, also where they are not those of the object
(`spec.macvlanConfig`). Numbers that are out of range do not get here: the definition's schema and
the types refuse them.
Source: docs/reference/networks.md#fields, docs/reference/networks.md#the-definition.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeVar

import msgspec
from msgspec.structs import replace

from spiderpool.admission.coordinators import normalise, spec_errors
from spiderpool.admission.field_errors import FieldError, Kind
from spiderpool.api.crd.multusconfig import (
    ANNO_CNI_VERSION,
    ANNO_CNICONFIG_NAME,
    ANNO_CR_NAME,
    ANNO_NETWORK_INJECT,
    ANNO_RDMA_INJECT,
    CNIType,
    DefaultPools,
    IbSriovConfig,
    IpoibConfig,
    MasterConfig,
    MultusConfigSpec,
    OvsConfig,
    SpiderMultusConfig,
    SriovConfig,
    VlanConfig,
    VlanMode,
)
from spiderpool.cni.request import valid_network_name
from spiderpool.datapath.coordinator_merge import LARGEST_MTU
from spiderpool.datapath.ifacer import read_options
from spiderpool.errors import InvalidRequest
from spiderpool.model.label_values import LABEL_VALUE
from spiderpool.model.limits import CONFIG_BYTES, PLUGINS, check_depth, check_text
from spiderpool.model.link_names import NO_IFNAME, valid_ifname
from spiderpool.model.object_names import name_problem
from spiderpool.networks.allowed_plugins import check_plugin_types
from spiderpool.networks.definition import block_of, read_chained, render_config

M = TypeVar("M", bound=MasterConfig)

CNI_VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0")
ANNOTATIONS: Final = "metadata.annotations"
SHOWN: Final = 200  # characters of a text that is too long
INJECTIONS: Final = (ANNO_RDMA_INJECT, ANNO_NETWORK_INJECT)
FIELDS: Final = {
    CNIType.MACVLAN: "spec.macvlanConfig",
    CNIType.IPVLAN: "spec.ipvlanConfig",
    CNIType.VLAN: "spec.vlan",
    CNIType.SRIOV: "spec.sriovConfig",
    CNIType.IB_SRIOV: "spec.ibsriovConfig",
    CNIType.IPOIB: "spec.ipoibConfig",
    CNIType.OVS: "spec.ovsConfig",
    CNIType.CUSTOM: "spec.customCniTypeConfig",
}


def complete_config(new: SpiderMultusConfig) -> SpiderMultusConfig:
    """Fill in what a network leaves open; what cannot be read stays for the validator."""
    if new.metadata.deletion_timestamp is not None:
        return new
    annotations = new.metadata.annotations
    # the pod webhook finds networks by label; a value that no label may have is left to the
    # validator
    labels = {
        key: annotations[key]
        for key in INJECTIONS
        if LABEL_VALUE.fullmatch(annotations.get(key, " "))
    }
    metadata = (
        replace(new.metadata, labels={**new.metadata.labels, **labels}) if labels else new.metadata
    )
    return replace(new, metadata=metadata, spec=_complete_spec(new.spec))


def _complete_spec(spec: MultusConfigSpec) -> MultusConfigSpec:
    """Fill in a specification."""
    custom = spec.type is CNIType.CUSTOM
    return replace(
        spec,
        cni_type=spec.type,
        enable_coordinator=False if custom else spec.enable_coordinator is not False,
        disable_ipam=bool(spec.disable_ipam),
        coordinator=None if custom or spec.coordinator is None else normalise(spec.coordinator),
        chain_cni_json_data=spec.chain_cni_json_data or (),
        custom_cni=spec.custom_cni or "" if custom else spec.custom_cni,
        macvlan=_complete_master(spec.macvlan),
        ipvlan=_complete_master(spec.ipvlan),
        vlan=_complete_vlan(spec.vlan),
        sriov=_complete_sriov(spec.sriov),
        ibsriov=replace(spec.ibsriov, pkey=spec.ibsriov.pkey or "") if spec.ibsriov else None,
        ovs=replace(spec.ovs, vlan=spec.ovs.vlan or 0) if spec.ovs else None,
    )


def _complete_master(block: M | None, *, vlan: bool = True) -> M | None:
    """Fill in the block of a plugin that works on a node's interface."""
    if block is None:
        return None
    bond = replace(block.bond, options=block.bond.options or "") if block.bond else None
    vlan_id = block.vlan_id or 0 if vlan else block.vlan_id
    return replace(
        block, vlan_id=vlan_id, bond=bond, rdma_resource_name=block.rdma_resource_name or ""
    )


def _complete_vlan(block: VlanConfig | None) -> VlanConfig | None:
    """Fill in the VLAN plugin's block: with `auto`, the pool says which VLAN."""
    if block is None:
        return None
    mode = block.vlan_mode or VlanMode.MANUAL
    return _complete_master(replace(block, vlan_mode=mode), vlan=mode is VlanMode.MANUAL)


def _complete_sriov(block: SriovConfig | None) -> SriovConfig | None:
    """Fill in SR-IOV's block."""
    if block is None:
        return None
    return replace(
        block,
        vlan_id=block.vlan_id or 0,
        min_tx_rate_mbps=block.min_tx_rate_mbps or 0,
        max_tx_rate_mbps=block.max_tx_rate_mbps or 0,
    )


def validate_config(
    old: SpiderMultusConfig | None, new: SpiderMultusConfig, allowed_plugins: Collection[str] = ()
) -> list[FieldError]:
    """
    Return everything that is wrong with a network by itself, after `complete_config`.

    Args:
        old: None when it is created.
        new: what is to be stored.
        allowed_plugins: the CNI plugins that a network may name; empty = all but meta plugins.
    """
    if new.metadata.deletion_timestamp is not None:
        return []
    spec = new.spec
    errors = [
        *_annotation_errors(new),
        *(_rename_errors(old, new) if old else ()),
        *_block_errors(spec),
    ]
    chain = spec.chain_cni_json_data or ()
    if len(chain) > PLUGINS:
        why = f"{len(chain)} are listed; {PLUGINS} is the most"
        errors.append(FieldError("spec.chainCNIJsonData", Kind.INVALID, "", why))
    for index, text in enumerate(chain):
        try:
            read_chained(text)
        except InvalidRequest as error:
            errors.append(
                FieldError(f"spec.chainCNIJsonData[{index}]", Kind.INVALID, text, error.message)
            )
    if spec.coordinator is not None and spec.type is not CNIType.CUSTOM:
        errors += spec_errors(spec.coordinator, "spec.coordinator")
    return errors or [*_plugin_errors(new, allowed_plugins)]


def _plugin_errors(new: SpiderMultusConfig, allowed: Collection[str]) -> Iterator[FieldError]:
    """Check which plugins the definition names: nodes execute them as root."""
    text = render_config(new)
    try:
        check_text(text, CONFIG_BYTES, "the definition")
    except InvalidRequest as error:
        yield FieldError("spec", Kind.INVALID, "", error.message)
        return
    document = msgspec.json.decode(text) if text else None
    if not isinstance(document, dict):
        return
    try:
        check_plugin_types([document], "the definition", allowed)
    except InvalidRequest as error:
        where = FIELDS[CNIType.CUSTOM] if new.spec.type is CNIType.CUSTOM else "spec"
        yield FieldError(where, Kind.INVALID, text, error.message)


def managed_by_another(config: SpiderMultusConfig, definition: str, other: str) -> FieldError:
    """
    Return the error of a network whose definition is another network's.

    Args:
        config: the network.
        definition: name of its NetworkAttachmentDefinition.
        other: name of the network that has it.
    """
    namespace = config.metadata.namespace
    why = (
        f"the net-attach-def {namespace}/{definition} already exists and is managed by "
        f"SpiderMultusConfig {namespace}/{other}."
    )
    return FieldError(ANNOTATIONS, Kind.INVALID, definition, why)


def injection_problem(config: SpiderMultusConfig, key: str) -> str | None:
    """
    Say why a network cannot be put into pods, None when it can.

    Args:
        config: the network.
        key: the annotation that asks for it: of RDMA resources, or of networks.
    """
    spec = config.spec
    if spec.type in (CNIType.OVS, CNIType.CUSTOM):
        return f"{key}: cniType {spec.type} is not supported"
    named, pools = resource_of(spec), pools_of(spec)
    if key == ANNO_RDMA_INJECT and not named:
        return f"{key}: needs a resource name, and cniType {spec.type} here has none"
    if (key == ANNO_RDMA_INJECT or named) and not (pools and (pools.ipv4 or pools.ipv6)):
        return f"{key}: needs at least one IPPool in ippools"
    return None


def resource_of(spec: MultusConfigSpec) -> str:
    """
    Name the resource that a pod on this network needs from a device plugin.

    Empty when it needs none.
    """
    match block_of(spec):
        case MasterConfig() as block:
            return block.rdma_resource_name or ""
        case SriovConfig() | IbSriovConfig() as block:
            return block.resource_name
    return ""


def pools_of(spec: MultusConfigSpec) -> DefaultPools | None:
    """Return the network's own pools."""
    match block_of(spec):
        case (
            MasterConfig() | SriovConfig() | IbSriovConfig() | IpoibConfig() | OvsConfig() as block
        ):
            return block.ippools
    return None


def _annotation_errors(new: SpiderMultusConfig) -> Iterator[FieldError]:
    """Check the annotations that shape the definition."""
    found = new.metadata.annotations
    name, version, network = (
        found.get(key) for key in (ANNO_CR_NAME, ANNO_CNI_VERSION, ANNO_CNICONFIG_NAME)
    )
    if name is not None and (problem := name_problem(name)):
        yield FieldError(ANNOTATIONS, Kind.INVALID, name, f"{ANNO_CR_NAME}: {problem}")
    if version is not None and version not in CNI_VERSIONS:
        why = f"{ANNO_CNI_VERSION}: supported values: {', '.join(CNI_VERSIONS)}"
        yield FieldError(ANNOTATIONS, Kind.INVALID, version, why)
    if network and not valid_network_name(network):
        why = (
            f"{ANNO_CNICONFIG_NAME}: write letters, digits, '_', '.', '-', the first a letter or "
            "digit"
        )
        yield FieldError(ANNOTATIONS, Kind.INVALID, network, why)
    yield from _injection_errors(new, found)


def _injection_errors(new: SpiderMultusConfig, found: Mapping[str, str]) -> Iterator[FieldError]:
    """Check what a network that is put into pods must have."""
    for key in INJECTIONS:
        if key not in found:
            continue
        if not LABEL_VALUE.fullmatch(found[key]):
            why = (
                f"{key}: is no label value: at most 63 letters, digits, '-', '_' or '.', first and "
                "last a letter or digit"
            )
            yield FieldError(ANNOTATIONS, Kind.INVALID, found[key], why)
        elif problem := injection_problem(new, key):
            yield FieldError(ANNOTATIONS, Kind.INVALID, found[key], problem)


def _rename_errors(old: SpiderMultusConfig, new: SpiderMultusConfig) -> Iterator[FieldError]:
    """Refuse another name of the definition; giving it up is allowed."""
    before, after = (config.metadata.annotations.get(ANNO_CR_NAME) for config in (old, new))
    if after is None or after == before:
        return
    why = f"{ANNO_CR_NAME}: cannot be " + (
        "added to an existing object" if before is None else f"changed from {before}"
    )
    yield FieldError(ANNOTATIONS, Kind.FORBIDDEN, after, why)


def _block_errors(spec: MultusConfigSpec) -> Iterator[FieldError]:
    """Check that the plugin's own block is there, that no other is, and what it says."""
    present = {
        CNIType.MACVLAN: spec.macvlan,
        CNIType.IPVLAN: spec.ipvlan,
        CNIType.VLAN: spec.vlan,
        CNIType.SRIOV: spec.sriov,
        CNIType.IB_SRIOV: spec.ibsriov,
        CNIType.IPOIB: spec.ipoib,
        CNIType.OVS: spec.ovs,
        CNIType.CUSTOM: spec.custom_cni or None,
    }
    for kind, other in present.items():
        if kind is not spec.type and other is not None:
            why = f"cniType is {spec.type}: only its own settings may be given"
            yield FieldError(FIELDS[kind], Kind.FORBIDDEN, "", why)
    where, block = FIELDS[spec.type], present[spec.type]
    if block is None:
        if spec.type is not CNIType.CUSTOM:
            yield FieldError(
                where, Kind.REQUIRED, "", f"cniType is {spec.type}, and its settings are missing"
            )
        return
    yield from (FieldError(where, Kind.INVALID, value, why) for value, why in _problems(block))


Problem = tuple[str, str]


def _problems(block: object) -> Iterator[Problem]:
    """Walk (value, what is wrong with it) of a block."""
    match block:
        case str():
            yield from _custom_problems(block)
        case MasterConfig():
            yield from _master_problems(block)
        case SriovConfig():
            yield from _sriov_problems(block)
        case IbSriovConfig() if not block.resource_name:
            yield "", "resourceName is empty; name the resource of a device plugin"
        case IpoibConfig():
            yield from _name_problems("master", block.master)
        case OvsConfig():
            yield from _ovs_problems(block)
    if isinstance(block, MasterConfig | IbSriovConfig | IpoibConfig | OvsConfig):
        yield from _pool_problems(block.ippools)


def _custom_problems(text: str) -> Iterator[Problem]:
    """Check that a custom configuration is JSON, and not more of it than a node reads."""
    try:
        check_text(text, CONFIG_BYTES, "customCNI")
        check_depth(text, msgspec.json.decode(text), "customCNI")
    except InvalidRequest as error:
        yield text[:SHOWN], error.message
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        yield text, f"customCNI is not JSON: {error}"


def _pool_problems(pools: DefaultPools | None) -> Iterator[Problem]:
    """Check what only SR-IOV may ask for."""
    if pools is not None and pools.match_master_subnet:
        yield "true", "ippools.matchMasterSubnet is for sriov only"


def _master_problems(block: MasterConfig) -> Iterator[Problem]:
    """Check interfaces, bond and VLAN."""
    if not block.master or not all(block.master):
        yield (
            ",".join(block.master),
            "master needs at least one name of an interface, and none may be empty",
        )
    for name in filter(None, block.master):
        yield from _name_problems("master", name)
    yield from _mtu_problems(block.mtu)
    yield from _bond_problems(block)
    if len(set(block.master)) < len(block.master):
        yield ",".join(block.master), "master names an interface twice"
    if len(block.master) > 1 and not (block.bond and block.bond.name):
        yield ",".join(block.master), "several masters need a bond with a name"
    if isinstance(block, VlanConfig):
        if block.vlan_mode is VlanMode.AUTO:
            yield (
                str(block.vlan_mode),
                "vlanMode auto is not supported: no IPPool has a VLAN; write manual and vlanID",
            )
        elif block.vlan_id is None:
            yield "", "vlanMode manual needs vlanID"


def _name_problems(key: str, name: str) -> Iterator[Problem]:
    """Check a name of an interface of the nodes."""
    if not name:
        yield (
            "",
            (
                f"{key} is empty; name {'a bridge' if key == 'bridge' else 'an interface'} of the "
                "nodes"
            ),
        )
    elif not valid_ifname(name):
        yield name, f"{key} {NO_IFNAME}"


def _mtu_problems(mtu: int | None) -> Iterator[Problem]:
    """Check an MTU; 0 is the master's."""
    if mtu is not None and mtu > LARGEST_MTU:
        yield str(mtu), f"mtu must be {LARGEST_MTU} or less, the kernel refuses more"


def _bond_problems(block: MasterConfig) -> Iterator[Problem]:
    """Check what `ifacer` will make: bond and VLAN. With one master there is no bond."""
    bond = block.bond if len(block.master) > 1 else None
    if bond is not None and bond.name:
        yield from _name_problems("bond.name", bond.name)
    if bond is not None:
        try:
            read_options(bond.options or "")
        except InvalidRequest as error:
            yield bond.options or "", error.message.removeprefix("ifacer: ")
    if isinstance(block, VlanConfig) or not block.vlan_id:
        return
    base = bond.name if bond is not None else "".join(block.master[:1])
    if valid_ifname(base) and not valid_ifname(f"{base}.{block.vlan_id}"):
        yield (
            f"{base}.{block.vlan_id}",
            "the VLAN's interface would have this name, and the kernel takes at most 15 characters",
        )


def _sriov_problems(block: SriovConfig) -> Iterator[Problem]:
    """Check SR-IOV."""
    if not block.resource_name:
        yield "", "resourceName is empty; name the resource of a device plugin"
    yield from _mtu_problems(block.mtu)
    low, high = block.min_tx_rate_mbps or 0, block.max_tx_rate_mbps or 0
    if low > high:
        yield str(low), f"minTxRateMbps must not be above maxTxRateMbps, which is {high}"


def _ovs_problems(block: OvsConfig) -> Iterator[Problem]:
    """Check Open vSwitch."""
    yield from _name_problems("bridge", block.bridge)
    for index, item in enumerate(block.trunk):
        if item.min_id is not None and item.max_id is not None and item.min_id > item.max_id:
            yield (
                str(item.min_id),
                f"trunk[{index}].minID must not be above maxID, which is {item.max_id}",
            )
