"""Which addresses of a subnet its pools have, from the pools that exist (reference ipam.md 4.1, 4.7)."""

from __future__ import annotations

from collections.abc import Iterable

from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Grant, Grants, Subnet


def settle_grants(subnet: Subnet, pools: Iterable[Pool], *, keep_unbuilt: bool) -> Grants:
    """
    Give what a subnet's status is to say.

    A pool made by hand has what its specification says. An automatic pool has what was granted to it, since the grant is
    written first; without one, what its specification says.

    Args:
        pools: those that the subnet controls.
        keep_unbuilt: whether grants to automatic pools that do not exist stay: they are about to be made.
    """
    pools = [pool for pool in pools if pool.broken is None and pool.family == subnet.family]
    grants = {name: grant for name, grant in subnet.grants.items() if keep_unbuilt and grant.application is not None}
    for pool in pools:
        known = subnet.grants.get(pool.name)
        if pool.place is None:
            grants[pool.name] = Grant(pool.total & subnet.total)
        elif known is not None and known.application is not None:
            grants[pool.name] = known
        else:
            grants[pool.name] = Grant(pool.total, pool.place.application)
    return grants
