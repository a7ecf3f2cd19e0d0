"""
The audit.

Books that agree give nothing, and each kind of difference is found, with its cause and its fix.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace, NodeInterfaces
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.ippool import IPPoolStatus, SpiderIPPool
from spiderpool.api.crd.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.core import Pod, PodIP
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.audit.comparison import Difference, Kind, compare, lasting
from spiderpool.audit.snapshot import Snapshot
from spiderpool.ipam.automatic_pool import subnet_reference
from spiderpool.ipam.grants_of_pools import settle_grants
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet, subnet_status
from spiderpool.records.build import let_go, record_of
from spiderpool.records.projections import endpoint_of, pool_status
from spiderpool.records.verdicts import HolderOwners
from tests.fakes.objects import (
    DEPLOYMENT,
    STATEFULSET,
    make_facts,
    make_ippool,
    make_pod,
    make_pool,
    make_record,
    make_statefulset,
)

POD = make_pod()
RECORD = make_record()
IP = "10.6.0.10"
STATIC_POD = make_pod("db-1", uid="uid-2")
STATIC = make_record("10.6.0.11", facts=make_facts(pod=STATIC_POD, owner=STATEFULSET))


def uses(
    *texts: str, uid: str = "uid-1", nic: str = "eth0", node: str = "node1", **more: Any
) -> NodeInterfaces:
    """Make what a node's agent says about one namespace."""
    namespace = InUseNamespace(
        path=more.get("path", f"/var/run/netns/cni-{uid}"),
        pod_uid=uid,
        containers=more.get("containers", ("sandbox-1",)),
        interfaces=(InUseInterface(nic=nic, addresses=texts),),
    )
    return NodeInterfaces(node=node, namespaces=(namespace,))


def endpoints(*held: tuple[SpiderIP, Pod]) -> tuple[SpiderEndpoint, ...]:
    """Make the endpoints that go with records, each of a pod of its own."""
    found = (
        endpoint_of([record], pod, record.spec.holder.owner or DEPLOYMENT) for record, pod in held
    )
    return tuple(endpoint for endpoint in found if endpoint is not None)


def pool_with(*records: SpiderIP, name: str = "blue", **spec: Any) -> SpiderIPPool:
    """Make a pool whose status is what its records say."""
    pool = make_ippool(name, **spec)
    return replace(pool, status=pool_status(records, Pool.parse(pool)))


def snapshot(**more: Any) -> Snapshot:
    """Make sources that agree about one pod and its address; keywords replace one of them."""
    agreed: dict[str, Any] = {
        "pods": (POD,),
        "records": (RECORD,),
        "pools": (pool_with(*more.get("records", (RECORD,))),),
        "endpoints": endpoints((RECORD, POD)),
        "interfaces": (uses(f"{IP}/16"),),
    }
    return Snapshot(**(agreed | more))


def kinds(found: tuple[Difference, ...]) -> list[Kind]:
    """Return the kinds of differences."""
    return [difference.kind for difference in found]


def the_one(found: tuple[Difference, ...]) -> Difference:
    """Return the only difference."""
    assert 1 == len(found), found
    return found[0]


def test_sources_that_agree() -> None:
    """A pod that holds, has and shows one address, and a pool that counts it."""
    assert () == compare(snapshot())


def test_sources_of_nobody() -> None:
    """An empty cluster agrees with itself."""
    assert () == compare(Snapshot())


def test_static_holders_agree() -> None:
    """A pod of a StatefulSet, and one that is awaited: its record and its endpoint stay."""
    owners = {STATIC.metadata.name: HolderOwners(statefulset=make_statefulset())}
    shown = endpoints((STATIC, STATIC_POD))
    status = (pool_with(STATIC),)

    living = Snapshot(
        (STATIC_POD,), (STATIC,), status, shown, owners, (uses("10.6.0.11/16", uid="uid-2"),)
    )
    awaited = Snapshot((), (STATIC,), status, shown, owners, (NodeInterfaces(node="node1"),))

    assert () == compare(living)
    assert () == compare(awaited)


