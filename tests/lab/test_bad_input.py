"""
Mistakes in annotations and configurations.

One clear message on the pod, no address taken, and a correction helps.
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NAMESPACE_POOLS, NETWORKS, ROUTES
from tests.lab.retry import until
from tests.lab.story import Story, kubelet_says

Cases = dict[str, tuple[Mapping[str, object], tuple[str, ...]]]


def assert_told(story: Story, cases: Cases) -> None:
    """Make a pod for each mistake, and assert that each is told by the agent and by kubelet, and that none holds anything."""
    pods = {
        name: story.pod(name, annotations, wait=False) for name, (annotations, _) in cases.items()
    }
    for name, (_, parts) in cases.items():
        text = story.warning(pods[name], *parts)
        assert "\n" not in text
        assert "Traceback" not in text
        until(
            lambda pod=pods[name], parts=parts: kubelet_says(pod, *parts),
            f"kubelet says of {name}: {parts}",
            within_s=20,
        )
    assert [] == story.records()


def test_pool_annotations(story: Story) -> None:
    """Malformed pool annotations name the annotation, the item and what to write."""
    lan = {DEFAULT_NETWORK: story.macvlan("lan")}
    pool = story.pool("p")
    ours = {"interface": "eth0", "ipv4": [pool]}
    cases: Cases = {
        "no-json": (lan | {IPPOOL: "{ipv4: [a]"}, ("wrong input", IPPOOL, "JSON")),
        "wrong-kind": (lan | {IPPOOL: [pool]}, ("wrong input", IPPOOL)),
        "wrong-type": (lan | {IPPOOL: {"ipv4": pool}}, ("wrong input", IPPOOL, "ipv4")),
        "no-pool": (
            lan | {IPPOOL: {"ipv4": ["nowhere"]}},
            ("wrong input", IPPOOL, '"nowhere" does not exist'),
        ),
        "twice": (
            lan | {IPPOOL: {"ipv4": [pool, pool]}},
            ("wrong input", f"{pool} is listed twice"),
        ),
        "empty-list": (lan | {IPPOOLS: []}, ("wrong input", IPPOOLS, "empty")),
        "mixed": (
            lan | {IPPOOLS: [ours, {"ipv4": [pool]}]},
            ("wrong input", IPPOOLS, '"interface"'),
        ),
        "nic-twice": (
            lan | {IPPOOLS: [ours, ours]},
            ("wrong input", IPPOOLS, "eth0 is listed twice"),
        ),
        "nic-missing": (
            lan | {IPPOOLS: [{"interface": "net7", "ipv4": [pool]}]},
            ("wrong input", "eth0", "net7"),
        ),
        "bad-pattern": (lan | {IPPOOL: {"ipv4": ["a[]"]}}, ("wrong input", IPPOOL, "a[]")),
        "bad-route": (
            lan | {IPPOOL: {"ipv4": [pool]}, ROUTES: [{"dst": "10.1.0.0/16", "gw": "fd00::1"}]},
            ("wrong input", ROUTES),
        ),
    }

    assert_told(story, cases)


def test_no_pool_at_all(story: Story) -> None:
    """A pod that nothing names a pool for is told that there is no default pool."""
    assert_told(
        story,
        {
            "pod": (
                {DEFAULT_NETWORK: story.macvlan("lan")},
                ("no IPPool available", "eth0", "default: true"),
            )
        },
    )


def test_namespace_annotation(story: Story) -> None:
    """A malformed annotation of the namespace is told on the pod."""
    key = NAMESPACE_POOLS[4]
    story.kube.patch("Namespace", story.namespace, {"metadata": {"annotations": {key: "not json"}}})

    assert_told(story, {"pod": ({DEFAULT_NETWORK: story.macvlan("lan")}, ("wrong input", key))})


def test_network_annotations(story: Story) -> None:
    """
    Networks that are malformed or do not exist are told on the pod.

    The networks before them are taken back.
    """
    lan = story.macvlan("lan", default_ipv4_ippool=[story.pool("p")])
    cases: Cases = {
        "no-network": ({DEFAULT_NETWORK: lan, NETWORKS: "nowhere"}, ("nowhere", story.namespace)),
        "no-default": (
            {DEFAULT_NETWORK: f"{story.namespace}/nowhere"},
            (f"{story.namespace}/nowhere",),
        ),
        "two-defaults": (
            {DEFAULT_NETWORK: f"{lan},{lan}"},
            ("wrong input", DEFAULT_NETWORK, "2 networks"),
        ),
        "slashes": ({DEFAULT_NETWORK: lan, NETWORKS: "a/b/c"}, ("wrong input", NETWORKS, "a/b/c")),
        "object": ({DEFAULT_NETWORK: lan, NETWORKS: '{"name":"lan"}'}, ("wrong input", NETWORKS)),
        "nic-name": (
            {DEFAULT_NETWORK: lan, NETWORKS: "lan@a-name-of-16-byte"},
            ("wrong input", NETWORKS, "at most 15 characters"),
        ),
        "trailing": ({DEFAULT_NETWORK: lan, NETWORKS: "lan,"}, ("wrong input", NETWORKS)),
    }

    assert_told(story, cases)


def test_network_configuration(story: Story) -> None:
    """A network that is no JSON, whose plugin is missing, or that has a value of a wrong type is told with what to do."""
    story.kube.create(_nad(story, "no-json", "{"))
    story.kube.create(_nad(story, "no-plugin", '{"cniVersion":"1.0.0","type":"nowhere-at-all"}'))
    story.macvlan("wrong-type", log_file_max_size="100")
    pool = {IPPOOL: {"ipv4": [story.pool("p")]}}
    wanted = {
        "no-json": ("no-json", "no JSON"),
        "no-plugin": ("nowhere-at-all", "/opt/cni/bin"),
        "wrong-type": ("ipam.log_file_max_size", '"100"', "write a number"),
    }

    pods = {
        name: story.pod(name, pool | {DEFAULT_NETWORK: f"{story.namespace}/{name}"}, wait=False)
        for name in wanted
    }

    for name, parts in wanted.items():
        until(
            lambda p=pods[name], w=parts: kubelet_says(p, *w),
            f"kubelet says of {name}: {parts}",
            seen=pods[name].events,
        )
    assert [] == story.records()


def _nad(story: Story, name: str, config: str) -> dict[str, object]:
    """Return a network of any configuration."""
    metadata = {"name": name, "namespace": story.namespace}
    return {"kind": "NetworkAttachmentDefinition", "metadata": metadata, "spec": {"config": config}}


def test_taken_interface_name(story: Story) -> None:
    """
    Two networks that ask for one interface name.

    The pod is told, and what the first had taken is given back.
    """
    lan = story.macvlan("lan", default_ipv4_ippool=[story.pool("p")])
    networks = "lan@same0,lan@same0"

    pod = story.pod("pod", {DEFAULT_NETWORK: lan, NETWORKS: networks}, wait=False)

    story.warning(pod, "same0")
    story.delete(pod)
