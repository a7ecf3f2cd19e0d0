"""What the agents did to their nodes' kernels, and what they found there about INVALID packets."""

from __future__ import annotations

import json
import shutil

import pytest

from spiderlab import Lab
from spiderlab.lab import LabNode
from tests.lab import audit
from tests.lab.kube import Kube, Thing
from tests.lab.matrix import KUBE_PROXYS
from tests.lab.retry import until

pytestmark = pytest.mark.still

LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"
WANTED = {
    "net.ipv4.conf.all.arp_notify": "1",
    "net.ipv4.conf.all.forwarding": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv6.conf.all.forwarding": "1",
}


def sysctl(node: LabNode, key: str) -> str:
    """Return a setting of a node."""
    return node.exec(["cat", f"/proc/sys/{key.replace('.', '/')}"]).stdout.strip()


def report(node: LabNode) -> Thing:
    """Return what a node's agent says about it."""
    return json.loads(page(node, 5710, "/v1/node"))


def page(node: LabNode, port: int, path: str) -> str:
    """Read a page of a node's agent."""
    program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}{path}', timeout=5).read().decode())"
    done = node.exec([shutil.which("python3") or "python3", "-ISc", program])
    assert done.returncode == 0, done.stderr
    return done.stdout


def drops(node: LabNode) -> bool:
    """Return whether kube-proxy's rule is there, by the documented command."""
    saved = node.exec(["iptables-save", "-t", "filter"]).stdout
    return any(KUBE_PROXYS.search(line) for line in saved.splitlines())


def test_settings_are_held_and_on_record(lab: Lab) -> None:
    """Every node has the settings of the reference, and each one that the agent changed is on record with what was before."""
    for node in lab.nodes:
        assert WANTED == {key: sysctl(node, key) for key in WANTED}
        for changed in report(node)["settings"]:
            assert changed["after"] == sysctl(node, changed["key"])
            assert changed["before"] != changed["after"]
            assert changed["kept"] == changed["key"].endswith(".forwarding")


def test_command_shows_them(lab: Lab) -> None:
    """`spiderpoolctl node settings` shows every node's record, all or one node's, as a table and as JSON."""
    done = audit.run_command(lab, "spiderpoolctl node settings -o json")
    assert 0 == done.returncode, done.stderr
    told = {told["node"]: told["settings"] for told in json.loads(done.stdout)}
    assert told == {node.name: report(node)["settings"] for node in lab.nodes}

    table = audit.run_command(lab, "spiderpoolctl node settings node1").stdout
    assert any(line.startswith("node1: ") for line in table.splitlines())
    assert all(changed["key"] in table for changed in told["node1"])
    assert "node2" not in table


def test_nodes_that_drop_are_named(kube: Kube, lab: Lab) -> None:
    """A node whose kube-proxy drops INVALID packets is named by its agent, by an Event and by the metrics; no other is."""
    for node in lab.nodes:
        expected = (
            "Dropped"
            if drops(node)
            else "DroppedAfterRestart"
            if sysctl(node, LIBERAL) == "0"
            else "Forwarded"
        )
        until(
            lambda n=node, e=expected: report(n)["invalid"] == e,
            f"{node.name} says {expected}",
            within_s=70,
        )
        lines = page(node, 5711, "/metrics").splitlines()
        line = next(
            line for line in lines if line.startswith("spiderpool_node_kube_proxy_drops_invalid{")
        )
        assert float(line.split()[-1]) == (expected == "Dropped")
        if expected == "Dropped":
            fields = f"involvedObject.name={node.name},reason=KubeProxyDropsInvalid"
            (event, *_) = until(
                lambda f=fields: kube.list("Event", fields=f),
                f"an Event on {node.name}",
                within_s=20,
            )
            assert "restart kube-proxy" in event["message"]
