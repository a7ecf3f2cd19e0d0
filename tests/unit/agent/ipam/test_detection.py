"""What becomes of addresses that somebody else answers for."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from spiderpool.agent.ipam.allocator import Allocation
from spiderpool.agent.ipam.detection import (
    MOST_QUARANTINED,
    Detector,
    quarantined_in,
    read_probe_request,
)
from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.crd.spiderip import Application, IPState, SpiderIP
from spiderpool.kube.informer import Informer
from spiderpool.model.pool import Pool
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import (
    DEPLOYMENT,
    FEATURES,
    MACHINE,
    make_facts,
    make_pod,
    make_pool,
    make_record,
)

MAC = "02:00:00:00:00:66"


async def test_who_answers_everything_does_not_empty_the_pool() -> None:
    """Up to the limit an address in conflict is quarantined; above it the ADD fails and keeps nothing."""
    cluster, pool = FakeCluster(), make_pool()
    records = Informer(cluster, SpiderIP)
    await records.start()
    await records.synced()
    pools: dict[str, Pool] = {pool.name: pool}
    deletions = Deletions(cluster, records, Occupancy(cluster), lambda: pools)
    told: list[tuple[str, str]] = []
    detector = Detector(
        deletions,
        lambda name: quarantined_in(records, name),
        lambda name, text: told.append((name, text)),
    )
    answers = []
    for number in range(MOST_QUARANTINED + 2):
        facts = make_facts(pool, pod=make_pod(f"p{number}", uid=f"u{number}"))
        record = await cluster.create(make_record(f"10.6.0.{10 + number}", pool, facts))
        records.remember(record)
        macs = {ip_address(record.spec.ip): MAC}
        answers.append(await detector._set_aside("eth0", Allocation(facts, (record,)), macs))

    assert [True] * MOST_QUARANTINED + [False] * 2 == [answer.set_aside for answer in answers]
    states = [record.spec.state for record in cluster.all(SpiderIP)]
    assert MOST_QUARANTINED == states.count(IPState.QUARANTINED)
    assert 2 == len(told)
    assert (pool.name, True) == (told[0][0], MAC in told[0][1])
    await records.stop()


@pytest.mark.parametrize(("owner", "asked"), [(DEPLOYMENT, True), (MACHINE, False)])
def test_a_claim_to_migrate(owner: Application, *, asked: bool) -> None:
    """Only a virtual machine migrates: an annotation that anybody may write keeps nobody from asking."""
    pod = make_pod(annotations={"kubevirt.io/migrationJobName": "job"})
    features = replace(FEATURES, enable_ip_conflict_detection=True)
    facts = make_facts(make_pool(), pod=pod, owner=owner, features=features)
    record = make_record(facts=facts)

    assert asked is bool(read_probe_request(Allocation(facts, (record,)), "eth0").conflicts)
