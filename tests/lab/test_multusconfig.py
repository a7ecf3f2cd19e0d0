"""
Networks as SpiderMultusConfigs.

The definition that is kept for each, and pods attached by it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOLS, NETWORKS, multus_config
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until, until_none
from tests.lab.story import Story

MACVLAN: dict[str, Any] = {"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}
CR_NAME = "multus.spidernet.io/cr-name"
DEFINITION = "NetworkAttachmentDefinition"


def definition(story: Story, name: str) -> Thing | None:
    """Return the definition of that name in the story's namespace."""
    return story.kube.get(DEFINITION, name, story.namespace)


def wait_config(story: Story, name: str, owner: str) -> str:
    """Wait until a definition belongs to a network, and give its configuration."""

    def owned() -> Thing | None:
        thing = definition(story, name)
        owners = (thing or {}).get("metadata", {}).get("ownerReferences", [])
        return thing if [owner] == [reference["name"] for reference in owners] else None

    return until(owned, f"definition {name} belongs to {owner}", within_s=10)["spec"]["config"]


def test_pod_on_a_network(story: Story) -> None:
    """
    A network of the reference's first form.

    Its definition character by character, and a pod that gets its NIC by it.
    """
    pool = story.pool("p", gateway=None)
    spec: dict[str, Any] = {
        "cniType": "macvlan",
        "enableCoordinator": False,
        "macvlan": {"master": ["ens192"], "ippools": {"ipv4": [pool]}},
    }
    story.kube.create(multus_config("lan", story.namespace, {"team": "a"}, **spec))
    expected = (
        '{"cniVersion":"0.3.1","name":"lan","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0,'
        '"ipam":{"type":"spiderpool","default_ipv4_ippool":["' + pool + '"]}}]}'
    )

    assert expected == wait_config(story, "lan", "lan")
    assert {"team": "a"} == story.kube.need(DEFINITION, "lan", story.namespace)["metadata"][
        "annotations"
    ]
    pod = story.pod("pod", {NETWORKS: "lan"})
    assert {("net1", pod.address("net1"))} == story.sips_of(pod)
    assert pool == story.records()[0].pool


def test_coordinator_settings_reach_the_definition(story: Story) -> None:
    """A network without coordinator settings inherits the cluster's: nothing is filled in."""
    story.kube.create(multus_config("macvlan-ens192", story.namespace, **MACVLAN))
    expected = (
        '{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0,'
        '"ipam":{"type":"spiderpool"}},{"type":"coordinator"}]}'
    )

    assert expected == wait_config(story, "macvlan-ens192", "macvlan-ens192")
    stored = story.kube.need("SpiderMultusConfig", "macvlan-ens192", story.namespace)["spec"]
    assert "coordinator" not in stored
    macvlan = {"master": ["ens192"], "mtu": 0, "vlanID": 0, "rdmaResourceName": ""}
    assert macvlan == stored["macvlan"]


def test_coordinator_settings_reach_the_pod(story: Story) -> None:
    """
    A pod's only NIC is on a network with coordinator settings of its own.

    They go before the cluster's.
    """
    settings = {
        "mode": "underlay",
        "podCIDRType": "auto",
        "podMACPrefix": "0a:1b",
        "vethMTU": 1400,
        "vethLinkAddress": "169.254.100.1",
        "podRPFilter": 2,
        "hijackCIDR": ["10.97.0.0/16"],
    }
    block = {"master": ["ens192"], "ippools": {"ipv4": [story.pool("p")]}}
    story.kube.create(
        multus_config(
            "lan", story.namespace, cniType="macvlan", macvlan=block, coordinator=settings
        )
    )
    wait_config(story, "lan", "lan")

    pod = story.pod("pod", {DEFAULT_NETWORK: f"{story.namespace}/lan"})

    assert pod.inside.mac("eth0").startswith("0a:1b:")
    assert ["169.254.100.1/32"] == pod.inside.addresses()["veth0"]
    assert "mtu 1400" in pod.inside.run("ip", "link", "show", "dev", "veth0").stdout
    hijacked = {route.dst for route in pod.inside.routes(4) if route.nic == "veth0"}
    assert "10.97.0.0/16" in hijacked
    assert "169.254.0.0/16" not in hijacked
    assert "2" == pod.inside.run("cat", "/proc/sys/net/ipv4/conf/all/rp_filter").stdout.strip()


