"""
Automatic pools.

Created, resized, kept and deleted, whatever happens in between.

Source: docs/reference/automatic-pools.md.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.ippool import Route, SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, OwnerReference, Resource
from spiderpool.api.kubernetes.workloads import (
    CronJob,
    DaemonSet,
    Deployment,
    Job,
    ReplicaSet,
    StatefulSet,
)
from spiderpool.controller.pools.pool_claims import STALE_S
from spiderpool.errors import UnknownOutcome
from spiderpool.ipam.pool_size import SizeLimits
from tests.fakes.cluster import Call
from tests.unit.controller.conftest import make_pool, make_record
from tests.unit.controller.desk import NUMBER, SUBNET, SUBNETS, Desk, addresses

ETH0 = "auto4-web-eth0-7f619"
RECLAIM = "ipam.spidernet.io/ippool-reclaim"


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Return a cluster with subnet `s1` of 10.6.0.10-19."""
    async with Desk() as found:
        found.subnet(gateway="10.6.0.1")
        yield found


async def test_two_nics(desk: Desk) -> None:
    """
    Each NIC and family has a pool of replicas + 1, the lowest addresses of its subnet.

    The subnets' status says so.
    """
    desk.subnet("s2", "10.7.0.0/16", "10.7.0.10-10.7.0.19")
    desk.subnet("s6", "fd00:6::/64")
    items = [
        {"interface": "eth0", "ipv4": ["s1"], "ipv6": ["s6"]},
        {"interface": "net1", "ipv4": ["s2"]},
    ]
    desk.app(annotations={SUBNETS: items, NUMBER: "+1"})
    await desk.lead()
    await desk.settle()

    assert {
        ETH0: ["10.6.0.10-10.6.0.12"],
        "auto4-web-net1-7f619": ["10.7.0.10-10.7.0.12"],
        "auto6-web-eth0-7f619": ["fd00:6::10-fd00:6::12"],
    } == desk.pools()
    assert (3, 10) == desk.counts("s1")
    assert "apps_v1_Deployment_ns_web" == desk.grants()[ETH0].application
    assert "10.6.0.1" == desk.pool(ETH0).spec.gateway


@pytest.mark.parametrize(("number", "size"), [(None, 3), ("+0", 2), ("+2", 4), ("5", 5), ("0", 0)])
async def test_number(desk: Desk, number: str | None, size: int) -> None:
    """
    `N`, `+N` and the configured redundancy (1) decide the size.

    The pool's annotation says which number it was.
    """
    annotations: dict[str, Any] = {SUBNET: {"ipv4": ["s1"]}}
    desk.app(annotations=annotations if number is None else {**annotations, NUMBER: number})
    await desk.lead()
    await desk.settle()

    assert size == addresses(*desk.pools()[ETH0]).size
    assert (number or "+1") == desk.pool(ETH0).metadata.annotations[NUMBER]


@pytest.mark.parametrize("number", ["+100000000", "100000000"])
async def test_limit(desk: Desk, number: str) -> None:
    """
    One annotation takes no whole subnet: the pool has what the limit allows, and the Event says so.

    Asking for less afterwards gives the addresses back, in steps.
    """
    desk.subnet("big", "10.0.0.0/8", "10.0.0.0-10.255.255.255")
    desk.app(annotations={SUBNET: {"ipv4": ["big"]}, NUMBER: number})
    await desk.lead()
    await desk.settle()

    assert 70 == addresses(*desk.pools()[ETH0]).size  # 3 x 2 replicas + 64
    assert {"PoolSizeLimited"} == {told[-2] for told in desk.told.events}
    assert 70 == desk.counts("big")[0]


async def test_larger_pool_of_former_days(desk: Desk) -> None:
    """
    A pool from before the limit keeps its size, and leaves step by step.

    Never more claims than a step.
    """
    desk.subnet("big", "10.0.0.0/8", "10.0.0.0-10.255.255.255")
    desk.app(annotations={SUBNET: {"ipv4": ["big"]}, NUMBER: "1000"})
    desk.limits = SizeLimits(5000, 0, 5000)
    await desk.lead()
    await desk.settle()
    desk.limits = SizeLimits()
    await desk.lead()
    await desk.settle()
    assert 1000 == addresses(*desk.pools()[ETH0]).size

    desk.app(annotations={SUBNET: {"ipv4": ["big"]}, NUMBER: "+1"})
    claims: list[int] = []

    async def look(_: Call) -> None:
        claims.append(len(desk.claims()))

    desk.cluster.on_write(look)
    for _ in range(20):
        await desk.settle(rounds=2, seconds=STALE_S)
    assert 3 == addresses(*desk.pools()[ETH0]).size
    assert 256 == max(claims)
    assert [] == desk.claims()


