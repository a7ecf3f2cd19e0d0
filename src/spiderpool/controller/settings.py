"""
The controller's environment.

Names, defaults, and what to say when a value is wrong.

Source: docs/reference/configuration.md#reclaim, docs/reference/configuration.md#controller.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.configuration.environment import (
    Environment,
    read_flag,
    read_log_level,
    read_number,
    read_port,
    read_required,
)
from spiderpool.errors import InvalidRequest
from spiderpool.records.verdicts import Rules

WHOLE: Final = 100  # percent
DAY_S: Final = 86400


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Times of the leader election, seconds."""

    duration_s: int
    renew_s: int
    retry_s: int
    gap_s: int


@dataclass(frozen=True, slots=True)
class ReclaimSettings:
    """Switches and times of reclaim."""

    enabled: bool
    scan_s: int
    workers: int
    rules: Rules


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """
    What is kept of coordinators and networks.

    `coordinator` is the name of the one object that counts, None when nothing is kept of it;
    `cilium` the (namespace, name) of Cilium's ConfigMap.
    """

    coordinator: str | None
    cni_dir: Path
    cilium: tuple[str, str]
    coordinator_resync_s: int
    multus_configs: bool
    multus_configs_resync_s: int


@dataclass(frozen=True, slots=True)
class CertificateSettings:
    """
    Where the webhooks' certificates are kept that the controller makes, and what they are to be.

    `webhooks`: name of both webhook configurations. Lives in seconds.
    """

    secret: str
    webhooks: str
    names: tuple[str, ...]
    ips: tuple[IPAddress, ...]
    authority_life_s: int
    server_life_s: int


@dataclass(frozen=True, slots=True)
class Settings:
    """
    All that the environment decides.

    `certificates` None: they are somebody else's. `client_ca` None: every client is answered.
    """

    namespace: str
    pod_name: str
    log_level: str
    health_port: int
    metric_port: int
    webhook_port: int
    metrics: bool
    debug_metrics: bool
    max_allocated_ips: int
    pool_resync_s: int
    pool_workers: int
    nearly_full_percent: int
    subnet_resync_s: int
    subnet_workers: int
    application_workers: int
    election: ElectionSettings
    reclaim: ReclaimSettings
    networks: NetworkSettings
    certificates: CertificateSettings | None
    client_ca: Path | None
    kubeconfig: str | None


def read_settings(environ: Environment) -> Settings:
    """
    Read the environment.

    `InvalidRequest` names the variable, what it has and what it must be.
    """
    return Settings(
        namespace=read_required(environ, "SPIDERPOOL_POD_NAMESPACE"),
        pod_name=read_required(environ, "SPIDERPOOL_POD_NAME"),
        log_level=read_log_level(environ, "SPIDERPOOL_LOG_LEVEL"),
        health_port=read_port(environ, "SPIDERPOOL_HEALTH_PORT", 5720),
        metric_port=read_port(environ, "SPIDERPOOL_METRIC_HTTP_PORT", 5721),
        webhook_port=read_port(environ, "SPIDERPOOL_WEBHOOK_PORT", 5722),
        metrics=read_flag(environ, "SPIDERPOOL_ENABLED_METRIC", default=False),
        debug_metrics=read_flag(environ, "SPIDERPOOL_ENABLED_DEBUG_METRIC", default=False),
        max_allocated_ips=read_number(
            environ, "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS", 5000, least=0
        ),
        pool_resync_s=read_number(
            environ, "SPIDERPOOL_IPPOOL_INFORMER_RESYNC_PERIOD", 300, least=1
        ),
        pool_workers=read_number(environ, "SPIDERPOOL_IPPOOL_INFORMER_WORKERS", 3, least=1),
        nearly_full_percent=_percent(environ, "SPIDERPOOL_IPPOOL_NEARLY_FULL_PERCENT", 90),
        subnet_resync_s=read_number(
            environ, "SPIDERPOOL_SUBNET_INFORMER_RESYNC_PERIOD", 300, least=1
        ),
        subnet_workers=read_number(environ, "SPIDERPOOL_SUBNET_INFORMER_WORKERS", 5, least=1),
        application_workers=read_number(
            environ, "SPIDERPOOL_SUBNET_APPLICATION_CONTROLLER_WORKERS", 5, least=1
        ),
        election=_election(environ),
        reclaim=_reclaim(environ),
        networks=_networks(environ),
        certificates=_certificates(environ),
        client_ca=Path(ca) if (ca := environ.get("SPIDERPOOL_WEBHOOK_CLIENT_CA")) else None,
        kubeconfig=environ.get("KUBECONFIG") or None,
    )


def _percent(environ: Environment, name: str, default: int) -> int:
    """Read a part of a hundred; 0 switches off what depends on it."""
    percent = read_number(environ, name, default, least=0)
    if percent > WHOLE:
        raise InvalidRequest(
            f"environment variable {name} has {percent}; it must be at most {WHOLE}"
        )
    return percent


