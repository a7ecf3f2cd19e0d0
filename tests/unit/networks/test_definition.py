"""
The CNI configuration of a network.

Expected texts are those of the original, character by character.

Source: docs/reference/networks.md#the-definition.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.crd.multusconfig import MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import InvalidRequest
from spiderpool.networks.definition import definition_name, render_annotations, render_config

# What is stored when no coordinator settings are given: the webhook's, and on top the API server's
# own (docs/reference/networks.md#fields).
STORED = {
    "mode": "auto",
    "tunePodRoutes": True,
    "podRPFilter": 0,
    "txQueueLen": 0,
    "hostRuleTable": 500,
}
IPAM = '"ipam":{"type":"spiderpool"}'
COORDINATOR = '{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}'
BOND = {"name": "bond0", "mode": 1, "options": ""}


def config(
    annotations: dict[str, str] | None = None, name: str = "macvlan-ens192", **spec: Any
) -> SpiderMultusConfig:
    """Make a network as the API server stores it."""
    whole = {"coordinator": STORED, "enableCoordinator": True, **spec}
    return SpiderMultusConfig(
        metadata=ObjectMeta(name=name, namespace="kube-system", annotations=annotations or {}),
        spec=msgspec.convert(whole, MultusConfigSpec),
    )


def plugins(*texts: str) -> str:
    """Write the whole configuration around some plugins."""
    return '{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[' + ",".join(texts) + "]}"


FULL_COORDINATOR = {
    "mode": "underlay",
    "podCIDRType": "auto",
    "txQueueLen": 2000,
    "vethLinkAddress": "169.254.100.1",
    "vethMTU": 1400,
    "tunePodRoutes": True,
    "podMACPrefix": "0a:1b",
    "podDefaultRouteNIC": "net1",
    "podRPFilter": 2,
    "hostRuleTable": 500,
    "hijackCIDR": ["169.254.0.0/16"],
    "policyRoutes": [{"dst": "10.10.0.0/16", "gw": "10.6.0.1"}],
}


def test_smallest_macvlan() -> None:
    """The smallest network is the reference's first line."""
    expected = (
        '{"cniVersion":"0.3.1","name":"macvlan-ens192","plugins":[{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0,'
        '"ipam":{"type":"spiderpool"}},{"txQueueLen":0,"tunePodRoutes":true,"mode":"auto","type":"coordinator"}]}'
    )
    assert expected == render_config(config(cniType="macvlan", macvlan={"master": ["ens192"]}))


