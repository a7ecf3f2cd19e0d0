"""
The coordinator's configuration.

Who goes first, and what a wrong value is told.

Source: docs/reference/coordinator.md#configuration.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from spiderpool.datapath.coordinator_merge import default_nic, read_coordinator
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, Mode, PolicyRoute
from spiderpool.errors import InvalidRequest

CLUSTER: dict[str, Any] = {
    "mode": "underlay",
    "overlayPodCIDR": ["10.233.64.0/18"],
    "serviceCIDR": ["10.233.0.0/18", "fd00:10::/108"],
    "hijackCIDR": ["169.254.0.0/16"],
    "policyRoutes": [{"dst": "10.99.0.0/16", "gw": "10.6.0.1"}],
    "tunePodRoutes": True,
    "podDefaultRouteNIC": "net1",
    "hostRuleTable": 600,
    "podRPFilter": 2,
    "txQueueLen": 100,
    "vethLinkAddress": "169.254.100.1",
    "vethMTU": 1400,
    "podMACPrefix": "0A-1b",
}


def test_cluster_alone() -> None:
    """A network that says nothing has the cluster's settings."""
    expected = CoordinatorSettings(
        mode=Mode.UNDERLAY,
        hijack=tuple(
            ip_network(net)
            for net in ("10.233.64.0/18", "10.233.0.0/18", "fd00:10::/108", "169.254.0.0/16")
        ),
        policy_routes=(PolicyRoute(ip_network("10.99.0.0/16"), ip_address("10.6.0.1")),),
        tune_pod_routes=True,
        default_route_nic="net1",
        host_table=600,
        rp_filter=2,
        tx_queue_len=100,
        veth_address=ip_address("169.254.100.1"),
        veth_mtu=1400,
        mac_prefix="0a:1b",
    )

    assert expected == read_coordinator(
        {"type": "coordinator", "mode": "", "hijackCIDR": []}, CLUSTER
    )


def test_network_goes_first() -> None:
    """
    What the network says replaces what the cluster says, lists as a whole.

    Letter case does not matter.
    """
    config = {
        "mode": "overlay",
        "serviceCIDR": ["10.96.0.0/12"],
        "policyRoutes": [{"dst": "10.98.0.1", "gw": "10.6.0.2"}],
        "tunePodRoutes": False,
        "PodDefaultRouteNIC": "eth0",
        "hostRuleTable": 700,
        "podRPFilter": -1,
        "txQueueLen": 2000,
        "vethMTU": 1500,
    }

    merged = read_coordinator(config, CLUSTER)

    assert Mode.OVERLAY is merged.mode
    assert ("10.233.64.0/18", "10.96.0.0/12", "169.254.0.0/16") == tuple(
        str(network) for network in merged.hijack
    )
    assert (
        PolicyRoute(ip_network("10.98.0.1/32"), ip_address("10.6.0.2")),
    ) == merged.policy_routes
    assert (False, "eth0", 700, None, 2000, 1500) == (
        merged.tune_pod_routes,
        merged.default_route_nic,
        merged.host_table,
        merged.rp_filter,
        merged.tx_queue_len,
        merged.veth_mtu,
    )


def test_a_length_of_zero_says_nothing() -> None:
    """Every network that the original stored has `txQueueLen: 0`; the cluster's length is heard."""
    assert CLUSTER["txQueueLen"] == read_coordinator({"txQueueLen": 0}, CLUSTER).tx_queue_len
    assert 0 == read_coordinator({"txQueueLen": 0}, {"txQueueLen": 0}).tx_queue_len


def test_nobody_says_anything() -> None:
    """The defaults are the reference's."""
    expected = CoordinatorSettings(
        Mode.AUTO,
        "eth0",
        (),
        (),
        tune_pod_routes=True,
        host_table=500,
        rp_filter=0,
        tx_queue_len=0,
        veth_mtu=1500,
    )

    assert expected == read_coordinator({}, {})


@pytest.mark.parametrize("word", ["disabled", "disable"])
def test_disabled(word: str) -> None:
    """Both spellings switch it off."""
    assert Mode.DISABLED is read_coordinator({"mode": word}, CLUSTER).mode


