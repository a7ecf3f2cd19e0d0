"""
Pools that applications get from SpiderSubnets.

A Deployment on two NICs from its first pod to its end, other kinds.

Source: docs/reference/automatic-pools.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from tests.lab import manifests
from tests.lab.inside import Route, fetch
from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IP_NUMBER, NETWORKS, SUBNET, SUBNETS
from tests.lab.networks import ENS192, ENS224, IPAddress, Underlay
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

pytestmark = [pytest.mark.still, pytest.mark.usefixtures("free_underlays")]


def counts(story: Story, subnet: str) -> tuple[int, int]:
    """Return a subnet's counts: given to pools, and all."""
    status = story.kube.need("SpiderSubnet", subnet).get("status", {})
    return status.get("allocatedIPCount", 0), status.get("totalIPCount", 0)


def shown(story: Story) -> dict[str, tuple[int, int]]:
    """
    Return what `kubectl get spiderippool` prints of the automatic pools.

    Held and all addresses.
    """
    return {
        pool["metadata"]["name"]: (
            pool["status"].get("allocatedIPCount", 0),
            pool["status"].get("totalIPCount", 0),
        )
        for pool in story.auto_pools()
        if pool.get("status")
    }


def inside(ip: IPAddress, pool: Thing) -> bool:
    """Return whether a pool has an address."""
    ranges = [item.partition("-") for item in pool["spec"]["ips"]]
    return any(
        int(ip_address(first)) <= int(ip) <= int(ip_address(last or first))
        for first, _, last in ranges
    )


def tail(story: Story, kind: str, name: str) -> str:
    """
    Return the end of the names of an application's pools.

    Source: docs/reference/automatic-pools.md#which-pool.
    """
    uid: str = story.kube.need(kind, name, story.namespace)["metadata"]["uid"]
    return uid.rpartition("-")[2][:5]


def test_transcript(story: Story) -> None:
    """
    A Deployment on two NICs, all 13 steps.

    Two NICs, pools of replicas + 1, rules and routes, deletion, scaling, and all goes back.
    """
    names = ("subnet-test-ens192", "subnet-test-ens224")
    for number, name in zip((6, 7), names, strict=True):
        ips = [f"10.{number}.168.171-10.{number}.168.180"]
        story.subnet_of(name, subnet=f"10.{number}.0.0/16", gateway=f"10.{number}.0.1", ips=ips)
    for name in names:
        until(
            lambda n=name: counts(story, n) == (0, 10),
            f"{name} shows its 10 addresses",
            within_s=10,
        )

    items = [{"interface": "eth0", "ipv4": [names[0]]}, {"interface": "net1", "ipv4": [names[1]]}]
    annotations = {
        DEFAULT_NETWORK: chained(story, "macvlan-conf-ens192", ENS192),
        NETWORKS: chained(story, "macvlan-conf-ens224", ENS224),
        SUBNETS: items,
        IP_NUMBER: "+1",
    }
    story.workload("Deployment", "test-app", 2, annotations)
    pods = story.wait_replicas("test-app", 2)
    end = tail(story, "Deployment", "test-app")
    pools = [f"auto4-test-app-{nic}-{end}" for nic in ("eth0", "net1")]
    story.pools += pools  # the story's promises hold for them as well
    until(
        lambda: shown(story) == dict.fromkeys(pools, (2, 3)),
        "both pools show 2 of 3",
        seen=lambda: shown(story),
    )
    assert [["10.6.168.171-10.6.168.173"], ["10.7.168.171-10.7.168.173"]] == [
        story.kube.need("SpiderIPPool", pool)["spec"]["ips"] for pool in pools
    ]
    assert [(3, 10), (3, 10)] == [counts(story, name) for name in names]
    assert_in_use(story, pods, pools)
    for pod in pods:
        assert f"{pod.address('eth0')}/16" == pod.inside.addresses()["eth0"][0]
        assert f"{pod.address('net1')}/16" == pod.inside.addresses()["net1"][0]
        assert_routed(pod)

    before = [story.kube.need("SpiderIPPool", pool) for pool in pools]
    old = {pod.uid for pod in pods}
    for pod in pods:
        story.kube.delete("Pod", pod.name, story.namespace)
    until(lambda: not old & _uids(story, "test-app"), "the old pods are gone")
    pods = story.wait_replicas("test-app", 2)
    assert_in_use(story, pods, pools)
    after = [story.kube.need("SpiderIPPool", pool) for pool in pools]
    assert [(pool["metadata"]["uid"], pool["spec"]) for pool in before] == [
        (pool["metadata"]["uid"], pool["spec"]) for pool in after
    ]
    until(
        lambda: shown(story) == dict.fromkeys(pools, (2, 3)),
        "2 of 3 again",
        seen=lambda: shown(story),
    )

    in_use = {pod.uid: pod.inside.underlay() for pod in pods}
    scale(story, "Deployment", "test-app", 3)
    grown = story.wait_replicas("test-app", 3)
    until(
        lambda: shown(story) == dict.fromkeys(pools, (3, 4)),
        "both pools show 3 of 4",
        seen=lambda: shown(story),
    )
    assert in_use == {pod.uid: pod.inside.underlay() for pod in grown if pod.uid in in_use}
    assert_reached(story, grown[0])

    scale(story, "Deployment", "test-app", 2)
    story.wait_replicas("test-app", 2)
    until(
        lambda: shown(story) == dict.fromkeys(pools, (2, 3)),
        "both pools show 2 of 3",
        seen=lambda: shown(story),
    )
    story.assert_clean()
    story.kube.delete("Deployment", "test-app", story.namespace, propagationPolicy="Background")
    until_none(story.auto_pools, "the pools are gone", within_s=60)
    until(
        lambda: [counts(story, name) for name in names] == [(0, 10)] * 2,
        "the subnets have all addresses back",
    )


