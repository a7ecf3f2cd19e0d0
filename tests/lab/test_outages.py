"""
Things that end beside the pods: nodes, containerd, sandboxes, controllers, agents, the API server.

Living pods keep their addresses, new pods get some, and afterwards everything agrees again.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.hostagent import HostAgent, PaperNode, Sandbox, paper_pod, vanish, write_kubeconfig
from tests.lab.inside import Inside, processes_of
from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NETWORKS
from tests.lab.networks import ENS192, ENS224, IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

RELEASE_NAMESPACE: Final = "kube-system"
AGENT: Final = "spiderpool-agent"
CONTROLLER: Final = "spiderpool-controller"
LEASE: Final = "spiderpool-controller-leases"
TRY_AGAIN: Final = 11  # CNI's code for "try again later"
# after an outage: kubelet and kube-proxy wait longer and longer between two tries
LATER_S: Final = 90.0

Held = dict[tuple[str, str, IPAddress], str]
"""Records by pod, NIC and address: the UID of the record."""


def two_nics(story: Story, count: int = 8) -> dict[str, object]:
    """Make networks and pools, and give the annotations of a pod with two NICs in both families."""
    items = [
        {
            "interface": nic,
            "ipv4": [story.pool(f"{nic}-v4", underlay, 4, count)],
            "ipv6": [story.pool(f"{nic}-v6", underlay, 6, count)],
            "cleangateway": nic != "eth0",
        }
        for nic, underlay in (("eth0", ENS192), ("net1", ENS224))
    ]
    return {
        DEFAULT_NETWORK: story.macvlan("lan"),
        NETWORKS: story.macvlan("storage", ENS224),
        IPPOOLS: items,
    }


def one_nic(story: Story, count: int) -> dict[str, object]:
    """Make a network and a pool, and give the annotations of a pod with one address."""
    return {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [story.pool("p", count=count)]}}


def pods_on(story: Story, node: str, count: int, annotations: dict[str, object]) -> list[Pod]:
    """Make pods on a node that nobody evicts while it is away; the caller waits."""
    spec = manifests.pod_spec(node) | {"tolerations": [{"operator": "Exists"}]}
    things = [
        manifests.pod(f"{node}-{number}", story.namespace, annotations, {}, spec)
        for number in range(count)
    ]
    return [Pod(story.kube, story.kube.create(thing)) for thing in things]


def things_held(story: Story) -> list[Thing]:
    """Return the SpiderIPs of a story's pools that somebody holds, as they are."""
    things = [
        thing for thing in story.kube.list("SpiderIP") if thing["spec"]["pool"] in story.pools
    ]
    return [thing for thing in things if thing["spec"]["state"] == "Held"]


def held(story: Story) -> Held:
    """Return who holds what, by which record."""
    return {
        (spec["holder"]["name"], spec["holder"]["nic"], ip_interface(spec["ip"]).ip): thing[
            "metadata"
        ]["uid"]
        for thing in things_held(story)
        for spec in [thing["spec"]]
    }


def sandboxes(story: Story) -> dict[str, set[str]]:
    """Return the sandboxes that hold addresses, by their pod's name."""
    found: dict[str, set[str]] = {}
    for holder in (thing["spec"]["holder"] for thing in things_held(story)):
        found.setdefault(holder["name"], set()).add(holder["containerID"])
    return found


def wait_in_use(in_use: dict[str, set[tuple[str, IPAddress]]], within_s: float = LATER_S) -> None:
    """Wait until the kernels of pods, by UID, have these addresses."""

    def uses(uid: str) -> set[tuple[str, IPAddress]]:
        try:
            return Inside(uid).underlay()
        except AssertionError:
            return set()  # no process, or one that is just ending

    def seen() -> dict[str, set[tuple[str, IPAddress]]]:
        return {uid: uses(uid) for uid in in_use}

    until(
        lambda: seen() == in_use,
        "the pods have their addresses again",
        within_s=within_s,
        seen=seen,
    )


def wait_started_again(story: Story, *pods: Pod) -> None:
    """Wait until kubelet has started the containers of pods again and says that they run."""

    def are() -> bool:
        statuses = [
            (pod.thing or {}).get("status", {}).get("containerStatuses", [{}])[0] for pod in pods
        ]
        return all(
            status.get("restartCount", 0) >= 1 and status.get("ready") for status in statuses
        )

    until(
        are, f"{', '.join(map(str, pods))} were started again", within_s=LATER_S, seen=story.words
    )


