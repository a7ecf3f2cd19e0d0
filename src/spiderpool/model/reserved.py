"""The addresses of SpiderReservedIPs, read once: no pool may hand them out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from spiderpool.addressing.ranges import family_of, parse_range
from spiderpool.addressing.sets import AddressSet, Span
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Reserved:
    """
    All reserved addresses.

    `by_family`: both families have a key. `unreadable`: one sentence for each item that reserves
    nothing because it cannot be read; the webhook refuses such items where it is installed.
    """

    by_family: Mapping[int, AddressSet] = field(
        default_factory=lambda: {4: AddressSet.empty(4), 6: AddressSet.empty(6)}
    )
    unreadable: tuple[str, ...] = ()


def read_reserved(objects: Iterable[SpiderReservedIP]) -> Reserved:
    """
    Join SpiderReservedIPs; an object that is being deleted reserves nothing.

    An item that cannot be read is skipped alone: the other items of its object stay reserved.
    """
    spans: dict[int, list[Span]] = {4: [], 6: []}
    unreadable = []
    for obj in objects:
        if obj.metadata.deletion_timestamp is not None:
            continue
        for item in obj.spec.ips:
            try:
                family = family_of(item)
                spans[family].append(parse_range(family, item))
            except InvalidRequest as error:
                unreadable.append(
                    f"SpiderReservedIP {obj.metadata.name}: {error.message}; this item reserves "
                    "nothing"
                )
    return Reserved(
        {family: AddressSet.from_spans(family, found) for family, found in spans.items()},
        tuple(unreadable),
    )