def test_life_of_a_definition(story: Story) -> None:
    """A definition is taken over, follows its network, comes back when somebody deletes it, and goes with its network."""
    metadata = {
        "name": "lan",
        "namespace": story.namespace,
        "annotations": {"old": "1"},
        "labels": {"keep": "me"},
    }
    story.kube.create({"kind": DEFINITION, "metadata": metadata, "spec": {"config": "{}"}})
    story.kube.create(multus_config("lan", story.namespace, **MACVLAN))
    assert "ens192" in wait_config(story, "lan", "lan")
    found = story.kube.need(DEFINITION, "lan", story.namespace)["metadata"]
    assert ({}, {"keep": "me"}) == (found.get("annotations", {}), found["labels"])

    story.kube.patch(
        "SpiderMultusConfig", "lan", {"spec": {"macvlan": {"vlanID": 100}}}, story.namespace
    )
    wanted = {"vlanID": 100, "type": "ifacer", "interfaces": ["ens192"]}
    until(
        lambda: json.loads(wait_config(story, "lan", "lan"))["plugins"][0] == wanted,
        "the definition follows",
        within_s=10,
    )

    uid = found["uid"]
    story.kube.delete(DEFINITION, "lan", story.namespace)

    def made_again() -> bool:
        thing = definition(story, "lan")
        return thing is not None and thing["metadata"]["uid"] != uid

    until(made_again, "it is made again", within_s=10)
    story.kube.delete("SpiderMultusConfig", "lan", story.namespace)
    until_none(lambda: definition(story, "lan"), "it goes with its network", within_s=30)