def wait_components(kube: Kube) -> None:
    """Wait until all agents and controllers are ready, and none of them is on its way out."""

    def steady() -> bool:
        agents = kube.need("DaemonSet", AGENT, RELEASE_NAMESPACE)["status"][
            "desiredNumberScheduled"
        ]
        controllers = kube.need("Deployment", CONTROLLER, RELEASE_NAMESPACE)["spec"]["replicas"]
        found = {
            name: [_is_ready(pod) for pod in _pods(kube, name)] for name in (AGENT, CONTROLLER)
        }
        return found == {AGENT: [True] * agents, CONTROLLER: [True] * controllers}

    until(steady, "agents and controllers are ready", within_s=LATER_S)
    until(
        lambda: all(_admits(kube) for _ in range(6)),
        "webhooks reach the API server from each node",
        within_s=LATER_S,
    )


def _admits(kube: Kube) -> bool:
    """
    Return whether a pool is admitted, by whichever controller.

    Kube-proxy needs its time when the API server was away.
    """
    try:
        kube.create(manifests.pool("probe", "192.0.2.0/24", []), dry_run=True)
    except Refused:
        return False
    return True


def wait_services(kube: Kube, lab: Lab) -> None:
    """
    Wait until kube-proxy follows the API server again on all nodes.

    It does not hurry when a watch of its was cut.
    """
    name = "follows"
    spec = {"ports": [{"port": 80}]}

    def ignorant() -> list[str]:
        # a Service without endpoints is refused there, by its name
        command = ["iptables-save", "-t", "filter"]
        return [
            node.name for node in lab.nodes if f"default/{name}" not in node.exec(command).stdout
        ]

    kube.create(
        {"kind": "Service", "metadata": {"name": name, "namespace": "default"}, "spec": spec}
    )
    try:
        until_none(ignorant, "all nodes know a new Service", within_s=LATER_S)
    finally:
        kube.delete("Service", name, "default")


def _pods(kube: Kube, component: str) -> list[Thing]:
    return kube.list("Pod", RELEASE_NAMESPACE, labels=f"app.kubernetes.io/component={component}")


def _is_ready(pod: Thing) -> bool:
    conditions = {
        condition["type"]: condition["status"] for condition in pod["status"].get("conditions", [])
    }
    return conditions.get("Ready") == "True" and not pod["metadata"].get("deletionTimestamp")


def leader(kube: Kube) -> str:
    """Return the name of the controller that holds the lease; empty when nobody does."""
    lease = kube.get("Lease", LEASE, RELEASE_NAMESPACE)
    return (lease or {}).get("spec", {}).get("holderIdentity") or ""


@pytest.fixture
def steady(kube: Kube, lab: Lab) -> Iterator[None]:
    """Leave agents and controllers ready, and Services working, whatever the test did to them."""
    wait_components(kube)
    yield
    wait_components(kube)
    wait_services(kube, lab)


pytestmark = [pytest.mark.still, pytest.mark.usefixtures("steady")]


# --- what holds the pods
# --------------------------------------------------------------------------------------------------


def test_node_reboot(story: Story) -> None:
    """After a cut of its node's power a pod has a new sandbox with the addresses it had, by the same records."""
    pods = pods_on(story, "node3", 2, two_nics(story))
    story.wait_running(*pods)
    before, boxes = held(story), sandboxes(story)
    in_use = {pod.uid: pod.inside.underlay() for pod in pods}
    assert [4, 4] == [len(pairs) for pairs in in_use.values()]

    story.lab.node("node3").reboot()

    wait_in_use(in_use)
    wait_started_again(story, *pods)
    assert before == held(story)
    assert all(not boxes[name] & now for name, now in sandboxes(story).items())


def test_containerd_restart(story: Story) -> None:
    """A restart of containerd touches neither pods nor records, and pods start after it."""
    annotations = two_nics(story)
    (pod,) = pods_on(story, "node2", 1, annotations)
    story.wait_running(pod)
    before, boxes, in_use = held(story), sandboxes(story), {pod.uid: pod.inside.underlay()}

    story.lab.node("node2").restart_containerd()

    new = story.pod("new", annotations, node="node2", wait=False)
    story.wait_running(new, pod, within_s=LATER_S)
    wait_in_use(in_use, within_s=5)
    assert before.items() <= held(story).items()
    assert boxes[pod.name] == sandboxes(story)[pod.name]


