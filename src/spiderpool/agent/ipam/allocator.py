"""
ADD: facts once, then decisions, then claims; all addresses of a call or none.

What a pod already holds it gets again, whatever became of pools and annotations since.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from spiderpool.addressing.sets import AddressSet, IPAddress, IPNetwork
from spiderpool.agent.concurrency.shield import shielded
from spiderpool.agent.informers import BY_UID
from spiderpool.agent.ipam.facts import FactSource
from spiderpool.agent.node.caller import PodCall
from spiderpool.agent.records.claims import AddressRequest, Claims
from spiderpool.agent.records.handover import Handover
from spiderpool.agent.records.occupancy import Occupancy
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import InvalidRequest, PoolPending, SpiderpoolError
from spiderpool.ipam.pod_request import NicRequest, PodRequest, Request, read_pod_request
from spiderpool.ipam.pod_routes import (
    attach_routes,
    left_out_text,
    network_of,
    overruled_routes,
)
from spiderpool.ipam.selection import (
    Selection,
    failure_of,
    require_pools,
    select_for_pod,
    select_pools,
)
from spiderpool.ipam.subnet_request import wants_subnets
from spiderpool.kube.informer import Informer
from spiderpool.model.claim import Claimant, ClaimKey, Slot, slot_of
from spiderpool.model.facts import Facts
from spiderpool.model.network_selection import nic_name
from spiderpool.model.pod import full_name, is_alive
from spiderpool.model.pool import Pool
from spiderpool.records.build import Terms, claim_record

R = TypeVar("R")

# How long an ADD waits for an address when pools are full
# (docs/reference/allocation.md#claiming-an-address).
WAIT_S: Final = 10.0
# 25 times 2 s (docs/reference/automatic-pools.md#add-with-an-automatic-pool)
POOL_WAIT_S: Final = 50.0


@dataclass(frozen=True, slots=True)
class AllocationPlan:
    """
    One ADD after its decisions: `selections` are those of the slots that the pod does not hold yet.

    `resting`: what the pod, or its predecessor, gave back a moment ago.
    """

    facts: Facts
    request: Request
    claimant: Claimant
    held: Mapping[Slot, SpiderIP]
    selections: tuple[Selection, ...] = ()
    nic_requests: Mapping[str, NicRequest] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    resting: tuple[SpiderIP, ...] = ()

    @property
    def uid(self) -> str:
        """UID of the pod."""
        return self.facts.pod.metadata.uid


@dataclass(frozen=True, slots=True)
class Allocation:
    """The records that an ADD answers with, and the facts that it was decided by."""

    facts: Facts
    records: tuple[SpiderIP, ...]


Verify = Callable[[Allocation], Awaitable[None]]
"""Looks at an answer before it is given; raises to take it back."""


class Allocator:
    """Allocates the addresses of pods."""

    def __init__(
        self,
        source: FactSource,
        records: Informer[SpiderIP],
        claims: Claims,
        handover: Handover,
        occupancy: Occupancy,
        *,
        report: Callable[[Pod, str], None] = lambda *_: None,
        wait_s: float = WAIT_S,
        pool_wait_s: float = POOL_WAIT_S,
    ) -> None:
        """
        Join what an ADD needs.

        Args:
            source: of the facts.
            records: this node's own records.
            claims: claims single addresses.
            handover: finds and moves the addresses of static pods.
            occupancy: how many addresses of a pool are believed to be held, for error texts.
            report: told what is left out of what a pod asks for, for its user.
            wait_s: how long to wait for an address in full pools.
            pool_wait_s: how long to wait for an automatic pool that is not there yet.
        """
        self._source = source
        self._records = records
        self._claims = claims
        self._handover = handover
        self._occupancy = occupancy
        self._report = report
        self._wait_s = wait_s
        self._pool_wait_s = pool_wait_s

    async def add(
        self, call: PodCall, request: Request, verify: Verify | None = None
    ) -> Allocation:
        """
        Allocate a pod's addresses; the caller has the pod's lock.

        What `verify` raises undoes the claims of this call.
        """
        facts = await self._source.gather(call, request)
        require_alive(facts.pod)
        if wants_subnets(facts.pod.metadata.annotations):
            return await self._add_automatic(call, facts, request, verify)
        return await self._add(facts, request, verify)

    async def _add_automatic(
        self, call: PodCall, facts: Facts, request: Request, verify: Verify | None
    ) -> Allocation:
        """
        Return addresses of the application's own pools.

        The controller may be about to make or to enlarge these pools.

        Begun again whenever these pools change; what the attempt before had claimed it has given
        back.
        """
        deadline = time.monotonic() + self._pool_wait_s
        while True:
            left_s = deadline - time.monotonic()
            try:
                answer = await first_of(
                    self._add(facts, request, verify), self._source.automatic_changed(facts, left_s)
                )
            except PoolPending as error:
                if not await self._source.automatic_changed(facts, deadline - time.monotonic()):
                    raise PoolPending(f"{error.message}; waited {self._pool_wait_s:g} s") from None
                answer = None
            if answer is not None:
                return answer
            facts = await self._source.gather(call, request)
            require_alive(facts.pod)

    async def _add(self, facts: Facts, request: Request, verify: Verify | None) -> Allocation:
        """Decide and claim."""
        await self._claims.resolve(facts.pod.metadata.uid)
        plan = read_plan(facts, request, self._records.by_index(BY_UID, facts.pod.metadata.uid))
        plan, superseded = await self._find_again(plan)
        require_pools(plan.selections)
        terms = terms_today(plan)
        kept = [
            await self._handover.give(record, facts, request, terms.get(slot_of(record)))
            for record in plan.held.values()
        ]
        async with all_or_nothing() as undo:
            made = await self._claim(plan, undo)
            allocation = Allocation(facts, (*kept, *made))
            if verify is not None:
                await verify(allocation)
            # Inside: a pod that had both, the old one and the new, would never be asked for the old
            # one again.
            for record in superseded:
                await self._claims.let_go(await self._take_over(record, facts, request))
        self._tell_left_out(plan, allocation.records)
        return allocation

    async def _take_over(self, record: SpiderIP, facts: Facts, request: Request) -> SpiderIP:
        """
        Make this pod the holder of what it gives up.

        A node releases only what its own pods hold: the API server refuses anything else
        (docs/security.md#a-stolen-node).
        """
        if record.spec.holder.node == facts.pod.spec.node_name:
            return record
        return await self._handover.give(record, facts, request)

    def _tell_left_out(self, plan: AllocationPlan, records: Iterable[SpiderIP]) -> None:
        """Report on the pod which custom routes it does not get."""
        if not plan.routes:
            return
        networks = [network_of(record.spec) for record in records]
        routes = left_out(plan, networks)
        if routes:
            self._report(plan.facts.pod, left_out_text(routes, list(dict.fromkeys(networks))))

    async def _find_again(
        self, plan: AllocationPlan
    ) -> tuple[AllocationPlan, tuple[SpiderIP, ...]]:
        """
        Find the addresses that a static pod had before.

        With them those whose pool is not asked for any more.
        """
        if not (plan.claimant.static and plan.selections):
            return plan, ()
        stored = await self._handover.find(
            plan.claimant, [(selection.nic, selection.family) for selection in plan.selections]
        )
        return recall(plan, stored)

    async def _claim(self, plan: AllocationPlan, undo: AsyncExitStack) -> list[SpiderIP]:
        """Claim what is missing, at once where one claim does not depend on another."""
        deadline = time.monotonic() + self._wait_s
        if plan.routes:
            made = await self._claim_in_order(plan, undo, deadline)
        elif len(plan.selections) == 1:
            made = [
                await self._claims.claim(
                    self._address_request(plan, plan.selections[0]), undo, deadline
                )
            ]
        else:
            address_requests = [
                self._address_request(plan, selection) for selection in plan.selections
            ]
            made = _raise_first(
                await asyncio.gather(
                    *(
                        self._claims.claim(address_request, undo, deadline)
                        for address_request in address_requests
                    ),
                    return_exceptions=True,
                )
            )
        await self._require_all(plan, made)
        return [record for record in made if record is not None]

    async def _claim_in_order(
        self, plan: AllocationPlan, undo: AsyncExitStack, deadline: float
    ) -> list[SpiderIP | None]:
        """
        Claim one after the other.

        A custom route goes with the first address whose network has its gateway.
        """
        made: list[SpiderIP | None] = []
        homes = [record.spec for record in plan.held.values()]
        for selection in plan.selections:
            networks = [network_of(spec) for spec in homes]
            address_request = self._address_request(
                plan,
                selection,
                lambda pool, networks=networks: _routes(networks, pool, plan.routes),  # type: ignore[misc]
            )
            record = await self._claims.claim(address_request, undo, deadline)
            made.append(record)
            if record is not None:
                homes.append(record.spec)
        return made

    def _address_request(
        self,
        plan: AllocationPlan,
        selection: Selection,
        routes: Callable[[Pool], tuple[Route, ...]] = lambda _: (),
    ) -> AddressRequest:
        """Make the claim of one slot."""
        key = ClaimKey(plan.claimant, selection.nic, selection.family)
        nic_request = plan.nic_requests[selection.nic]

        def build(pool: Pool, ip: IPAddress) -> SpiderIP:
            return claim_record(pool, ip, key, plan.facts, nic_request, plan.request, routes(pool))

        def reserved_of(facts: Facts) -> AddressSet:
            reserved = facts.reserved_of(selection.family)
            # Most pods have no custom routes, and the union costs as much as the cluster reserves.
            return reserved | _next_hops(plan.routes, selection.family) if plan.routes else reserved

        def renew(address_request: AddressRequest) -> AddressRequest:
            facts = replace(plan.facts, pools=self._source.pools, reserved=self._source.reserved)
            chosen = select_pools(nic_request, selection.family, facts)
            return replace(address_request, selection=chosen, reserved=reserved_of(facts))

        resting = tuple(record for record in plan.resting if ClaimKey.of_record(record) == key)
        plain = not plan.routes and not selection.ips
        return AddressRequest(
            key, plan.uid, selection, reserved_of(plan.facts), build, renew, resting, plain
        )

    async def _require_all(self, plan: AllocationPlan, made: Iterable[SpiderIP | None]) -> None:
        """Raise the one error that tells of all selections that gave nothing."""
        empty = [
            selection
            for selection, record in zip(plan.selections, made, strict=True)
            if record is None
        ]
        if empty:
            held = {
                pool.name: len(self._occupancy.of(pool.name))
                for selection in empty
                for pool in selection.pools
            }
            holders = await self._claims.holders(ip for selection in empty for ip in selection.ips)
            raise failure_of(empty, held, plan.facts.reserved, holders)


async def first_of(work: Coroutine[Any, Any, R], news: Coroutine[Any, Any, bool]) -> R | None:
    """Do `work` until `news` come; None when they came first, and `work` has undone what it did."""
    doing, listening = asyncio.create_task(work), asyncio.create_task(news)
    try:
        await asyncio.wait({doing, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done() and listening.result():
            doing.cancel()
        await asyncio.wait({doing})
        return None if doing.cancelled() else doing.result()
    finally:
        listening.cancel()
        doing.cancel()
        await asyncio.gather(doing, listening, return_exceptions=True)


@asynccontextmanager
async def all_or_nothing() -> AsyncIterator[AsyncExitStack]:
    """
    Undo what was done inside when it fails or is cancelled.

    The undoing itself is not cut off.
    """
    undo = AsyncExitStack()
    try:
        yield undo
        # a cancellation that came during a write is raised here at the latest
        await asyncio.sleep(0)
    except BaseException:
        await shielded(undo.aclose())
        raise


def require_alive(pod: Pod) -> None:
    """Refuse pods that have no use for addresses any more."""
    if not is_alive(pod):
        state = (
            "is being deleted"
            if pod.metadata.deletion_timestamp is not None
            else f"has ended ({pod.status.phase})"
        )
        raise InvalidRequest(f"pod {full_name(pod)} {state}; it gets no address")


def read_plan(facts: Facts, request: Request, records: Iterable[SpiderIP]) -> AllocationPlan:
    """
    Decide what an ADD has to claim.

    A NIC that holds an address keeps its pod running when its pools or annotations do not allow it
    any more: then only what it has is given. An address missing beside it (a former ADD was cut
    off) is claimed where pools allow.

    Args:
        records: of the pod, in whatever state, as this node knows them.
    """
    resting = tuple(record for record in records if record.spec.state is IPState.COOLING)
    held = {slot_of(record): record for record in records if record.held}
    claimant = Claimant.of(facts.pod, facts.owner, facts.features)
    served = {nic for nic, _ in held}
    try:
        pod_request = read_pod_request(
            facts.pod, facts.namespace, request, facts.features, facts.position
        )
        selections = select_for_pod(pod_request, facts)
    except SpiderpoolError:
        if request.nic in served:
            return AllocationPlan(facts, request, claimant, held)
        raise
    missing = tuple(
        selection
        for selection in selections
        if (selection.nic, selection.family) not in held
        and (selection.pools or selection.nic not in served)
    )
    return AllocationPlan(
        facts, request, claimant, held, missing, _by_nic(pod_request), pod_request.routes, resting
    )


def recall(
    plan: AllocationPlan, stored: Iterable[SpiderIP]
) -> tuple[AllocationPlan, tuple[SpiderIP, ...]]:
    """
    Join what a static pod had before into what it holds.

    Returns:
        The ask without the slots that are found again, and the records that the pod's annotations
        do not ask for any more: they are released once the new address is there. So is the older
        one of two that fit one slot, which is what an agent leaves that ended before it had
        released the other.

    Source: docs/reference/allocation.md#fixed-addresses.
    """
    wanted = {(selection.nic, selection.family): selection for selection in plan.selections}
    found, superseded = dict(plan.held), []
    resting = {
        record.metadata.name: record
        for record in (*plan.resting, *stored)
        if record.spec.state is IPState.COOLING
    }
    for record in sorted(stored, key=_age, reverse=True):
        selection = wanted.get(slot_of(record))
        if selection is None or not record.held:
            continue
        if slot_of(record) not in found and _still_fits(record, selection):
            found[slot_of(record)] = record
        else:
            superseded.append(record)
    missing = tuple(selection for slot, selection in wanted.items() if slot not in found)
    return replace(plan, held=found, selections=missing, resting=tuple(resting.values())), tuple(
        superseded
    )


def _age(record: SpiderIP) -> tuple[str, str]:
    """Sort key: records made later come later."""
    return (record.metadata.creation_timestamp or "", record.metadata.name)


def _still_fits(record: SpiderIP, selection: Selection) -> bool:
    return record.spec.pool in selection.looked_at and (
        not selection.ips or record.spec.address in selection.ips
    )


def _by_nic(pod_request: PodRequest) -> dict[str, NicRequest]:
    return {nic_request.nic: nic_request for nic_request in pod_request.nics}


def terms_today(plan: AllocationPlan) -> dict[Slot, Terms]:
    """Return what the addresses of a pod come with now, as far as their pools still exist."""
    custom = attach_routes(
        [network_of(record.spec) for record in plan.held.values()], plan.routes
    ).per_network
    found: dict[Slot, Terms] = {}
    for (slot, record), own in zip(plan.held.items(), custom, strict=True):
        pool, nic_request = plan.facts.pools.get(record.spec.pool), plan.nic_requests.get(slot[0])
        if pool is not None and pool.broken is None and nic_request is not None:
            found[slot] = Terms.of(pool, own, clean_gateway=nic_request.clean_gateway)
    return found


def left_out(plan: AllocationPlan, networks: Sequence[IPNetwork]) -> tuple[Route, ...]:
    """
    Return the custom routes that a pod does not get.

    Where each NIC asks for itself, a later one may have what a route needs. So before the last one
    only those are told that no pool of the cluster could serve. Of several routes of a network to
    one destination the first counts.

    Args:
        plan: the ADD.
        networks: those of the pod's addresses so far.
    """
    attached = attach_routes(networks, plan.routes)
    unmatched, overruled = attached.unmatched, overruled_routes(attached)
    nics = [
        "eth0",
        *(nic_name(plan.facts.networks, index) for index in range(1, len(plan.facts.networks) + 1)),
    ]
    if not unmatched or plan.request.nic == nics[-1]:
        return overruled + unmatched
    served = [pool.subnet for pool in plan.facts.pools.values()]
    return overruled + attach_routes(served, unmatched).unmatched


def _next_hops(routes: Iterable[Route], family: int) -> AddressSet:
    """Return the gateways of custom routes: a pod cannot be its own next hop."""
    gateways = (ip_address(route.gw) for route in routes)
    return AddressSet.of([ip for ip in gateways if ip.version == family], family)


def _routes(earlier: list[IPNetwork], pool: Pool, routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """
    Return the custom routes that go with an address of `pool`.

    Those that no earlier address has.
    """
    return attach_routes([*earlier, pool.subnet], routes).per_network[-1]


def _raise_first(results: Iterable[SpiderIP | BaseException | None]) -> list[SpiderIP | None]:
    """Return results of claims that ran together; all have ended when the first error is raised."""
    made: list[SpiderIP | None] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        made.append(result)
    return made
