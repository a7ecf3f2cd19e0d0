"""
What DEL removes, decided by what is there alone.

It needs neither the Pod object nor the cluster's settings.

Source: docs/reference/coordinator.md#del; the original leaves the pod's side and overlay objects on
the node to others.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

from spiderpool.addressing.sets import IPAddress
from spiderpool.datapath.coordinator_plan import MARK, MARK_PRIORITY, NODE_PRIORITY
from spiderpool.datapath.coordinator_settings import CoordinatorSettings
from spiderpool.datapath.layout import (
    FIRST_TABLE,
    LAST_TABLE,
    REPLY_TABLE,
    VETH,
    extra_nics,
    other_families,
)
from spiderpool.datapath.plan_types import Item, Picture, Plan, View, Wanted
from spiderpool.model.netns_contents import IPV4, IPV6, MAIN_TABLE, Neighbour, Route, Rule


def plan_removal(view: View, settings: CoordinatorSettings, told: Iterable[IPAddress] = ()) -> Plan:
    """
    Plan one DEL while the pod's namespace is there.

    Args:
        view: what is seen; the NIC itself may be gone.
        settings: only the name of the first NIC is looked at.
        told: the NIC's addresses by the result of ADD, for a NIC that is gone.
    Returns:
        What must go; `veth` is left out: the caller removes the pair's host end when the NIC is the
        first one.
    """
    ips = {address.ip for address in view.pod.addresses_of(view.ifname)} | set(told)
    there: set[Item] = set(_of_node(view, ips))
    if view.ifname == settings.default_nic:
        # An ADD that was cut off may have the mangle rules and not yet the rule for the mark.
        ruled = {rule.family for rule in _mark_rules(view.pod)}
        mangle_rules = (
            tuple(sorted(ruled | {ip.version for ip in ips}))
            if ruled or view.pod.link(VETH)
            else ()
        )
        return Plan(
            pod=Wanted(absent=frozenset(_reply_objects(view.pod))),
            node=Wanted(absent=frozenset(there)),
            mangle_rules=mangle_rules,
        )
    nics = extra_nics(view.pod, settings, view.ifname)
    absent, present = _own_objects(view.pod, view.ifname, ips, nics)
    inner = VETH if view.pod.link(VETH) else settings.default_nic
    if inner != VETH and not set(nics) - {view.ifname}:
        absent |= set(_ways_to_the_node(view.pod, inner, (IPV4, IPV6)))
        absent |= set(_default_copies(view.pod, inner))
    gone = {ip.version for ip in ips} - set(other_families(view.pod, view.ifname))
    absent |= set(_ways_to_the_node(view.pod, inner, gone))
    return Plan(pod=Wanted(tuple(present), frozenset(absent)), node=Wanted(absent=frozenset(there)))


def plan_fence(view: View, ip: IPAddress) -> Plan:
    """
    Plan how an address leaves a pod that is gone: nothing in it answers for the address any more.

    Links, tables and rules stay for the DEL that may come yet.
    """
    present = frozenset(address for address in view.pod.addresses if address.ip == ip)
    return Plan(pod=Wanted(absent=present), node=Wanted(absent=frozenset(_of_node(view, {ip}))))


def _of_node(view: View, ips: set[IPAddress]) -> Iterable[Item]:
    """
    Return routes and neighbours of the addresses that lead to this pod.

    The shared rule stays, as with the original.
    """
    if view.host_end is None:
        return
    tables = {rule.table for rule in view.node.rules if _is_node_rule(rule)}
    for item in view.node.items:
        match item:
            case Route() if (
                item.dev == view.host_end.name
                and item.table in tables
                and item.dst.network_address in ips
            ):
                yield item
            case Neighbour() if item.dev == view.host_end.name and item.ip in ips:
                yield item


def _is_node_rule(rule: Rule) -> bool:
    return rule.priority == NODE_PRIORITY and rule.is_unconditional


def _mark_rules(pod: Picture) -> list[Rule]:
    wanted = (REPLY_TABLE, MARK_PRIORITY, MARK)
    return [
        rule
        for rule in pod.rules
        if (rule.table, rule.priority, rule.mark) == wanted and rule.src is None
    ]


def _reply_objects(pod: Picture) -> Iterable[Item]:
    """Return what goes with the pair, but is not removed with its links."""
    yield from _mark_rules(pod)


def _own_objects(
    pod: Picture, nic: str, ips: set[IPAddress], nics: tuple[str, ...]
) -> tuple[set[Item], list[Item]]:
    """Return the NIC's own rules and tables, and the other NICs' default routes to restore."""
    mine = [rule for rule in pod.rules if _is_from(rule, ips)]
    hosts = {rule.table for rule in mine}
    guests = [rule for rule in pod.rules if rule not in mine and _is_guest(pod, rule, nic)]
    tables = hosts | {rule.table for rule in guests}
    tables |= _unruled_tables(pod, nic, nics)
    routes = [route for route in pod.routes if route.table in tables]
    back = [
        replace(route, table=MAIN_TABLE)
        for route in routes
        if route.is_default
        and route.dev not in {nic, VETH}
        and any((rule.table, rule.family) == (route.table, route.dst.version) for rule in guests)
    ]
    return {*mine, *guests, *routes}, list(back)


def _is_from(rule: Rule, ips: set[IPAddress]) -> bool:
    if (
        rule.src is None
        or rule.src.prefixlen != rule.src.max_prefixlen
        or not FIRST_TABLE <= rule.table <= LAST_TABLE
    ):
        return False
    return rule.src.network_address in ips


def _is_guest(pod: Picture, rule: Rule, nic: str) -> bool:
    """Return whether another NIC's routes had to move because this one has the default route."""
    if rule.src is None or not FIRST_TABLE <= rule.table <= LAST_TABLE:
        return False
    defaults = [
        route for route in pod.routes if route.is_default and route.dst.version == rule.family
    ]
    default_here = any(route.dev == nic and route.table == MAIN_TABLE for route in defaults)
    moved = any(route.dev != nic and route.table == rule.table for route in defaults)
    return default_here and moved


