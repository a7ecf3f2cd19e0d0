"""
Admission of SpiderIPPools and SpiderReservedIPs: what is filled in, what is refused.

Subnets are in `admission.subnets`, with the same checks of their parts.

Functions `forbid_…` and `validate_pool_delete` give the sentence of a plain refusal (HTTP 403);
`validate_…` give field errors (422). The webhook's wire is the controller's.

Source: docs/reference/admission.md#spiderippool, docs/reference/admission.md#spiderreservedip.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

from msgspec.structs import replace

from spiderpool.addressing.hosts import class_problem, gateway_problem
from spiderpool.addressing.ranges import (
    cidr_label,
    family_of,
    parse_address,
    parse_network,
    parse_range,
    parse_ranges,
    render_ranges,
)
from spiderpool.addressing.sets import AddressSet, IPAddress, IPNetwork
from spiderpool.admission.field_errors import FieldError, Kind, new_errors
from spiderpool.api.crd.group import (
    ANNO_IMPORTED,
    ANNO_IPPOOL_IP_NUMBER,
    FINALIZER,
    LABEL_IPPOOL_CIDR,
    LABEL_OWNER_APP_NAME,
    LABEL_OWNER_SUBNET,
    PREFIX,
)
from spiderpool.api.crd.ippool import IPPoolSpec, RangeSpec, Route, SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.kubernetes.meta import LabelSelector
from spiderpool.configuration.config import Features
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.automatic_pool import subnet_reference
from spiderpool.model.label_selectors import selector_problems
from spiderpool.model.label_values import label_value
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet

R = TypeVar("R", bound=RangeSpec)

APPLICATION_KEYS: Final = frozenset(
    PREFIX + "app-" + key for key in ("api-group", "api-version", "kind", "namespace", "name")
)
SHOWN: Final = 5  # ranges in a message


def mutate_pool(
    new: SpiderIPPool, *, subnet: Subnet | None = None, created: bool = False
) -> SpiderIPPool:
    """
    Fill in what a pool leaves open; what cannot be read stays for the validator.

    Args:
        subnet: the one that the pool becomes part of, if it is nobody's yet.
        created: the pool is new, so that nothing in it waits to be taken over.
    """
    if new.metadata.deletion_timestamp is not None:
        return new
    if subnet is not None:
        new = adopted(new, subnet)
    meta, spec = new.metadata, new.spec
    finalizers = with_finalizer(meta.finalizers)
    # of a subnet that cannot be read no label is made: the API server would complain about that
    # instead
    labels = (
        meta.labels
        if read_subnet(spec)[0] is None
        else {**meta.labels, LABEL_IPPOOL_CIDR: cidr_label(spec.subnet)}
    )
    annotations = {**meta.annotations, ANNO_IMPORTED: "true"} if created else meta.annotations
    return replace(
        new,
        metadata=replace(meta, finalizers=finalizers, labels=labels, annotations=annotations),
        spec=completed(spec),
    )


def completed(spec: R) -> R:
    """Fill in the family of a pool or subnet, and merge its ranges."""
    family = spec.ip_version or _family(spec.subnet)
    return replace(
        spec,
        ip_version=family,
        ips=_merged(family, spec.ips),
        exclude_ips=_merged(family, spec.exclude_ips),
    )


def with_finalizer(finalizers: tuple[str, ...]) -> tuple[str, ...]:
    """Add our finalizer unless it is there."""
    return finalizers if FINALIZER in finalizers else (*finalizers, FINALIZER)


def adopted(pool: SpiderIPPool, subnet: Subnet) -> SpiderIPPool:
    """
    Make a pool part of a subnet: owner, label, and gateway and routes where it has none.

    A pool that somebody else controls stays as it is.

    Source: docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet.
    """
    meta, spec = pool.metadata, pool.spec
    controller = next((ref for ref in meta.owner_references if ref.controller), None)
    if controller is not None and controller.uid != subnet.uid:
        return pool
    labels = {**meta.labels, LABEL_OWNER_SUBNET: label_value(subnet.name)}
    if controller is not None:
        return replace(pool, metadata=replace(meta, labels=labels))
    references = (*meta.owner_references, subnet_reference(subnet.name, subnet.uid))
    return replace(
        pool,
        metadata=replace(meta, owner_references=references, labels=labels),
        spec=replace(
            spec,
            gateway=subnet.gateway if spec.gateway is None else spec.gateway,
            routes=(subnet.routes or None) if spec.routes is None else spec.routes,
        ),
    )


def mutate_reserved(new: SpiderReservedIP) -> SpiderReservedIP:
    """Fill in what a reservation leaves open."""
    spec = new.spec
    if new.metadata.deletion_timestamp is not None:
        return new
    family = spec.ip_version or (_family(spec.ips[0]) if spec.ips else None)
    return replace(new, spec=replace(spec, ip_version=family, ips=_merged(family, spec.ips)))


def validate_pool(
    old: SpiderIPPool | None,
    new: SpiderIPPool,
    others: Iterable[Pool],
    held: AddressSet | None,
    features: Features,
    subnet: Subnet | None = None,
) -> list[FieldError]:
    """
    Return everything that is wrong with a new or changed pool, after `mutate_pool`.

    Args:
        old: None when it is created.
        others: all pools of the cluster; the pool itself among them is left out.
        held: addresses of this pool's Held records, read live; only for a change.
        subnet: the one that controls the pool, read live, if one does.
    """
    if new.metadata.deletion_timestamp is not None:
        return []
    others = tuple(others)
    found = _errors_of_pool(old, new, others, held, features, subnet)
    if old is None or not found:
        return found
    return new_errors(found, _errors_of_pool(old, old, others, held, features, subnet))


def _errors_of_pool(
    old: SpiderIPPool | None,
    new: SpiderIPPool,
    others: Iterable[Pool],
    held: AddressSet | None,
    features: Features,
    subnet: Subnet | None,
) -> list[FieldError]:
    """Return everything that is wrong with a pool, whether or not it was so before."""
    spec = new.spec
    errors = list(version_errors(spec.ip_version, features)) + (
        changed_errors(old.spec, spec) if old else []
    )
    network, problem = read_subnet(spec, stored=old is not None and old.spec.subnet == spec.subnet)
    errors += problem
    if network is None or errors:
        return errors + list(_selector_errors(new))
    neighbours = [
        pool
        for pool in others
        if pool.name != new.metadata.name and pool.broken is None and pool.family == network.version
    ]
    errors += _overlap_errors(network, neighbours)
    addresses, range_errors = read_addresses(spec, network)
    errors += range_errors
    if addresses is not None:
        errors += _address_errors(spec, addresses, neighbours, held)
        if subnet is not None and subnet.family == network.version:
            errors += _subnet_errors(new, addresses, subnet)
    return (
        errors
        + list(gateway_errors(spec, network))
        + list(route_errors(spec.routes or (), network))
        + list(_selector_errors(new))
    )


def validate_reserved(
    old: SpiderReservedIP | None, new: SpiderReservedIP, features: Features
) -> list[FieldError]:
    """
    Return everything that is wrong with a reservation, after `mutate_reserved`.

    Args:
        old: as it is stored, None when it is new.
        new: as it is to be.
        features: the switches of the configuration.
    Returns:
        What a change brings; what was wrong before stays editable.
    """
    found = _errors_of_reserved(new, features)
    if old is None:
        return found
    if old.spec.ip_version != new.spec.ip_version:
        found.append(_immutable("spec.ipVersion", old.spec.ip_version, new.spec.ip_version))
    return new_errors(found, _errors_of_reserved(old, features))


def _errors_of_reserved(new: SpiderReservedIP, features: Features) -> list[FieldError]:
    """Return everything that is wrong with a reservation by itself."""
    spec = new.spec
    errors = list(version_errors(spec.ip_version, features))
    if spec.ip_version in (4, 6):
        errors += item_errors("spec.ips", spec.ip_version, spec.ips, None)
    return errors


def forbid_pool_update(old: SpiderIPPool, new: SpiderIPPool) -> str | None:
    """
    Say why a pool may not be changed at all.

    It is being deleted, and the change is not the end of that.
    """
    if old.metadata.deletion_timestamp is None or FINALIZER not in new.metadata.finalizers:
        return None
    return (
        f"IPPool {new.metadata.name} is being deleted and cannot be changed; it goes when its last "
        "address is released"
    )


def forbid_reserved_update(old: SpiderReservedIP, new: SpiderReservedIP) -> str | None:
    """Say why a reservation may not be changed at all: it is being deleted."""
    if (
        old.metadata.deletion_timestamp is None
        or new.metadata.finalizers != old.metadata.finalizers
    ):
        return None
    return f"ReservedIP {new.metadata.name} is being deleted and cannot be changed"


def validate_pool_delete(pool: SpiderIPPool, held: AddressSet, features: Features) -> str | None:
    """
    Return why a pool may not be deleted, None when it may.

    Args:
        pool: the pool.
        held: its addresses that somebody holds.
        features: whether such pools are protected.
    """
    if not held or not features.enable_validating_resources_deleted_webhook:
        return None
    return (
        f"IPPool {pool.metadata.name} cannot be deleted: pods hold {counted(held)} of it; delete "
        "the pods first"
    )


def version_errors(version: int | None, features: Features) -> Iterator[FieldError]:
    """Check the family."""
    if version is None:
        yield FieldError(
            "spec.ipVersion", Kind.INVALID, "", "cannot be told from the object; write 4 or 6"
        )
    elif version not in (4, 6):
        yield FieldError(
            "spec.ipVersion", Kind.NOT_SUPPORTED, str(version), 'supported values: "4", "6"'
        )
    elif version not in features.families:
        yield FieldError(
            "spec.ipVersion",
            Kind.FORBIDDEN,
            str(version),
            f"enableIPv{version} is false in the configuration",
        )


def changed_errors(old: RangeSpec, new: RangeSpec) -> list[FieldError]:
    """Refuse changes of what never changes."""
    errors = []
    if old.ip_version is not None and old.ip_version != new.ip_version:
        errors.append(_immutable("spec.ipVersion", old.ip_version, new.ip_version))
    if old.subnet != new.subnet:
        errors.append(_immutable("spec.subnet", old.subnet, new.subnet))
    return errors


def _immutable(field: str, old: object, new: object) -> FieldError:
    """Refuse a change."""
    return FieldError(
        field, Kind.FORBIDDEN, str(new), f"is immutable: it is {old} and cannot become {new}"
    )


def read_subnet(
    spec: RangeSpec, *, stored: bool = False
) -> tuple[IPNetwork | None, list[FieldError]]:
    """
    Read the subnet: of the pool's family, and written as a network address.

    Args:
        spec: the specification.
        stored: the subnet is stored already and does not change. One of an older rule is read as
            the network that it means.
    """
    try:
        subnet = parse_network(spec.subnet, strict=not stored)
    except InvalidRequest as error:
        return None, [FieldError("spec.subnet", Kind.INVALID, spec.subnet, error.message)]
    if spec.ip_version not in (None, subnet.version):
        why = f"is IPv{subnet.version}, but ipVersion is {spec.ip_version}"
        return None, [FieldError("spec.subnet", Kind.INVALID, spec.subnet, why)]
    if not stored and (words := class_problem(subnet)):
        why = f"has addresses that no pod can have: {words}"
        return None, [FieldError("spec.subnet", Kind.INVALID, spec.subnet, why)]
    return subnet, []


def _overlap_errors(subnet: IPNetwork, neighbours: Iterable[Pool]) -> list[FieldError]:
    """Refuse a subnet that overlaps another pool's without being the same."""
    mine = AddressSet.network(subnet)
    return [
        FieldError(
            "spec.subnet",
            Kind.INVALID,
            str(subnet),
            f"overlaps subnet {pool.subnet} of IPPool {pool.name}, and is not the same",
        )
        for pool in neighbours
        if pool.subnet != subnet and mine.overlaps(AddressSet.network(pool.subnet))
    ]


