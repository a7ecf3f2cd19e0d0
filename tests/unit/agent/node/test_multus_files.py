"""What Multus is told on a node, and whose files are there."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest
import yaml

from spiderpool.agent.node.multus_files import (
    MultusPlace,
    account_in,
    account_of,
    is_release_conf,
    read_multus_place,
    render_kubeconfig,
    render_multus_conf,
)
from spiderpool.configuration.config import MultusSettings
from tests.unit.agent.node.tokens import token_of

PATH = "/etc/cni/net.d/multus.d/multus.kubeconfig"
ISOLATED = MultusSettings(namespace_isolation=True, global_namespaces=("default", "shared"))
OWN = ("kube-system", "underlay-agent")


def settings(host: str = "10.96.0.1", **environ: str) -> MultusPlace:
    """Read settings as the chart gives them."""
    given = {
        "SPIDERPOOL_MULTUS_LOG_LEVEL": "debug",
        "SPIDERPOOL_MULTUS_LOG_FILE": "/var/log/multus.log",
        "KUBERNETES_SERVICE_HOST": host,
        "KUBERNETES_SERVICE_PORT": "443",
    }
    return read_multus_place({**given, **environ}, Path("/etc/cni/net.d"), "kube-system")


def test_configuration() -> None:
    """
    The configuration is the documented one.

    Source: docs/reference/configuration.md#multus-on-the-node.
    """
    assert {
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "type": "multus",
        "confDir": "/etc/cni/net.d/",
        "logLevel": "debug",
        "logFile": "/var/log/multus.log",
        "capabilities": {"portMappings": True, "bandwidth": True},
        "namespaceIsolation": False,
        "clusterNetwork": "calico",
        "defaultNetworks": [],
        "multusNamespace": "kube-system",
        "systemNamespaces": [],
        "kubeconfig": PATH,
    } == msgspec.json.decode(render_multus_conf(settings(), "calico", PATH, MultusSettings()))


def test_what_pods_may_choose() -> None:
    """Namespaces are isolated as set; what is not said is left out."""
    conf = render_multus_conf(settings(SPIDERPOOL_MULTUS_LOG_FILE=""), "calico", PATH, ISOLATED)
    document = msgspec.json.decode(conf)
    assert "logFile" not in document
    assert (True, "default,shared") == (
        document["namespaceIsolation"],
        document["globalNamespaces"],
    )


@pytest.mark.parametrize(
    ("host", "server"),
    [("10.96.0.1", "https://10.96.0.1:443"), ("fd00::1", "https://[fd00::1]:443")],
)
def test_credentials(host: str, server: str) -> None:
    """The credentials are those of the agent; only IPv6 addresses stand in brackets."""
    document = yaml.safe_load(render_kubeconfig(settings(host), "a-token", b"the CA"))
    (cluster,) = document["clusters"]
    assert server == cluster["cluster"]["server"]
    authority = cluster["cluster"]["certificate-authority-data"]
    assert b"the CA" == base64.b64decode(authority)
    assert [{"name": "multus", "user": {"token": "a-token"}}] == document["users"]
    (context,) = document["contexts"]
    assert (document["current-context"], "local", "multus") == (
        context["name"],
        context["context"]["cluster"],
        context["context"]["user"],
    )


@pytest.mark.parametrize(
    ("token", "account"),
    [
        (token_of("kube-system", "multus"), ("kube-system", "multus")),
        ("", None),
        ("a.b", None),
        ("a.b.c", None),
        ("a.e30.c", None),
        ("é.é.é", None),
        (token_of("a", "b:c"), None),
    ],
)
def test_account_of_a_token(token: str, account: tuple[str, str] | None) -> None:
    """A token says whose it is; what is no token of a service account says nothing."""
    assert account == account_of(token)


def test_account_in_credentials() -> None:
    """The account is found in our own credentials and in those that other programs write."""
    token = token_of("kube-system", "multus")
    assert OWN == account_in(render_kubeconfig(settings(), token_of(*OWN), b""))
    for line in (f"    token: {token}", f'  - token: "{token}"', f"token: '{token}'"):
        assert ("kube-system", "multus") == account_in(f"users:\n- name: x\n{line}\n".encode())
    assert account_in(b"users: []") is None


def kubeconfig(account: tuple[str, str]) -> bytes:
    """Credentials of an account."""
    return f"users:\n    token: {token_of(*account)}\n".encode()


@pytest.mark.parametrize(
    ("conf", "secret", "expected"),
    [
        (None, None, True),
        ({"kubeconfig": PATH}, kubeconfig(OWN), True),
        ({"kubeconfig": PATH}, kubeconfig(("kube-system", "spiderpool-agent")), True),
        ({"kubeconfig": PATH}, None, True),
        (None, kubeconfig(OWN), True),
        ({"kubeconfig": PATH}, kubeconfig(("kube-system", "multus")), False),
        ({"kubeconfig": PATH}, kubeconfig(("other", "spiderpool-agent")), False),
        ({"kubeconfig": "/etc/other"}, kubeconfig(OWN), False),
        ({}, kubeconfig(OWN), False),
        ([], None, False),
        (None, kubeconfig(("kube-system", "multus")), False),
    ],
)
def test_whose_files(conf: object, secret: bytes | None, expected: bool) -> None:
    """Files are ours if they use our path and the account of this release's agents, by either name."""
    text = None if conf is None else msgspec.json.encode(conf)
    assert expected == is_release_conf(text, secret, PATH, OWN)


def test_whose_files_without_an_account() -> None:
    """An agent that does not know its account removes nothing that has one."""
    conf = msgspec.json.encode({"kubeconfig": PATH})
    assert not is_release_conf(conf, kubeconfig(OWN), PATH, None)
