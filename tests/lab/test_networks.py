"""
What the meta plugin does with a pod's networks on real nodes.

JSON form, default route, chains, files.
"""

from __future__ import annotations

import json
from ipaddress import ip_network

import pytest

from spiderlab import Lab
from spiderlab.peers import Meta
from tests.lab.inside import Route, fetch
from tests.lab.kube import Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NETWORKS
from tests.lab.networks import ENS192
from tests.lab.retry import until
from tests.lab.story import Story

GATEWAYS = {family: str(ENS192.gateway(family)) for family in (4, 6)}


def network(story: Story, name: str, config: Thing | None) -> Thing:
    """Return a network of any configuration; without one it means the node's file of that name."""
    metadata = {"name": name, "namespace": story.namespace}
    return {
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": json.dumps(config) if config else ""},
    }


def test_name_and_mac(story: Story) -> None:
    """A selection in JSON gets its interface name and hardware address."""
    story.macvlan("lan")
    mac = "0a:58:0a:06:00:99"
    selection = {"name": "lan", "namespace": story.namespace, "interface": "lan0", "mac": mac}
    pool = {"interface": "lan0", "ipv4": [story.pool("four", gateway=None)]}

    pod = story.pod("pod", {NETWORKS: [selection], IPPOOLS: [pool]})

    assert mac == pod.inside.mac("lan0")


def test_default_route(story: Story, lab: Lab) -> None:
    """A selection in JSON gets the default routes of both families."""
    if lab.peers.meta is Meta.MULTUS:
        pytest.skip(
            "Multus v4.2.3 leaves the first NIC's default route and ignores `default-route`"
        )
    items = [
        {
            "interface": "lan0",
            "ipv4": [story.pool("four")],
            "ipv6": [story.pool("six", family=6)],
            "cleangateway": True,
        }
    ]
    story.macvlan("lan")
    selection = {
        "name": "lan",
        "namespace": story.namespace,
        "interface": "lan0",
        "default-route": list(GATEWAYS.values()),
    }

    pod = story.pod("pod", {NETWORKS: [selection], IPPOOLS: items})

    for family, gateway in GATEWAYS.items():
        assert [Route("default", "lan0", gateway)] == [
            route for route in pod.inside.routes(family) if route.dst == "default"
        ]
        command = fetch(pod.address("lan0", family))
        until(
            lambda c=command: lab.in_client(c).stdout.strip() == "pod",
            f"the client reaches lan0 by IPv{family}",
        )


def test_networks_of_every_form(story: Story) -> None:
    """A chain of plugins, an empty configuration that means the node's file, a network of another namespace: all attached."""
    macvlan = {
        "type": "macvlan",
        "master": "ens192",
        "mode": "bridge",
        "ipam": {"type": "spiderpool", "clean_gateway": True},
    }
    tuning = {"type": "tuning", "mtu": 1400}
    story.kube.create(
        network(story, "chain", {"cniVersion": "1.0.0", "plugins": [macvlan, tuning]})
    )
    story.kube.create(network(story, story.lab.default_network, None))
    pool = story.pool("p", gateway=None)
    default, others = (
        f"{story.namespace}/{story.lab.default_network}",
        "chain@chained, kube-system/macvlan-conf-ens192",
    )

    pod = story.pod("pod", {DEFAULT_NETWORK: default, NETWORKS: others, IPPOOL: {"ipv4": [pool]}})

    entries = {entry["interface"]: entry for entry in pod.network_status()}
    wanted = {
        "eth0": default,
        "chained": f"{story.namespace}/chain",
        "net2": "kube-system/macvlan-conf-ens192",
    }
    assert wanted == {interface: entry["name"] for interface, entry in entries.items()}
    assert {"chained", "net2"} == {nic for nic, _ in story.sips_of(pod)}
    assert "mtu 1400" in pod.inside.run("ip", "link", "show", "dev", "chained").stdout
    assert pod.address("eth0") in ip_network("10.233.64.0/18")


def test_events_name_what_was_attached(story: Story) -> None:
    """A pod's Events tell interface, addresses and network, as those of Multus do."""
    lan = story.macvlan("lan")
    pod = story.pod(
        "pod",
        {
            NETWORKS: lan,
            IPPOOLS: [{"interface": "net1", "ipv4": [story.pool("p")], "cleangateway": True}],
        },
    )

    def told() -> bool:
        said = " ".join(
            event["message"] for event in pod.events() if event["reason"] == "AddedInterface"
        )
        return all(word in said for word in ("net1", f"{pod.address('net1')}/16", lan, "eth0"))

    until(told, "Events name the interfaces", within_s=10, seen=pod.events)
