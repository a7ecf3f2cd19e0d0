"""
The configuration file.

Source: docs/reference/configuration.md#confyml.
"""

from __future__ import annotations

import pytest

from spiderpool.configuration.config import Config, parse_config
from spiderpool.errors import InvalidRequest


def test_an_empty_file_has_the_defaults() -> None:
    """Everything is off when its key is absent, and the socket is where the original's is."""
    config = parse_config("")

    assert Config() == config
    assert not config.features.families
    assert config.ipam_unix_socket_path == "/var/run/spidernet/spiderpool.sock"


def test_the_chart_s_file() -> None:
    """The keys of the reference arrive; unknown ones do not count."""
    config = parse_config(
        """
        ipamUnixSocketPath: /tmp/x.sock
        enableIPv4: true
        enableIPv6: false
        enableStatefulSet: true
        enableKubevirtStaticIP: true
        enableSpiderSubnet: true
        enableAutoPoolForApplication: true
        enableIPConflictDetection: true
        enableGatewayDetection: true
        enableCleanOutdatedEndpoint: true
        enableValidatingResourcesDeletedWebhook: true
        clusterSubnetDefaultFlexibleIPNumber: 1
        tuneSysctlConfig: true
        podResourceInject:
          enabled: true
          namespacesExclude: [kube-system]
          namespacesInclude: []
        iaasNetworkProvider: {serverUrl: ""}
        """
    )

    assert (4,) == config.features.families
    assert config.enable_kubevirt_static_ip
    assert config.enable_ip_conflict_detection
    assert config.enable_validating_resources_deleted_webhook
    assert config.tune_sysctl_config
    assert ("kube-system",) == config.pod_resource_inject.namespaces_exclude
    assert config.ipam_unix_socket_path == "/tmp/x.sock"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('enableIPv4: "yes"', 'configuration key enableIPv4 is "yes"; it must be true or false'),
        ("enableIPv4: 1", "configuration key enableIPv4 is 1; it must be true or false"),
        ("enableIPv4:", "configuration key enableIPv4 is null; it must be true or false"),
        (
            "ipamUnixSocketPath: [1]",
            "configuration key ipamUnixSocketPath is [1]; it must be a text",
        ),
        (
            "podResourceInject: 3",
            "configuration key podResourceInject is 3; it must be a mapping of keys to values",
        ),
        (
            "podResourceInject: {namespacesExclude: kube-system}",
            'configuration key podResourceInject.namespacesExclude is "kube-system"; it must be a list',
        ),
        (
            "podResourceInject: {namespacesExclude: [a, 2]}",
            'configuration key podResourceInject.namespacesExclude[1] is ["a",2]; it must be a text',
        ),
        ("clusterSubnetAutoPoolDefaultRedundantIPNumber: 1.5", "is 1.5; it must be a whole number"),
        ("- a", 'the configuration is ["a"]; it must be a mapping of keys to values'),
        ("2025-01-01", 'the configuration is "2025-01-01"; it must be a mapping of keys to values'),
        (r'enableIPv4: "\ud800"', "the configuration has an escape that is no character"),
        ("a: [", "the configuration is not YAML: "),
    ],
)
def test_wrong_types(text: str, message: str) -> None:
    """A wrong type is refused with the key, what it has and what it must be."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_config(text)

    assert message in refusal.value.message
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("clusterSubnetDefaultFlexibleIPNumber: 3", 3),
        ("clusterSubnetAutoPoolDefaultRedundantIPNumber: 2", 2),
        (
            "{clusterSubnetAutoPoolDefaultRedundantIPNumber: 0, clusterSubnetDefaultFlexibleIPNumber: 3}",
            0,
        ),
    ],
)
def test_redundant_addresses(text: str, expected: int) -> None:
    """Two keys say how many addresses an automatic pool has on top; the first of the table counts."""
    assert expected == parse_config(text).redundant_addresses
