"""Where a client's address and credentials come from, and what is said when they cannot be had."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderlab.pki import issue, make_authority
from spiderpool.errors import InvalidRequest
from spiderpool.kube.connect import connect, from_service_account
from spiderpool.kube.credentials import AuthorityFile, TokenFile
from spiderpool.kube.kubeconfig import from_kubeconfig, read_login
from spiderpool.kube.transport import Access

AUTHORITY = make_authority("test")
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a kubeconfig for a user, with its parts replaced at will."""

    def write(user: dict[str, Any], *, server: str = "http://127.0.0.1:1", **parts: object) -> Path:
        config = {
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = tmp_path / "config"
        path.write_text(yaml.safe_dump(config | parts))
        return path

    return write


def b64(text: bytes) -> str:
    """Encode as kubeconfig's `-data` entries are."""
    return base64.b64encode(text).decode()


async def header_of(access: Access) -> str:
    """Return the header that proves who the client is."""
    assert access.credentials is not None
    return await access.credentials.authorization()


async def test_token_of_a_kubeconfig(write: Write) -> None:
    """A token becomes the header."""
    access = from_kubeconfig(write({"token": "secret"}))
    assert "http://127.0.0.1:1" == access.server
    assert "Bearer secret" == await header_of(access)


async def test_token_file_is_relative_to_the_kubeconfig(write: Write, tmp_path: Path) -> None:
    """`tokenFile` counts from the folder of the kubeconfig."""
    (tmp_path / "t").write_text("secret\n")
    access = from_kubeconfig(write({"tokenFile": "t"}))
    assert "Bearer secret" == await header_of(access)


def test_certificate_of_a_kubeconfig(write: Write) -> None:
    """
    A client certificate and a CA given as data make a TLS context that trusts only that CA.

    No header is needed.
    """
    user = issue(AUTHORITY, "someone")
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": b64(AUTHORITY.pem)}
    access = from_kubeconfig(
        write(
            {"client-certificate-data": b64(user.pem), "client-key-data": b64(user.key_pem)},
            clusters=[{"name": "c", "cluster": cluster}],
        )
    )
    assert access.credentials is None
    assert access.tls is not None
    assert [((("commonName", "test"),),)] == [ca["subject"] for ca in access.tls().get_ca_certs()]


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"current-context": "other"}, "Context 'other' not found"),
        ({"current-context": None}, "No current context"),
        ({"contexts": "none"}, ""),
        ({"clusters": []}, "KeyError: 'c'"),
        ({"users": []}, "KeyError: 'u'"),
        ({"users": [{"name": "u", "user": {"token": 5}}]}, "Expected `str | null`, got `int`"),
        (
            {"users": [{"name": "u", "user": {"exec": {"apiVersion": "v1", "command": "login"}}}]},
            'exec plugin login: apiVersion "v1" is not supported',
        ),
        (
            {"users": [{"name": "u", "user": {"auth-provider": {"name": "gcp"}}}]},
            "other ways to log in",
        ),
        ({"users": [{"name": "u", "user": {"tokenFile": "missing"}}]}, "missing: .*No such file"),
        (
            {
                "clusters": [
                    {
                        "name": "c",
                        "cluster": {"server": "https://x", "certificate-authority-data": "bm8="},
                    }
                ]
            },
            "SSLError",
        ),
    ],
)
def test_bad_kubeconfig_names_path_and_reason(
    write: Write, parts: dict[str, Any], reason: str
) -> None:
    """Whatever is wrong in a kubeconfig, the message is one line with its path and the reason."""
    path = write({"token": "t"}, **parts)
    with pytest.raises(InvalidRequest) as caught:
        from_kubeconfig(path)
    assert re.search(rf"^kubeconfig {re.escape(str(path))}: .*({reason})", caught.value.message)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("text", ["", "[1, 2", "just a line", "\x00"])
def test_file_that_is_no_kubeconfig(tmp_path: Path, text: str) -> None:
    """Neither YAML nor a kubeconfig: refused with the path."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=re.escape(f"kubeconfig {path}: ")):
        from_kubeconfig(path)


def test_missing_kubeconfig(tmp_path: Path) -> None:
    """A path without a file is named."""
    with pytest.raises(InvalidRequest, match=r"Configuration file .*nowhere not found"):
        connect(str(tmp_path / "nowhere"))


def test_neither_pod_nor_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any source the message says which there are."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidRequest, match="KUBECONFIG is not set, and this is not a pod"):
        connect()


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
async def test_service_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, server: str
) -> None:
    """In a pod: the address from the environment, CA and token from kubelet's files."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    (tmp_path / "ca.crt").write_bytes(AUTHORITY.pem)
    (tmp_path / "token").write_text("of the pod")
    access = from_service_account(tmp_path)
    assert server == access.server
    assert "Bearer of the pod" == await header_of(access)


