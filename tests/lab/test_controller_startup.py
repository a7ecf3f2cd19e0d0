"""
A controller that cannot start.

Exit code 1 and one line on standard error, which names the culprit.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import yaml

from spiderlab import Lab

GOOD = "ipamUnixSocketPath: {socket}\nenableIPv4: true\n"


def run(config: Path, kubeconfig: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a controller that is expected to end by itself."""
    mine = {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_POD_NAMESPACE": "kube-system",
        "SPIDERPOOL_POD_NAME": "by-hand",
        **env,
    }
    command = ["spiderpool-controller", "daemon", "--config-path", str(config)]
    return subprocess.run(
        command, env=mine, capture_output=True, text=True, check=False, timeout=60
    )


def config_file(folder: Path, text: str = GOOD) -> Path:
    """Write a configuration whose socket is in the same folder."""
    path = folder / "conf.yml"
    path.write_text(text.format(socket=folder / "agent.sock"))
    return path


def assert_told(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert on exit code and the last line, which has all these words."""
    assert done.returncode == 1, done.stderr
    line = done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert all(word in line for word in words), line


def test_wrong_type_in_the_configuration(lab: Lab, tmp_path: Path) -> None:
    """A value of the wrong type is named with its key and the file."""
    config = config_file(tmp_path, 'enableIPv4: "maybe"\n')

    assert_told(run(config, lab.kubeconfig), str(config), "enableIPv4", "maybe")


def test_wrong_environment(lab: Lab, tmp_path: Path) -> None:
    """A variable that is no number is named with its value."""
    done = run(config_file(tmp_path), lab.kubeconfig, SPIDERPOOL_HEALTH_PORT="many")

    assert_told(done, "SPIDERPOOL_HEALTH_PORT", "many")


def test_missing_kubeconfig(tmp_path: Path) -> None:
    """A kubeconfig that is not there is named."""
    assert_told(run(config_file(tmp_path), tmp_path / "nowhere.kubeconfig"), "nowhere.kubeconfig")


def test_refused_kubeconfig(lab: Lab, tmp_path: Path) -> None:
    """Credentials that the API server refuses are told as such, with the kubeconfig that they are from."""
    config = yaml.safe_load(lab.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "nobody-knows-this-token"}
    refused = tmp_path / "refused.kubeconfig"
    refused.write_text(yaml.safe_dump(config))

    assert_told(run(config_file(tmp_path), refused), "refused.kubeconfig", "refuses")
