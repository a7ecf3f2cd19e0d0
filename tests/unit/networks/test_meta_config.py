"""The meta plugin's configuration, with Multus' keys."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.errors import InvalidRequest, Unsupported
from spiderpool.networks.meta_config import (
    MetaConfig,
    NodePolicy,
    other_folders,
    parse_meta_config,
)

NODE = NodePolicy(bin_dir="/opt/cni/bin", conf_dir="/etc/cni/net.d", cni_dir="/var/lib/cni/multus")


def test_defaults() -> None:
    """
    Defaults are those of Multus.

    Source: docs/reference/meta-plugin.md#configuration-of-the-meta-plugin.
    """
    config = parse_meta_config({"clusterNetwork": "x"}, NODE)

    assert MetaConfig(NODE, cluster_network="x") == config
    assert "kube-system" == config.namespace
    assert (["kube-system"], ["default"]) == (
        list(config.system_namespaces),
        list(config.allowed_namespaces),
    )


def test_all_keys() -> None:
    """Letter case of keys does not matter, unknown ones are ignored, a given list replaces the default."""
    config = parse_meta_config(
        {
            "clusternetwork": "x",
            "DefaultNetworks": ["y"],
            "confDir": "/c",
            "cniDir": "/d",
            "binDir": "/b",
            "multusNamespace": "m",
            "systemNamespaces": [],
            "namespaceIsolation": True,
            "globalNamespaces": " a, b,",
            "readinessIndicatorFile": "/r",
            "retryDeleteOnError": True,
            "runtimeConfig": {"mac": "m"},
            "logLevel": "debug",
            "kubeconfig": "/k",
        },
        NODE,
    )

    assert (
        MetaConfig(
            NODE,
            cluster_network="x",
            default_networks=("y",),
            namespace="m",
            system_namespaces=frozenset(),
            namespace_isolation=True,
            allowed_namespaces=frozenset({"a", "b"}),
            readiness_file="/r",
            retry_delete_on_error=True,
            runtime_config={"mac": "m"},
        )
        == config
    )


def test_folders_are_the_agents() -> None:
    """
    Folders of a configuration never count.

    One that is not the agent's is told, whatever its case.
    """
    said = {"clusterNetwork": "x", "BinDir": "/tmp/evil", "confDir": "/etc/cni/net.d/", "cniDir": 7}

    assert NODE == parse_meta_config(said, NODE).node
    assert {"binDir": "/tmp/evil", "cniDir": "7"} == other_folders(said, NODE)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({}, "neither clusterNetwork nor delegates"),
        ({"clusterNetwork": 1}, "clusterNetwork is 1, write a string"),
        ({"clusterNetwork": "x", "defaultNetworks": "y"}, "defaultNetworks is 'y', write a list"),
        ({"clusterNetwork": "x", "defaultNetworks": [""]}, "write a list of names"),
        ({"delegates": ["x"]}, "write a list of CNI configurations"),
        (
            {"clusterNetwork": "x", "namespaceIsolation": "true"},
            "namespaceIsolation is 'true', write true or false",
        ),
    ],
)
def test_refused(document: dict[str, Any], words: str) -> None:
    """A wrong value is refused with its key, what it has and what to write."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_meta_config(document, NODE)

    assert words in refusal.value.message


def test_unsupported() -> None:
    """A key of Multus that is known and missing here is refused with code 2."""
    with pytest.raises(Unsupported, match="auxiliaryCNIChainName") as refusal:
        parse_meta_config({"clusterNetwork": "x", "auxiliaryCNIChainName": "y"}, NODE)

    assert 2 == refusal.value.cni_code