# Held by somebody who is gone, in whatever way: the leak and nothing else about that record is
# told.
LEAKS = {
    "pod gone": ((), RECORD, {}, "does not exist"),
    "other UID": ((make_pod(uid="uid-9", phase="Pending"),), RECORD, {}, "has UID uid-9"),
    "StatefulSet gone": ((), STATIC, {}, "StatefulSet ns/db does not exist"),
    "scaled down": (
        (),
        STATIC,
        {STATIC.metadata.name: HolderOwners(statefulset=make_statefulset(replicas=1))},
        "has 1 replicas",
    ),
}


@pytest.mark.parametrize("case", LEAKS)
def test_leaks(case: str) -> None:
    """Every record whose holder is gone, by the words of the controller's own verdict."""
    pods, record, owners, reason = LEAKS[case]
    found = compare(
        Snapshot(
            pods,
            (record,),
            (pool_with(record),),
            owners=owners,
            interfaces=(NodeInterfaces(node="node1"),),
        )
    )

    leak = the_one(tuple(each for each in found if each.kind is not Kind.ENDPOINT))
    assert (Kind.LEAK, record.spec.ip) == leak.identity
    assert reason in leak.cause
    assert f"spiderpoolctl ip release --ip {record.spec.ip}" == leak.remedy


ENDED = make_pod(phase="Succeeded", restart="Never")


@pytest.mark.parametrize(
    ("interfaces", "nodes"),
    [
        ((uses(f"{IP}/16"),), {"node1"}),
        ((uses(f"{IP}/16", uid="", path="/var/run/netns/cni-1"),), {"node1"}),
        ((), {"node1"}),
    ],
)
def test_pods_that_are_taken_down(interfaces: tuple[NodeInterfaces, ...], nodes: set[str]) -> None:
    """
    A pod that has ended holds its address until its DEL.

    While something has it, and where nobody can tell.
    """
    found = compare(
        Snapshot((ENDED,), (RECORD,), (pool_with(RECORD),), (), {}, interfaces, frozenset(nodes))
    )
    assert () == found


def test_pods_that_ended_on_a_lost_node() -> None:
    """
    Nobody takes down what ends on a node that is not Ready.

    Its address is given back by time, and is a leak until then.
    """
    found = the_one(
        compare(
            Snapshot(
                (ENDED,),
                (RECORD,),
                (pool_with(RECORD),),
                nodes=frozenset({"node1"}),
                lost=frozenset({"node1"}),
            )
        )
    )
    assert (Kind.LEAK, IP) == found.identity


@pytest.mark.parametrize(
    ("interfaces", "nodes"), [((NodeInterfaces(node="node1"),), {"node1"}), ((), {"node2"})]
)
def test_pods_that_ended(interfaces: tuple[NodeInterfaces, ...], nodes: set[str]) -> None:
    """
    A pod that has ended and of which nothing is left, or whose node is gone.

    Its release was lost.
    """
    found = the_one(
        compare(
            Snapshot(
                (ENDED,), (RECORD,), (pool_with(RECORD),), (), {}, interfaces, frozenset(nodes)
            )
        )
    )

    assert (Kind.LEAK, IP) == found.identity
    assert "which has ended" in found.text
    assert f"spiderpoolctl ip release --ip {IP} --force" == found.remedy


def test_imported_without_a_pod() -> None:
    """
    A record that was taken over for a pod that never came back knows no sandbox.

    It is a leak like any other.
    """
    imported = make_record(container_id="")
    assert Kind.LEAK in kinds(compare(Snapshot((), (imported,), (pool_with(imported),))))


@pytest.mark.parametrize("state", [IPState.COOLING, IPState.QUARANTINED])
def test_nobody_holds_what_cools(state: IPState) -> None:
    """Records that are not Held have no holder, so they are no leak, no endpoint shows them, no pool counts them."""
    record = let_go(RECORD, state, "2025-01-01T00:00:00Z")

    assert () == compare(Snapshot((), (record,), (pool_with(record),)))


def test_what_the_controller_claims() -> None:
    """An address that the controller takes out of a pool has no pod."""
    holder = replace(RECORD.spec.holder, kind=HolderKind.POOL, name="blue", uid="")
    moving = replace(RECORD, spec=replace(RECORD.spec, holder=holder))

    assert () == compare(Snapshot((), (moving,), (pool_with(moving),)))


