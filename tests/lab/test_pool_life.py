"""
Pools while they are used.

Deletion waits for the holders, shrinking is refused, edits do not reach running pods.
"""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest

from tests.lab.inside import Route
from tests.lab.kube import Refused
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import ENS192
from tests.lab.retry import until, until_none
from tests.lab.story import Story

FINALIZER = "spiderpool.spidernet.io"


def test_status_and_labels(story: Story) -> None:
    """A pool shows how many addresses it has and who holds which, with the labels and the finalizer of the reference."""
    ips = ENS192.take(4, 10)
    pool = story.pool_of(
        "p", "10.6.0.0/16", [f"{ips[0]}-{ips[9]}"], excludeIPs=[str(ips[3])], gateway="10.6.0.1"
    )
    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}})
    record = {str(pod.address("eth0")): {"pod": f"{story.namespace}/pod", "podUid": pod.uid}}

    def shown() -> bool:
        status = story.kube.need("SpiderIPPool", pool).get("status", {})
        return json.loads(status.get("allocatedIPs") or "{}") == record

    until(shown, "the status shows the holder", within_s=10)
    thing = story.kube.need("SpiderIPPool", pool)
    assert (9, 1) == (thing["status"]["totalIPCount"], thing["status"]["allocatedIPCount"])
    assert 4 == thing["spec"]["ipVersion"]
    assert "10-6-0-0-16" == thing["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"]
    assert [FINALIZER] == thing["metadata"]["finalizers"]
    story.delete(pod)
    until(lambda: _is_empty(story, pool), "the status shows nobody", within_s=10)


def _is_empty(story: Story, pool: str) -> bool:
    """Return whether a pool's status shows no holder."""
    status = story.kube.need("SpiderIPPool", pool)["status"]
    return "allocatedIPs" not in status and status["allocatedIPCount"] == 0


def test_deleted_pool_waits_for_its_holders(story: Story) -> None:
    """A pool that is deleted while pods hold addresses stays, an Event on it names them, and it goes with the last of them."""
    pool = story.pool("p")
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    pods = [story.pod(name, annotations, wait=False) for name in ("first", "second")]
    story.wait_running(*pods)

    story.kube.delete("SpiderIPPool", pool)

    named = [f"{story.namespace}/{pod.name}" for pod in pods]
    until(lambda: any(all(name in text for name in named) for text in _events(story, pool)), "an Event names both", within_s=20,
          seen=lambda: _events(story, pool))  # fmt: skip
    assert story.kube.need("SpiderIPPool", pool)["metadata"]["deletionTimestamp"]
    story.delete(pods[0])
    assert story.kube.get("SpiderIPPool", pool) is not None
    assert pods[1].inside.underlay() == story.sips_of(pods[1])
    story.delete(pods[1])
    until_none(lambda: story.kube.get("SpiderIPPool", pool), "the pool is gone", within_s=20)


def _events(story: Story, pool: str) -> list[str]:
    """Return the words of the Events on a pool."""
    fields = f"involvedObject.kind=SpiderIPPool,involvedObject.name={pool}"
    return [event["message"] for event in story.kube.list("Event", fields=fields)]


def test_unused_pool_goes_at_once(story: Story) -> None:
    """A pool that nobody uses is deleted within seconds."""
    pool = story.pool("p")

    story.kube.delete("SpiderIPPool", pool)

    until_none(lambda: story.kube.get("SpiderIPPool", pool), "the pool is gone", within_s=10)


def test_held_address_cannot_leave_its_pool(story: Story) -> None:
    """
    Shrinking a pool below what pods hold is refused with the address in the message.

    Shrinking beside it is fine.
    """
    pool = story.pool("p", count=4)
    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}})
    held = pod.address("eth0")
    others = [ip for ip in _addresses(story, pool) if ip != held]

    for change in ({"ips": [str(ip) for ip in others]}, {"excludeIPs": [str(held)]}):
        with pytest.raises(Refused) as refused:
            story.kube.patch("SpiderIPPool", pool, {"spec": change})
        assert ("Invalid", ["spec.ips"]) == (refused.value.reason, refused.value.fields)
        assert str(held) in refused.value.message
    story.kube.patch("SpiderIPPool", pool, {"spec": {"ips": [str(held)]}})

    assert {("eth0", held)} == story.sips_of(pod)


def _addresses(story: Story, pool: str) -> list[object]:
    """Return the addresses of a pool of one range."""
    first, _, last = story.kube.need("SpiderIPPool", pool)["spec"]["ips"][0].partition("-")
    start, end = ip_address(first), ip_address(last)
    return [start + offset for offset in range(int(end) - int(start) + 1)]


def test_edits_reach_new_pods_only(story: Story) -> None:
    """
    A new gateway and new routes of a pool leave running pods as they are.

    Pods made later get them.
    """
    pool = story.pool("p", gateway=None)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    old = story.pod("old", annotations)

    routes = [{"dst": "10.97.0.0/16", "gw": "10.6.0.1"}]
    story.kube.patch("SpiderIPPool", pool, {"spec": {"gateway": "10.6.0.1", "routes": routes}})
    new = story.pod("new", annotations)

    assert [] == old.inside.routes(4)
    assert {Route("default", "eth0", "10.6.0.1"), Route("10.97.0.0/16", "eth0", "10.6.0.1")} == set(
        new.inside.routes(4)
    )
