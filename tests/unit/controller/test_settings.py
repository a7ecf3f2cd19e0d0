"""The controller's environment."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from spiderpool.controller.settings import CertificateSettings, read_settings
from spiderpool.errors import InvalidRequest

REQUIRED = {"SPIDERPOOL_POD_NAMESPACE": "ns", "SPIDERPOOL_POD_NAME": "one"}


def test_defaults_are_those_of_the_reference() -> None:
    """
    Without further variables every value is the documented default.

    Source: docs/reference/configuration.md#reclaim, docs/reference/configuration.md#controller.
    """
    settings = read_settings(REQUIRED)

    assert ("ns", "one", "info") == (settings.namespace, settings.pod_name, settings.log_level)
    assert (5720, 5721, 5722) == (settings.health_port, settings.metric_port, settings.webhook_port)
    assert (False, False) == (settings.metrics, settings.debug_metrics)
    assert (5000, 300, 3) == (
        settings.max_allocated_ips,
        settings.pool_resync_s,
        settings.pool_workers,
    )
    assert 90 == settings.nearly_full_percent
    election, reclaim = settings.election, settings.reclaim
    assert (15, 10, 2, 1) == (
        election.duration_s,
        election.renew_s,
        election.retry_s,
        election.gap_s,
    )
    assert (True, 600, 3, 0) == (
        reclaim.enabled,
        reclaim.scan_s,
        reclaim.workers,
        reclaim.rules.additional_s,
    )
    assert (True, True, False) == (
        reclaim.rules.on_ready_node,
        reclaim.rules.on_lost_node,
        reclaim.rules.blank,
    )
    assert settings.kubeconfig is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "SPIDERPOOL_IPPOOL_NEARLY_FULL_PERCENT",
            "101",
            "environment variable SPIDERPOOL_IPPOOL_NEARLY_FULL_PERCENT has 101; it must be at most 100",
        ),
        (
            "SPIDERPOOL_POD_NAMESPACE",
            "",
            "environment variable SPIDERPOOL_POD_NAMESPACE is required and is empty",
        ),
        (
            "SPIDERPOOL_GC_IP_ENABLED",
            "yes",
            "environment variable SPIDERPOOL_GC_IP_ENABLED has 'yes'; it must be true or false",
        ),
        (
            "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION",
            "10m",
            "environment variable SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION has '10m'; it must be a whole number",
        ),
        (
            "SPIDERPOOL_IPPOOL_INFORMER_WORKERS",
            "0",
            "environment variable SPIDERPOOL_IPPOOL_INFORMER_WORKERS has 0; it must be at least 1",
        ),
        (
            "SPIDERPOOL_WEBHOOK_PORT",
            "70000",
            "environment variable SPIDERPOOL_WEBHOOK_PORT has 70000; a port is at most 65535",
        ),
        (
            "SPIDERPOOL_LEADER_RENEW_DEADLINE",
            "20",
            (
                "SPIDERPOOL_LEADER_RETRY_PERIOD=2, SPIDERPOOL_LEADER_RENEW_DEADLINE=20, SPIDERPOOL_LEADER_DURATION=15: "
                "each must be smaller than the next"
            ),
        ),
    ],
)
def test_wrong_value_is_named(name: str, value: str, message: str) -> None:
    """A wrong value is refused with its name, what it has and what it must be."""
    with pytest.raises(InvalidRequest) as caught:
        read_settings(REQUIRED | {name: value})

    assert message == caught.value.message


def test_missing_name_is_refused() -> None:
    """A required variable that is not set is refused."""
    with pytest.raises(InvalidRequest, match="SPIDERPOOL_POD_NAME is required and is not set"):
        read_settings({"SPIDERPOOL_POD_NAMESPACE": "ns"})


def test_networks() -> None:
    """
    Coordinator and networks are off unless switched on, with the reference's names and periods.

    Source: docs/reference/configuration.md#controller.
    """
    off = read_settings(REQUIRED).networks
    on = read_settings(
        REQUIRED
        | {
            "SPIDERPOOL_COORDINATOR_ENABLED": "true",
            "SPIDERPOOL_MULTUS_CONFIG_ENABLED": "true",
            "SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME": "cilium/config",
            "SPIDERPOOL_CNI_CONFIG_DIR": "/etc/cni/other",
        }
    ).networks

    assert (None, False, ("kube-system", "cilium-config")) == (
        off.coordinator,
        off.multus_configs,
        off.cilium,
    )
    assert (60, 60, "/etc/cni/net.d") == (
        off.coordinator_resync_s,
        off.multus_configs_resync_s,
        str(off.cni_dir),
    )
    assert ("default", True, ("cilium", "config")) == (on.coordinator, on.multus_configs, on.cilium)
    assert "/etc/cni/other" == str(on.cni_dir)


def test_name_of_the_coordinator() -> None:
    """The variable that names the coordinator is written as the reference writes it."""
    environ = {
        "SPIDERPOOL_COORDINATOR_ENABLED": "true",
        "SPIDERPOOL_COORDINATOR_DEAFULT_NAME": "mine",
    }

    assert "mine" == read_settings(REQUIRED | environ).networks.coordinator


def test_configmap_without_namespace() -> None:
    """The name of Cilium's ConfigMap needs its namespace."""
    with pytest.raises(InvalidRequest, match="it must be namespace/name"):
        read_settings(REQUIRED | {"SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME": "cilium-config"})


def test_certificates_of_the_controller() -> None:
    """With a Secret's name the controller makes its certificates; without it they are somebody else's."""
    made = {
        "SPIDERPOOL_TLS_SECRET_NAME": "certs",
        "SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME": "hooks",
        "SPIDERPOOL_TLS_DNS_NAMES": "a.svc, b.svc,",
        "SPIDERPOOL_TLS_IP_ADDRESSES": "127.0.0.1,::1",
        "SPIDERPOOL_TLS_CERT_LIFETIME": "60",
    }
    assert read_settings(REQUIRED).certificates is None
    settings = read_settings({**REQUIRED, **made}).certificates
    assert settings == CertificateSettings(
        "certs",
        "hooks",
        ("a.svc", "b.svc"),
        (ip_address("127.0.0.1"), ip_address("::1")),
        315_360_000,
        60,
    )


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME", "", "SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME"),
        ("SPIDERPOOL_TLS_IP_ADDRESSES", "300.0.0.1", "SPIDERPOOL_TLS_IP_ADDRESSES: '300.0.0.1'"),
        ("SPIDERPOOL_TLS_CERT_LIFETIME", "0", "SPIDERPOOL_TLS_CERT_LIFETIME"),
    ],
)
def test_certificates_that_cannot_be_made(name: str, value: str, words: str) -> None:
    """What is wrong is named."""
    made = {"SPIDERPOOL_TLS_SECRET_NAME": "c", "SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME": "h"}
    with pytest.raises(InvalidRequest, match=words):
        read_settings({**REQUIRED, **made, name: value})
