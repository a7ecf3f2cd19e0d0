"""
SpiderIPs: what the token of one node's agent is good for, and what not.

What is allowed is made by the functions that the agent makes its writes with.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.group import ANNO_IN_USE, ANNO_SUSPECT, FINALIZER, LABEL_NODE
from spiderpool.api.crd.spiderip import Holder, HolderKind, IPState, SpiderIP
from spiderpool.errors import Conflict, Forbidden
from spiderpool.records.build import let_go, marked, put_in_place, record_of, unmarked
from tests.contract.policies.conftest import Nodes
from tests.contract.policies.records import (
    given,
    held,
    make_holder,
    new_ip,
    with_holder,
    with_metadata,
)
from tests.fakes.objects import DEPLOYMENT, MACHINE, STATEFULSET

SINCE = "2026-01-01T00:00:00Z"
POLICY = "Policy 'spiderpool-agent-addresses'"
QUESTION = "pod gone: pod ns/web-1 does not exist"
DIRECTIONS = pytest.mark.parametrize(("mine", "theirs"), [("node1", "node2"), ("node2", "node1")])

Make = Callable[[str, str], SpiderIP]
"""Makes a record for (my node, another node)."""

Change = Callable[[SpiderIP, str, str], SpiderIP]
"""Changes a record for (my node, another node)."""


def of_mine(mine: str, _: str) -> SpiderIP:
    """Return a record that a pod of my node holds."""
    return held(new_ip(), make_holder("web-1", mine))


def of_theirs(_: str, theirs: str) -> SpiderIP:
    """Return a record that a pod of the other node holds."""
    return of_mine(theirs, "")


def fixed(_: str, theirs: str) -> SpiderIP:
    """Return a fixed address of a StatefulSet's pod on the other node."""
    return held(new_ip(), make_holder("db-0", theirs, owner=STATEFULSET), static=True)


def machine(_: str, theirs: str) -> SpiderIP:
    """Return the address of a virtual machine that runs on the other node."""
    return held(new_ip(), make_holder("launcher", theirs, owner=MACHINE), static=True)


def claim(_mine: str, _theirs: str) -> SpiderIP:
    """Return a claim of the controller's own, while it edits a pool."""
    return held(new_ip(), Holder(kind=HolderKind.POOL, name="blue", uid="p"))


def asked(make: Make, question: str = QUESTION) -> Make:
    """Let the controller suspect a record."""
    return lambda mine, theirs: marked(make(mine, theirs), ANNO_SUSPECT, question)


def resting(make: Make, state: IPState = IPState.COOLING) -> Make:
    """Release a record."""
    return lambda mine, theirs: let_go(make(mine, theirs), state, SINCE)


def take(record: SpiderIP, node: str, _: str = "") -> SpiderIP:
    """Claim an address that rests for a pod of a node."""
    return put_in_place(record, held(record.spec.ip, make_holder("web-2", node)))


def take_fixed(record: SpiderIP, mine: str, _: str) -> SpiderIP:
    """Take a fixed address over with the pod that comes back here."""
    return given(record, mine, STATEFULSET)


def take_machine(record: SpiderIP, mine: str, _: str) -> SpiderIP:
    """Take the address of a virtual machine over that starts here."""
    fresh = given(record, mine, MACHINE)
    return with_holder(fresh, uid="launcher-2")


def restart(record: SpiderIP, mine: str, _: str) -> SpiderIP:
    """Give a record to the new sandbox of its own pod."""
    return with_holder(given(record, mine, DEPLOYMENT), container_id="sandbox-2")


def to(state: IPState, **more: Any) -> Change:
    """Release a record, as DEL, detection of conflicts and leak checks do."""
    return lambda record, _mine, _theirs: let_go(record, state, SINCE, **more)


def say(key: str, text: str) -> Change:
    """Write an annotation."""
    return lambda record, _mine, _theirs: marked(record, key, text)


def forge(**changes: Any) -> Change:
    """Take a record over for this node, with a holder that says something else."""
    return lambda record, mine, _: record_of(
        replace(
            record.spec,
            holder=replace(record.spec.holder, **{"node": mine, "uid": "forged", **changes}),
        ),
        record.metadata,
    )


@DIRECTIONS
async def test_an_agent_makes_and_deletes_records_of_its_pods(
    nodes: Nodes, mine: str, theirs: str
) -> None:
    """A claim, and its undoing on condition of the record's state."""
    made = await nodes.agents[mine].create(of_mine(mine, theirs))
    meta = made.metadata
    await nodes.agents[mine].delete(
        SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
    )


