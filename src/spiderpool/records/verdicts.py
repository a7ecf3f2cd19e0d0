"""
Whether an address stays with its holder.

At DEL, when its pod is missing, and when a new pod has the holder's name.

Every verdict carries its sentence. Facts are read live by the caller; a pod that a cache does not
know may exist. How long the observer has seen them comes in as an argument.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, assert_never

from spiderpool.api.crd.spiderip import Holder, HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import PartialObject, Pod, StatefulSet
from spiderpool.model.pod import full_name, has_networks, is_alive, shows_address
from spiderpool.model.statefulset import parse_stateful_name, wanted_ordinals


class Action(enum.StrEnum):
    """What is to be done with a record."""

    KEEP = "keep"
    RELEASE = "release"
    HAND_OVER = "hand over"
    FENCE = "fence"


class Trigger(enum.StrEnum):
    """What makes an address look leaked."""

    POD_GONE = "pod gone"
    POD_REPLACED = "pod replaced"
    TERMINATING = "pod terminating"
    FINISHED = "pod finished"
    NO_ADDRESS = "pod without address"
    NOT_WANTED = "holder not wanted"
    TWICE = "held twice"


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    What is to be done, and why.

    Of a leak also `trigger`, and `patience_s`: for so long the observer must have seen it before
    anything is done.
    """

    action: Action
    reason: str
    trigger: Trigger | None = None
    patience_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """
    The switches of reclaim.

    `on_ready_node`, `on_lost_node`: whether stateless pods that end without an end give their
    addresses back there. `blank`: whether a pod that runs without an address in its status does.
    `additional_s` comes on top of every retry policy.

    Source: docs/reference/configuration.md#reclaim.
    """

    on_ready_node: bool = True
    on_lost_node: bool = True
    blank: bool = False
    additional_s: float = 0.0


RULES: Final = Rules()
SECOND_LOOK_S: Final = 5.0  # the node's own DEL is usually on its way
DEFAULT_GRACE_S: Final = 30.0  # Kubernetes' own default of terminationGracePeriodSeconds
SILENCE_S: Final = 30.0  # an agent that serves answers within a second or two
IN_USE_CHECK_S: Final = 15.0
LONGEST_WAIT_S: Final = 300.0
FENCE_AFTER_S: Final = 60.0  # twice the grace that kubelet gives by default


class Step(enum.StrEnum):
    """What the controller does next about a record."""

    KEEP = "keep"
    WAIT = "wait"
    ASK = "ask"
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Next:
    """
    What the controller does next, for how long it waits after that, and why.

    `unheard`: nobody answers for the node, and somebody has to see to that.
    """

    step: Step
    reason: str
    wait_s: float = 0.0
    unheard: bool = False


class NodeState(enum.StrEnum):
    """What the API says about the node that a record names."""

    READY = "is Ready"
    LOST = "is not Ready"
    OUT_OF_SERVICE = "is out of service"
    GONE = "does not exist"


@dataclass(frozen=True, slots=True)
class HolderOwners:
    """
    The live objects that judge a static holder; None = it does not exist.

    `statefulset`: of the name that `statefulset_name` gives. `instance`, `machine`:
    VirtualMachineInstance and VirtualMachine of the holder's name.
    """

    statefulset: StatefulSet | None = None
    instance: PartialObject | None = None
    machine: PartialObject | None = None


NO_OWNERS: Final = HolderOwners()


def statefulset_name(record: SpiderIP) -> str | None:
    """
    Return the StatefulSet that judges a static pod's record.

    None when its name is not one of a StatefulSet's pods.
    """
    name = parse_stateful_name(record.spec.holder.name)
    return name.statefulset if name else None


