"""
Interfaces of the node that networks stand on, made as `datapath.ifacer` plans. Functions block.

Source: Linux, include/uapi/linux/if_link.h for the numbers, drivers/net/bonding/bond_netlink.c for
the sizes of a bond's options.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address
from typing import Final

from spiderpool.datapath.ifacer import Bond, Enslave, MakeBond, MakeVlan, Remove, SetUp, Step, Value
from spiderpool.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    SpiderpoolError,
    Unsupported,
)
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.rtnetlink import (
    Message,
    Refusal,
    RouteSocket,
    attribute,
    nested,
    number,
    short_number,
    small_number,
)

MODULES: Final = {"vlan": "VLAN interfaces (module 8021q)", "bond": "bonds (module bonding)"}

VLAN_ID: Final = 1  # IFLA_VLAN_ID
BOND_MODE: Final = 1  # IFLA_BOND_MODE
ARP_IP_TARGET: Final = 8  # IFLA_BOND_ARP_IP_TARGET
AD_ACTOR_SYSTEM: Final = 26  # IFLA_BOND_AD_ACTOR_SYSTEM
# Options that are numbers, or interfaces by their index: the attribute, and how many bits it has.
BOND_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "active_slave": (2, 32),
    "miimon": (3, 32),
    "up_delay": (4, 32),
    "downdelay": (5, 32),
    "use_carrier": (6, 8),
    "arp_interval": (7, 32),
    "arp_validate": (9, 32),
    "arp_all_targets": (10, 32),
    "primary": (11, 32),
    "primary_reselect": (12, 8),
    "fail_over_mac": (13, 8),
    "xmit_hash_policy": (14, 8),
    "resend_igmp": (15, 32),
    "all_slaves_active": (17, 8),
    "min_links": (18, 32),
    "lp_interval": (19, 32),
    "packets_per_slave": (20, 32),
    "lacp_rate": (21, 8),
    "ad_select": (22, 8),
    "ad_actor_sys_prio": (24, 16),
    "ad_user_port_key": (25, 16),
    "tlb_dynamic_lb": (27, 8),
    "peer_notif_delay": (28, 32),
}
_RENDER: Final[Mapping[int, Callable[[int, int], bytes]]] = {
    8: small_number,
    16: short_number,
    32: number,
}


def apply_step(step: Step) -> None:
    """
    Carry out one step in this thread's network namespace.

    Raises:
        InvalidRequest: an option of a bond has a value that the kernel has no room for.
        AlreadyExists: an interface of that name, or that VLAN of the parent, is there.
        Unsupported: the kernel has no such interfaces.
        SpiderpoolError: an interface does not exist, or the kernel refuses; what, and why.
    """
    what, kind = _title(step)
    try:
        messages = _messages(step)
        with RouteSocket() as netlink:
            for message in messages:
                netlink.change([message])
    except Refusal as error:
        if error.code == errno.EOPNOTSUPP and kind in MODULES:
            raise Unsupported(
                f"{what}: the kernel of this node has no {MODULES[kind]}: {error.message}"
            ) from error
        if error.code == errno.EEXIST:
            raise AlreadyExists(
                f"{what}: an interface of that name, or with that VLAN number, is there"
            ) from error
        raise SpiderpoolError(f"{what}: {error.message}") from error
    except NotFound as error:
        raise SpiderpoolError(f"{what}: {error.message}") from error


def _title(step: Step) -> tuple[str, str]:
    """Return words for a failure, and the kind of a new interface."""
    match step:
        case SetUp():
            return f"interface {step.name} cannot be set up", ""
        case MakeVlan():
            return f"interface {step.name} cannot be made", "vlan"
        case MakeBond():
            return f"bond {step.bond.name} cannot be made", "bond"
        case Enslave():
            return f"interface {step.name} cannot join {step.bond}", ""
        case Remove():
            return f"interface {step.name} cannot be removed", ""


def _messages(step: Step) -> list[Message]:
    """
    Return what carries out a step, to be sent one after the other.

    Each only when those before it are done.
    """
    match step:
        case SetUp():
            return [wire.set_up(_index(step.name))]
        case MakeVlan():
            return [vlan_message(step, _index(step.parent))]
        case MakeBond():
            return [bond_message(step.bond)]
        case Enslave():
            index = _index(step.name)
            master = wire.set_master(index, _index(step.bond))
            # The bonding driver takes no interface that is up: EPERM (drivers/net/bonding,
            # bond_enslave).
            return [wire.set_up(index, up=False), master, wire.set_up(index)]
        case Remove():
            return _removal(step.name)


def _removal(name: str) -> list[Message]:
    """Return what removes an interface; nothing for one that is not there."""
    try:
        return [wire.remove_link(_index(name))]
    except NotFound:
        return []


def _index(name: str) -> int:
    """Return the index of an interface. Raises `NotFound`."""
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise NotFound(f"interface {name} does not exist") from None


def vlan_message(step: MakeVlan, parent_index: int) -> Message:
    """Return the message that makes a VLAN interface."""
    return wire.make_link(
        step.name, "vlan", short_number(VLAN_ID, step.vlan_id), parent=parent_index
    )


def bond_message(bond: Bond) -> Message:
    """
    Return the message that makes a bond; interfaces among its options are named by their index.

    Raises:
        InvalidRequest: a number is larger than the kernel's field for it.
        NotFound: an interface among the options does not exist.
    """
    options = (_option(key, value) for key, value in bond.options)
    return wire.make_link(bond.name, "bond", small_number(BOND_MODE, bond.mode), *options)


def _option(key: str, value: Value) -> bytes:
    """Render one option of a bond."""
    # arp_ip_target: a list, whose members are numbered though nobody reads the numbers
    if isinstance(value, tuple):
        return nested(
            ARP_IP_TARGET,
            *(attribute(place, IPv4Address(ip).packed) for place, ip in enumerate(value, 1)),
        )
    if key == "ad_actor_system":
        return attribute(AD_ACTOR_SYSTEM, bytes.fromhex(str(value).replace(":", "")))
    kind, bits = BOND_NUMBERS[key]
    known = _index(value) if isinstance(value, str) else value
    if known >= 1 << bits:
        raise InvalidRequest(
            f"ifacer: bond.options: {key} is {known}; the kernel takes numbers up to "
            f"{(1 << bits) - 1}"
        )
    return _RENDER[bits](kind, known)
