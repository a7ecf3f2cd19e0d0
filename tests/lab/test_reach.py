"""
Who reaches whom among pods of several CNIs, before and after the one setting that is needed.

Source: docs/reference/packet-paths.md#half-seen-connections: kube-proxy's rule against INVALID
packets stops underlay pods on their way to overlay addresses on other nodes, and nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from spiderlab import Lab
from tests.lab.networks import ENS192
from tests.lab.retry import until, until_none
from tests.lab.story import Story

pytestmark = pytest.mark.still

COMMAND: Final = Path(sys.executable).with_name("spiderpoolctl")
LIBERAL: Final = "net.netfilter.nf_conntrack_tcp_be_liberal"
NAMESPACE: Final = "reach-matrix"
KINDS: Final = ("overlay", "underlay", "multi")
GOALS: Final = (
    "overlay-pod",
    "underlay-pod",
    "multi-pod-overlay-ip",
    "multi-pod-underlay-ip",
    "overlay-service",
    "underlay-service",
    "multi-service",
)
# Counted by the kernel, or changed by it when it likes.
RESTLESS: Final = (
    "nf_conntrack_count",
    "net.ipv6.conf.all.stable_secret",
    "net.netfilter.nf_conntrack_buckets",
)

Case = tuple[int, str, str, str]
"""Family, node of the server, source, target."""


@pytest.fixture
def kube_proxies(lab: Lab) -> Iterator[Lab]:
    """Return the lab with the rule in place, and leave it so."""
    _set_liberal(lab, 0)
    yield lab
    _set_liberal(lab, 0)


def _set_liberal(lab: Lab, value: int) -> None:
    """
    Set the switch on all nodes and restart kube-proxy where it reads another one.

    Wait for the rule's coming or going.
    """
    for node in lab.nodes:
        if bool(_rules(lab, node.name)) == bool(value):
            node.exec(["sysctl", "-qw", f"{LIBERAL}={value}"])
            node.restart_kube_proxy()
    wanted = [] if value else [node.name for node in lab.nodes]

    def having() -> list[str]:
        return [node.name for node in lab.nodes if _rules(lab, node.name)]

    until(lambda: having() == wanted, f"nodes with the rule: {wanted}", seen=having)


def _rules(lab: Lab, node: str) -> list[str]:
    """Return the rules against INVALID packets, of both families."""
    saved = "".join(
        lab.node(node).exec([program, "-t", "filter"]).stdout
        for program in ("iptables-save", "ip6tables-save")
    )
    return [
        line for line in saved.splitlines() if "--ctstate INVALID" in line and "-j DROP" in line
    ]


def _settings(lab: Lab) -> dict[tuple[str, str], str]:
    """Return all network settings of all nodes, of interfaces that pods bring along none."""
    return {
        (node.name, key): value
        for node in lab.nodes
        for line in node.exec(["sysctl", "-a", "--pattern", "^net"]).stdout.splitlines()
        for key, _, value in (line.partition(" = "),)
        if not any(part in key for part in (*RESTLESS, ".cali", ".veth"))
    }


def _matrix(story: Story, lab: Lab, nodes: str) -> tuple[int, list[dict[str, Any]]]:
    """Run the command; its exit code and its cases."""
    config = {
        "cniVersion": "1.0.0",
        "name": "matrix",
        "plugins": [
            {
                "type": "macvlan",
                "master": ENS192.master,
                "mode": "bridge",
                "ipam": {"type": "spiderpool"},
            },
            {"type": "coordinator"},
        ],
    }
    if not story.pools:
        for family in (4, 6):
            # 2 that ask, 2 that answer on each node, and some to spare
            story.pool(f"v{family}", ENS192, family, count=12)
        metadata = {"name": "matrix", "namespace": story.namespace}
        network = {
            "kind": "NetworkAttachmentDefinition",
            "metadata": metadata,
            "spec": {"config": json.dumps(config)},
        }
        story.kube.create(network)
    words = (
        "--network",
        f"{story.namespace}/matrix",
        *(word for pool in story.pools for word in ("--pool", pool)),
    )
    done = subprocess.run(
        [COMMAND, "connectivity", "--nodes", nodes, "--namespace", NAMESPACE, "-o", "json", *words],
        env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    return done.returncode, json.loads(done.stdout)


def _failed(cases: list[dict[str, Any]]) -> set[Case]:
    return {_case(each) for each in cases if not each["passed"]}


def _case(shown: dict[str, Any]) -> Case:
    return shown["family"], shown["serverNode"], shown["source"], shown["target"]


def _all_cases(*servers: str) -> set[Case]:
    return {
        (family, server, kind, goal)
        for family in (4, 6)
        for server in servers
        for kind in KINDS
        for goal in GOALS
    }


def _stopped_by_the_rule(*servers: str) -> set[Case]:
    """
    Return the cells that fail with the rule.

    Underlay pods to overlay addresses of other nodes.
    """
    goals = ("overlay-pod", "multi-pod-overlay-ip")
    return {
        (family, server, "underlay", goal)
        for family in (4, 6)
        for server in servers
        for goal in goals
    }


def test_matrix(story: Story, kube_proxies: Lab) -> None:
    """
    With the rule exactly the documented cells fail, explained.

    With one setting changed and kube-proxy restarted, none.
    """
    lab = kube_proxies
    assert all(_rules(lab, node.name) for node in lab.nodes)

    code, cases = _matrix(story, lab, "node1,node2")

    assert _all_cases("node1", "node2") == {_case(each) for each in cases}
    assert (_stopped_by_the_rule("node2"), 1) == (_failed(cases), code)
    explained = {
        (each["diagnosis"]["reason"], each["diagnosis"]["station"])
        for each in cases
        if not each["passed"]
    }
    assert {("INVALID drop", "node node1")} == explained
    assert {"transfer"} == {each["stage"] for each in cases if not each["passed"]}

    settings, processes = (
        _settings(lab),
        {name: started.pid for name, started in lab.processes().items()},
    )
    _set_liberal(lab, 1)
    changed = {key: value for key, value in _settings(lab).items() if settings.get(key) != value}
    assert {(node.name, LIBERAL): "1" for node in lab.nodes} == changed
    restarted = {
        name for name, started in lab.processes().items() if processes[name] != started.pid
    }
    assert {f"kube-proxy-{node.name}" for node in lab.nodes} == restarted

    code, cases = _matrix(story, lab, "node1,node2")
    assert (set(), 0) == (_failed(cases), code)
    assert _all_cases("node1", "node2") == {_case(each) for each in cases}
    until_none(lambda: story.kube.get("Namespace", NAMESPACE), "the command has cleaned up")


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


def _table(cases: list[dict[str, Any]]) -> str:
    """
    Return a line for each pair of nodes, family and source.

    What became of each target, and why.
    """
    lines: dict[tuple[Any, ...], list[str]] = {}
    for each in cases:
        place = (each["clientNode"], each["serverNode"], each["family"], each["source"])
        word = "ok" if each["passed"] else each.get("diagnosis", {}).get("reason", "failed")
        lines.setdefault(place, []).append(f"{each['target']}={word}")
    return "\n".join(
        f"{a} -> {b} IPv{family} {source}: {' '.join(words)}"
        for (a, b, family, source), words in lines.items()
    )


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("nodes", ["node1,node2,node3", "node2,node1,node3", "node3,node2,node1"])
def test_matrix_from_every_node(story: Story, kube_proxies: Lab, nodes: str) -> None:
    """The same from each node to all of them; the matrix is printed."""
    first, *others = nodes.split(",")

    code, cases = _matrix(story, kube_proxies, nodes)

    print(_table(cases))  # noqa: T201
    assert _all_cases(first, *others) == {_case(each) for each in cases}
    assert (_stopped_by_the_rule(*others), 1) == (_failed(cases), code)
    stations = {each["diagnosis"]["station"] for each in cases if not each["passed"]}
    assert {f"node {first}"} == stations