def judge_release(
    record: SpiderIP, pod: Pod | None, container_id: str, uid: str, owners: HolderOwners = NO_OWNERS
) -> Verdict:
    """
    Judge a DEL.

    Args:
        pod: the live pod of that name; it may be gone.
        container_id: of the sandbox that is deleted; old sandboxes are deleted late.
        uid: the pod's UID as the runtime knows it, empty when it does not.

    Source: docs/reference/release-and-reclaim.md#del.
    """
    holder = record.spec.holder
    mismatch = _other_sandbox(holder, container_id, uid or (pod.metadata.uid if pod else ""))
    if mismatch is not None:
        return _keep(mismatch)
    if pod is not None and pod.metadata.uid == holder.uid and is_alive(pod):
        return _keep(f"pod {full_name(pod)} lives: its sandbox is started again")
    if record.spec.static:
        return _judge_static(record, owners)
    return _release(f"pod {holder.namespace}/{holder.name} ended")


def judge_leak(
    record: SpiderIP,
    pod: Pod | None,
    owners: HolderOwners = NO_OWNERS,
    *,
    node: NodeState = NodeState.READY,
    rules: Rules = RULES,
    twins: Iterable[SpiderIP] = (),
) -> Verdict:
    """
    Judge a record whose pod may be gone, have ended, or hang in deletion.

    Args:
        pod: the live pod of the holder's name.
        owners: who judges a static holder.
        node: of the record's node.
        rules: the switches.
        twins: other records that the same claim holds.

    Source: docs/reference/release-and-reclaim.md#reclaim.
    """
    holder, twins = record.spec.holder, tuple(twins)
    if not record.held:
        return _keep(f"the address is {record.spec.state}, nobody holds it")
    if holder.kind is HolderKind.POOL:
        return _keep(f"claimed by the controller while it edits pool {holder.name}")
    if pod is not None and pod.metadata.uid == holder.uid:
        return _judge_known(record, pod, owners, node, rules, twice=bool(twins))
    if record.spec.static:
        return _judge_former(record, pod, owners, rules, twins)
    if pod is None:
        return _leak(
            _release(f"pod {holder.namespace}/{holder.name} does not exist"),
            Trigger.POD_GONE,
            rules,
        )
    text = (
        f"pod {full_name(pod)} has UID {pod.metadata.uid}; the one that held the address, "
        f"{holder.uid}, is gone"
    )
    return _leak(_release(text), Trigger.POD_REPLACED, rules)


def next_step(
    verdict: Verdict,
    node: NodeState,
    *,
    seen_s: float,
    asked_s: float | None = None,
    answer: str = "",
    name: str = "",
) -> Next:
    """
    Say what comes next about a suspected record.

    The node's agent is asked. Nobody's silence is consent: pods of a node that the API server does
    not hear of may live, and use their addresses. Time decides where nothing runs any more.

    Args:
        verdict: of `judge_leak`, from live objects.
        node: of the record's node.
        seen_s: since when the observer sees the leak.
        asked_s: since when the node's agent is asked; None when it is not.
        answer: the agent's, that the address is still in use.
        name: of the node.

    Source: docs/reference/release-and-reclaim.md#nodes-that-do-not-answer.
    """
    if verdict.action is not Action.RELEASE:
        return Next(Step.KEEP, verdict.reason)
    if seen_s < verdict.patience_s:
        return Next(Step.WAIT, verdict.reason, verdict.patience_s - seen_s)
    if verdict.trigger is Trigger.TWICE:
        # Only the node knows which one its living pod has; nothing else may decide.
        step = Step.ASK if asked_s is None and node is NodeState.READY else Step.WAIT
        return Next(step, verdict.reason, IN_USE_CHECK_S)
    where = f"node {name} {node}" if name else "no node is known"
    match node:
        case NodeState.GONE | NodeState.OUT_OF_SERVICE:
            return Next(Step.RELEASE, f"{verdict.reason}; {where}")
        case NodeState.LOST:
            text = f"{verdict.reason}; {where}, and its pods may live"
            return Next(Step.WAIT, text, _patience_s(seen_s), unheard=True)
        case NodeState.READY:
            return _ask(verdict.reason, asked_s, answer, name)
        case _:
            assert_never(node)