def test_not_handed_over() -> None:
    """
    A static record names the pod before the one that runs, which shows the address.

    One that does not show it did not ask for it: the address is a leak.
    """
    owners = {STATIC.metadata.name: HolderOwners(statefulset=make_statefulset())}
    other = make_pod("db-1", uid="uid-3")
    status = replace(other.status, pod_ips=(PodIP(ip=STATIC.spec.ip),))
    again = replace(other, status=status)
    pools, shown = (pool_with(STATIC),), endpoints((STATIC, STATIC_POD))
    found = compare(Snapshot((again,), (STATIC,), pools, shown, owners))
    leak = compare(Snapshot((other,), (STATIC,), pools, shown, owners))

    assert Kind.NOT_HANDED_OVER is the_one(found).kind
    assert "kubectl --namespace ns delete pod db-1" == found[0].remedy
    assert Kind.LEAK is the_one(leak).kind
    assert "pod ns/db-1 came back with UID uid-3 and did not ask for" in leak[0].cause


def test_one_key_twice() -> None:
    """Two addresses for one NIC and family: the one that is not in use can be given back."""
    second = make_record("10.6.0.12")
    found = compare(snapshot(records=(RECORD, second)))

    twice = next(each for each in found if each.kind is Kind.DUPLICATE_CLAIM)
    assert "10.6.0.10, 10.6.0.12" == twice.subject
    assert "spiderpoolctl ip release --ip 10.6.0.12 --force" == twice.remedy


def test_pool_gone() -> None:
    """The pool was deleted by force."""
    found = the_one(compare(snapshot(pools=())))
    assert (Kind.POOL_GONE, IP) == found.identity
    assert "from pool blue, which does not exist" in found.text


def test_outside_its_pool() -> None:
    """A claim that raced with an edit of its pool."""
    edited = pool_with(RECORD, ips=["10.6.0.30-10.6.0.39"])
    found = the_one(compare(snapshot(pools=(edited,))))
    assert (Kind.OUTSIDE_POOL, IP) == found.identity
    assert f"add {IP}" in found.remedy


def test_in_use_without_a_record() -> None:
    """The record was deleted while the pod runs: it can be written again by hand."""
    found = the_one(compare(snapshot(records=(), endpoints=())))

    assert (Kind.UNRECORDED, IP) == found.identity
    assert (
        "spiderpoolctl ip set --ip 10.6.0.10 --pod web-1 --namespace ns --containerid sandbox-1 --node node1 --interface eth0"
        == found.remedy
    )


def test_released_and_still_in_use() -> None:
    """A record that cools while its pod has the address."""
    cooling = let_go(RECORD, IPState.COOLING, "2025-01-01T00:00:00Z")
    found = the_one(compare(snapshot(records=(cooling,), endpoints=())))
    assert (Kind.UNRECORDED, IP) == found.identity
    assert "the record is Cooling" in found.text


def test_a_namespace_without_a_pod() -> None:
    """What a lost DEL leaves: the namespace is to be deleted on its node."""
    left = uses(f"{IP}/16", uid="", path="/var/run/netns/cni-7")
    found = the_one(compare(Snapshot((), (), (pool_with(),), interfaces=(left,))))
    assert (Kind.UNRECORDED, IP) == found.identity
    assert "ip netns delete cni-7  # on node node1" == found.remedy


def test_in_use_by_somebody_else() -> None:
    """Two have one address: the record says who may."""
    thief = make_pod("thief", uid="uid-9")
    both = NodeInterfaces(
        node="node1",
        namespaces=uses(f"{IP}/16").namespaces + uses(f"{IP}/16", uid="uid-9").namespaces,
    )
    found = the_one(compare(snapshot(pods=(POD, thief), interfaces=(both,))))

    assert (Kind.FOREIGN, IP) == found.identity
    assert "pod ns/thief has it on eth0; held by pod ns/web-1" == found.text
    assert "kubectl --namespace ns delete pod thief" == found.remedy


