"""
What a pod asks for: annotations, namespace and CNI configuration become one `PodRequest`.

The first source that says something decides alone; families are never merged over sources.
Which pools the request may have is decided in `selection`.

Source: docs/reference/selection.md#sources.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import TypeVar

from spiderpool.addressing.hosts import next_hop_problem
from spiderpool.addressing.ranges import parse_address, parse_network
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.group import (
    ANNO_DEFAULT_NETWORK,
    ANNO_DEFAULT_ROUTE_NIC,
    ANNO_IP,
    ANNO_IPPOOL,
    ANNO_IPPOOLS,
    ANNO_NETWORKS,
    ANNO_NS_DEFAULT_IPV4,
    ANNO_NS_DEFAULT_IPV6,
    ANNO_ROUTES,
    ANNO_SUBNET,
    ANNO_SUBNETS,
)
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.core import Namespace, Pod
from spiderpool.configuration.config import Features
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.exact_addresses import (
    FixedAddressItem,
    Lists,
    by_family,
    choose,
    read_fixed_addresses,
)
from spiderpool.ipam.patterns import repeated
from spiderpool.ipam.subnet_request import (
    SubnetRequest,
    read_automatic_request,
    read_subnets,
    wants_subnets,
)
from spiderpool.model.json_fields import Fields, kind_of, read_json, read_objects
from spiderpool.model.limits import ROUTES, check_patterns
from spiderpool.model.link_names import checked_ifname
from spiderpool.model.network_selection import (
    NetworkSelection,
    nic_name,
    parse_default_network,
    parse_networks,
)

T = TypeVar("T")
# family -> names of pools, or wildcards; only families that are wanted and enabled
Patterns = Mapping[int, tuple[str, ...]]


class Source(enum.StrEnum):
    """Where the names of pools come from."""

    SUBNETS = f"annotation {ANNO_SUBNETS}"
    SUBNET = f"annotation {ANNO_SUBNET}"
    IPPOOLS = f"annotation {ANNO_IPPOOLS}"
    IPPOOL = f"annotation {ANNO_IPPOOL}"
    NAMESPACE = "annotations of the namespace"
    CNI = "CNI configuration"
    DEFAULT = "cluster default pools"


@dataclass(frozen=True, slots=True)
class Request:
    """
    What a CNI call brings along.

    `nic`: the interface that it is for. `network`: name of the CNI network. `ips`: exact addresses
    wanted (`IP` of CNI_ARGS, `ips` of runtimeConfig). `master_addresses`: of the node's interface
    below `nic`, read only with `match_master_subnet`; None if there is no such interface. The rest
    is the plugin's own configuration.
    """

    nic: str
    default_ipv4: tuple[str, ...] = ()
    default_ipv6: tuple[str, ...] = ()
    clean_gateway: bool = False
    match_master_subnet: bool = False
    network: str | None = None
    ips: tuple[IPAddress, ...] = ()
    container_id: str = ""
    master_addresses: tuple[IPAddress, ...] | None = None


@dataclass(frozen=True, slots=True)
class NicRequest:
    """
    What one NIC asks for.

    `patterns` is None where the cluster's default pools are asked for; a family without a key is
    not asked for. Of automatic pools they name the subnet. `ips`: exact addresses, at most one of a
    family; a family that has none is free.
    """

    nic: str
    source: Source
    patterns: Patterns | None
    clean_gateway: bool = False
    match_master_subnet: bool = False
    ips: tuple[IPAddress, ...] = ()

    def ips_of(self, family: int) -> tuple[IPAddress, ...]:
        """Return the exact addresses wanted of a family."""
        return tuple(ip for ip in self.ips if ip.version == family)


@dataclass(frozen=True, slots=True)
class PodRequest:
    """
    What a call asks for: `nic` is the caller's.

    Annotation `ippools` asks for the other NICs of the pod at once.
    """

    nic: str
    nics: tuple[NicRequest, ...]
    routes: tuple[Route, ...]

    @property
    def source(self) -> Source:
        """Where the names of pools come from."""
        return self.nics[0].source


def read_pod_request(
    pod: Pod,
    namespace: Namespace | None,
    request: Request,
    features: Features,
    position: int | None = None,
) -> PodRequest:
    """
    Read what a pod asks for on its NICs.

    Args:
        pod: its annotations come first.
        namespace: the pod's; its annotations come next. None = unknown, which names no pool.
        request: what the CNI configuration and the call ask for; it comes last.
        features: the switches of the configuration.
        position: of the pod among the ordinals of its StatefulSet, for lists of exact addresses.
    Returns:
        The caller's NIC, and with `ippools` all NICs that the annotation lists.

    Raises:
        InvalidRequest: an annotation cannot be read; names it, the item and what to write.
    """
    annotations = pod.metadata.annotations
    _parsed(annotations, ANNO_DEFAULT_ROUTE_NIC, _read_nic)
    routes = _parsed(annotations, ANNO_ROUTES, _read_routes) or ()
    networks = parse_networks(annotations.get(ANNO_NETWORKS, ""), pod.metadata.namespace)
    exact = _Exact(
        _parsed(annotations, ANNO_IP, read_fixed_addresses) or (), request, networks, position
    )
    subnets = _subnet_source(annotations, features)
    items = None if subnets else _parsed(annotations, ANNO_IPPOOLS, _read_ippools)
    if items is not None:
        nics = _nic_requests(items, request, exact, features)
    else:
        if subnets is not None:
            source, patterns = subnets, _subnets_of(request.nic, read_subnets(annotations), subnets)
        else:
            source, patterns = _one_nic(annotations, namespace, request)
        nics = (
            _nic_request(
                request.nic, source, patterns, request.clean_gateway, request, exact, features
            ),
        )
    _refuse_itself_as_gateway(routes, nics)
    return PodRequest(request.nic, nics, routes)


def _refuse_itself_as_gateway(routes: tuple[Route, ...], nics: tuple[NicRequest, ...]) -> None:
    """
    Refuse routes by an address that the pod asks for itself.

    The kernel has no way to oneself.
    """
    mine = {str(ip): nic_request.nic for nic_request in nics for ip in nic_request.ips}
    for route in routes:
        if route.gw in mine:
            raise InvalidRequest(
                f"wrong input: annotation {ANNO_ROUTES}: gw {route.gw} of {route.dst} is the "
                "address that this pod asks for "
                f"on {mine[route.gw]}; name another gateway"
            )


def malformed(annotations: Mapping[str, str], namespace: str) -> Iterator[str]:
    """
    Say what cannot be read in the annotations of a pod, or of a template of pods.

    A sentence for each annotation, the same that an ADD would fail with; whether pools exist and
    are free is not asked here.
    """
    readers: tuple[Callable[[], object], ...] = (
        lambda: read_automatic_request(annotations),
        lambda: _parsed(annotations, ANNO_IPPOOLS, _read_ippools),
        lambda: _parsed(annotations, ANNO_IPPOOL, _read_ippool),
        lambda: _parsed(annotations, ANNO_IP, read_fixed_addresses),
        lambda: _parsed(annotations, ANNO_ROUTES, _read_routes),
        lambda: _parsed(annotations, ANNO_DEFAULT_ROUTE_NIC, _read_nic),
        lambda: parse_networks(annotations.get(ANNO_NETWORKS, ""), namespace),
        lambda: parse_default_network(annotations.get(ANNO_DEFAULT_NETWORK) or "any", namespace),
    )
    for read in readers:
        try:
            read()
        except InvalidRequest as error:
            yield error.message


@dataclass(frozen=True, slots=True)
class _Exact:
    """Where exact addresses come from: the annotation `ip`, the call, the network selections."""

    items: tuple[FixedAddressItem, ...]
    request: Request
    networks: tuple[NetworkSelection, ...]
    position: int | None

    def of(self, nic: str) -> tuple[IPAddress, ...]:
        """Return the exact addresses of a NIC; sources that contradict each other are refused."""
        annotated = choose(
            self._annotated(nic), self.position, f"annotation {ANNO_IP}, interface {nic}"
        )
        asked = self.request.ips if nic == self.request.nic else ()
        where = "the CNI call (ips, or IP of CNI_ARGS)" if asked else f"annotation {ANNO_NETWORKS}"
        others = choose(
            by_family(asked or _ips_of_network(nic, self.networks)),
            self.position,
            f"{where}, interface {nic}",
        )
        for one, two in (
            (one, two) for one in annotated for two in others if one.version == two.version
        ):
            if one != two:
                raise InvalidRequest(
                    f"wrong input: annotation {ANNO_IP} asks for {one} on {nic}, {where} for "
                    f"{two}; ask for one of them"
                )
        return tuple(dict.fromkeys((*annotated, *others)))

    def _annotated(self, nic: str) -> Lists:
        """
        Return what the annotation lists for a NIC.

        Items without names belong to eth0 and to the networks in their order.
        """
        for index, item in enumerate(self.items):
            name = item.interface or ("eth0" if index == 0 else nic_name(self.networks, index))
            if name == nic:
                return item.lists
        return {}


def _subnet_source(annotations: Mapping[str, str], features: Features) -> Source | None:
    """
    Return the annotation by which automatic pools are asked for.

    Where subnets are off it says nothing.

    Source: docs/reference/selection.md#sources.
    """
    key = wants_subnets(annotations)
    if key is None or not features.enable_spider_subnet:
        return None
    if not features.enable_auto_pool_for_application:
        raise InvalidRequest(
            f"wrong input: it's invalid to use '{ANNO_SUBNETS}' or '{ANNO_SUBNET}' annotation when "
            f"Auto-Pool feature is disabled: annotation {key} asks for an automatic pool, and "
            "enableAutoPoolForApplication is false in the configuration; name pools with "
            f"{ANNO_IPPOOLS} or {ANNO_IPPOOL}"
        )
    return Source.SUBNETS if key == ANNO_SUBNETS else Source.SUBNET


def _subnets_of(nic: str, requests: tuple[SubnetRequest, ...], source: Source) -> Patterns | None:
    """Return the subnets of the caller's NIC, as the names that its request has."""
    for pod_request in requests:
        if pod_request.nic == nic:
            return {family: (name,) for family, name in pod_request.subnets.items()}
    listed = ", ".join(pod_request.nic for pod_request in requests)
    raise InvalidRequest(
        f"wrong input: {source}: no item is for interface {nic}, only for {listed}; list all with "
        f"{ANNO_SUBNETS}"
    )


