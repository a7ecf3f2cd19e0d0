"""
Which addresses of a subnet its pools have, from the pools that exist.

Source: docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet,
docs/reference/automatic-pools.md#when-pools-go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from spiderpool.addressing.ranges import render_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.subnet import SubnetStatus
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Grant, Grants, Subnet, subnet_status


def settle_grants(subnet: Subnet, pools: Iterable[Pool], *, keep_unbuilt: bool) -> Grants:
    """
    Return what a subnet's status is to say.

    A pool made by hand has what its specification says. An automatic pool has what was granted to
    it, since the grant is written first; without one, what its specification says.

    Args:
        pools: those that the subnet controls.
        keep_unbuilt: whether grants to automatic pools that do not exist stay: they are about to be
        made.
    """
    pools = [pool for pool in pools if pool.broken is None and pool.family == subnet.family]
    grants = {
        name: grant
        for name, grant in subnet.grants.items()
        if keep_unbuilt and grant.application is not None
    }
    for pool in pools:
        known = subnet.grants.get(pool.name)
        if pool.place is None:
            grants[pool.name] = Grant(pool.total & subnet.total)
        elif known is not None and known.application is not None:
            grants[pool.name] = known
        else:
            grants[pool.name] = Grant(pool.total, pool.place.application)
    return grants


def misgiven(
    subnet: Subnet, status: SubnetStatus, pools: Iterable[Pool]
) -> Iterator[tuple[str, str]]:
    """
    Find what a subnet's status says and its pools do not, or the other way round.

    Args:
        pools: those that the subnet controls.
    Returns:
        Name of the pool and a sentence for each; the name is empty where the counts are wrong.
    """
    nothing = AddressSet.empty(subnet.family)
    given = {name: grant.ips for name, grant in subnet.grants.items()}
    have = {
        pool.name: pool.total & subnet.total
        for pool in pools
        if pool.broken is None and pool.family == subnet.family
    }
    for name in sorted(given.keys() | have.keys()):
        if given.get(name, nothing) != have.get(name, nothing):
            there = (
                f"which has {_shown(have[name])}"
                if name in have
                else "which it does not control, or which does not exist"
            )
            yield (
                name,
                f"the status gives {_shown(given.get(name, nothing))} to IPPool {name}, {there}",
            )
    right = subnet_status(subnet.grants, subnet.total)
    seen = (status.allocated_ip_count or 0, status.total_ip_count or 0)
    counts = (right.allocated_ip_count or 0, right.total_ip_count or 0)
    if seen != counts:
        yield (
            "",
            (
                f"the status says {seen[0]} of {seen[1]} given to pools, its entries and ips say "
                f"{counts[0]} of {counts[1]}"
            ),
        )


def _shown(ips: AddressSet) -> str:
    return ", ".join(render_ranges(ips)) or "nothing"