CHANGES: dict[str, tuple[Make, Change]] = {
    "a new sandbox of its own pod": (of_mine, restart),
    "the next pod of a name here": (lambda mine, _: fixed("", mine), take_machine),
    "a release": (of_mine, to(IPState.COOLING)),
    "a release that the controller asked for": (
        asked(of_mine),
        to(IPState.COOLING, suspicion=QUESTION),
    ),
    "a quarantine": (of_mine, to(IPState.QUARANTINED, conflict_mac="02:00:00:00:00:01")),
    "an answer": (asked(of_mine), say(ANNO_IN_USE, "still in use")),
    "a suspicion that is wrong": (asked(of_mine), lambda record, *_: unmarked(record)),
    "its own resting address": (resting(of_mine), take),
    "the other node's resting address": (resting(of_theirs), take),
    "a resting address that was fixed": (resting(fixed), take),
    "a resting address that was suspected": (
        lambda mine, theirs: let_go(
            of_mine(theirs, mine), IPState.COOLING, SINCE, suspicion=QUESTION
        ),
        take,
    ),
    "a fixed address that follows its pod": (fixed, take_fixed),
    "a fixed address that is suspected": (asked(fixed), take_fixed),
    "the address of a virtual machine that moves": (machine, take_machine),
}


@DIRECTIONS
@pytest.mark.parametrize("what", CHANGES)
async def test_an_agent_changes(nodes: Nodes, what: str, mine: str, theirs: str) -> None:
    """What an agent writes in its work is stored as it is."""
    make, change = CHANGES[what]
    before = await nodes.admin.create(make(mine, theirs))
    wanted = change(before, mine, theirs)
    written = await nodes.agents[mine].replace(wanted)
    assert wanted.spec == written.spec
    assert wanted.metadata.annotations == written.metadata.annotations


@DIRECTIONS
async def test_an_agent_puts_back_what_a_failed_claim_took(
    nodes: Nodes, mine: str, theirs: str
) -> None:
    """The record says again that it rests, and who had it on the other node."""
    before = await nodes.admin.create(resting(of_theirs)(mine, theirs))
    taken = await nodes.agents[mine].replace(take(before, mine))
    restored = await nodes.agents[mine].replace(put_in_place(taken, before))
    assert before.spec == restored.spec


CREATES: dict[str, Make] = {
    "for a pod of the other node": of_theirs,
    "for nobody's node": lambda mine, _: with_holder(of_mine(mine, ""), node=""),
    "as the controller": claim,
    "as the controller, here": lambda mine, _: with_holder(of_mine(mine, ""), kind="IPPool"),
    "at rest": resting(of_mine),
    "in quarantine": resting(of_mine, IPState.QUARANTINED),
    "with a suspicion": asked(of_mine),
    "in the other node's selection": lambda mine, theirs: with_metadata(
        of_mine(mine, ""), labels={LABEL_NODE: theirs}
    ),
    "with a finalizer": lambda mine, _: with_metadata(of_mine(mine, ""), finalizers=(FINALIZER,)),
}


@DIRECTIONS
@pytest.mark.parametrize("what", CREATES)
async def test_an_agent_may_not_create(nodes: Nodes, what: str, mine: str, theirs: str) -> None:
    """Records that no agent of this node makes are refused."""
    with pytest.raises(Forbidden, match=POLICY):
        await nodes.agents[mine].create(CREATES[what](mine, theirs))


