"""
The annotation `ipam.spidernet.io/ip`: exact addresses of a pod or of a StatefulSet's ordinals.

One NIC, eth0:

    10.6.0.10                     one address
    10.6.0.10,fd00::10            one of each family
    ["10.6.0.10-10.6.0.12", "fd00::10-fd00::12"]
                                  for the ordinals of a StatefulSet, in this order, by family

Another NIC, or several; `interface` in every item, or in none, then items belong to eth0 and the
networks in their order:

    {"interface": "net1", "ipv4": ["10.6.0.10"], "ipv6": ["fd00::10"]}
    [{"interface": "eth0", "ipv4": ["10.6.0.10"]}, {"interface": "net1", "ipv4": ["10.7.0.10"]}]

Items are addresses or ranges as in pools. A pod that belongs to no StatefulSet takes one address of
a family, so it may list one. `ips` of the meta plugin and `IP` of CNI_ARGS mean the same by NIC, in
the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.hosts import class_problem
from spiderpool.addressing.ranges import family_of, parse_range
from spiderpool.addressing.sets import AddressSet, IPAddress, address
from spiderpool.api.crd.group import ANNO_IP, ANNO_NETWORKS
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.patterns import repeated
from spiderpool.model.json_fields import Fields, kind_of, read_json
from spiderpool.model.limits import ADDRESS_ITEMS, NICS, check_count, check_text
from spiderpool.model.link_names import checked_ifname

FIRST_NIC: Final = "eth0"
EXAMPLE: Final = '10.6.0.10, ["10.6.0.10-10.6.0.12"] or [{"interface":"eth0","ipv4":["10.6.0.10"]}]'
LONGEST_LIST: Final = 65_536  # addresses of a family: more than a StatefulSet can have pods

Lists = Mapping[int, "FixedAddresses"]
"""By family."""


@dataclass(frozen=True, slots=True)
class FixedAddresses:
    """A list of addresses of one family, in the order that the user wrote; ranges stay ranges."""

    family: int
    spans: tuple[tuple[int, int], ...]

    @property
    def size(self) -> int:
        """How many addresses there are."""
        return sum(high - low + 1 for low, high in self.spans)

    def at(self, position: int) -> IPAddress:
        """Return the address at a position."""
        for low, high in self.spans:
            if position <= high - low:
                return address(self.family, low + position)
            position -= high - low + 1
        raise IndexError(position)


@dataclass(frozen=True, slots=True)
class FixedAddressItem:
    """The lists of one NIC; `interface` is empty in the mode without names."""

    interface: str
    lists: Lists


def read_fixed_addresses(text: str) -> tuple[FixedAddressItem, ...]:
    """Read the annotation; raises `InvalidRequest` with the item and what to write."""
    value = _value_of(text)
    if isinstance(value, dict):
        fields = Fields(value, "the value")
        nic = checked_ifname(fields.text("interface"), fields.where) or FIRST_NIC
        return (FixedAddressItem(nic, _lists_of(fields)),)
    if all(isinstance(item, str) for item in value):
        return (FixedAddressItem(FIRST_NIC, _by_family(value, "the value")),)
    check_count(len(value), NICS, "the list")
    check_count(sum(map(_listed, value)), ADDRESS_ITEMS, "addresses and ranges")
    items = tuple(_item(item, f"item {number}") for number, item in enumerate(value, 1))
    _check_names(items)
    return items


def choose(lists: Lists, position: int | None, where: str) -> tuple[IPAddress, ...]:
    """
    Choose a pod's addresses out of its NIC's lists, at most one of a family.

    Args:
        position: of the pod among the ordinals of its StatefulSet, from 0; None = it belongs to
        none.
        where: begins the message of an error.
    """
    return tuple(_choose_one(fixed, position, where) for _, fixed in sorted(lists.items()))


def by_family(ips: Iterable[IPAddress]) -> Lists:
    """Make lists of single addresses, as the meta plugin and CNI_ARGS bring them."""
    numbers: dict[int, list[tuple[int, int]]] = {}
    for ip in ips:
        numbers.setdefault(ip.version, []).append((int(ip), int(ip)))
    return {family: FixedAddresses(family, tuple(spans)) for family, spans in numbers.items()}


def needs_position(pod: Pod, owner: Application) -> bool:
    """Return whether a pod's exact addresses may be a list for the ordinals of a StatefulSet."""
    asks = ANNO_IP in pod.metadata.annotations or '"ips"' in pod.metadata.annotations.get(
        ANNO_NETWORKS, ""
    )
    return asks and (owner.api_version, owner.kind) == ("apps/v1", "StatefulSet")


