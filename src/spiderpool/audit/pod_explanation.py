"""
Why a pod has its addresses and why not others.

The decisions of an ADD, told instead of carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.audit.usage import Usage
from spiderpool.errors import SpiderpoolError
from spiderpool.ipam.pod_request import PodRequest, Request, read_pod_request
from spiderpool.ipam.selection import Selection, select_for_pod
from spiderpool.model.claim import Claimant, slot_of
from spiderpool.model.facts import Facts
from spiderpool.model.pod import full_name


class Slot(msgspec.Struct, frozen=True, rename="camel"):
    """
    One NIC and family.

    `source`: where the names of pools come from. `address`, `pool`: what the pod holds, empty when
    nothing. `pools`: those that it may use, in the order of trial, each with its numbers.
    `refused`: the others of the request, with their reasons.
    """

    nic: str
    family: int
    source: str
    answer: str
    address: str = ""
    pool: str = ""
    pools: tuple[Usage, ...] = ()
    refused: tuple[str, ...] = ()


class Explanation(msgspec.Struct, frozen=True, rename="camel"):
    """
    All about one pod; `problems`.

    NICs that get nothing at all, with the words that an ADD would give.
    """

    pod: str
    owner: str
    static: bool
    node: str
    slots: tuple[Slot, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked:
    """
    What the calls of a pod would ask for.

    `problems` are those of calls that ask for nothing that can be had.
    """

    selections: tuple[Selection, ...]
    problems: tuple[str, ...]

    @property
    def pools(self) -> tuple[str, ...]:
        """Names of the pools that the pod may use."""
        return tuple(
            dict.fromkeys(pool.name for selection in self.selections for pool in selection.pools)
        )


def ask_all(facts: Facts, requests: Iterable[Request]) -> Asked:
    """Take the decisions of each call; a call for several NICs at once speaks for all of them."""
    selections: dict[tuple[str, int], Selection] = {}
    problems: dict[str, None] = {}
    for request in requests:
        try:
            pod_request: PodRequest = read_pod_request(
                facts.pod, facts.namespace, request, facts.features, facts.position
            )
            found = select_for_pod(pod_request, facts)
        except SpiderpoolError as error:
            problems[f"{request.nic}: {error.message}"] = None
        else:
            for selection in found:
                selections.setdefault((selection.nic, selection.family), selection)
    return Asked(tuple(selections.values()), tuple(problems))


def explain_pod(
    facts: Facts,
    asked: Asked,
    held: Iterable[SpiderIP],
    usage: Mapping[str, Usage],
    notes: Iterable[str] = (),
) -> Explanation:
    """
    Return what a pod holds, and which pools an ADD would use or refuse now.

    Args:
        facts: what an ADD of this pod looks at.
        asked: of the same facts.
        held: the pod's records.
        usage: numbers of the pools that the pod may use.
        notes: sentences of the caller that belong to the answer.
    """
    claimant = Claimant.of(facts.pod, facts.owner, facts.features)
    mine = {slot_of(record): record for record in held if record.held}
    slots = [
        _slot(selection, mine.pop((selection.nic, selection.family), None), usage)
        for selection in asked.selections
    ]
    slots += [_unasked(record) for record in mine.values()]
    return Explanation(
        pod=full_name(facts.pod),
        owner=f"{facts.owner.kind} {facts.owner.name}",
        static=claimant.static,
        node=facts.pod.spec.node_name,
        slots=tuple(slots),
        problems=asked.problems,
        notes=tuple(notes),
    )


def _slot(selection: Selection, record: SpiderIP | None, usage: Mapping[str, Usage]) -> Slot:
    """Explain one NIC and family of the request."""
    numbers = tuple(usage[pool.name] for pool in selection.pools if pool.name in usage)
    return Slot(
        nic=selection.nic,
        family=selection.family,
        source=selection.source,
        answer=_answer(selection, record, numbers),
        address="" if record is None else record.spec.ip,
        pool="" if record is None else record.spec.pool,
        pools=numbers,
        refused=tuple(refusal.sentence for refusal in selection.refusals),
    )


def _answer(selection: Selection, record: SpiderIP | None, numbers: tuple[Usage, ...]) -> str:
    """Say in one sentence what the NIC has, or would get."""
    names = [pool.name for pool in selection.pools]
    if record is not None:
        pool = record.spec.pool
        if pool in names:
            place = (
                "the only pool it may use"
                if len(names) == 1
                else f"pool {names.index(pool) + 1} of {len(names)} in its order"
            )
            fixed = "; fixed: it outlives the pod" if record.spec.static else ""
            return f"holds {record.spec.ip} of {pool}, {place}{fixed}"
        gone = (
            "would not get it today"
            if pool in selection.looked_at
            else "does not ask for it any more"
        )
        return f"holds {record.spec.ip} of {pool}: it keeps what it has, though it {gone}"
    if not names:
        waits = any(refusal.again for refusal in selection.refusals)
        return (
            "waits: its pool is not ready yet" if waits else "gets nothing: no pool that it may use"
        )
    free = next((each for each in numbers if each.free > 0), None)
    if selection.ips:
        return f"asks for {' or '.join(map(str, selection.ips))} of {names[0]}"
    if free is not None:
        return f"would get an address of {free.pool}"
    return "waits: all pools that it may use are full"


def _unasked(record: SpiderIP) -> Slot:
    """Explain an address that nothing asks for."""
    spec = record.spec
    return Slot(
        nic=spec.holder.nic,
        family=spec.family,
        source="",
        answer=(
            f"holds {spec.ip} of {spec.pool}: it keeps what it has, though nothing asks for it any "
            "more"
        ),
        address=spec.ip,
        pool=spec.pool,
    )
