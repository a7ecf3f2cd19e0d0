"""
What the coordinator's ADD makes of a pod and its node: a plan.

Source: docs/reference/coordinator.md#what-one-add-makes; what differs: decision 0013.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Final

from spiderpool.addressing.hosts import gateway_problem
from spiderpool.addressing.sets import IPAddress, IPNetwork
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, Mode
from spiderpool.datapath.layout import (
    FIRST_TABLE,
    LAST_TABLE,
    REPLY_TABLE,
    VETH,
    Layout,
    extra_nics,
    families_of,
    free_table,
    own_table,
    read_layout,
)
from spiderpool.datapath.plan_types import (
    Item,
    Kind,
    Picture,
    Plan,
    Setting,
    View,
    Wanted,
    host_network,
)
from spiderpool.errors import InvalidRequest
from spiderpool.model.netns_contents import (
    ANYWHERE,
    IPV4,
    IPV6,
    IPV6_METRIC,
    LINK_SCOPE,
    MAIN_TABLE,
    Address,
    Neighbour,
    Route,
    Rule,
)

MARK: Final = 0x1
MARK_PRIORITY: Final = 1000
NODE_PRIORITY: Final = 1000
RP_FILTER: Final = "net.ipv4.conf.all.rp_filter"
DISABLE_IPV6: Final = "net.ipv6.conf.all.disable_ipv6"
# a table whose number is not chosen yet; the kernel has none of that number
_PLACEHOLDER: Final = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """
    How the pod's ways out are told apart.

    `moved` is the NIC whose main routes go into the table; `sources` are whose packets look it up;
    `copied` is the NIC whose default routes are copied to table 100, looked up by its own packets.
    `families` are those of which another NIC's routes
    move: where the NIC that is to have the default route has none, the other one's is the only way
    out.

    Source: docs/reference/coordinator.md#tunepodroutes.
    """

    moved: str = ""
    families: tuple[int, ...] = (IPV4, IPV6)
    sources: tuple[IPAddress, ...] = ()
    copied: str = ""
    notes: tuple[str, ...] = ()
    others: tuple[tuple[str, tuple[IPAddress, ...]], ...] = ()


def plan_attachment(view: View, settings: CoordinatorSettings) -> Plan:
    """
    Plan one ADD.

    Raises:
        InvalidRequest: configuration and pod do not go together; what to change.
    """
    if settings.mode is Mode.DISABLED:
        return Plan()
    layout = read_layout(view, settings)
    main = main_routes(view, settings, layout)
    marked = layout.underlay and layout.first
    tuning = (
        read_tuning(view, settings, layout) if settings.tune_pod_routes and not marked else Tuning()
    )
    tables, absent = own_routes(view, settings, layout, main, tuning)
    items: list[Item] = [
        *nic_settings(view, settings, layout),
        *veth_addresses(settings, layout),
        *pod_neighbours(layout),
        *main,
        *tables.routes,
        *(reply_routes(layout) if marked else ()),
        *tables.rules,
    ]
    present: tuple[Item, ...] = (*items, *(mark_rules(layout) if marked else ()))
    policies = tuple(_left_out_policies(view, layout, settings))
    return Plan(
        veth=layout.veth,
        pod=Wanted(present, absent),
        node=plan_node(view, settings, layout),
        mangle_rules=layout.families if marked else (),
        announce=tuple(address.ip for address in layout.ips) if settings.mac_prefix else (),
        notes=(
            *tuning.notes,
            *_missing_gateways(layout),
            *_left_out(settings),
            *(text for text, _ in policies),
        ),
        left_out=tuple(text for text, nowhere in policies if nowhere),
    )


# --- settings, addresses, neighbours


def nic_settings(view: View, settings: CoordinatorSettings, layout: Layout) -> Iterable[Setting]:
    """
    Return what is set on the NIC and in the pod (steps 6 and 12 to 15).

    Args:
        view: what pod and node have now.
        settings: of the coordinator.
        layout: of the pod.
    """
    yield Setting(Kind.UP, view.ifname, str(True))
    if layout.underlay:
        yield Setting(Kind.UP, layout.inner, str(True))
    if settings.mac_prefix:
        yield Setting(Kind.MAC, view.ifname, fixed_mac(settings.mac_prefix, layout.ips[0].ip))
    if settings.tx_queue_len > 0:
        yield Setting(Kind.TX_QUEUE_LEN, view.ifname, str(settings.tx_queue_len))
    if IPV6 in layout.families:
        yield Setting(Kind.SYSCTL, DISABLE_IPV6, "0")
    if settings.rp_filter is not None:
        yield Setting(Kind.SYSCTL, RP_FILTER, str(settings.rp_filter))


def fixed_mac(prefix: str, ip: IPAddress) -> str:
    """
    Return the MAC that an address makes.

    The prefix, then the address' last four bytes.

    Source: docs/reference/coordinator.md#configuration.
    """
    return f"{prefix}:{ip.packed[-4:].hex(':')}"


def veth_addresses(settings: CoordinatorSettings, layout: Layout) -> Iterable[Address]:
    """Return veth0's address, when there is to be one."""
    ip = settings.veth_address
    if layout.underlay and layout.first and ip is not None and ip.version in layout.families:
        yield Address(VETH, ip, ip.max_prefixlen)


