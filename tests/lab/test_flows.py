"""
The flows of the reference between pods of several CNIs: by which interfaces their first packets go.

Pod1 has Calico's interface alone (node1), pod2 also one in the underlay (node2), pod3 only that
(node3); pod4 is like pod1, on node3, pod5 like pod3, on node1. A path is written as place →
(interface in, interface out); who does not see a packet is not in it.

Source: docs/reference/packet-paths.md#flows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final

import pytest

from spiderlab import Lab
from spiderlab.topology import CLIENT, CLIENT_ADDRESS, CLIENT_ADDRESS6, ENS192, ROUTER
from spiderpool.cli.connectivity.inside.survey import look
from spiderpool.connectivity.packet_path import Walk, walk
from spiderpool.connectivity.survey import Ends, read_surveys
from tests.lab import manifests
from tests.lab.flows import (
    PORT,
    Servers,
    Taps,
    Transport,
    connections,
    exchange,
    host_end,
    netns_of,
    node_address,
)
from tests.lab.networks import ENS192 as UNDERLAY
from tests.lab.networks import IPAddress
from tests.lab.retry import until
from tests.lab.story import Pod, Story

pytestmark = pytest.mark.still

Path = dict[str, tuple[str, str]]
FAMILIES: Final = (4, 6)
OUTSIDE: Final[dict[int, IPAddress]] = {4: CLIENT_ADDRESS.ip, 6: CLIENT_ADDRESS6.ip}


@dataclass(slots=True)
class Stage:
    """Five pods with their nodes, taps in all their namespaces, and Services of three of them."""

    story: Story
    lab: Lab
    pods: dict[str, Pod]
    places: dict[str, str]
    taps: Taps
    cali: dict[str, str]  # pod → the node's end of its eth0
    veth: str  # the node's end of pod3's veth0
    veth5: str  # the same of pod5

    def address(self, pod: str, nic: str, family: int) -> IPAddress:
        """Return an address of a pod."""
        return self.pods[pod].address(nic, family)

    def service(self, pod: str, family: int) -> IPAddress:
        """Return the Service address of a pod."""
        service = self.story.kube.need("Service", pod, self.story.namespace)
        return next(
            ip
            for text in service["spec"]["clusterIPs"]
            if (ip := ip_address(text)).version == family
        )

    def node_port(self, pod: str) -> int:
        """Return the port of a pod's Service on the nodes."""
        return self.story.kube.need("Service", pod, self.story.namespace)["spec"]["ports"][0][
            "nodePort"
        ]

    def node_address(self, node: str, nic: str, family: int) -> IPAddress:
        """Return a node's address."""
        return node_address(self.lab, node, nic, family)

    def ask(self, place: str, address: IPAddress, port: int = PORT, **more: Any) -> Transport:
        """Transfer some KB from a place."""
        self.taps.forget()
        return exchange(self.places[place], address, port, **more)

    def predicts(self, pod: str, done: Transport, address: IPAddress) -> tuple[Path, Path]:
        """Return both paths as the product works them out when a transfer failed, from routes, rules and connections."""
        looks = [look(node.name, "", self.places[node.name]) for node in self.lab.nodes]
        looks += [look(each.node, name, self.places[name]) for name, each in self.pods.items()]
        world = read_surveys(json.dumps(looks))
        client = next(station for station in world if station.pod == pod)
        request = walk(world, client, Ends(done.client, done.port, address, PORT))
        server = next(station for station in world if station.name == request.hops[-1].station)
        return _path(request), _path(walk(world, server, request.last.reversed()))

    def shows(
        self, done: Transport, seen: IPAddress | None, request: Path, answer: Path, port: int = PORT
    ) -> None:
        """
        Assert how far a transfer came, which the server saw, and both paths; taps are a little late.

        Beside one that came to nothing others like it may still repeat themselves: then only its
        own packets count.
        """
        assert ("done" if seen else "transfer", seen) == (done.stage, done.seen)
        expected = (request, answer)
        family, mine = done.client.version, None if seen else done.port

        def paths() -> tuple[Path, ...]:
            seen = (
                self.taps.path(family, {PORT, port}, answer=each, client=mine)
                for each in (False, True)
            )
            return tuple(seen)

        until(lambda: expected == paths(), f"the paths are {expected}", within_s=5, seen=paths)


