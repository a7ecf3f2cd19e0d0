"""A SpiderSubnet read once, with the addresses that it has given to pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from spiderpool.addressing.ranges import parse_ranges, render_ranges
from spiderpool.addressing.sets import AddressSet, IPNetwork
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetStatus
from spiderpool.errors import InvalidRequest
from spiderpool.model.pool import NO_NETWORK, read_range, withheld

MAX_INT64: Final = 2**63 - 1
REMEMBERED: Final = 2**14  # grants


@dataclass(frozen=True, slots=True)
class Grant:
    """
    Addresses that a subnet has given to a pool; `application`.

    The application of an automatic pool, None for other pools.
    """

    ips: AddressSet
    application: str | None = None


Grants = Mapping[str, Grant]
"""Grants by the name of the pool, which may not exist yet, or not any more."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """
    What decisions need to know of a subnet.

    `text` is the CIDR as written: pools with the same text are the subnet's. `withheld` are
    addresses that no pod can have. `broken` says why the subnet cannot be read.
    """

    name: str
    uid: str
    text: str
    network: IPNetwork
    total: AddressSet
    withheld: AddressSet
    gateway: str | None
    routes: tuple[Route, ...]
    grants: Grants
    terminating: bool
    broken: str | None

    @property
    def family(self) -> int:
        """The family of its addresses."""
        return self.total.family

    @classmethod
    def parse(cls, obj: SpiderSubnet) -> Subnet:
        """
        Read the object.

        One that cannot be read gives a subnet without addresses that says so.
        """
        spec, broken = obj.spec, None
        try:
            network, gateway, total = read_range(spec)
            kept_back = withheld(network, gateway, spec.routes or ())
        except InvalidRequest as error:
            network, total, broken = (
                NO_NETWORK,
                AddressSet.empty(spec.ip_version or 4),
                error.message,
            )
            kept_back = total
        return cls(
            name=obj.metadata.name,
            uid=obj.metadata.uid,
            text=spec.subnet,
            network=network,
            total=total,
            withheld=kept_back,
            gateway=spec.gateway,
            routes=spec.routes or (),
            grants=read_grants(obj.status.controlled_ippools, total.family),
            terminating=obj.metadata.deletion_timestamp is not None,
            broken=broken,
        )

    def granted(self, except_for: Iterable[str] = ()) -> AddressSet:
        """Return all addresses that pools have, some pools left out."""
        others = set(except_for)
        spans = [
            span
            for name, grant in self.grants.items()
            if name not in others
            for span in grant.ips.spans
        ]
        return AddressSet.from_spans(self.family, spans)


def read_grants(text: str | None, family: int) -> Grants:
    """
    Read `controlledIPPools`.

    What cannot be read of it is left out, it is written again from the pools.
    """
    try:
        document: Any = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        return {}
    items = document.items() if isinstance(document, dict) else ()
    grants = {name: _grant(item, family) for name, item in items}
    return {name: grant for name, grant in grants.items() if grant is not None}


def _grant(item: object, family: int) -> Grant | None:
    """Read one entry, None when it is none."""
    fields = item if isinstance(item, dict) else {}
    ips, application = fields.get("ips") or [], fields.get("application")
    if not fields or not isinstance(ips, list) or not isinstance(application, str | None):
        return None
    try:
        return Grant(_read_ips(family, tuple(map(str, ips))), application or None)
    except InvalidRequest:
        return None


# A subnet's status is read and written whole, and all but one of its pools are as they were: what
# stays costs a look-up.
@lru_cache(REMEMBERED)
def _read_ips(family: int, items: tuple[str, ...]) -> AddressSet:
    """Read the ranges of one pool."""
    return parse_ranges(family, items)


@lru_cache(REMEMBERED)
def _render_ips(ips: AddressSet) -> tuple[str, ...]:
    """Write the ranges of one pool."""
    return tuple(render_ranges(ips))


def subnet_status(grants: Grants, total: AddressSet) -> SubnetStatus:
    """
    Make the status of a subnet.

    Pools by name, counts of what is there and of what pools have.

    Source: docs/reference/automatic-pools.md#spidersubnet.
    """
    entries = {
        name: {"ips": _render_ips(grant.ips)}
        | ({"application": grant.application} if grant.application else {})
        for name, grant in sorted(grants.items())
    }
    return SubnetStatus(
        controlled_ippools=msgspec.json.encode(entries).decode() if entries else None,
        total_ip_count=min(total.size, MAX_INT64),
        allocated_ip_count=min(sum(grant.ips.size for grant in grants.values()), MAX_INT64),
    )