def _choose_one(fixed: FixedAddresses, position: int | None, where: str) -> IPAddress:
    if position is None:
        if fixed.size > 1:
            raise InvalidRequest(
                f"wrong input: {where}: {fixed.size} IPv{fixed.family} addresses are listed, "
                "and this pod takes one; "
                "lists are for the ordinals of a StatefulSet"
            )
        return fixed.at(0)
    if position >= fixed.size:
        raise InvalidRequest(
            f"wrong input: {where}: {fixed.size} IPv{fixed.family} addresses are listed, "
            f"none for replica {position + 1} of the StatefulSet; list one for each"
        )
    return fixed.at(position)


def _value_of(text: str) -> dict[str, object] | list[object]:
    """Read plain addresses, or JSON."""
    check_text(text)
    if not text.strip():
        raise InvalidRequest(f"the value is empty; write {EXAMPLE}, or remove the annotation")
    if text.lstrip()[0] not in '[{"':
        return [item.strip() for item in text.split(",")]
    value = read_json(text, EXAMPLE)
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict | list):
        raise InvalidRequest(f"the value is {kind_of(value)}; write {EXAMPLE}")
    if not value:
        raise InvalidRequest(f"names no address; write {EXAMPLE}, or remove the annotation")
    return value


def _listed(item: object) -> int:
    """Count the addresses and ranges of one NIC."""
    lists = item.values() if isinstance(item, dict) else ()
    return sum(len(listed) for listed in lists if isinstance(listed, list))


def _item(value: object, where: str) -> FixedAddressItem:
    fields = Fields(value, where)
    nic = checked_ifname(fields.text("interface"), where)
    return FixedAddressItem(nic, _lists_of(fields))


def _check_names(items: tuple[FixedAddressItem, ...]) -> None:
    """Refuse names in some items only, and a name twice."""
    names = [item.interface for item in items if item.interface]
    if names and len(names) != len(items):
        raise InvalidRequest(
            'some items have an "interface" and others have none; name it in all items or in none'
        )
    twice = repeated(names)
    if twice is not None:
        raise InvalidRequest(f"interface {twice} is listed twice; list it once")


def _lists_of(fields: Fields) -> Lists:
    """Read `ipv4` and `ipv6` of one NIC."""
    lists: dict[int, FixedAddresses] = {}
    for key, family in (("ipv4", 4), ("ipv6", 6)):
        for found, fixed in _by_family(fields.texts(key) or (), f'{fields.where}: "{key}"').items():
            if found != family:
                raise InvalidRequest(
                    f'{fields.where}: "{key}" has an IPv{found} address; write it under '
                    f'"ipv{found}"'
                )
            lists[family] = fixed
    if not lists:
        raise InvalidRequest(f"{fields.where} names no address; write {EXAMPLE}")
    return lists


def _by_family(items: Iterable[object], where: str) -> Lists:
    """Read addresses and ranges, each into the list of its family."""
    items = tuple(items)
    check_count(len(items), ADDRESS_ITEMS, f"{where}: addresses and ranges")
    spans: dict[int, list[tuple[int, int]]] = {}
    for item in items:
        family, span = _span(str(item), where)
        spans.setdefault(family, []).append(span)
    for family, listed in spans.items():
        _check_list(family, listed, where)
    return {family: FixedAddresses(family, tuple(listed)) for family, listed in spans.items()}


def _span(text: str, where: str) -> tuple[int, tuple[int, int]]:
    try:
        family = family_of(text)
        span = parse_range(family, text)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error.message}") from None
    for ip in (address(family, number) for number in span):
        if words := class_problem(ip):
            raise InvalidRequest(f"{where}: {ip} can be no pod's address: {words}")
    return family, span


def _check_list(family: int, spans: list[tuple[int, int]], where: str) -> None:
    """Refuse an address that is listed twice, and lists that no StatefulSet needs."""
    size = sum(high - low + 1 for low, high in spans)
    if size > LONGEST_LIST:
        raise InvalidRequest(
            f"{where}: {size} IPv{family} addresses are listed; {LONGEST_LIST} is the most"
        )
    if AddressSet.from_spans(family, spans).size != size:
        raise InvalidRequest(f"{where}: an IPv{family} address is listed twice; list each once")
