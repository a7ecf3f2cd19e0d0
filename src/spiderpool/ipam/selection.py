"""
Which pools a NIC may use, in the order in which they are tried, and why each other pool may not.

The order of trial is the one that the user wrote; wildcards expand by name in their place. Default
pools have no written order: more specific ones come first, then by name.

Source: docs/reference/selection.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.sets import AddressSet, IPAddress
from spiderpool.api.crd.group import ANNO_IPPOOL, ANNO_IPPOOLS
from spiderpool.errors import (
    AddressHeld,
    Exhausted,
    InvalidRequest,
    NoPool,
    PoolPending,
    SpiderpoolError,
    TryAgain,
)
from spiderpool.ipam.automatic_pool import App
from spiderpool.ipam.filters import Reason, reason_against
from spiderpool.ipam.patterns import compile_pattern, is_wildcard, repeated
from spiderpool.ipam.pod_request import NicRequest, PodRequest, Source
from spiderpool.model.facts import Facts
from spiderpool.model.pod import full_name
from spiderpool.model.pool import Pool

AUTOMATIC: Final = frozenset({Source.SUBNETS, Source.SUBNET})


@dataclass(frozen=True, slots=True)
class Refusal:
    """
    A pool that was looked at and may not be used.

    `pool`: its name. `again`: it is only not usable yet.
    """

    pool: str
    why: Reason
    again: bool = False

    @property
    def sentence(self) -> str:
        """The reason, after the pool's name."""
        return f"{self.pool}: {self.why.sentence}"

    @property
    def text(self) -> str:
        """The reason for errors and Events; the original's words first where it has some."""
        if self.why.fragment:
            return f"{self.why.fragment}: {self.why.sentence}"
        return self.sentence


@dataclass(frozen=True, slots=True)
class Selection:
    """
    What one NIC and family may use: every pool that was looked at is in `pools` or in `refusals`.

    `ips`: exact addresses that the user wants; empty = any.
    """

    nic: str
    family: int
    source: Source
    pools: tuple[Pool, ...]
    refusals: tuple[Refusal, ...]
    ips: tuple[IPAddress, ...] = ()

    @property
    def looked_at(self) -> frozenset[str]:
        """
        Names of all pools of the request, usable or not.

        A static pod keeps its address while its pool is among them.
        """
        return frozenset(
            [pool.name for pool in self.pools] + [refusal.pool for refusal in self.refusals]
        )


def select_for_pod(pod_request: PodRequest, facts: Facts) -> tuple[Selection, ...]:
    """
    Select for every NIC and family of a request, IPv4 before IPv6.

    A wildcard that matches no pool asks for nothing. Raises `NoPool` when nothing at all is left
    for the caller's NIC.
    """
    selections = tuple(
        selection
        for nic_request in pod_request.nics
        for selection in (
            select_pools(nic_request, family, facts) for family in _families(nic_request, facts)
        )
        if selection.looked_at
    )
    if not any(selection.nic == pod_request.nic for selection in selections):
        mine = next(
            nic_request for nic_request in pod_request.nics if nic_request.nic == pod_request.nic
        )
        raise NoPool(
            f"no IPPool available: {pod_request.nic} ({mine.source}): {_nothing(mine, facts)}"
        )
    return selections


def select_pools(nic_request: NicRequest, family: int, facts: Facts) -> Selection:
    """
    Judge every pool that a request names for a family.

    Args:
        nic_request: what one NIC asks for.
        family: 4 or 6.
        facts: what is known of pod, node, namespace and pools.
    Returns:
        The usable pools in the order of trial, and for each other one the reason against it.

    Raises:
        InvalidRequest: a name that no pool has, a pool listed twice, or a malformed wildcard.
    """
    if nic_request.source in AUTOMATIC and not any(_automatic(nic_request, family, facts)):
        refusal = _pending(nic_request, family, facts)
        return Selection(
            nic_request.nic, family, nic_request.source, (), (refusal,), nic_request.ips_of(family)
        )
    pools, refusals = [], []
    for pool in _candidates(nic_request, family, facts):
        why = reason_against(pool, nic_request, family, facts)
        if why is not None:
            refusals.append(Refusal(pool.name, why))
        elif not pool.imported:
            why = Reason("waits for the controller to import the addresses that it gave before")
            refusals.append(Refusal(pool.name, why, again=True))
        else:
            pools.append(pool)
    return Selection(
        nic_request.nic,
        family,
        nic_request.source,
        tuple(pools),
        tuple(refusals),
        nic_request.ips_of(family),
    )


