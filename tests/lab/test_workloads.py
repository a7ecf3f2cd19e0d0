"""
Applications.

What a StatefulSet's pods keep over restarts, what rollouts, scaling and jobs do to addresses.
"""

from __future__ import annotations

from tests.lab import manifests
from tests.lab.inside import fetch
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NETWORKS
from tests.lab.networks import ENS224, IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

HOST = "kubernetes.io/hostname"
InUse = dict[str, set[tuple[str, IPAddress]]]


def two_nics(story: Story) -> dict[str, object]:
    """Make networks and pools and give the annotations of a pod with two NICs, both families."""
    items = [
        {
            "interface": "eth0",
            "ipv4": [story.pool("eth0-v4")],
            "ipv6": [story.pool("eth0-v6", family=6)],
        },
        {
            "interface": "net1",
            "ipv4": [story.pool("net1-v4", ENS224)],
            "ipv6": [story.pool("net1-v6", ENS224, 6)],
            "cleangateway": True,
        },
    ]
    return {
        DEFAULT_NETWORK: story.macvlan("lan"),
        NETWORKS: story.macvlan("storage", ENS224),
        IPPOOLS: items,
    }


def in_use_by(pods: list[Pod]) -> InUse:
    """Return what each pod has, by its name."""
    return {pod.name: pod.inside.underlay() for pod in pods}


def in_template(**spec: object) -> dict[str, object]:
    """Return a patch of a workload's pod template."""
    return {"spec": {"template": {"spec": spec}}}


def test_stateful_set_keeps_addresses_on_another_node(story: Story) -> None:
    """A StatefulSet's pods that are made again on another node have the same addresses on both NICs, and are reached."""
    parallel = {"serviceName": "db", "podManagementPolicy": "Parallel"}
    story.workload("StatefulSet", "db", 2, two_nics(story), selector={HOST: "node1"}, **parallel)
    before = story.wait_replicas("db", 2, within_s=90)
    in_use = in_use_by(before)
    assert [4, 4] == [len(pairs) for pairs in in_use.values()]

    story.kube.patch(
        "StatefulSet", "db", in_template(nodeSelector={HOST: "node2"}), story.namespace
    )
    uids = {pod.uid for pod in before}
    until(
        lambda: _on(story, "db", "node2", other_than=uids) == 2,
        "both pods run on node2",
        within_s=90,
        seen=story.words,
    )

    after = story.wait_replicas("db", 2)
    assert in_use == in_use_by(after)
    assert {"node2"} == {record.node for record in story.records()}
    for pod in after:
        for family in (4, 6):
            command = fetch(pod.address("eth0", family))
            until(
                lambda c=command, p=pod: story.lab.in_client(c).stdout.strip() == p.name,
                f"the client reaches {pod.name}",
            )


def _on(story: Story, app: str, node: str, other_than: set[str]) -> int:
    """Count a workload's running pods on a node that are not earlier ones."""
    things = story.kube.list("Pod", story.namespace, labels=f"app={app}")
    pods = [
        Pod(story.kube, thing) for thing in things if thing["metadata"]["uid"] not in other_than
    ]
    return sum(pod.node == node and pod.runs() for pod in pods)


def test_stateful_set_keeps_addresses_by_order(story: Story) -> None:
    """Items of `ippools` without names keep a StatefulSet's addresses too, as named ones do."""
    items = [
        {"ipv4": [story.pool("first", count=8)]},
        {"ipv4": [story.pool("second", ENS224, count=8)], "cleangateway": True},
    ]
    networks = {DEFAULT_NETWORK: story.macvlan("lan"), NETWORKS: story.macvlan("storage", ENS224)}
    story.workload("StatefulSet", "db", 1, networks | {IPPOOLS: items}, serviceName="db")
    (pod,) = story.wait_replicas("db", 1)
    in_use = pod.inside.underlay()

    story.kube.delete("Pod", pod.name, story.namespace)
    until(lambda: pod.thing is None, "the old pod is gone")

    (again,) = story.wait_replicas("db", 1)
    assert in_use == again.inside.underlay()


def test_stateful_set_scaled_down_releases(story: Story) -> None:
    """
    Scaling down frees the addresses of the ordinals that go, and only those.

    Scaling to 0 and deleting frees all.
    """
    story.workload(
        "StatefulSet", "db", 2, two_nics(story), serviceName="db", podManagementPolicy="Parallel"
    )
    in_use = in_use_by(story.wait_replicas("db", 2, within_s=90))

    story.kube.patch("StatefulSet", "db", {"spec": {"replicas": 1}}, story.namespace)
    until(lambda: _holders(story) == {"db-0"}, "only db-0 holds addresses", seen=story.records)

    (pod,) = story.wait_replicas("db", 1)
    assert in_use["db-0"] == pod.inside.underlay()
    story.kube.delete("StatefulSet", "db", story.namespace, propagationPolicy="Background")
    until_none(story.records, "a deleted StatefulSet holds nothing", within_s=40)


def _holders(story: Story) -> set[str]:
    """Return the names of the pods that hold addresses."""
    return {record.pod for record in story.records()}


def test_stateful_set_takes_a_new_pool_at_restart(story: Story) -> None:
    """A StatefulSet whose annotation names another pool gets an address of that one when its pod is made again."""
    old, new = story.pool("old"), story.pool("new")
    lan = {DEFAULT_NETWORK: story.macvlan("lan")}
    story.workload("StatefulSet", "db", 1, lan | {IPPOOL: {"ipv4": [old]}}, serviceName="db")
    (pod,) = story.wait_replicas("db", 1)
    assert [old] == [record.pool for record in story.records()]

    annotations = manifests.texts({IPPOOL: {"ipv4": [new]}})
    story.kube.patch(
        "StatefulSet",
        "db",
        {"spec": {"template": {"metadata": {"annotations": annotations}}}},
        story.namespace,
    )
    until(lambda: pod.thing is None, "the old pod is gone", within_s=40)

    story.wait_replicas("db", 1)
    until(
        lambda: [new] == [record.pool for record in story.records()],
        "only the new pool serves",
        seen=story.records,
    )


def test_deployment_rollout(story: Story) -> None:
    """
    A rollout in a pool with one address to spare replaces all pods.

    Each has an address of its own, none is left over.
    """
    pool = story.pool("p", count=4)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    story.workload(
        "Deployment",
        "web",
        3,
        annotations,
        strategy={"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
    )
    before = {pod.uid for pod in story.wait_replicas("web", 3)}

    story.kube.patch(
        "Deployment",
        "web",
        {"spec": {"template": {"metadata": {"annotations": {"rollout": "2"}}}}},
        story.namespace,
    )
    until(
        lambda: _updated(story) == 3, "three new pods are available", within_s=120, seen=story.words
    )

    after = story.wait_replicas("web", 3)
    assert not before & {pod.uid for pod in after}
    assert 3 == len({pod.address("eth0") for pod in after})


def _updated(story: Story) -> int:
    """Count the new pods of the Deployment once no old one is left."""
    status = story.kube.need("Deployment", "web", story.namespace)["status"]
    done = status.get("observedGeneration", 0) >= 2 and status.get("replicas") == 3
    return min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)) if done else 0