async def test_every_kind(desk: Desk) -> None:
    """
    All of Kubernetes' own controllers have pools.

    What a Deployment or CronJob manages has none of its own.
    """
    manager = OwnerReference(
        api_version="apps/v1", kind="Deployment", name="web", uid="d", controller=True
    )
    for number, kind in enumerate((ReplicaSet, StatefulSet, DaemonSet, Job, CronJob)):
        desk.app(f"app{number}", 1, kind=kind, uid=f"u-{number}{number}{number}{number}{number}")
    managed = desk.app("managed", kind=ReplicaSet, uid="u-managed")
    desk.cluster.seed(
        replace(managed, metadata=replace(managed.metadata, owner_references=(manager,)))
    )
    template: dict[str, Any] = {"metadata": {"annotations": {SUBNET: '{"ipv4":["s1"]}'}}}
    desk.app(
        "app4",
        0,
        kind=CronJob,
        uid="u-44444",
        jobTemplate={"spec": {"completions": 1, "template": template}},
    )
    await desk.lead()
    await desk.settle()

    assert [f"auto4-app{number}-eth0-{str(number) * 5}" for number in range(5)] == list(
        desk.pools()
    )


async def test_hostnetwork_has_no_pool(desk: Desk) -> None:
    """Pods on their node's own network need no addresses."""
    app = desk.app()
    template = replace(app.spec.template, spec=replace(app.spec.template.spec, host_network=True))
    desk.cluster.seed(replace(app, spec=replace(app.spec, template=template)))
    await desk.lead()
    await desk.settle()

    assert {} == desk.pools()


async def test_grow_and_shrink(desk: Desk) -> None:
    """
    A pool follows its replicas: up by the lowest free addresses, down by the lowest idle ones.

    Claims do not stay.
    """
    desk.app(replicas=2)
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.10", ETH0, "p1")
    desk.app(replicas=4)
    await desk.settle()
    assert ["10.6.0.10-10.6.0.14"] == desk.pools()[ETH0]

    desk.app(replicas=1)
    await desk.settle(rounds=2)
    assert ["10.6.0.10", "10.6.0.14"] == desk.pools()[ETH0]
    assert ["10.6.0.11", "10.6.0.12", "10.6.0.13"] == desk.claims()
    await desk.settle(seconds=STALE_S)

    assert [] == desk.claims()
    assert (2, 10) == desk.counts()


async def test_pods_in_the_way(desk: Desk) -> None:
    """A pool shrinks when enough of its pods have gone, without being asked again."""
    desk.app(replicas=2)
    await desk.lead()
    await desk.settle()
    for number in (10, 11, 12):
        desk.hold(f"10.6.0.{number}", ETH0, f"p{number}")
    desk.app(replicas=1)
    await desk.settle()
    assert ["10.6.0.10-10.6.0.12"] == desk.pools()[ETH0]

    desk.cluster.drop(SpiderIP, "10.6.0.11")
    await desk.settle()

    assert ["10.6.0.10", "10.6.0.12"] == desk.pools()[ETH0]


async def test_address_taken_while_it_leaves(desk: Desk) -> None:
    """An address that a pod takes in the very moment of shrinking stays, another one leaves."""
    desk.app(replicas=2)
    await desk.lead()
    await desk.settle()
    taken: list[object] = []

    def take(call: Any) -> None:
        if call.verb == "create" and call.name == "10.6.0.10" and not taken:
            taken.append(desk.hold("10.6.0.10", ETH0))

    desk.cluster.on_write(take)
    desk.app(replicas=1)
    await desk.settle()

    assert ["10.6.0.10", "10.6.0.12"] == desk.pools()[ETH0]


async def test_cooling_address_leaves(desk: Desk) -> None:
    """An address that cools is idle: it leaves with its record."""
    desk.app(replicas=2)
    await desk.lead()
    await desk.settle()
    desk.cluster.seed(make_record("10.6.0.10", pool=ETH0, state=IPState.COOLING))
    desk.app(replicas=1)
    await desk.settle(seconds=STALE_S)

    assert ["10.6.0.11-10.6.0.12"] == desk.pools()[ETH0]
    assert () == desk.cluster.all(SpiderIP)


