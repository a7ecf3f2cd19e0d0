"""
Addresses that outlive their pod: finding them again, and giving them to the new pod of the name.

Also gives a living pod's address to its new sandbox: to the record both are the same, one
conditional update of the holder.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from spiderpool.api.crd.group import LABEL_KEY
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.errors import Conflict, NotFound, TryAgain, UnknownOutcome
from spiderpool.ipam.pod_request import Request
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.compare_and_swap import compare_and_swap
from spiderpool.kube.informer import Informer
from spiderpool.model.claim import Claimant, ClaimKey, Slot, slot_of
from spiderpool.model.facts import Facts
from spiderpool.records.build import Terms, hand_over, name_of
from spiderpool.records.verdicts import Action, judge_handover


class Handover:
    """Hands records over to the pod and sandbox that an ADD is for."""

    def __init__(self, cluster: Cluster, records: Informer[SpiderIP]) -> None:
        """
        Join what a hand-over needs.

        Args:
            cluster: the store.
            records: this node's own records.
        """
        self._cluster = cluster
        self._records = records

    async def find(self, claimant: Claimant, wanted: Collection[Slot]) -> tuple[SpiderIP, ...]:
        """
        Return the records of a static holder on all nodes, also those that still cool down.

        Another node may have made them. What a pod had before it was started again the API server
        has in its memory; where that lacks something that is wanted, etcd is asked, for which the
        API server has to read all records. News that the memory does not have yet make the
        hand-over lose, and be repeated.

        Args:
            wanted: NICs and families that the holder asks for.
        """
        found = await self._list(claimant, "0")
        if set(wanted) <= {slot_of(record) for record in found if record.held}:
            return found
        return await self._list(claimant, None)

    async def _list(self, claimant: Claimant, resource_version: str | None) -> tuple[SpiderIP, ...]:
        """List the records of a holder, from etcd or from the API server's memory ("0")."""
        labels = f"{LABEL_KEY}={claimant.label}"
        listing = await self._cluster.list_objects(
            SpiderIP, labels=labels, resource_version=resource_version
        )
        return tuple(
            record
            for record in listing.items
            if ClaimKey.of_record(record).claimant == claimant
            and record.spec.state is not IPState.QUARANTINED
        )

    async def give(
        self, record: SpiderIP, facts: Facts, request: Request, terms: Terms | None = None
    ) -> SpiderIP:
        """
        Make pod and sandbox of this ADD the holder of a record of theirs.

        Nothing is written when they are already.

        Args:
            record: as this node knows it.
            facts: what the ADD decides by.
            request: the CNI call.
            terms: what the address comes with now, for a pod that is new.
        """

        async def write(found: SpiderIP) -> SpiderIP:
            if not _is_stale(found, facts, request):
                return found
            _refuse_unless_theirs(found, facts)
            fresh = hand_over(found, facts.pod, facts.owner, request, terms)
            written = await self._cluster.replace(fresh)
            # Known at once: an ADD that is cut off here has a DEL soon, which must find the record.
            self._records.remember(written)
            return written

        lost = (Conflict, NotFound, UnknownOutcome)
        return await compare_and_swap(
            record, write, partial(self._read, record), subject=name_of(record), lost=lost
        )

    async def _read(self, record: SpiderIP) -> SpiderIP:
        try:
            return await self._cluster.get(SpiderIP, record.metadata.name)
        except NotFound:
            raise TryAgain(f"{record.spec.ip} was released while this ADD took it over") from None


def _is_stale(record: SpiderIP, facts: Facts, request: Request) -> bool:
    """Return whether a record names another pod, sandbox or network than this ADD."""
    holder = record.spec.holder
    if holder.uid != facts.pod.metadata.uid or holder.node != facts.pod.spec.node_name:
        return True
    if request.container_id and holder.container_id != request.container_id:
        return True
    return bool(request.network) and holder.nic == request.nic and holder.network != request.network


def _refuse_unless_theirs(record: SpiderIP, facts: Facts) -> None:
    """
    Refuse to give away what belongs to somebody else.

    A new sandbox of the same pod is always right.
    """
    if record.spec.holder.uid == facts.pod.metadata.uid and record.held:
        return
    verdict = judge_handover(record, facts.pod)
    if verdict.action is not Action.HAND_OVER:
        raise TryAgain(verdict.reason)