def _path(way: Walk) -> Path:
    """Write the product's hops as the taps do."""
    return {hop.station.split()[1]: (hop.entered, hop.left) for hop in way.hops}


@pytest.fixture
def stage(story: Story, lab: Lab) -> Iterator[Stage]:
    """Make pods, Services, servers and taps."""
    for item in _things(story):
        story.kube.create(item)
    pods = _pods(story)
    places = {name: netns_of(pod) for name, pod in pods.items()}
    places |= {node.name: f"/proc/{node.init}/ns/net" for node in lab.nodes}
    places |= {"client": f"/run/netns/{CLIENT}", "router": f"/run/netns/{ROUTER}"}
    watched = {name: path for name, path in places.items() if name not in {"client", "router"}}
    with ExitStack() as undo:
        undo.enter_context(Servers(*(places[name] for name in pods)))
        taps = undo.enter_context(Taps(watched))
        cali = {name: host_end(lab, pods[name], "eth0") for name in ("pod1", "pod2", "pod4")}
        yield Stage(
            story,
            lab,
            pods,
            places,
            taps,
            cali,
            host_end(lab, pods["pod3"], "veth0"),
            host_end(lab, pods["pod5"], "veth0"),
        )


def _things(story: Story) -> Iterator[dict[str, Any]]:
    """Return the network and the Services."""
    plugins = [
        {
            "type": "macvlan",
            "master": UNDERLAY.master,
            "mode": "bridge",
            "ipam": {"type": "spiderpool"},
        },
        {"type": "coordinator"},
    ]
    config = {"cniVersion": "1.0.0", "name": "flows", "plugins": plugins}
    metadata = {"name": "flows", "namespace": story.namespace}
    yield {
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": json.dumps(config)},
    }
    for name in ("pod1", "pod2", "pod3"):
        spec = {
            "type": "NodePort",
            "externalTrafficPolicy": "Cluster" if name == "pod1" else "Local",
            "ipFamilyPolicy": "RequireDualStack",
            "selector": {"app": name},
            "ports": [{"port": PORT, "protocol": "TCP"}],
        }
        yield {
            "kind": "Service",
            "metadata": {"name": name, "namespace": story.namespace},
            "spec": spec,
        }


def _pods(story: Story) -> dict[str, Pod]:
    """Make the pods, all at once."""
    pools = {f"ipv{family}": [story.pool(f"v{family}", UNDERLAY, family)] for family in FAMILIES}
    network = f"{story.namespace}/flows"
    wishes = {
        "pod1": ("node1", {}),
        "pod2": (
            "node2",
            {manifests.NETWORKS: network, manifests.IPPOOLS: [{"interface": "net1", **pools}]},
        ),
        "pod3": (
            "node3",
            {
                manifests.DEFAULT_NETWORK: network,
                manifests.IPPOOLS: [{"interface": "eth0", **pools}],
            },
        ),
        "pod4": ("node3", {}),
        "pod5": (
            "node1",
            {
                manifests.DEFAULT_NETWORK: network,
                manifests.IPPOOLS: [{"interface": "eth0", **pools}],
            },
        ),
    }
    pods = {
        name: story.pod(name, annotations, node=node, labels={"app": name}, wait=False)
        for name, (node, annotations) in wishes.items()
    }
    story.wait_running(*pods.values())
    return pods


def wait_for_service(
    stage: Stage, place: str, address: IPAddress, port: int = PORT, **more: Any
) -> Transport:
    """
    Ask until kube-proxy knows the Service there.

    It hears of endpoints a little after they run.
    """
    done = until(
        lambda: (
            answer if (answer := stage.ask(place, address, port, **more)).stage == "done" else None
        ),
        f"{address} port {port} answers {place}",
    )
    assert done is not None
    return done