async def test_deleted_application(desk: Desk) -> None:
    """
    With its application a pool goes, after its last pod.

    Then the subnet has all its addresses again.
    """
    desk.app()
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.10", ETH0)
    desk.cluster.drop(Deployment, "web", "ns")
    await desk.settle()
    assert desk.pool(ETH0).metadata.deletion_timestamp is not None
    assert (3, 10) == desk.counts()

    desk.cluster.drop(SpiderIP, "10.6.0.10")
    await desk.settle()

    assert {} == desk.pools()
    assert (0, 10) == desk.counts()


async def test_deleted_while_nobody_led(desk: Desk) -> None:
    """The next leader finds the pools of an application that went before it began."""
    desk.app()
    await desk.lead()
    await desk.settle()
    desk.writes = 0
    desk.cluster.drop(Deployment, "web", "ns")
    await desk.settle()
    desk.writes = None
    await desk.lead()
    await desk.settle()

    assert {} == desk.pools()
    assert (0, 10) == desk.counts()


async def test_kept_pool_is_used_again(desk: Desk) -> None:
    """With `ippool-reclaim` false a pool stays, and the next application of that name and kind takes it over."""
    keep = {SUBNET: {"ipv4": ["s1"]}, RECLAIM: "false"}
    desk.app(annotations=keep)
    await desk.lead()
    await desk.settle()
    desk.cluster.drop(Deployment, "web", "ns")
    await desk.settle()
    assert {ETH0: ["10.6.0.10-10.6.0.12"]} == desk.pools()
    assert (3, 10) == desk.counts()

    desk.app(replicas=3, annotations=keep, uid="00000000-0000-0000-0000-222222222222")
    await desk.settle()

    assert {ETH0: ["10.6.0.10-10.6.0.13"]} == desk.pools()
    assert (
        "00000000-0000-0000-0000-222222222222"
        == desk.pool(ETH0).metadata.labels["ipam.spidernet.io/owner-application-uid"]
    )


async def test_reborn_application(desk: Desk) -> None:
    """
    An application that was deleted and made again has a new pool.

    The old one goes with its last pod.
    """
    desk.app()
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.10", ETH0)
    desk.cluster.drop(Deployment, "web", "ns")
    desk.app(uid="00000000-0000-0000-0000-222222222222")
    await desk.settle()
    assert [ETH0, "auto4-web-eth0-22222"] == sorted(desk.pools(), reverse=True)

    desk.cluster.drop(SpiderIP, "10.6.0.10")
    await desk.settle()

    assert ["auto4-web-eth0-22222"] == list(desk.pools())
    assert (3, 10) == desk.counts()


async def test_another_subnet(desk: Desk) -> None:
    """
    An application that changes its subnet has a pool there at once.

    The old one stays until its pods have moved.
    """
    desk.subnet("s2", "10.7.0.0/16", "10.7.0.10-10.7.0.19")
    desk.app()
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.10", ETH0)
    desk.app(annotations={SUBNET: {"ipv4": ["s2"]}})
    await desk.settle()
    (new,) = set(desk.pools()) - {ETH0}
    assert ["10.7.0.10-10.7.0.12"] == desk.pools()[new]
    assert desk.pool(ETH0).metadata.deletion_timestamp is None

    desk.cluster.drop(SpiderIP, "10.6.0.10")
    await desk.settle()

    assert [new] == list(desk.pools())
    assert ((0, 10), (3, 10)) == (desk.counts("s1"), desk.counts("s2"))


async def test_who_found_another_subnet_waits_no_more(desk: Desk) -> None:
    """An application that was refused by one subnet and is served by another is left alone until something changes."""
    desk.app(annotations={SUBNET: {"ipv4": ["nowhere"]}})
    await desk.lead()
    await desk.settle(rounds=2)
    desk.app(annotations={SUBNET: {"ipv4": ["s1"]}})
    await desk.settle(rounds=2)
    assert 1 == len(desk.pools())

    (queue,) = (queue for queue in desk._loops if queue.name == "automatic pools")
    assert 0 == len(queue)


async def test_too_small_a_subnet(desk: Desk) -> None:
    """A subnet without room is told on the application; when it grows, the pool comes."""
    desk.app(replicas=12)
    await desk.lead()
    await desk.settle(rounds=2)
    assert {} == desk.pools()
    assert ("web", "SubnetExhausted") == desk.told.events[0][:2]
    assert (
        "no room for a pool of 13 for eth0 IPv4: 13 more addresses are needed, 10 are free"
        in desk.told.events[0][2]
    )

    subnet = desk.cluster.all(SpiderSubnet)[0]
    desk.cluster.seed(replace(subnet, spec=replace(subnet.spec, ips=("10.6.0.10-10.6.0.29",))))
    await desk.settle(rounds=2)

    assert {ETH0: ["10.6.0.10-10.6.0.22"]} == desk.pools()


