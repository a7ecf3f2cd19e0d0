"""
Which pools a pod may use.

Every filter, said in the pod's Event, and each of them passed by a pod that fits.
"""

from __future__ import annotations

import json

from spiderlab import Lab
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, NETWORKS
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until
from tests.lab.story import Story, kubelet_says
from tests.lab.test_sources import pools_of

ELSEWHERE = {"matchLabels": {"where": "elsewhere"}}


def test_every_refusal_is_said(story: Story) -> None:
    """A pod whose pools are all refused has one Event that names each pool with its own reason, and it holds nothing."""
    lan = {DEFAULT_NETWORK: story.macvlan("lan")}
    going = story.pool("going", count=1)
    story.pod("holder", lan | {IPPOOL: {"ipv4": [going]}})
    story.kube.delete("SpiderIPPool", going)
    reasons = {
        going: "being deleted",
        story.pool("disabled", disable=True): "disabled",
        story.pool("family", family=6): "has IPv6 addresses (IPv4 is asked for)",
        story.pool(
            "node", nodeName=["node2", "node3"]
        ): "restricted to nodes node2, node3 (pod is on node1)",
        story.pool(
            "nodes", nodeAffinity=ELSEWHERE
        ): "restricted to where=elsewhere by nodeAffinity (node node1 has",
    }
    more = {
        story.pool(
            "ns", namespaceName=["kube-system"]
        ): f"restricted to namespace kube-system (pod is in {story.namespace})",
        story.pool(
            "nss", namespaceAffinity=ELSEWHERE
        ): "restricted to where=elsewhere by namespaceAffinity (namespace",
        story.pool(
            "pods", podAffinity=ELSEWHERE
        ): "restricted to where=elsewhere by podAffinity (pod",
    }
    net = story.pool("net", multusName=["a/b"])
    of_network = (
        f"the spec.multusName [a/b] in the IPPool {net} used by the Pod interface eth0 is not "
        f"matched: restricted to network a/b (eth0 is on {lan[DEFAULT_NETWORK]})"
    )

    pods = {
        name: story.pod(
            name, lan | {IPPOOL: {"ipv4": list(pools)}}, labels={"where": "here"}, wait=False
        )
        for name, pools in (("first", reasons), ("second", [*more, net]))
    }

    for pod, wanted in ((pods["first"], reasons), (pods["second"], more)):
        text = story.warning(
            pod, "no IPPool available: eth0 IPv4 (annotation ipam.spidernet.io/ippool)"
        )
        for pool, reason in wanted.items():
            assert f"{pool}: {reason}" in text
        until(lambda pod=pod, text=text: kubelet_says(pod, text), f"kubelet repeats it for {pod}")
        assert set() == story.sips_of(pod)
    assert of_network in text


def test_a_pod_that_fits_every_filter(story: Story) -> None:
    """Pools that name the pod's node, namespace, labels and networks serve it, on each NIC the one that is for its network."""
    node = {
        "matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node1", "node2"]}
        ]
    }
    namespace = {"matchLabels": {"kubernetes.io/metadata.name": story.namespace}}
    pod_labels = {"matchLabels": {"where": "here"}}
    lan, storage = story.macvlan("lan"), story.macvlan("storage", ENS224, clean_gateway=True)
    by_name = story.pool(
        "by-name", nodeName=["node1"], nodeAffinity=ELSEWHERE, namespaceName=[story.namespace], namespaceAffinity=ELSEWHERE,
        podAffinity=pod_labels, multusName=[lan],
    )  # fmt: skip
    by_label = story.pool(
        "by-label",
        ENS224,
        nodeAffinity=node,
        namespaceAffinity=namespace,
        podAffinity=pod_labels,
        multusName=[storage],
    )
    annotations = {DEFAULT_NETWORK: lan, NETWORKS: storage, IPPOOL: {"ipv4": [by_label, by_name]}}

    pod = story.pod("pod", annotations, labels={"where": "here"})

    assert {("eth0", 4): "by-name", ("net1", 4): "by-label"} == pools_of(story, pod)


def test_next_pool_is_tried(story: Story) -> None:
    """A refused pool in the list does not hinder the pools behind it."""
    pools = [story.pool("no", disable=True), story.pool("yes")]

    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": pools}})

    assert {("eth0", 4): "yes"} == pools_of(story, pod)


def test_correction_helps(story: Story) -> None:
    """A pod that waits for a usable pool starts when its pool becomes usable."""
    pool = story.pool("p", disable=True)
    pod = story.pod(
        "pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}, wait=False
    )
    story.warning(pod, f"{pool}: disabled")

    story.kube.patch("SpiderIPPool", pool, {"spec": {"disable": False}})

    story.wait_running(pod, within_s=60)


def test_the_subnet_of_the_master(story: Story) -> None:
    """With `match_master_subnet` a NIC uses the pools of the network that its master has addresses of, and no others."""
    near, far = story.pool("near"), story.pool("far", ENS224)
    lan = story.macvlan("lan", match_master_subnet=True)
    storage = story.macvlan("storage", ENS224, match_master_subnet=True, clean_gateway=True)
    named = story.pool("named", ENS224, multusName=[lan])

    both = story.pod(
        "both", {DEFAULT_NETWORK: lan, NETWORKS: storage, IPPOOL: {"ipv4": [near, far]}}
    )
    refused = story.pod("refused", {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [far]}}, wait=False)
    by_network = story.pod("by-network", {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [named]}})

    assert {("eth0", 4): "near", ("net1", 4): "far"} == pools_of(story, both)
    text = story.warning(refused, "no IPPool available")
    addresses = ", ".join(addresses_of("node1", ENS192.master, story.lab))
    assert (
        f"{far}: restricted to masters in {ENS224.network4} by match_master_subnet (the master of eth0 has {addresses})"
        in text
    )
    assert {("eth0", 4): "named"} == pools_of(story, by_network)


def addresses_of(node: str, nic: str, lab: Lab) -> list[str]:
    """Return the addresses that ip(8) shows on a NIC of a node, IPv4 first, without link-local ones."""
    (link,) = json.loads(lab.node(node).exec(["ip", "-j", "address", "show", "dev", nic]).stdout)
    return [info["local"] for info in link["addr_info"] if info["scope"] == "global"]
