"""What the reachability test puts on a cluster, how it reads what comes back, and its programs."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, cast

import msgspec
import pytest

from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.kubernetes.core import (
    Namespace,
    NetworkAttachmentDefinition,
    NetworkAttachmentDefinitionSpec,
    PodIP,
)
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cli.agents import AgentPod, AgentSpec, Container
from spiderpool.cli.connectivity.command import Options, choose_network, is_underlay, read_recipe
from spiderpool.cli.connectivity.inside import serve
from spiderpool.cli.connectivity.inside.transfer import transfer
from spiderpool.cli.connectivity.manifests import (
    LABEL,
    TRANSFER_COMMAND,
    Probe,
    ProbePod,
    ProbeStatus,
    Recipe,
    Service,
    ServiceSpec,
    plan_probes,
    read_program,
    render_annotations,
    render_pod,
    render_service,
)
from spiderpool.cli.connectivity.runner import Report, read_report
from spiderpool.cli.connectivity.workloads import Scene, read_addresses
from spiderpool.cli.session import Output
from spiderpool.connectivity.matrix import Goal, Kind, Stage
from spiderpool.errors import Forbidden, InvalidRequest, NotFound
from spiderpool.kube.client import KubeClient
from tests.fakes.cluster import FakeCluster

NETWORK = "kube-system/macvlan-conf-ens192"
UNSET = "0.0.0.0"  # noqa: S104 - what a socket without a route says of itself
RECIPE = Recipe("test", "spiderpool:1", "Never", NETWORK, {4: ("blue",), 6: ("blue6",)})


def test_probes() -> None:
    """
    Of each kind one pod asks, on the first node, and one answers on every node.

    Names are unique.
    """
    probes = plan_probes(["a", "b"], tuple(Kind))

    assert 9 == len({probe.name for probe in probes})
    assert [(kind, "a") for kind in Kind] == [
        (probe.kind, probe.node) for probe in probes if not probe.answers
    ]
    assert [(kind, node) for kind in Kind for node in "ab"] == [
        (p.kind, p.node) for p in probes if p.answers
    ]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Kind.OVERLAY, {}),
        (Kind.UNDERLAY, {"v1.multus-cni.io/default-network": NETWORK, "interface": "eth0"}),
        (Kind.MULTI, {"k8s.v1.cni.cncf.io/networks": NETWORK, "interface": "net1"}),
    ],
)
def test_annotations(kind: Kind, expected: dict[str, str]) -> None:
    """An underlay pod has the network as its default one, a multi-NIC pod as its second, with the pools that were named."""
    annotations = render_annotations(kind, RECIPE)
    pools = json.loads(annotations.pop("ipam.spidernet.io/ippools", "[]"))

    assert {key: value for key, value in expected.items() if key != "interface"} == annotations
    nic = (
        [{"interface": expected["interface"], "ipv4": ["blue"], "ipv6": ["blue6"]}]
        if expected
        else []
    )
    assert nic == pools


def test_no_pools_named() -> None:
    """Without pools the choice is the product's."""
    recipe = Recipe("test", "spiderpool:1", "Never", NETWORK)

    assert {"k8s.v1.cni.cncf.io/networks": NETWORK} == render_annotations(Kind.MULTI, recipe)


def test_programs_survive_the_pods_specification() -> None:
    """Kubernetes replaces `$(NAME)` in commands and variables, so no program may have that."""
    pod = render_pod(Probe(Kind.OVERLAY, "node1", "server-overlay-1", answers=True), RECIPE)

    assert "$(" not in json.dumps(pod.spec)
    assert "node1" == pod.spec["nodeName"]


def test_addresses() -> None:
    """A multi-NIC pod answers at its overlay addresses, at those of net1, and behind its Service."""
    status = [
        {"name": "k8s-pod-network", "interface": "eth0", "ips": ["10.233.100.1"]},
        {"name": "kube-system/macvlan", "interface": "net1", "ips": ["10.7.200.1", "fd00::1"]},
    ]
    pod = ProbePod(
        metadata=ObjectMeta(
            name="server-multi-1",
            annotations={"k8s.v1.cni.cncf.io/network-status": json.dumps(status)},
        ),
        status=ProbeStatus(phase="Running", pod_ips=(PodIP(ip="10.233.100.1"),)),
    )
    service = Service(spec=ServiceSpec(cluster_ips=("10.233.0.10",)))

    found = list(
        read_addresses(Probe(Kind.MULTI, "node1", "server-multi-1", answers=True), pod, service)
    )

    assert [
        (Goal.MULTI_OVERLAY_IP, ip_address("10.233.100.1")),
        (Goal.MULTI_SERVICE, ip_address("10.233.0.10")),
        (Goal.MULTI_UNDERLAY_IP, ip_address("10.7.200.1")),
        (Goal.MULTI_UNDERLAY_IP, ip_address("fd00::1")),
    ] == found


