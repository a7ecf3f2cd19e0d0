"""The order in which addresses are tried, and where custom routes go."""

from __future__ import annotations

import time
from collections.abc import Container
from ipaddress import IPv4Address, ip_address
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.errors import Exhausted
from spiderpool.ipam.address_order import candidates
from spiderpool.model.claim import Claimant, ClaimKey
from tests.fakes.objects import (
    DEPLOYMENT,
    STATEFULSET,
    make_facts,
    make_key,
    make_pod,
    make_pool,
    make_record,
)

POOL = make_pool(ips=["10.6.0.1-10.6.0.60"], excludeIPs=["10.6.0.5-10.6.0.9"], gateway="10.6.0.1")
NOTHING = AddressSet.empty(4)
SUBSETS = st.sets(st.integers(1, 70).map(lambda number: IPv4Address("10.6.0.0") + number))
KEYS = st.text(max_size=6).map(
    lambda uid: ClaimKey(Claimant(HolderKind.POD, "", "", uid, static=False), "eth0", 4)
)


def as_set(ips: set[IPv4Address]) -> AddressSet:
    """Make a set of IPv4 addresses, possibly empty."""
    return AddressSet.of(ips, 4)


@given(KEYS, SUBSETS, SUBSETS)
def test_complete(key: ClaimKey, reserved: set[IPv4Address], taken: set[IPv4Address]) -> None:
    """Every address of the pool that is neither gateway, excluded, reserved nor taken comes exactly once, and no other."""
    found = list(candidates(POOL, as_set(reserved), key, taken))

    assert sorted(set(POOL.usable) - reserved - taken) == sorted(found)


@given(KEYS, SUBSETS, SUBSETS)
def test_the_order_does_not_depend_on_what_is_free(
    key: ClaimKey, reserved: set[IPv4Address], taken: set[IPv4Address]
) -> None:
    """The order with some addresses taken is the full order without them, whatever form `taken` has."""
    full = [ip for ip in candidates(POOL, NOTHING, key, set()) if ip not in reserved | taken]

    class OnlyContains(Container[IPAddress]):
        """A container that can be asked and nothing else."""

        def __contains__(self, ip: object) -> bool:
            return ip in taken

    forms: list[Container[IPAddress]] = [
        taken,
        frozenset(taken),
        as_set(taken),
        list(taken),
        OnlyContains(),
    ]
    # reservations of nearly all of a pool may change the order, see `candidates`
    if len(reserved) < 50:
        assert [full] * 5 == [list(candidates(POOL, as_set(reserved), key, form)) for form in forms]


@given(KEYS)
def test_reservations_of_nearly_everything(key: ClaimKey) -> None:
    """When reservations leave one address of many, it is found at once."""
    huge = make_pool(subnet="fd00::/64", ips=["fd00::-fd00::ffff:ffff:ffff:ffff"])
    left = ip_address("fd00::77")
    reserved = huge.usable - AddressSet.of([left])

    assert [left] == list(candidates(huge, reserved, key, set()))


def test_an_address_taken_on_the_way_is_left_out() -> None:
    """`taken` may grow during the walk."""
    key, taken = make_key(make_facts()), set[IPAddress]()
    walk = candidates(POOL, NOTHING, key, taken)
    order = list(candidates(POOL, NOTHING, key, set()))
    first = next(walk)
    taken.add(order[1])

    assert [order[0], order[2]] == [first, next(walk)]


def test_exact_addresses() -> None:
    """Exact addresses come in the order asked for, if they are free and of the pool."""
    key = make_key(make_facts())
    asked = [ip_address(f"10.6.0.{last}") for last in (30, 20, 5, 1, 40, 50, 99)]

    found = candidates(
        POOL, as_set({IPv4Address("10.6.0.40")}), key, {IPv4Address("10.6.0.50")}, asked
    )

    assert asked[:2] == list(found)


