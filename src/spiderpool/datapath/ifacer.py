"""
What `ifacer` makes on a node: a bond of several interfaces, a VLAN on one.

Pure; the kernel's part is `kernel.node_links`.

What it made stays: pods of other networks may be on it, and a node that starts again makes it again
with the first pod.
Source: docs/reference/networks.md#ifacer; kernel, Documentation/networking/bonding.rst. Where ours
differs, decision 0014.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

import msgspec

from spiderpool.errors import InvalidRequest
from spiderpool.model.netns_contents import Link

BOND_NAME: Final = "sp_bond0"
LARGEST_VLAN: Final = 4094  # IEEE 802.1Q
LARGEST_MODE: Final = 6  # balance-alb
NAME_BYTES: Final = 15  # the kernel's IFNAMSIZ without its end mark

MAC: Final = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")

# The words that the kernel's own interface has for numbers, by option.
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ad_select": ("stable", "bandwidth", "count"),
    "arp_validate": ("none", "active", "backup", "all", "filter", "filter_active", "filter_backup"),
    "arp_all_targets": ("any", "all"),
    "fail_over_mac": ("none", "active", "follow"),
    "lacp_rate": ("slow", "fast"),
    "primary_reselect": ("always", "better", "failure"),
    "xmit_hash_policy": ("layer2", "layer3+4", "layer2+3", "encap2+3", "encap3+4", "vlan+srcmac"),
}
NUMBERS: Final = frozenset(
    {
        "ad_actor_sys_prio",
        "ad_user_port_key",
        "all_slaves_active",
        "arp_interval",
        "downdelay",
        "lp_interval",
        "miimon",
        "min_links",
        "packets_per_slave",
        "peer_notif_delay",
        "resend_igmp",
        "tlb_dynamic_lb",
        "up_delay",
        "use_carrier",
    }
)
INTERFACES: Final = frozenset({"active_slave", "primary"})
OPTIONS: Final = NUMBERS | INTERFACES | WORDS.keys() | {"ad_actor_system", "arp_ip_target"}

Value = int | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bond:
    """A bond: options by the original's names, each once."""

    name: str
    mode: int
    options: tuple[tuple[str, Value], ...] = ()


@dataclass(frozen=True, slots=True)
class InterfaceRequest:
    """What the configuration asks for; VLAN 0 is none."""

    interfaces: tuple[str, ...]
    vlan_id: int = 0
    bond: Bond | None = None


@dataclass(frozen=True, slots=True)
class SetUp:
    """Set an interface up."""

    name: str


@dataclass(frozen=True, slots=True)
class MakeVlan:
    """Make a VLAN interface."""

    name: str
    parent: str
    vlan_id: int


@dataclass(frozen=True, slots=True)
class MakeBond:
    """Make a bond."""

    bond: Bond


