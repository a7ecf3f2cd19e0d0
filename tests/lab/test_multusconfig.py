"""Networks as SpiderMultusConfigs: the definition that is kept for each, and pods attached by it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import IPPOOLS, NETWORKS, multus_config
from tests.lab.patience import until, until_none
from tests.lab.story import Story

MACVLAN = {"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}
CR_NAME = "multus.spidernet.io/cr-name"
DEFINITION = "NetworkAttachmentDefinition"


def definition(story: Story, name: str) -> Thing | None:
    """Give the definition of that name in the story's namespace."""
    return story.kube.get(DEFINITION, name, story.namespace)


def wait_config(story: Story, name: str, owner: str) -> str:
    """Wait until a definition belongs to a network, and give its configuration."""

    def owned() -> Thing | None:
        thing = definition(story, name)
        owners = (thing or {}).get("metadata", {}).get("ownerReferences", [])
        return thing if [owner] == [reference["name"] for reference in owners] else None

    return until(owned, f"definition {name} belongs to {owner}", within_s=10)["spec"]["config"]


def test_pod_on_a_network(story: Story) -> None:
    """A network of the reference's first form: its definition character by character, and a pod that gets its NIC by it."""
    pool = story.pool("p", gateway=None)
    spec = {"cniType": "macvlan", "enableCoordinator": False, "macvlan": {"master": ["ens192"], "ippools": {"ipv4": [pool]}}}
    story.kube.create(multus_config("lan", story.namespace, {"team": "a"}, **spec))
    expected = (
        '{"cniVersion":"0.3.1","name":"lan","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0,'
        '"ipam":{"type":"spiderpool","default_ipv4_ippool":["' + pool + '"]}}]}'
    )

    assert expected == wait_config(story, "lan", "lan")
    assert {"team": "a"} == story.kube.need(DEFINITION, "lan", story.namespace)["metadata"]["annotations"]
    pod = story.pod("pod", {NETWORKS: "lan"})
    assert {("net1", pod.address("net1"))} == story.sips_of(pod)
    assert pool == story.records()[0].pool


def test_coordinator_settings_reach_the_definition(story: Story) -> None:
    """What the API server stores of a network without coordinator settings makes the reference's minimal block."""
    story.kube.create(multus_config("macvlan-ens192", story.namespace, **MACVLAN))
    expected = (
        '{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0,'
        '"ipam":{"type":"spiderpool"}},{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}]}'
    )

    assert expected == wait_config(story, "macvlan-ens192", "macvlan-ens192")
    stored = story.kube.need("SpiderMultusConfig", "macvlan-ens192", story.namespace)["spec"]
    coordinator = {"mode": "auto", "tunePodRoutes": True, "podRPFilter": 0, "txQueueLen": 0, "hostRuleTable": 500}
    assert (coordinator, {"master": ["ens192"], "mtu": 0, "vlanID": 0, "rdmaResourceName": ""}) == (
        stored["coordinator"],
        stored["macvlan"],
    )


def test_life_of_a_definition(story: Story) -> None:
    """A definition is taken over, follows its network, comes back when somebody deletes it, and goes with its network."""
    metadata = {"name": "lan", "namespace": story.namespace, "annotations": {"old": "1"}, "labels": {"keep": "me"}}
    story.kube.create({"kind": DEFINITION, "metadata": metadata, "spec": {"config": "{}"}})
    story.kube.create(multus_config("lan", story.namespace, **MACVLAN))
    assert "ens192" in wait_config(story, "lan", "lan")
    found = story.kube.need(DEFINITION, "lan", story.namespace)["metadata"]
    assert ({}, {"keep": "me"}) == (found.get("annotations", {}), found["labels"])

    story.kube.patch("SpiderMultusConfig", "lan", {"spec": {"macvlan": {"vlanID": 100}}}, story.namespace)
    wanted = {"vlanID": 100, "type": "ifacer", "interfaces": ["ens192"]}
    until(lambda: json.loads(wait_config(story, "lan", "lan"))["plugins"][0] == wanted, "the definition follows", within_s=10)

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
        ({"cniType": "macvlan", "macvlan": {"master": ["a"], "vlanID": 5000}}, "spec.macvlan.vlanID"),
        ({"cniType": "bridge"}, "spec.cniType"),
        ({**MACVLAN, "coordinator": {"mode": "fast"}}, "spec.coordinator.mode"),
        ({**MACVLAN, "coordinator": {"podMACPrefix": "01:00"}}, "spec.coordinator.podMACPrefix"),
        ({**MACVLAN, "chainCNIJsonData": ["{"]}, "spec.chainCNIJsonData[0]"),
        ({"customCNI": "{"}, "spec.customCniTypeConfig"),
    ],
)
def test_wrong_networks(kube: Kube, spec: dict[str, Any], field: str) -> None:
    """What is of a wrong type, out of range or in conflict with itself is refused by the name of its field."""
    with pytest.raises(Refused) as caught:
        kube.create(multus_config("wrong", "default", **spec), dry_run=True)

    assert [field] == caught.value.fields


def test_network_of_the_cluster_itself(kube: Kube) -> None:
    """The installation made a network that stands for the cluster's own CNI: its definition means the node's file."""
    found = kube.need("SpiderMultusConfig", "k8s-pod-network", "kube-system")

    assert ("custom", False) == (found["spec"]["cniType"], found["spec"]["enableCoordinator"])
    assert "" == kube.need(DEFINITION, "k8s-pod-network", "kube-system")["spec"].get("config", "")


def test_pools_of_the_pod_win(story: Story) -> None:
    """The network's pools are the last word's beginning: a pod's own annotation goes before them."""
    theirs, mine = story.pool("theirs", gateway=None), story.pool("mine", gateway=None)
    spec = {"cniType": "macvlan", "enableCoordinator": False, "macvlan": {"master": ["ens192"], "ippools": {"ipv4": [theirs]}}}
    story.kube.create(multus_config("lan", story.namespace, **spec))
    wait_config(story, "lan", "lan")

    story.pod("pod", {NETWORKS: "lan", IPPOOLS: [{"interface": "net1", "ipv4": [mine]}]})

    assert [mine] == [record.pool for record in story.records()]