WRONG: list[tuple[str, Any, str]] = [
    ("mode", "tunnel", "unknown tuneMode: tunnel"),
    ("mode", 1, "mode is 1, write a string"),
    ("podDefaultCniNic", 1, "podDefaultCniNic is 1, write a string"),
    ("overlayPodCIDR", {}, "overlayPodCIDR is {}, write a list"),
    ("overlayPodCIDR", ["10.0.0.1"], 'overlayPodCIDR is "10.0.0.1", write CIDRs'),
    ("serviceCIDR", ["fd00::/129"], "serviceCIDR is"),
    ("serviceCIDR", "10.96.0.0/12", 'serviceCIDR is "10.96.0.0/12", write a list'),
    ("hijackCIDR", ["10.300.0.0/16"], "hijackCIDR is"),
    ("hijackCIDR", "169.254.0.0/16", 'hijackCIDR is "169.254.0.0/16", write a list'),
    ("hijackCIDR", [7], "hijackCIDR is 7, write CIDRs"),
    ("policyRoutes", "10.99.0.0/16", "policyRoutes is"),
    ("policyRoutes", ["10.99.0.0/16"], "policyRoutes is"),
    ("policyRoutes", [{"dst": "10.99.0.0/16"}], "policyRoutes is"),
    ("policyRoutes", [{"dst": "10.99.0.0/16", "gw": "fd00::1"}], "both of one family"),
    ("policyRoutes", [{"dst": "10.99.0.0/16", "gw": "224.0.0.1"}], "224.0.0.0/4 is multicast"),
    ("policyRoutes", [{"dst": "10.99.0.0/16", "gw": "0.0.0.9"}], "0.0.0.0/8 means this network"),
    ("podDefaultRouteNic", "0123456789abcdef", "podDefaultRouteNic '0123456789abcdef' is no name"),
    ("podDefaultCniNic", "a/b", "podDefaultCniNic 'a/b' is no name"),
    ("vethLinkAddress", "240.0.0.1", "vethLinkAddress is"),
    ("tunePodRoutes", "true", 'tunePodRoutes is "true", write true or false'),
    ("podDefaultRouteNic", 1, "podDefaultRouteNic is 1, write a string"),
    ("hostRuleTable", 254, "hostRuleTable is 254, write a table of your own"),
    ("hostRuleTable", 2**32, "hostRuleTable is 4294967296"),
    ("hostRuleTable", -1, "hostRuleTable is -1"),
    ("hostRuleTable", True, "hostRuleTable is true, write a number"),
    ("podRPFilter", "0", 'podRPFilter is "0", write a number'),
    ("podRPFilter", 3, "podRPFilter is 3, write 0, 1, 2, or -1"),
    ("txQueueLen", -1, "txQueueLen is -1"),
    ("txQueueLen", 2**31, "txQueueLen is 2147483648"),
    ("txQueueLen", "9", "txQueueLen is"),
    ("vethLinkAddress", 169, "vethLinkAddress is 169, write a string"),
    ("vethLinkAddress", "::", "vethLinkAddress is"),
    ("vethLinkAddress", "224.0.0.1", "vethLinkAddress is"),
    ("vethLinkAddress", "169.254.0.1/16", "vethLinkAddress is"),
    ("vethMTU", "1500", 'vethMTU is "1500", write a number'),
    ("vethMTU", 0, "vethMTU is 0, write an MTU"),
    ("vethMTU", 70000, "vethMTU is 70000"),
    (
        "podMACPrefix",
        "0b:1b",
        'podMACPrefix is "0b:1b", write two bytes such as 0a:1b, the second digit even',
    ),
    ("podMACPrefix", 10, "podMACPrefix is 10, write a string"),
    ("podMACPrefix", "0a:1", "podMACPrefix is"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_wrong(key: str, value: object, words: str) -> None:
    """A wrong value is refused with its owner, key, value and what to write, wherever it stands."""
    with pytest.raises(InvalidRequest) as network:
        read_coordinator({key: value}, CLUSTER)
    with pytest.raises(InvalidRequest) as cluster:
        read_coordinator({}, {key: value})

    assert words in network.value.message
    assert network.value.message.startswith("coordinator configuration: ")
    assert words in cluster.value.message
    assert cluster.value.message.startswith("SpiderCoordinator: ")
    assert 7 == network.value.cni_code


def test_every_key_has_a_wrong_value() -> None:
    """No key is left out above (docs/reference/coordinator.md#configuration)."""
    keys = {key.casefold() for key in CLUSTER} | {"poddefaultcninic"}

    assert keys == {key.casefold() for key, _, _ in WRONG}


def test_first_nic_of_a_wrong_configuration() -> None:
    """DEL reads the one name that it needs, whatever the rest is."""
    assert ["eth0", "eth0", "pod0"] == [
        default_nic(config)
        for config in (
            {"mode": 7},
            {"podDefaultCniNic": 7},
            {"podDefaultCniNic": "pod0", "vethMTU": -1},
        )
    ]
