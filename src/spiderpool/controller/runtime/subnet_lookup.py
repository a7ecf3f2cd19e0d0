"""Which SpiderSubnet a pool belongs to: by its CIDR from the informer, by its owner live."""

from __future__ import annotations

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.ipam.automatic_pool import controlling_subnet
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet

BY_CIDR = "cidr"


class SubnetLookup:
    """Finds subnets; its cost does not grow with their number."""

    def __init__(self, cluster: Cluster, subnets: Informer[SpiderSubnet]) -> None:
        """
        Keep the arguments; the index follows the informer.

        Args:
            cluster: for live reads.
            subnets: the informer of subnets.
        """
        self._cluster = cluster
        self._subnets = subnets
        subnets.index(BY_CIDR, lambda subnet: subnet.spec.subnet)

    def adopter(self, old: SpiderIPPool | None, new: SpiderIPPool) -> Subnet | None:
        """
        Return the subnet that a pool becomes part of.

        A pool whose addresses the subnet does not have is refused when it is created or changed;
        one that was there before stays an orphan, so that it can still be labelled and deleted.

        Source: docs/reference/automatic-pools.md#pools-that-belong-to-a-subnet.
        """
        found = next(
            (Subnet.parse(subnet) for subnet in self._subnets.by_index(BY_CIDR, new.spec.subnet)),
            None,
        )
        if found is None or found.terminating or found.broken is not None:
            return None
        changed = old is None or old.spec != new.spec
        return found if changed or fits(new, found) else None

    async def controlling(self, pool: SpiderIPPool) -> Subnet | None:
        """Read the subnet that controls a pool live, None for an orphan."""
        ref = controlling_subnet(pool)
        if ref is None:
            return None
        found = await if_exists(self._cluster.get(SpiderSubnet, ref.name))
        return Subnet.parse(found) if found is not None and found.metadata.uid == ref.uid else None


def fits(pool: SpiderIPPool, subnet: Subnet) -> bool:
    """Return whether a subnet has all addresses of a pool."""
    parsed = Pool.parse(pool)
    return (
        parsed.broken is None
        and parsed.family == subnet.family
        and parsed.total.issubset(subnet.total)
    )
