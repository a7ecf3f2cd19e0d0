"""
What each kind's webhooks look at before they decide. The decisions are `admission.pools`'s.

A change that leaves the specification as it is gets no field errors: an object that older rules let
in can still be labelled, marked and deleted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from spiderpool.addressing.sets import AddressSet
from spiderpool.admission.field_errors import FieldError
from spiderpool.admission.pools import (
    forbid_pool_update,
    forbid_reserved_update,
    mutate_pool,
    mutate_reserved,
    validate_pool,
    validate_pool_delete,
    validate_reserved,
)
from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.configuration.config import Features
from spiderpool.controller.pools.legacy_allocations import read_allocations
from spiderpool.controller.runtime.subnet_lookup import SubnetLookup
from spiderpool.controller.webhooks.conflicting_pools import OtherPools
from spiderpool.ipam.automatic_pool import is_granted
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.readers.pool_records import list_pool_records
from spiderpool.model.pool import Pool, is_imported

T = TypeVar("T", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Change(Generic[T]):
    """A write that somebody asks for: `old` is None for a create, `new` for a delete."""

    old: T | None
    new: T | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is wrong with it: a plain refusal, or fields."""

    forbidden: str | None = None
    errors: tuple[FieldError, ...] = ()


FINE = Opinion()


class Reviewer(Protocol[T]):
    """The webhooks of one kind."""

    @property
    def kind(self) -> type[T]:
        """What is reviewed."""
        ...

    async def complete(self, change: Change[T]) -> T | None:
        """Fill in what a new or changed object leaves open; None for a delete."""
        ...

    async def judge(self, change: Change[T]) -> Opinion:
        """Look at everything that matters and decide."""
        ...


class PoolReviewer:
    """Pools: compared with each other and with who holds addresses, both read live."""

    kind = SpiderIPPool

    def __init__(
        self,
        cluster: Cluster,
        other_pools: OtherPools,
        features: Features,
        go_agents: Callable[[], Awaitable[list[str]]],
        subnets: SubnetLookup | None = None,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the door.
            other_pools: the other pools.
            features: the configuration's switches.
            go_agents: names agents of Go Spiderpool that run.
            subnets: finds a pool's subnet; None where the feature is off.
        """
        self._cluster = cluster
        self._other_pools = other_pools
        self._features = features
        self._go_agents = go_agents
        self._subnets = subnets

    async def complete(self, change: Change[SpiderIPPool]) -> SpiderIPPool | None:
        """
        Fill in a pool.

        A new one is marked as having nothing to take over, unless somebody may still write into it.
        """
        if change.new is None:
            return None
        fresh = change.old is None and not await self._go_agents()
        subnet = self._subnets.adopter(change.old, change.new) if self._subnets else None
        return mutate_pool(change.new, subnet=subnet, created=fresh)

    async def judge(self, change: Change[SpiderIPPool]) -> Opinion:
        """Decide on a create, an update or a delete."""
        match change:
            case Change(old=SpiderIPPool() as old, new=None):
                return await self._judge_delete(old)
            case Change(old=None, new=SpiderIPPool() as new):
                return await self._judge_spec(None, new, dry_run=change.dry_run)
            case Change(old=SpiderIPPool() as old, new=SpiderIPPool() as new):
                return await self._judge_update(old, new, dry_run=change.dry_run)
        return FINE

    async def _judge_delete(self, pool: SpiderIPPool) -> Opinion:
        """
        Decide on a delete.

        Who holds addresses matters only when the configuration protects them.
        """
        if not self._features.enable_validating_resources_deleted_webhook:
            return FINE
        return Opinion(forbidden=validate_pool_delete(pool, await self._held(pool), self._features))

    async def _judge_update(
        self, old: SpiderIPPool, new: SpiderIPPool, *, dry_run: bool
    ) -> Opinion:
        """Decide on an update."""
        forbidden = forbid_pool_update(old, new)
        if forbidden is not None and not _only_marked(old, new):
            return Opinion(forbidden=forbidden)
        if new.spec in (old.spec, mutate_pool(old).spec):
            return FINE
        return await self._judge_spec(old, new, dry_run=dry_run)

    async def _judge_spec(
        self, old: SpiderIPPool | None, new: SpiderIPPool, *, dry_run: bool
    ) -> Opinion:
        """Compare a specification with the other pools and with who holds its addresses."""
        parsed = Pool.parse(new)
        loses = old is not None and (
            parsed.broken is not None or bool(Pool.parse(old).total - parsed.total)
        )
        held = await self._held(old) if old is not None and loses else None
        subnet = await self._subnets.controlling(new) if self._subnets else None
        granted = subnet is not None and is_granted(parsed, subnet)
        others = await self._other_pools.near(parsed, granted=granted)
        while self._other_pools.unsettled(parsed):
            await self._other_pools.settle()
            others = await self._other_pools.near(parsed, granted=granted)
        errors = validate_pool(old, new, others, held, self._features, subnet)
        if not errors and not dry_run:
            self._other_pools.allow(parsed, old.metadata.generation if old is not None else 0)
        return Opinion(errors=tuple(errors))

    async def _held(self, pool: SpiderIPPool) -> AddressSet:
        """Read which addresses of a pool are held, those that wait to be taken over among them."""
        records = await list_pool_records(self._cluster, pool.metadata.name)
        held = [record.spec.address for record in records if record.held_by_workload]
        waiting = (
            [] if is_imported(pool) else [allocation.ip for allocation in read_allocations(pool)]
        )
        family = Pool.parse(pool).family
        return AddressSet.of((ip for ip in (*held, *waiting) if ip.version == family), family)


class ReservedReviewer:
    """Reserved addresses: nothing but themselves matters."""

    kind = SpiderReservedIP

    def __init__(self, features: Features) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            features: the configuration's switches.
        """
        self._features = features

    async def complete(self, change: Change[SpiderReservedIP]) -> SpiderReservedIP | None:
        """Fill in a reservation."""
        return None if change.new is None else mutate_reserved(change.new)

    async def judge(self, change: Change[SpiderReservedIP]) -> Opinion:
        """Decide on a create or an update."""
        old, new = change.old, change.new
        if new is None:
            return FINE
        if old is not None:
            if forbidden := forbid_reserved_update(old, new):
                return Opinion(forbidden=forbidden)
            if new.spec in (old.spec, mutate_reserved(old).spec):
                return FINE
        return Opinion(errors=tuple(validate_reserved(old, new, self._features)))


def _only_marked(old: SpiderIPPool, new: SpiderIPPool) -> bool:
    """
    Return whether an update does nothing but set the mark of a pool that was taken over.

    Such a pool may be on its way out.
    """
    before = {
        **old.metadata.annotations,
        ANNO_IMPORTED: new.metadata.annotations.get(ANNO_IMPORTED, ""),
    }
    expected = replace(old.metadata, annotations=before, resource_version="", generation=0)
    found = replace(new.metadata, resource_version="", generation=0)
    return ANNO_IMPORTED in new.metadata.annotations and expected == found and old.spec == new.spec