def pod_neighbours(layout: Layout) -> Iterable[Neighbour]:
    """
    Return the node's link-layer addresses as the pod is to know them.

    Source: docs/reference/coordinator.md#what-one-add-makes.
    """
    for ip in layout.node_ips:
        if ip.version in layout.introduced:
            yield Neighbour(ip, layout.inner, layout.outer_mac)


# --- routes


def main_routes(view: View, settings: CoordinatorSettings, layout: Layout) -> tuple[Route, ...]:
    """
    Return what the first call writes into the main table.

    Of a family that only a later NIC has, that NIC's call does it.

    Args:
        view: what pod and node have now.
        settings: of the coordinator.
        layout: of the pod.
    """
    ways = (*node_routes(layout, MAIN_TABLE), *hijack_routes(layout, settings, MAIN_TABLE))
    routes = [route for route in ways if route.dst.version in layout.introduced]
    if layout.underlay and layout.first:
        routes += policy_routes(view, layout, settings, MAIN_TABLE)
    return tuple(without_second_defaults(routes, view.pod.routes))


def node_routes(layout: Layout, table: int) -> Iterable[Route]:
    """Return a route to each address of the node."""
    for ip in layout.node_ips:
        yield _route(
            host_network(ip), layout.inner, table, src=_source(layout, ip), scope=LINK_SCOPE
        )


def hijack_routes(layout: Layout, settings: CoordinatorSettings, table: int) -> Iterable[Route]:
    """
    Return the routes to the cluster's networks through the node.

    A network of length 0 is left out: the way to everywhere is the NICs' own.

    Args:
        layout: of the pod.
        settings: `hijack` has the networks.
        table: where the routes go.
    """
    for network in _hijacked(settings):
        gateway = layout.gateway(network.version)
        if network.version in layout.families and gateway is not None:
            yield _route(
                network, layout.inner, table, gateway=gateway, src=_source(layout, gateway)
            )


def _hijacked(settings: CoordinatorSettings) -> Iterable[IPNetwork]:
    return (network for network in dict.fromkeys(settings.hijack) if network.prefixlen)


def policy_routes(
    view: View, layout: Layout, settings: CoordinatorSettings, table: int
) -> Iterable[Route]:
    """
    Return the administrator's routes of the NIC's families whose gateways are on its link.

    Settings of the whole cluster reach every NIC of a pod, and gateways are of one network.

    Args:
        view: what pod and node have now.
        layout: of the pod.
        settings: `policy_routes` has them.
        table: where the routes go.
    Source: docs/reference/coordinator.md#policyroutes.
    """
    for policy in settings.policy_routes:
        wanted = policy.dst.version in layout.families
        if wanted and gateway_refusal(view.pod, view.ifname, policy.gateway) is None:
            yield _route(policy.dst, view.ifname, table, gateway=policy.gateway)


