"""
The coordinator, chained after macvlan, on real nodes.

A pod's rules and tables, and who reaches whom.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from spiderlab import Lab
from spiderlab.peers import Cni
from tests.lab.inside import fetch
from tests.lab.kube import Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOLS, NETWORKS, pod_spec
from tests.lab.manifests import pod as pod_manifest
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story

ECHO = r"""
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 5353))
print("ready", flush=True)
while True:
    data, source = server.recvfrom(4096)
    server.sendto(data.upper(), source)
"""
SAY = r"""
import socket, sys
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(2)
client.sendto(b"name?", (sys.argv[1], 53))
print(client.recv(4096).decode())
"""


def probed_pod(story: Story, name: str, annotations: Thing) -> Pod:
    """Make a pod that kubelet asks every second whether it lives."""
    spec = pod_spec("node1")
    probe = {
        "httpGet": {"path": "/name", "port": 80},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
        "failureThreshold": 6,
    }
    spec["containers"][0] |= {"livenessProbe": probe, "readinessProbe": probe}
    pod = Pod(
        story.kube, story.kube.create(pod_manifest(name, story.namespace, annotations, {}, spec))
    )
    story.wait_running(pod)
    return pod


def service(story: Story, app: str) -> str:
    """Make a Service over TCP and UDP for the pods of an app, and give its address."""
    ports = [
        {"name": "web", "port": 80, "targetPort": 80, "protocol": "TCP"},
        {"name": "dns", "port": 53, "targetPort": 5353, "protocol": "UDP"},
    ]
    metadata = {"name": app, "namespace": story.namespace}
    spec = {"selector": {"app": app}, "ports": ports}
    made = story.kube.create({"kind": "Service", "metadata": metadata, "spec": spec})
    return str(made["spec"]["clusterIP"])


@contextmanager
def echoing(pod: Pod) -> Iterator[None]:
    """Answer UDP in a pod's network."""
    command = [*pod.inside._enter, sys.executable, "-IuSc", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield
        finally:
            server.kill()


def lines(pod: Pod, *command: str) -> set[str]:
    """Show what `ip` prints in a pod, one line each, without what the reference does not show."""
    text = (
        pod.inside.run("ip", *command).stdout.replace("from all ", "").replace(" proto kernel", "")
    )
    return {" ".join(line.split()) for line in text.splitlines()}


def restarts(pod: Pod) -> int:
    """Count how often kubelet restarted a pod's container."""
    thing = pod.thing
    assert thing is not None
    return sum(container["restartCount"] for container in thing["status"]["containerStatuses"])


def node_ips(lab: Lab) -> list[str]:
    """Return node1's addresses, that on the first underlay in front."""
    found = json.loads(
        lab.node("node1").exec(["ip", "-4", "-j", "addr", "show", "scope", "global"]).stdout
    )
    ips = {link["ifname"]: link["addr_info"][0]["local"] for link in found}
    return [ips.pop("ens192"), *ips.values()]


def default_gateway(lab: Lab) -> str:
    """Return the gateway that the default network gives pods of node1."""
    if lab.peers.cni is Cni.KUBE_ROUTER:
        return str(
            lab.node("node1").facts.pods[1]
        )  # the bridge, which has the block's first address
    return "169.254.1.1"


def test_macvlan_pod(story: Story, lab: Lab) -> None:
    """
    A pod on two macvlan NICs: rules and tables of layout B; all reach it, and it reaches all.

    Node and kubelet's probes by the pair, a Service of the cluster over TCP and UDP, `kubectl
    exec`, a client in another network on each NIC; when the pod is gone, so is all that the node
    knew.
    """
    story.pool("one", ENS192)
    story.pool("two", ENS224)
    first, second = story.coordinated("first", ENS192), story.coordinated("second", ENS224)
    story.pod("plain", labels={"app": "plain"}, wait=False)
    pools = [
        {"interface": "eth0", "ipv4": [f"{story.namespace}-one"]},
        {"interface": "net1", "ipv4": [f"{story.namespace}-two"]},
    ]
    pod = probed_pod(story, "under", {DEFAULT_NETWORK: first, NETWORKS: second, IPPOOLS: pools})
    plain = Pod(story.kube, story.kube.need("Pod", "plain", story.namespace))
    story.wait_running(plain)
    address = service(story, "plain")
    eth0, net1 = pod.address("eth0"), pod.address("net1")
    nodes = node_ips(lab)

    mine = {f"999: from {net1} lookup 101", "1000: fwmark 0x1 lookup 100"}
    assert {"0: lookup local", *mine, "32766: lookup main", "32767: lookup default"} == lines(
        pod, "rule"
    )
    through = {
        *(f"{ip} dev veth0 scope link src {eth0}" for ip in nodes),
        *(
            f"{network} via {nodes[0]} dev veth0 src {eth0}"
            for network in ("10.233.0.0/18", "10.233.64.0/18", "169.254.0.0/16")
        ),
    }
    networks = {
        f"10.6.0.0/16 dev eth0 scope link src {eth0}",
        f"10.7.0.0/16 dev net1 scope link src {net1}",
    }
    assert {"default via 10.6.0.1 dev eth0", *networks, *through} == lines(pod, "route")
    assert {
        "default via 10.7.0.1 dev net1",
        f"10.7.0.0/16 dev net1 scope link src {net1}",
        *through,
    } == lines(pod, "route", "show", "table", "101")
    node = lab.node("node1")
    assert "table 500" in node.exec(["ip", "route", "get", str(eth0)]).stdout

    until(lambda: node.exec(fetch(eth0)).stdout.strip() == "under", "the node reaches eth0")
    until(lambda: node.exec(fetch(net1)).stdout.strip() == "under", "the node reaches net1")
    until(lambda: pod.inside.reads(address) == "plain", "the pod reaches a Service")
    until(lambda: lab.in_client(fetch(eth0)).stdout.strip() == "under", "the client reaches eth0")
    until(lambda: lab.in_client(fetch(net1)).stdout.strip() == "under", "the client reaches net1")
    with echoing(plain):
        command = [sys.executable, "-ISc", SAY, address]
        until(
            lambda: pod.inside.run(*command).stdout.strip() == "NAME?",
            "the pod reaches a Service over UDP",
        )
    assert "under" == lab.kubectl("-n", story.namespace, "exec", "under", "--", "hostname").strip()
    assert 0 == restarts(pod)

    story.delete(pod)
    known = lambda: [  # noqa: E731
        ip
        for ip in (eth0, net1)
        if str(ip) in node.exec(["ip", "route", "show", "table", "500"]).stdout
    ]
    until_none(known, "the node forgets the pod")


def test_only_nic(story: Story, lab: Lab) -> None:
    """
    A pod whose only NIC is macvlan.

    Kubelet's probes, `kubectl exec`, and a Service over UDP and TCP, as DNS is one.
    """
    story.pool("one", ENS192)
    first = story.coordinated("first", ENS192)
    story.pod("plain", labels={"app": "plain"}, wait=False)
    pod = probed_pod(
        story,
        "only",
        {
            DEFAULT_NETWORK: first,
            IPPOOLS: [{"interface": "eth0", "ipv4": [f"{story.namespace}-one"]}],
        },
    )
    plain = Pod(story.kube, story.kube.need("Pod", "plain", story.namespace))
    story.wait_running(plain)
    address = service(story, "plain")

    assert {"lo", "eth0", "veth0"} == {
        link["ifname"] for link in json.loads(pod.inside.run("ip", "-j", "link").stdout)
    }
    until(lambda: pod.inside.reads(address) == "plain", "the pod reaches a Service")
    with echoing(plain):
        command = [sys.executable, "-ISc", SAY, address]
        until(
            lambda: pod.inside.run(*command).stdout.strip() == "NAME?",
            "the pod reaches a Service over UDP",
        )
    assert "only" == lab.kubectl("-n", story.namespace, "exec", "only", "--", "hostname").strip()
    assert 0 == restarts(pod)


def test_multi_nic_pod(story: Story, lab: Lab) -> None:
    """
    A pod of the cluster's network with a macvlan NIC.

    Each NIC answers for itself, Services are reached by the first.
    """
    story.pool("one", ENS192)
    second = story.coordinated("second", ENS192)
    story.pod("plain", labels={"app": "plain"}, wait=False)
    pool = [{"interface": "net1", "ipv4": [f"{story.namespace}-one"]}]
    pod = probed_pod(story, "multi", {NETWORKS: second, IPPOOLS: pool})
    plain = Pod(story.kube, story.kube.need("Pod", "plain", story.namespace))
    story.wait_running(plain)
    address = service(story, "plain")
    eth0, net1 = pod.address("eth0"), pod.address("net1")
    nodes = node_ips(lab)

    assert {f"32764: from {eth0} lookup 100", f"32765: from {net1} lookup 101"} <= lines(
        pod, "rule"
    )
    default = f"default via {default_gateway(lab)} dev eth0"
    assert {default} == lines(pod, "route", "show", "table", "100")
    expected = {
        "default via 10.6.0.1 dev net1",
        f"10.6.0.0/16 dev net1 scope link src {net1}",
        *(f"{ip} dev eth0 scope link src {eth0}" for ip in nodes),
    }
    assert expected == lines(pod, "route", "show", "table", "101")
    assert [default] == [line for line in lines(pod, "route") if line.startswith("default")]

    node = lab.node("node1")
    until(lambda: node.exec(fetch(net1)).stdout.strip() == "multi", "its own node reaches net1")
    until(lambda: lab.in_client(fetch(net1)).stdout.strip() == "multi", "the client reaches net1")
    until(lambda: pod.inside.reads(address) == "plain", "the pod reaches a Service")
    until(
        lambda: plain.inside.reads(eth0) == "multi", "a pod of the cluster's network reaches eth0"
    )
    assert 0 == restarts(pod)
