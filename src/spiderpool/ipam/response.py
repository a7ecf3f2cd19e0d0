"""
The answer to an ADD in the original's form, rendered from the records that the pod holds.

Source: docs/reference/allocation.md#answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.configuration.config import Features
from spiderpool.ipam.pod_routes import answered_routes
from spiderpool.model.pool import Pool


class AnswerIP(msgspec.Struct, rename="camel", omit_defaults=True, frozen=True, kw_only=True):
    """One address on one NIC."""

    address: str
    version: int
    nic: str
    ip_pool: str
    gateway: str | None = None
    vlan: int | None = None
    mac: str | None = None
    enable_ip_conflict_detection: bool = msgspec.field(
        default=False, name="enableIPConflictDetection"
    )
    enable_gateway_detection: bool = False


class AnswerRoute(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """One route on one NIC."""

    if_name: str
    dst: str
    gw: str


class IpamAddResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer; both keys are always there, null when there is nothing to say."""

    ips: tuple[AnswerIP, ...] | None
    routes: tuple[AnswerRoute, ...] | None


def detections(
    record: SpiderIP, features: Features, pools: Mapping[str, Pool]
) -> tuple[bool, bool]:
    """
    Return whether an address is probed for conflicts, and its gateway for an answer.

    Args:
        record: of the address.
        features: what the cluster's configuration says.
        pools: by name; what the address' pool says wins.
    """
    pool = pools.get(record.spec.pool)
    conflict = None if pool is None else pool.conflict_detection
    gateway = None if pool is None else pool.gateway_detection
    return (
        features.enable_ip_conflict_detection if conflict is None else conflict,
        features.enable_gateway_detection if gateway is None else gateway,
    )


def render_answer(
    records: Iterable[SpiderIP],
    features: Features,
    pools: Mapping[str, Pool] = MappingProxyType({}),
) -> IpamAddResponse:
    """
    Return the answer to an ADD: eth0 first, then NICs by name, IPv4 before IPv6.

    Args:
        records: of all NICs of the pod.
        features: switches of detection.
        pools: by name; their switches of detection win.
    Returns:
        Addresses and routes; of an address its own routes before the default.
    """
    ordered = sorted_records(records)
    return IpamAddResponse(
        ips=tuple(_ip(record, *detections(record, features, pools)) for record in ordered) or None,
        routes=tuple(
            AnswerRoute(if_name=record.spec.holder.nic, dst=route.dst, gw=route.gw)
            for record in ordered
            for route in answered_routes(record.spec)
        )
        or None,
    )


def sorted_records(records: Iterable[SpiderIP]) -> list[SpiderIP]:
    """Sort by NIC (`eth0` first, numbers by value: net2 before net10) and family."""
    return sorted(
        records, key=lambda record: (_nic_order(record.spec.holder.nic), record.spec.family)
    )


def _ip(record: SpiderIP, conflict_detection: bool, gateway_detection: bool) -> AnswerIP:
    """Render one address."""
    spec = record.spec
    return AnswerIP(
        address=f"{spec.ip}/{spec.prefix_length}",
        version=spec.family,
        nic=spec.holder.nic,
        ip_pool=spec.pool,
        gateway=spec.gateway,
        enable_ip_conflict_detection=conflict_detection,
        enable_gateway_detection=gateway_detection,
    )


def _nic_order(nic: str) -> tuple[bool, list[tuple[str, int]]]:
    """Sort key of a NIC's name."""
    parts = re.findall(r"(\D*)(\d*)", nic)
    return nic != "eth0", [(text, int(number or -1)) for text, number in parts]