def test_flows(stage: Stage) -> None:
    """Each flow goes by the interfaces that the reference names, and the server sees the named source; both families."""
    for family in FAMILIES:
        overlay_to_multi(stage, family)
        overlay_to_underlay(stage, family)
        multi_to_service(stage, family)
        underlay_on_one_node(stage, family)
        underlay_to_service_of_overlay(stage, family)
        underlay_to_underlay(stage, family)
        multi_to_service_of_underlay(stage, family)
        underlay_to_service_of_underlay(stage, family)
        node_to_its_pod(stage, family)
        node_to_a_pod_elsewhere(stage, family)
        outside_to_node_ports(stage, family)
        outside_to_the_second_nic(stage, family)
        # These leave half a connection that repeats itself, so they are the last.
        underlay_to_overlay(stage, family)
        underlay_to_overlay_address_of_multi(stage, family)


def overlay_to_multi(stage: Stage, family: int) -> None:
    """
    S1: lines 1 and 2 to the overlay address.

    Masquerade by node1 and net1 directly to the underlay address.
    """
    source, target = stage.address("pod1", "eth0", family), stage.address("pod2", "eth0", family)
    one, two = stage.cali["pod1"], stage.cali["pod2"]
    stage.shows(
        stage.ask("pod1", target),
        source,
        {
            "pod1": ("", "eth0"),
            "node1": (one, "eth0"),
            "node2": ("eth0", two),
            "pod2": ("eth0", ""),
        },
        {
            "pod2": ("", "eth0"),
            "node2": (two, "eth0"),
            "node1": ("eth0", one),
            "pod1": ("eth0", ""),
        },
    )
    for node in ("node1", "node2"):
        assert any(
            "[ASSURED]" in line for line in connections(stage.places[node], source, target)
        ), node
    done = stage.ask("pod1", stage.address("pod2", "net1", family))
    request: Path = {"pod1": ("", "eth0"), "node1": (one, "ens192"), "pod2": ("net1", "")}
    answer: Path = {"pod2": ("", "net1"), "node1": ("ens192", one), "pod1": ("eth0", "")}
    stage.shows(done, stage.node_address("node1", ENS192.name, family), request, answer)
    assert (request, answer) == stage.predicts("pod1", done, stage.address("pod2", "net1", family))


def overlay_to_underlay(stage: Stage, family: int) -> None:
    """
    S1's second path.

    Node1 puts its own address in the underlay in the source's place, and the answer comes back to
    it.
    """
    one = stage.cali["pod1"]
    source, target = stage.address("pod1", "eth0", family), stage.address("pod3", "eth0", family)
    done = stage.ask("pod1", target)
    request: Path = {"pod1": ("", "eth0"), "node1": (one, "ens192"), "pod3": ("eth0", "")}
    answer: Path = {"pod3": ("", "eth0"), "node1": ("ens192", one), "pod1": ("eth0", "")}
    own = stage.node_address("node1", ENS192.name, family)
    stage.shows(done, own, request, answer)
    assert any(
        "[ASSURED]" in line for line in connections(stage.places["node1"], source, target, own)
    )


def multi_to_service(stage: Stage, family: int) -> None:
    """S2: line 2 and back by line 1; node2 replaces the Service's address, the source stays."""
    one, two = stage.cali["pod1"], stage.cali["pod2"]
    source, service = stage.address("pod2", "eth0", family), stage.service("pod1", family)
    done = wait_for_service(stage, "pod2", service)
    request: Path = {
        "pod2": ("", "eth0"),
        "node2": (two, "eth0"),
        "node1": ("eth0", one),
        "pod1": ("eth0", ""),
    }
    answer: Path = {
        "pod1": ("", "eth0"),
        "node1": (one, "eth0"),
        "node2": ("eth0", two),
        "pod2": ("eth0", ""),
    }
    stage.shows(done, source, request, answer)
    assert (request, answer) == stage.predicts("pod2", done, service)
    assert connections(
        stage.places["node2"], source, service, stage.address("pod1", "eth0", family)
    )


