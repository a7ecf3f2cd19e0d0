"""
Many pods, run by hand with `make soak`.

Pools without a spare address, emptied and filled again at once.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterable

import pytest

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, SUBNET
from tests.lab.retry import until, until_none
from tests.lab.story import Story

pytestmark = [pytest.mark.still, pytest.mark.soak, pytest.mark.timeout(1800)]

PODS = 100
ROUNDS = 3
APPLICATIONS = 30
KILLS = 20
LARGEST_RATIO = 1.5  # to the lab's own CNI, which has addresses to spare


def test_full_pool_comes_back(story: Story) -> None:
    """
    100 pods in exactly 100 addresses are deleted and made again, without help.

    The ratio to the lab's own CNI is printed.
    """
    story.workload("Deployment", "plain", PODS, {})
    plain_s = [_made_anew(story, "plain") for _ in range(ROUNDS)]
    story.kube.delete("Deployment", "plain", story.namespace, propagationPolicy="Background")
    story.wait_replicas("plain", 0, within_s=300)

    pool = story.pool_of(
        "full", "10.6.0.0/16", [f"10.6.223.0-10.6.223.{PODS - 1}"], gateway="10.6.0.1"
    )
    story.workload(
        "Deployment",
        "full",
        PODS,
        {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}},
    )
    full_s = []
    for _ in range(ROUNDS):
        full_s.append(_made_anew(story, "full"))
        assert PODS == len({pod.address("eth0") for pod in story.wait_replicas("full", PODS)})
    ratio = statistics.median(full_s) / statistics.median(plain_s)
    print(  # noqa: T201
        f"{PODS} pods made again: lab's CNI {_listed(plain_s)} s, full pool {_listed(full_s)} s, ratio of medians {ratio:.2f}"
    )
    assert ratio <= LARGEST_RATIO


def _made_anew(story: Story, name: str) -> float:
    """Delete all pods of a Deployment at once; gives the seconds until as many others run."""
    old = {pod.uid for pod in story.wait_replicas(name, PODS, within_s=600)}
    began = time.monotonic()
    story.kube.delete_all("Pod", story.namespace, labels=f"app={name}")
    pods = story.wait_replicas(name, PODS, within_s=600)
    assert not old & {pod.uid for pod in pods}
    return time.monotonic() - began


def _listed(seconds: Iterable[float]) -> str:
    return ", ".join(f"{each:.0f}" for each in seconds)


@pytest.mark.usefixtures("free_underlays")
def test_automatic_pools_at_once(story: Story) -> None:
    """
    30 Deployments with automatic pools reach their sizes about as fast as with pools made by hand.

    The ratio is printed.
    """
    network = {DEFAULT_NETWORK: story.macvlan("lan")}
    by_hand = _time_of(
        story, "hand", lambda n: network | {IPPOOL: {"ipv4": [_pool_by_hand(story, n)]}}
    )
    story.kube.delete_all("Deployment", story.namespace, propagationPolicy="Background")
    for number in range(APPLICATIONS):
        story.wait_replicas(f"hand{number}", 0, within_s=300)
    until_none(story.records, "no address is held", within_s=120)
    for name in story.pools:
        story.kube.delete("SpiderIPPool", name)
    until_none(
        lambda: [name for name in story.pools if story.kube.get("SpiderIPPool", name)],
        "the pools are gone",
    )
    story.pools.clear()

    subnet = story.subnet_of(
        f"{story.namespace}-s",
        subnet="10.6.0.0/16",
        gateway="10.6.0.1",
        ips=["10.6.220.0-10.6.220.255"],
    )
    automatic = _time_of(story, "auto", lambda _: network | {SUBNET: {"ipv4": [subnet]}})
    until(
        lambda: _sizes(story) == [3] * APPLICATIONS,
        "each pool has 3 addresses",
        seen=lambda: _sizes(story),
    )
    print(  # noqa: T201
        f"{APPLICATIONS} Deployments of 2: pools by hand {by_hand:.0f} s, automatic pools {automatic:.0f} s, "
        f"ratio {automatic / by_hand:.2f}"
    )


def _pool_by_hand(story: Story, number: int) -> str:
    """Make the pool that a Deployment would have had automatically."""
    first = 3 * number
    return story.pool_of(
        f"p{number}", "10.6.0.0/16", [f"10.6.221.{first}-10.6.221.{first + 2}"], gateway="10.6.0.1"
    )


def _time_of(story: Story, prefix: str, annotations: Callable[[int], dict[str, object]]) -> float:
    """Make the Deployments at once and give the seconds until the last pod of the last one runs."""
    began = time.monotonic()
    for number in range(APPLICATIONS):
        story.workload("Deployment", f"{prefix}{number}", 2, annotations(number))
    for number in range(APPLICATIONS):
        story.wait_replicas(f"{prefix}{number}", 2, within_s=600)
    return time.monotonic() - began


@pytest.mark.usefixtures("free_underlays")
def test_automatic_pool_up_and_down(story: Story) -> None:
    """
    A Deployment goes 2, 60, 2, 60 while pods are killed at random.

    Its pool follows, and every address stays inside.
    """
    subnet = story.subnet_of(
        f"{story.namespace}-s",
        subnet="10.6.0.0/16",
        gateway="10.6.0.1",
        ips=["10.6.222.0-10.6.222.99"],
    )
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [subnet]}}
    story.workload("Deployment", "wave", 2, annotations)
    chance = random.Random(1)  # noqa: S311 - the same victims' places in each run
    for replicas in (2, 60, 2, 60):
        story.kube.patch("Deployment", "wave", {"spec": {"replicas": replicas}}, story.namespace)
        began = time.monotonic()
        for _ in range(KILLS):
            pods = story.kube.list("Pod", story.namespace, labels="app=wave")
            if pods:
                victim = chance.choice(pods)["metadata"]["name"]
                story.kube.delete(
                    "Pod", victim, story.namespace, gracePeriodSeconds=chance.choice((0, 1))
                )
            time.sleep(1)  # one after the other, while others start and end
        story.wait_replicas("wave", replicas, within_s=600)
        # A pod that was killed without grace gives its address back on its node's word, or after
        # the node's silence.
        wanted = [replicas + 1]
        until(
            lambda w=wanted: _sizes(story) == w,
            f"the pool has {wanted} addresses",
            within_s=180,
            seen=lambda: _sizes(story),
        )
        print(  # noqa: T201
            f"{replicas} pods and their pool after {time.monotonic() - began:.0f} s, {KILLS} of them killed"
        )
    (pool,) = story.auto_pools()
    assert {pool["metadata"]["name"]} == {record.pool for record in story.records()}
    story.assert_clean(within_s=60)


def _sizes(story: Story) -> list[int]:
    """Return how many addresses each automatic pool has."""
    return [pool.get("status", {}).get("totalIPCount", 0) for pool in story.auto_pools()]
