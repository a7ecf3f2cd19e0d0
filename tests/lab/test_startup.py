"""
Programs that are started wrongly.

Exit code 1, and one line on standard error that says what to change.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from spiderlab import Lab
from tests.lab.hostagent import CONFIG, PaperNode, environment, write_kubeconfig
from tests.lab.kube import Kube

AGENT: Final = Path(sys.executable).with_name("spiderpool-agent")
CONTROLLER: Final = Path(sys.executable).with_name("spiderpool-controller")

Case = Callable[[Path], dict[str, object]]
"""
Gives the settings that are wrong.

Keys of the configuration file, or of the environment in capitals.
"""


def text_at(path: Path, text: str) -> Path:
    """Write a file."""
    path.write_text(text)
    return path


def refused(folder: Path) -> Path:
    """Return a kubeconfig whose token nobody knows."""
    config = yaml.safe_load((folder / "kubeconfig").read_text())
    config["users"][0]["user"] = {"token": "nobody"}
    return text_at(folder / "refused", yaml.safe_dump(config))


AGENT_CASES: Final[dict[str, tuple[Case, tuple[str, ...]]]] = {
    "flag that is text": (lambda _: {"enableIPv4": "perhaps"}, ("conf.yml", "enableIPv4")),
    "list for a text": (
        lambda _: {"ipamUnixSocketPath": ["a"]},
        ("conf.yml", "ipamUnixSocketPath"),
    ),
    "folder of the socket is a file": (
        lambda folder: {"ipamUnixSocketPath": f"{text_at(folder / 'file', '')}/spiderpool.sock"},
        ("socket", "/file/spiderpool.sock", "ipamUnixSocketPath"),
    ),
    "folder of the socket cannot be made": (
        lambda _: {"ipamUnixSocketPath": "/proc/spidernet/spiderpool.sock"},
        ("socket", "/proc/spidernet/spiderpool.sock", "ipamUnixSocketPath"),
    ),
    "socket path too long": (
        lambda folder: {"ipamUnixSocketPath": f"{folder}/{'a' * 120}.sock"},
        ("socket", "ipamUnixSocketPath"),
    ),
    "no kubeconfig": (lambda folder: {"KUBECONFIG": folder / "nowhere"}, ("kubeconfig", "nowhere")),
    "kubeconfig is no YAML": (
        lambda folder: {"KUBECONFIG": text_at(folder / "bad", "a: [")},
        ("kubeconfig", "bad"),
    ),
    "kubeconfig without a context": (
        lambda folder: {"KUBECONFIG": text_at(folder / "bad", "{}")},
        ("kubeconfig", "bad"),
    ),
    "kubeconfig is refused": (
        lambda folder: {"KUBECONFIG": refused(folder)},
        ("refused", "not accept these credentials"),
    ),
    "no name of the node": (lambda _: {"SPIDERPOOL_NODE_NAME": ""}, ("SPIDERPOOL_NODE_NAME",)),
    "port that is none": (
        lambda _: {"SPIDERPOOL_HEALTH_PORT": "http"},
        ("SPIDERPOOL_HEALTH_PORT", "http"),
    ),
    "unknown log level": (
        lambda _: {"SPIDERPOOL_LOG_LEVEL": "loud"},
        ("SPIDERPOOL_LOG_LEVEL", "loud"),
    ),
}


@pytest.fixture(scope="module")
def node(lab: Lab) -> Iterator[str]:
    """Return a node that no other agent serves."""
    with PaperNode(lab.kubeconfig, "startup") as paper:
        yield paper.name


@pytest.mark.parametrize("name", AGENT_CASES)
def test_agent(kube: Kube, node: str, tmp_path: Path, name: str) -> None:
    """The agent ends at once, with one line that names what is wrong."""
    make, parts = AGENT_CASES[name]
    kubeconfig = write_kubeconfig(kube, node, tmp_path / "kubeconfig")
    wrong = make(tmp_path)
    settings = {key: value for key, value in wrong.items() if not key.isupper()}
    variables = {key: str(value) for key, value in wrong.items() if key.isupper()}
    config = {**CONFIG, "ipamUnixSocketPath": str(tmp_path / "agent.sock"), **settings}
    path = text_at(tmp_path / "conf.yml", yaml.safe_dump(config))

    assert_refuses(
        [AGENT, "daemon", "--config-path", path], environment(node, kubeconfig) | variables, parts
    )


@pytest.mark.parametrize("text", [None, "enableIPv4: [", "- a list", "a text"])
@pytest.mark.parametrize("program", [AGENT, CONTROLLER], ids=lambda path: path.name)
def test_configuration_file(tmp_path: Path, program: Path, text: str | None) -> None:
    """Agent and controller name a configuration file that is not there, is no YAML, or is no mapping."""
    path = tmp_path / "conf.yml"
    if text is not None:
        path.write_text(text)

    assert_refuses(
        [program, "daemon", "--config-path", path],
        environment("none", tmp_path / "kubeconfig"),
        ("conf.yml",),
    )


def assert_refuses(
    command: list[Path | str], variables: dict[str, str], parts: tuple[str, ...]
) -> None:
    """Assert that a program ends with code 1 and one line that has all parts."""
    done = subprocess.run(
        command,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert 1 == done.returncode, done.stderr
    assert 1 == len(done.stderr.splitlines()), done.stderr
    line = done.stderr.strip()
    assert line.startswith(f"{Path(command[0]).name}: ")
    assert all(part in line for part in parts), line
    assert "" == done.stdout