def _parsed(annotations: Mapping[str, str], key: str, read: Callable[[str], T]) -> T | None:
    """Read an annotation if it is there; errors name it."""
    if key not in annotations:
        return None
    try:
        return read(annotations[key])
    except InvalidRequest as error:
        raise InvalidRequest(f"wrong input: annotation {key}: {error.message}") from None


@dataclass(frozen=True, slots=True)
class _Item:
    """One entry of `ippools`; `interface` is empty in the mode without names."""

    interface: str
    patterns: Patterns
    clean_gateway: bool


def _read_ippools(text: str) -> list[_Item]:
    """Read `ippools`: every item has an interface, or none has."""
    example = '[{"interface":"eth0","ipv4":["pool-a"],"ipv6":["pool-b"]}]'
    items = [
        _Item(
            checked_ifname(fields.text("interface"), fields.where),
            _family_lists(fields),
            fields.flag("cleangateway"),
        )
        for fields in read_objects(text, example)
    ]
    names = [item.interface for item in items if item.interface]
    if not items:
        raise InvalidRequest(f"the list is empty; write {example}, or remove the annotation")
    if names and len(names) != len(items):
        missing = next(number for number, item in enumerate(items, 1) if not item.interface)
        raise InvalidRequest(
            f'item {missing} has no "interface" while others have one; name the interface in all '
            "items or in none"
        )
    return items