def _patience_s(seen_s: float) -> float:
    """Return when to look again at what may last for days: ever later."""
    return min(max(IN_USE_CHECK_S, seen_s / 4), LONGEST_WAIT_S)


def _ask(reason: str, asked_s: float | None, answer: str, name: str) -> Next:
    """Ask the node's agent, and wait for its answer as long as it takes."""
    if asked_s is None:
        return Next(Step.ASK, reason, SILENCE_S)
    if answer:
        return Next(Step.WAIT, f"{reason}; {answer}", IN_USE_CHECK_S)
    if asked_s < SILENCE_S:
        return Next(Step.WAIT, reason, SILENCE_S - asked_s)
    text = f"{reason}; the agent of node {name} does not answer"
    return Next(Step.WAIT, text, _patience_s(asked_s), unheard=True)


@dataclass(frozen=True, slots=True)
class NamespaceUse:
    """
    A namespace of the node that has an address.

    `where` names it. `gone`: no pod that exists lives in it. `paused`: of its processes only the
    sandbox's own is left. `seen_s`: since when it is seen to have the address, and to be gone.
    """

    where: str
    gone: bool = False
    paused: bool = False
    seen_s: float = 0.0

    @property
    def fence_in_s(self) -> float:
        """
        Return after how many seconds the address may be taken off.

        Containers that still run get the time that a runtime has for ending them.
        """
        if not self.gone:
            return math.inf
        return 0.0 if self.paused else max(0.0, FENCE_AFTER_S - self.seen_s)


def judge_leak_check(
    record: SpiderIP,
    pod: Pod | None,
    trigger: str,
    uses: Iterable[NamespaceUse] = (),
    *,
    twin_in_use: bool = False,
) -> Verdict:
    """
    Judge, on its own node, a record that the controller suspects.

    Args:
        pod: the live pod that has the holder's UID, None when there is none.
        trigger: of the suspicion.
        uses: the namespaces of this node that have the address.
        twin_in_use: whether another address that the same claim holds is in use.
    Returns:
        What to do; a `patience_s` asks for another look after that time. To fence is to take the
        address off the namespaces whose `fence_in_s` is over, and to look again.

    Source: docs/reference/release-and-reclaim.md#the-nodes-answer.
    """
    uses = tuple(uses)
    lives = pod is not None and is_alive(pod)
    if lives and trigger == Trigger.TWICE and not uses and not twin_in_use:
        return replace(
            _keep(f"neither {record.spec.ip} nor its twin is in use yet"), patience_s=IN_USE_CHECK_S
        )
    if pod is not None and lives and trigger not in (Trigger.NO_ADDRESS, Trigger.TWICE):
        return _keep(f"pod {full_name(pod)} lives")
    if uses:
        wait_s = min(use.fence_in_s for use in uses) if pod is None else math.inf
        text = f"{record.spec.ip} is still in use in {', '.join(use.where for use in uses)}"
        if not wait_s:
            return Verdict(Action.FENCE, text)
        return replace(_keep(text), patience_s=min(wait_s, IN_USE_CHECK_S))
    return _release(f"no namespace of node {record.spec.holder.node} has {record.spec.ip}")


def judge_stray(record: SpiderIP | None, use: NamespaceUse, pod_uid: str) -> Verdict:
    """
    Judge an address of a pool in a namespace where no pod lives; another may hold it by now.

    Args:
        record: of the address, read live; None = there is none.
        use: the namespace.
        pod_uid: of the pod that lived there.
    Returns:
        Whether it is to be fenced, or after which time to look again.

    Source: docs/reference/release-and-reclaim.md#fencing.
    """
    if not use.gone:
        return _keep(f"a pod lives in {use.where}")
    if record is not None and record.held:
        holder = record.spec.holder
        if holder.uid == pod_uid:
            return _keep("the controller asks about it")
        return Verdict(Action.FENCE, f"{holder.namespace}/{holder.name} holds it now")
    if use.fence_in_s:
        return replace(_keep("containers may be ending"), patience_s=use.fence_in_s)
    return Verdict(Action.FENCE, "nobody holds it")


