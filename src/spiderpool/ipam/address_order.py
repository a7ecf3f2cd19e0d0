"""In which order a claim tries the addresses of a pool."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from math import isqrt

from spiderpool.addressing.permutation import Permutation
from spiderpool.addressing.sets import AddressSet, IPAddress, address
from spiderpool.model.claim import ClaimKey
from spiderpool.model.pool import Pool

# reservations that leave less than one address in so many are taken out before the walk, not during
# it
SPARSE = 64


def candidates(
    pool: Pool,
    reserved: AddressSet,
    key: ClaimKey,
    taken: Container[IPAddress],
    wanted: Sequence[IPAddress] = (),
) -> Iterator[IPAddress]:
    """
    Walk the free addresses of a pool in an order of the claim's own.

    Args:
        pool: its gateway and excluded addresses are never given.
        reserved: addresses of SpiderReservedIPs, of the pool's family.
        key: who asks; seeds the order.
        taken: addresses known as held, of the pool's family; may grow while the walk goes on. One
        with a method
            `has(number)`, as `AddressSet`, is asked by number, which is cheaper.
        wanted: exact addresses; when there are any, no other is given.
    Returns:
        Each address once, in an order that depends on key and pool alone, not on what is free: a
        repeated ADD meets the same addresses, and callers with different keys rarely meet.
    Source: KEP-1880, "allocation": different callers must try different addresses.
    """
    if wanted:
        return (ip for ip in wanted if ip in pool.usable and ip not in reserved and ip not in taken)
    base = pool.usable
    if reserved and (base - reserved).size * SPARSE < base.size:
        base -= reserved
    if not base:
        return iter(())
    order = Permutation.seeded(base.size, key.seed)
    free = _few_free(base, reserved, taken)
    return _walk(base, order, reserved, taken) if free is None else _jump(base, order, free)


def _walk(
    base: AddressSet, order: Permutation, reserved: AddressSet, taken: Container[IPAddress]
) -> Iterator[IPAddress]:
    """Go through all positions and leave out what is not free."""
    numbers = (number for number in map(base.number_at, order) if not reserved.has(number))
    has: Callable[[int], bool] | None = getattr(taken, "has", None)
    # an address object is made only for what is free: in a full pool that halves the walk
    if has is not None:
        return (address(base.family, number) for number in numbers if not has(number))
    return (ip for ip in (address(base.family, number) for number in numbers) if ip not in taken)


def _jump(base: AddressSet, order: Permutation, free: AddressSet) -> Iterator[IPAddress]:
    """Go through the few free addresses only, in the order in which the walk would meet them."""
    for _, position in sorted(order.indexed(map(base.position, free))):
        yield base.at(position)


def _few_free(
    base: AddressSet, reserved: AddressSet, taken: Container[IPAddress]
) -> AddressSet | None:
    """
    Return the free addresses when they are so few that jumping to them is cheaper than walking.

    Of n addresses f are free: a walk takes n/f steps to the first one, jumping takes f. Below the
    square root of n, jump.
    """
    few = isqrt(base.size)
    if isinstance(taken, AddressSet):
        count = taken.size
    elif isinstance(taken, set | frozenset | dict):
        count = len(taken)
    else:
        return None
    if base.size - count - reserved.size > few:
        return None
    free = (
        base
        - reserved
        - (taken if isinstance(taken, AddressSet) else _family_set(taken, base.family))
    )
    return free if free.size <= few else None


def _family_set(ips: Iterable[IPAddress], family: int) -> AddressSet:
    """Make a set of the addresses of one family."""
    kind = IPv4Address if family == 4 else IPv6Address  # noqa: PLR2004
    return AddressSet.of([ip for ip in ips if isinstance(ip, kind)], family)