def test_two_networks_and_one_definition(story: Story) -> None:
    """A second network whose definition would be the first one's is refused, in the reference's words."""
    story.kube.create(multus_config("one", story.namespace, {CR_NAME: "shared"}, **MACVLAN))
    wait_config(story, "shared", "one")
    with pytest.raises(Refused) as caught:
        story.kube.create(multus_config("two", story.namespace, {CR_NAME: "shared"}, **MACVLAN))

    where = story.namespace
    words = f"the net-attach-def {where}/shared already exists and is managed by SpiderMultusConfig {where}/one."
    assert words in caught.value.message
    assert "Invalid" == caught.value.reason


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"cniType": "macvlan"}, "spec.macvlanConfig"),
        ({**MACVLAN, "ipvlan": {"master": ["ens192"]}}, "spec.ipvlanConfig"),
        ({"cniType": "macvlan", "macvlan": {"master": ["a", "b"]}}, "spec.macvlanConfig"),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["a"], "vlanID": 5000}},
            "spec.macvlan.vlanID",
        ),
        ({"cniType": "bridge"}, "spec.cniType"),
        ({**MACVLAN, "coordinator": {"mode": "fast"}}, "spec.coordinator.mode"),
        ({**MACVLAN, "coordinator": {"podMACPrefix": "01:00"}}, "spec.coordinator.podMACPrefix"),
        ({**MACVLAN, "chainCNIJsonData": ["{"]}, "spec.chainCNIJsonData[0]"),
        ({"customCNI": "{"}, "spec.customCniTypeConfig"),
        ({**MACVLAN, "enableCoordinator": "yes"}, "spec.enableCoordinator"),
        ({**MACVLAN, "disableIPAM": 1}, "spec.disableIPAM"),
        ({**MACVLAN, "chainCNIJsonData": "{}"}, "spec.chainCNIJsonData"),
        ({"cniType": "macvlan", "macvlan": {"master": "a"}}, "spec.macvlan.master"),
        ({"cniType": "macvlan", "macvlan": {"master": ["a"], "mtu": -1}}, "spec.macvlan.mtu"),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["a"], "bond": {"mode": 1}}},
            "spec.macvlan.bond.name",
        ),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["a"], "bond": {"name": "b", "mode": 7}}},
            "spec.macvlan.bond.mode",
        ),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["a"], "ippools": {"ipv4": "p"}}},
            "spec.macvlan.ippools.ipv4",
        ),
        (
            {
                "cniType": "macvlan",
                "macvlan": {"master": ["a"], "ippools": {"matchMasterSubnet": True}},
            },
            "spec.macvlanConfig",
        ),
        ({"cniType": "vlan", "vlan": {"master": ["a"], "vlanMode": "none"}}, "spec.vlan.vlanMode"),
        (
            {"cniType": "vlan", "vlan": {"master": ["a"], "vlanMode": "auto", "vlanID": 7}},
            "spec.vlan",
        ),
        ({"cniType": "sriov", "sriov": {}}, "spec.sriov.resourceName"),
        (
            {
                "cniType": "sriov",
                "sriov": {"resourceName": "a/b", "minTxRateMbps": 2, "maxTxRateMbps": 1},
            },
            "spec.sriovConfig",
        ),
        (
            {"cniType": "ib-sriov", "ibsriov": {"resourceName": "a/b", "linkState": "up"}},
            "spec.ibsriov.linkState",
        ),
        ({"cniType": "ipoib", "ipoib": {"master": ""}}, "spec.ipoibConfig"),
        ({"cniType": "ovs", "ovs": {"bridge": "b", "vlan": 4095}}, "spec.ovs.vlan"),
        (
            {"cniType": "ovs", "ovs": {"bridge": "b", "trunk": [{"minID": 5, "maxID": 4}]}},
            "spec.ovsConfig",
        ),
    ],
)
def test_wrong_networks(kube: Kube, spec: dict[str, Any], field: str) -> None:
    """What is of a wrong type, out of range or in conflict with itself is refused by the name of its field."""
    with pytest.raises(Refused) as caught:
        kube.create(multus_config("wrong", "default", **spec), dry_run=True)

    assert [field] == caught.value.fields


def test_network_of_the_cluster_itself(kube: Kube, lab: Lab) -> None:
    """
    The installation made a network that stands for the cluster's own CNI.

    Its definition means the node's file.
    """
    found = kube.need("SpiderMultusConfig", lab.default_network, "kube-system")

    assert ("custom", False) == (found["spec"]["cniType"], found["spec"]["enableCoordinator"])
    assert "" == kube.need(DEFINITION, lab.default_network, "kube-system")["spec"].get("config", "")


def test_pools_of_the_pod_win(story: Story) -> None:
    """
    The network's pools are the last word's beginning.

    A pod's own annotation goes before them.
    """
    theirs, mine = story.pool("theirs", gateway=None), story.pool("mine", gateway=None)
    spec: dict[str, Any] = {
        "cniType": "macvlan",
        "enableCoordinator": False,
        "macvlan": {"master": ["ens192"], "ippools": {"ipv4": [theirs]}},
    }
    story.kube.create(multus_config("lan", story.namespace, **spec))
    wait_config(story, "lan", "lan")

    story.pod("pod", {NETWORKS: "lan", IPPOOLS: [{"interface": "net1", "ipv4": [mine]}]})

    assert [mine] == [record.pool for record in story.records()]


INJECT = "cni.spidernet.io/network-resource-inject"
INJECTED = "inject"  # the namespace that the lab's values name


