"""The command line: what is wrong at the start is one line on standard error and exit code 1."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spiderpool.agent import main
from spiderpool.agent.settings import read_settings
from spiderpool.errors import Forbidden, Unreachable
from tests.fakes.cluster import FakeCluster
from tests.fakes.objects import make_node
from tests.unit.agent.test_settings import REQUIRED


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Return an environment with what is required and nothing of this machine's."""
    for name in [*os.environ]:
        if name.startswith(("SPIDERPOOL_", "KUBE")):
            monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def start(path: Path) -> tuple[int, str]:
    """Start the agent; give the exit code and standard error."""
    result = CliRunner().invoke(main.cli, ["daemon", "--config-path", str(path)])
    return result.exit_code, result.stderr


def conf(folder: Path, text: str = "enableIPv4: true\n") -> Path:
    """Write a configuration file."""
    path = folder / "conf.yml"
    path.write_text(text)
    return path


def test_a_missing_configuration_file_is_one_line(tmp_path: Path) -> None:
    """The line names the file."""
    code, text = start(tmp_path / "none.yml")

    assert (1, 1) == (code, text.count("\n"))
    assert f"configuration file {tmp_path / 'none.yml'} cannot be read: No such file" in text


def test_a_wrong_type_in_the_configuration_is_one_line(tmp_path: Path) -> None:
    """The line names file, key, value and what it must be."""
    code, text = start(conf(tmp_path, "enableIPv4: 'yes'\n"))

    assert (1, 1) == (code, text.count("\n"))
    assert 'configuration key enableIPv4 is "yes"; it must be true or false' in text


def test_a_missing_variable_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the variable."""
    monkeypatch.delenv("SPIDERPOOL_NODE_NAME")

    code, text = start(conf(tmp_path))

    assert (
        1,
        "spiderpool-agent: environment variable SPIDERPOOL_NODE_NAME is required and is not set\n",
    ) == (code, text)


def test_a_kubeconfig_that_is_none_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the file."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))

    code, text = start(conf(tmp_path))

    assert (1, 1) == (code, text.count("\n"))
    assert f"kubeconfig {tmp_path / 'nothing'}" in text


def test_the_help_needs_no_environment() -> None:
    """`--help` says what there is."""
    result = CliRunner().invoke(main.cli, ["daemon", "--help"])

    assert 0 == result.exit_code
    assert "--config-path" in result.stdout


async def test_refused_credentials_end_the_start() -> None:
    """The words of the API server and where the credentials come from are told."""
    cluster = FakeCluster()
    cluster.faults.fail_next("get", None, Forbidden("Unauthorized"))

    with pytest.raises(
        Forbidden, match=r"refuses this agent's credentials \(kubeconfig /k\): Unauthorized"
    ):
        await main.require_access(cluster, read_settings({**REQUIRED, "KUBECONFIG": "/k"}))


async def test_an_api_server_that_starts_too_is_waited_for() -> None:
    """The first answer may come a little later; an unregistered node is no obstacle."""
    cluster = FakeCluster()
    cluster.faults.fail_next("get", None, Unreachable("refused"), times=2)

    await asyncio.wait_for(main.require_access(cluster, read_settings(REQUIRED)), 1.5)
    cluster.seed(make_node("node1"))
    await main.require_access(cluster, read_settings(REQUIRED))

    assert 4 == cluster.count("get")
