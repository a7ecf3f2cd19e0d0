"""
Keys in the JSON of a pod's annotations that nobody reads.

An ADD passes over them, as the original does: it must not depend on a name that a later version
knows. So they are told when a pod is applied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from spiderpool.api.crd.group import (
    ANNO_DEFAULT_NETWORK,
    ANNO_IP,
    ANNO_IPPOOL,
    ANNO_IPPOOLS,
    ANNO_NETWORKS,
    ANNO_ROUTES,
    ANNO_SUBNET,
    ANNO_SUBNETS,
)

_NETWORK: Final = (
    *("name", "namespace", "interface", "interfaceRequest", "ips", "mac", "infiniband-guid"),
    *("portMappings", "bandwidth", "default-route", "cni-args", "deviceID"),
    "ipam-claim-reference",  # of the standard; Multus does not read it either
)
KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    ANNO_SUBNETS: ("interface", "ipv4", "ipv6"),
    ANNO_SUBNET: ("interface", "ipv4", "ipv6"),
    ANNO_IPPOOLS: ("interface", "ipv4", "ipv6", "cleangateway"),
    ANNO_IPPOOL: ("ipv4", "ipv6"),
    ANNO_IP: ("interface", "ipv4", "ipv6"),
    ANNO_ROUTES: ("dst", "gw"),
    ANNO_NETWORKS: _NETWORK,
    ANNO_DEFAULT_NETWORK: _NETWORK,
}


def unknown_keys(annotations: Mapping[str, str]) -> Iterator[str]:
    """Say which keys nobody reads, a sentence for each annotation; letter case does not matter."""
    for annotation, known in KNOWN.items():
        names = {name.lower() for name in known}
        found = sorted(
            {key for key in _keys(annotations.get(annotation, "")) if key.lower() not in names}
        )
        if found:
            yield (
                f"annotation {annotation}: {', '.join(found)} is ignored; known are "
                f"{', '.join(known)}"
            )


def _keys(text: str) -> Iterator[str]:
    """Walk the keys of an object, or of a list of objects; text that is neither has none."""
    try:
        value = msgspec.json.decode(text) if text else None
    except (msgspec.DecodeError, RecursionError):
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            yield from item
