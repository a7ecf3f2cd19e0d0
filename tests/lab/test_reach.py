"""
Who reaches whom among pods of several CNIs, before and after the one setting that is needed.

Source: docs/reference/packet-paths.md#half-seen-connections: kube-proxy's rule against INVALID
packets stops underlay pods on their way to overlay addresses on other nodes, and nothing else.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from spiderlab import Lab
from tests.lab.matrix import (
    COMMAND,
    LIBERAL,
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
    table,
)
from tests.lab.retry import until, until_none
from tests.lab.story import Story

pytestmark = pytest.mark.still

# Counted by the kernel, or changed by it when it likes.
RESTLESS: Final = (
    "nf_conntrack_count",
    "net.ipv6.conf.all.stable_secret",
    "net.netfilter.nf_conntrack_buckets",
)
ASKED: Final = ("-p", "tcp", "--dport", "8080")
"""What the command's clients send, as iptables matches it."""


@pytest.fixture
def kube_proxies(lab: Lab) -> Iterator[Lab]:
    """Return the lab with the rule in place, and leave it so."""
    set_liberal(lab, 0)
    yield lab
    set_liberal(lab, 0)


@pytest.fixture
def felix(lab: Lab) -> Iterator[Lab]:
    """Return the lab with rules as Calico's Felix writes them, and take them away."""
    for node in lab.nodes:
        node.set_felix_rules(on=True)
    yield lab
    for node in lab.nodes:
        node.set_felix_rules(on=False)


def _settings(lab: Lab) -> dict[tuple[str, str], str]:
    """Return all network settings of all nodes, of interfaces that pods bring along none."""
    return {
        (node.name, key): value
        for node in lab.nodes
        for line in node.exec(["sysctl", "-a", "--pattern", "^net"]).stdout.splitlines()
        for key, _, value in (line.partition(" = "),)
        if not any(part in key for part in (*RESTLESS, ".cali", ".veth"))
    }


def test_matrix(story: Story, kube_proxies: Lab) -> None:
    """
    With the rule exactly the documented cells fail, explained.

    With one setting changed and kube-proxy restarted, none.
    """
    lab, network = kube_proxies, make_network(story)
    assert all(rules(lab, node.name) for node in lab.nodes)

    code, cases = run_matrix(lab, "node1,node2", *network)

    assert all_cases("node1", "node2") == named(cases)
    assert (half_seen("node2"), 1) == (failed(cases), code)
    assert {("INVALID drop", "node node1")} == explained(cases)
    assert {"transfer"} == {each["stage"] for each in failures(cases)}

    settings, processes = (
        _settings(lab),
        {name: started.pid for name, started in lab.processes().items()},
    )
    set_liberal(lab, 1)
    changed = {key: value for key, value in _settings(lab).items() if settings.get(key) != value}
    assert {(node.name, LIBERAL): "1" for node in lab.nodes} == changed
    restarted = {
        name for name, started in lab.processes().items() if processes[name] != started.pid
    }
    assert {f"kube-proxy-{node.name}" for node in lab.nodes} == restarted

    code, cases = run_matrix(lab, "node1,node2", *network)
    assert (set(), 0) == (failed(cases), code)
    assert all_cases("node1", "node2") == named(cases)
    until_none(lambda: story.kube.get("Namespace", NAMESPACE), "the command has cleaned up")


def test_beside_calicos_rules(story: Story, kube_proxies: Lab, felix: Lab) -> None:
    """
    Beside rules as Felix writes them the same cells fail, and kube-proxy's rule is blamed, not Calico's.

    After the one setting none fails, and the documented check finds nothing although Calico's rules are there.
    """
    lab, network = felix, (*make_network(story), "--ipv4")
    assert all(rules(lab, node.name) for node in lab.nodes)

    code, cases = run_matrix(lab, "node1,node2", *network)

    assert (half_seen("node2", families=(4,)), 1) == (failed(cases), code)
    assert {("INVALID drop", "node node1")} == explained(cases)
    assert all("-A KUBE-FORWARD" in each["diagnosis"]["sentence"] for each in failures(cases))

    set_liberal(kube_proxies, 1)
    code, cases = run_matrix(lab, "node1,node2", *network)
    assert (set(), 0) == (failed(cases), code)
    assert [] == [rule for node in lab.nodes for rule in rules(lab, node.name)]
    saved = lab.node("node1").exec(["iptables-save", "-t", "filter"]).stdout
    assert "cali-INPUT" in saved


@pytest.mark.parametrize(
    ("node", "chain", "servers"),
    [("node1", "cali-po-lab", ("node1", "node2")), ("node2", "cali-pi-lab", ("node2",))],
)
def test_policy_is_named(felix: Lab, node: str, chain: str, servers: tuple[str, ...]) -> None:
    """
    A policy that drops is named with its chain, for pods and for Services, whichever node it is on.

    On the client's node conntrack remembers nothing of a packet that is dropped there, so a Service
    looks as if it had no endpoint.
    """
    rule = [chain, "1", *ASKED, "-j", "DROP"]
    for program in ("iptables", "ip6tables"):
        assert felix.node(node).exec([program, "-w", "-I", *rule]).returncode == 0

    code, cases = run_matrix(felix, "node1,node2", "--network", "none")

    goals = ("overlay-pod", "overlay-service")
    assert all_cases("node1", "node2", kinds=("overlay",), goals=goals) == named(cases)
    assert all_cases(*servers, kinds=("overlay",), goals=goals) == failed(cases)
    assert ({("policy drop", f"node {node}")}, 1) == (explained(cases), code)
    assert all(f"-A {chain} " in each["diagnosis"]["sentence"] for each in failures(cases))


def test_interrupted(story: Story, lab: Lab) -> None:
    """
    Ctrl-C in the middle of it.

    The command takes away what it made, and says by its exit code that it did not run.
    """
    # a shell's background job, as these tests may be one, ignores Ctrl-C
    heeding = ["env", "--default-signal=INT"]
    running = subprocess.Popen(
        [
            *heeding,
            COMMAND,
            "connectivity",
            "--nodes",
            "node3",
            "--namespace",
            NAMESPACE,
            "--network",
            "none",
        ],
        env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: story.kube.list("Pod", NAMESPACE), "the command has made pods")
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=100)

    assert 2 == running.returncode, errors
    assert story.kube.get("Namespace", NAMESPACE) is None


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("nodes", ["node1,node2,node3", "node2,node1,node3", "node3,node2,node1"])
def test_matrix_from_every_node(story: Story, kube_proxies: Lab, nodes: str) -> None:
    """The same from each node to all of them; the matrix is printed."""
    first, *others = nodes.split(",")

    code, cases = run_matrix(kube_proxies, nodes, *make_network(story))

    print(table(cases))  # noqa: T201
    assert all_cases(first, *others) == named(cases)
    assert (half_seen(*others), 1) == (failed(cases), code)
    assert {f"node {first}"} == {station for _, station in explained(cases)}
