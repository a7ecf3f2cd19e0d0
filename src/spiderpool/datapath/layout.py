"""
A pod's layout when the coordinator is called for a NIC: mode, the node's link end, the table.

Source: docs/reference/coordinator.md#what-one-add-makes, docs/reference/coordinator.md#modes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, Mode
from spiderpool.datapath.plan_types import Picture, VethPair, View
from spiderpool.errors import InvalidRequest
from spiderpool.model.netns_contents import IPV4, IPV6, Address, Link, Route, Rule

VETH: Final = "veth0"
HOST_PREFIX: Final = "veth"
# what enters by veth0 is answered through it; in overlay mode the default NIC's own way out
REPLY_TABLE: Final = 100
FIRST_TABLE: Final = 101
LAST_TABLE: Final = 252  # 253 to 255 are the kernel's
_ID_LENGTH: Final = 11  # with the prefix an interface name's 15 characters
# RFC 791, RFC 8200: below it the kernel has no IP on a link
_LEAST_MTU: Final = {IPV4: 68, IPV6: 1280}

# Links whose addresses are not the node's own
# (docs/reference/coordinator.md#what-one-add-makes).
_NOT_THE_NODE: Final = re.compile(
    r"docker.*|cbr.*|dummy.*|virbr.*|lxcbr.*|veth.*|lo$|cali.*|flannel.*|kube-ipvs.*|cni.*"
    r"|vx-submariner|cilium*"
)


@dataclass(frozen=True, slots=True)
class Layout:
    """
    What holds for one call.

    `inner` is the pod's end of the pair that leads to the node (veth0, or the default NIC), `outer`
    the node's end. `veth` is the pair to be made, None when it is there. `node_ips` are the node's
    addresses, the preferred ones first. `alone` are the families of which no other NIC of the pod
    has an address: there the NIC's ways are the pod's only ones.
    """

    underlay: bool
    first: bool
    ips: tuple[Address, ...]
    inner: str
    inner_mac: str
    outer: str
    outer_mac: str
    veth: VethPair | None
    node_ips: tuple[IPAddress, ...]
    source: IPAddress | None
    alone: tuple[int, ...] = ()

    @property
    def introduced(self) -> tuple[int, ...]:
        """Families whose ways to the node and the cluster this call makes for the whole pod."""
        return self.families if self.first else self.alone

    @property
    def shared(self) -> tuple[int, ...]:
        """
        Families of which another NIC of the pod has an address too.

        There the ways have to be told apart.
        """
        return tuple(family for family in self.families if family not in self.alone)

    @property
    def families(self) -> tuple[int, ...]:
        """Families of the NIC's addresses."""
        return families_of(address.ip for address in self.ips)

    def gateway(self, family: int) -> IPAddress | None:
        """Return the node's address through which the cluster is reached."""
        return next((ip for ip in self.node_ips if ip.version == family), None)


def families_of(ips: Iterable[IPAddress]) -> tuple[int, ...]:
    """Return the families of addresses, IPv4 first."""
    return tuple(sorted({ip.version for ip in ips}))


def other_families(pod: Picture, nic: str) -> tuple[int, ...]:
    """Return the families of the pod's other NICs."""
    return families_of(address.ip for address in _of_other_nics(pod, nic))


def earlier_families(pod: Picture, nic: str, default_nic: str) -> tuple[int, ...]:
    """
    Return the families of the pod's other NICs that came before this one.

    Later NICs have tables of their own, by which they are known.

    Args:
        pod: what the pod's namespace has.
        nic: this one.
        default_nic: the pod's first NIC, which has no table of its own.
    """
    others = _of_other_nics(pod, nic)
    return families_of(
        one.ip for one in others if one.dev == default_nic or own_table(pod.rules, [one.ip]) is None
    )


def _of_other_nics(pod: Picture, nic: str) -> Iterable[Address]:
    return (
        address
        for address in pod.addresses
        if address.usable and address.dev not in {"lo", VETH, nic}
    )


def host_end_name(container_id: str) -> str:
    """Name the node's end of a container's veth pair."""
    return HOST_PREFIX + container_id[:_ID_LENGTH]


