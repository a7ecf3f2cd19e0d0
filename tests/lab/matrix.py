"""The command `spiderpoolctl connectivity` in the lab, what it must find, and the rule that stops some of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from spiderlab import Lab
from tests.lab.networks import ENS192
from tests.lab.retry import until
from tests.lab.story import Story

COMMAND: Final = Path(sys.executable).with_name("spiderpoolctl")
LIBERAL: Final = "net.netfilter.nf_conntrack_tcp_be_liberal"
NAMESPACE: Final = "reach-matrix"
FAMILIES: Final = (4, 6)
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
KUBE_PROXYS: Final = re.compile(r"-A (KUBE-)?FORWARD .*--ctstate INVALID .*-j DROP")
"""As docs/coexistence.md tells to look for it; others have rules of their own against the same."""

Case = tuple[int, str, str, str]
"""Family, node of the server, source, target."""
Shown = dict[str, Any]


def set_liberal(lab: Lab, value: int) -> None:
    """
    Set the switch on all nodes and restart kube-proxy where it reads another one.

    Wait for the rule's coming or going.
    """
    for node in lab.nodes:
        if bool(rules(lab, node.name)) == bool(value):
            node.exec(["sysctl", "-qw", f"{LIBERAL}={value}"])
            node.restart_kube_proxy()
    wanted = [] if value else [node.name for node in lab.nodes]

    def having() -> list[str]:
        return [node.name for node in lab.nodes if rules(lab, node.name)]

    until(lambda: having() == wanted, f"nodes with the rule: {wanted}", seen=having)


def rules(lab: Lab, node: str) -> list[str]:
    """Return kube-proxy's rules against INVALID packets, of both families."""
    saved = "".join(
        lab.node(node).exec([program, "-t", "filter"]).stdout
        for program in ("iptables-save", "ip6tables-save")
    )
    return [line for line in saved.splitlines() if KUBE_PROXYS.search(line)]


def make_network(story: Story) -> tuple[str, ...]:
    """Make a macvlan network with coordinator, and pools for it; the words that choose them."""
    macvlan = {
        "type": "macvlan",
        "master": ENS192.master,
        "mode": "bridge",
        "ipam": {"type": "spiderpool"},
    }
    plugins = [macvlan, {"type": "coordinator"}]
    if not story.pools:
        for family in FAMILIES:
            # 2 that ask, 2 that answer on each node, and some to spare
            story.pool(f"v{family}", ENS192, family, count=12)
        config = {"cniVersion": "1.0.0", "name": "matrix", "plugins": plugins}
        story.kube.create(
            {
                "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": "matrix", "namespace": story.namespace},
                "spec": {"config": json.dumps(config)},
            }
        )
    pools = (word for pool in story.pools for word in ("--pool", pool))
    return ("--network", f"{story.namespace}/matrix", *pools)


def run_matrix(lab: Lab, nodes: str, *words: str) -> tuple[int, list[Shown]]:
    """Run the command; its exit code and its cases."""
    done = subprocess.run(
        [COMMAND, "connectivity", "--nodes", nodes, "--namespace", NAMESPACE, "-o", "json", *words],
        env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    cases: list[Shown] = json.loads(done.stdout)
    return done.returncode, cases


def failures(cases: Iterable[Shown]) -> list[Shown]:
    """Return the cases that did not pass."""
    return [each for each in cases if not each["passed"]]


def failed(cases: Iterable[Shown]) -> set[Case]:
    """Name the cases that did not pass."""
    return named(failures(cases))


def named(cases: Iterable[Shown]) -> set[Case]:
    """Name cases."""
    return {(it["family"], it["serverNode"], it["source"], it["target"]) for it in cases}


def explained(cases: Iterable[Shown]) -> set[tuple[str, str]]:
    """Return why and where cases failed."""
    found = (each["diagnosis"] for each in failures(cases))
    return {(each["reason"], each["station"]) for each in found}


def all_cases(
    *servers: str,
    kinds: Iterable[str] = KINDS,
    goals: Iterable[str] = GOALS,
    families: Iterable[int] = FAMILIES,
) -> set[Case]:
    """Return every case of a matrix."""
    goals, kinds = tuple(goals), tuple(kinds)
    return {
        (family, server, kind, goal)
        for family in families
        for server in servers
        for kind in kinds
        for goal in goals
    }


def half_seen(*servers: str, families: Iterable[int] = FAMILIES) -> set[Case]:
    """Return the cells whose connections are half seen: underlay pods to overlay addresses of other nodes."""
    goals = ("overlay-pod", "multi-pod-overlay-ip")
    return all_cases(*servers, kinds=("underlay",), goals=goals, families=families)


def table(cases: Iterable[Shown]) -> str:
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
