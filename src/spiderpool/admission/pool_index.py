"""Pools by what they may have in common with another one: found without a walk over all pools."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

from spiderpool.addressing.sets import AddressSet, IPNetwork, Span
from spiderpool.model.pool import Pool

K = TypeVar("K", bound=Hashable)


class PoolIndex:
    """Pools that can be read, by their networks and by their addresses."""

    def __init__(self) -> None:
        """Begin without pools."""
        self._pools: dict[str, Pool] = {}
        self._of_network: dict[IPNetwork, dict[str, None]] = {}
        self._networks: dict[int, Spans[IPNetwork]] = {4: Spans(), 6: Spans()}
        self._addresses: dict[int, Spans[str]] = {4: Spans(), 6: Spans()}

    def put(self, pool: Pool) -> None:
        """Take in a pool as it is now; one that cannot be read is in nobody's way."""
        self.drop(pool.name)
        if pool.broken is not None:
            return
        self._pools[pool.name] = pool
        if pool.subnet not in self._of_network:
            self._of_network[pool.subnet] = {}
            self._networks[pool.family].add(_span_of(pool.subnet), pool.subnet)
        self._of_network[pool.subnet][pool.name] = None
        for span in pool.total.spans:
            self._addresses[pool.family].add(span, pool.name)

    def drop(self, name: str) -> None:
        """Forget a pool."""
        pool = self._pools.pop(name, None)
        if pool is None:
            return
        names = self._of_network[pool.subnet]
        del names[name]
        if not names:
            del self._of_network[pool.subnet]
            self._networks[pool.family].remove(_span_of(pool.subnet), pool.subnet)
        for span in pool.total.spans:
            self._addresses[pool.family].remove(span, name)

    def of_network(self, network: IPNetwork) -> list[Pool]:
        """Return the pools of exactly this network."""
        return [self._pools[name] for name in self._of_network.get(network, ())]

    def overlapping(self, network: IPNetwork) -> list[Pool]:
        """Return the pools of networks that overlap this one without being the same."""
        others = self._networks[network.version].touching(_span_of(network))
        return [pool for other in others if other != network for pool in self.of_network(other)]

    def sharing(self, addresses: AddressSet) -> list[Pool]:
        """Return the pools that have one of these addresses."""
        spans = self._addresses[addresses.family]
        names = dict.fromkeys(name for span in addresses.spans for name in spans.touching(span))
        return [self._pools[name] for name in names]


class Spans(Generic[K]):
    """
    Intervals with their owners, sorted by their beginnings.

    Beside them the farthest end so far: a search goes back only as long as something before may
    still reach into it. Intervals of pools are disjoint, nearly always, so that it ends at once.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self._spans: list[tuple[int, int]] = []
        self._owners: dict[Span, dict[K, None]] = {}
        self._reach: list[int] = []  # correct as far as it goes

    def add(self, span: Span, owner: K) -> None:
        """Note that somebody has an interval."""
        owners = self._owners.get(span)
        if owners is None:
            owners = self._owners[span] = {}
            del self._reach[bisect_left(self._spans, span) :]
            insort(self._spans, span)
        owners[owner] = None

    def remove(self, span: Span, owner: K) -> None:
        """Note that somebody does not have it any more."""
        owners = self._owners[span]
        del owners[owner]
        if not owners:
            del self._owners[span]
            index = bisect_left(self._spans, span)
            del self._spans[index]
            del self._reach[index:]

    def touching(self, span: Span) -> Iterator[K]:
        """
        Return who has an interval that has something in common with this one.

        A pool with several comes several times.
        """
        low, high = span
        index = bisect_right(self._spans, high, key=_first)
        self._extend(index)
        while index > 0 and self._reach[index - 1] >= low:
            index -= 1
            found = self._spans[index]
            if found[1] >= low:
                yield from self._owners[found]

    def _extend(self, count: int) -> None:
        """Bring the farthest ends of the first so many intervals up to date."""
        for _, high in self._spans[len(self._reach) : count]:
            self._reach.append(max(high, self._reach[-1]) if self._reach else high)


def _first(span: Span) -> int:
    return span[0]


def _span_of(network: IPNetwork) -> Span:
    return (int(network.network_address), int(network.broadcast_address))
