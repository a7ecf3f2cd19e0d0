"""What a tenant may try: each attack is told on its pod, stalls no agent, executes nothing, and can be taken down."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from tests.hostile.tenant import Tenant, Trap
from tests.lab.kube import Refused
from tests.lab.manifests import DEFAULT_NETWORK, IP_NUMBER, IPPOOL, NETWORKS, SUBNET, texts
from tests.lab.retry import until
from tests.lab.story import Pod, Story, all_records, kubelet_says

MACVLAN: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "type": "macvlan",
    "master": "ens192",
    "mode": "bridge",
    "ipam": {"type": "spiderpool"},
}


def is_told(pod: Pod, words: str) -> bool:
    """Return whether kubelet or the agent says on a pod what is wrong."""
    return kubelet_says(pod, words) or any(words in event["message"] for event in pod.events())


def said_of(pod: Pod) -> list[str]:
    """Return what Events say of a pod."""
    return [event["message"] for event in pod.events()]


def assert_told_and_removable(story: Story, pods: dict[str, tuple[Pod, str]]) -> None:
    """Wait until it is said what is wrong with each pod; all can be deleted at once."""
    for pod, words in pods.values():
        until(
            partial(is_told, pod, words),
            f"{pod} is told: {words}",
            within_s=30,
            seen=partial(said_of, pod),
        )
    assert [] == story.records()
    story.delete(*(pod for pod, _ in pods.values()))


@pytest.mark.usefixtures("stalls")
def test_texts(story: Story, tenant: Tenant) -> None:
    """Wildcards, sizes and numbers without bounds are refused with the limit; the agent answers all the while."""
    story.pool("p")
    lan = tenant.network("lan", {**MACVLAN, "name": "lan"})
    stars = "*" * 120 + "!"
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "stars": ({IPPOOL: {"ipv4": [stars]}}, "pool matches"),
        "many-patterns": ({IPPOOL: {"ipv4": ["a*"] * 2000}}, "32 is the most"),
        "long-text": ({IPPOOL: '{"ipv4":["' + "a" * 70_000 + '"]}'}, "65536 is the most"),
        "deep": ({IPPOOL: "[" * 5000}, "is not JSON"),
        "many-networks": ({NETWORKS: ",".join(["lan"] * 500)}, "32 is the most"),
    }
    pods = {
        name: (tenant.pod(name, {DEFAULT_NETWORK: lan, **annotations}), words)
        for name, (annotations, words) in cases.items()
    }
    assert_told_and_removable(story, pods)


@pytest.mark.usefixtures("stalls")
def test_programs_of_its_choice(story: Story, tenant: Tenant, trap: Trap) -> None:
    """Meta plugins, folders and sockets of a network's own are refused: no program of the tenant runs as root."""
    inner = {
        "binDir": trap.folder,
        "confDir": trap.folder,
        "cniDir": trap.folder,
        "delegates": [{"name": "x", "cniVersion": "1.0.0", "type": "evil"}],
    }
    socket = "/run/containerd/containerd.sock"
    networks: dict[str, tuple[dict[str, Any], str]] = {
        "meta": ({"type": "spiderpool-multus", **inner}, "is a meta plugin"),
        "meta-ipam": (
            {**MACVLAN, **inner, "ipam": {"type": "spiderpool-multus"}},
            "is a meta plugin",
        ),
        "path": ({**MACVLAN, "type": f"../../..{trap.folder}/evil"}, "no name of a CNI plugin"),
        "ipam-path": (
            {**MACVLAN, "ipam": {"type": f"../../..{trap.folder}/evil"}},
            "no name of a CNI plugin",
        ),
        "nul": ({**MACVLAN, "type": "a\0"}, "no name of a CNI plugin"),
        "folder": ({**MACVLAN, "type": "evil", **inner}, "program evil is in none of"),
        "socket": (
            {**MACVLAN, "ipam": {"type": "spiderpool", "ipam_unix_socket_path": socket}},
            "but the agent of this node listens at",
        ),
    }
    pods = {}
    for name, (config, words) in networks.items():
        network = tenant.network(name, {"cniVersion": "1.0.0", "name": name, **config})
        pods[name] = (tenant.pod(name, {NETWORKS: network}), words)
    nul = json.dumps([{"name": "meta", "interface": "a\0"}])
    pods["interface"] = (tenant.pod("interface", {NETWORKS: nul}), "is no name of an interface")
    assert_told_and_removable(story, pods)

    for text in (networks["meta"][0], networks["meta-ipam"][0]):
        metadata = {"name": "deputy", "namespace": tenant.namespace}
        spec = {"cniType": "custom", "customCNI": json.dumps(text)}
        with pytest.raises(Refused, match="is a meta plugin"):
            tenant.kube.create({"kind": "SpiderMultusConfig", "metadata": metadata, "spec": spec})


@pytest.mark.usefixtures("stalls")
def test_a_whole_subnet(story: Story, tenant: Tenant) -> None:
    """An application that asks for 10^8 addresses gets what the limit allows, and gives them back in steps."""
    subnet = f"{story.namespace}-big"
    story.subnet_of(subnet, subnet="100.64.0.0/10", ips=["100.64.0.1-100.127.255.254"])
    asks = {SUBNET: {"ipv4": [subnet]}, IP_NUMBER: "+100000000"}
    spec = {"containers": [{"name": "c", "image": "busybox:1"}]}
    labels = {"app": "greedy"}
    template = {"metadata": {"labels": labels, "annotations": texts(asks)}, "spec": spec}
    app = {
        "kind": "Deployment",
        "metadata": {"name": "greedy", "namespace": tenant.namespace},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
    }
    tenant.kube.create(app)

    def size() -> int:
        (pool,) = story.auto_pools(subnet) or [{}]
        return int(pool.get("status", {}).get("totalIPCount", 0))

    until(lambda: size() == 64, "the pool has as many as the limit allows", within_s=30)
    change = {"spec": {"template": {"metadata": {"annotations": {IP_NUMBER: "+1"}}}}}
    tenant.kube.patch("Deployment", "greedy", change, tenant.namespace)
    until(lambda: size() == 1, "the pool has given back the others", within_s=60)
    assert 256 >= len(all_records(story.kube))