def gateway_refusal(pod: Picture, nic: str, gateway: IPAddress) -> str | None:
    """
    Return why the kernel would refuse a gateway on a NIC, None when it would not.

    Args:
        pod: what the pod's namespace has.
        nic: name of the interface.
        gateway: its address.
    """
    if gateway.version == IPV6 and gateway.is_link_local:
        return None
    if any(address.ip == gateway for address in pod.addresses):
        return f"{gateway} is the pod's own address"
    connected = [
        route.dst
        for route in pod.routes
        if route.dev == nic and route.table == MAIN_TABLE and route.gateway is None
    ]
    networks = [*(address.network for address in pod.addresses_of(nic)), *connected]
    homes = [network for network in networks if gateway in network]
    if not homes:
        return f"{gateway} is in no network of {nic}"
    problem = gateway_problem(gateway, homes[0])
    return None if problem is None else f"{gateway} {problem}"


def _left_out_policies(
    view: View, layout: Layout, settings: CoordinatorSettings
) -> Iterable[tuple[str, bool]]:
    """Say which policy routes are left out, and whether no NIC of the pod could take them."""
    nics = {link.name for link in view.pod.links}
    for policy in settings.policy_routes:
        why = gateway_refusal(view.pod, view.ifname, policy.gateway)
        if policy.dst.version in layout.families and why is not None:
            elsewhere = any(gateway_refusal(view.pod, nic, policy.gateway) is None for nic in nics)
            what = f"policyRoutes: {policy.dst} via {policy.gateway} is left out on {view.ifname}"
            yield f"{what}: {why}", not elsewhere


def without_second_defaults(routes: Iterable[Route], there: Iterable[Route]) -> list[Route]:
    """
    Leave out default routes whose place is taken.

    The NIC's own stays; of those that are configured the first counts.

    The original ignores EEXIST there; for IPv6 two of them would share the pod's traffic.
    """
    kept: list[Route] = []
    known = [route for route in there if route.is_default]
    for route in routes:
        rivals = (
            [other for other in (*known, *kept) if other.place == route.place]
            if route.is_default
            else []
        )
        if not rivals or route in rivals:
            kept.append(route)
    return kept


def reply_routes(layout: Layout) -> Iterable[Route]:
    """
    Return the way back of what entered by veth0.

    Source: docs/reference/coordinator.md#way-back-by-veth0.
    """
    for family in layout.families:
        gateway = layout.gateway(family)
        if gateway is not None:
            yield _route(
                ANYWHERE[family],
                layout.inner,
                REPLY_TABLE,
                gateway=gateway,
                src=_source(layout, gateway),
            )


def mark_rules(layout: Layout) -> Iterable[Rule]:
    """
    Return the rules that lead there. They are made last, after the mangle rules.

    They tell that all is done.
    """
    for family in layout.families:
        yield Rule(family, REPLY_TABLE, MARK_PRIORITY, mark=MARK)


def _source(layout: Layout, towards: IPAddress) -> IPAddress | None:
    """IPv6 routes never carry one (step 17)."""
    return layout.source if towards.version == IPV4 else None


def _route(
    dst: IPNetwork,
    dev: str,
    table: int,
    *,
    gateway: IPAddress | None = None,
    src: IPAddress | None = None,
    scope: int = 0,
    onlink: bool = False,
) -> Route:
    """Make a route as the kernel will show it."""
    if dst.version == IPV6:
        return Route(dst, dev, table, gateway, src, 0, IPV6_METRIC, onlink)
    return Route(dst, dev, table, gateway, src, scope, 0, onlink)


def _left_out(settings: CoordinatorSettings) -> Iterable[str]:
    for network in settings.hijack:
        if not network.prefixlen:
            halves = " and ".join(str(half) for half in network.subnets())
            yield (
                f"hijackCIDR {network} is left out, the pod keeps its default route; to send all "
                f"by the node write {halves}"
            )


def _missing_gateways(layout: Layout) -> Iterable[str]:
    for family in layout.families:
        if layout.gateway(family) is None:
            yield (
                f"the node has no IPv{family} address: the cluster's IPv{family} networks are not "
                "reached through the node"
            )


