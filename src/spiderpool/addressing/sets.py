"""
Sets of addresses as sorted intervals of integers.

An IPv6 /64 is one interval, and no operation makes a list of addresses.

What text looks like belongs to `ranges`, what a pool is to `model`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Final

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
IPInterface = IPv4Interface | IPv6Interface
Span = tuple[int, int]  # first and last address, both inside

BITS: Final = {4: 32, 6: 128}
FAMILY: Final[dict[type[IPAddress], int]] = {IPv4Address: 4, IPv6Address: 6}


def address(family: int, number: int) -> IPAddress:
    """Return the address of a family that has this number."""
    return IPv4Address(number) if family == 4 else IPv6Address(number)  # noqa: PLR2004


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort intervals and join those that overlap or touch."""
    result: list[Span] = []
    for low, high in sorted(spans):
        if result and low <= result[-1][1] + 1:
            if high > result[-1][1]:
                result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return tuple(result)


def _runs(numbers: Iterable[int]) -> tuple[Span, ...]:
    """Join sorted distinct numbers into intervals."""
    result: list[Span] = []
    first = last = -2
    for number in numbers:
        if number != last + 1:
            if last >= 0:
                result.append((first, last))
            first = number
        last = number
    if last >= 0:
        result.append((first, last))
    return tuple(result)


@dataclass(frozen=True, slots=True)
class AddressSet:
    """
    A set of addresses of one family.

    `family` is 4 or 6. `spans` are sorted, disjoint and do not touch, so equal sets have equal
    spans; use `of`, `network` and `from_spans` to build from anything else. Positions count the
    addresses from the lowest, starting at 0.
    """

    family: int
    spans: tuple[Span, ...]
    # may exceed what `len` can say (2**63 - 1)
    size: int = field(init=False, compare=False, repr=False)
    _lows: tuple[int, ...] = field(init=False, compare=False, repr=False)
    # position of each span's first address
    _positions: tuple[int, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.family not in BITS:
            raise ValueError(f"family {self.family} is neither 4 nor 6")
        limit, position, previous = 1 << BITS[self.family], 0, -2
        positions: list[int] = []
        for low, high in self.spans:
            if not previous + 1 < low <= high < limit:
                raise ValueError(
                    f"spans of family {self.family} out of order or range at ({low}, {high})"
                )
            positions.append(position)
            position += high - low + 1
            previous = high
        object.__setattr__(self, "size", position)
        object.__setattr__(self, "_lows", tuple(low for low, _ in self.spans))
        object.__setattr__(self, "_positions", tuple(positions))

    @classmethod
    def empty(cls, family: int) -> AddressSet:
        """Return the set without addresses."""
        return cls(family, ())

    @classmethod
    def from_spans(cls, family: int, spans: Iterable[Span]) -> AddressSet:
        """Build from intervals in any order; they may overlap."""
        return cls(family, merged(spans))

    @classmethod
    def of(cls, ips: Iterable[IPAddress], family: int | None = None) -> AddressSet:
        """Build from single addresses; `family` is needed only when there may be none."""
        items = list(ips)
        families = {kind: FAMILY[kind] for kind in set(map(type, items))}
        if family is None:
            if not items:
                raise ValueError("the family of no addresses is unknown: name it")
            family = items[0].version
        if set(families.values()) - {family}:
            raise ValueError(f"addresses of both families, or not of family {family}")
        return cls(family, _runs(sorted(set(map(int, items)))))

    @classmethod
    def network(cls, network: IPNetwork) -> AddressSet:
        """Build from a network: all its addresses, the first and the last included."""
        return cls(
            network.version, ((int(network.network_address), int(network.broadcast_address)),)
        )

    def __bool__(self) -> bool:
        return bool(self.spans)

    def __iter__(self) -> Iterator[IPAddress]:
        return (
            address(self.family, number)
            for low, high in self.spans
            for number in range(low, high + 1)
        )

    def __contains__(self, ip: object) -> bool:
        return (
            isinstance(ip, IPv4Address | IPv6Address)
            and ip.version == self.family
            and self.has(int(ip))
        )

    def has(self, number: int) -> bool:
        """Return whether the address of this number is inside; cheaper than `in` in loops."""
        index = bisect_right(self._lows, number) - 1
        return index >= 0 and number <= self.spans[index][1]

    def number_at(self, position: int) -> int:
        """Return the number of the address at a position."""
        if not 0 <= position < self.size:
            raise IndexError(f"position {position} in a set of {self.size} addresses")
        index = bisect_right(self._positions, position) - 1
        return self._lows[index] + position - self._positions[index]

    def at(self, position: int) -> IPAddress:
        """Return the address at a position."""
        return address(self.family, self.number_at(position))

    def position(self, ip: IPAddress) -> int:
        """Return the position of an address, which must be inside."""
        if ip not in self:
            raise ValueError(f"{ip} is not in the set")
        number = int(ip)
        index = bisect_right(self._lows, number) - 1
        return self._positions[index] + number - self._lows[index]

    def __or__(self, other: AddressSet) -> AddressSet:
        self._check_family(other)
        return AddressSet(self.family, merged((*self.spans, *other.spans)))

    def __and__(self, other: AddressSet) -> AddressSet:
        self._check_family(other)
        return AddressSet(self.family, tuple(_common(self.spans, other.spans)))

    def __sub__(self, other: AddressSet) -> AddressSet:
        self._check_family(other)
        return AddressSet(
            self.family, tuple(_common(self.spans, _gaps(other.spans, 1 << BITS[self.family])))
        )

    def overlaps(self, other: AddressSet) -> bool:
        """Return whether an address is in both."""
        self._check_family(other)
        return next(_common(self.spans, other.spans), None) is not None

    def issubset(self, other: AddressSet) -> bool:
        """Return whether every address of this set is in the other."""
        return not self - other

    def _check_family(self, other: AddressSet) -> None:
        if self.family != other.family:
            raise ValueError(f"a set of IPv{self.family} meets a set of IPv{other.family}")


def _common(left: Iterable[Span], right: Iterable[Span]) -> Iterator[Span]:
    """Walk two sorted lists of intervals and give what is in both."""
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a is not None and b is not None:
        low, high = max(a[0], b[0]), min(a[1], b[1])
        if low <= high:
            yield low, high
        if a[1] < b[1]:
            a = next(lefts, None)
        else:
            b = next(rights, None)


def _gaps(spans: Iterable[Span], limit: int) -> Iterator[Span]:
    """Return the intervals below `limit` that sorted intervals leave out."""
    start = 0
    for low, high in spans:
        if start < low:
            yield start, low - 1
        start = high + 1
    if start < limit:
        yield start, limit - 1