def test_on_another_nic() -> None:
    """The record says eth0, the kernel net1."""
    found = the_one(compare(snapshot(interfaces=(uses(f"{IP}/16", nic="net1"),))))
    assert (Kind.OTHER_NIC, IP) == found.identity


@pytest.mark.parametrize(
    ("interfaces", "words"),
    [
        (uses(), "the pod has nothing"),
        (uses("10.200.0.1/24"), "the pod has 10.200.0.1 on eth0"),
        (NodeInterfaces(node="node1"), "has no network namespace on node node1"),
    ],
)
def test_not_in_use(interfaces: NodeInterfaces, words: str) -> None:
    """The pod runs and does not have the address that it holds."""
    found = the_one(compare(snapshot(interfaces=(interfaces,))))
    assert (Kind.NOT_ASSIGNED, IP) == found.identity
    assert words in found.text


@pytest.mark.parametrize("pod", [make_pod(phase="Pending"), make_pod(node="node9")])
def test_what_is_not_known_is_no_difference(pod: Pod) -> None:
    """
    A pod that is being started may have nothing yet.

    Of a node whose agent did not answer nothing is known.
    """
    assert () == compare(
        snapshot(
            pods=(pod,),
            interfaces=(NodeInterfaces(node="node1"),),
            endpoints=endpoints((RECORD, pod)),
        )
    )


def test_a_pod_that_ends() -> None:
    """While a pod is taken down its namespace may have what is released already."""
    ending = make_pod(deleted=True)
    assert () == compare(Snapshot((ending,), (), (pool_with(),), interfaces=(uses(f"{IP}/16"),)))


def test_other_sandbox() -> None:
    """
    The pod runs in a sandbox that the record does not know.

    Its DEL would not release the address.
    """
    found = the_one(
        compare(snapshot(interfaces=(uses(f"{IP}/16", containers=("sandbox-2", "app")),)))
    )
    assert (Kind.OTHER_SANDBOX, IP) == found.identity
    assert "--containerid sandbox-2" in found.remedy


def test_both_families() -> None:
    """One NIC with an address of each family, and a stray one of each."""
    six = make_record("fd00::10")
    pools = (pool_with(RECORD), pool_with(six, name="six", subnet="fd00::/64"))
    shown = endpoint_of([RECORD, six], POD, DEPLOYMENT)
    assert shown is not None
    both = snapshot(
        records=(RECORD, six),
        pools=pools,
        endpoints=(shown,),
        interfaces=(uses(f"{IP}/16", "fd00::10/64", "10.6.0.12/16", "fd00::12/64"),),
    )

    assert [(Kind.UNRECORDED, "10.6.0.12"), (Kind.UNRECORDED, "fd00::12")] == [
        each.identity for each in compare(both)
    ]


def test_addresses_of_others() -> None:
    """Addresses of no pool are none of ours: an overlay's, a node's."""
    assert () == compare(snapshot(interfaces=(uses(f"{IP}/16", "10.244.1.7/24"),)))


ENDPOINTS = {
    "missing": ((), "no endpoint; held are 10.6.0.10 on eth0"),
    "shows another address": (
        endpoints((make_record("10.6.0.12"), POD)),
        "the endpoint shows 10.6.0.12 on eth0; held are 10.6.0.10 on eth0",
    ),
    "of another pod": (
        endpoints((RECORD, make_pod(uid="uid-9"))),
        "the endpoint is of pod UID uid-9; held by uid-1",
    ),
}


@pytest.mark.parametrize("case", ENDPOINTS)
def test_endpoints(case: str) -> None:
    """An endpoint that is not what the records say can be written again."""
    shown, text = ENDPOINTS[case]
    found = the_one(compare(snapshot(endpoints=shown)))
    assert (Kind.ENDPOINT, "ns/web-1", text, "spiderpoolctl gc --apply") == (
        found.kind,
        found.subject,
        found.text,
        found.remedy,
    )