def test_killed_sandbox(story: Story) -> None:
    """A pod whose sandbox is killed gets a new one with the same addresses, by the same records."""
    (pod,) = pods_on(story, "node2", 1, two_nics(story))
    story.wait_running(pod)
    before, in_use = held(story), {pod.uid: pod.inside.underlay()}
    (box,) = sandboxes(story)[pod.name]

    for process in _processes_in(pod, box):
        os.kill(process, signal.SIGKILL)

    until(
        lambda: box not in sandboxes(story)[pod.name],
        "the pod has a new sandbox",
        within_s=LATER_S,
        seen=story.words,
    )
    wait_started_again(story, pod)
    wait_in_use(in_use)
    assert before == held(story)


def _processes_in(pod: Pod, container: str) -> list[int]:
    """Return the processes of one container of a pod, of its sandbox for example."""
    found = [process for process in processes_of(pod.uid) if container in _told(process, "cgroup")]
    assert found, f"{pod} has no process in {container}"
    return found


def _told(process: int, file: str) -> str:
    """Read a file of a process in /proc; nothing when it has just ended, as probes do."""
    try:
        return Path(f"/proc/{process}/{file}").read_text()
    except OSError:
        return ""


# --- what serves the pods
# -------------------------------------------------------------------------------------------------


def test_no_controller(story: Story) -> None:
    """
    Without any controller pods get addresses on all NICs, and give them back.

    What it derives is right when it is back.
    """
    annotations = two_nics(story)
    with _no_controllers(story.kube):
        pods = [pod for node in ("node1", "node2") for pod in pods_on(story, node, 2, annotations)]
        story.wait_running(*pods)
        assert 4 * len(pods) == len(story.records())
        story.delete(pods[0])
        until(lambda: set() == story.sips_of(pods[0]), "the deleted pod holds nothing")
        assert all(pod.inside.underlay() == story.sips_of(pod) for pod in pods[1:])

    story.assert_clean()


@contextmanager
def _no_controllers(kube: Kube) -> Iterator[None]:
    """Have no controller inside."""
    count = kube.need("Deployment", CONTROLLER, RELEASE_NAMESPACE)["spec"]["replicas"]
    kube.patch("Deployment", CONTROLLER, {"spec": {"replicas": 0}}, RELEASE_NAMESPACE)
    try:
        until_none(lambda: _pods(kube, CONTROLLER), "no controller is left", within_s=60)
        yield
    finally:
        kube.patch("Deployment", CONTROLLER, {"spec": {"replicas": count}}, RELEASE_NAMESPACE)
        wait_components(kube)


def test_leader_switch(story: Story) -> None:
    """
    The leading controller goes while ten pods start.

    All get their address, and the next leader has everything right.
    """
    annotations = one_nic(story, 10)
    before = until(lambda: leader(story.kube), "there is a leader")
    pods = pods_on(story, "node1", 4, annotations)

    story.kube.delete("Pod", before, RELEASE_NAMESPACE, gracePeriodSeconds=1)
    pods += pods_on(story, "node2", 3, annotations) + pods_on(story, "node3", 3, annotations)

    story.wait_running(*pods, within_s=LATER_S)
    assert 10 == len({pod.address("eth0") for pod in pods})
    until(lambda: leader(story.kube) not in {"", before}, "another controller leads", within_s=40)
    story.assert_clean()


def test_agent_killed_while_pods_start(story: Story) -> None:
    """
    A node's agent is killed with -9 while its pods start.

    Kubelet tries again, and each pod has its four addresses.
    """
    annotations = two_nics(story)
    agent = _fresh_agent(story.kube, "node2")
    pods = pods_on(story, "node2", 6, annotations)
    until(story.records, "the first pod gets its addresses")

    for process in _agents_in(agent["metadata"]["uid"]):
        os.kill(process, signal.SIGKILL)

    story.wait_running(*pods, within_s=LATER_S)
    assert 4 * len(pods) == len(story.records())