def read_addresses(
    spec: RangeSpec, subnet: IPNetwork
) -> tuple[AddressSet | None, list[FieldError]]:
    """Read `ips` and `excludeIPs`; None when an item is refused."""
    inside = AddressSet.network(subnet)
    errors = [
        *item_errors("spec.ips", subnet.version, spec.ips, inside),
        *item_errors("spec.excludeIPs", subnet.version, spec.exclude_ips, inside),
    ]
    if errors:
        return None, errors
    return parse_ranges(subnet.version, spec.ips) - parse_ranges(
        subnet.version, spec.exclude_ips
    ), []


def item_errors(
    field: str, family: int, items: Iterable[str], inside: AddressSet | None
) -> Iterator[FieldError]:
    """
    Check each range item by itself.

    Args:
        field: path of the list, such as "spec.ips".
        family: 4 or 6.
        items: texts of addresses and ranges.
        inside: where they have to be; None = anywhere.
    """
    for index, item in enumerate(items):
        try:
            span = parse_range(family, item)
        except InvalidRequest as error:
            yield FieldError(f"{field}[{index}]", Kind.INVALID, item, error.message)
            continue
        if inside is not None and not AddressSet(family, (span,)).issubset(inside):
            yield FieldError(
                f"{field}[{index}]", Kind.INVALID, item, f"is outside the subnet ({_shown(inside)})"
            )


