"""The SpiderIPs of a pool, read live."""

from __future__ import annotations

from spiderpool.api.crd.group import LABEL_POOL
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.kube.cluster import Cluster
from spiderpool.model.label_values import label_value


def pool_selector(pool: str) -> str:
    """
    Return the label selector of a pool's records.

    For a name over 63 characters the label is a hash.
    """
    return f"{LABEL_POOL}={label_value(pool)}"


async def list_pool_records(cluster: Cluster, pool: str) -> tuple[SpiderIP, ...]:
    """
    Read all records of a pool from etcd.

    The name is compared as well, since the label may be a hash.
    """
    listing = await cluster.list_objects(SpiderIP, labels=pool_selector(pool))
    return tuple(record for record in listing.items if record.spec.pool == pool)
