"""
What this agent believes is held, by pool: a hint that saves lost creates, never a reason.

Own records are known from their informer; others' by losing to them, and when that happens often by
a list of the pool's records.

Source: docs/decisions/0009-agents-under-load.md.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from spiderpool.addressing.ranges import parse_record_name
from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.agent.records.cooling_records import Cooling
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.errors import SpiderpoolError
from spiderpool.kube.cluster import Change, Cluster
from spiderpool.kube.readers.pool_records import pool_selector
from spiderpool.model.pool import Pool, is_imported

LOSSES: Final = 3  # so many lost creates in one pool are worth a list
# A list costs the API server about 20 µs a record and a lost create 4 ms (decision 0009): a small
# pool, which is full soon, is worth a list more often than a large one. Waiting in a full pool is
# not.
LEAST_BETWEEN_LISTS_S: Final = 0.5
MOST_BETWEEN_LISTS_S: Final = 2.0
PER_RECORD_S: Final = 0.001
FORGET_S: Final = 30.0  # after the last loss

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Fullness:
    """What a walk that found nothing went by: the same again would find nothing again."""

    state: tuple[int, int]
    pool: Pool
    reserved: AddressSet

    def holds_for(self, other: Fullness) -> bool:
        """Return whether another walk would be the same; pools are parsed once for each version."""
        same = self.state == other.state and self.pool is other.pool
        return same and self.reserved == other.reserved


@dataclass(slots=True)
class PoolView:
    """Addresses of one pool that are believed to be taken, as numbers; a container of addresses."""

    own: set[int] = field(default_factory=set)
    trials: set[int] = field(default_factory=set)
    others: set[int] = field(default_factory=set)
    lost: dict[int, float] = field(default_factory=dict)  # learned by losing, and when
    # released: nobody's, but not free while others are
    cooling: Cooling = field(default_factory=Cooling)
    # grows whenever an address may have become free: a walk that found nothing need not be repeated
    # before
    freed: int = 0
    # whether something stopped to be believed taken without that: the next list tells
    doubtful: bool = False
    # what was known when any walk found nothing
    full: Fullness | None = None
    names: dict[str, int] = field(default_factory=dict)  # of the last list: numbers are read once
    listed_s: float = -MOST_BETWEEN_LISTS_S
    lost_s: float = 0.0
    losses: int = 0  # since the last list
    flight: asyncio.Task[None] | None = None

    @contextmanager
    def trying(self, ip: IPAddress) -> Iterator[None]:
        """Keep other claims of this agent away from an address while one tries it."""
        number = int(ip)
        self.trials.add(number)
        try:
            yield
        finally:
            self.trials.discard(number)
            self.freed += not self.has(number)

    def __contains__(self, ip: object) -> bool:
        return self.has(int(ip))  # type: ignore[call-overload]

    def has(self, number: int) -> bool:
        """
        Return whether the address of this number is believed to be taken.

        Cheaper than `in` in a walk over a full pool.
        """
        return (
            number in self.own
            or number in self.trials
            or number in self.others
            or number in self.lost
            or number in self.cooling
        )

    def __len__(self) -> int:
        return sum(
            number not in self.cooling for number in self.own | self.others | self.lost.keys()
        )

    @property
    def between_lists_s(self) -> float:
        """How long one list is good for while creates are lost."""
        return min(
            MOST_BETWEEN_LISTS_S, max(LEAST_BETWEEN_LISTS_S, PER_RECORD_S * len(self.others))
        )


class Occupancy:
    """The views of all pools that this agent takes addresses from."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        """
        Begin with knowing nothing.

        Args:
            cluster: for lists.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._clock = clock
        self._views: defaultdict[str, PoolView] = defaultdict(PoolView)
        self.epoch = 0
        # set, and replaced, each time that an address may have become free
        self.news = asyncio.Event()

    def of(self, pool: str) -> PoolView:
        """Return the view of a pool."""
        return self._views[pool]

    def expire(self, pool: str) -> None:
        """Drop what was learned of a pool long ago."""
        view = self._views[pool]
        if (view.lost or view.others) and self._clock() - view.lost_s > FORGET_S:
            view.lost.clear()
            view.others.clear()
            view.names = {}
            view.freed += 1

    def follow(self, _change: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        """
        Take in a change of this node's own records.

        A record that left may have gone to another node: it is only not known as held any more.

        Args:
            _change: what an informer's subscribers get; not needed.
            old: the record before, None when it is new.
            new: the record now, None when it is gone.
        """
        if new is None:
            if old is not None:
                view = self.of(old.spec.pool)
                view.own.discard(int(old.spec.address))
                view.cooling.drop(old)
                view.freed += 1
                self._announce()
        elif new.spec.state is IPState.COOLING:
            view = self.of(new.spec.pool)
            view.own.discard(int(new.spec.address))
            view.doubtful = True
            self.rests(new)
        else:
            view = self.of(new.spec.pool)
            view.own.add(int(new.spec.address))
            view.cooling.drop(new)

    def rests(self, record: SpiderIP) -> None:
        """Learn that an address was released on any node, and may be taken when none is free."""
        view = self.of(record.spec.pool)
        if int(record.spec.address) not in view.own and view.cooling.put(record):
            self._announce()

    def rests_no_more(self, record: SpiderIP) -> None:
        """
        Learn that a released address has ended its cool-down.

        In a full pool somebody took it, nearly always.

        So nobody walks through the pool because of that; the next list tells if it has become free.
        """
        view = self.of(record.spec.pool)
        view.cooling.drop(record)
        view.doubtful = True

    def follow_pools(
        self, _change: Change, old: SpiderIPPool | None, new: SpiderIPPool | None
    ) -> None:
        """
        Take in a change of a pool: what it gives may have changed.

        Its status, which is written all the time, does not count.

        Args:
            _change: what an informer's subscribers get; not needed.
            old: the pool before, None when it is new.
            new: the pool now, None when it is gone.
        """
        if (
            old is None
            or new is None
            or (old.spec, is_imported(old)) != (new.spec, is_imported(new))
        ):
            self.changed()

    def changed(self) -> None:
        """Learn that pools or reservations changed: a pool that was full may not be any more."""
        self.epoch += 1
        self._announce()

    def state(self, pool: str) -> tuple[int, int]:
        """Return what changes whenever an address of a pool may have become free."""
        return (self.epoch, self.of(pool).freed)

    def is_full(self, walk: Fullness) -> bool:
        """Return whether a walk would find nothing: one did, and nothing changed since."""
        known = self.of(walk.pool.name).full
        return known is not None and known.holds_for(walk)

    def found_full(self, walk: Fullness) -> None:
        """Learn that a walk found nothing."""
        self.of(walk.pool.name).full = walk

    async def lose(self, pool: str, ip: IPAddress) -> None:
        """
        Learn that somebody else has an address.

        After several losses, all who lose meanwhile wait for one list.
        """
        view = self.of(pool)
        view.lost_s = self._clock()
        view.lost[int(ip)] = view.lost_s
        view.losses += 1
        due = view.losses >= LOSSES and self._clock() - view.listed_s >= view.between_lists_s
        if due or view.flight is not None:
            await self._look(pool, view)

    def free(self, record: SpiderIP) -> None:
        """
        Learn that an address is free.

        This agent deleted its record, or saw that there is none.
        """
        view, number = self.of(record.spec.pool), int(record.spec.address)
        view.own.discard(number)
        view.others.discard(number)
        view.lost.pop(number, None)
        view.cooling.drop(record)
        view.freed += 1
        self._announce()

    async def refresh(self, pool: str) -> bool:
        """List a pool's records unless that was done just now; whether there is news."""
        view = self.of(pool)
        if view.flight is None and self._clock() - view.listed_s < MOST_BETWEEN_LISTS_S:
            return False
        await self._look(pool, view)
        return True

    async def wait(self, news: asyncio.Event, pools: Iterable[str], timeout_s: float) -> None:
        """
        Wait until an address of this node became free, or it is time to list again.

        Args:
            news: `news` as it was before the pools were found full.
            pools: their names.
            timeout_s: the longest wait.
        """
        due_s = (
            min((self.of(pool).listed_s for pool in pools), default=0.0)
            + MOST_BETWEEN_LISTS_S
            - self._clock()
        )
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(timeout_s, due_s))):
                await news.wait()

    def _announce(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def _look(self, pool: str, view: PoolView) -> None:
        """Join the list that is under way, or begin one."""
        if view.flight is None:
            view.listed_s, view.losses = self._clock(), 0
            view.flight = asyncio.create_task(self._list(pool, view))
            view.flight.add_done_callback(lambda flight: _landed(view, flight))
        await asyncio.shield(view.flight)

    async def _list(self, pool: str, view: PoolView) -> None:
        began = self._clock()
        # From the API server's memory, names only: the name says the address.
        names = await self._cluster.list_names(SpiderIP, labels=pool_selector(pool))
        before = view.others | {number for number, at in view.lost.items() if at < began}
        known = view.names
        view.names = {
            name: number
            for name in names
            if (number := known.get(name) or _number_of(name)) is not None
        }
        view.others = set(view.names.values())
        view.lost = {number: at for number, at in view.lost.items() if at >= began}
        view.lost_s = self._clock()
        # Of a full pool most lists tell nothing new, and all that wait would walk through it.
        view.freed += view.doubtful or not before <= view.others
        view.doubtful = False


def _number_of(name: str) -> int | None:
    """Return the address that a record's name stands for; None, and a line in the log, if none."""
    try:
        return int(parse_record_name(name))
    except SpiderpoolError as error:
        log.warning("object cannot be read and is passed over", name=name, reason=error.message)
        return None


def _landed(view: PoolView, flight: asyncio.Task[None]) -> None:
    """End a list; one that failed told nothing, so that the next one is due."""
    view.flight = None
    if flight.cancelled() or flight.exception() is not None:
        view.listed_s = -MOST_BETWEEN_LISTS_S
