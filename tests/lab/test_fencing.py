"""
Pods that go while nobody can take their network down.

Their addresses come back, and nobody answers for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.kube import Kube
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

pytestmark = [pytest.mark.still, pytest.mark.timeout(600)]

NODE: Final = "node2"
WITHIN_S: Final = 120.0
AWAY: Final = "/opt/cni/bin/.away"


@contextmanager
def executables_away(lab: Lab) -> Iterator[None]:
    """Have no CNI plugin on a node, as an upgrade of it that failed leaves it."""
    node = lab.node(NODE)

    def run(script: str) -> None:
        done = node.exec(["sh", "-ec", script])
        assert done.returncode == 0, done.stderr

    run(f"mkdir {AWAY}; mv /opt/cni/bin/* {AWAY}/")
    try:
        yield
    finally:
        run(f"mv {AWAY}/* /opt/cni/bin/; rmdir {AWAY}")


def of_each_kind(story: Story, annotations: dict[str, object]) -> list[Pod]:
    """Make a pod of each kind of workload on the node, and wait for them."""
    selector = {"kubernetes.io/hostname": NODE}
    story.workload("Deployment", "web", 1, annotations, selector=selector)
    story.workload("StatefulSet", "db", 1, annotations, selector=selector, serviceName="db")
    daemons, job = (
        manifests.workload(
            kind, name, story.namespace, 1, annotations, manifests.pod_spec(selector=selector)
        )
        for kind, name in (("DaemonSet", "log"), ("Job", "sum"))
    )
    del daemons["spec"]["replicas"], job["spec"]["replicas"], job["spec"]["selector"]
    job["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    for thing in (daemons, job):
        story.kube.create(thing)
    bare = story.pod("bare", annotations, node=NODE, labels={"app": "bare"})
    made = [pod for app in ("web", "db", "log", "sum") for pod in story.wait_replicas(app, 1)]
    return [bare, *made]


def namespaces(lab: Lab) -> set[str]:
    """Return the network namespaces that the node's runtime keeps for pods."""
    return set(lab.node(NODE).exec(["ls", "/var/run/netns"]).stdout.split())


def answers(lab: Lab, ip: IPAddress) -> bool:
    """Return whether anybody on the underlay says that an address is his."""
    lab.in_router(["ip", "neigh", "flush", "to", str(ip)])
    lab.in_router(["busybox", "ping", "-c", "1", "-W", "1", str(ip)])
    shown = lab.in_router(["ip", "neigh", "show", "to", str(ip)]).stdout
    return "lladdr" in shown


def test_pods_go_while_the_executables_are_away(story: Story, kube: Kube, lab: Lab) -> None:
    """
    A pod of each kind of workload, deleted with its workload and without grace: no DEL can come.

    All addresses are given back within two minutes, and none answers on the wire. When the
    executables are back the sandboxes go, and everything agrees.
    """
    annotations: dict[str, object] = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOL: {"ipv4": [story.pool("p", count=8)]},
    }
    others = namespaces(lab)
    pods = of_each_kind(story, annotations)
    mine = namespaces(lab) - others
    assert len(pods) == len(mine)
    ips = [record.ip for record in story.records()]
    assert len(pods) == len(ips)
    assert [True] * len(ips) == [answers(lab, ip) for ip in ips]

    with executables_away(lab):
        for kind, name in (
            ("Deployment", "web"),
            ("StatefulSet", "db"),
            ("DaemonSet", "log"),
            ("Job", "sum"),
        ):
            kube.delete(kind, name, story.namespace, propagationPolicy="Background")
        for pod in pods:
            kube.delete("Pod", pod.name, story.namespace, gracePeriodSeconds=0)
        until_none(story.records, "all is given back", within_s=WITHIN_S)
        assert [False] * len(ips) == [answers(lab, ip) for ip in ips]
        # The sandboxes' processes say nothing here: kubelet ends those of a control group that no
        # pod owns. That their namespaces still had the addresses is what the Events tell.
        told = until(
            lambda: [
                event["message"]
                for event in kube.list("Event", "default")
                if event["reason"] == "IPFenced" and event["involvedObject"]["name"] in story.pools
            ],
            "Events tell it",
        )
        assert "was taken off" in told[0]

    until_none(
        lambda: mine & namespaces(lab),
        "DELs succeed, and the namespaces are gone",
        within_s=200,
    )
    assert [False] * len(ips) == [answers(lab, ip) for ip in ips]
