"""
The controller against a real API server.

Webhooks, projection, import, reclaim, deletion, leaders.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED, FINALIZER
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Event, Lease, Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.errors import NotFound, Rejected
from spiderpool.kube.client import KubeClient
from tests.contract.controller.conftest import Start
from tests.contract.controller.replica import InformerStore
from tests.unit.controller.conftest import make_record


class WholePod(KubeObject, frozen=True, kw_only=True):
    """A pod with all of its specification, to create one."""

    resource: ClassVar[Resource] = Pod.resource

    spec: Mapping[str, Any]


def pool(name: str, subnet: str, *ips: str, **spec: Any) -> SpiderIPPool:
    """Make a pool as a user writes it."""
    return SpiderIPPool(
        metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet, ips=ips, **spec)
    )


def pod(namespace: str, name: str = "p") -> WholePod:
    """Make a pod that nobody runs."""
    return WholePod(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec={"containers": [{"name": "c", "image": "x"}], "automountServiceAccountToken": False},
    )


async def until(condition: Callable[[], Awaitable[bool]], timeout_s: float = 20) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(0.1)


async def exists(
    cluster: KubeClient, kind: type[KubeObject], name: str, namespace: str = ""
) -> bool:
    """Return whether an object exists."""
    try:
        await cluster.get(kind, name, namespace)
    except NotFound:
        return False
    return True


async def test_pool_is_completed_and_counted(
    cluster: KubeClient, controller: InformerStore
) -> None:
    """A pool gets family, label, finalizer, mark and merged ranges by admission, and its total by the leader."""
    created = await cluster.create(
        pool("complete", "10.20.0.0/16", "10.20.0.9", "10.20.0.1-10.20.0.8")
    )

    assert (4, ("10.20.0.1-10.20.0.9",)) == (created.spec.ip_version, created.spec.ips)
    assert (FINALIZER,) == created.metadata.finalizers
    assert {"ipam.spidernet.io/ippool-cidr": "10-20-0-0-16"} == created.metadata.labels
    assert "true" == created.metadata.annotations[ANNO_IMPORTED]

    async def counted() -> bool:
        status = (await cluster.get(SpiderIPPool, "complete")).status
        return (status.total_ip_count, status.allocated_ip_count) == (9, 0)

    await until(counted)
    wanted = 'spiderpool_debug_ippool_total_ip_counts{SpiderIPPool="complete",'
    await until(
        lambda: _true(
            any(
                line.startswith(wanted) and line.endswith(" 9.0")
                for line in controller.metrics().splitlines()
            )
        )
    )


async def _true(value: bool) -> bool:
    """Make a value awaitable."""
    return value


@pytest.mark.usefixtures("controller")
async def test_user_reads_why_a_pool_is_refused(cluster: KubeClient) -> None:
    """The API server passes the webhook's sentence on, as an Invalid error with code 422."""
    with pytest.raises(Rejected) as caught:
        await cluster.create(pool("wrong", "10.21.0.0/16", "10.21.0.9-10.21.0.1"))

    assert (
        'admission webhook "spiderippool.spiderpool.spidernet.io" denied the request: '
        'SpiderIPPool.spiderpool.spidernet.io "wrong" is invalid: spec.ips[0]: Invalid value: "10.21.0.9-10.21.0.1": '
        '"10.21.0.9-10.21.0.1" runs backwards: 10.21.0.9 is above 10.21.0.1; write 10.21.0.1-10.21.0.9'
    ) in caught.value.message


@pytest.mark.usefixtures("controller")
async def test_reservation_is_refused_too(cluster: KubeClient) -> None:
    """A reservation in CIDR form is refused, a right one is completed."""
    with pytest.raises(Rejected, match="write one address"):
        await cluster.create(
            SpiderReservedIP(
                metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("10.6.0.0/24",))
            )
        )
    fine = SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=("fd00::1",)))

    assert 6 == (await cluster.create(fine)).spec.ip_version


