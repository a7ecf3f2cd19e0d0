"""What SpiderReservedIPs reserve."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import parse_address, parse_ranges
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.model.reserved import read_reserved

BAD = ("10.6.0.0/24", "10.6.0.9-10.6.0.1", "10.6.0.1-fd00::1", "", "nonsense", "fe80::1%eth0")
GOOD_4, GOOD_6 = ("10.6.0.10", "10.6.0.12-10.6.0.14"), ("fd00::10", "fd00::20-fd00::2f")


def reservation(*items: str, name: str = "r", deleted: str | None = None) -> SpiderReservedIP:
    """Make a SpiderReservedIP."""
    return SpiderReservedIP(
        metadata=ObjectMeta(name=name, deletion_timestamp=deleted), spec=ReservedIPSpec(ips=items)
    )


@given(st.lists(st.lists(st.sampled_from((*BAD, *GOOD_4, *GOOD_6)), max_size=6), max_size=4))
def test_a_bad_item_is_skipped_alone(objects: list[list[str]]) -> None:
    """Law: the good items are reserved whatever stands beside them; each bad item is told."""
    found = read_reserved(reservation(*items) for items in objects)
    items = [item for each in objects for item in each]

    assert parse_ranges(4, [item for item in items if item in GOOD_4]) == found.by_family[4]
    assert parse_ranges(6, [item for item in items if item in GOOD_6]) == found.by_family[6]
    assert sum(item in BAD for item in items) == len(found.unreadable)


def test_the_sentence_about_a_bad_item() -> None:
    """Object, item, what to write and the effect are named."""
    (sentence,) = read_reserved(
        [reservation("10.6.0.10", "10.6.0.0/24", name="gateways")]
    ).unreadable

    assert (
        'SpiderReservedIP gateways: "10.6.0.0/24" is not an IPv4 range: write one address (A) or a range (A-B), '
        "without blanks and not as CIDR; this item reserves nothing"
    ) == sentence


def test_an_object_that_is_being_deleted() -> None:
    """
    It reserves nothing, and its bad items are nobody's trouble any more.

    Source: docs/reference/objects.md#spiderreservedip.
    """
    found = read_reserved([reservation("10.6.0.10", "x", deleted="2024-01-01T00:00:00Z")])

    assert parse_address("10.6.0.10") not in found.by_family[4]
    assert () == found.unreadable
