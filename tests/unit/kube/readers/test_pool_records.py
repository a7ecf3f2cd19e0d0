"""The records of a pool, read live."""

from __future__ import annotations

from spiderpool.kube.readers.pool_records import list_pool_records
from spiderpool.model.pool import Pool
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_facts, make_ippool, make_pod, make_record


async def test_records_of_one_pool() -> None:
    """Only the pool's own records are listed, also when its name is too long for a label."""
    cluster = FakeCluster()
    long, other = "a" * 80, "b" * 80
    for number, name in enumerate((long, other, "blue"), 10):
        pool = Pool.parse(make_ippool(name))
        facts = make_facts(pod=make_pod(f"web-{number}", uid=f"uid-{number}"))
        cluster.seed(make_record(pool=pool, ip=f"10.6.0.{number}", facts=facts))

    assert ["10.6.0.10"] == [record.spec.ip for record in await list_pool_records(cluster, long)]
    assert ["10.6.0.12"] == [record.spec.ip for record in await list_pool_records(cluster, "blue")]
    assert () == await list_pool_records(cluster, "green")