def underlay_to_overlay(stage: Stage, family: int) -> None:
    """
    S3: lines 3, 4 and 6.

    Node3 does not see the answer and takes what follows for INVALID, which its kube-proxy drops.
    """
    one = stage.cali["pod1"]
    source, target = stage.address("pod3", "eth0", family), stage.address("pod1", "eth0", family)
    done = stage.ask("pod3", target, timeout_s=2)
    request: Path = {
        "pod3": ("", "veth0"),
        "node3": (stage.veth, "eth0"),
        "node1": ("eth0", one),
        "pod1": ("eth0", ""),
    }
    answer: Path = {"pod1": ("", "eth0"), "node1": (one, "ens192"), "pod3": ("eth0", "")}
    stage.shows(done, None, request, answer)
    assert (request, answer) == stage.predicts("pod3", done, target)
    assert any(
        "SYN_SENT" in line and "[UNREPLIED]" in line
        for line in connections(stage.places["node3"], source, target)
    )
    assert any("SYN_RECV" in line for line in connections(stage.places["node1"], source, target))


def underlay_to_overlay_address_of_multi(stage: Stage, family: int) -> None:
    """
    S5: as S3.

    The answer leaves by eth0, whose address it has, not by net1, and passes node3 by all the same.
    """
    two = stage.cali["pod2"]
    done = stage.ask("pod3", stage.address("pod2", "eth0", family), timeout_s=2)
    request: Path = {
        "pod3": ("", "veth0"),
        "node3": (stage.veth, "eth0"),
        "node2": ("eth0", two),
        "pod2": ("eth0", ""),
    }
    answer: Path = {"pod2": ("", "eth0"), "node2": (two, "ens192"), "pod3": ("eth0", "")}
    stage.shows(done, None, request, answer)


def underlay_on_one_node(stage: Stage, family: int) -> None:
    """S3 on one node: the answer passes the node too, by table 500, so the rule does not matter."""
    four = stage.cali["pod4"]
    stage.shows(
        stage.ask("pod3", stage.address("pod4", "eth0", family)),
        stage.address("pod3", "eth0", family),
        {"pod3": ("", "veth0"), "node3": (stage.veth, four), "pod4": ("eth0", "")},
        {"pod4": ("", "eth0"), "node3": (four, stage.veth), "pod3": ("veth0", "")},
    )


def underlay_to_service_of_overlay(stage: Stage, family: int) -> None:
    """
    S4: lines 3, 4 and 5.

    Node3 also replaces the source by its own address, so the answer comes back to it.
    """
    one = stage.cali["pod1"]
    done = wait_for_service(stage, "pod3", stage.service("pod1", family))
    request: Path = {
        "pod3": ("", "veth0"),
        "node3": (stage.veth, "eth0"),
        "node1": ("eth0", one),
        "pod1": ("eth0", ""),
    }
    answer: Path = {
        "pod1": ("", "eth0"),
        "node1": (one, "eth0"),
        "node3": ("eth0", stage.veth),
        "pod3": ("veth0", ""),
    }
    stage.shows(done, stage.node_address("node3", "eth0", family), request, answer)
    service = stage.service("pod1", family)
    assert (request, answer) == stage.predicts("pod3", done, service)
    ends = (
        done.client,
        service,
        stage.address("pod1", "eth0", family),
        stage.node_address("node3", "eth0", family),
    )
    assert any("[ASSURED]" in line for line in connections(stage.places["node3"], *ends))


def underlay_to_underlay(stage: Stage, family: int) -> None:
    """S5: addresses of one subnet talk without any node, from either side."""
    stage.shows(
        stage.ask("pod3", stage.address("pod2", "net1", family)),
        stage.address("pod3", "eth0", family),
        {"pod3": ("", "eth0"), "pod2": ("net1", "")},
        {"pod2": ("", "net1"), "pod3": ("eth0", "")},
    )
    stage.shows(
        stage.ask("pod2", stage.address("pod3", "eth0", family)),
        stage.address("pod2", "net1", family),
        {"pod2": ("", "net1"), "pod3": ("eth0", "")},
        {"pod3": ("", "eth0"), "pod2": ("net1", "")},
    )