def read_layout(view: View, settings: CoordinatorSettings) -> Layout:
    """
    Decide mode and ends.

    Raises:
        InvalidRequest: this NIC or pod cannot be laid out as the mode asks.
    """
    ips = view.pod.addresses_of(view.ifname)
    if view.pod.link(view.ifname) is None:
        raise InvalidRequest(
            f"interface {view.ifname} is not in the pod; chain coordinator after the plugin that "
            "makes it"
        )
    if not ips:
        raise InvalidRequest(
            f'no usable IP addresses on "{view.ifname}"; chain coordinator after a plugin that '
            "gives it one"
        )
    mode = read_mode(view.pod, view.ifname, settings)
    families = families_of(address.ip for address in ips)
    main = view.pod.link(settings.default_nic)
    if main is None:
        raise InvalidRequest(
            f"interface {settings.default_nic} is not in the pod; the first network must make it"
        )
    layout = (
        _underlay(view, settings, ips)
        if mode is Mode.UNDERLAY
        else _overlay(view, settings, ips, main)
    )
    node_ips = node_addresses(view, families, layout.inner)
    first = [
        address.ip
        for address in view.pod.addresses_of(settings.default_nic)
        if address.ip.version == IPV4
    ]
    alone = tuple(
        family
        for family in families
        if family not in earlier_families(view.pod, view.ifname, settings.default_nic)
    )
    return replace(layout, node_ips=node_ips, source=first[0] if first else None, alone=alone)


def read_mode(pod: Picture, ifname: str, settings: CoordinatorSettings) -> Mode:
    """
    Resolve the mode `auto`.

    Args:
        pod: what the pod's namespace has; with `veth0` it is of underlay mode.
        ifname: the NIC of this call.
        settings: of the coordinator; any mode but `auto` stays.
    Source: docs/reference/coordinator.md#modes.
    """
    if settings.mode is not Mode.AUTO:
        return settings.mode
    return Mode.UNDERLAY if ifname == settings.default_nic or pod.link(VETH) else Mode.OVERLAY


def extra_nics(pod: Picture, settings: CoordinatorSettings, ifname: str) -> tuple[str, ...]:
    """
    Return the NICs that are not the pod's first, in the order in which they were made.

    Args:
        pod: what the pod's namespace has.
        settings: of the coordinator; names the first NIC.
        ifname: the NIC of this call, which is always among them.
    """
    own = {settings.default_nic, VETH, "lo"}
    return tuple(
        link.name
        for link in pod.links
        if link.name not in own and (link.shared or link.name == ifname)
    )


def _underlay(view: View, settings: CoordinatorSettings, ips: tuple[Address, ...]) -> Layout:
    first = view.ifname == settings.default_nic
    inner = view.pod.link(VETH)
    if inner is None and not first:
        raise InvalidRequest(
            f"interface {view.ifname}: the pod has no {VETH}; in underlay mode the coordinator "
            f"must run on {settings.default_nic} first"
        )
    if inner is None:
        return _with_new_pair(view, settings, ips)
    outer = _require_host_end(view, VETH)
    return Layout(True, first, ips, VETH, inner.mac, outer.name, outer.mac, None, (), None)


def _with_new_pair(view: View, settings: CoordinatorSettings, ips: tuple[Address, ...]) -> Layout:
    for family in families_of(address.ip for address in ips):
        if settings.veth_mtu < _LEAST_MTU[family]:
            raise InvalidRequest(
                f"vethMTU is {settings.veth_mtu}, IPv{family} needs {_LEAST_MTU[family]} or more"
            )
    pair = VethPair(
        host=host_end_name(view.container_id),
        pod=VETH,
        mtu=settings.veth_mtu,
        host_mac=derived_mac(view.container_id, "host"),
        pod_mac=derived_mac(view.container_id, "pod"),
    )
    return Layout(True, True, ips, VETH, pair.pod_mac, pair.host, pair.host_mac, pair, (), None)