def _unruled_tables(pod: Picture, nic: str, nics: tuple[str, ...]) -> set[int]:
    """
    Return this NIC's tables that no rule looks up, as where routes are not tuned.

    A table is the NIC's by its rank among the NICs, or by the device of its routes.
    """
    ruled = {rule.table for rule in pod.rules}
    by_rank = FIRST_TABLE + nics.index(nic) if nic in nics else 0
    return {
        route.table
        for route in pod.routes
        if FIRST_TABLE <= route.table <= LAST_TABLE
        and route.table not in ruled
        and (route.dev == nic or (route.table == by_rank and route.dev not in nics))
    }


def _ways_to_the_node(pod: Picture, inner: str, families: Container[int]) -> Iterable[Item]:
    """
    Return what leads the pod's own packets of some families to the node.

    Known by the node's permanent neighbours.
    """
    nodes = {
        item
        for item in pod.neighbours
        if item.dev == inner and item.permanent and item.ip.version in families
    }
    ips = {item.ip for item in nodes}
    yield from nodes
    for route in pod.routes:
        to_node = (
            route.dst.prefixlen == route.dst.max_prefixlen and route.dst.network_address in ips
        )
        if route.dev == inner and route.table == MAIN_TABLE and (to_node or route.gateway in ips):
            yield route


def _default_copies(pod: Picture, default_nic: str) -> Iterable[Item]:
    """Return what the first additional NIC put into the default NIC's own table."""
    for route in pod.routes:
        if route.dev == default_nic and route.table == REPLY_TABLE:
            yield route
    for rule in pod.rules:
        if rule.table == REPLY_TABLE and rule.src is not None:
            yield rule