async def test_missing_subnet(desk: Desk) -> None:
    """A subnet that does not exist is told on the application; when it comes, the pool does."""
    desk.app(annotations={SUBNET: {"ipv4": ["s9"]}})
    await desk.lead()
    await desk.settle(rounds=2)
    assert (
        "web",
        "SubnetUnusable",
        "SpiderSubnet s9 does not exist; create it or correct the name",
    ) == desk.told.events[0]

    desk.subnet("s9", "10.9.0.0/16", "10.9.0.1-10.9.0.9")
    await desk.settle(rounds=2)

    assert ["10.9.0.1-10.9.0.3"] == desk.pools()[ETH0]


async def test_wrong_input(desk: Desk) -> None:
    """
    A mistake in the template is told on the application, with the annotation's name.

    Nothing is changed.
    """
    desk.app(annotations={SUBNET: {"ipv4": ["s1"]}, NUMBER: "many"})
    await desk.lead()
    await desk.settle(rounds=2)

    assert {} == desk.pools()
    assert ("web", "WrongInput") == desk.told.events[0][:2]
    assert NUMBER in desk.told.events[0][2]


async def test_others_addresses(desk: Desk) -> None:
    """Addresses of pools made by hand and reserved ones are left out."""
    desk.cluster.seed(make_pool("mine", ips=("10.6.0.10-10.6.0.11",)))
    desk.cluster.seed(
        SpiderReservedIP(
            metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ip_version=4, ips=("10.6.0.13",))
        )
    )
    desk.app()
    await desk.lead()
    await desk.settle()

    assert ["10.6.0.12", "10.6.0.14-10.6.0.15"] == desk.pools()[ETH0]


async def test_addresses_of_no_host(desk: Desk) -> None:
    """
    Network and broadcast address, gateway and next hops are left out.

    Each address of the pool is one for a pod.
    """
    more = {
        "gateway": "10.9.0.1",
        "exclude_ips": ("10.9.0.1",),
        "routes": (Route(dst="10.8.0.0/16", gw="10.9.0.2"),),
    }
    desk.subnet("s9", "10.9.0.0/29", "10.9.0.0-10.9.0.7", **more)
    desk.app(annotations={SUBNET: {"ipv4": ["s9"]}})
    await desk.lead()
    await desk.settle()
    assert ["10.9.0.3-10.9.0.5"] == desk.pools()[ETH0]

    desk.app(replicas=4, annotations={SUBNET: {"ipv4": ["s9"]}})
    await desk.settle()

    assert ["10.9.0.3-10.9.0.5"] == desk.pools()[ETH0]
    assert "2 more addresses are needed, 1 are free" in desk.told.events[-1][2]


async def test_a_reservation_with_a_bad_item(desk: Desk) -> None:
    """The good item of a reservation counts, though another one cannot be read."""
    spec = ReservedIPSpec(ip_version=4, ips=("10.6.0.0/24", "10.6.0.10"))
    desk.cluster.seed(SpiderReservedIP(metadata=ObjectMeta(name="r"), spec=spec))
    desk.app()
    await desk.lead()
    await desk.settle()

    assert ["10.6.0.11-10.6.0.13"] == desk.pools()[ETH0]


async def test_many_at_once(desk: Desk) -> None:
    """Applications that come together share a subnet without a common address."""
    subnet = desk.cluster.all(SpiderSubnet)[0]
    desk.cluster.seed(replace(subnet, spec=replace(subnet.spec, ips=("10.6.1.0-10.6.1.255",))))
    for number in range(20):
        desk.app(f"web{number}", uid=f"uid-{number:05}")
    await desk.lead()
    await desk.settle()

    spans = [addresses(*ips) for ips in desk.pools().values()]
    assert 20 == len(spans)
    assert (60, 256) == desk.counts()
    assert 60 == addresses(*(ip for ips in desk.pools().values() for ip in ips)).size


async def test_lost_answer(desk: Desk) -> None:
    """A create whose answer is lost makes one pool, not two."""
    desk.cluster.faults.fail_next(
        "create", SpiderIPPool, UnknownOutcome("no answer"), after_commit=True
    )
    desk.app()
    await desk.lead()
    await desk.settle()

    assert {ETH0: ["10.6.0.10-10.6.0.12"]} == desk.pools()
    assert (3, 10) == desk.counts()


