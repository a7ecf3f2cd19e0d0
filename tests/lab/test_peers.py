"""
The product between real programs of others: Multus as the meta plugin, kube-router as the network.

Runs in a lab that was started with `--cni kube-router --meta multus` (deploy/test-peers.sh).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from spiderlab import Lab
from spiderlab.binaries import MULTUS_VERSION
from spiderlab.peers import QUICK, Cni, Meta, Peers
from tests.lab.kube import Kube, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.matrix import (
    NAMESPACE,
    all_cases,
    explained,
    failed,
    failures,
    half_seen,
    make_network,
    named,
    rules,
    run_matrix,
    set_liberal,
)
from tests.lab.retry import until
from tests.lab.story import Story

pytestmark = [pytest.mark.peers, pytest.mark.still]

OVERLAY_GOALS = ("overlay-pod", "overlay-service")


@pytest.fixture(autouse=True)
def peers(lab: Lab) -> None:
    """Leave a lab without such programs to the others, and refuse one with half of them."""
    if lab.peers == QUICK:
        pytest.skip("wants Multus and kube-router: deploy/test-peers.sh starts such a lab")
    assert Peers(Cni.KUBE_ROUTER, Meta.MULTUS) == lab.peers, "start it by deploy/test-peers.sh"


@pytest.fixture
def kube_proxies(lab: Lab) -> Iterator[Lab]:
    """Return the lab with kube-proxy's rule in place, and leave it so."""
    set_liberal(lab, 0)
    yield lab
    set_liberal(lab, 0)


def test_multus_is_the_one_that_runs(lab: Lab) -> None:
    """Every node's first CNI configuration is Multus', for the cluster's network, and the program is the real one."""
    for node in lab.nodes:
        files = node.exec(["ls", "/etc/cni/net.d"]).stdout.split()
        config = json.loads(node.exec(["cat", f"/etc/cni/net.d/{files[0]}"]).stdout)
        assert ("multus", lab.default_network) == (config["type"], config["clusterNetwork"])
        version = node.exec(["/opt/cni/bin/multus", "--version"])
        assert MULTUS_VERSION in version.stdout + version.stderr


def test_routes_are_kube_routers(lab: Lab) -> None:
    """Each node has routes of both families to the pods of the others, as BGP made them."""
    for node in lab.nodes:
        for family, name in (("-4", "pods"), ("-6", "pods6")):
            shown = node.exec(["ip", family, "-json", "route", "show", "proto", "17"]).stdout
            others = {
                str(getattr(each.facts, name)) for each in lab.nodes if each.name != node.name
            }
            assert others == {route["dst"] for route in json.loads(shown)}


def test_names_of_services(story: Story, lab: Lab) -> None:
    """An underlay pod reads a page by a Service's name: the cluster's DNS is a Service of overlay pods."""
    make_network(story)
    service = {
        "kind": "Service",
        "metadata": {"name": "web", "namespace": story.namespace},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }
    story.kube.create(service)
    story.pod("web", labels={"app": "web"})
    pools = {f"ipv{family}": [f"{story.namespace}-v{family}"] for family in (4, 6)}
    network = f"{story.namespace}/matrix"
    story.pod("under", {DEFAULT_NETWORK: network, IPPOOL: pools})

    def read() -> str:
        ask = ("sh", "-c", "timeout 3 wget -qO- http://web/name || true")
        return lab.kubectl("-n", story.namespace, "exec", "under", "--", *ask).strip()

    until(lambda: read() == "web", "a page by the Service's name", seen=read)


def test_matrix(story: Story, kube_proxies: Lab) -> None:
    """
    The documented cells fail and no others, by kube-router's own rule, which the setting does not change.

    kube-router drops INVALID packets of each pod in a chain of the pod (`KUBE-POD-FW-…`), in front
    of kube-proxy's; the diagnosis names it and does not advise the setting.
    """
    lab, network = kube_proxies, make_network(story)
    assert all(rules(lab, node.name) for node in lab.nodes)
    code, cases = run_matrix(lab, "node1,node2", *network)
    assert all_cases("node1", "node2") == named(cases)
    assert (half_seen("node2"), 1) == (failed(cases), code)
    assert_named(cases, "INVALID drop by policy", "node1")

    set_liberal(lab, 1)

    code, cases = run_matrix(lab, "node1,node2", "--ipv4", *network)
    assert (half_seen("node2", families=(4,)), 1) == (failed(cases), code)
    assert_named(cases, "INVALID drop by policy", "node1")
    assert all("does not change" in each["diagnosis"]["remedy"] for each in failures(cases))


def assert_named(cases: list[Thing], reason: str, node: str) -> None:
    """Assert that all failures are explained alike, by a chain of kube-router."""
    assert {(reason, f"node {node}")} == explained(cases)
    assert all("-A KUBE-POD-FW-" in each["diagnosis"]["sentence"] for each in failures(cases))


@pytest.mark.parametrize("types", ["Ingress", "Egress"])
def test_network_policy(kube: Kube, lab: Lab, types: str) -> None:
    """
    A NetworkPolicy that allows nothing is kept, and named with kube-router's chain.

    Ingress is refused on the server's node; egress on the client's, where a Service then looks as
    if it had no endpoint.
    """
    with denied(kube, types):
        code, cases = run_matrix(lab, "node1,node2", "--network", "none")

    assert all_cases("node1", "node2", kinds=("overlay",), goals=OVERLAY_GOALS) == named(cases)
    assert (named(cases), 1) == (failed(cases), code)
    places = {"Ingress": {"node node1", "node node2"}, "Egress": {"node node1"}}[types]
    assert {("policy drop", place) for place in places} == explained(cases)
    assert all("KUBE-POD-FW-" in each["diagnosis"]["sentence"] for each in failures(cases))


@contextmanager
def denied(kube: Kube, types: str) -> Iterator[None]:
    """Put a policy into the namespace of the test's pods as soon as the command has made it."""
    policy: Thing = {
        "kind": "NetworkPolicy",
        "metadata": {"name": "nothing", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": [types]},
    }
    trouble: list[BaseException] = []

    def put() -> None:
        try:
            until(lambda: kube.get("Namespace", NAMESPACE), "the command has made its namespace")
            kube.create(policy)
        except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
            trouble.append(error)

    thread = threading.Thread(target=put, name="policy")
    thread.start()
    try:
        yield
    finally:
        thread.join()
    assert [] == trouble
