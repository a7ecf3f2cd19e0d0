"""
What the webhooks of SpiderSubnets look at before they decide.

The decisions are `admission.subnets`'s.
"""

from __future__ import annotations

from spiderpool.admission.subnets import (
    forbid_subnet_update,
    mutate_subnet,
    validate_subnet,
    validate_subnet_delete,
)
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.configuration.config import Features
from spiderpool.controller.webhooks.conflicting_pools import OtherPools
from spiderpool.controller.webhooks.pool_review import FINE, Change, Opinion
from spiderpool.kube.cluster import Cluster
from spiderpool.model.subnet import Subnet


class SubnetReviewer:
    """Subnets: compared with each other and with all pools, both read live when one is created."""

    kind = SpiderSubnet

    def __init__(self, cluster: Cluster, other_pools: OtherPools, features: Features) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the door.
            other_pools: the pools.
            features: the configuration's switches.
        """
        self._cluster = cluster
        self._other_pools = other_pools
        self._features = features

    async def complete(self, change: Change[SpiderSubnet]) -> SpiderSubnet | None:
        """Fill in a subnet."""
        return None if change.new is None else mutate_subnet(change.new)

    async def judge(self, change: Change[SpiderSubnet]) -> Opinion:
        """Decide on a create, an update or a delete."""
        match change:
            case Change(old=SpiderSubnet() as old, new=None):
                return Opinion(forbidden=validate_subnet_delete(old, self._features))
            case Change(old=None, new=SpiderSubnet() as new):
                if not self._features.enable_spider_subnet:
                    return Opinion(
                        forbidden=(
                            "enableSpiderSubnet is false in the configuration; nobody would serve "
                            "it"
                        )
                    )
                return await self._judge_new(new)
            case Change(old=SpiderSubnet() as old, new=SpiderSubnet() as new):
                return self._judge_update(old, new)
        return FINE

    async def _judge_new(self, new: SpiderSubnet) -> Opinion:
        """Compare a new subnet with all that exists."""
        listing = await self._cluster.list_objects(SpiderSubnet)
        others = [Subnet.parse(subnet) for subnet in listing.items]
        pools = await self._other_pools.within(Subnet.parse(new).network)
        return Opinion(errors=tuple(validate_subnet(None, new, others, pools, self._features)))

    def _judge_update(self, old: SpiderSubnet, new: SpiderSubnet) -> Opinion:
        """Decide on an update: the request carries the status, which says what pools have."""
        forbidden = forbid_subnet_update(old, new)
        if forbidden is not None:
            return Opinion(forbidden=forbidden)
        if new.spec in (old.spec, mutate_subnet(old).spec):
            return FINE
        return Opinion(errors=tuple(validate_subnet(old, new, (), (), self._features)))