@pytest.mark.usefixtures("controller")
async def test_of_many_pools_with_a_common_address_one_is_made(cluster: KubeClient) -> None:
    """Ten pools that are made at the same time with a common address: one is stored."""
    pools = [pool(f"race-{n}", "10.22.0.0/16", f"10.22.0.100-10.22.0.{101 + n}") for n in range(10)]
    results = await asyncio.gather(
        *(cluster.create(each) for each in pools), return_exceptions=True
    )

    assert 1 == sum(isinstance(result, SpiderIPPool) for result in results), results
    assert all(
        "no two pools may share one" in str(result)
        for result in results
        if isinstance(result, Exception)
    )


@pytest.mark.usefixtures("controller")
async def test_held_addresses_stay_in_their_pool(cluster: KubeClient, namespace: str) -> None:
    """
    A held address cannot be taken out of its pool.

    A pool in use goes only with its last record, and says so.
    """
    await cluster.create(pool("used", "10.23.0.0/16", "10.23.0.1-10.23.0.9"))
    owner = await cluster.create(pod(namespace))
    record = make_record("10.23.0.5", "p", owner.metadata.uid, pool="used", namespace=namespace)
    record = await cluster.create(record)
    with pytest.raises(
        Rejected, match=r"spec.ips: Forbidden: lacks 1 address \(10.23.0.5\) that pods hold"
    ):
        await cluster.patch(SpiderIPPool, "used", {"spec": {"ips": ["10.23.0.1-10.23.0.4"]}})
    await cluster.patch(SpiderIPPool, "used", {"spec": {"ips": ["10.23.0.5-10.23.0.9"]}})

    await cluster.delete(SpiderIPPool, "used")

    async def told() -> bool:
        events = (await cluster.list_objects(Event, namespace="default")).items
        return any(
            (e.reason, e.involved_object.name) == ("PoolInUse", "used")
            and f"held by {namespace}/p" in e.message
            for e in events
        )

    await until(told)
    with pytest.raises(Rejected, match="is being deleted and cannot be changed"):
        await cluster.patch(SpiderIPPool, "used", {"spec": {"disable": True}})
    await cluster.delete(SpiderIP, record.metadata.name)
    await until(lambda: _gone(cluster, SpiderIPPool, "used"))


async def _gone(
    cluster: KubeClient, kind: type[KubeObject], name: str, namespace: str = ""
) -> bool:
    """Return whether an object does not exist."""
    return not await exists(cluster, kind, name, namespace)


async def test_status_follows_records_and_leaks_come_back(
    cluster: KubeClient, controller: InformerStore, namespace: str
) -> None:
    """
    The status shows who holds what.

    The address of a pod that is gone is reclaimed within seconds and counted.
    """
    await cluster.create(pool("leaky", "10.24.0.0/16", "10.24.0.1-10.24.0.9", cool_down_seconds=0))
    living, leaving = [await cluster.create(pod(namespace, name)) for name in ("living", "leaving")]
    for last, owner in enumerate((living, leaving), 1):
        name, uid = owner.metadata.name, owner.metadata.uid
        await cluster.create(
            make_record(f"10.24.0.{last}", name, uid, pool="leaky", namespace=namespace)
        )
    wanted = f'{{"10.24.0.1":{{"pod":"{namespace}/living","podUid":"{living.metadata.uid}"}}'

    async def shown(count: int, text: str) -> bool:
        status = (await cluster.get(SpiderIPPool, "leaky")).status
        return status.allocated_ip_count == count and text in (status.allocated_ips or "")

    await until(lambda: shown(2, wanted))
    await cluster.delete(Pod, "leaving", namespace)
    await until(lambda: _gone(cluster, SpiderIP, "10.24.0.2"))
    await until(lambda: shown(1, wanted + "}"))
    assert await exists(cluster, SpiderIP, "10.24.0.1")
    assert [] == [
        line
        for line in controller.metrics().splitlines()
        if line.startswith("spiderpool_ip_gc_counts_total") and line.endswith(" 0.0")
    ]


