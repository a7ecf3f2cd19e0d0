"""
SpiderMultusConfig: a pod network in words.

A NetworkAttachmentDefinition is made of it.

Source: docs/reference/networks.md.
"""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, Final

import msgspec

from spiderpool.api.crd.coordinator import CoordinatorSpec
from spiderpool.api.crd.group import WITHOUT_DEFAULTS, spiderpool_resource
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource

LARGEST_VLAN: Final = 4094  # IEEE 802.1Q: 4095 is reserved
LARGEST_BOND_MODE: Final = 6  # kernel, networking/bonding: balance-alb

ANNO_CR_NAME: Final = "multus.spidernet.io/cr-name"
ANNO_CNI_VERSION: Final = "multus.spidernet.io/cni-version"
ANNO_CNICONFIG_NAME: Final = "cni.spidernet.io/cniconfig-name"
ANNO_RDMA_INJECT: Final = "cni.spidernet.io/rdma-resource-inject"
ANNO_NETWORK_INJECT: Final = "cni.spidernet.io/network-resource-inject"
ANNO_RESOURCE_NAME: Final = "k8s.v1.cni.cncf.io/resourceName"

VlanID = Annotated[int, msgspec.Meta(ge=0, le=LARGEST_VLAN)]
Amount = Annotated[int, msgspec.Meta(ge=0)]


def _default(value: object) -> msgspec.Meta:
    """Name a default that the API server fills in."""
    return msgspec.Meta(extra_json_schema={"default": value})


# What a network does not say, the cluster says: the API server must not fill it in.
_WITHOUT_DEFAULTS = msgspec.Meta(extra_json_schema={WITHOUT_DEFAULTS: True})


class CNIType(enum.StrEnum):
    """The CNI plugin that makes the interface."""

    MACVLAN = "macvlan"
    IPVLAN = "ipvlan"
    VLAN = "vlan"
    SRIOV = "sriov"
    OVS = "ovs"
    IB_SRIOV = "ib-sriov"
    IPOIB = "ipoib"
    CUSTOM = "custom"


class VlanMode(enum.StrEnum):
    """Who chooses the VLAN: the configuration, or the address pool."""

    MANUAL = "manual"
    AUTO = "auto"


class LinkState(enum.StrEnum):
    """State of an InfiniBand virtual function."""

    AUTO = "auto"
    ENABLE = "enable"
    DISABLE = "disable"


class DefaultPools(Kube, frozen=True, kw_only=True):
    """The network's own default pools; names may have wildcards."""

    ipv4: tuple[str, ...] = ()
    """IPv4 pools, tried in this order; names may have the wildcards `*`, `?` and `[…]`."""
    ipv6: tuple[str, ...] = ()
    """IPv6 pools, likewise."""
    match_master_subnet: Annotated[bool | None, _default(False)] = None
    """Whether only pools serve whose subnet has an address of the master (`sriov` only)."""


class Bond(Kube, frozen=True, kw_only=True):
    """A bond that is made of several masters."""

    name: str
    """Name of the bond interface on the node."""
    mode: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BOND_MODE)]
    """Mode of the bond, 0 (balance-rr) to 6 (balance-alb)."""
    options: str | None = None
    """Further options, as `key=value;key=value`."""


class MasterConfig(Kube, frozen=True, kw_only=True):
    """Interfaces on a node's interface."""

    master: tuple[str, ...]
    """Interfaces of the node. More than one need a `bond`."""
    mtu: Annotated[Amount | None, _default(0)] = None
    """MTU of the pod's interface; 0: that of the master."""
    vlan_id: VlanID | None = msgspec.field(default=None, name="vlanID")
    """VLAN below the pod's interface; 0 or absent for none."""
    bond: Bond | None = None
    """Bond that is made of the masters."""
    rdma_resource_name: str | None = None
    """Name of the RDMA resource that goes with the network, such as `spidernet.io/rdma`."""
    ippools: DefaultPools | None = None
    """Default pools of this network."""


class VlanConfig(MasterConfig, frozen=True, kw_only=True):
    """VLAN interfaces on a node's interface."""

    vlan_mode: Annotated[VlanMode | None, _default("manual")] = None
    """`manual`: `vlanID` says the VLAN. `auto`: the IPPool says it, and `vlanID` is refused."""