# --- the NIC's own table


@dataclass(frozen=True, slots=True)
class Tables:
    """Routes of the NICs' own tables, and the rules that look them up."""

    routes: tuple[Route, ...] = ()
    rules: tuple[Rule, ...] = ()


def read_tuning(view: View, settings: CoordinatorSettings, layout: Layout) -> Tuning:
    """
    Decide which NIC's routes move into a table of their own.

    Args:
        view: what pod and node have now.
        settings: `default_route_nic` keeps its routes in the main table.
        layout: of the pod.
    Raises:
        InvalidRequest: the NIC that is to have the default route is not in the pod.

    Source: docs/reference/coordinator.md#tunepodroutes.
    """
    wanted = settings.default_route_nic
    # Of a family that it alone has, there is nothing to tell its routes apart from.
    current = tuple(address.ip for address in layout.ips if address.ip.version in layout.shared)
    keeper = next(iter(_owners_of_default(view, wanted, layout.families)), None)
    if wanted and view.pod.link(wanted) is None:
        raise InvalidRequest(
            f"podDefaultRouteNIC: {wanted} don't exist in pod while {view.ifname} is added; "
            "name the first NIC, or the first additional one"
        )
    if keeper is None and _has_second_way(view, layout, settings, current):
        return Tuning(moved=view.ifname, sources=current)
    if keeper is None:
        return Tuning(
            notes=("no NIC of the pod has a default route: all routes stay in the main table",)
        )
    theirs = _ips_of(view.pod, keeper, layout.families)
    ways = _families_of_default(view.pod, wanted)
    if wanted in {"", keeper} or not ways:
        copied = keeper if not layout.underlay and layout.first else ""
        note = (
            f"{wanted} is to have the default route and has none: {keeper} keeps it; give {wanted} "
            "a pool with a gateway"
        )
        return Tuning(
            moved=view.ifname,
            sources=current,
            copied=copied,
            notes=() if wanted in {"", keeper} else (note,),
        )
    theirs = tuple(ip for ip in theirs if ip.version in ways)
    notes = tuple(
        f"{wanted} is to have the default route and has none of IPv{family}: {keeper} keeps it; "
        f"give {wanted} an IPv{family} pool with a gateway"
        for family in _families_of_default(view.pod, keeper)
        if family not in ways
    )
    if wanted == view.ifname:
        # Of two NICs that have a family each, both have a default route to move.
        more = tuple(
            (nic, _ips_of(view.pod, nic, ways))
            for nic in _owners_of_default(view, wanted, ways)
            if nic != keeper
        )
        return Tuning(moved=keeper, families=ways, sources=theirs, others=more, notes=notes)
    # Both leave the main table to the third NIC; the original moves one of them under the other's
    # rule.
    others = ((keeper, theirs),)
    return Tuning(moved=view.ifname, families=ways, sources=current, others=others, notes=notes)


def _has_second_way(
    view: View, layout: Layout, settings: CoordinatorSettings, ips: Iterable[IPAddress]
) -> bool:
    """
    Return whether this NIC and another have ways to one destination by gateways of their own.

    It counts, too, that an earlier try of this ADD told them apart.
    """
    if own_table(view.pod.rules, ips) is not None:
        return True
    nics = {settings.default_nic, *extra_nics(view.pod, settings, view.ifname)}
    ways = [
        route
        for route in view.pod.routes
        if route.table == MAIN_TABLE
        and route.dev in nics
        and route.gateway not in {None, *layout.node_ips}
        and not route.is_default
    ]
    mine = {route.dst for route in ways if route.dev == view.ifname}
    return any(route.dst in mine for route in ways if route.dev != view.ifname)


def _families_of_default(pod: Picture, nic: str) -> tuple[int, ...]:
    """Return the families of which a NIC has a default route in the main table."""
    return families_of(
        route.dst.network_address
        for route in pod.routes
        if route.is_default and route.dev == nic and route.table == MAIN_TABLE
    )


