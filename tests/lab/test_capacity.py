"""
Pools that run full.

Backups, reservations, waiting, and that nothing is taken twice or kept by a pod that does not
start.
"""

from __future__ import annotations

import time
from typing import Any

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NETWORKS
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story, is_ours
from tests.lab.test_sources import pools_of

# of kubelet, seen to the end before a story believes that nothing more is taken; the next is under
# way then
RETRIES = 1


def test_twenty_pods_into_twenty_addresses(story: Story) -> None:
    """As many pods as addresses, on all nodes at once: each gets one of its own, none fails."""
    pool = story.pool("exact", count=20)
    story.workload(
        "Deployment", "many", 20, {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    )

    pods = story.wait_replicas("many", 20, within_s=120)

    in_use = [pod.address("eth0") for pod in pods]
    assert 20 == len(set(in_use))
    assert sorted(in_use) == [record.ip for record in story.records(pool)]
    assert {"node1", "node2", "node3"} == {record.node for record in story.records(pool)}


def test_backup_pools_in_written_order(story: Story) -> None:
    """Pools of one list are used up in the order in which they are written, not by name."""
    pools = [story.pool("c", count=1), story.pool("a", count=1), story.pool("b", count=2)]
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": pools}}

    pods = [story.pod(f"pod{number}", annotations) for number in range(3)]

    assert ["c", "a", "b"] == [pools_of(story, pod)["eth0", 4] for pod in pods]


def test_reserved_and_excluded_addresses(story: Story) -> None:
    """Addresses that are reserved or excluded are never handed out, and a pod that finds only those is told so."""
    ips = ENS192.take(4, 4)
    pool = story.pool_of(
        "p", str(ENS192.network(4)), [f"{ips[0]}-{ips[3]}"], excludeIPs=[str(ips[0])]
    )
    story.reserve("r", str(ips[1]), str(ips[3]))
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}

    pod = story.pod("pod", annotations)
    late = story.pod("late", annotations, wait=False)

    assert {("eth0", ips[2])} == pod.inside.underlay()
    text = story.warning(late, "all IP addresses used out", pool, within_s=40)
    assert "1 of 3 addresses held, 2 reserved" in text
    assert set() == story.sips_of(late)


def test_reservation_evicts_nobody(story: Story) -> None:
    """Reserving an address that a pod has leaves the pod alone."""
    pool = story.pool("p", count=1)
    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}})
    before = pod.inside.underlay()

    story.reserve("r", str(pod.address("eth0")))

    time.sleep(1)
    assert before == pod.inside.underlay()
    assert before == story.sips_of(pod)


def test_full_pool_serves_when_it_can(story: Story) -> None:
    """
    Pods that meet a full pool say so.

    They start when another pod gives its address back and when the pool grows.
    """
    ips = ENS192.take(4, 2)
    pool = story.pool_of("p", str(ENS192.network(4)), [str(ips[0])])
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    first = story.pod("first", annotations, node="node1")
    waiting = [
        story.pod(f"waits-on-{node}", annotations, node=node, wait=False)
        for node in ("node1", "node2")
    ]
    for pod in waiting:
        said = story.warning(pod, "all IP addresses used out", within_s=40)
        assert f"pool {pool}: 1 of 1 addresses held, none free" in said

    story.delete(first)
    story.kube.patch("SpiderIPPool", pool, {"spec": {"ips": [f"{ips[0]}-{ips[1]}"]}})

    story.wait_running(*waiting, within_s=60)
    assert sorted(ips) == sorted(pod.address("eth0") for pod in waiting)


def test_exhausted_nic_takes_nothing_more(story: Story) -> None:
    """
    Where the pool of the first NIC, or of the second, is full, a pod takes nothing more with each retry.

    `named` and `reverse` ask for both NICs at once, so they hold nothing between retries;
    `one-by-one` asks for each NIC when its lock comes and keeps what its first NIC got.
    """
    lan, storage = story.macvlan("lan"), story.macvlan("storage", ENS224, clean_gateway=True)
    full = story.pool("full", count=1)
    full2 = story.pool("full2", ENS224, count=1)
    free, free2 = story.pool("free", count=4), story.pool("free2", ENS224, count=4)
    both = {DEFAULT_NETWORK: lan, NETWORKS: storage}
    first = story.pod("holder", both | {IPPOOLS: _items(full, full2)})
    conf = story.macvlan("conf", ENS224, clean_gateway=True, default_ipv4_ippool=[full2])
    annotations: dict[str, dict[str, Any]] = {
        "first": both | {IPPOOLS: _items(full, free2)},
        "second": both | {IPPOOLS: _items(free, full2)},
        "one-by-one": {
            DEFAULT_NETWORK: story.macvlan("own", default_ipv4_ippool=[free]),
            NETWORKS: conf,
        },
    }
    pods = {name: story.pod(name, anno, wait=False) for name, anno in annotations.items()}

    most = _most_held(story, pods)

    # A try that waits for the full pool may hold what it has of the other; no try ever adds to an
    # earlier one's.
    assert most["first"] <= 1
    assert most["second"] <= 1
    assert most["one-by-one"] == 1
    assert f"pool {full}: 1 of 1 addresses held" in story.warning(pods["first"], "eth0 IPv4")
    assert f"pool {full2}: 1 of 1 addresses held" in story.warning(pods["second"], "net1 IPv4")
    assert f"pool {full2}: 1 of 1 addresses held" in story.warning(pods["one-by-one"], "net1 IPv4")
    for pod in pods.values():
        told = [event["reason"] for event in pod.events() if is_ours(event)]
        assert len(set(told)) == len(told), (
            f"one refusal, however often it is repeated, is one Event: {told}"
        )
    story.delete(*pods.values())
    until_none(
        lambda: story.records(free) + story.records(free2),
        "the pods that never ran hold nothing",
        within_s=20,
    )
    assert first.inside.underlay() == story.sips_of(first)


def _items(eth0: str, net1: str) -> list[dict[str, object]]:
    """Return `ippools` for two NICs."""
    return [
        {"interface": "eth0", "ipv4": [eth0]},
        {"interface": "net1", "ipv4": [net1], "cleangateway": True},
    ]


def _most_held(story: Story, pods: dict[str, Pod]) -> dict[str, int]:
    """Return the most addresses that each pod was seen to have taken, all different ones counted, over some retries."""
    seen: dict[str, set[object]] = {name: set() for name in pods}

    def retried() -> bool:
        held = story.records()
        for name, pod in pods.items():
            seen[name] |= {record.ip for record in held if record.uid == pod.uid}
        return all(failed_sandboxes(pod) > RETRIES for pod in pods.values())

    until(
        retried,
        f"kubelet tried each pod more than {RETRIES} times",
        within_s=150,
        seen=lambda: [failed_sandboxes(p) for p in pods.values()],
    )
    return {name: len(ips) for name, ips in seen.items()}


def failed_sandboxes(pod: Pod) -> int:
    """Count how often kubelet tried in vain to start a pod."""
    return sum(
        event.get("count") or 1
        for event in pod.events()
        if event["reason"] == "FailedCreatePodSandBox"
    )