def test_service_of_both_families() -> None:
    """The Service asks for both families, and its text says so."""
    service = render_service(Probe(Kind.MULTI, "node1", "server-multi-1", answers=True), RECIPE)

    assert "PreferDualStack" == json.loads(msgspec.json.encode(service))["spec"]["ipFamilyPolicy"]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            {
                "plugins": [
                    {"type": "macvlan", "ipam": {"type": "spiderpool"}},
                    {"type": "coordinator"},
                ]
            },
            True,
        ),
        ({"plugins": [{"type": "macvlan", "ipam": {"type": "spiderpool"}}]}, False),
        (
            {
                "plugins": [
                    {"type": "macvlan", "ipam": {"type": "host-local"}},
                    {"type": "coordinator"},
                ]
            },
            False,
        ),
        ({"type": "macvlan", "ipam": {"type": "spiderpool"}}, False),
        ([], False),
        ({"plugins": 3}, False),
    ],
)
def test_networks_that_fit(config: Any, expected: bool) -> None:
    """A network of the underlay has our IPAM and the coordinator."""
    assert expected == is_underlay(json.dumps(config))


def test_network_that_is_no_json() -> None:
    """A network without a configuration is none of ours."""
    assert not is_underlay("")


@pytest.mark.parametrize(
    ("report", "stage", "words"),
    [
        (Report(Stage.DONE, "10.0.0.1", 4, "10.0.0.9", "server", ""), Stage.DONE, ""),
        (
            Report(Stage.DONE, "10.0.0.1", 4, "10.0.0.9", "other", ""),
            Stage.TRANSFER,
            "pod other answers in place of server",
        ),
        (Report(Stage.CONNECT, UNSET, 0, "", "", "unreachable"), Stage.CONNECT, "unreachable"),
    ],
)
def test_reports(report: Report, stage: Stage, words: str) -> None:
    """
    A transfer that another pod answered is no success.

    A socket without a route has no address.
    """
    read = read_report(report, ip_address("10.0.0.2"), "server")

    assert (stage, words) == (read.stage, read.words)
    assert (report.client == UNSET) == (read.client is None)


# --- programs
# -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[int]:
    """Serve one kind of transfer on a free port: takes 5000 bytes, gives 300."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, (seen, _) = listening.accept()
                    threading.Thread(
                        target=serve.answer,
                        args=(connection, f"::ffff:{seen}", 5000, 300),
                        daemon=True,
                    ).start()

        threading.Thread(target=run, daemon=True).start()
        yield listening.getsockname()[1]


def test_transfer(server: int) -> None:
    """
    Both directions pass.

    The client learns its address as the server saw it, and who answered.
    """
    report = transfer("127.0.0.1", server, 5000, 300, 5)

    assert ("done", "127.0.0.1", "127.0.0.1", socket.gethostname()) == (
        report["stage"],
        report["client"],
        report["seen"],
        report["name"],
    )


def test_transfer_that_stops(server: int) -> None:
    """A server that waits for more bytes than come answers nothing: connected, not transferred."""
    report = transfer("127.0.0.1", server, 10, 300, 0.3)

    assert ("transfer", "timed out") == (report["stage"], report["words"])


def test_transfer_without_server() -> None:
    """A port that nobody listens on refuses until the time is over."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    report = transfer("127.0.0.1", port, 10, 10, 0.5)

    assert "connect" == report["stage"]
    assert "refused" in report["words"]


def test_programs_run_by_their_text(server: int) -> None:
    """In a pod the program comes by an environment variable."""
    asked = json.dumps(
        {"targets": [["127.0.0.1", server]], "give": 5000, "take": 300, "timeout_s": 5}
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, *TRANSFER_COMMAND[1:], asked],
        env={"TRANSFER": read_program("transfer")},
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )

    assert ["done"] == [report["stage"] for report in json.loads(done.stdout)]


