"""
Admission of SpiderSubnets: what is filled in, what is refused.

Source: docs/reference/admission.md#spidersubnet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from spiderpool.addressing.ranges import cidr_label
from spiderpool.addressing.sets import AddressSet, IPNetwork
from spiderpool.admission.field_errors import FieldError, Kind, new_errors
from spiderpool.admission.pools import (
    changed_errors,
    completed,
    counted,
    gateway_errors,
    read_addresses,
    read_subnet,
    route_errors,
    version_errors,
    with_finalizer,
)
from spiderpool.api.crd.group import FINALIZER, LABEL_SUBNET_CIDR
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.configuration.config import Features
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Grants, Subnet


def mutate_subnet(new: SpiderSubnet) -> SpiderSubnet:
    """Fill in what a subnet leaves open; what cannot be read stays for the validator."""
    meta, spec = new.metadata, new.spec
    if meta.deletion_timestamp is not None:
        return new
    labels = (
        meta.labels
        if read_subnet(spec)[0] is None
        else {**meta.labels, LABEL_SUBNET_CIDR: cidr_label(spec.subnet)}
    )
    metadata = replace(meta, finalizers=with_finalizer(meta.finalizers), labels=labels)
    return replace(new, metadata=metadata, spec=completed(spec))


def validate_subnet(
    old: SpiderSubnet | None,
    new: SpiderSubnet,
    others: Iterable[Subnet],
    pools: Iterable[Pool],
    features: Features,
) -> list[FieldError]:
    """
    Return everything that is wrong with a new or changed subnet, after `mutate_subnet`.

    Args:
        old: None when it is created; its status says what is given to pools.
        others: all subnets of the cluster; the subnet itself among them is left out.
        pools: all pools of the cluster.
    """
    if new.metadata.deletion_timestamp is not None:
        return []
    others, pools = tuple(others), tuple(pools)
    found = _errors_of_subnet(old, new, others, pools, features)
    if old is None or not found:
        return found
    return new_errors(found, _errors_of_subnet(old, old, others, pools, features))


def _errors_of_subnet(
    old: SpiderSubnet | None,
    new: SpiderSubnet,
    others: Iterable[Subnet],
    pools: Iterable[Pool],
    features: Features,
) -> list[FieldError]:
    """Return everything that is wrong with a subnet, whether or not it was so before."""
    spec, name = new.spec, new.metadata.name
    errors = list(version_errors(spec.ip_version, features)) + (
        changed_errors(old.spec, spec) if old else []
    )
    network, problem = read_subnet(spec, stored=old is not None and old.spec.subnet == spec.subnet)
    errors += problem
    if network is None or errors:
        return errors
    addresses, range_errors = read_addresses(spec, network)
    errors += range_errors
    if old is None:
        errors += _overlap_errors(
            network, [subnet for subnet in others if subnet.name != name and subnet.broken is None]
        )
        mine = [pool for pool in pools if pool.broken is None and pool.family == network.version]
        errors += _pool_errors(network, addresses, mine, ",".join(spec.ips))
    elif addresses is not None:
        errors += _grant_errors(Subnet.parse(old).grants, addresses, ",".join(spec.ips))
    return (
        errors
        + list(gateway_errors(spec, network))
        + list(route_errors(spec.routes or (), network))
    )


def forbid_subnet_update(old: SpiderSubnet, new: SpiderSubnet) -> str | None:
    """
    Say why a subnet may not be changed at all.

    It is being deleted, and the change is not the end of that.
    """
    if old.metadata.deletion_timestamp is None or FINALIZER not in new.metadata.finalizers:
        return None
    if new.spec == old.spec:
        return None  # the garbage collector's own marks
    return (
        f"SpiderSubnet {new.metadata.name} is being deleted and cannot be changed; it goes when "
        "its last pool is gone"
    )


def validate_subnet_delete(subnet: SpiderSubnet, features: Features) -> str | None:
    """
    Say why a subnet may not be deleted.

    Pools have addresses of it, and the configuration asks to protect them.
    """
    if not features.enable_validating_resources_deleted_webhook:
        return None
    parsed = Subnet.parse(subnet)
    granted = parsed.granted()
    if not granted:
        return None
    pools = ", ".join(sorted(parsed.grants))
    return (
        f"SpiderSubnet {parsed.name} cannot be deleted: {counted(granted)} of it are given to "
        f"{pools}; delete these pools first"
    )


def _overlap_errors(network: IPNetwork, others: Iterable[Subnet]) -> Iterator[FieldError]:
    """Refuse a CIDR that overlaps another subnet's; the same one counts as well."""
    mine = AddressSet.network(network)
    for other in others:
        if other.family == network.version and mine.overlaps(AddressSet.network(other.network)):
            why = f"overlaps {other.network} of SpiderSubnet {other.name}; no two subnets may"
            yield FieldError("spec.subnet", Kind.INVALID, str(network), why)


def _pool_errors(
    network: IPNetwork, addresses: AddressSet | None, pools: Iterable[Pool], value: str
) -> Iterator[FieldError]:
    """
    Check a new subnet against the pools that are there.

    Of other CIDRs, or with addresses that it has as well.
    """
    mine = AddressSet.network(network)
    for pool in pools:
        if pool.subnet != network and mine.overlaps(AddressSet.network(pool.subnet)):
            why = f"overlaps subnet {pool.subnet} of IPPool {pool.name}, and is not the same"
            yield FieldError("spec.subnet", Kind.INVALID, str(network), why)
        outside = (
            pool.total - addresses if pool.subnet == network and addresses is not None else None
        )
        if outside:
            why = f"lacks {counted(outside)} of IPPool {pool.name}, which has the same subnet"
            yield FieldError("spec.ips", Kind.INVALID, value, why)


def _grant_errors(grants: Grants, addresses: AddressSet, value: str) -> Iterator[FieldError]:
    """Refuse to take away what pools have."""
    for name, grant in sorted(grants.items()):
        lost = grant.ips - addresses
        if lost:
            why = f"lacks {counted(lost)} given to IPPool {name}; shrink or delete that pool first"
            yield FieldError("spec.ips", Kind.FORBIDDEN, value, why)