@pytest.mark.parametrize("writes", range(12))
async def test_leader_ends_between_two_writes(desk: Desk, writes: int) -> None:
    """
    Wherever a leader's work is cut off, the next one ends it.

    Sizes are met, nothing is claimed or granted for nobody.
    """
    desk.subnet("s2", "10.7.0.0/16", "10.7.0.10-10.7.0.19")
    desk.app(replicas=4)
    await desk.lead()
    await desk.settle()
    desk.hold("10.6.0.11", ETH0)
    desk.writes = writes
    desk.app(replicas=1)
    desk.app("other", 2, uid="uid-otherr")
    await desk.settle(rounds=3)
    desk.writes = None
    await desk.lead()
    await desk.settle(seconds=STALE_S)

    assert ["10.6.0.11", "10.6.0.14"] == desk.pools()[ETH0]
    assert 3 == addresses(*desk.pools()["auto4-other-eth0-other"]).size
    assert [] == desk.claims()
    assert {name: addresses(*ips) for name, ips in desk.pools().items()} == {
        name: grant.ips for name, grant in desk.grants().items()
    }


class CloneSet(KubeObject, frozen=True, kw_only=True):
    """A controller that is not one of Kubernetes' own."""

    resource: ClassVar[Resource] = Resource(
        "apps.kruise.io", "v1alpha1", "CloneSet", "clonesets", namespaced=True
    )

    spec: dict[str, int] = {}


def clone_set(replicas: int | None) -> CloneSet:
    """Make a CloneSet; without replicas it has no scale subresource."""
    metadata = ObjectMeta(name="clones", namespace="ns", uid="clones-00000uid")
    return CloneSet(metadata=metadata, spec={} if replicas is None else {"replicas": replicas})


async def test_third_party_with_scale(desk: Desk) -> None:
    """A kind that the configuration lists is followed by its scale subresource, and its pool goes with it."""
    desk.cluster.seed(clone_set(2))
    desk.foreign_pod("clones-1", annotations={SUBNET: {"ipv4": ["s1"]}, NUMBER: "+2"})
    await desk.lead()
    await desk.settle()
    assert {"auto4-clones-eth0-00000": ["10.6.0.10-10.6.0.13"]} == desk.pools()

    desk.cluster.seed(clone_set(3))
    await desk.settle()
    assert {"auto4-clones-eth0-00000": ["10.6.0.10-10.6.0.14"]} == desk.pools()

    desk.cluster.drop(Pod, "clones-1", "ns")
    desk.cluster.drop(CloneSet, "clones", "ns")
    await desk.settle()
    assert {} == desk.pools()


async def test_third_party_without_scale(desk: Desk) -> None:
    """
    Without known replicas a number is required, and it is a fixed one even with a sign.

    Source: docs/reference/automatic-pools.md#which-applications.
    """
    desk.cluster.seed(clone_set(None))
    desk.foreign_pod("clones-1", annotations={SUBNET: {"ipv4": ["s1"]}})
    await desk.lead()
    await desk.settle(rounds=2)
    assert {} == desk.pools()
    assert "whose replicas are not known" in desk.told.events[0][2]

    desk.foreign_pod("clones-2", annotations={SUBNET: {"ipv4": ["s1"]}, NUMBER: "+2"})
    await desk.settle()

    assert {"auto4-clones-eth0-00000": ["10.6.0.10-10.6.0.11"]} == desk.pools()
    assert "2" == desk.pool("auto4-clones-eth0-00000").metadata.annotations[NUMBER]


async def test_listed_kind_scaled_to_nothing(desk: Desk) -> None:
    """A pool stays as long as an object of a listed kind exists without pods, also for a leader who never saw one."""
    desk.cluster.seed(clone_set(2))
    desk.foreign_pod("clones-1", annotations={SUBNET: {"ipv4": ["s1"]}})
    await desk.lead()
    await desk.settle()
    desk.cluster.drop(Pod, "clones-1", "ns")
    await desk.lead()
    await desk.settle(seconds=60.0)
    assert {"auto4-clones-eth0-00000": ["10.6.0.10-10.6.0.12"]} == desk.pools()

    desk.cluster.drop(CloneSet, "clones", "ns")
    await desk.settle(seconds=60.0)
    assert {} == desk.pools()