@dataclass(frozen=True, slots=True)
class Enslave:
    """Put an interface into a bond: the kernel takes only one that is down."""

    name: str
    bond: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove an interface that was made; those in a bond are down after that."""

    name: str


Step = SetUp | MakeVlan | MakeBond | Enslave | Remove


class _BondConfig(msgspec.Struct):
    name: str = ""
    mode: int = 0
    options: str = ""


class _Config(msgspec.Struct):
    interfaces: tuple[str, ...] = ()
    vlan_id: int = msgspec.field(default=0, name="vlanID")
    bond: _BondConfig | None = None


def read_interface_request(config: Mapping[str, Any]) -> InterfaceRequest:
    """
    Read the plugin's configuration.

    Raises:
        InvalidRequest: a key has another type or value than it may have; which, and what it may be.
    """
    try:
        found = msgspec.convert(config, _Config)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"ifacer: {error}") from None
    if not found.interfaces or not all(found.interfaces):
        raise InvalidRequest("ifacer: interfaces needs at least one name, and none may be empty")
    if len(set(found.interfaces)) < len(found.interfaces):
        raise InvalidRequest(f"ifacer: interfaces names one twice: {', '.join(found.interfaces)}")
    if not 0 <= found.vlan_id <= LARGEST_VLAN:
        raise InvalidRequest(
            f"ifacer: vlanID is {found.vlan_id}; it must be 0 (none) to {LARGEST_VLAN}"
        )
    bond = _read_bond(found.bond) if found.bond is not None and len(found.interfaces) > 1 else None
    interface_request = InterfaceRequest(found.interfaces, found.vlan_id, bond)
    if (name := vlan_name(interface_request)) and len(name.encode()) > NAME_BYTES:
        raise InvalidRequest(
            f"ifacer: interface name {name} has {len(name.encode())} bytes; the kernel takes "
            f"{NAME_BYTES}"
        )
    return interface_request


def _read_bond(found: _BondConfig) -> Bond:
    """Read the bond."""
    if not 0 <= found.mode <= LARGEST_MODE:
        raise InvalidRequest(f"ifacer: bond.mode is {found.mode}; it must be 0 to {LARGEST_MODE}")
    name = found.name or BOND_NAME
    if len(name.encode()) > NAME_BYTES:
        raise InvalidRequest(
            f"ifacer: bond.name {name} has {len(name.encode())} bytes; the kernel takes "
            f"{NAME_BYTES}"
        )
    return Bond(name, found.mode, read_options(found.options))


def read_options(text: str) -> tuple[tuple[str, Value], ...]:
    """
    Read a bond's options, `key=value` joined by semicolons; blanks around either do not matter.

    A number of 0 says nothing, as in the original.

    Raises:
        InvalidRequest: an entry is malformed or unknown, or its value is none of those that it may
        have.
    """
    options: dict[str, Value] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = (part.strip() for part in entry.partition("="))
        if not equals or not key or "=" in value:
            raise InvalidRequest(
                f"ifacer: bond.options has {entry!r}; write key=value, several joined by ';'"
            )
        if key not in OPTIONS:
            raise InvalidRequest(
                f"ifacer: bond.options: {key} is unknown; known are {', '.join(sorted(OPTIONS))}"
            )
        options[key] = _read_value(key, value)
    return tuple((key, value) for key, value in options.items() if value not in (0, "", ()))


def _read_value(key: str, text: str) -> Value:
    """Read one value."""
    if key == "arp_ip_target":
        return _read_addresses(text)
    if key == "ad_actor_system" and not MAC.fullmatch(text):
        raise InvalidRequest(
            f"ifacer: bond.options: ad_actor_system is {text!r}; write a MAC such as "
            "02:00:00:00:00:01"
        )
    if key in WORDS and text in WORDS[key]:
        return WORDS[key].index(text)
    if text.isdecimal():
        return int(text)
    if key in NUMBERS or key in WORDS:
        words = f" or one of {', '.join(WORDS[key])}" if key in WORDS else ""
        raise InvalidRequest(f"ifacer: bond.options: {key} is {text!r}; write a number{words}")
    return text


def _read_addresses(text: str) -> tuple[str, ...]:
    """Read a list of IPv4 addresses: JSON, or one address alone."""
    try:
        found = msgspec.json.decode(text, type=tuple[str, ...]) if text.startswith("[") else (text,)
        return tuple(str(IPv4Address(one)) for one in found)
    except (msgspec.DecodeError, ValueError):
        raise InvalidRequest(
            f'ifacer: bond.options: arp_ip_target is {text!r}; write ["10.6.0.1"]'
        ) from None


def vlan_name(interface_request: InterfaceRequest) -> str:
    """Name the VLAN interface; empty when there is to be none."""
    base = _base(interface_request)
    return f"{base}.{interface_request.vlan_id}" if base and interface_request.vlan_id else ""


def _base(interface_request: InterfaceRequest) -> str:
    """Name the interface that a VLAN would be on; several interfaces without a bond have none."""
    if len(interface_request.interfaces) == 1:
        return interface_request.interfaces[0]
    return interface_request.bond.name if interface_request.bond is not None else ""


def plan_steps(interface_request: InterfaceRequest, links: Mapping[str, Link]) -> list[Step]:
    """
    Decide what is missing on a node; nothing when all is there.

    Args:
        interface_request: what is asked for.
        links: the node's interfaces by name.
    Raises:
        InvalidRequest: an interface does not exist, a name belongs to something else, or the VLAN
        has another name.
    """
    steps = (
        _bond_steps(interface_request.bond, interface_request.interfaces, links)
        if interface_request.bond is not None
        else []
    )
    return steps + _vlan_steps(interface_request, links)


def undo_steps(done: Sequence[Step], failed: Step, links: Mapping[str, Link]) -> list[Step]:
    """
    Return the steps that undo those before a failed one.

    A bond without its interfaces must not look complete.

    Args:
        done: what was carried out.
        failed: the step after it. An interface that could not be made is not ours; one that could
        not join may be down.
        links: the node's interfaces before all of it.
    """
    made = [
        step.name if isinstance(step, MakeVlan) else step.bond.name
        for step in done
        if isinstance(step, MakeVlan | MakeBond)
    ]
    slaves = [
        step.name for step in (*done, failed) if isinstance(step, Enslave) and links[step.name].up
    ]
    return [*map(Remove, reversed(made)), *map(SetUp, slaves)]


def _bond_steps(bond: Bond, interfaces: tuple[str, ...], links: Mapping[str, Link]) -> list[Step]:
    """Make a bond, or see that it is up."""
    there = links.get(bond.name)
    if there is not None:
        if there.kind != "bond":
            raise InvalidRequest(
                f"ifacer: interface {bond.name} exists and is no bond but "
                f"{there.kind or 'a device'}"
            )
        return [] if there.up else [SetUp(bond.name)]
    slaves = [_need(name, links).name for name in interfaces]
    return [MakeBond(bond), *(Enslave(name, bond.name) for name in slaves), SetUp(bond.name)]


def _vlan_steps(interface_request: InterfaceRequest, links: Mapping[str, Link]) -> list[Step]:
    """Make a VLAN interface, or see that it is up."""
    name, base = vlan_name(interface_request), _base(interface_request)
    if not name:
        return []
    for link in links.values() if base in links else ():
        if (link.vlan_id, link.peer) == (
            interface_request.vlan_id,
            links[base].index,
        ) and link.name != name:
            raise InvalidRequest(
                "ifacer: cannot have multiple different vlan interfaces with the same vlanId "
                f"{interface_request.vlan_id} on node at the same time: the one of {base} is "
                f"{link.name}"
            )
    there = links.get(name)
    if there is not None and there.kind == "vlan" and there.vlan_id != interface_request.vlan_id:
        raise InvalidRequest(
            f"ifacer: interface {name} exists and is VLAN {there.vlan_id}, not "
            f"{interface_request.vlan_id}"
        )
    if there is not None:
        return [] if there.up else [SetUp(name)]
    # by the steps before these, which set it up too
    made_now = interface_request.bond is not None and base not in links
    parent: list[Step] = [] if made_now or _need(base, links).up else [SetUp(base)]
    return [*parent, MakeVlan(name, base, interface_request.vlan_id), SetUp(name)]


def _need(name: str, links: Mapping[str, Link]) -> Link:
    """Return an interface that must be there."""
    if name not in links:
        raise InvalidRequest(
            f"ifacer: interface {name} does not exist on this node; it has "
            f"{', '.join(sorted(links)) or 'none'}"
        )
    return links[name]