def assert_in_use(story: Story, pods: list[Pod], pools: list[str]) -> None:
    """Check that each pod's addresses on eth0 and net1 are of these two pools, and the pod's own."""
    things = [story.kube.need("SpiderIPPool", pool) for pool in pools]
    for nic, thing in zip(("eth0", "net1"), things, strict=True):
        in_use = [pod.address(nic) for pod in pods]
        assert len(set(in_use)) == len(pods)
        assert [True] * len(pods) == [inside(ip, thing) for ip in in_use]


def assert_routed(pod: Pod) -> None:
    """
    Check steps 7 to 9.

    A rule for net1's address, one default route in main, on eth0, and net1's own in its table.
    """
    net1 = pod.address("net1")
    rules = [
        " ".join(line.split()) for line in pod.inside.run("ip", "rule", "show").stdout.splitlines()
    ]
    assert [
        "0: from all lookup local",
        f"999: from {net1} lookup 101",
        "1000: from all fwmark 0x1 lookup 100",
        "32766: from all lookup main",
        "32767: from all lookup default",
    ] == rules
    assert [Route("default", "eth0", "10.6.0.1")] == [
        route for route in pod.inside.routes(4) if route.dst == "default"
    ]
    table = pod.inside.run("ip", "route", "show", "table", "101").stdout
    assert ["default via 10.7.0.1 dev net1"] == [
        line.strip() for line in table.splitlines() if line.startswith("default")
    ]
    assert any(line.startswith("10.7.0.0/16 dev net1") for line in table.splitlines())


def assert_reached(story: Story, pod: Pod) -> None:
    """
    Check step 13.

    A client outside of both subnets reaches both of a pod's addresses, each answers from its own
    NIC.
    """
    for nic in ("eth0", "net1"):
        command = fetch(pod.address(nic))
        until(
            lambda c=command: story.lab.in_client(c).stdout.strip() == pod.name,
            f"the client reaches {pod.name} on {nic}",
        )


def chained(story: Story, name: str, underlay: Underlay) -> str:
    """Make a macvlan network with the coordinator behind it, and give `namespace/name`."""
    macvlan = {
        "type": "macvlan",
        "master": underlay.master,
        "mode": "bridge",
        "ipam": {"type": "spiderpool"},
    }
    config = {"cniVersion": "1.0.0", "name": name, "plugins": [macvlan, {"type": "coordinator"}]}
    metadata = {"name": name, "namespace": story.namespace}
    story.kube.create(
        {
            "kind": "NetworkAttachmentDefinition",
            "metadata": metadata,
            "spec": {"config": json.dumps(config)},
        }
    )
    return f"{story.namespace}/{name}"


def scale(story: Story, kind: str, name: str, replicas: int) -> None:
    """Change how many pods an application has."""
    story.kube.patch(kind, name, {"spec": {"replicas": replicas}}, story.namespace)


def _uids(story: Story, app: str) -> set[str]:
    """Return the UIDs of an application's pods."""
    return {
        thing["metadata"]["uid"]
        for thing in story.kube.list("Pod", story.namespace, labels=f"app={app}")
    }