def _owners_of_default(view: View, wanted: str, families: tuple[int, ...]) -> Iterable[str]:
    """
    Return the other NICs with a default route of one of these families.

    One that an earlier try of this ADD moved away counts.
    """
    defaults = [
        route for route in view.pod.routes if route.is_default and route.dst.version in families
    ]
    for link in view.pod.links:
        if link.name in {"lo", view.ifname}:
            continue
        tables = {MAIN_TABLE}
        if wanted == view.ifname:
            moved_to = own_table(view.pod.rules, _ips_of(view.pod, link.name, families))
            tables |= {moved_to} if moved_to is not None else set()
        if any(route.dev == link.name and route.table in tables for route in defaults):
            yield link.name


def _ips_of(
    pod: Picture, nic: str, families: Iterable[int] = (IPV4, IPV6)
) -> tuple[IPAddress, ...]:
    return tuple(address.ip for address in pod.addresses_of(nic) if address.ip.version in families)


def own_routes(
    view: View,
    settings: CoordinatorSettings,
    layout: Layout,
    main: tuple[Route, ...],
    tuning: Tuning,
) -> tuple[Tables, frozenset[Item]]:
    """
    Return what goes into own tables, and the main table's default routes that it replaces.

    Args:
        view: what pod and node have now.
        settings: of the coordinator.
        layout: of the pod.
        main: the routes that this call writes into the main table.
        tuning: which NIC's routes move.
    """
    if layout.underlay and layout.first:
        # The original fills table 101 here too; no rule looks there (decision 0013).
        return Tables(), frozenset()
    base = list(node_routes(layout, _PLACEHOLDER))
    if not layout.first:
        base += hijack_routes(layout, settings, _PLACEHOLDER)
    base += policy_routes(view, layout, settings, _PLACEHOLDER)
    # What the NIC has no address of is none of its business: a pod's other family keeps its way
    # out.
    known = {route for route in view.pod.routes | set(main) if route.dst.version in layout.families}
    found = own_table(view.pod.rules, tuning.sources)
    families = layout.shared if tuning.moved == view.ifname else tuning.families
    moved = [
        route for route in moved_routes(known, tuning.moved, found) if route.dst.version in families
    ]
    rank = extra_nics(view.pod, settings, view.ifname).index(view.ifname)
    table = found or free_table(view.pod, rank, [*base, *moved])
    base = without_second_defaults(base, moved)
    routes = [replace(route, table=table) for route in _in_order([*base, *moved])]
    rules = [_from(ip, table) for ip in tuning.sources]
    leaving = {tuning.moved: families}
    if tuning.copied:
        copies = [
            replace(route, table=REPLY_TABLE)
            for route in moved_routes(known, tuning.copied, None)
            if route.is_default
        ]
        routes += copies
        rules += [
            _from(ip, REPLY_TABLE)
            for ip in _ips_of(view.pod, tuning.copied, {route.dst.version for route in copies})
        ]
    given = {table}
    for nic, ips in tuning.others:
        theirs = [
            route
            for route in moved_routes(known, nic, own_table(view.pod.rules, ips))
            if route.dst.version in tuning.families
        ]
        number = own_table(view.pod.rules, ips) or free_table(
            view.pod, rank + 1, theirs, besides=frozenset(given)
        )
        given.add(number)
        routes += [replace(route, table=number) for route in _in_order(theirs)]
        rules += [_from(ip, number) for ip in ips]
        leaving[nic] = tuning.families
    defaults = {
        route for route in known & view.pod.routes if route.table == MAIN_TABLE and route.is_default
    }
    absent = {route for route in defaults if route.dst.version in leaving.get(route.dev, ())}
    absent -= _only_ways(defaults, absent)
    if tuning.moved:
        nics = {settings.default_nic, *extra_nics(view.pod, settings, view.ifname)}
        keepers = {
            (route.dst.version, route.dev)
            for route in (view.pod.routes - absent) | set(main)
            if route.is_default and route.table == MAIN_TABLE
        }
        ways = [
            route
            for route in (*view.pod.routes, *routes)
            if route.dev in nics and route.gateway not in layout.node_ips
        ]
        absent |= second_ways(ways, keepers) & view.pod.routes
    return Tables(tuple(dict.fromkeys(routes)), tuple(rules)), frozenset(absent)