def grace_of(pod: Pod) -> float:
    """Return how many seconds a pod that has ended, or is in deletion, has for its end."""
    if (
        pod.metadata.deletion_timestamp is not None
        and pod.metadata.deletion_grace_period_seconds is not None
    ):
        return pod.metadata.deletion_grace_period_seconds
    grace = pod.spec.termination_grace_period_seconds
    return DEFAULT_GRACE_S if grace is None else grace


def judge_handover(record: SpiderIP, pod: Pod) -> Verdict:
    """
    Judge whether the live pod of the holder's name takes its static address over.

    For a virtual machine the caller knows that the pod runs it; the pod's own name says nothing.
    """
    holder = record.spec.holder
    if not record.held or holder.uid == pod.metadata.uid:
        return _keep(f"the address is {record.spec.state} by pod UID {holder.uid}")
    if not record.spec.static:
        return _keep(f"{record.spec.ip} is not static: it stays with pod UID {holder.uid}")
    theirs, ours = (holder.namespace, holder.name), (pod.metadata.namespace, pod.metadata.name)
    if holder.namespace != pod.metadata.namespace or (
        holder.kind is HolderKind.POD and theirs != ours
    ):
        return _keep(
            f"{record.spec.ip} belongs to {holder.namespace}/{holder.name}, not to {full_name(pod)}"
        )
    if not is_alive(pod):
        return _keep(f"pod {full_name(pod)} is ending")
    return Verdict(Action.HAND_OVER, f"pod {full_name(pod)} comes back with UID {pod.metadata.uid}")


def _judge_known(
    record: SpiderIP, pod: Pod, owners: HolderOwners, node: NodeState, rules: Rules, *, twice: bool
) -> Verdict:
    """Judge a record whose own pod exists."""
    if is_alive(pod) and twice:
        text = (
            f"pod {full_name(pod)} holds another IPv{record.spec.family} address for "
            f"{record.spec.holder.nic}"
        )
        return _leak(_release(text), Trigger.TWICE, rules)
    if is_alive(pod):
        return _judge_living(record, pod, owners, rules)
    trigger = Trigger.FINISHED if pod.metadata.deletion_timestamp is None else Trigger.TERMINATING
    if record.spec.static:
        return _leak(_judge_static(record, owners), trigger, rules, grace_of(pod))
    switch = rules.on_ready_node if node is NodeState.READY else rules.on_lost_node
    state = (
        f"has ended ({pod.status.phase})" if trigger is Trigger.FINISHED else "hangs in deletion"
    )
    if not switch:
        return _keep(
            f"pod {full_name(pod)} {state}, its node {node}: reclaim is switched off for that"
        )
    # Whether a finished pod's namespace is gone its node can say at once; elsewhere its end must
    # have been long enough ago.
    grace_s = 0.0 if trigger is Trigger.FINISHED and node is NodeState.READY else grace_of(pod)
    return _leak(_release(f"pod {full_name(pod)} {state}"), trigger, rules, grace_s)


def _judge_former(
    record: SpiderIP, pod: Pod | None, owners: HolderOwners, rules: Rules, twins: Iterable[SpiderIP]
) -> Verdict:
    """Judge a static record of a pod that is gone: one of its name may have come since."""
    if pod is None or not is_alive(pod):
        return _leak(_judge_static(record, owners), Trigger.NOT_WANTED, rules)
    holder, ip = record.spec.holder, record.spec.ip
    other = next((twin for twin in twins if twin.spec.holder.uid == pod.metadata.uid), None)
    if other is not None:
        # an agent ended after it had claimed the other one, and before it released this one
        text = f"pod {full_name(pod)} holds {other.spec.ip} for {holder.nic} now"
        return _leak(_release(text), Trigger.POD_REPLACED, rules)
    if has_networks(pod) and not shows_address(pod, ip):
        # its template dropped the network, the interface, the family or the pool
        text = (
            f"pod {full_name(pod)} came back with UID {pod.metadata.uid} and did not ask for {ip} "
            f"on {holder.nic}"
        )
        return _leak(_release(text), Trigger.POD_REPLACED, rules)
    return _leak(_judge_static(record, owners), Trigger.NOT_WANTED, rules)


