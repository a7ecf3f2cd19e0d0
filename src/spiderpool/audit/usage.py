"""What became of the addresses of a pool, in numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.model.pool import Pool

RELAX_PERCENT: Final = 5


class Usage(msgspec.Struct, frozen=True, rename="camel"):
    """
    The addresses of one pool by what became of them.

    `held`, `cooling` and `quarantined` count records, also of addresses that the pool does not have
    any more. `reserved` are those without a record. `unfit` are those that no pod of the subnet can
    have, beside the gateway. `free` is what an ADD may take.
    """

    pool: str
    total: int
    held: int
    cooling: int
    quarantined: int
    reserved: int
    gateway: int
    free: int
    unfit: int = 0

    @property
    def words(self) -> str:
        """The numbers as a sentence's part; what is zero is left out."""
        named = {
            "cooling": self.cooling,
            "quarantined": self.quarantined,
            "reserved": self.reserved,
            "gateway": self.gateway,
            "of no host": self.unfit,
        }
        others = "".join(f", {number} {word}" for word, number in named.items() if number)
        return f"{self.held} held{others}, {self.free} free, of {self.total}"


def count_usage(pool: Pool, records: Iterable[SpiderIP], reserved: AddressSet) -> Usage:
    """
    Count.

    Args:
        pool: the pool.
        records: its records, in any state.
        reserved: addresses of SpiderReservedIPs, of the pool's family.
    """
    states, taken = [], []
    for record in records:
        states.append(record.spec.state)
        taken.append(record.spec.address)
    withheld = pool.usable & reserved
    gateway = int(pool.gateway in pool.total)
    here = [ip for ip in taken if ip in pool.usable]
    return Usage(
        pool=pool.name,
        total=pool.total.size,
        held=states.count(IPState.HELD),
        cooling=states.count(IPState.COOLING),
        quarantined=states.count(IPState.QUARANTINED),
        reserved=withheld.size - sum(ip in withheld for ip in here),
        gateway=gateway,
        unfit=pool.total.size - pool.usable.size - gateway,
        free=pool.usable.size - withheld.size - sum(ip not in withheld for ip in here),
    )


def is_nearly_full(held: int, total: int, percent: int, *, was: bool) -> bool:
    """
    Return whether a pool counts as nearly full.

    Args:
        held: addresses that somebody holds.
        total: all addresses of the pool.
        percent: from which part on; 0 = never.
        was: whether it counted so before: then it does until it is `RELAX_PERCENT` points below, so
            that there is no Event for each pod.
    """
    if not percent or not total:
        return False
    limit = max(1, percent - RELAX_PERCENT) if was else percent
    return held * 100 >= limit * total
