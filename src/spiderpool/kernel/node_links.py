"""
Interfaces of the node that networks stand on: read, and made as `datapath.ifacer` plans.

Functions block.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Any, Final

from pyroute2.netlink import NLM_F_CREATE, NLM_F_EXCL
from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from spiderpool.datapath.ifacer import (
    Bond,
    Enslave,
    MakeBond,
    MakeVlan,
    NodeLink,
    Remove,
    SetUp,
    Step,
    Value,
)
from spiderpool.errors import SpiderpoolError, Unsupported
from spiderpool.kernel.netlink import KernelRefusal, Netlink

IFF_UP: Final = 1
# The kernel's names where they are not the option's own (include/uapi/linux/if_link.h).
ATTRIBUTES: Final = {
    "up_delay": "UPDELAY",
    "lacp_rate": "AD_LACP_RATE",
}
MODULES: Final = {"vlan": "VLAN interfaces (module 8021q)", "bond": "bonds (module bonding)"}


def read_links() -> dict[str, NodeLink]:
    """Return all interfaces of this thread's network namespace by name."""
    with Netlink() as netlink:
        found = list(netlink.dump(RTM_GETLINK, ifinfmsg()))
    names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in found}
    return {names[link["index"]]: _read(link, names) for link in found}


def _read(link: Any, names: dict[int, str]) -> NodeLink:
    info = link.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else "") or ""
    data = info.get_attr("IFLA_INFO_DATA") if kind == "vlan" else None
    return NodeLink(
        name=names[link["index"]],
        index=link["index"],
        kind=kind,
        up=bool(link["flags"] & IFF_UP),
        vlan_id=data.get_attr("IFLA_VLAN_ID") if data else None,
        parent=names.get(link.get_attr("IFLA_LINK")) if kind == "vlan" else None,
    )


def apply_step(step: Step) -> None:
    """
    Carry out one step in this thread's network namespace.

    Raises:
        Unsupported: the kernel has no such interfaces.
        SpiderpoolError: the kernel refuses; what, and why.
    """
    what, kind, act = _action(step)
    try:
        with Netlink() as netlink:
            act(netlink)
    except KernelRefusal as error:
        if error.code == errno.EOPNOTSUPP and kind in MODULES:
            raise Unsupported(
                f"{what}: the kernel of this node has no {MODULES[kind]}: {error.message}"
            ) from error
        raise SpiderpoolError(f"{what}: {error.message}") from error
    except OSError as error:
        raise SpiderpoolError(f"{what}: {error.strerror}") from error


def _action(step: Step) -> tuple[str, str, Callable[[Netlink], None]]:
    """Return words for a failure, the kind of a new interface, and what is to be done."""
    match step:
        case SetUp():
            return (
                f"interface {step.name} cannot be set up",
                "",
                lambda netlink: _set_up(netlink, step.name, up=True),
            )
        case MakeVlan():
            return (
                f"interface {step.name} cannot be made",
                "vlan",
                lambda netlink: _make_vlan(netlink, step),
            )
        case MakeBond():
            return (
                f"bond {step.bond.name} cannot be made",
                "bond",
                lambda netlink: _make(netlink, bond_message(step.bond)),
            )
        case Enslave():
            return (
                f"interface {step.name} cannot join {step.bond}",
                "",
                lambda netlink: _enslave(netlink, step),
            )
        case Remove():
            return (
                f"interface {step.name} cannot be removed",
                "",
                lambda netlink: _remove(netlink, step.name),
            )


def _set_up(netlink: Netlink, name: str, *, up: bool) -> None:
    request = ifinfmsg()
    request["index"] = socket.if_nametoindex(name)
    request["flags"], request["change"] = IFF_UP if up else 0, IFF_UP
    netlink.change(RTM_NEWLINK, 0, request)


def _remove(netlink: Netlink, name: str) -> None:
    """Remove an interface; one that is not there is no error."""
    try:
        request = ifinfmsg()
        request["index"] = socket.if_nametoindex(name)
    except OSError:
        return
    netlink.change(RTM_DELLINK, 0, request)


def _make_vlan(netlink: Netlink, step: MakeVlan) -> None:
    _make(netlink, vlan_message(step, socket.if_nametoindex(step.parent)))


def _make(netlink: Netlink, message: ifinfmsg) -> None:
    netlink.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, message)


def _enslave(netlink: Netlink, step: Enslave) -> None:
    _set_up(netlink, step.name, up=False)
    request = ifinfmsg()
    request["index"] = socket.if_nametoindex(step.name)
    request["attrs"] = [("IFLA_MASTER", socket.if_nametoindex(step.bond))]
    netlink.change(RTM_NEWLINK, 0, request)
    _set_up(netlink, step.name, up=True)


def vlan_message(step: MakeVlan, parent_index: int) -> ifinfmsg:
    """Return the message that makes a VLAN interface."""
    message = ifinfmsg()
    data = {"attrs": [("IFLA_VLAN_ID", step.vlan_id)]}
    message["attrs"] = [
        ("IFLA_IFNAME", step.name),
        ("IFLA_LINK", parent_index),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", data)]}),
    ]
    return message


def bond_message(bond: Bond) -> ifinfmsg:
    """Return the message that makes a bond; interfaces among its options are named by their index."""
    message = ifinfmsg()
    options = [(_attribute(key), _value(key, value)) for key, value in bond.options]
    data = {"attrs": [("IFLA_BOND_MODE", bond.mode), *options]}
    message["attrs"] = [
        ("IFLA_IFNAME", bond.name),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "bond"), ("IFLA_INFO_DATA", data)]}),
    ]
    return message


def _attribute(key: str) -> str:
    return f"IFLA_BOND_{ATTRIBUTES.get(key, key.upper())}"


def _value(key: str, value: Value) -> Any:
    if key in {"active_slave", "primary"} and isinstance(value, str):
        return socket.if_nametoindex(value)
    if key == "ad_actor_system" and isinstance(value, str):
        return bytes.fromhex(value.replace(":", ""))
    return value