def test_endpoint_only() -> None:
    """An endpoint without a record and without a pod outlived its pod."""
    found = the_one(compare(Snapshot((), (), (pool_with(),), endpoints((RECORD, POD)))))
    assert (Kind.ENDPOINT, "it outlived its pod") == (found.kind, found.cause)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (
            IPPoolStatus(total_ip_count=10, allocated_ip_count=0),
            "status says 0 of 10 allocated, the records 1 of 10",
        ),
        (
            IPPoolStatus(total_ip_count=9, allocated_ip_count=1),
            "status says 1 of 9 allocated, the records 1 of 10",
        ),
        (
            IPPoolStatus(total_ip_count=10, allocated_ip_count=1, allocated_ips="{}"),
            "names other addresses",
        ),
    ],
)
def test_pool_status(status: IPPoolStatus, text: str) -> None:
    """Counts and map of a pool's status."""
    found = the_one(compare(snapshot(pools=(replace(make_ippool(), status=status),))))
    assert (Kind.POOL_STATUS, "blue") == found.identity
    assert text in found.text


def test_a_status_without_its_map() -> None:
    """Above its limit the map is left out; the counts tell."""
    status = IPPoolStatus(total_ip_count=10, allocated_ip_count=1)
    assert () == compare(snapshot(pools=(replace(make_ippool(), status=status),)))


def subnet_with(*pools: SpiderIPPool, **status: Any) -> SpiderSubnet:
    """Make a subnet whose status is what these pools have; keywords are keys of the status."""
    subnet = SpiderSubnet(
        metadata=ObjectMeta(name="s1", uid="s1-uid"),
        spec=SubnetSpec(subnet="10.6.0.0/16", ips=("10.6.0.10-10.6.0.29",)),
    )
    parsed = Subnet.parse(subnet)
    grants = settle_grants(parsed, [Pool.parse(pool) for pool in pools], keep_unbuilt=False)
    return replace(subnet, status=replace(subnet_status(grants, parsed.total), **status))


def under(pool: SpiderIPPool) -> SpiderIPPool:
    """Let subnet `s1` control a pool."""
    return replace(
        pool, metadata=replace(pool.metadata, owner_references=(subnet_reference("s1", "s1-uid"),))
    )


def test_a_subnet_and_its_pools_agree() -> None:
    """
    What the status gives to a pool is what the pool has.

    A pool of somebody else is not looked for.
    """
    mine, other = (
        under(pool_with(RECORD)),
        make_ippool("other", ips=["10.6.1.0-10.6.1.9"], status={"totalIPCount": 10}),
    )
    assert () == compare(snapshot(pools=(mine, other), subnets=(subnet_with(mine),)))


@pytest.mark.parametrize(
    ("subject", "status", "text"),
    [
        (
            "s1/blue",
            {
                "controlled_ippools": '{"blue":{"ips":["10.6.0.10-10.6.0.18"]}}',
                "allocated_ip_count": 9,
            },
            "the status gives 10.6.0.10-10.6.0.18 to IPPool blue, which has 10.6.0.10-10.6.0.19",
        ),
        (
            "s1/blue",
            {"controlled_ippools": None, "allocated_ip_count": 0},
            "the status gives nothing to IPPool blue, which has 10.6.0.10-10.6.0.19",
        ),
        (
            "s1/gone",
            {
                "controlled_ippools": '{"blue":{"ips":["10.6.0.10-10.6.0.19"]},"gone":{"ips":["10.6.0.20"]}}',
                "allocated_ip_count": 11,
            },
            "the status gives 10.6.0.20 to IPPool gone, which it does not control, or which does not exist",
        ),
        (
            "s1",
            {"allocated_ip_count": 3},
            "the status says 3 of 20 given to pools, its entries and ips say 10 of 20",
        ),
        (
            "s1",
            {"total_ip_count": None},
            "the status says 10 of 0 given to pools, its entries and ips say 10 of 20",
        ),
    ],
)
def test_subnet_status(subject: str, status: dict[str, Any], text: str) -> None:
    """
    Entries and counts of a subnet's status, each against the pools.

    The leader writes it again.
    """
    mine = under(pool_with(RECORD))
    found = the_one(compare(snapshot(pools=(mine,), subnets=(subnet_with(mine, **status),))))
    assert (Kind.SUBNET_STATUS, subject) == found.identity
    assert text == found.text
    assert (
        "kubectl --namespace kube-system rollout restart deployment spiderpool-controller"
        == found.remedy
    )


