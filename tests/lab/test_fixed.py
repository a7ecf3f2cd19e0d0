"""
Addresses that are promised.

Pins, StatefulSets that are made again, and pools without one to spare.
"""

from __future__ import annotations

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import ENS192
from tests.lab.retry import until, until_none
from tests.lab.story import Story, kubelet_says

IP = "ipam.spidernet.io/ip"


def test_pinned_addresses(story: Story) -> None:
    """
    The replicas of a StatefulSet have the addresses that its list gives them, of both families.

    A pod that wants one of them is refused with the holder's name, in Event and CNI error, and
    starts once it is free.
    """
    four, six = ENS192.take(4, 4), ENS192.take(6, 4)
    pools = {
        "ipv4": [story.pool_of("v4", str(ENS192.network(4)), [f"{four[0]}-{four[-1]}"])],
        "ipv6": [story.pool_of("v6", str(ENS192.network(6)), [f"{six[0]}-{six[-1]}"])],
    }
    network = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: pools}
    fixed = [f"{four[2]}", f"{four[0]}", f"{six[1]}-{six[2]}"]
    parallel = {"serviceName": "db", "podManagementPolicy": "Parallel"}
    story.workload("StatefulSet", "db", 2, network | {IP: fixed}, **parallel)
    first, second = story.wait_replicas("db", 2)

    assert {("eth0", four[2]), ("eth0", six[1])} == first.inside.underlay()
    assert {("eth0", four[0]), ("eth0", six[2])} == second.inside.underlay()

    late = story.pod("late", network | {IP: f"{four[0]}"}, wait=False)
    holder = f"{four[0]}, which is asked for, is held by pod {story.namespace}/db-1 (eth0, node {second.node})"
    story.warning(late, holder, within_s=40)
    until(
        lambda: kubelet_says(late, holder),
        "the CNI error says so too",
        seen=lambda: late.events()[-2:],
    )

    story.kube.patch("StatefulSet", "db", {"spec": {"replicas": 1}}, story.namespace)
    story.wait_running(late, within_s=90)

    assert four[0] == late.address("eth0")
    assert {("eth0", four[2]), ("eth0", six[1])} == first.inside.underlay()


def test_stateful_set_made_again_has_its_addresses(story: Story) -> None:
    """A StatefulSet that is deleted and made again takes its addresses back while they rest, though others are free."""
    pool = story.pool("p", count=20)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    parallel = {"serviceName": "db", "podManagementPolicy": "Parallel"}
    story.workload("StatefulSet", "db", 2, annotations, **parallel)
    in_use = {pod.name: pod.address("eth0") for pod in story.wait_replicas("db", 2)}

    story.kube.delete("StatefulSet", "db", story.namespace, propagationPolicy="Foreground")
    until_none(story.records, "nothing is held", within_s=40)
    assert sorted(in_use.values()) == [
        record.ip for record in story.records(pool, states=("Cooling",))
    ]
    story.workload("StatefulSet", "db", 2, annotations, **parallel)

    assert in_use == {pod.name: pod.address("eth0") for pod in story.wait_replicas("db", 2)}


def test_full_pool_comes_back(story: Story) -> None:
    """Twelve pods in exactly twelve addresses, on all nodes, are all deleted at once and come back without help."""
    pool = story.pool("exact", count=12)
    story.workload(
        "Deployment", "many", 12, {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    )
    before = story.wait_replicas("many", 12, within_s=120)

    story.kube.delete_all("Pod", story.namespace)
    until(lambda: not any(pod.thing for pod in before), "the old pods are gone", within_s=60)
    after = story.wait_replicas("many", 12, within_s=120)

    assert 12 == len({pod.address("eth0") for pod in after})


def test_backup_pool_in_a_burst(story: Story) -> None:
    """
    A pool that runs out in the middle of a burst gives all that it has.

    Its backup gives the rest, and no more.
    """
    first, backup = story.pool("a-first", count=3), story.pool("b-backup", count=9)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [first, backup]}}
    story.workload("Deployment", "many", 8, annotations)

    story.wait_replicas("many", 8, within_s=120)

    assert (3, 5) == (len(story.records(first)), len(story.records(backup)))