def _families(nic_request: NicRequest, facts: Facts) -> Iterable[int]:
    """Return the families that a request names."""
    return facts.features.families if nic_request.patterns is None else sorted(nic_request.patterns)


def _candidates(nic_request: NicRequest, family: int, facts: Facts) -> list[Pool]:
    """Return the pools that a request names for a family, in the order of trial."""
    if nic_request.source in AUTOMATIC:
        return _automatic(nic_request, family, facts)
    if nic_request.patterns is None:
        defaults = (pool for pool in facts.pools.values() if pool.default and pool.family == family)
        return sorted(defaults, key=lambda pool: (_specific(pool), pool.name))
    try:
        names = [
            name
            for pattern in nic_request.patterns.get(family, ())
            for name in _expand(pattern, family, facts.pools)
        ]
    except InvalidRequest as error:
        raise InvalidRequest(f"wrong input: {nic_request.source}: {error.message}") from None
    twice = repeated(names)
    if twice is not None:
        where = f"{nic_request.nic} IPv{family}"
        raise InvalidRequest(
            f"wrong input: {nic_request.source}: IPPool {twice} is listed twice for {where}; list "
            "it once"
        )
    return [facts.pools[name] for name in names]


def _automatic(nic_request: NicRequest, family: int, facts: Facts) -> list[Pool]:
    """
    Return the automatic pool of the pod's application.

    One that is being deleted belongs to the past.
    """
    if facts.owner.kind == "Pod":
        raise InvalidRequest(
            f"wrong input: {nic_request.source}: pod {full_name(facts.pod)} has no controller, and "
            f"automatic pools are for applications; name pools with {ANNO_IPPOOLS} or {ANNO_IPPOOL}"
        )
    (subnet,) = (nic_request.patterns or {})[family]
    place = App(facts.owner, facts.pod.metadata.namespace).place(subnet, nic_request.nic, family)
    return [
        pool
        for pool in facts.automatic
        if pool.place == place and pool.application_uid == facts.owner.uid and not pool.terminating
    ]


def _pending(nic_request: NicRequest, family: int, facts: Facts) -> Refusal:
    """Say that a pool is not there yet, in the place of its subnet."""
    (subnet,) = (nic_request.patterns or {})[family]
    owner, namespace = facts.owner, facts.pod.metadata.namespace
    why = f"no pool yet for {owner.kind} {namespace}/{owner.name}, whose Events may say why"
    return Refusal(f"SpiderSubnet {subnet}", Reason(why), again=True)


def _expand(pattern: str, family: int, pools: Mapping[str, Pool]) -> Iterator[str]:
    """Return the pool of a name, or the family's pools that a wildcard matches, ordered by name."""
    if is_wildcard(pattern):
        matcher = compile_pattern(pattern)
        yield from sorted(
            name
            for name, pool in pools.items()
            if pool.family == family and matcher.fullmatch(name)
        )
    elif pattern in pools:
        yield pattern
    else:
        raise InvalidRequest(f'IPPool "{pattern}" does not exist; create it or correct the name')


def _specific(pool: Pool) -> tuple[bool, ...]:
    """
    Sort key: a pool for somebody in particular comes before a pool for everybody.

    Source: docs/reference/selection.md#order.
    """
    restrictions = (
        pool.pod_affinity is not None,
        bool(pool.node_names),
        pool.node_affinity is not None,
        bool(pool.namespace_names),
        pool.namespace_affinity is not None,
        bool(pool.multus_names),
    )
    return tuple(not present for present in restrictions)


def _nothing(nic_request: NicRequest, facts: Facts) -> str:
    """Say why a request names no pool at all."""
    families = " or ".join(f"IPv{family}" for family in facts.features.families)
    if not families:
        return "neither IPv4 nor IPv6 is enabled in the configuration"
    if nic_request.patterns is None:
        return (
            f"no {families} pool has default: true; name pools by annotation or make one the "
            "default"
        )
    patterns = [pattern for names in nic_request.patterns.values() for pattern in names]
    if not patterns:
        return f"names no {families} pool for {nic_request.nic}"
    return f"no {families} pool matches {', '.join(patterns)}"


