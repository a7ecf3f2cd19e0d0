"""The controller's environment (reference ipam.md 6.1 and 7.4): names, defaults, and what to say when a value is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.errors import InvalidRequest

# The texts that Go's strconv.ParseBool takes: charts and habits rely on them.
TRUE_TEXTS: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
FALSE_TEXTS: Final = frozenset({"0", "f", "F", "false", "FALSE", "False"})
# The original's levels and their names in Python's logging.
LOG_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warn": "warning",
    "error": "error",
    "fatal": "critical",
    "panic": "critical",
}
LARGEST_PORT: Final = 65535


@dataclass(frozen=True, slots=True)
class ElectionSettings:
    """Times of the leader election, seconds."""

    duration_s: int
    renew_s: int
    retry_s: int
    gap_s: int


@dataclass(frozen=True, slots=True)
class ReclaimSettings:
    """Switches and times of reclaim; the switches for lost nodes and empty pod addresses belong to the full rules."""

    enabled: bool
    scan_s: int
    workers: int
    additional_grace_s: int
    terminating_on_ready_node: bool
    terminating_on_not_ready_node: bool
    running_without_address: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the environment decides."""

    namespace: str
    pod_name: str
    deployment_name: str
    log_level: str
    health_port: int
    metric_port: int
    webhook_port: int
    metrics: bool
    debug_metrics: bool
    metric_renew_s: int
    max_allocated_ips: int
    pool_resync_s: int
    pool_workers: int
    election: ElectionSettings
    reclaim: ReclaimSettings
    kubeconfig: str | None


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the environment; `InvalidRequest` names the variable, what it has and what it must be."""
    return Settings(
        namespace=_required(environ, "SPIDERPOOL_POD_NAMESPACE"),
        pod_name=_required(environ, "SPIDERPOOL_POD_NAME"),
        deployment_name=environ.get("SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME") or "spiderpool-controller",
        log_level=_log_level(environ),
        health_port=_port(environ, "SPIDERPOOL_HEALTH_PORT", 5720),
        metric_port=_port(environ, "SPIDERPOOL_METRIC_HTTP_PORT", 5721),
        webhook_port=_port(environ, "SPIDERPOOL_WEBHOOK_PORT", 5722),
        metrics=_flag(environ, "SPIDERPOOL_ENABLED_METRIC", False),
        debug_metrics=_flag(environ, "SPIDERPOOL_ENABLED_DEBUG_METRIC", False),
        metric_renew_s=_number(environ, "SPIDERPOOL_METRIC_RENEW_PERIOD", 120, least=1),
        max_allocated_ips=_number(environ, "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS", 5000, least=0),
        pool_resync_s=_number(environ, "SPIDERPOOL_IPPOOL_INFORMER_RESYNC_PERIOD", 300, least=1),
        pool_workers=_number(environ, "SPIDERPOOL_IPPOOL_INFORMER_WORKERS", 3, least=1),
        election=_election(environ),
        reclaim=_reclaim(environ),
        kubeconfig=environ.get("KUBECONFIG") or None,
    )


def _election(environ: Mapping[str, str]) -> ElectionSettings:
    """Read the election's times; the renewal must fit into the lease."""
    election = ElectionSettings(
        duration_s=_number(environ, "SPIDERPOOL_LEADER_DURATION", 15, least=1),
        renew_s=_number(environ, "SPIDERPOOL_LEADER_RENEW_DEADLINE", 10, least=1),
        retry_s=_number(environ, "SPIDERPOOL_LEADER_RETRY_PERIOD", 2, least=1),
        gap_s=_number(environ, "SPIDERPOOL_LEADER_RETRY_GAP", 1, least=0),
    )
    if not election.retry_s < election.renew_s < election.duration_s:
        raise InvalidRequest(
            f"SPIDERPOOL_LEADER_RETRY_PERIOD={election.retry_s}, SPIDERPOOL_LEADER_RENEW_DEADLINE={election.renew_s}, "
            f"SPIDERPOOL_LEADER_DURATION={election.duration_s}: each must be smaller than the next"
        )
    return election


def _reclaim(environ: Mapping[str, str]) -> ReclaimSettings:
    """Read what governs reclaim."""
    prefix = "SPIDERPOOL_GC_STATELESS_TERMINATING_POD_ON"
    return ReclaimSettings(
        enabled=_flag(environ, "SPIDERPOOL_GC_IP_ENABLED", True),
        scan_s=_number(environ, "SPIDERPOOL_GC_DEFAULT_INTERVAL_DURATION", 600, least=1),
        workers=_number(environ, "SPIDERPOOL_GC_IP_WORKER_NUM", 3, least=1),
        additional_grace_s=_number(environ, "SPIDERPOOL_GC_ADDITIONAL_GRACE_DELAY", 0, least=0),
        terminating_on_ready_node=_flag(environ, f"{prefix}_READY_NODE_ENABLED", True),
        terminating_on_not_ready_node=_flag(environ, f"{prefix}_NOT_READY_NODE_ENABLED", True),
        running_without_address=_flag(environ, "SPIDERPOOL_GC_ENABLE_STATELESS_RUNNING_POD_ON_EMPTY_POD_STATUS_IPS", False),
    )


def _required(environ: Mapping[str, str], name: str) -> str:
    """Read a variable that has no default."""
    value = environ.get(name, "")
    if not value:
        raise InvalidRequest(f"environment variable {name} is required and is {'empty' if name in environ else 'not set'}")
    return value


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    """Read true or false."""
    text = environ.get(name, "")
    if text in TRUE_TEXTS:
        return True
    if text in FALSE_TEXTS:
        return False
    if text:
        raise InvalidRequest(f"environment variable {name} has {text!r}; it must be true or false")
    return default


def _number(environ: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    """Read a whole number of at least `least`."""
    text = environ.get(name, "")
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise InvalidRequest(f"environment variable {name} has {text!r}; it must be a whole number") from None
    if value < least:
        raise InvalidRequest(f"environment variable {name} has {value}; it must be at least {least}")
    return value


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    """Read a TCP port; 0 lets the kernel choose one."""
    port = _number(environ, name, default, least=0)
    if port > LARGEST_PORT:
        raise InvalidRequest(f"environment variable {name} has {port}; a port is at most {LARGEST_PORT}")
    return port


def _log_level(environ: Mapping[str, str]) -> str:
    """Read the log level, in any case."""
    text = environ.get("SPIDERPOOL_LOG_LEVEL") or "info"
    level = LOG_LEVELS.get(text.lower())
    if level is None:
        raise InvalidRequest(
            f"environment variable SPIDERPOOL_LOG_LEVEL has {text!r}; it must be one of {', '.join(LOG_LEVELS)}"
        )
    return level
