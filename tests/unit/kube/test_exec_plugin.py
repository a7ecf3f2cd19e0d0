"""Logins by a program that a kubeconfig names."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderlab.pki import issue, make_authority
from spiderpool.errors import InvalidRequest
from spiderpool.kube.exec_plugin import ExecPlugin, ExecSpec
from spiderpool.kube.kubeconfig import from_kubeconfig

AUTHORITY = make_authority("test")
V1 = "client.authentication.k8s.io/v1"
BETA = "client.authentication.k8s.io/v1beta1"
Program = Callable[..., ExecSpec]

SCRIPT = """#!{python}
import json, os, pathlib, sys
runs = pathlib.Path(__file__).with_suffix(".runs")
runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
pathlib.Path(__file__).with_suffix(".told").write_text(os.environ["KUBERNETES_EXEC_INFO"])
print({output!r}.replace("RUN", str(len(runs.read_text()))).replace("ARG", " ".join(sys.argv[1:]))
      .replace("ENV", os.environ.get("PROFILE", "")))
sys.exit({code})
"""


def credential(version: str = V1, said: str = "", **status: Any) -> str:
    """Write what a program prints."""
    if said:
        status["token"] = said
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Return a function that makes a login program."""

    def make(output: str, code: int = 0, **more: Any) -> ExecSpec:
        path = tmp_path / "login"
        path.write_text(SCRIPT.format(python=sys.executable, output=output, code=code))
        path.chmod(0o755)
        return ExecSpec(api_version=more.pop("version", V1), command=str(path), **more)

    return make


def runs(spec: ExecSpec) -> int:
    """Return how often a program ran."""
    file = Path(spec.command).with_suffix(".runs")
    return len(file.read_text()) if file.exists() else 0


@pytest.mark.parametrize("version", [V1, BETA])
async def test_a_token_is_asked_for_once(program: Program, version: str) -> None:
    """The program gets its arguments, its environment and what the cluster is; its token is kept."""
    spec = program(
        credential(version, said="tokenRUN-ARG-ENV"),
        version=version,
        args=("get-token", "--cluster"),
        env={"PROFILE": "prod"},
        cluster={"server": "https://10.6.0.1"},
    )
    plugin = ExecPlugin(spec, ssl.create_default_context)

    first = [await plugin.authorization() for _ in range(3)]
    plugin.refused()

    assert ["Bearer token1-get-token --cluster-prod"] * 3 == first
    assert "Bearer token2-get-token --cluster-prod" == await plugin.authorization()
    told = json.loads(Path(spec.command).with_suffix(".told").read_text())
    assert (version, "ExecCredential") == (told["apiVersion"], told["kind"])
    assert {"server": "https://10.6.0.1"} == told["spec"]["cluster"]


async def test_a_credential_that_has_ended_is_asked_for_again(program: Program) -> None:
    """Until `expirationTimestamp` it is used, after it never."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    spec = program(credential(said="tokenRUN", expirationTimestamp="2026-01-01T00:10:00Z"))
    plugin = ExecPlugin(spec, ssl.create_default_context, lambda: now)

    assert "Bearer token1" == await plugin.authorization()
    now += timedelta(minutes=9)
    assert "Bearer token1" == await plugin.authorization()
    now += timedelta(minutes=1)
    assert "Bearer token2" == await plugin.authorization()


async def test_a_certificate_of_the_program(program: Program) -> None:
    """A certificate makes the connection's identity; no header is sent."""
    user = issue(AUTHORITY, "someone")
    pair = {"clientCertificateData": user.pem.decode(), "clientKeyData": user.key_pem.decode()}
    loaded: list[ssl.SSLContext] = []

    def trust() -> ssl.SSLContext:
        loaded.append(ssl.create_default_context())
        return loaded[-1]

    plugin = ExecPlugin(program(credential(**pair)), trust)

    assert "" == await plugin.authorization()
    assert plugin.tls() is loaded[0] is plugin.tls()


@pytest.mark.parametrize(
    ("output", "code", "words"),
    [
        ("no JSON", 0, "its output is no ExecCredential"),
        (credential("other/v1", said="t"), 0, "it gave ExecCredential of other/v1"),
        (credential(), 0, "it gave neither a token nor a certificate"),
        (credential(clientKeyData="k"), 0, "a certificate without its key"),
        (credential(said="t"), 3, "exit code 3"),
    ],
)
async def test_programs_that_fail(program: Program, output: str, code: int, words: str) -> None:
    """Whatever goes wrong, the program is named with the reason."""
    spec = program(output, code)

    with pytest.raises(InvalidRequest, match=f"exec plugin {spec.command}: .*{words}"):
        await ExecPlugin(spec, ssl.create_default_context).authorization()


async def test_a_program_that_is_not_there() -> None:
    """The kubeconfig's hint how to install it is passed on."""
    spec = ExecSpec(V1, "no-such-login", install_hint="Install it\nwith your package manager.")

    with pytest.raises(
        InvalidRequest, match="no-such-login: No such file or directory; Install it with your"
    ):
        await ExecPlugin(spec, ssl.create_default_context).authorization()


def test_a_version_that_is_not_supported() -> None:
    """An older exchange is refused before anything runs."""
    with pytest.raises(InvalidRequest, match=r"v1alpha1.* is not supported"):
        ExecPlugin(ExecSpec("client.authentication.k8s.io/v1alpha1", "x"), ssl.SSLContext)


async def test_a_kubeconfig_with_a_program(program: Program, tmp_path: Path) -> None:
    """A relative path counts from the kubeconfig's folder."""
    program(credential(said="tokenRUN"))
    user = {"exec": {"apiVersion": V1, "command": "./login", "interactiveMode": "Never"}}
    (tmp_path / "config").write_text(
        yaml.safe_dump(
            {
                "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "x",
            }
        )
    )

    access = from_kubeconfig(tmp_path / "config")

    assert access.credentials is not None
    assert "Bearer token1" == await access.credentials.authorization()
