"""Pools by what they have in common: the index gives what a walk over all pools would give."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.admission.pool_index import PoolIndex, Spans
from spiderpool.model.pool import Pool
from tests.fakes.objects import make_ippool, make_pool

NETWORKS: Final = (
    "10.0.0.0/8",
    "10.6.0.0/16",
    "10.6.1.0/24",
    "10.6.1.128/25",
    "10.7.0.0/16",
    "fd00::/64",
    "fd00::/120",
)


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Return a pool of a few names, networks and ranges, which overlap as they like."""
    network = ip_network(draw(st.sampled_from(NETWORKS)))
    starts = draw(st.lists(st.integers(0, 60), max_size=3))
    ips = [f"{network[start]}-{network[start + draw(st.integers(0, 40))]}" for start in starts]
    return make_pool(draw(st.sampled_from("abcdef")), str(network), ips=ips)


@given(st.lists(pools() | st.sampled_from("abcdef"), max_size=20), pools())
def test_as_a_walk_over_all_pools(steps: list[Pool | str], mine: Pool) -> None:
    """Whatever came, changed and went: the same pools are found as by comparing with each."""
    index, known = PoolIndex(), dict[str, Pool]()
    for step in steps:
        if isinstance(step, Pool):
            index.put(step)
            known[step.name] = step
        else:
            index.drop(step)
            known.pop(step, None)

    network = AddressSet.network(mine.subnet)
    same = {name for name, pool in known.items() if pool.subnet == mine.subnet}
    overlapping = {
        name
        for name, pool in known.items()
        if pool.family == mine.family
        and name not in same
        and network.overlaps(AddressSet.network(pool.subnet))
    }
    sharing = {
        name
        for name, pool in known.items()
        if pool.family == mine.family and pool.total.overlaps(mine.total)
    }
    assert same == {pool.name for pool in index.of_network(mine.subnet)}
    assert overlapping == {pool.name for pool in index.overlapping(mine.subnet)}
    assert sharing == {pool.name for pool in index.sharing(mine.total)}


def test_a_pool_that_cannot_be_read() -> None:
    """It has nothing in common with anybody, also when it could be read before."""
    index = PoolIndex()
    index.put(make_pool())
    index.put(Pool.parse(make_ippool(ips=["nonsense"])))

    assert [] == index.sharing(parse_ranges(4, ["10.6.0.10"]))
    assert [] == index.of_network(ip_network("10.6.0.0/16"))


def test_many_intervals() -> None:
    """Of many disjoint intervals those are given that touch, and no more once they are removed."""
    spans = Spans[str]()
    for number in range(5000):
        spans.add((10 * number, 10 * number + 5), str(number))

    assert ["2500"] == list(spans.touching((25_001, 25_003)))
    assert [] == list(spans.touching((25_006, 25_009)))
    spans.remove((25_000, 25_005), "2500")
    assert [] == list(spans.touching((25_001, 25_003)))
