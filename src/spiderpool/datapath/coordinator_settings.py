"""
The coordinator's settings after merging, as decisions see them.

Source: docs/reference/coordinator.md#configuration,
docs/reference/coordinator.md#fields-of-a-spidercoordinator.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from spiderpool.addressing.sets import IPAddress, IPNetwork

DEFAULT_NIC = "eth0"
DEFAULT_HOST_TABLE = 500
DEFAULT_VETH_MTU = 1500


class Mode(enum.StrEnum):
    """How the node reaches the pod."""

    AUTO = "auto"
    UNDERLAY = "underlay"
    OVERLAY = "overlay"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class PolicyRoute:
    """A route that the administrator adds on the NIC."""

    dst: IPNetwork
    gateway: IPAddress


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """
    What one call of the coordinator is to do.

    `hijack` are pod, Service and additional CIDRs in that order. `rp_filter` None leaves it alone;
    `tx_queue_len` 0 too. `mac_prefix` is two bytes in the form `0a:1b`, or empty.
    `default_route_nic` empty: whichever NIC has it keeps it.
    """

    mode: Mode = Mode.AUTO
    default_nic: str = DEFAULT_NIC
    hijack: tuple[IPNetwork, ...] = ()
    policy_routes: tuple[PolicyRoute, ...] = ()
    tune_pod_routes: bool = True
    default_route_nic: str = ""
    host_table: int = DEFAULT_HOST_TABLE
    rp_filter: int | None = 0
    tx_queue_len: int = 0
    veth_address: IPAddress | None = None
    veth_mtu: int = DEFAULT_VETH_MTU
    mac_prefix: str = ""
