"""The command line: what a user reads when something is wrong, and `clean`."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from pathlib import Path

import pytest

from tests.apiserver.control_plane import ControlPlane
from tests.contract.controller.replica import CONFIG, PROGRAM, environment, free_ports


async def run(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    """Run the controller to its end; give exit code, standard output and standard error."""
    done = await asyncio.to_thread(
        subprocess.run,
        [PROGRAM, *arguments],
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def complaints(text: str) -> list[str]:
    """Return the lines that are not log lines."""
    return [line for line in text.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            None,
            "spiderpool-controller: configuration file {path} cannot be read: No such file or directory",
        ),
        (
            "enableIPv4: maybe",
            'spiderpool-controller: configuration file {path}: configuration key enableIPv4 is "maybe"; it must be true or',
        ),
        ("a: [", "spiderpool-controller: configuration file {path}: the configuration is not YAML"),
    ],
)
async def test_bad_configuration_file(
    control_plane: ControlPlane, tmp_path: Path, content: str | None, expected: str
) -> None:
    """A configuration file that is missing or wrong ends in exit code 1 and one line that names it."""
    path = tmp_path / "conf.yml"
    if content is not None:
        path.write_text(content)
    environ = environment(control_plane.kubeconfig, "one", free_ports(3))
    code, _, err = await run("daemon", "--config-path", str(path), environ=environ)

    assert 1 == code
    assert 1 == len(complaints(err))
    assert complaints(err)[0].startswith(expected.format(path=path))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"SPIDERPOOL_POD_NAME": ""},
            "environment variable SPIDERPOOL_POD_NAME is required and is empty",
        ),
        (
            {"SPIDERPOOL_HEALTH_PORT": "x"},
            "environment variable SPIDERPOOL_HEALTH_PORT has 'x'; it must be a whole number",
        ),
        (
            {"SPIDERPOOL_LOG_LEVEL": "loud"},
            "environment variable SPIDERPOOL_LOG_LEVEL has 'loud'; it must be one of debug",
        ),
        ({"KUBECONFIG": "/nowhere"}, "kubeconfig /nowhere: "),
    ],
)
async def test_bad_environment(
    control_plane: ControlPlane, tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    """A wrong variable ends in exit code 1 and one line that names it."""
    path = tmp_path / "conf.yml"
    path.write_text(CONFIG)
    environ = environment(control_plane.kubeconfig, "one", free_ports(3)) | change
    code, _, err = await run("daemon", "--config-path", str(path), environ=environ)

    assert 1 == code
    assert 1 == len(complaints(err))
    assert complaints(err)[0].startswith(f"spiderpool-controller: {expected}")


async def test_refused_credentials(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Credentials that the API server refuses end in exit code 1 and one line."""
    path = tmp_path / "conf.yml"
    path.write_text(CONFIG)
    text = control_plane.kubeconfig.read_text().splitlines()
    refused = tmp_path / "kubeconfig"
    kept = [
        line
        for line in text
        if "client-certificate-data" not in line and "client-key-data" not in line
    ]
    refused.write_text("\n".join(kept).replace("user: {}", "user: {token: wrong}"))
    environ = environment(refused, "one", free_ports(3))
    code, _, err = await run("daemon", "--config-path", str(path), environ=environ)

    assert 1 == code
    assert 1 == len(complaints(err)), err


async def test_port_that_is_taken(control_plane: ControlPlane, tmp_path: Path) -> None:
    """A port that somebody else has ends in exit code 1 and one line that names it."""
    path = tmp_path / "conf.yml"
    path.write_text(CONFIG)
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        environ = environment(control_plane.kubeconfig, "one", free_ports(3)) | {
            "SPIDERPOOL_HEALTH_PORT": str(port)
        }
        code, _, err = await run("daemon", "--config-path", str(path), environ=environ)

    assert (
        1,
        [f"spiderpool-controller: cannot listen on port {port}: Address already in use"],
    ) == (
        code,
        complaints(err),
    )


async def test_half_a_certificate(control_plane: ControlPlane, tmp_path: Path) -> None:
    """Certificate and key belong together, and must be readable."""
    path = tmp_path / "conf.yml"
    path.write_text(CONFIG)
    environ = environment(control_plane.kubeconfig, "one", free_ports(3))
    daemon = ("daemon", "--config-path", str(path), "--tls-server-cert", "/nowhere.crt")
    half = await run(*daemon, environ=environ)
    missing = await run(*daemon, "--tls-server-key", "/nowhere.key", environ=environ)

    both = "spiderpool-controller: --tls-server-cert and --tls-server-key belong together: give both, or none"
    assert (1, [both]) == (half[0], complaints(half[2]))
    text = "spiderpool-controller: cannot use TLS certificate /nowhere.crt with key /nowhere.key: "
    assert 1 == missing[0]
    assert [text] == [line[: len(text)] for line in complaints(missing[2])]