def test_not_imported() -> None:
    """Allocations of Go Spiderpool that nobody took over yet."""
    waiting = make_ippool(
        "old", annotations={}, status={"allocatedIPs": '{"10.6.0.10":{"pod":"a/b","podUid":"u"}}'}
    )
    assert [Kind.NOT_IMPORTED] == kinds(compare(Snapshot(pools=(waiting,))))


def test_a_new_pool() -> None:
    """A pool that the controller has not marked yet has no status to compare."""
    assert () == compare(Snapshot(pools=(make_ippool(annotations={}),)))


def test_lasting() -> None:
    """
    A difference counts when the second reading has it too.

    Its words are then those of the second.
    """
    leak = Difference(Kind.LEAK, IP, "first", "", "")
    again = Difference(Kind.LEAK, IP, "second", "", "")
    other = Difference(Kind.LEAK, "10.6.0.11", "", "", "")

    assert (again,) == lasting([leak], [again, other])


@pytest.mark.parametrize(("count", "lag_s"), [(200, 2.0), (201, 12.0)])
def test_time_of_projections(count: int, lag_s: float) -> None:
    """
    The status of a pool with more than 200 records is written once in 10 s, others in 1 s.

    Source: docs/reference/objects.md#pool-status.
    """
    pool = make_pool(ips=["10.6.1.0-10.6.1.255"])
    records = tuple(make_record(f"10.6.1.{number}", pool) for number in range(count))
    assert lag_s == Snapshot(records=records).lag_s


POOL_IPS = st.integers(10, 19).map(lambda number: f"10.6.0.{number}")


@given(held=st.dictionaries(POOL_IPS, st.integers(0, 5), max_size=10))
def test_consistent_sources_agree(held: dict[str, int]) -> None:
    """
    Law.

    Books that are all derived from the same holders agree, whatever the holders, each on a NIC of
    its own.
    """
    pods = {number: make_pod(f"p{number}", uid=f"u{number}") for number in set(held.values())}
    records = [
        make_record(ip, facts=make_facts(pod=pods[number]), nic=f"net{index}")
        for index, (ip, number) in enumerate(sorted(held.items()))
    ]
    shown = [
        endpoint_of([r for r in records if r.spec.holder.uid == pod.metadata.uid], pod, DEPLOYMENT)
        for pod in pods.values()
    ]
    in_use = [
        InUseNamespace(
            path=f"/var/run/netns/{pod.metadata.name}",
            pod_uid=pod.metadata.uid,
            containers=("sandbox-1",),
            interfaces=tuple(
                InUseInterface(nic=r.spec.holder.nic, addresses=(f"{r.spec.ip}/16",))
                for r in records
                if r.spec.holder.uid == pod.metadata.uid
            ),
        )
        for pod in pods.values()
    ]
    whole = Snapshot(
        tuple(pods.values()),
        tuple(records),
        (pool_with(*records),),
        tuple(endpoint for endpoint in shown if endpoint is not None),
        {},
        (NodeInterfaces(node="node1", namespaces=tuple(in_use)),),
    )
    assert () == compare(whole)


@given(held=st.dictionaries(POOL_IPS, st.integers(0, 5), min_size=1, max_size=10), lost=st.data())
def test_a_lost_record_is_found(held: dict[str, int], lost: st.DataObject) -> None:
    """Law: whichever record is lost while its pod has the address, it is named."""
    gone = lost.draw(st.sampled_from(sorted(held)))
    pods = {number: make_pod(f"p{number}", uid=f"u{number}") for number in set(held.values())}
    records = tuple(
        record_of(make_record(ip, facts=make_facts(pod=pods[n])).spec)
        for ip, n in held.items()
        if ip != gone
    )
    in_use = NodeInterfaces(
        node="node1",
        namespaces=tuple(
            uses(f"{ip}/16", uid=f"u{n}", path=f"/{ip}").namespaces[0] for ip, n in held.items()
        ),
    )
    found = compare(
        Snapshot(tuple(pods.values()), records, (pool_with(*records),), interfaces=(in_use,))
    )

    assert [gone] == [
        difference.subject for difference in found if difference.kind is Kind.UNRECORDED
    ]