FORGERIES: dict[str, tuple[Make, Change]] = {
    "what a pod there holds": (of_theirs, take),
    "a fixed address for another name": (fixed, forge(name="db-1")),
    "a fixed address for another namespace": (fixed, forge(namespace="evil")),
    "a fixed address for another interface": (fixed, forge(nic="net1")),
    "a fixed address for another kind": (fixed, forge(kind=HolderKind.VIRTUAL_MACHINE)),
    "a fixed address of a pod that stays": (fixed, forge(uid="db-0-{theirs}")),
    "a fixed address that is fixed no more": (
        fixed,
        lambda record, mine, theirs: replace(
            take_fixed(record, mine, theirs),
            spec=replace(take_fixed(record, mine, theirs).spec, static=False),
        ),
    ),
    "what rests, for the other node": (resting(of_theirs), lambda r, _, theirs: take(r, theirs)),
    "what rests, as the controller": (
        resting(of_theirs),
        lambda r, mine, _: with_holder(take(r, mine), kind=HolderKind.POOL),
    ),
    "what rests, and lets it rest": (resting(of_theirs), lambda r, *_: replace(r)),
    "a quarantine there": (resting(of_theirs, IPState.QUARANTINED), take),
    "a quarantine here": (resting(of_mine, IPState.QUARANTINED), take),
    "a claim of the controller's": (claim, take),
    "a release there": (of_theirs, to(IPState.COOLING)),
    "a release there that is asked for": (
        asked(of_theirs),
        to(IPState.COOLING, suspicion=QUESTION),
    ),
    "a release of a fixed address there": (fixed, to(IPState.COOLING)),
    "a quarantine of what is there": (of_theirs, to(IPState.QUARANTINED)),
    "an answer for the other node": (asked(of_theirs), say(ANNO_IN_USE, "still in use")),
    "the end of a suspicion there": (asked(of_theirs), lambda record, *_: unmarked(record)),
    "a suspicion": (of_mine, say(ANNO_SUSPECT, QUESTION)),
    "other words for a suspicion": (asked(of_mine), say(ANNO_SUSPECT, "held twice: no")),
    "a suspicion on release": (of_mine, to(IPState.COOLING, suspicion=QUESTION)),
    "a gift to the other node": (of_mine, lambda r, _, theirs: take(r, theirs)),
    "a quarantine in another's name": (
        of_mine,
        lambda r, *_: with_holder(let_go(r, IPState.QUARANTINED, SINCE), name="other"),
    ),
    "the other node's selection": (
        of_mine,
        lambda r, _, theirs: with_metadata(r, labels={**r.metadata.labels, LABEL_NODE: theirs}),
    ),
    "a finalizer": (of_mine, lambda r, *_: with_metadata(r, finalizers=(FINALIZER,))),
}


@DIRECTIONS
@pytest.mark.parametrize("what", FORGERIES)
async def test_an_agent_may_not_change(nodes: Nodes, what: str, mine: str, theirs: str) -> None:
    """The write is refused and nothing changes."""
    make, change = FORGERIES[what]
    before = await nodes.admin.create(make(mine, theirs))
    wanted = change(before, mine, theirs)
    if "{theirs}" in wanted.spec.holder.uid:
        wanted = with_holder(wanted, uid=before.spec.holder.uid)
    with pytest.raises(Forbidden, match=POLICY):
        await nodes.agents[mine].replace(wanted)
    assert before == await nodes.admin.get(SpiderIP, before.metadata.name)


KEPT: dict[str, Make] = {
    "what a pod there holds": of_theirs,
    "a fixed address there": fixed,
    "what rests there": resting(of_theirs),
    "what rests here": resting(of_mine),
    "a quarantine here": resting(of_mine, IPState.QUARANTINED),
    "a claim of the controller's": claim,
}


@DIRECTIONS
@pytest.mark.parametrize("what", KEPT)
async def test_an_agent_may_not_delete(nodes: Nodes, what: str, mine: str, theirs: str) -> None:
    """Only what its own pods hold; what rests is the controller's to delete."""
    before = await nodes.admin.create(KEPT[what](mine, theirs))
    with pytest.raises(Forbidden, match=POLICY):
        await nodes.agents[mine].delete(SpiderIP, before.metadata.name)
    assert before == await nodes.admin.get(SpiderIP, before.metadata.name)


async def test_other_verbs_are_not_granted(nodes: Nodes) -> None:
    """Agents write whole objects: a patch is refused by the role, whosever record it is."""
    before = await nodes.admin.create(of_mine("node1", ""))
    with pytest.raises(Forbidden):
        await nodes.agents["node1"].patch(
            SpiderIP, before.metadata.name, {"spec": {"state": "Cooling"}}
        )


async def test_a_token_that_names_no_node_writes_nothing(nodes: Nodes) -> None:
    """A token of the account that is bound to no pod is good for no node."""
    before = await nodes.admin.create(of_mine("node1", ""))
    with pytest.raises(Forbidden, match="names no node"):
        await nodes.agents[""].create(of_mine("node1", ""))
    with pytest.raises(Forbidden, match="names no node"):
        await nodes.agents[""].delete(SpiderIP, before.metadata.name)


async def test_a_late_write_is_a_conflict(nodes: Nodes) -> None:
    """An agent that lost its record meanwhile is told so, and reads again: it is no refusal."""
    before = await nodes.admin.create(fixed("", "node1"))
    await nodes.agents["node2"].replace(take_fixed(before, "node2", ""))
    meta = before.metadata
    with pytest.raises(Conflict):
        await nodes.agents["node1"].replace(let_go(before, IPState.COOLING, SINCE))
    with pytest.raises(Conflict):
        await nodes.agents["node1"].delete(
            SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version
        )
