"""
The agent's environment.

Names, defaults, and what to say when a value is wrong.

Source: docs/reference/configuration.md#agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spiderpool.configuration.environment import (
    read_flag,
    read_log_level,
    read_number,
    read_port,
    read_required,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """
    All that the environment decides.

    `default_network` is the network that pods have on eth0 when nothing else is said, for pools
    with `multusName`; None where no meta plugin is set up. `pool_wait_s`: how long an ADD waits for
    its automatic pool, seconds. `kubeconfig` None = credentials of the pod that the agent runs in.
    """

    namespace: str
    pod_name: str
    node: str
    log_level: str
    health_port: int
    metric_port: int
    metrics: bool
    release_conflict_ips: bool
    reclaim: bool
    pool_wait_s: float
    default_network: str | None
    kubeconfig: str | None
    version: str


def read_settings(environ: Mapping[str, str]) -> Settings:
    """
    Read the environment.

    `InvalidRequest` names the variable, what it has and what it must be.
    """
    return Settings(
        namespace=read_required(environ, "SPIDERPOOL_POD_NAMESPACE"),
        pod_name=read_required(environ, "SPIDERPOOL_POD_NAME"),
        node=read_required(environ, "SPIDERPOOL_NODE_NAME"),
        log_level=read_log_level(environ, "SPIDERPOOL_LOG_LEVEL"),
        health_port=read_port(environ, "SPIDERPOOL_HEALTH_PORT", 5710),
        metric_port=read_port(environ, "SPIDERPOOL_METRIC_HTTP_PORT", 5711),
        metrics=read_flag(environ, "SPIDERPOOL_ENABLED_METRIC", default=False),
        release_conflict_ips=read_flag(
            environ, "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS", default=True
        ),
        reclaim=read_flag(environ, "SPIDERPOOL_GC_IP_ENABLED", default=True),
        pool_wait_s=float(
            read_number(environ, "SPIDERPOOL_WAIT_SUBNET_POOL_TIME_IN_SECOND", 2, least=0)
            * read_number(environ, "SPIDERPOOL_WAIT_SUBNET_POOL_MAX_RETRIES", 25, least=0)
        ),
        default_network=environ.get("MULTUS_CLUSTER_NETWORK") or None,
        kubeconfig=environ.get("KUBECONFIG") or None,
        version=environ.get("VERSION") or "",
    )