def _address_errors(
    spec: IPPoolSpec, addresses: AddressSet, neighbours: Iterable[Pool], held: AddressSet | None
) -> Iterator[FieldError]:
    """Check the pool's addresses against other pools and against those who hold some."""
    value = ",".join(spec.ips)
    for pool in neighbours:
        common = addresses & pool.total
        if common:
            why = f"has {counted(common)} of IPPool {pool.name}; no two pools may share one"
            yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)
    lost = held - addresses if held else None
    if lost:
        why = f"lacks {counted(lost)} that pods hold; delete the pods first"
        yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)


def _subnet_errors(
    new: SpiderIPPool, addresses: AddressSet, subnet: Subnet
) -> Iterator[FieldError]:
    """
    Check a pool's addresses against the subnet that controls it.

    An automatic pool has what the subnet's status grants it. Any other keeps off what is granted to
    a pool that does not exist yet: the status is written before the pool.

    Source: docs/reference/admission.md#spiderippool.
    """
    name, value = new.metadata.name, ",".join(new.spec.ips)
    outside = addresses - subnet.total
    if outside:
        why = (
            f"has {counted(outside)} that SpiderSubnet {subnet.name} does not have; add them to "
            "the subnet first"
        )
        yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)
    if LABEL_OWNER_APP_NAME in new.metadata.labels:
        grant = subnet.grants.get(name)
        if addresses != (grant.ips if grant else AddressSet.empty(subnet.family)):
            why = (
                "of an automatic pool follow the application's size; change annotation "
                f"{ANNO_IPPOOL_IP_NUMBER} or the replicas"
            )
            yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)
        return
    for other, grant in subnet.grants.items():
        common = addresses & grant.ips if other != name and grant.application else None
        if common:
            why = (
                f"has {counted(common)} that SpiderSubnet {subnet.name} gives to automatic pool "
                f"{other}"
            )
            yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)


