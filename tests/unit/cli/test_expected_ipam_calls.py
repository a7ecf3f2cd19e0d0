"""The calls that a pod's start makes to the IPAM plugin."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition
from spiderpool.cli.expected_ipam_calls import SANDBOX, calls_of, find_ipam
from spiderpool.ipam.pod_request import Request
from spiderpool.model.facts import Facts
from spiderpool.model.network_selection import parse_networks
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_facts, make_pod


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ([{"type": "macvlan", "ipam": {"type": "spiderpool"}}], (0, {"type": "spiderpool"})),
        ([{"type": "tuning"}, {"ipam": {"type": "x"}}], (1, {"type": "x"})),
        ([{"type": "loopback"}], None),
        ([], None),
    ],
)
def test_ipam_of_a_configuration(plugins: list[dict[str, Any]], expected: object) -> None:
    """The first plugin with an `ipam` object."""
    assert expected == find_ipam(plugins)


def network(name: str, ipam: dict[str, Any], **plugin: Any) -> NetworkAttachmentDefinition:
    """Make a network of one plugin."""
    config = {
        "cniVersion": "0.3.1",
        "name": f"cni-{name}",
        "type": "macvlan",
        "ipam": {"type": "spiderpool", **ipam},
        **plugin,
    }
    document = {
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"config": json.dumps(config)},
    }
    return msgspec.convert(document, NetworkAttachmentDefinition)


def cluster_of(*networks: NetworkAttachmentDefinition) -> FakeCluster:
    """Make a cluster of some networks."""
    cluster = FakeCluster()
    for each in networks:
        cluster.seed(each)
    return cluster


def facts_of(networks: str) -> Facts:
    """Make the facts of a pod that asks for further networks."""
    pod = make_pod(annotations={ANNO_NETWORKS: networks})
    return make_facts(pod=pod, networks=parse_networks(networks, "ns"), default_network="ns/main")


async def test_every_key_of_the_ipam_object_counts() -> None:
    """Pools, `clean_gateway`, `match_master_subnet` and the network's name reach the request."""
    ipam = {
        "default_ipv4_ippool": ["a"],
        "Default_IPv6_IPPool": ["b"],
        "clean_gateway": True,
        "match_master_subnet": True,
    }
    cluster = cluster_of(network("main", ipam))
    calls = await calls_of(cluster, make_facts(default_network="ns/main"))

    expected = Request(
        nic="eth0",
        default_ipv4=("a",),
        default_ipv6=("b",),
        clean_gateway=True,
        match_master_subnet=True,
        network="cni-main",
        container_id=SANDBOX,
    )
    assert ((expected,), (), ()) == (calls.requests, calls.problems, calls.notes)


@pytest.mark.parametrize("capable", [True, False])
async def test_addresses_of_a_network_selection(capable: bool) -> None:
    """
    They reach the plugin as `runtimeConfig` where it has the capability, in CNI_ARGS else.

    `cni-args` win over CNI_ARGS.
    """
    cluster = cluster_of(
        network("main", {}),
        network("more", {}, **({"capabilities": {"ips": True}} if capable else {})),
    )
    element = {"name": "more", "ips": ["10.6.0.10/16"], "cni-args": {"ips": ["10.6.0.11"]}}
    calls = await calls_of(cluster, facts_of(json.dumps([element])))

    assert [("eth0", ()), ("net1", (ip_address("10.6.0.10" if capable else "10.6.0.11"),))] == [
        (request.nic, request.ips) for request in calls.requests
    ]


async def test_two_networks_with_one_interface_name() -> None:
    """The meta plugin refuses the pod, so no NIC gets an address."""
    cluster = cluster_of(network("main", {}), network("more", {}))
    calls = await calls_of(cluster, facts_of("more@net1,more@net1"))

    assert () == calls.requests
    assert (
        "networks ns/more and ns/more would both be interface net1; ask for another interface name for one of them",
    ) == calls.problems


async def test_the_default_network_of_a_pod() -> None:
    """
    The annotation for the default network wins over the installation's.

    Without either the pools are not known.
    """
    cluster = cluster_of(network("main", {}), network("other", {}))
    chosen = make_pod(annotations={ANNO_DEFAULT_NETWORK: "ns/other"})

    assert ["cni-other"] == [
        request.network
        for request in (
            await calls_of(cluster, make_facts(pod=chosen, default_network="ns/main"))
        ).requests
    ]
    assert (Request(nic="eth0"),) == (await calls_of(cluster, make_facts())).requests