def test_stateful_set(story: Story) -> None:
    """
    A StatefulSet's pods keep both their addresses over deletion.

    Its pools of both families follow its replicas.
    """
    four, six = story.subnet("four"), story.subnet("six", family=6)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [four], "ipv6": [six]}}
    story.workload(
        "StatefulSet", "db", 2, annotations, serviceName="db", podManagementPolicy="Parallel"
    )
    pods = story.wait_replicas("db", 2)
    end = tail(story, "StatefulSet", "db")
    assert [f"auto4-db-eth0-{end}", f"auto6-db-eth0-{end}"] == [
        pool["metadata"]["name"] for pool in story.auto_pools()
    ]
    # the chart's default: replicas + 1
    assert [(3, 10), (3, 10)] == [counts(story, four), counts(story, six)]
    in_use = {pod.name: pod.inside.underlay() for pod in pods}

    story.delete(pods[1])
    assert in_use == {pod.name: pod.inside.underlay() for pod in story.wait_replicas("db", 2)}

    scale(story, "StatefulSet", "db", 1)
    until(
        lambda: counts(story, four) == counts(story, six) == (2, 10),
        "the pools shrink to 2",
        within_s=60,
    )
    (pod,) = story.wait_replicas("db", 1)
    assert in_use["db-0"] == pod.inside.underlay()


def test_job_with_fixed_number(story: Story) -> None:
    """
    A Job with a fixed number has a pool of that size; what has ended gives its address back.

    The pool goes with the Job.
    """
    subnet = story.subnet("s")
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        SUBNET: {"ipv4": [subnet]},
        IP_NUMBER: "2",
    }
    spec = manifests.pod_spec()
    spec["restartPolicy"] = "Never"
    spec["containers"][0]["command"] = ["true"]
    template = {
        "metadata": {"labels": {"app": "once"}, "annotations": manifests.texts(annotations)},
        "spec": spec,
    }
    job = {"completions": 3, "parallelism": 2, "template": template}
    metadata = {"name": "once", "namespace": story.namespace}
    story.kube.create({"kind": "Job", "metadata": metadata, "spec": job})

    until(lambda: _succeeded(story) == 3, "the Job has ended", within_s=90, seen=story.words)
    (pool,) = story.auto_pools()
    assert f"auto4-once-eth0-{tail(story, 'Job', 'once')}" == pool["metadata"]["name"]
    assert ("2", (2, 10)) == (pool["metadata"]["annotations"][IP_NUMBER], counts(story, subnet))
    until_none(story.records, "no address is held")
    story.kube.delete("Job", "once", story.namespace, propagationPolicy="Background")
    until_none(story.auto_pools, "the pool is gone", within_s=40)


def _succeeded(story: Story) -> int:
    """Count the Job's pods that have ended well."""
    count: int = (
        story.kube.need("Job", "once", story.namespace).get("status", {}).get("succeeded", 0)
    )
    return count


def test_another_subnet(story: Story) -> None:
    """A Deployment that changes its subnet moves to a new pool there by its roll-out, and the former pool goes."""
    old, new = story.subnet("old", ENS192), story.subnet("new", ENS224)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [old]}, IP_NUMBER: "3"}
    story.workload("Deployment", "web", 2, annotations)
    before = {pod.uid for pod in story.wait_replicas("web", 2)}
    (first,) = story.auto_pools(old)

    template = {"metadata": {"annotations": manifests.texts({SUBNET: {"ipv4": [new]}})}}
    story.kube.patch("Deployment", "web", {"spec": {"template": template}}, story.namespace)
    until(
        lambda: not before & _uids(story, "web"),
        "the old pods are gone",
        within_s=90,
        seen=story.words,
    )

    pods = story.wait_replicas("web", 2)
    (second,) = story.auto_pools(new)
    assert first["metadata"]["name"] != second["metadata"]["name"]
    assert [True, True] == [inside(pod.address("eth0"), second) for pod in pods]
    until_none(lambda: story.auto_pools(old), "the former pool is gone", within_s=40)
    assert [(0, 10), (3, 10)] == [counts(story, old), counts(story, new)]


def test_refusals(story: Story) -> None:
    """
    What cannot be is told where the user looks.

    On the pod, on the Deployment, or at once by the API server.
    """
    subnet = story.subnet("s", count=3)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [subnet]}}
    bare = story.pod("bare", annotations, wait=False)
    story.workload("Deployment", "large", 9, {**annotations, IP_NUMBER: "+0"})

    assert "has no controller, and automatic pools are for applications" in story.warning(
        bare, "wrong input"
    )
    until(lambda: _told(story, "large"), "an Event on the Deployment says why", seen=story.words)
    assert (
        "no room for a pool of 9 for eth0 IPv4: 9 more addresses are needed, 3 are free"
        in _told(story, "large")[0]
    )
    scale(story, "Deployment", "large", 2)
    story.wait_replicas("large", 2, within_s=90)
    (pool,) = story.auto_pools()
    for kind, name, change in (
        ("SpiderIPPool", pool["metadata"]["name"], {"ips": []}),
        ("SpiderSubnet", subnet, {"ips": []}),
        ("SpiderSubnet", subnet, {"subnet": "10.8.0.0/16"}),
    ):
        with pytest.raises(Refused) as refused:
            story.kube.patch(kind, name, {"spec": change})
        assert "Invalid" == refused.value.reason


