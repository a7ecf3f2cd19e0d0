"""
Whether an address stays with its holder: at DEL, when its pod is missed, and when a new pod wears the holder's name.

Every verdict carries its sentence. Facts are read live by the caller; a pod that a cache does not know may exist.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from spiderpool.api.core import PartialObject, Pod, StatefulSet
from spiderpool.api.spiderip import Holder, HolderKind, IPState, SpiderIP
from spiderpool.model.pod import full_name, is_alive

STATEFUL_NAME: Final = re.compile(r"(.*)-([0-9]+)")


class Action(enum.StrEnum):
    """What is to be done with a record."""

    KEEP = "keep"
    RELEASE = "release"
    HAND_OVER = "hand over"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done, and why."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class HolderOwners:
    """
    The live objects that judge a static holder; None = it does not exist.

    `statefulset`: of the name that `statefulset_name` gives. `instance`, `machine`: VirtualMachineInstance and VirtualMachine
    of the holder's name.
    """

    statefulset: StatefulSet | None = None
    instance: PartialObject | None = None
    machine: PartialObject | None = None


NO_OWNERS: Final = HolderOwners()


def statefulset_name(record: SpiderIP) -> str | None:
    """Give the StatefulSet that judges a static pod's record; None when its name is not one of a StatefulSet's pods."""
    match = STATEFUL_NAME.fullmatch(record.spec.holder.name)
    return match[1] if match else None


def judge_release(record: SpiderIP, pod: Pod | None, container_id: str, uid: str, owners: HolderOwners = NO_OWNERS) -> Verdict:
    """
    Judge a DEL (architecture 2, "DEL").

    Args:
        pod: the live pod of that name; it may be gone.
        container_id: of the sandbox that is deleted; old sandboxes are deleted late.
        uid: the pod's UID as the runtime knows it, empty when it does not.
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


def judge_leak(record: SpiderIP, pod: Pod | None, owners: HolderOwners = NO_OWNERS) -> Verdict:
    """
    Judge a record whose pod may be gone.

    Pods that exist and have ended, or that hang in deletion, are kept: they need the node's word and time.
    """
    holder = record.spec.holder
    if record.spec.state is not IPState.HELD:
        return _keep(f"the address is {record.spec.state}, nobody holds it")
    if holder.kind is HolderKind.POOL:
        return _keep(f"claimed by the controller while it edits pool {holder.name}")
    if pod is not None and pod.metadata.uid == holder.uid:
        if record.spec.static and not is_alive(pod):
            return _judge_static(record, owners)
        return _keep(f"pod {full_name(pod)} exists")
    if record.spec.static:
        return _judge_static(record, owners)
    now = (
        "does not exist" if pod is None else f"has UID {pod.metadata.uid}; the one that held the address, {holder.uid}, is gone"
    )
    return _release(f"pod {holder.namespace}/{holder.name} {now}")


def judge_handover(record: SpiderIP, pod: Pod) -> Verdict:
    """
    Judge whether the live pod of the holder's name takes its static address over.

    For a virtual machine the caller knows that the pod runs it; the pod's own name says nothing.
    """
    holder = record.spec.holder
    if record.spec.state is not IPState.HELD or holder.uid == pod.metadata.uid:
        return _keep(f"the address is {record.spec.state} by pod UID {holder.uid}")
    if not record.spec.static:
        return _keep(f"{record.spec.ip} is not static: it stays with pod UID {holder.uid}")
    theirs, ours = (holder.namespace, holder.name), (pod.metadata.namespace, pod.metadata.name)
    if holder.namespace != pod.metadata.namespace or (holder.kind is HolderKind.POD and theirs != ours):
        return _keep(f"{record.spec.ip} belongs to {holder.namespace}/{holder.name}, not to {full_name(pod)}")
    if not is_alive(pod):
        return _keep(f"pod {full_name(pod)} is ending")
    return Verdict(Action.HAND_OVER, f"pod {full_name(pod)} comes back with UID {pod.metadata.uid}")


def _other_sandbox(holder: Holder, container_id: str, uid: str) -> str | None:
    """
    Say why a DEL is not about a record, None when it is.

    The container ID decides; UIDs only where it is not known (records taken over from elsewhere): a mirror pod's UID differs.
    """
    if holder.container_id and container_id:
        same, ours, theirs = holder.container_id == container_id, f"sandbox {holder.container_id}", container_id
    else:
        same, ours, theirs = holder.uid == uid, f"pod UID {holder.uid}", uid or "of unknown UID"
    return None if same else f"held by {ours}, deleted is {theirs}"


def _judge_static(record: SpiderIP, owners: HolderOwners) -> Verdict:
    """Judge a static record whose pod is not there: its owner decides (reference ipam.md 3.6)."""
    if record.spec.holder.kind is HolderKind.VIRTUAL_MACHINE:
        return _judge_machine(record, owners)
    return _judge_stateful(record, owners.statefulset)


def _judge_stateful(record: SpiderIP, statefulset: StatefulSet | None) -> Verdict:
    """Judge a pod of a StatefulSet: name, existence, ordinal in range."""
    name, namespace = record.spec.holder.name, record.spec.holder.namespace
    match = STATEFUL_NAME.fullmatch(name)
    if match is None:
        return _release(f"{namespace}/{name} is not the name of a StatefulSet's pod")
    if statefulset is None:
        return _release(f"StatefulSet {namespace}/{match[1]} does not exist")
    spec = statefulset.spec
    start = spec.ordinals.start if spec.ordinals else 0
    count = 1 if spec.replicas is None else spec.replicas
    if start <= int(match[2]) < start + count:
        return _keep(f"StatefulSet {namespace}/{match[1]} wants {name}")
    return _release(f"StatefulSet {namespace}/{match[1]} has {count} replicas from {start}: {name} is none of them")


def _judge_machine(record: SpiderIP, owners: HolderOwners) -> Verdict:
    """Judge a virtual machine: the instance, or the machine that will start one, exists and is not being deleted."""
    name = f"{record.spec.holder.namespace}/{record.spec.holder.name}"
    for kind, obj in (("VirtualMachineInstance", owners.instance), ("VirtualMachine", owners.machine)):
        if obj is not None and obj.metadata.deletion_timestamp is None:
            return _keep(f"{kind} {name} exists")
    return _release(f"neither a VirtualMachineInstance nor a VirtualMachine {name} exists")


def _keep(reason: str) -> Verdict:
    """Leave the record."""
    return Verdict(Action.KEEP, reason)


def _release(reason: str) -> Verdict:
    """Give the address back."""
    return Verdict(Action.RELEASE, reason)
