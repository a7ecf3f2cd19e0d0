"""The command line: what a user reads when something is wrong, and `clean`."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from spiderpool.api.core import Namespace
from spiderpool.api.group import FINALIZER
from spiderpool.api.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.meta import ObjectMeta
from spiderpool.controller.clean import CustomResourceDefinition, ValidatingWebhookConfiguration
from spiderpool.errors import NotFound
from spiderpool.kube.client import KubeClient
from tests.apiserver.control_plane import ControlPlane
from tests.contract.controller.replica import CONFIG, PROGRAM, Replica, environment, free_ports
from tests.unit.controller.conftest import make_record


async def run(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    """Run the controller to its end; give exit code, standard output and standard error."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM, *arguments, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    return process.returncode or 0, out.decode(), err.decode()


def complaints(text: str) -> list[str]:
    """Give the lines that are not log lines."""
    return [line for line in text.splitlines() if not line.startswith("{")]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "spiderpool-controller: configuration file {path}: No such file or directory"),
        (
            "enableIPv4: maybe",
            'spiderpool-controller: configuration file {path}: configuration key enableIPv4 is "maybe"; it must be true or',
        ),
        ("a: [", "spiderpool-controller: configuration file {path}: the configuration is not YAML"),
    ],
)
async def test_bad_configuration_file(control_plane: ControlPlane, tmp_path: Path, content: str | None, expected: str) -> None:
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
        ({"SPIDERPOOL_POD_NAME": ""}, "environment variable SPIDERPOOL_POD_NAME is required and is empty"),
        ({"SPIDERPOOL_HEALTH_PORT": "x"}, "environment variable SPIDERPOOL_HEALTH_PORT has 'x'; it must be a whole number"),
        ({"SPIDERPOOL_LOG_LEVEL": "loud"}, "environment variable SPIDERPOOL_LOG_LEVEL has 'loud'; it must be one of debug"),
        ({"KUBECONFIG": "/nowhere"}, "kubeconfig /nowhere: "),
    ],
)
async def test_bad_environment(control_plane: ControlPlane, tmp_path: Path, change: dict[str, str], expected: str) -> None:
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
    kept = [line for line in text if "client-certificate-data" not in line and "client-key-data" not in line]
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
        environ = environment(control_plane.kubeconfig, "one", free_ports(3)) | {"SPIDERPOOL_HEALTH_PORT": str(port)}
        code, _, err = await run("daemon", "--config-path", str(path), environ=environ)

    assert (1, [f"spiderpool-controller: cannot listen on port {port}: Address already in use"]) == (
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


async def test_clean_leaves_nothing(control_plane: ControlPlane, cluster: KubeClient, controller: Replica) -> None:
    """`clean` removes webhooks, objects with finalizers and definitions, says each step, and can be run again."""
    await cluster.create(Namespace(metadata=ObjectMeta(name="ns")))
    spec = IPPoolSpec(subnet="10.28.0.0/16", ips=("10.28.0.1-10.28.0.9",))
    pool = await cluster.create(SpiderIPPool(metadata=ObjectMeta(name="old"), spec=spec))
    assert (FINALIZER,) == pool.metadata.finalizers
    for last in range(1, 40):
        await cluster.create(make_record(f"10.28.0.{last}", f"p{last}", f"u{last}", pool="old"))
    controller.kill()
    environ = environment(control_plane.kubeconfig, "one", free_ports(3))
    arguments = ("clean", "--validate", "spiderpool-controller", "--mutating", "spiderpool-controller")
    began = time.monotonic()
    first = await run(*arguments, environ=environ)
    second = await run(*arguments, environ=environ)

    assert (0, 0) == (first[0], second[0]), first[2] + second[2]
    assert time.monotonic() - began < 20
    said = first[1].splitlines()
    assert [
        "deleted MutatingWebhookConfiguration spiderpool-controller",
        "deleted ValidatingWebhookConfiguration spiderpool-controller",
    ] == said[:2]
    assert {"deleted 39 spiderips", "deleted 1 spiderippools"} <= set(said)
    assert "deleted CustomResourceDefinition spiderippools.spiderpool.spidernet.io" in said
    assert "ValidatingWebhookConfiguration spiderpool-controller is not there" in second[1].splitlines()
    with pytest.raises(NotFound):
        await cluster.get(ValidatingWebhookConfiguration, "spiderpool-controller")
    async with asyncio.timeout(20):
        while (await cluster.list_objects(CustomResourceDefinition)).items:
            await asyncio.sleep(0.1)