async def test_allocations_of_go_spiderpool_are_taken_over(
    cluster: KubeClient, start: Start, namespace: str
) -> None:
    """
    What stands in a pool's status when no webhook ever saw the pool becomes records.

    Then pool and endpoint are ours.
    """
    text = f'{{"10.25.0.1":{{"pod":"{namespace}/p","podUid":"UID"}}}}'
    owner = await cluster.create(pod(namespace))
    text = text.replace("UID", owner.metadata.uid)
    made = pool("theirs", "10.25.0.0/16", "10.25.0.1-10.25.0.9", ip_version=4)
    await cluster.create(replace(made, metadata=replace(made.metadata, finalizers=(FINALIZER,))))
    await cluster.patch(
        SpiderIPPool, "theirs", {"status": {"allocatedIPs": text}}, subresource="status"
    )
    nic = {"interface": "net1", "ipv4": "10.25.0.1/16", "ipv4Pool": "theirs"}
    current = {"uid": owner.metadata.uid, "node": "node1", "ips": [nic]}
    status = {"current": current, "ownerControllerType": "Pod", "ownerControllerName": "p"}
    await cluster.create(
        WholeEndpoint(
            metadata=ObjectMeta(name="p", namespace=namespace, finalizers=(FINALIZER,)),
            status=status,
        )
    )
    start()

    await until(lambda: exists(cluster, SpiderIP, "10.25.0.1"))
    assert ("net1", "p") == _nic_and_name(await cluster.get(SpiderIP, "10.25.0.1"))

    async def ours() -> bool:
        found = await cluster.get(SpiderIPPool, "theirs")
        endpoint = await cluster.get(SpiderEndpoint, "p", namespace)
        return ANNO_IMPORTED in found.metadata.annotations and not endpoint.metadata.finalizers

    await until(ours)
    await until(lambda: _counted(cluster, "theirs", 1))


class WholeEndpoint(KubeObject, frozen=True, kw_only=True):
    """An endpoint as others write it."""

    resource: ClassVar[Resource] = SpiderEndpoint.resource

    status: Mapping[str, Any]


def _nic_and_name(record: SpiderIP) -> tuple[str, str]:
    """Return NIC and pod of a record."""
    return record.spec.holder.nic, record.spec.holder.name


async def _counted(cluster: KubeClient, name: str, count: int) -> bool:
    """Return whether a pool's status counts so many."""
    return (await cluster.get(SpiderIPPool, name)).status.allocated_ip_count == count


async def test_another_replica_takes_over(cluster: KubeClient, start: Start) -> None:
    """
    When the leader dies the other one leads within the lease's time.

    When it ends in peace, at once.
    """
    times = {
        "SPIDERPOOL_LEADER_DURATION": "4",
        "SPIDERPOOL_LEADER_RENEW_DEADLINE": "3",
        "SPIDERPOOL_LEADER_RETRY_PERIOD": "1",
    }
    replicas = {name: start(name, **times) for name in ("one", "two")}
    for replica in replicas.values():
        replica.wait_ready()

    async def leader() -> str:
        lease = await cluster.get(Lease, "spiderpool-controller-leases", "default")
        return lease.spec.holder_identity or ""

    async def leads(name: str) -> bool:
        return await leader() == name

    first = await leader()
    second = "two" if first == "one" else "one"
    replicas[first].kill()
    await until(lambda: leads(second))
    await cluster.create(pool("switch", "10.26.0.0/16", "10.26.0.1-10.26.0.9"))
    await until(lambda: _counted(cluster, "switch", 0))

    third = start("three", **times)
    third.wait_ready()
    assert 0 == replicas[second].terminate()
    assert second != await leader()  # given up, not left to run out
    await until(lambda: leads("three"))


async def test_api_server_restart_is_survived(
    cluster: KubeClient, controller: InformerStore, control_plane: Any
) -> None:
    """When the API server goes and comes back, the controller serves and projects again by itself."""
    await asyncio.to_thread(control_plane.kill_api_server)
    await asyncio.sleep(3)
    control_plane.launch_api_server()
    await asyncio.to_thread(control_plane.wait_ready)
    await until(lambda: _true(controller.probe("readiness")[0] == 200))
    await cluster.create(pool("restart", "10.27.0.0/16", "10.27.0.1-10.27.0.9"))
    await until(lambda: _counted(cluster, "restart", 0), 30)
    assert controller.process.poll() is None


async def test_probes_and_log(controller: InformerStore) -> None:
    """Probes answer as documented, and every line of the log is JSON."""
    assert [200, 200, 200] == [
        controller.probe(what)[0] for what in ("startup", "readiness", "liveness")
    ]
    assert all({"event", "level", "timestamp"} <= line.keys() for line in controller.log_lines())
    assert "spiderpool_total_ippool_counts" in controller.metrics()