def _fresh_agent(kube: Kube, node: str) -> Thing:
    """
    Return the agent of a node, a new one if it was started again before.

    Kubelet would wait long with the next time.
    """
    (agent,) = [pod for pod in _pods(kube, AGENT) if pod["spec"]["nodeName"] == node]
    if agent["status"]["containerStatuses"][0]["restartCount"]:
        kube.delete("Pod", agent["metadata"]["name"], RELEASE_NAMESPACE)
        until_none(
            lambda: kube.get("Pod", agent["metadata"]["name"], RELEASE_NAMESPACE),
            "the old agent is gone",
            within_s=60,
        )
        wait_components(kube)
        (agent,) = [pod for pod in _pods(kube, AGENT) if pod["spec"]["nodeName"] == node]
    return agent


def _agents_in(uid: str) -> list[int]:
    """Return the agent's process of a pod of agents; the pod's sandbox lives on."""
    found = [process for process in processes_of(uid) if AGENT in _told(process, "cmdline")]
    assert found
    return found


# --- the API server
# -------------------------------------------------------------------------------------------------------


@contextmanager
def _api_server_down(lab: Lab) -> Iterator[None]:
    """Have no API server inside."""
    lab.stop_api_server()
    try:
        yield
    finally:
        lab.start_api_server()


def test_api_server_down_during_50_adds(story: Story, tmp_path: Path) -> None:
    """
    The API server is away for 20 s while 50 pods ask for an address, out of exactly 50, and others just start on real nodes.

    Each call is answered, or told to try again. Repeated as kubelet does: each pod has one address,
    and nobody else has it.
    """
    annotations = one_nic(story, 25) | {
        IPPOOL: {"ipv4": [f"{story.namespace}-p", story.pool("q", count=25)]}
    }
    started = {
        DEFAULT_NETWORK: annotations[DEFAULT_NETWORK],
        IPPOOL: {"ipv4": [story.pool("r", count=6)]},
    }
    target = tmp_path / "kubeconfig"
    with (
        PaperNode(story.lab.kubeconfig, "outage") as node,
        HostAgent(node.name, write_kubeconfig(story.kube, node.name, target), tmp_path) as agent,
        ThreadPoolExecutor(50) as threads,
    ):
        asking = [paper_pod(story, node.name, f"pod-{number}", annotations) for number in range(50)]
        starting = pods_on(story, "node2", 3, started) + pods_on(story, "node3", 3, started)

        # Half of them within two seconds, in the midst of which the server goes; the others all
        # along.
        delays = [0.08 * number if number < 25 else number - 25.0 for number in range(50)]
        calls = [
            threads.submit(_persist, agent, pod, delay)
            for pod, delay in zip(asking, delays, strict=True)
        ]
        until(
            lambda: sum(call.done() for call in calls) >= 8,
            "the first pods have an address",
            within_s=10,
        )
        with _api_server_down(story.lab):
            time.sleep(20)
        results = [call.result(timeout=LATER_S) for call in calls]

        story.kube.list("Node")  # over a new connection
        given = {
            pod.uid: {("eth0", address)} for pod, (address, _) in zip(asking, results, strict=True)
        }
        assert given == {pod.uid: story.sips_of(pod) for pod in asking}
        assert 50 == len({address for address, _ in results})
        refusals = [refusal for _, told in results for refusal in told]
        assert refusals, "no call fell into the outage"
        assert [] == [refusal for refusal in refusals if refusal["code"] != TRY_AGAIN]
        story.wait_running(*starting, within_s=LATER_S)
        assert 56 == len(story.records())
        story.assert_clean(within_s=LATER_S)
        vanish(*asking)
        until(
            lambda: len(story.records()) == 6,
            "the pods that vanished hold nothing",
            within_s=LATER_S,
        )
        until(
            lambda: len(story.kube.list("SpiderEndpoint", story.namespace)) == 6,
            "their endpoints are gone",
        )
        agent.stop()


def _persist(agent: HostAgent, pod: Pod, delay_s: float) -> tuple[IPAddress, list[Thing]]:
    """
    Ask for a pod's address as kubelet does, with a new sandbox each time.

    Give it, and the CNI errors before it.
    """
    time.sleep(delay_s)
    refusals: list[Thing] = []
    for _ in range(60):
        sandbox = Sandbox(pod)
        answer = agent.add_by_cni(sandbox)
        assert answer is not None, "the agent died"
        assert answer.status == 200, answer
        output = json.loads(answer.body["output"])
        if answer.body["exitCode"] == 0:
            (ip,) = output["ips"]
            return ip_interface(ip["address"]).ip, refusals
        refusals.append(output)
        agent.delete(sandbox)
        time.sleep(1)
    raise AssertionError(f"{pod} got no address: {refusals}")