def test_fullest_macvlan() -> None:
    """
    VLAN, pools, a chained plugin, all coordinator settings and both annotations.

    The reference's second line.
    """
    expected = (
        '{"cniVersion":"1.0.0","name":"cname","plugins":[{"vlanID":100,"type":"ifacer","interfaces":["ens192"]},'
        '{"type":"macvlan","master":"ens192.100","mode":"bridge","mtu":1480,"ipam":{"type":"spiderpool",'
        '"default_ipv4_ippool":["p4"],"default_ipv6_ippool":["p6"]}},'
        '{"sysctl":{"net.core.somaxconn":"4096"},"type":"tuning"},'
        '{"txQueueLen":2000,"vethLinkAddress":"169.254.100.1","vethMTU":1400,"tunePodRoutes":true,"podMACPrefix":"0a:1b",'
        '"mode":"underlay","type":"coordinator","podDefaultRouteNic":"net1","podRPFilter":2,"hijackCIDR":["169.254.0.0/16"],'
        '"policyRoutes":[{"dst":"10.10.0.0/16","gw":"10.6.0.1"}]}]}'
    )
    found = config(
        {"multus.spidernet.io/cni-version": "1.0.0", "cni.spidernet.io/cniconfig-name": "cname"},
        cniType="macvlan",
        macvlan={
            "master": ["ens192"],
            "vlanID": 100,
            "mtu": 1480,
            "ippools": {"ipv4": ["p4"], "ipv6": ["p6"]},
        },
        chainCNIJsonData=['{"type":"tuning","sysctl":{"net.core.somaxconn":"4096"}}'],
        coordinator=FULL_COORDINATOR,
    )
    assert expected == render_config(found)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(
            {
                "cniType": "macvlan",
                "macvlan": {"master": ["ens192", "ens224"], "vlanID": 100, "bond": BOND},
            },
            plugins(
                '{"vlanID":100,"type":"ifacer","interfaces":["ens192","ens224"],"bond":{"name":"bond0","mode":1,"options":""}}',
                '{"type":"macvlan","master":"bond0.100","mode":"bridge","mtu":0,' + IPAM + "}",
                COORDINATOR,
            ),
            id="macvlan on a VLAN of a bond",
        ),
        pytest.param(
            {
                "cniType": "macvlan",
                "enableCoordinator": False,
                "macvlan": {"master": ["ens192", "ens224"], "vlanID": 0, "bond": BOND},
            },
            plugins(
                '{"type":"ifacer","interfaces":["ens192","ens224"],"bond":{"name":"bond0","mode":1,"options":""}}',
                '{"type":"macvlan","master":"bond0","mode":"bridge","mtu":0,' + IPAM + "}",
            ),
            id="macvlan on a bond, without coordinator",
        ),
        pytest.param(
            {"cniType": "ipvlan", "ipvlan": {"master": ["ens192"], "vlanID": 100}},
            plugins(
                '{"vlanID":100,"type":"ifacer","interfaces":["ens192"]}',
                '{"type":"ipvlan","master":"ens192.100","mtu":0,' + IPAM + "}",
                COORDINATOR,
            ),
            id="ipvlan on a VLAN",
        ),
        pytest.param(
            {
                "cniType": "vlan",
                "vlan": {"master": ["ens192"], "vlanMode": "manual", "vlanID": 100},
            },
            plugins(
                '{"type":"vlan","master":"ens192","vlanMode":"manual","vlanId":100,"mtu":0,'
                + IPAM
                + "}",
                COORDINATOR,
            ),
            id="vlan by hand",
        ),
        pytest.param(
            {"cniType": "vlan", "vlan": {"master": ["ens192"], "vlanMode": "auto"}},
            plugins(
                '{"type":"vlan","master":"ens192","vlanMode":"auto","mtu":0,' + IPAM + "}",
                COORDINATOR,
            ),
            id="vlan of the pool",
        ),
        pytest.param(
            {
                "cniType": "vlan",
                "vlan": {"master": ["ens192", "ens224"], "vlanID": 100, "bond": BOND},
            },
            plugins(
                '{"type":"ifacer","interfaces":["ens192","ens224"],"bond":{"name":"bond0","mode":1,"options":""}}',
                '{"type":"vlan","master":"bond0","vlanMode":"manual","vlanId":100,"mtu":0,'
                + IPAM
                + "}",
                COORDINATOR,
            ),
            id="vlan on a bond",
        ),
        pytest.param(
            {
                "cniType": "sriov",
                "sriov": {
                    "resourceName": "spidernet.io/rail1",
                    "vlanID": 100,
                    "minTxRateMbps": 100,
                    "maxTxRateMbps": 1000,
                    "mtu": 8000,
                    "rdmaIsolation": True,
                    "ippools": {"ipv4": ["rdmarail1-*"], "matchMasterSubnet": True},
                },
            },
            plugins(
                '{"vlan":100,"min_tx_rate":100,"max_tx_rate":1000,"type":"sriov","ipam":{"type":"spiderpool",'
                '"default_ipv4_ippool":["rdmarail1-*"],"match_master_subnet":true}}',
                '{"type":"rdma"}',
                COORDINATOR,
                '{"type":"tuning","mtu":8000}',
            ),
            id="sriov with everything",
        ),
        pytest.param(
            {"cniType": "sriov", "sriov": {"resourceName": "spidernet.io/rail1"}},
            plugins(
                '{"vlan":0,"min_tx_rate":0,"max_tx_rate":0,"type":"sriov",' + IPAM + "}",
                COORDINATOR,
            ),
            id="smallest sriov",
        ),
        pytest.param(
            {"cniType": "ib-sriov", "ibsriov": {"resourceName": "spidernet.io/ib"}},
            plugins(
                '{"type":"ib-sriov","pkey":"","link_state":"enable","rdmaIsolation":true,"ibKubernetesEnabled":false,'
                + IPAM
                + "}",
                COORDINATOR,
            ),
            id="ib-sriov",
        ),
        pytest.param(
            {"cniType": "ipoib", "ipoib": {"master": "ibs5f0"}},
            plugins('{"type":"ipoib","master":"ibs5f0",' + IPAM + "}", COORDINATOR),
            id="ipoib",
        ),
        pytest.param(
            {
                "cniType": "ovs",
                "ovs": {
                    "bridge": "br1",
                    "vlan": 10,
                    "deviceID": "0000:00:1f.6",
                    "trunk": [{"minID": 1, "maxID": 100}, {"id": 200}],
                },
            },
            plugins(
                '{"vlan":10,"type":"ovs","bridge":"br1","deviceID":"0000:00:1f.6",'
                + IPAM
                + ',"trunk":[{"minID":1,"maxID":100},{"id":200}]}',
                COORDINATOR,
            ),
            id="ovs",
        ),
        pytest.param(
            {"cniType": "macvlan", "disableIPAM": True, "macvlan": {"master": ["ens192"]}},
            plugins('{"type":"macvlan","master":"ens192","mode":"bridge","mtu":0}', COORDINATOR),
            id="no address plugin",
        ),
        pytest.param(
            {"customCNI": ' {"any": "text"} '}, ' {"any": "text"} ', id="custom, word by word"
        ),
        pytest.param({"cniType": "custom", "coordinator": None}, "", id="custom without a text"),
    ],
)
def test_plugins(spec: dict[str, Any], expected: str) -> None:
    """Each plugin's configuration is the reference's, key by key and in its order."""
    assert expected == render_config(config(**spec))