def test_service_account_without_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A pod without `automountServiceAccountToken` is told which file is missing."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    with pytest.raises(InvalidRequest, match=re.escape(f"CA certificate {tmp_path / 'ca.crt'}")):
        from_service_account(tmp_path)


async def test_token_file_is_read_again_after_a_minute_and_after_a_refusal(tmp_path: Path) -> None:
    """
    A renewed token is used after 60 s, or at once when the old one was refused.

    An empty file is no token.
    """
    path, now = tmp_path / "token", 0.0
    path.write_text("one")
    token = TokenFile(path, lambda: now)
    path.write_text("two")
    now = 60.0
    assert "Bearer one" == await token.authorization()
    now = 60.1
    assert "Bearer two" == await token.authorization()
    path.write_text("three")
    token.refused()
    assert "Bearer three" == await token.authorization()
    path.write_text("")
    token.refused()
    assert "Bearer three" == await token.authorization()


def subjects(authorities: AuthorityFile) -> list[object]:
    """Return the names of the authorities that are trusted."""
    return [ca["subject"] for ca in authorities.context().get_ca_certs()]


def test_authorities_are_read_again(tmp_path: Path) -> None:
    """A CA that was replaced is trusted within a minute, and the former one no more."""
    now, path = 0.0, tmp_path / "ca.crt"
    path.write_bytes(AUTHORITY.pem)
    authorities = AuthorityFile(path, lambda: now)
    kept = authorities.context()

    path.write_bytes(make_authority("next").pem)
    assert kept is authorities.context()
    now = 61.0
    assert [((("commonName", "next"),),)] == subjects(authorities)


@pytest.mark.parametrize("text", [None, "", "-----BEGIN CERTIFICATE-----\n"])
def test_authorities_stay_while_their_file_is_replaced(tmp_path: Path, text: str | None) -> None:
    """A file that is away or half written changes nothing."""
    now, path = 0.0, tmp_path / "ca.crt"
    path.write_bytes(AUTHORITY.pem)
    authorities = AuthorityFile(path, lambda: now)

    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    now = 61.0

    assert [((("commonName", "test"),),)] == subjects(authorities)


@pytest.mark.parametrize("text", ["", "no certificate"])
def test_authorities_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """A file without a certificate is refused, and named."""
    path = tmp_path / "ca.crt"
    path.write_text(text)

    with pytest.raises(InvalidRequest, match=re.escape(f"CA certificate {path}")):
        AuthorityFile(path)


def entries(server: str, token: str, name: str) -> dict[str, object]:
    """Make a kubeconfig with one entry of each kind."""
    return {
        "clusters": [{"name": name, "cluster": {"server": server}}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": name}}],
        "current-context": name,
    }


async def test_files_are_joined_as_kubectl_does(tmp_path: Path) -> None:
    """The first file's entry of a name counts, and its current context; others are reached by name."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text(yaml.safe_dump(entries("http://one", "t1", "a")))
    second.write_text(
        yaml.safe_dump(
            entries("http://two", "t2", "b")
            | {"clusters": [{"name": n, "cluster": {"server": "http://two"}} for n in "ab"]}
        )
    )
    paths = (tmp_path / "absent", first, second)

    current, other = read_login(paths), read_login(paths, "b")

    assert ("http://one", "a") == (current.access.server, current.namespace)
    assert ("http://two", "b") == (other.access.server, other.namespace)
    assert "Bearer t2" == await header_of(other.access)
    with pytest.raises(InvalidRequest, match="Context 'c' not found; known are a, b"):
        read_login(paths, "c")


async def test_kubeconfig_names_several_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`KUBECONFIG` is a list of paths; somebody else's name goes with every request."""
    first = tmp_path / "first"
    first.write_text(yaml.safe_dump(entries("http://one", "t1", "a")))
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path / 'absent'}:{first}")

    async with connect(impersonate="jane") as client:
        access = client._exchange._access

    assert ("http://one", {"Impersonate-User": "jane"}) == (access.server, access.headers)