# --- the scene
# ------------------------------------------------------------------------------------------------------------


def scene(cluster: FakeCluster, said: list[str]) -> Scene:
    """Make a scene without pods."""
    return Scene(cluster, RECIPE, (), said.append)


async def test_foreign_namespace_is_refused() -> None:
    """A namespace of somebody else is neither used nor deleted."""
    cluster = FakeCluster()
    await cluster.create(Namespace(metadata=ObjectMeta(name="test")))

    with pytest.raises(InvalidRequest, match="not this test's"):
        await scene(cluster, []).build()

    assert "test" == (await cluster.get(Namespace, "test")).metadata.name


async def test_leftover_is_taken_away() -> None:
    """What an earlier run that was cut off has left is deleted first."""
    cluster = FakeCluster()
    old = await cluster.create(Namespace(metadata=ObjectMeta(name="test", labels={LABEL: "true"})))
    said: list[str] = []

    await scene(cluster, said).build()

    assert old.metadata.uid != (await cluster.get(Namespace, "test")).metadata.uid
    assert any("earlier run" in words for words in said)


async def test_remove_twice() -> None:
    """Removing what is gone is fine."""
    cluster = FakeCluster()
    here = scene(cluster, [])
    await here.build()

    await here.remove()
    await here.remove()

    with pytest.raises(NotFound):
        await cluster.get(Namespace, "test")


async def test_other_refusals_are_told() -> None:
    """A refusal that has nothing to do with the service account is not waited for."""
    cluster = FakeCluster()
    cluster.faults.fail_next("create", ProbePod, Forbidden("pods are forbidden here"))
    with pytest.raises(Forbidden, match="forbidden here"):
        await Scene(cluster, RECIPE, plan_probes(["a"], [Kind.OVERLAY]), lambda _: None).build()


# --- choices
# --------------------------------------------------------------------------------------------------------------


async def with_networks(*names: str) -> KubeClient:
    """Make a cluster with networks of the underlay, and one of another kind."""
    cluster = FakeCluster()
    chain = {
        "plugins": [{"type": "macvlan", "ipam": {"type": "spiderpool"}}, {"type": "coordinator"}]
    }
    for name, config in [*((name, json.dumps(chain)) for name in names), ("other", "{}")]:
        spec = NetworkAttachmentDefinitionSpec(config=config)
        await cluster.create(
            NetworkAttachmentDefinition(
                metadata=ObjectMeta(name=name, namespace="kube-system"), spec=spec
            )
        )
    return cast("KubeClient", cluster)


async def test_only_network() -> None:
    """Where there is one network of the underlay, it is taken."""
    assert "kube-system/blue" == await choose_network(await with_networks("blue"))


@pytest.mark.parametrize(
    ("names", "words"),
    [((), "none"), (("blue", "green"), "several: kube-system/blue, kube-system/green")],
)
async def test_choice_of_networks(names: tuple[str, ...], words: str) -> None:
    """Where there is none, or a choice, the user is asked for it."""
    with pytest.raises(InvalidRequest, match=f"{words}; choose by --network"):
        await choose_network(await with_networks(*names))


async def test_pools_by_family() -> None:
    """Pools that the user names go to the family that they are of."""
    cluster = FakeCluster()
    for name, subnet in (
        ("blue", "10.7.0.0/16"),
        ("blue6", "fd00:7::/64"),
        ("green", "10.6.0.0/16"),
    ):
        await cluster.create(
            SpiderIPPool(metadata=ObjectMeta(name=name), spec=IPPoolSpec(subnet=subnet))
        )
    options = Options(
        ("a",),
        (4, 6),
        "test",
        "",
        NETWORK,
        ("blue", "blue6", "green"),
        5.0,
        keep=False,
        output=Output.TABLE,
    )
    agent = AgentPod(
        spec=AgentSpec(
            containers=(Container(name="agent", image="spiderpool:9", image_pull_policy="Never"),)
        )
    )

    recipe = await read_recipe(cast("KubeClient", cluster), options, NETWORK, agent)

    assert (
        Recipe("test", "spiderpool:9", "Never", NETWORK, {4: ("blue", "green"), 6: ("blue6",)})
        == recipe
    )