def test_before_the_api_server_filled_in() -> None:
    """
    A network that says nothing of the coordinator inherits all of the cluster's settings.

    Source: docs/reference/networks.md#the-definition.
    """
    text = render_config(config(cniType="ipoib", ipoib={"master": "ibs5f0"}, coordinator=None))

    assert [{"type": "coordinator"}] == json.loads(text)["plugins"][1:]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({}, {}),
        ({"podRPFilter": 2, "hostRuleTable": 600}, {"podRPFilter": 2, "hostRuleTable": 600}),
        ({"podRPFilter": -1}, {"podRPFilter": -1}),
        ({"podCIDRType": "auto"}, {"podRPFilter": 0}),
    ],
)
def test_filter_and_table_of_a_network(said: dict[str, Any], written: dict[str, int]) -> None:
    """
    A filter and a table that the user names are written.

    The values that the original's webhook and CRD store in every network are not: the cluster's
    would never be heard.
    """
    text = render_config(
        config(cniType="macvlan", macvlan={"master": ["ens192"]}, coordinator={**STORED, **said})
    )

    block = json.loads(text)["plugins"][1]
    assert written == {key: block[key] for key in ("podRPFilter", "hostRuleTable") if key in block}


@pytest.mark.parametrize(
    ("spec", "resource"),
    [
        (
            {"cniType": "sriov", "sriov": {"resourceName": "spidernet.io/rail1"}},
            "spidernet.io/rail1",
        ),
        (
            {"cniType": "ib-sriov", "ibsriov": {"resourceName": "spidernet.io/ib"}},
            "spidernet.io/ib",
        ),
        (
            {"cniType": "ovs", "ovs": {"bridge": "br1", "deviceID": "0000:00:1f.6"}},
            "ovs-cni.network.kubevirt.io/br1",
        ),
        ({"cniType": "ovs", "ovs": {"bridge": "br1"}}, None),
        (
            {"cniType": "macvlan", "macvlan": {"master": ["ens192"], "rdmaResourceName": "x/y"}},
            None,
        ),
        ({"cniType": "custom"}, None),
    ],
)
def test_annotations(spec: dict[str, Any], resource: str | None) -> None:
    """
    The definition has all annotations of its network, and the resource of its device plugin.

    Source: docs/reference/networks.md#the-definition.
    """
    mine = {"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    expected = mine if resource is None else {**mine, "k8s.v1.cni.cncf.io/resourceName": resource}

    assert expected == render_annotations(config(mine, **spec))


def test_name() -> None:
    """An annotation names the definition, and with it the network inside."""
    found = config(
        {"multus.spidernet.io/cr-name": "k8s-pod-network"},
        cniType="ipoib",
        ipoib={"master": "ibs5f0"},
    )

    assert "k8s-pod-network" == definition_name(found)
    assert "k8s-pod-network" == json.loads(render_config(found))["name"]


@pytest.mark.parametrize("chained", ["[]", "{", '{"mtu": 1}', '{"type": ""}'])
def test_chained_plugin_must_be_one(chained: str) -> None:
    """A further plugin is a JSON object with a type."""
    found = config(cniType="ipoib", ipoib={"master": "ibs5f0"}, chainCNIJsonData=[chained])

    with pytest.raises(InvalidRequest):
        render_config(found)


def test_missing_block() -> None:
    """A plugin without its settings gives no configuration, and the words name it."""
    with pytest.raises(InvalidRequest, match="cniType is macvlan, and its settings are missing"):
        render_config(config(cniType="macvlan"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.randoms(use_true_random=False))
def test_chained_plugins_keep_their_meaning(keys: dict[str, Any], shuffle: Any) -> None:
    """However its keys are ordered, a further plugin gives the same text, and that text means the same."""
    plugin = {**keys, "type": "tuning"}
    order = list(plugin)
    shuffle.shuffle(order)
    texts = [json.dumps(plugin), json.dumps({key: plugin[key] for key in order})]
    one, other = (
        render_config(config(cniType="ipoib", ipoib={"master": "ibs5f0"}, chainCNIJsonData=[text]))
        for text in texts
    )

    assert one == other
    assert plugin == json.loads(one)["plugins"][1]