def gateway_errors(spec: RangeSpec, subnet: IPNetwork) -> Iterator[FieldError]:
    """Check that the gateway is in the subnet, and that no pod may get it."""
    if spec.gateway is None:
        return
    gateway = _address_in(spec.gateway, subnet)
    why = (
        f"is not an address of subnet {subnet}"
        if gateway is None
        else gateway_problem(gateway, subnet)
    )
    if gateway is None or why is not None:
        yield FieldError("spec.gateway", Kind.INVALID, spec.gateway, why or "")
        return
    number = int(gateway)
    if any(low <= number <= high for low, high in _spans(subnet.version, spec.exclude_ips)):
        return
    for index, item in enumerate(spec.ips):
        if any(low <= number <= high for low, high in _spans(subnet.version, (item,))):
            why = f"contains the gateway {gateway}; take it out or list it in excludeIPs"
            yield FieldError(f"spec.ips[{index}]", Kind.INVALID, item, why)


def _spans(family: int, items: Iterable[str]) -> Iterator[tuple[int, int]]:
    """Read the items that can be read; the others have their own errors."""
    for item in items:
        try:
            yield parse_range(family, item)
        except InvalidRequest:
            continue


def route_errors(routes: Iterable[Route], subnet: IPNetwork) -> Iterator[FieldError]:
    """
    Check routes.

    A CIDR of the family, not the default route, each once, a gateway in the subnet.
    """
    seen: set[IPNetwork] = set()
    for index, route in enumerate(routes):
        where = f"spec.routes[{index}]"
        dst = _network_of(route.dst, subnet.version)
        if dst is None:
            yield FieldError(
                f"{where}.dst", Kind.INVALID, route.dst, f"is not an IPv{subnet.version} CIDR"
            )
        elif dst.prefixlen == 0:
            yield FieldError(
                f"{where}.dst",
                Kind.INVALID,
                route.dst,
                "is the default route; that one follows from spec.gateway",
            )
        elif dst in seen:
            yield FieldError(f"{where}.dst", Kind.INVALID, route.dst, "is listed twice")
        else:
            seen.add(dst)
        gateway = _address_in(route.gw, subnet)
        why = (
            f"is not an address of subnet {subnet}"
            if gateway is None
            else gateway_problem(gateway, subnet)
        )
        if why is not None:
            yield FieldError(f"{where}.gw", Kind.INVALID, route.gw, why)