def _overlay(
    view: View, settings: CoordinatorSettings, ips: tuple[Address, ...], inner: Link
) -> Layout:
    if view.ifname == settings.default_nic:
        raise InvalidRequest(
            f"overlay mode on {view.ifname}, the pod's first NIC; use it on additional NICs only, "
            "or auto"
        )
    if view.pod.link(VETH) is not None:
        raise InvalidRequest(
            f"overlay mode, but the pod has {VETH} of underlay mode; use one mode for all NICs of "
            "a pod"
        )
    outer = _require_host_end(view, settings.default_nic)
    first = extra_nics(view.pod, settings, view.ifname)[0] == view.ifname
    return Layout(False, first, ips, inner.name, inner.mac, outer.name, outer.mac, None, (), None)


def _require_host_end(view: View, inner: str) -> Link:
    if view.host_end is None:
        raise InvalidRequest(
            f"the other end of the pod's {inner} is not a link of this node; is {inner} a veth?"
        )
    return view.host_end


def derived_mac(container_id: str, end: str) -> str:
    """
    Return a locally administered unicast MAC, the same for each ADD of a container.

    Source: docs/reference/coordinator.md#modes (random there; set explicitly, so that no udev rule
    of the node changes it).
    """
    digest = bytearray(sha256(f"{container_id}/{end}".encode()).digest()[:6])
    digest[0] = (digest[0] | 0x02) & 0xFE
    return digest.hex(":")


def node_addresses(view: View, families: tuple[int, ...], inner: str) -> tuple[IPAddress, ...]:
    """
    Return the node's addresses that the pod is to know, each once, nearest to the pod's first.

    An address that is a gateway already stays the first: with the pod's routes in place the kernel
    may choose another.

    Args:
        view: what pod and node have now.
        families: of the pod's addresses.
        inner: the pod's end of the link to the node.
    """
    usable = [address for address in view.node.addresses if address.usable]
    known = {address.ip for address in usable}
    theirs = [
        address.ip
        for address in view.pod.addresses
        if address.usable and address.dev not in {"lo", VETH}
    ]
    found = [
        *(
            route.gateway
            for route in _sorted(view.pod.routes)
            if route.dev == inner and route.gateway in known
        ),
        *(_nearest(view, ip) for ip in theirs),
        *(address.ip for address in usable if not _NOT_THE_NODE.match(address.dev)),
    ]
    return tuple(dict.fromkeys(ip for ip in found if ip is not None and ip.version in families))


def _nearest(view: View, ip: IPAddress) -> IPAddress | None:
    """
    Return the node's address from which it reaches another.

    On a common network that one, else what the kernel says.
    """
    near = [address for address in view.node.addresses if address.usable and ip in address.network]
    if near:
        return max(near, key=lambda address: address.prefix_length).ip
    return view.sources.get(ip)


def _sorted(routes: Iterable[Route]) -> list[Route]:
    return sorted(
        routes,
        key=lambda route: (
            route.table,
            route.dst.version,
            route.dst.network_address.packed,
            repr(route),
        ),
    )


def own_table(rules: Iterable[Rule], ips: Iterable[IPAddress]) -> int | None:
    """Return the table that a rule of one of these addresses looks up."""
    mine = {(ip.version, ip) for ip in ips}
    tables: list[int] = [
        rule.table
        for rule in rules
        if rule.src is not None
        and rule.src.prefixlen == rule.src.max_prefixlen
        and (rule.family, rule.src.network_address) in mine
        and FIRST_TABLE <= rule.table <= LAST_TABLE
    ]
    return min(tables, default=None)


def free_table(
    pod: Picture, rank: int, content: Iterable[Route], *, besides: frozenset[int] = frozenset()
) -> int:
    """
    Return a table for a NIC: its rank's when nobody else uses it, else the first free one.

    Args:
        pod: what is there.
        rank: the NIC's place among the additional NICs, from 0.
        content: what will be in the table; a table with nothing else in it is free (an ADD was cut
        off).
        besides: tables that are given already.
    """
    ruled = {rule.table for rule in pod.rules} | besides
    mine = {(route.dst, route.dev, route.gateway) for route in content}
    used = {
        route.table for route in pod.routes if (route.dst, route.dev, route.gateway) not in mine
    }
    for table in (FIRST_TABLE + rank, *range(FIRST_TABLE, LAST_TABLE + 1)):
        if table <= LAST_TABLE and table not in ruled | used:
            return int(table)
    raise InvalidRequest(
        f"no free routing table in the pod: {FIRST_TABLE} to {LAST_TABLE} are in use"
    )