def _nic_requests(
    items: list[_Item], request: Request, exact: _Exact, features: Features
) -> tuple[NicRequest, ...]:
    """
    Return the request of every NIC of `ippools`.

    Items without names belong to eth0 and to the networks in their order.
    """
    by_order = not items[0].interface
    names = [
        "eth0" if index == 0 else nic_name(exact.networks, index) for index in range(len(items))
    ]
    nics = names if by_order else [item.interface for item in items]
    twice = repeated(nics)
    if twice is not None:
        raise InvalidRequest(
            f"wrong input: {Source.IPPOOLS}: interface {twice} is listed twice; list it once"
        )
    if request.nic not in nics:
        listed = ", ".join(nics)
        raise InvalidRequest(
            f"wrong input: {Source.IPPOOLS}: no item is for interface {request.nic}, only for "
            f"{listed}; add one"
        )
    return tuple(
        _nic_request(
            nic, Source.IPPOOLS, item.patterns, item.clean_gateway, request, exact, features
        )
        for nic, item in zip(nics, items, strict=True)
    )


def _one_nic(
    annotations: Mapping[str, str], namespace: Namespace | None, request: Request
) -> tuple[Source, Patterns | None]:
    """Return the pools of the caller's NIC from the first source that names any."""
    ippool = _parsed(annotations, ANNO_IPPOOL, _read_ippool)
    if ippool is not None:
        return Source.IPPOOL, ippool
    of_namespace = namespace.metadata.annotations if namespace else {}
    patterns = {
        4: _parsed(of_namespace, ANNO_NS_DEFAULT_IPV4, _read_names) or (),
        6: _parsed(of_namespace, ANNO_NS_DEFAULT_IPV6, _read_names) or (),
    }
    if any(patterns.values()):
        return Source.NAMESPACE, patterns
    if request.default_ipv4 or request.default_ipv6:
        return Source.CNI, {4: request.default_ipv4, 6: request.default_ipv6}
    return Source.DEFAULT, None


