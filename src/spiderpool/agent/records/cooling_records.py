"""
Released addresses that rest, and which of them an ADD takes when nothing else is free.

The one that has rested longest comes first. Many are released within one second, and all agents see
the same: within a second each claim goes its own way, so that claims of different nodes rarely
meet.

Source: docs/reference/release-and-reclaim.md#rest.
"""

from __future__ import annotations

from zlib import crc32

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.kube.informer_store import version


class Cooling:
    """The Cooling records of one pool, by the number of their address."""

    def __init__(self) -> None:
        self._records: dict[int, SpiderIP] = {}
        self._by_second: dict[str, dict[int, None]] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, number: int) -> bool:
        return number in self._records

    def put(self, record: SpiderIP) -> bool:
        """Take in a record, unless a later state of it is known; whether it is news."""
        number = int(record.spec.address)
        known = self._records.get(number)
        if known is not None and version(known.metadata.resource_version) >= version(
            record.metadata.resource_version
        ):
            return False
        self._drop(number)
        self._records[number] = record
        self._by_second.setdefault(record.spec.state_since or "", {})[number] = None
        return True

    def drop(self, record: SpiderIP) -> None:
        """
        Forget a record that is not in this state any more.

        A later one of the same address stays.
        """
        number = int(record.spec.address)
        known = self._records.get(number)
        if known is not None and version(known.metadata.resource_version) <= version(
            record.metadata.resource_version
        ):
            self._drop(number)

    def take(self, usable: AddressSet, reserved: AddressSet, seed: bytes) -> SpiderIP | None:
        """
        Take out the record whose address a claim should take over.

        Args:
            usable: addresses that the pool gives now; it may have shrunk since the release.
            reserved: of the pool's family, bound by SpiderReservedIPs.
            seed: the claim's own; decides among those released in the same second.
        Returns:
            None when no record fits.
        """
        start = crc32(seed)
        for second in sorted(self._by_second):
            fitting = [
                number
                for number in self._by_second[second]
                if usable.has(number) and not reserved.has(number)
            ]
            if fitting:
                return self._drop(fitting[start % len(fitting)])
        return None

    def _drop(self, number: int) -> SpiderIP | None:
        record = self._records.pop(number, None)
        if record is not None:
            second = record.spec.state_since or ""
            numbers = self._by_second[second]
            del numbers[number]
            if not numbers:
                del self._by_second[second]
        return record