def test_an_empty_pool() -> None:
    """A pool without addresses gives none."""
    assert not list(candidates(make_pool(ips=[]), NOTHING, make_key(make_facts()), set()))


def test_sizes_do_not_matter() -> None:
    """The first addresses of an IPv6 /64 come from all over it."""
    huge = make_pool(subnet="fd00::/64", ips=["fd00::-fd00::ffff:ffff:ffff:ffff"])
    first = list(islice(candidates(huge, AddressSet.empty(6), make_key(make_facts()), set()), 8))

    assert len(set(first)) == 8
    assert max(map(int, first)) - min(map(int, first)) > 2**60


@pytest.mark.parametrize("form", ["set", "AddressSet"])
def test_a_nearly_full_pool_is_cheap(form: str) -> None:
    """Finding the last ten addresses of 5000 takes less than 5 ms of CPU time, the best of five runs counting."""
    pool = make_pool(ips=["10.6.0.1-10.6.19.136"])
    everything = set(pool.usable)
    free = set(islice(everything, 10))
    taken = everything - free if form == "set" else pool.usable - AddressSet.of(free)
    key = make_key(make_facts())
    durations = []
    for _ in range(5):
        start = time.process_time()
        found = set(candidates(pool, NOTHING, key, taken))
        durations.append(time.process_time() - start)

        assert free == found
    assert min(durations) < 0.005


SMALL = make_pool(ips=["10.6.0.1-10.6.0.6"], gateway="10.6.0.1")
FACTS = [
    make_facts(
        SMALL, pod=make_pod(f"db-{n}", uid=f"u{n}"), owner=STATEFULSET if n % 2 else DEPLOYMENT
    )
    for n in range(8)
]


class OnePool(RuleBasedStateMachine):
    """Any order of claims, losses and releases keeps one holder an address, inside the pool."""

    held = Bundle("held")

    def __init__(self) -> None:
        """Begin with a free pool."""
        super().__init__()
        self.records: dict[str, SpiderIP] = {}  # by name, as the API server keeps them

    def claim(self, holder: int, nic: str, seen: bool) -> SpiderIP:
        """
        Claim as an agent does.

        Its own record first, then the first candidate that nobody has.
        """
        key = make_key(FACTS[holder], nic)
        mine = [record for record in self.records.values() if ClaimKey.of_record(record) == key]
        if mine:
            return mine[0]
        taken = {record.spec.address for record in self.records.values()} if seen else set()
        for ip in candidates(SMALL, NOTHING, key, taken):
            record = make_record(str(ip), SMALL, FACTS[holder], nic=nic)
            if self.records.setdefault(record.metadata.name, record) is record:
                return record
        raise Exhausted("full")

    @rule(holder=st.integers(0, 7), nic=st.sampled_from(["eth0", "net1"]), seen=st.booleans())
    def ask_twice(self, holder: int, nic: str, seen: bool) -> None:
        """A claim succeeds unless the pool is full, and asking again changes nothing."""
        full = len(self.records) == SMALL.usable.size
        known = any(
            ClaimKey.of_record(record) == make_key(FACTS[holder], nic)
            for record in self.records.values()
        )
        try:
            record = self.claim(holder, nic, seen)
        except Exhausted:
            assert full
            assert not known
        else:
            assert known or not full
            assert record is self.claim(holder, nic, not seen)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Any record may go."""
        if self.records:
            del self.records[data.draw(st.sampled_from(sorted(self.records)))]

    @invariant()
    def one_holder_an_address(self) -> None:
        """Addresses are inside the pool, names are addresses, and no claim has two."""
        keys = [ClaimKey.of_record(record) for record in self.records.values()]

        assert len(keys) == len(set(keys))
        assert all(name == record.spec.ip for name, record in self.records.items())
        assert all(record.spec.address in SMALL.usable for record in self.records.values())


TestOnePool = OnePool.TestCase
TestOnePool.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