class SriovConfig(Kube, frozen=True, kw_only=True):
    """Virtual functions of an SR-IOV device."""

    resource_name: str
    """Name of the resource whose virtual functions serve the network."""
    vlan_id: VlanID | None = msgspec.field(default=None, name="vlanID")
    """VLAN of the virtual function; 0 or absent for none."""
    mtu: Annotated[Amount | None, _default(0)] = None
    """MTU of the pod's interface; 0: that of the device."""
    min_tx_rate_mbps: Amount | None = msgspec.field(default=None, name="minTxRateMbps")
    """Least transmit rate in Mbit/s; 0 for none."""
    max_tx_rate_mbps: Amount | None = msgspec.field(default=None, name="maxTxRateMbps")
    """Highest transmit rate in Mbit/s; 0 for none."""
    rdma_isolation: Annotated[bool | None, _default(False)] = None
    """Whether the RDMA device goes into the pod as well."""
    ippools: DefaultPools | None = None
    """Default pools of this network."""


class IbSriovConfig(Kube, frozen=True, kw_only=True):
    """Virtual functions of an InfiniBand device."""

    resource_name: str
    """Name of the resource whose virtual functions serve the network."""
    pkey: str | None = None
    """InfiniBand partition key."""
    link_state: Annotated[LinkState | None, _default("enable")] = None
    """Link state of the virtual function."""
    rdma_isolation: Annotated[bool | None, _default(True)] = None
    """Whether the RDMA device goes into the pod as well."""
    enable_ib_kubernetes: Annotated[bool | None, _default(False)] = None
    """Whether ib-kubernetes assigns GUIDs."""
    ippools: DefaultPools | None = None
    """Default pools of this network."""


class IpoibConfig(Kube, frozen=True, kw_only=True):
    """IP over InfiniBand."""

    master: str
    """InfiniBand interface of the node."""
    ippools: DefaultPools | None = None
    """Default pools of this network."""


class Trunk(Kube, frozen=True, kw_only=True):
    """VLANs that a port carries: one, or a range."""

    min_id: VlanID | None = msgspec.field(default=None, name="minID")
    """First VLAN of a range."""
    max_id: VlanID | None = msgspec.field(default=None, name="maxID")
    """Last VLAN of a range."""
    id: VlanID | None = None
    """A single VLAN."""


class OvsConfig(Kube, frozen=True, kw_only=True):
    """Ports of an Open vSwitch bridge."""

    bridge: str
    """Name of the bridge."""
    vlan: VlanID | None = None
    """VLAN of the port; absent for none."""
    trunk: tuple[Trunk, ...] = ()
    """VLANs that the port carries."""
    device_id: str | None = msgspec.field(default=None, name="deviceID")
    """PCI address of the device that the port uses."""
    ippools: DefaultPools | None = None
    """Default pools of this network."""


class MultusConfigSpec(Kube, frozen=True, kw_only=True):
    """The plugin, and the one block of settings that belongs to it."""

    cni_type: Annotated[CNIType | None, _default("custom")] = None
    """Plugin that makes the interface. The block of the same name has its settings."""
    enable_coordinator: Annotated[bool | None, _default(True)] = None
    """Whether the plugin `coordinator` follows. With `custom` it does not."""
    disable_ipam: Annotated[bool | None, _default(False)] = msgspec.field(
        default=None, name="disableIPAM"
    )
    """Whether the configuration has no `ipam`, so that interfaces get no address."""
    coordinator: Annotated[CoordinatorSpec | None, _WITHOUT_DEFAULTS] = None
    """
    Settings of the coordinator for this network; what is absent is as in the SpiderCoordinator.
    """
    chain_cni_json_data: tuple[str, ...] | None = msgspec.field(
        default=None, name="chainCNIJsonData"
    )
    """Further plugins behind the others, each as JSON text with `type`."""
    custom_cni: str | None = msgspec.field(default=None, name="customCNI")
    """
    A whole CNI configuration as JSON text, for `custom`. Empty: the configuration of that name
    on the node.
    """
    macvlan: MasterConfig | None = None
    """Settings of `macvlan`."""
    ipvlan: MasterConfig | None = None
    """Settings of `ipvlan`."""
    vlan: VlanConfig | None = None
    """Settings of `vlan`."""
    sriov: SriovConfig | None = None
    """Settings of `sriov`."""
    ibsriov: IbSriovConfig | None = None
    """Settings of `ib-sriov`."""
    ipoib: IpoibConfig | None = None
    """Settings of `ipoib`."""
    ovs: OvsConfig | None = None
    """Settings of `ovs`."""

    @property
    def type(self) -> CNIType:
        """The plugin; an absent one means custom, as the definition's default says."""
        return self.cni_type or CNIType.CUSTOM


class SpiderMultusConfig(KubeObject, frozen=True, kw_only=True):
    """A network for pods; the controller keeps a NetworkAttachmentDefinition that says the same."""

    resource: ClassVar[Resource] = spiderpool_resource(
        "SpiderMultusConfig", "spidermultusconfigs", namespaced=True
    )

    spec: MultusConfigSpec = MultusConfigSpec()
    """What the user asks for."""