def multi_to_service_of_underlay(stage: Stage, family: int) -> None:
    """
    S5.

    Node2 replaces the Service's address, and the source by its own in the underlay (natOutgoing).
    """
    two = stage.cali["pod2"]
    stage.shows(
        wait_for_service(stage, "pod2", stage.service("pod3", family)),
        stage.node_address("node2", ENS192.name, family),
        {"pod2": ("", "eth0"), "node2": (two, "ens192"), "pod3": ("eth0", "")},
        {"pod3": ("", "eth0"), "node2": ("ens192", two), "pod2": ("eth0", "")},
    )


def underlay_to_service_of_underlay(stage: Stage, family: int) -> None:
    """
    S5.

    By veth0 to its node, which puts the Service's pod and its own address in, so the answer comes
    back the same way.
    """
    source, target, service = (
        stage.address("pod5", "eth0", family),
        stage.address("pod3", "eth0", family),
        stage.service("pod3", family),
    )
    own = stage.node_address("node1", ENS192.name, family)
    stage.shows(
        wait_for_service(stage, "pod5", service),
        own,
        {"pod5": ("", "veth0"), "node1": (stage.veth5, "ens192"), "pod3": ("eth0", "")},
        {"pod3": ("", "eth0"), "node1": ("ens192", stage.veth5), "pod5": ("veth0", "")},
    )
    assert any(
        "[ASSURED]" in line
        for line in connections(stage.places["node1"], source, service, target, own)
    )


def node_to_its_pod(stage: Stage, family: int) -> None:
    """
    S5.

    A node and its own underlay pod talk by the veth pair, which macvlan alone would not let them.
    """
    done = stage.ask("node3", stage.address("pod3", "eth0", family))
    stage.shows(
        done,
        done.client,
        {"node3": ("", stage.veth), "pod3": ("veth0", "")},
        {"pod3": ("", "veth0"), "node3": (stage.veth, "")},
    )


def node_to_a_pod_elsewhere(stage: Stage, family: int) -> None:
    """
    S5: another node reaches an underlay pod over the wire alone.

    The pod's own node does not forward it.
    """
    done = stage.ask("node1", stage.address("pod3", "eth0", family))
    stage.shows(
        done,
        stage.node_address("node1", ENS192.name, family),
        {"node1": ("", "ens192"), "pod3": ("eth0", "")},
        {"pod3": ("", "eth0"), "node1": ("ens192", "")},
    )


def outside_to_node_ports(stage: Stage, family: int) -> None:
    """
    S5: NodePorts.

    With policy Local the pod sees the client, and answers by the way that the request came.
    """
    one, two = stage.cali["pod1"], stage.cali["pod2"]
    outside, port = OUTSIDE[family], stage.node_port("pod3")
    stage.shows(
        wait_for_service(stage, "client", stage.node_address("node3", "eth0", family), port),
        outside,
        {"node3": ("eth0", stage.veth), "pod3": ("veth0", "")},
        {"pod3": ("", "veth0"), "node3": (stage.veth, "eth0")},
        port,
    )
    assert any("mark=1 " in line for line in connections(stage.places["pod3"], outside))
    port, node2 = stage.node_port("pod1"), stage.node_address("node2", "eth0", family)
    stage.shows(
        wait_for_service(stage, "client", node2, port),
        node2,
        {"node2": ("eth0", "eth0"), "node1": ("eth0", one), "pod1": ("eth0", "")},
        {"pod1": ("", "eth0"), "node1": (one, "eth0"), "node2": ("eth0", "eth0")},
        port,
    )
    # A client in net1's own subnet: the answer leaves by eth0 because it comes from eth0's address.
    port, neighbour = stage.node_port("pod2"), UNDERLAY.gateway(family)
    stage.shows(
        wait_for_service(stage, "router", node2, port, source=neighbour),
        neighbour,
        {"node2": ("eth0", two), "pod2": ("eth0", "")},
        {"pod2": ("", "eth0"), "node2": (two, ENS192.name)},
        port,
    )


def outside_to_the_second_nic(stage: Stage, family: int) -> None:
    """S5: a client of another subnet reaches net1, and net1 answers it by its own gateway."""
    stage.shows(
        stage.ask("client", stage.address("pod2", "net1", family)),
        OUTSIDE[family],
        {"pod2": ("net1", "")},
        {"pod2": ("", "net1")},
    )
