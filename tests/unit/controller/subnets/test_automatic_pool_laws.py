"""Laws of automatic pools over any sequence of what users, pods and crashes do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import combinations
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.workloads import Deployment
from spiderpool.controller.pools.pool_claims import STALE_S
from spiderpool.model.pool import Pool
from tests import virtual_time
from tests.unit.controller.conftest import make_pool, make_record
from tests.unit.controller.desk import NUMBER, SUBNET, Desk

UIDS = {"web": "00000000-0000-0000-0000-aaaaaaaaaaaa", "db": "00000000-0000-0000-0000-bbbbbbbbbbbb"}
APPS, SUBNETS = st.sampled_from(["web", "db"]), st.sampled_from(["s1", "s2"])

Step = tuple[str, tuple[Any, ...]]

STEPS: st.SearchStrategy[Step] = st.one_of(
    st.tuples(
        st.just("scale"),
        st.tuples(APPS, st.integers(0, 5), SUBNETS, st.sampled_from([None, "+0", "+2", "3"])),
    ),
    st.tuples(st.just("delete"), st.tuples(APPS)),
    st.tuples(st.just("claim"), st.tuples(st.integers(0, 30))),
    st.tuples(st.just("release"), st.tuples(st.integers(0, 30))),
    st.tuples(st.just("reserve"), st.tuples(st.integers(10, 19))),
    st.tuples(st.just("by_hand"), st.tuples(st.integers(10, 17))),
    st.tuples(st.just("work"), st.tuples(st.integers(1, 2))),
    st.tuples(st.just("crash"), st.tuples(st.integers(0, 6))),
)


class Life:
    """
    What happens to the cluster of a desk.

    Each step is one that the API server, with its webhooks, would allow.
    """

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.number = 0
        # the pools as agents know them: before the last step, so some seconds late
        self.seen: list[Pool] = []
        desk.cluster.on_write(lambda _: self.check_always())

    async def scale(self, app: str, replicas: int, subnet: str, number: str | None) -> None:
        """A user makes an application, or changes its size, its subnet, its number."""
        annotations: dict[str, Any] = {SUBNET: {"ipv4": [subnet]}}
        self.desk.app(
            app,
            replicas,
            annotations if number is None else {**annotations, NUMBER: number},
            uid=UIDS[app],
        )

    async def delete(self, app: str) -> None:
        """A user deletes an application, whose pods stay for now."""
        if any(found.metadata.name == app for found in self.desk.cluster.all(Deployment)):
            self.desk.cluster.drop(Deployment, app, "ns")

    async def claim(self, position: int) -> None:
        """An agent, whose view of the pools is late, gives a pod a free address of a pool that is not being deleted."""
        there = {pool.name for pool in self.pools() if not pool.terminating}
        free = [
            (pool.name, ip)
            for pool in self.seen
            if pool.name in there
            for ip in pool.total
            - AddressSet.of([record.spec.address for record in self.desk.cluster.all(SpiderIP)], 4)
        ]
        if free:
            self.number += 1
            pool, ip = free[position % len(free)]
            self.desk.cluster.seed(
                make_record(str(ip), f"p{self.number}", f"p{self.number}", pool=pool)
            )

    async def release(self, position: int) -> None:
        """A pod ends."""
        held = self.held()
        if held:
            self.desk.cluster.drop(SpiderIP, held[position % len(held)].metadata.name)

    async def reserve(self, last: int) -> None:
        """A user reserves an address."""
        spec = ReservedIPSpec(ip_version=4, ips=(f"10.6.0.{last}",))
        self.desk.cluster.seed(SpiderReservedIP(metadata=ObjectMeta(name=f"r{last}"), spec=spec))

    async def by_hand(self, last: int) -> None:
        """A user makes a pool of two addresses, unless the webhook would refuse it."""
        pool = make_pool(f"hand{last}", ips=(f"10.6.0.{last}-10.6.0.{last + 1}",))
        mine = Pool.parse(pool).total
        granted = any(mine.overlaps(grant.ips) for grant in self.desk.grants("s1").values())
        if not granted and not any(
            other.family == 4 and mine.overlaps(other.total) for other in self.pools()
        ):
            self.desk.cluster.seed(pool)

    async def work(self, rounds: int) -> None:
        """The leader has some time."""
        await self.desk.settle(rounds)

    async def crash(self, writes: int) -> None:
        """The leader ends after so many writes, and another one begins."""
        self.desk.writes = writes
        await self.desk.settle(2)
        self.desk.writes = None
        await self.desk.lead()

    def pools(self) -> list[Pool]:
        """Return all pools."""
        return [Pool.parse(pool) for pool in self.desk.cluster.all(SpiderIPPool)]

    def held(self) -> list[SpiderIP]:
        """Return the records of pods."""
        return [
            record
            for record in self.desk.cluster.all(SpiderIP)
            if record.spec.holder.kind is not HolderKind.POOL
        ]

    def check_always(self) -> None:
        """Two pools never share an address, and no pod's address is outside of its pool."""
        pools = self.pools()
        for one, other in combinations(pools, 2):
            assert not one.total.overlaps(other.total), (
                f"{one.name} and {other.name} share addresses"
            )
        totals = {pool.name: pool.total for pool in pools}
        for record in self.held():
            assert record.spec.address in totals[record.spec.pool], (
                f"{record.spec.ip} is outside of {record.spec.pool}"
            )

    def check_at_rest(self) -> None:
        """
        Each application has one pool of its size where it fits.

        Nothing is granted or claimed for nobody.
        """
        pools, apps = self.pools(), self.desk.cluster.all(Deployment)
        assert [] == self.desk.claims()
        grants = {
            name: grant.ips
            for subnet in ("s1", "s2")
            for name, grant in self.desk.grants(subnet).items()
        }
        assert {pool.name: pool.total for pool in pools} == grants
        held = {record.spec.pool for record in self.held()}
        alive = {app.metadata.uid for app in apps}
        for pool in pools:
            assert (
                pool.place is None
                or pool.application_uid in alive
                or (pool.terminating and pool.name in held)
            )
        for app in apps:
            mine = [
                pool
                for pool in pools
                if pool.application_uid == app.metadata.uid and pool.name not in held
            ]
            assert len(mine) <= 1


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(STEPS, max_size=14))
@example(
    [
        ("scale", ("web", 0, "s1", None)),
        ("scale", ("db", 0, "s2", None)),
        ("crash", (3,)),
        ("scale", ("db", 0, "s1", None)),
    ]
)
def test_laws(steps: list[Step]) -> None:
    """
    Whatever users, pods and crashes do, in any order.

    See `check_always` after each step and `check_at_rest` at the end.
    """
    virtual_time.run(_live(steps))


async def _live(steps: list[Step]) -> None:
    async with Desk() as desk:
        desk.subnet()
        desk.subnet("s2", "10.7.0.0/16", "10.7.0.10-10.7.0.19")
        await desk.lead()
        life = Life(desk)
        for name, arguments in steps:
            act: Callable[..., Awaitable[None]] = getattr(life, name)
            seen = life.pools()
            await act(*arguments)
            life.seen = seen
            life.check_always()
        await desk.lead()
        await desk.settle(rounds=10, seconds=STALE_S + 5)
        life.check_always()
        life.check_at_rest()