def _nic_request(
    nic: str,
    source: Source,
    patterns: Patterns | None,
    clean_gateway: bool,
    request: Request,
    exact: _Exact,
    features: Features,
) -> NicRequest:
    """
    Put a NIC's request together.

    Disabled families drop out, an exact address needs pools of its family.
    """
    mine = nic == request.nic
    if patterns is not None:
        patterns = {
            family: patterns[family] for family in features.families if patterns.get(family)
        }
    ips = exact.of(nic)
    for ip in ips:
        if ip.version not in (features.families if patterns is None else patterns):
            raise InvalidRequest(
                f"wrong input: {ip} is asked for on {nic}, and {source} names no IPv{ip.version} "
                "pool that is enabled; name the pool that has it"
            )
    return NicRequest(
        nic, source, patterns, clean_gateway, mine and request.match_master_subnet, ips
    )


def _ips_of_network(nic: str, networks: tuple[NetworkSelection, ...]) -> tuple[IPAddress, ...]:
    """Return the addresses that the pod's network selection asks for on a NIC."""
    selection = next(
        (network for index, network in enumerate(networks, 1) if nic_name(networks, index) == nic),
        None,
    )
    return tuple(ip_interface(ip).ip for ip in selection.ips) if selection else ()


def _read_ippool(text: str) -> Patterns:
    """Read `ippool`."""
    example = '{"ipv4":["pool-a"],"ipv6":["pool-b"]}'
    patterns = _family_lists(Fields(read_json(text, example), "the value"))
    if not any(patterns.values()):
        raise InvalidRequest(f"names no pool; write {example}, or remove the annotation")
    return patterns


def _family_lists(fields: Fields) -> Patterns:
    """Read the lists `ipv4` and `ipv6`."""
    patterns = {4: tuple(fields.texts("ipv4") or ()), 6: tuple(fields.texts("ipv6") or ())}
    for key, names in (("ipv4", patterns[4]), ("ipv6", patterns[6])):
        if "" in names:
            raise InvalidRequest(
                f'{fields.where}: "{key}" has an empty pool name; write a name or a wildcard'
            )
        check_patterns(names, f'{fields.where}: "{key}"')
    return patterns


def _read_names(text: str) -> tuple[str, ...]:
    """Read a JSON array of pool names; an empty text names none."""
    example = '["pool-a","pool-b"]'
    names = read_json(text, example) if text else []
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise InvalidRequest(
            f"the value is {kind_of(names)}; it must be a list of pool names such as {example}"
        )
    check_patterns(tuple(names), "the list")
    return tuple(names)


def _read_nic(text: str) -> str:
    """Read `default-route-nic`, which the coordinator uses: an ADD is to fail before it."""
    return checked_ifname(text, "the value")


def _read_routes(text: str) -> tuple[Route, ...]:
    """Read `routes`."""
    return tuple(
        _route(fields)
        for fields in read_objects(text, '[{"dst":"10.0.0.0/16","gw":"192.168.1.1"}]', ROUTES)
    )


def _route(fields: Fields) -> Route:
    """Read one route: a CIDR and a gateway of the same family."""
    for key in ("dst", "gw"):
        if not fields.text(key):
            raise InvalidRequest(f'{fields.where} has no "{key}"; write both, "dst" and "gw"')
    try:
        dst, gw = parse_network(fields.text("dst")), parse_address(fields.text("gw"))
    except InvalidRequest as error:
        raise InvalidRequest(f"{fields.where}: {error.message}") from None
    if dst.version != gw.version:
        raise InvalidRequest(
            f"{fields.where}: dst {dst} is IPv{dst.version} and gw {gw} is IPv{gw.version}; both "
            "must be of one family"
        )
    if words := next_hop_problem(gw):
        raise InvalidRequest(f"{fields.where}: gw {gw} can be no gateway: {words}")
    return Route(dst=str(dst), gw=str(gw))
