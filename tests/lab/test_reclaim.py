"""
Addresses that leak.

Found by the controller, given back on the node's word, or by time where nobody can give it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.hostagent import (
    HostAgent,
    PaperNode,
    Sandbox,
    clear_node,
    paper_pod,
    vanish,
    write_kubeconfig,
)
from tests.lab.kube import Kube
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

pytestmark = pytest.mark.still

NODE: Final = "reclaim-a"
OUT_OF_SERVICE: Final = {
    "spec": {"taints": [{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]}
}
IN_USE: Final = "ipam.spidernet.io/still-in-use"


@contextmanager
def node_of_paper(
    kube: Kube, lab: Lab, name: str, folder: Path
) -> Iterator[tuple[PaperNode, HostAgent]]:
    """Return a node without a kubelet, and its agent."""
    with PaperNode(lab.kubeconfig, name) as node:
        agent = HostAgent(name, write_kubeconfig(kube, name, folder / "kubeconfig"), folder)
        with agent:
            yield node, agent


@pytest.fixture(scope="module")
def agent(kube: Kube, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostAgent]:
    """Return the agent of a node that stays Ready."""
    with node_of_paper(kube, lab, NODE, tmp_path_factory.mktemp(NODE)) as (_, agent):
        yield agent
        agent.stop()


def pod_with_address(
    story: Story, agent: HostAgent, name: str, annotations: Mapping[str, object]
) -> tuple[Pod, IPAddress]:
    """Make a pod on the agent's node, and its ADD."""
    pod = paper_pod(story, agent.node, name, annotations)
    answer = until(lambda: agent.add(Sandbox(pod)), "the agent answers")
    ((_, ip),) = answer.pairs
    return pod, ip


def one_nic(story: Story, count: int) -> dict[str, object]:
    """Make a pool, and give the annotations of a pod with one NIC."""
    return {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [story.pool("p", count=count)]}}


def told(story: Story, reason: str) -> list[str]:
    """Return what Events on the story's pool say."""
    events = [
        event
        for pool in story.pools
        for event in story.kube.list("Event", "default", fields=f"involvedObject.name={pool}")
    ]
    return [event["message"] for event in events if event["reason"] == reason]


@contextmanager
def in_use(ip: IPAddress) -> Iterator[None]:
    """Have a network namespace on this machine, as a lost DEL leaves it, that has an address."""
    name = f"leak-{os.getpid()}"
    _run("ip", "netns", "add", name)
    try:
        _run("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", "other")
        _run("ip", "-n", name, "address", "add", f"{ip}/16", "dev", "eth0")
        yield
    finally:
        _run("ip", "netns", "delete", name)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=20)


def test_leaks_on_a_ready_node(story: Story, agent: HostAgent) -> None:
    """
    Addresses of pods that went without a DEL, hang in deletion, were replaced or never were come back on the node's word.

    One that a namespace still has stays as long as that is so, which an Event says; a living
    pod's stays anyway.
    """
    annotations = one_nic(story, 8)
    living, kept = pod_with_address(story, agent, "living", annotations)
    pods = {
        name: pod_with_address(story, agent, name, annotations)
        for name in ("gone", "hanging", "replaced", "used")
    }
    free = next(
        ip for ip in _pool_addresses(story) if ip not in {record.ip for record in story.records()}
    )
    story.kube.create(_record(story, free))

    with in_use(pods["used"][1]):
        vanish(pods["gone"][0], pods["replaced"][0], pods["used"][0])
        story.kube.delete("Pod", "hanging", story.namespace, gracePeriodSeconds=1)
        again = paper_pod(story, NODE, "replaced", annotations)
        left = {kept, pods["used"][1]}
        until(
            lambda: {record.ip for record in story.records()} == left,
            "the leaks are back",
            within_s=50,
            seen=story.records,
        )
        until(
            lambda: _mark(story, pods["used"][1], IN_USE),
            "the agent says that the address is in use",
        )
        assert "/var/run/netns/leak-" in _mark(story, pods["used"][1], IN_USE)

    until(
        lambda: {record.ip for record in story.records()} == {kept},
        "the used one is back too",
        within_s=60,
    )
    assert told(story, "IPReclaimed")
    assert "is still in use in" in told(story, "IPStillInUse")[0]
    assert f"no namespace of node {NODE} has it" in told(story, "IPReclaimed")[0]
    vanish(living, again, pods["hanging"][0])
    until_none(story.records, "nothing is held", within_s=40)


def _pool_addresses(story: Story) -> list[IPAddress]:
    """Return the addresses of the story's only pool."""
    (pool,) = story.pools
    first, last = story.kube.need("SpiderIPPool", pool)["spec"]["ips"][0].split("-")
    return [
        ip_address(number) for number in range(int(ip_address(first)), int(ip_address(last)) + 1)
    ]


def _record(story: Story, ip: IPAddress) -> dict[str, object]:
    """Write the record of a pod that never was."""
    (pool,) = story.pools
    holder = {
        "kind": "Pod",
        "namespace": story.namespace,
        "name": "never",
        "uid": "never",
        "nic": "eth0",
        "node": NODE,
    }
    spec = {
        "ip": str(ip),
        "pool": pool,
        "family": 4,
        "prefixLength": 16,
        "state": "Held",
        "holder": holder,
    }
    labels = {"ipam.spidernet.io/ippool": pool, "ipam.spidernet.io/node": NODE}
    return {"kind": "SpiderIP", "metadata": {"name": str(ip), "labels": labels}, "spec": spec}