def _told(story: Story, name: str) -> list[str]:
    """Return the words of the Events on a Deployment that the controller wrote."""
    events = story.kube.list(
        "Event",
        story.namespace,
        fields=f"involvedObject.kind=Deployment,involvedObject.name={name}",
    )
    return [event["message"] for event in events if event["reason"] == "SubnetExhausted"]


def test_many_and_up_and_down(story: Story) -> None:
    """
    Applications that come at once all reach their sizes.

    One that goes up and down while pods are killed stays inside.
    """
    subnet = story.subnet("s", count=30)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [subnet]}}
    for number in range(4):
        story.workload("Deployment", f"web{number}", 2, annotations)
    for number in range(4):
        story.wait_replicas(f"web{number}", 2, within_s=90)
    assert 4 == len(story.auto_pools())
    assert (12, 30) == counts(story, subnet)

    for replicas in (6, 2, 6):
        scale(story, "Deployment", "web0", replicas)
        victims = story.kube.list("Pod", story.namespace, labels="app=web0")[:2]
        for victim in victims:
            story.kube.delete(
                "Pod", victim["metadata"]["name"], story.namespace, gracePeriodSeconds=0
            )
        story.wait_replicas("web0", replicas, within_s=90)
    until(
        lambda: counts(story, subnet) == (16, 30),
        "the pool has 7 of 30",
        seen=lambda: counts(story, subnet),
    )
    pools = {pool["metadata"]["name"]: pool for pool in story.auto_pools()}
    assert [True] * 12 == [inside(record.ip, pools[record.pool]) for record in story.records()]


def test_third_party_controller(story: Story) -> None:
    """Pods of a listed kind have a pool that follows the scale subresource of its object, and goes with it."""
    subnet = story.subnet("s")
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), SUBNET: {"ipv4": [subnet]}}
    with clone_sets(story.kube):
        metadata = {"name": "clones", "namespace": story.namespace}
        owner = story.kube.create(
            {"kind": "CloneSet", "metadata": metadata, "spec": {"replicas": 1}}
        )
        reference = {
            "apiVersion": "apps.kruise.io/v1alpha1",
            "kind": "CloneSet",
            "name": "clones",
            "uid": owner["metadata"]["uid"],
            "controller": True,
        }
        manifest = manifests.pod(
            "clones-1", story.namespace, annotations, {}, manifests.pod_spec("node1")
        )
        manifest["metadata"]["ownerReferences"] = [reference]
        pod = Pod(story.kube, story.kube.create(manifest))
        story.wait_running(pod)
        assert (2, 10) == counts(story, subnet)
        story.kube.patch("CloneSet", "clones", {"spec": {"replicas": 4}}, story.namespace)
        until(
            lambda: counts(story, subnet) == (5, 10),
            "the pool grows to 5",
            seen=lambda: counts(story, subnet),
        )
        story.kube.delete("CloneSet", "clones", story.namespace, propagationPolicy="Orphan")
        story.delete(pod)  # the garbage collector looks for new kinds only twice a minute
        until_none(story.auto_pools, "the pool is gone", within_s=40)


@contextmanager
def clone_sets(kube: Kube) -> Iterator[None]:
    """Have a kind of controllers that nobody runs, with a scale subresource, as OpenKruise defines it."""
    scale_of = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "subresources": {"status": {}, "scale": scale_of},
        "schema": {
            "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        },
    }
    names = {"kind": "CloneSet", "plural": "clonesets", "singular": "cloneset"}
    spec = {"group": "apps.kruise.io", "names": names, "scope": "Namespaced", "versions": [version]}
    name = "clonesets.apps.kruise.io"
    kube.create({"kind": "CustomResourceDefinition", "metadata": {"name": name}, "spec": spec})
    try:
        until(lambda: _established(kube, name), "the definition is served")
        yield
    finally:
        kube.delete("CustomResourceDefinition", name)


def _established(kube: Kube, name: str) -> bool:
    """Return whether a definition's objects can be written."""
    conditions = kube.need("CustomResourceDefinition", name).get("status", {}).get("conditions")
    return any(
        condition["type"] == "Established" and condition["status"] == "True"
        for condition in conditions or []
    )
