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
from spiderpool.api.crd.group import spiderpool_resource
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
    ipv6: tuple[str, ...] = ()
    match_master_subnet: Annotated[bool | None, _default(False)] = None


class Bond(Kube, frozen=True, kw_only=True):
    """A bond that is made of several masters."""

    name: str
    mode: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_BOND_MODE)]
    options: str | None = None


class MasterConfig(Kube, frozen=True, kw_only=True):
    """Interfaces on a node's interface."""

    master: tuple[str, ...]
    mtu: Annotated[Amount | None, _default(0)] = None
    vlan_id: VlanID | None = msgspec.field(default=None, name="vlanID")
    bond: Bond | None = None
    rdma_resource_name: str | None = None
    ippools: DefaultPools | None = None


class VlanConfig(MasterConfig, frozen=True, kw_only=True):
    """VLAN interfaces on a node's interface."""

    vlan_mode: Annotated[VlanMode | None, _default("manual")] = None


class SriovConfig(Kube, frozen=True, kw_only=True):
    """Virtual functions of an SR-IOV device."""

    resource_name: str
    vlan_id: VlanID | None = msgspec.field(default=None, name="vlanID")
    mtu: Annotated[Amount | None, _default(0)] = None
    min_tx_rate_mbps: Amount | None = msgspec.field(default=None, name="minTxRateMbps")
    max_tx_rate_mbps: Amount | None = msgspec.field(default=None, name="maxTxRateMbps")
    rdma_isolation: Annotated[bool | None, _default(False)] = None
    ippools: DefaultPools | None = None


class IbSriovConfig(Kube, frozen=True, kw_only=True):
    """Virtual functions of an InfiniBand device."""

    resource_name: str
    pkey: str | None = None
    link_state: Annotated[LinkState | None, _default("enable")] = None
    rdma_isolation: Annotated[bool | None, _default(True)] = None
    enable_ib_kubernetes: Annotated[bool | None, _default(False)] = None
    ippools: DefaultPools | None = None


class IpoibConfig(Kube, frozen=True, kw_only=True):
    """IP over InfiniBand."""

    master: str
    ippools: DefaultPools | None = None


class Trunk(Kube, frozen=True, kw_only=True):
    """VLANs that a port carries: one, or a range."""

    min_id: VlanID | None = msgspec.field(default=None, name="minID")
    max_id: VlanID | None = msgspec.field(default=None, name="maxID")
    id: VlanID | None = None


class OvsConfig(Kube, frozen=True, kw_only=True):
    """Ports of an Open vSwitch bridge."""

    bridge: str
    vlan: VlanID | None = None
    trunk: tuple[Trunk, ...] = ()
    device_id: str | None = msgspec.field(default=None, name="deviceID")
    ippools: DefaultPools | None = None


class MultusConfigSpec(Kube, frozen=True, kw_only=True):
    """The plugin, and the one block of settings that belongs to it."""

    cni_type: Annotated[CNIType | None, _default("custom")] = None
    enable_coordinator: Annotated[bool | None, _default(True)] = None
    disable_ipam: Annotated[bool | None, _default(False)] = msgspec.field(
        default=None, name="disableIPAM"
    )
    coordinator: CoordinatorSpec | None = None
    chain_cni_json_data: Annotated[
        tuple[str, ...] | None, msgspec.Meta(description="further plugins, each as JSON text")
    ] = msgspec.field(default=None, name="chainCNIJsonData")
    custom_cni: Annotated[
        str | None, msgspec.Meta(description="a whole CNI configuration as JSON text")
    ] = msgspec.field(default=None, name="customCNI")
    macvlan: MasterConfig | None = None
    ipvlan: MasterConfig | None = None
    vlan: VlanConfig | None = None
    sriov: SriovConfig | None = None
    ibsriov: IbSriovConfig | None = None
    ipoib: IpoibConfig | None = None
    ovs: OvsConfig | None = None

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