def _mark(story: Story, ip: IPAddress, key: str) -> str:
    """Return an annotation of a record."""
    return story.kube.need("SpiderIP", str(ip))["metadata"].get("annotations", {}).get(key, "")


def test_lost_node(story: Story, kube: Kube, lab: Lab, tmp_path: Path) -> None:
    """
    On a node that is lost nobody can be asked, and its pods may live: a pod that hangs in deletion keeps its address.

    Past its grace it gives that back once the node is said to be out of service.
    """
    annotations = one_nic(story, 2)
    with node_of_paper(kube, lab, "reclaim-lost", tmp_path) as (node, agent):
        pod, ip = pod_with_address(story, agent, "hanging", annotations)
        agent.stop()
        node.fall_silent()
        until(lambda: not is_ready(kube, node.name), "the node is lost", within_s=60)
        story.kube.delete("Pod", "hanging", story.namespace, gracePeriodSeconds=1)

        until(lambda: told(story, "NodeDoesNotAnswer"), "it is told", within_s=60)
        assert [ip] == [record.ip for record in story.records()]
        kube.patch("Node", node.name, OUT_OF_SERVICE)
        until_none(story.records, "the address is back", within_s=60)

        assert (
            f"{ip} of {story.namespace}/hanging (eth0) is reclaimed"
            in told(story, "IPReclaimed")[0]
        )
        assert f"node {node.name} is out of service" in told(story, "IPReclaimed")[0]
        assert "NodeDoesNotAnswer" in [event["reason"] for event in pod.events()]
        vanish(pod)


def is_ready(kube: Kube, name: str) -> bool:
    """Return whether a node is Ready."""
    conditions = kube.need("Node", name)["status"]["conditions"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def test_garbage_collection_of_a_runtime(story: Story, agent: HostAgent) -> None:
    """
    GC releases what the runtime does not know any more, of its network only, and no living pod's; STATUS says ready.

    No runtime of the lab calls them, so they are called by hand.
    """
    annotations = one_nic(story, 4)
    pods = [paper_pod(story, NODE, name, annotations) for name in ("gone", "living", "known")]
    sandboxes = [Sandbox(pod) for pod in pods]
    for sandbox in sandboxes:
        answer = until(lambda s=sandbox: agent.add_by_cni(s), "the agent answers")
        assert answer.body["exitCode"] == 0, answer
    vanish(pods[0])
    valid = {
        "cni.dev/valid-attachments": [{"containerID": sandboxes[2].container, "ifname": "eth0"}],
        "cniVersion": "1.1.0",
    }

    other = agent.collect({**valid, "name": "other"})
    assert {"gone", "living", "known"} == {record.pod for record in story.records()}
    ours = agent.collect(valid)

    assert other is not None
    assert ours is not None
    assert (0, 0) == (other.body["exitCode"], ours.body["exitCode"]), ours
    assert {"living", "known"} == {record.pod for record in story.records()}
    status = agent.status()
    assert status is not None
    assert 0 == status.body["exitCode"], status
    clear_node(story.kube, NODE)
    for sandbox in sandboxes[1:]:
        agent.delete(sandbox)


@pytest.mark.parametrize("command", ["exit 0", "sleep 1000"])
def test_pod_past_its_deadline_frees_its_address(story: Story, command: str) -> None:
    """
    A final phase is final whatever the restart policy.

    The next pod of a pool of one address starts within a minute.
    """
    annotations = one_nic(story, 1)
    spec = manifests.pod_spec("node1") | {"restartPolicy": "OnFailure", "activeDeadlineSeconds": 5}
    spec["containers"][0]["command"] = ["sh", "-c", command]
    done = Pod(
        story.kube, story.kube.create(manifests.pod("done", story.namespace, annotations, {}, spec))
    )
    final = "Succeeded" if command == "exit 0" else "Failed"
    until(
        lambda: (done.thing or {}).get("status", {}).get("phase") == final,
        f"the pod is {final}",
        within_s=60,
        seen=story.words,
    )

    story.pod("next", annotations)

    assert ["next"] == [record.pod for record in story.records()]
    assert done.thing is not None


def test_finished_pod_frees_its_address(story: Story) -> None:
    """
    A finished Job's pod that stays holds nothing.

    The next pod of a pool of one address starts beside it.
    """
    annotations = one_nic(story, 1)
    spec = manifests.pod_spec("node1") | {"restartPolicy": "Never"}
    spec["containers"][0]["command"] = ["true"]
    done = Pod(
        story.kube, story.kube.create(manifests.pod("done", story.namespace, annotations, {}, spec))
    )
    until(
        lambda: (done.thing or {}).get("status", {}).get("phase") == "Succeeded",
        "the pod is done",
        within_s=60,
        seen=story.words,
    )

    story.pod("next", annotations)

    assert ["next"] == [record.pod for record in story.records()]
    assert done.thing is not None