def _only_ways(defaults: Iterable[Route], absent: Container[Route]) -> set[Route]:
    """Return the default routes that would leave the pod without one of their family."""
    kept = {route.dst.version for route in defaults if route not in absent}
    return {route for route in defaults if route.dst.version not in kept}


def second_ways(ways: Iterable[Route], keepers: Container[tuple[int, str]]) -> set[Route]:
    """
    Return the main table's routes by a gateway to destinations that several NICs have ways to.

    Which of them a packet took would be chance. The NIC that has the default route keeps its own,
    unless one that has no table of its own has another; each of the others has its own in its
    table, where what comes from its address looks it up.

    Args:
        ways: routes of the NICs, as they are and as they will be.
        keepers: family and NIC of each default route that stays in the main table.

    Source: docs/reference/coordinator.md#tunepodroutes.
    """
    found = [route for route in ways if route.gateway is not None and not route.is_default]
    own = [route for route in found if FIRST_TABLE <= route.table <= LAST_TABLE]
    main = [route for route in found if route.table == MAIN_TABLE]
    aside = {(route.dst, route.dev, route.gateway) for route in own}
    nics: dict[IPNetwork, set[str]] = {}
    for route in (*own, *main):
        nics.setdefault(route.dst, set()).add(route.dev)
    here = {route.dst for route in main if (route.dst, route.dev, route.gateway) not in aside}
    return {
        route
        for route in main
        if len(nics[route.dst]) > 1
        and (route.dst in here or (route.dst.version, route.dev) not in keepers)
        and (route.dst, route.dev, route.gateway) in aside
    }


def moved_routes(known: Iterable[Route], nic: str, table: int | None) -> list[Route]:
    """
    Return a NIC's routes as they look in a table of their own.

    Metric, protocol and, for IPv6, the source do not come along.

    Args:
        known: routes of the pod.
        nic: whose routes move.
        table: the table to which some moved already; None = none did.
    Source: docs/reference/coordinator.md#tunepodroutes, docs/reference/coordinator.md#layouts.
    """
    tables = {MAIN_TABLE, table}
    return [
        _route(
            route.dst,
            nic,
            _PLACEHOLDER,
            gateway=route.gateway,
            src=route.src if route.dst.version == IPV4 else None,
            scope=route.scope,
            onlink=route.onlink,
        )
        for route in _in_order(known)
        if route.dev == nic
        and route.table in tables
        and not (route.dst.is_link_local and route.dst.version == IPV6)
    ]


def _in_order(routes: Iterable[Route]) -> list[Route]:
    """Sort so that what a gateway needs to be reached comes before it."""
    return sorted(
        dict.fromkeys(routes),
        key=lambda route: (
            route.gateway is not None,
            -route.dst.prefixlen,
            route.table,
            repr(route),
        ),
    )


def _from(ip: IPAddress, table: int) -> Rule:
    return Rule(ip.version, table, src=host_network(ip))


# --- the node


def plan_node(view: View, settings: CoordinatorSettings, layout: Layout) -> Wanted:
    """
    Return what the node needs to reach the NIC's addresses through the veth pair.

    Args:
        view: what pod and node have now.
        settings: `host_table` gets the routes.
        layout: of the pod.
    Source: docs/reference/coordinator.md#what-one-add-makes.
    """
    ips = [address.ip for address in layout.ips]
    rules = [Rule(family, settings.host_table, NODE_PRIORITY) for family in layout.families]
    neighbours = [Neighbour(ip, layout.outer, layout.inner_mac) for ip in ips]
    routes = [
        _route(host_network(ip), layout.outer, settings.host_table, scope=LINK_SCOPE) for ip in ips
    ]
    stale: set[Item] = {
        item for item in view.node.neighbours if item.ip in ips and item.dev != layout.outer
    }
    mine = {host_network(ip) for ip in ips}
    stale |= {
        route
        for route in view.node.routes
        if route.table == settings.host_table and route.dst in mine and route.dev != layout.outer
    }
    return Wanted((*rules, *neighbours, *routes), frozenset(stale))