def _election(environ: Environment) -> ElectionSettings:
    """Read the election's times; the renewal must fit into the lease."""
    election = ElectionSettings(
        duration_s=read_number(environ, "SPIDERPOOL_LEADER_DURATION", 15, least=1),
        renew_s=read_number(environ, "SPIDERPOOL_LEADER_RENEW_DEADLINE", 10, least=1),
        retry_s=read_number(environ, "SPIDERPOOL_LEADER_RETRY_PERIOD", 2, least=1),
        gap_s=read_number(environ, "SPIDERPOOL_LEADER_RETRY_GAP", 1, least=0),
    )
    if not election.retry_s < election.renew_s < election.duration_s:
        raise InvalidRequest(
            f"SPIDERPOOL_LEADER_RETRY_PERIOD={election.retry_s}, "
            f"SPIDERPOOL_LEADER_RENEW_DEADLINE={election.renew_s}, "
            f"SPIDERPOOL_LEADER_DURATION={election.duration_s}: each must be smaller than the next"
        )
    return election


def _networks(environ: Environment) -> NetworkSettings:
    """
    Read what governs coordinators and networks.

    One variable's name is the original's, letter by letter.
    """
    enabled = read_flag(environ, "SPIDERPOOL_COORDINATOR_ENABLED", default=False)
    cilium = (
        environ.get("SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME") or "kube-system/cilium-config"
    )
    namespace, slash, name = cilium.partition("/")
    if not (namespace and slash and name):
        raise InvalidRequest(
            f"SPIDERPOOL_CILIUM_CONFIGMAP_NAMESPACE_NAME has {cilium!r}; it must be namespace/name"
        )
    return NetworkSettings(
        coordinator=environ.get("SPIDERPOOL_COORDINATOR_DEAFULT_NAME") or "default"
        if enabled
        else None,
        cni_dir=Path(environ.get("SPIDERPOOL_CNI_CONFIG_DIR") or "/etc/cni/net.d"),
        cilium=(namespace, name),
        coordinator_resync_s=read_number(
            environ, "SPIDERPOOL_COORDINATOR_INFORMER_RESYNC_PERIOD", 60, least=1
        ),
        multus_configs=read_flag(environ, "SPIDERPOOL_MULTUS_CONFIG_ENABLED", default=False),
        multus_configs_resync_s=read_number(
            environ, "SPIDERPOOL_MULTUS_CONFIG_INFORMER_RESYNC_PERIOD", 60, least=1
        ),
    )


def _certificates(environ: Environment) -> CertificateSettings | None:
    """Read what governs the webhooks' certificates; none outlives the authority that signed it."""
    secret = environ.get("SPIDERPOOL_TLS_SECRET_NAME") or ""
    if not secret:
        return None
    return CertificateSettings(
        secret=secret,
        webhooks=read_required(environ, "SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME"),
        names=_words(environ, "SPIDERPOOL_TLS_DNS_NAMES") or ("localhost",),
        ips=tuple(
            _address(text, "SPIDERPOOL_TLS_IP_ADDRESSES")
            for text in _words(environ, "SPIDERPOOL_TLS_IP_ADDRESSES")
        ),
        authority_life_s=read_number(environ, "SPIDERPOOL_TLS_CA_LIFETIME", 3650 * DAY_S, least=1),
        server_life_s=read_number(environ, "SPIDERPOOL_TLS_CERT_LIFETIME", 365 * DAY_S, least=1),
    )


def _words(environ: Environment, name: str) -> tuple[str, ...]:
    """Read a list with commas in between."""
    return tuple(word.strip() for word in (environ.get(name) or "").split(",") if word.strip())


def _address(text: str, variable: str) -> IPAddress:
    try:
        return ip_address(text)
    except ValueError as error:
        raise InvalidRequest(f"environment variable {variable}: {error}") from error


def _reclaim(environ: Environment) -> ReclaimSettings:
    """Read what governs reclaim."""
    prefix = "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON"
    return ReclaimSettings(
        enabled=read_flag(environ, "SPIDERPOOL_GC_IP_ENABLED", default=True),
        scan_s=read_number(environ, "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION", 600, least=1),
        workers=read_number(environ, "SPIDERPOOL_GC_IP_WORKER_NUM", 3, least=1),
        rules=Rules(
            on_ready_node=read_flag(environ, f"{prefix}_READY_NODE_ENABLED", default=True),
            on_lost_node=read_flag(environ, f"{prefix}_NOT_READY_NODE_ENABLED", default=True),
            blank=read_flag(
                environ,
                "SPIDERPOOL_GC_ENABLE_STATELESS_RUNNING_POD_ON_EMPTY_POD_STATUS_IPS",
                default=False,
            ),
            additional_s=read_number(environ, "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY", 0, least=0),
        ),
    )