def _judge_living(record: SpiderIP, pod: Pod, owners: HolderOwners, rules: Rules) -> Verdict:
    """Judge a record whose own pod lives."""
    if not (rules.blank and pod.status.phase == "Running" and not pod.status.pod_ips):
        return _keep(f"pod {full_name(pod)} exists")
    verdict = _release(f"pod {full_name(pod)} runs without an address in its status")
    return _leak(
        _judge_static(record, owners) if record.spec.static else verdict, Trigger.NO_ADDRESS, rules
    )


def _leak(verdict: Verdict, trigger: Trigger, rules: Rules, grace_s: float = 0.0) -> Verdict:
    """Say what makes a verdict a leak, and for how long it must have been seen."""
    if verdict.action is not Action.RELEASE:
        return verdict
    return replace(
        verdict, trigger=trigger, patience_s=SECOND_LOOK_S + grace_s + rules.additional_s
    )


def _other_sandbox(holder: Holder, container_id: str, uid: str) -> str | None:
    """
    Say why a DEL is not about a record, None when it is.

    The container ID decides; UIDs only where it is not known (records taken over from elsewhere): a
    mirror pod's UID differs.
    """
    if holder.container_id and container_id:
        same, ours, theirs = (
            holder.container_id == container_id,
            f"sandbox {holder.container_id}",
            container_id,
        )
    else:
        same, ours, theirs = holder.uid == uid, f"pod UID {holder.uid}", uid or "of unknown UID"
    return None if same else f"held by {ours}, deleted is {theirs}"


def _judge_static(record: SpiderIP, owners: HolderOwners) -> Verdict:
    """
    Judge a static record whose pod is not there: its owner decides.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    if record.spec.holder.kind is HolderKind.VIRTUAL_MACHINE:
        return _judge_machine(record, owners)
    return _judge_stateful(record, owners.statefulset)


def _judge_stateful(record: SpiderIP, statefulset: StatefulSet | None) -> Verdict:
    """Judge a pod of a StatefulSet: name, existence, ordinal in range."""
    name, namespace = record.spec.holder.name, record.spec.holder.namespace
    parsed = parse_stateful_name(name)
    if parsed is None:
        return _release(f"{namespace}/{name} is not the name of a StatefulSet's pod")
    owner = f"StatefulSet {namespace}/{parsed.statefulset}"
    if statefulset is None:
        return _release(f"{owner} does not exist")
    wanted = wanted_ordinals(statefulset)
    if parsed.ordinal in wanted:
        return _keep(f"{owner} wants {name}")
    return _release(
        f"{owner} has {len(wanted)} replicas from {wanted.start}: {name} is none of them"
    )


def _judge_machine(record: SpiderIP, owners: HolderOwners) -> Verdict:
    """
    Judge a virtual machine.

    The instance, or the machine that will start one, exists and is not being deleted.
    """
    name = f"{record.spec.holder.namespace}/{record.spec.holder.name}"
    for kind, obj in (
        ("VirtualMachineInstance", owners.instance),
        ("VirtualMachine", owners.machine),
    ):
        if obj is not None and obj.metadata.deletion_timestamp is None:
            return _keep(f"{kind} {name} exists")
    return _release(f"neither a VirtualMachineInstance nor a VirtualMachine {name} exists")


def _keep(reason: str) -> Verdict:
    """Leave the record."""
    return Verdict(Action.KEEP, reason)


def _release(reason: str) -> Verdict:
    """Release the address."""
    return Verdict(Action.RELEASE, reason)
