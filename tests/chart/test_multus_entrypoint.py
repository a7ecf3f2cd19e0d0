"""
The script that sets Multus up on a node, run by a shell against a node's folder made here.

Source: docs/reference/configuration.md#installation-on-the-node.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART

SCRIPT = CHART / "files/multus-entrypoint.sh"
SHELL = shutil.which("sh")


@dataclass(frozen=True)
class Node:
    """Folders of a node, and the script's environment."""

    conf_dir: Path
    account: Path
    log: Path
    env: dict[str, str]

    def start(self, **env: str) -> subprocess.Popen[bytes]:
        """Start the script as the container would."""
        assert SHELL
        command = [SHELL, str(SCRIPT)]
        with self.log.open("w") as log:
            return subprocess.Popen(command, env=self.env | env, stdout=log, start_new_session=True)  # noqa: S603  our script

    def conf(self) -> dict[str, Any]:
        """Wait for the configuration and read it."""
        path = self.conf_dir / "00-multus.conf"
        wait_until(path.exists, "the script wrote a configuration")
        conf: dict[str, Any] = json.loads(path.read_text())
        return conf


def wait_until(met: Callable[[], bool], what: str) -> None:
    """Wait a few seconds for something."""
    deadline = time.monotonic() + 5
    while not met():
        assert time.monotonic() < deadline, f"not within 5 s: {what}"
        time.sleep(0.02)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """Make a node without any CNI configuration."""
    conf_dir, account = tmp_path / "net.d", tmp_path / "account"
    conf_dir.mkdir()
    account.mkdir()
    (account / "token").write_text("secret-token")
    (account / "ca.crt").write_text("the CA")
    env = {
        "PATH": os.environ["PATH"],
        "SERVICE_ACCOUNT_DIR": str(account),
        "CNI_CONF_DIR": str(conf_dir),
        "CLUSTER_NETWORK": "",
        "MULTUS_NAMESPACE": "kube-system",
        "NAMESPACE_ISOLATION": "false",
        "GLOBAL_NAMESPACES": "",
        "LOG_LEVEL": "debug",
        "LOG_FILE": "/var/log/multus.log",
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    return Node(conf_dir, account, tmp_path / "log", env)


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Collect what a test starts, and end it."""
    running: list[subprocess.Popen[bytes]] = []
    yield running
    for process in running:
        os.killpg(process.pid, signal.SIGKILL)  # the shell and what it waits for
        process.wait()


@pytest.mark.timeout(10)
def test_named_network(node: Node, started: list[subprocess.Popen[bytes]]) -> None:
    """With a default network of the cluster's, configuration and credentials are written at once."""
    started.append(node.start(CLUSTER_NETWORK="k8s-pod-network"))
    assert {
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "type": "multus",
        "confDir": f"{node.conf_dir}/",
        "logLevel": "debug",
        "logFile": "/var/log/multus.log",
        "capabilities": {"portMappings": True, "bandwidth": True},
        "namespaceIsolation": False,
        "globalNamespaces": "",
        "clusterNetwork": "k8s-pod-network",
        "defaultNetworks": [],
        "multusNamespace": "kube-system",
        "systemNamespaces": [],
        "kubeconfig": f"{node.conf_dir}/multus.d/multus.kubeconfig",
    } == node.conf()
    path = node.conf_dir / "multus.d/multus.kubeconfig"
    kubeconfig = yaml.safe_load(path.read_text())
    assert 0o600 == path.stat().st_mode & 0o777
    cluster = kubeconfig["clusters"][0]["cluster"]
    assert ("https://[fd00::1]:443", b"the CA") == (
        cluster["server"],
        base64.b64decode(cluster["certificate-authority-data"]),
    )
    assert "secret-token" == kubeconfig["users"][0]["user"]["token"]


@pytest.mark.timeout(10)
def test_settings_that_changed(node: Node, started: list[subprocess.Popen[bytes]]) -> None:
    """A configuration that a former start wrote is replaced when a setting changed."""
    (node.conf_dir / "00-multus.conf").write_text('{"namespaceIsolation": false}')
    started.append(
        node.start(
            CLUSTER_NETWORK="a", NAMESPACE_ISOLATION="true", GLOBAL_NAMESPACES="default,shared"
        )
    )
    wait_until(lambda: "clusterNetwork" in node.conf(), "the script wrote its configuration")

    assert (True, "default,shared") == (
        node.conf()["namespaceIsolation"],
        node.conf()["globalNamespaces"],
    )


@pytest.mark.timeout(10)
def test_first_network_of_the_node(node: Node, started: list[subprocess.Popen[bytes]]) -> None:
    """Without a name, the first configuration on the node that is not Multus' own is the default network."""
    (node.conf_dir / "05-multus.conf").write_text('{"name": "mine"}')
    (node.conf_dir / "10-calico.conflist").write_text(
        '{"name": "k8s-pod-network", "plugins": [{"name": "inner"}]}'
    )
    (node.conf_dir / "20-other.conf").write_text('{"name": "other"}')
    started.append(node.start())
    assert "k8s-pod-network" == node.conf()["clusterNetwork"]


@pytest.mark.timeout(10)
def test_waits_for_a_network(node: Node, started: list[subprocess.Popen[bytes]]) -> None:
    """A node without any configuration gets none of Multus' either, and the log says why."""
    started.append(node.start())
    wait_until(
        lambda: "no CNI configuration in" in node.log.read_text(),
        "the script said what it waits for",
    )
    assert not (node.conf_dir / "00-multus.conf").exists()