def failure_of(
    selections: Iterable[Selection],
    held: Mapping[str, int] | None = None,
    reserved: Mapping[int, AddressSet] | None = None,
    holders: Mapping[IPAddress, str] | None = None,
) -> SpiderpoolError:
    """
    Return the error of an ADD that gets no address, with the text of `explain`.

    Args:
        selections: those that gave nothing: without pools, or with pools that are full.
        held: per pool, how many addresses are held.
        reserved: per family, the addresses of SpiderReservedIPs.
        holders: who has the exact addresses that are asked for, by address; one that is free or
        reserved is not among them.
    """
    failed = tuple(selections)
    text = explain(failed, held, reserved, holders)
    without = [selection for selection in failed if not selection.pools]
    if not without:
        return AddressHeld(text) if holders else Exhausted(text)
    again = [
        selection for selection in without if any(refusal.again for refusal in selection.refusals)
    ]
    if not again:
        return NoPool(text)
    return (
        PoolPending(text)
        if any(selection.source in AUTOMATIC for selection in again)
        else TryAgain(text)
    )


def require_pools(selections: Iterable[Selection]) -> None:
    """Raise the error of the selections that have no usable pool, if there are any."""
    without = [selection for selection in selections if not selection.pools]
    if without:
        raise failure_of(without)


def explain(
    selections: Iterable[Selection],
    held: Mapping[str, int] | None = None,
    reserved: Mapping[int, AddressSet] | None = None,
    holders: Mapping[IPAddress, str] | None = None,
) -> str:
    """
    Return which pools were considered and why none gave an address, as one text.

    The Event on the pod and the CNI error have it.

    Args:
        selections: those that gave nothing: without pools, or with pools that are full.
        held: per pool, how many addresses are held.
        reserved: per family, the addresses of SpiderReservedIPs.
        holders: who has the exact addresses that are asked for, by address.
    """
    failed = tuple(selections)
    without = tuple(selection for selection in failed if not selection.pools)
    kind = "no IPPool available" if without else "all IP addresses used out"
    parts = (
        _explain_one(selection, held or {}, reserved or {}, holders or {})
        for selection in without or failed
    )
    return f"{kind}: {'. '.join(parts)}"


def _explain_one(
    selection: Selection,
    held: Mapping[str, int],
    reserved: Mapping[int, AddressSet],
    holders: Mapping[IPAddress, str],
) -> str:
    """Say what became of the pools of one NIC and family."""
    reserved_here = reserved.get(selection.family) or AddressSet.empty(selection.family)
    if selection.ips:
        full = [
            _exact(ip, holders.get(ip), reserved_here) for ip in selection.ips if selection.pools
        ]
    else:
        full = [_numbers(pool, held.get(pool.name), reserved_here) for pool in selection.pools]
    reasons = full + [refusal.text for refusal in selection.refusals]
    return (
        f"{selection.nic} IPv{selection.family} ({selection.source}): "
        f"{'; '.join(reasons) or 'no pool matches'}"
    )


def _exact(ip: IPAddress, holder: str | None, reserved: AddressSet) -> str:
    """Say why an exact address cannot be had."""
    if holder is not None:
        return f"{ip}, which is asked for, is {holder}"
    return (
        f"{ip}, which is asked for, is "
        f"{'reserved by a SpiderReservedIP' if ip in reserved else 'not free at the moment'}"
    )


def _numbers(pool: Pool, held: int | None, reserved: AddressSet) -> str:
    """Say in numbers that a pool is full."""
    size = pool.usable.size
    if not size:
        if pool.total:
            return (
                f"pool {pool.name}: 0 addresses ({pool.total.at(0)} "
                f"{pool.why_withheld(pool.total.at(0))})"
            )
        return f"pool {pool.name}: 0 addresses (ips minus excludeIPs is empty)"
    withheld = (pool.usable & reserved).size
    counts = f"{size - withheld if held is None else held} of {size} addresses held"
    return f"pool {pool.name}: {counts}{f', {withheld} reserved' if withheld else ''}, none free"
