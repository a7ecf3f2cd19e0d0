"""
Where a pod's pools come from.

Every source, their precedence, wildcards, and the routes that come with them.
"""

from __future__ import annotations

import pytest

from spiderlab import Lab
from tests.lab.inside import Route, fetch
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NAMESPACE_POOLS, NETWORKS, ROUTES
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until
from tests.lab.story import Pod, Story


def pools_of(story: Story, pod: Pod) -> dict[tuple[str, int], str]:
    """Return the pool of each NIC and family of a pod, without the story's prefix."""
    mine = [record for record in story.records() if record.uid == pod.uid]
    return {
        (record.nic, record.ip.version): record.pool.removeprefix(f"{story.namespace}-")
        for record in mine
    }


def annotate_namespace(story: Story, annotations: dict[str, str | None]) -> None:
    """Set annotations of the story's namespace."""
    story.kube.patch("Namespace", story.namespace, {"metadata": {"annotations": annotations}})


@pytest.mark.still
def test_precedence(story: Story) -> None:
    """
    `ippools`, `ippool`, the namespace, the CNI configuration, default pools.

    The first that is there decides alone.
    """
    pools = {name: story.pool(name) for name in ("ippools", "ippool", "namespace", "conf")}
    story.pool("default4", default=True)
    story.pool("default6", family=6, default=True)
    with_conf = {DEFAULT_NETWORK: story.macvlan("with-conf", default_ipv4_ippool=[pools["conf"]])}
    without = {DEFAULT_NETWORK: story.macvlan("without")}
    ippools, ippool = (
        [{"interface": "eth0", "ipv4": [pools["ippools"]]}],
        {"ipv4": [pools["ippool"]]},
    )

    annotate_namespace(story, {NAMESPACE_POOLS[4]: f'["{pools["namespace"]}"]'})
    first = {
        "ippools": story.pod("ippools", with_conf | {IPPOOLS: ippools, IPPOOL: ippool}, wait=False),
        "ippool": story.pod("ippool", with_conf | {IPPOOL: ippool}, wait=False),
        "namespace": story.pod("namespace", with_conf, wait=False),
    }
    story.wait_running(*first.values())
    annotate_namespace(story, {NAMESPACE_POOLS[4]: None})
    second = {
        "conf": story.pod("conf", with_conf, wait=False),
        "default": story.pod("default", without, wait=False),
    }
    story.wait_running(*second.values())

    wanted = {name: {("eth0", 4): name} for name in ("ippools", "ippool", "namespace", "conf")}
    wanted["default"] = {("eth0", 4): "default4", ("eth0", 6): "default6"}
    assert wanted == {name: pools_of(story, pod) for name, pod in (first | second).items()}


def test_ippools_by_order(story: Story) -> None:
    """Items of `ippools` without names belong to eth0 and to the networks in their order, whatever those NICs are called."""
    lan, storage = story.macvlan("lan", ENS192), story.macvlan("storage", ENS224)
    items = [
        {"ipv4": [story.pool("first")]},
        {"ipv4": [story.pool("second", ENS224)], "cleangateway": True},
    ]

    pod = story.pod("pod", {DEFAULT_NETWORK: lan, NETWORKS: f"{storage}@store0", IPPOOLS: items})

    assert {("eth0", 4): "first", ("store0", 4): "second"} == pools_of(story, pod)
    assert pod.inside.underlay() == story.sips_of(pod)


def test_one_ippool_for_two_nics(story: Story) -> None:
    """`ippool` holds for every NIC; two NICs on one pool get an address each."""
    lan = story.macvlan("lan")
    pool = story.pool("both", gateway=None)

    pod = story.pod("pod", {DEFAULT_NETWORK: lan, NETWORKS: lan, IPPOOL: {"ipv4": [pool]}})

    assert {("eth0", 4): "both", ("net1", 4): "both"} == pools_of(story, pod)
    assert len({ip for _, ip in pod.inside.underlay()}) == 2


def test_wildcards(story: Story) -> None:
    """
    Wildcards name pools in every source; they expand by name.

    A family without a match is skipped.
    """
    prefix = story.namespace
    for name, count in (("w-a1", 1), ("w-a2", 1), ("x-1", 1), ("y-1", 1)):
        story.pool(name, count=count)
    story.pool("six", family=6, count=1)
    lan = {DEFAULT_NETWORK: story.macvlan("lan")}
    conf = {DEFAULT_NETWORK: story.macvlan("conf", default_ipv4_ippool=[f"{prefix}-y-*"])}

    two = [
        story.pod(f"w{number}", lan | {IPPOOL: {"ipv4": [f"{prefix}-w-a?"]}}) for number in (1, 2)
    ]
    skips = story.pod(
        "six",
        lan
        | {IPPOOLS: [{"interface": "eth0", "ipv4": ["nothing-*"], "ipv6": [f"{prefix}-s[hi]x"]}]},
    )
    of_conf = story.pod("conf", conf)
    annotate_namespace(story, {NAMESPACE_POOLS[4]: f'["{prefix}-[x]-1"]'})
    of_namespace = story.pod("ns", lan)

    assert [{("eth0", 4): "w-a1"}, {("eth0", 4): "w-a2"}] == [pools_of(story, pod) for pod in two]
    assert {("eth0", 6): "six"} == pools_of(story, skips)
    assert {("eth0", 4): "y-1"} == pools_of(story, of_conf)
    assert {("eth0", 4): "x-1"} == pools_of(story, of_namespace)


def test_routes(story: Story, lab: Lab) -> None:
    """
    A pod has the routes of its pool and of its annotation on the NIC that knows their gateway.

    Others are dropped.
    """
    gateway = str(ENS192.gateway(4))
    pool = story.pool("p", routes=[{"dst": "10.9.0.0/24", "gw": gateway}])
    wanted = [{"dst": "10.98.0.0/16", "gw": gateway}, {"dst": "10.97.0.0/16", "gw": "192.168.77.1"}]
    annotations = {
        NETWORKS: story.macvlan("lan"),
        IPPOOLS: [{"interface": "net1", "ipv4": [pool], "cleangateway": True}],
        ROUTES: wanted,
    }

    pod = story.pod("pod", annotations)

    on_net1 = [route for route in pod.inside.routes(4) if route.nic == "net1"]
    assert sorted(on_net1, key=lambda route: route.dst) == [
        Route("10.9.0.0/24", "net1", gateway),
        Route("10.98.0.0/16", "net1", gateway),
    ]
    command = fetch(pod.address("net1"))
    until(
        lambda: lab.in_client(command).stdout.strip() == "pod",
        "the client reaches net1 by the pool's route",
    )


def test_clean_gateway_of_the_configuration(story: Story) -> None:
    """`clean_gateway` of the CNI configuration leaves the default route out."""
    lan = story.macvlan("lan", clean_gateway=True)

    pod = story.pod("pod", {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [story.pool("p")]}})

    assert [] == pod.inside.routes(4)


@pytest.mark.parametrize("suffix", ["", "/16"], ids=["plain", "with prefix length"])
def test_wanted_address(story: Story, suffix: str) -> None:
    """A pod that asks for one address of its pool gets that one."""
    pool = story.pool("p", count=8)
    wanted = story.kube.need("SpiderIPPool", pool)["spec"]["ips"][0].partition("-")[2]
    story.macvlan("lan")
    items = [{"interface": "net1", "ipv4": [pool], "cleangateway": True}]

    pod = story.pod("pod", {NETWORKS: [{"name": "lan", "ips": [wanted + suffix]}], IPPOOLS: items})

    assert wanted == str(pod.address("net1"))