@pytest.fixture
def injected(kube: Kube, lab: Lab) -> Iterator[Story]:
    """Return a story in the one namespace whose new pods the controller is asked about."""
    until_none(
        lambda: kube.get("Namespace", INJECTED),
        "the namespace of an earlier run is gone",
        within_s=60,
    )
    story = Story(kube, lab, INJECTED)
    try:
        yield story
        story.assert_clean()
        story.close()
    except BaseException:
        story.sweep()
        raise


def test_networks_of_a_label(injected: Story) -> None:
    """
    A pod or its namespace names a label and gets all its networks, by their masters.

    An unknown label is refused.
    """
    kube = injected.kube
    pools = {}
    for name, underlay in (("second", ENS224), ("first", ENS192)):
        pools[name] = injected.pool(name, underlay, gateway=None)
        block = {"master": [underlay.master], "ippools": {"ipv4": [pools[name]]}}
        spec = {"cniType": "macvlan", "enableCoordinator": False, "macvlan": block}
        kube.create(multus_config(name, INJECTED, {INJECT: "rail"}, **spec))
        wait_config(injected, name, name)
    with pytest.raises(Refused, match=f"has the label {INJECT}=other"):
        injected.pod("refused", {INJECT: "other"}, wait=False)

    asking = injected.pod("asking", {INJECT: "rail"})
    kube.patch("Namespace", INJECTED, {"metadata": {"annotations": {INJECT: "rail"}}})
    silent = injected.pod("silent")

    for pod in (asking, silent):
        found = (pod.thing or {})["metadata"]["annotations"][NETWORKS]
        assert f"{INJECTED}/first,{INJECTED}/second" == found
        nics = {record.nic: record.pool for record in injected.records() if record.uid == pod.uid}
        assert {"net1": pools["first"], "net2": pools["second"]} == nics


def test_resource_is_asked_for(kube: Kube, injected: Story) -> None:
    """A network of a device plugin puts its resource into the first container's limits."""
    block = {"resourceName": "example.com/rail1", "ippools": {"ipv4": ["any-*"]}}
    kube.create(multus_config("rail", INJECTED, {INJECT: "rail"}, cniType="sriov", sriov=block))
    pod = manifests.pod("pod", INJECTED, {INJECT: "rail"}, {}, manifests.pod_spec("node1"))
    limits = kube.create(pod, dry_run=True)["spec"]["containers"][0]["resources"]["limits"]

    assert "1" == limits["example.com/rail1"]
    del injected


def test_vlan_of_a_network(story: Story, lab: Lab) -> None:
    """
    A network's VLAN is made by `ifacer`.

    Where the kernel has none, the pod says so, and starts once the VLAN is there.
    """
    node = lab.node("node1")
    probe = node.exec(
        ["ip", "link", "add", "link", "ens192", "name", "probe.7", "type", "vlan", "id", "7"]
    )
    if probe.returncode == 0:
        node.exec(["ip", "link", "del", "probe.7"])
        pytest.skip("this kernel has VLAN interfaces: what is shown here is what happens without")
    pool = story.pool("p", gateway=None)
    block = {"master": ["ens192"], "vlanID": 100, "ippools": {"ipv4": [pool]}}
    story.kube.create(
        multus_config(
            "lan", story.namespace, cniType="macvlan", enableCoordinator=False, macvlan=block
        )
    )
    wait_config(story, "lan", "lan")
    pod = story.pod("pod", {NETWORKS: "lan"}, wait=False)
    words = "the kernel of this node has no VLAN interfaces"
    until(
        lambda: any(words in event["message"] for event in pod.events()),
        f"an Event says: {words}",
        within_s=30,
    )

    assert [] == story.records()
    try:
        node.exec(["ip", "link", "add", "ens192.100", "type", "veth", "peer", "name", "far100"])
        story.wait_running(pod)
        assert {("net1", pod.address("net1"))} == story.sips_of(pod)
        assert ",UP" in node.exec(["ip", "link", "show", "dev", "ens192.100"]).stdout
    finally:
        story.delete(pod)
        node.exec(["ip", "link", "del", "ens192.100"])