def _selector_errors(new: SpiderIPPool) -> Iterator[FieldError]:
    """Check the three selectors; an empty podAffinity would mean every pod, and is refused."""
    spec = new.spec
    selectors = {
        "podAffinity": spec.pod_affinity,
        "namespaceAffinity": spec.namespace_affinity,
        "nodeAffinity": spec.node_affinity,
    }
    for field, selector in selectors.items():
        if selector is not None:
            for path, value, why in selector_problems(selector):
                yield FieldError(f"spec.{field}.{path}", Kind.INVALID, value, why)
    if spec.pod_affinity == LabelSelector():
        yield FieldError(
            "spec.podAffinity",
            Kind.INVALID,
            "{}",
            "is empty; write labels, or leave it out to allow every pod",
        )
    elif spec.pod_affinity is not None and LABEL_OWNER_APP_NAME in new.metadata.labels:
        yield from _automatic_errors(spec.pod_affinity)


def _automatic_errors(selector: LabelSelector) -> Iterator[FieldError]:
    """Check that an automatic pool stays with its application."""
    for key in sorted(set(selector.match_labels) - APPLICATION_KEYS):
        why = "is not a label of an automatic pool's application"
        yield FieldError(
            f"spec.podAffinity.matchLabels.{key}", Kind.INVALID, selector.match_labels[key], why
        )
    if selector.match_expressions:
        why = "an automatic pool selects its application by labels only"
        yield FieldError("spec.podAffinity.matchExpressions", Kind.INVALID, "", why)


def _family(text: str) -> int | None:
    """Return the family of a text, None when it cannot be read."""
    try:
        return family_of(text)
    except InvalidRequest:
        return None


def _merged(family: int | None, items: tuple[str, ...]) -> tuple[str, ...]:
    """
    Merge and sort several range items.

    One item, or items that cannot be read, stay as they are.
    """
    if family not in (4, 6) or len(items) < 2:  # noqa: PLR2004
        return items
    try:
        return tuple(render_ranges(parse_ranges(family, items)))
    except InvalidRequest:
        return items


def _address_in(text: str, subnet: IPNetwork) -> IPAddress | None:
    """Return an address of a subnet, None when it is none."""
    try:
        ip = parse_address(text)
    except InvalidRequest:
        return None
    return ip if ip in subnet else None


def _network_of(text: str, family: int) -> IPNetwork | None:
    """Return a network of a family, None when it is none."""
    try:
        network = parse_network(text)
    except InvalidRequest:
        return None
    return network if network.version == family else None


def _shown(addresses: AddressSet) -> str:
    """Show a few ranges of a set."""
    ranges = render_ranges(AddressSet(addresses.family, addresses.spans[:SHOWN]))
    return ", ".join(ranges) + (", …" if len(addresses.spans) > SHOWN else "")


def counted(addresses: AddressSet) -> str:
    """Say how many addresses, and which."""
    return (
        f"{addresses.size} {'address' if addresses.size == 1 else 'addresses'} "
        f"({_shown(addresses)})"
    )
