"""
When an address stays with its holder, goes, or goes over to the next pod.

Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.crd.spiderip import Holder, HolderKind, IPState, SpiderIP
from spiderpool.api.kubernetes.core import PartialObject, Pod, PodIP, StatefulSet
from spiderpool.records.build import let_go, record_of
from spiderpool.records.verdicts import (
    IN_USE_CHECK_S,
    SILENCE_S,
    Action,
    HolderOwners,
    NamespaceUse,
    NodeState,
    Rules,
    Step,
    Trigger,
    Verdict,
    judge_handover,
    judge_leak,
    judge_leak_check,
    judge_release,
    judge_stray,
    next_step,
    statefulset_name,
)
from tests.fakes.objects import (
    MACHINE,
    STATEFULSET,
    make_facts,
    make_pod,
    make_record,
    make_statefulset,
)

STATELESS = make_record()
STATIC = make_record(facts=make_facts(pod=make_pod("db-1"), owner=STATEFULSET))
VIRTUAL = make_record(facts=make_facts(pod=make_pod("virt-launcher-vm-abc"), owner=MACHINE))
IMPORTED = make_record(container_id="")
RESTING = let_go(STATELESS, IPState.COOLING, "now")
LIVED_IN = NamespaceUse("/var/run/netns/cni-1 (pod UID uid-1)")


def partial(*, deleted: bool = False) -> PartialObject:
    """Make the metadata of a virtual machine."""
    metadata = {"name": "vm", "namespace": "ns"} | (
        {"deletionTimestamp": "2025-01-01T00:00:00Z"} if deleted else {}
    )
    return msgspec.convert({"metadata": metadata}, PartialObject)


@pytest.mark.parametrize(
    ("pod", "container", "uid", "action", "words"),
    [
        (None, "sandbox-1", "uid-1", Action.RELEASE, "pod ns/web-1 ended"),
        (None, "sandbox-1", "", Action.RELEASE, "ended"),
        (None, "sandbox-1", "other", Action.RELEASE, "ended"),
        (make_pod(), "sandbox-1", "uid-1", Action.KEEP, "pod ns/web-1 lives"),
        (make_pod(deleted=True), "sandbox-1", "uid-1", Action.RELEASE, "ended"),
        (make_pod(phase="Failed", restart="Never"), "sandbox-1", "uid-1", Action.RELEASE, "ended"),
        (make_pod(uid="uid-2"), "sandbox-1", "uid-1", Action.RELEASE, "ended"),
        (
            None,
            "sandbox-0",
            "uid-1",
            Action.KEEP,
            "held by sandbox sandbox-1, deleted is sandbox-0",
        ),
    ],
)
def test_release(pod: Pod | None, container: str, uid: str, action: Action, words: str) -> None:
    """
    The sandbox that holds the address releases it once its pod has ended.

    An older sandbox touches nothing.
    """
    verdict = judge_release(STATELESS, pod, container, uid)

    assert action is verdict.action
    assert words in verdict.reason


@pytest.mark.parametrize(
    ("pod", "uid", "action"),
    [
        (None, "uid-1", Action.RELEASE),
        (None, "uid-0", Action.KEEP),
        (None, "", Action.KEEP),
        (make_pod(deleted=True), "", Action.RELEASE),
        (make_pod(), "uid-1", Action.KEEP),
    ],
)
def test_release_without_a_known_sandbox(pod: Pod | None, uid: str, action: Action) -> None:
    """
    A record taken over from elsewhere knows no sandbox.

    The UID decides, the live pod's where the runtime gives none.
    """
    assert action is judge_release(IMPORTED, pod, "sandbox-1", uid).action


@pytest.mark.parametrize(
    ("statefulset", "name", "action", "words"),
    [
        (make_statefulset(), "db-1", Action.KEEP, "StatefulSet ns/db wants db-1"),
        (
            make_statefulset(replicas=1),
            "db-1",
            Action.RELEASE,
            "StatefulSet ns/db has 1 replicas from 0: db-1 is none of them",
        ),
        (make_statefulset(replicas=None), "db-0", Action.KEEP, "wants db-0"),
        (make_statefulset(replicas=None), "db-1", Action.RELEASE, "has 1 replicas from 0"),
        (make_statefulset(replicas=2, start=5), "db-6", Action.KEEP, "wants"),
        (make_statefulset(replicas=2, start=5), "db-7", Action.RELEASE, "has 2 replicas from 5"),
        (make_statefulset(replicas=2, start=5), "db-4", Action.RELEASE, "has 2 replicas from 5"),
        (None, "db-1", Action.RELEASE, "StatefulSet ns/db does not exist"),
        (make_statefulset(), "db", Action.RELEASE, "not the name of a StatefulSet's pod"),
        (make_statefulset(), "db-x", Action.RELEASE, "not the name of a StatefulSet's pod"),
    ],
)
def test_static_pods(
    statefulset: StatefulSet | None, name: str, action: Action, words: str
) -> None:
    """
    A pod of a StatefulSet is valid while the StatefulSet exists and its ordinal is in range.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    record = make_record(facts=make_facts(pod=make_pod(name), owner=STATEFULSET))
    owners = HolderOwners(statefulset=statefulset)
    verdicts = [
        judge_release(record, None, "sandbox-1", "uid-1", owners),
        judge_leak(record, None, owners),
    ]

    assert [action, action] == [verdict.action for verdict in verdicts]
    assert all(words in verdict.reason for verdict in verdicts)


@pytest.mark.parametrize(
    ("instance", "machine", "action"),
    [
        (partial(), None, Action.KEEP),
        (partial(deleted=True), None, Action.RELEASE),
        (None, partial(), Action.KEEP),
        (partial(deleted=True), partial(), Action.KEEP),
        (None, partial(deleted=True), Action.RELEASE),
        (None, None, Action.RELEASE),
    ],
)
def test_virtual_machines(
    instance: PartialObject | None, machine: PartialObject | None, action: Action
) -> None:
    """A virtual machine is valid while its instance or the machine exists and is not being deleted."""
    owners = HolderOwners(instance=instance, machine=machine)

    assert action is judge_release(VIRTUAL, None, "sandbox-1", "uid-1", owners).action
    assert action is judge_leak(VIRTUAL, None, owners).action


def test_which_statefulset() -> None:
    """The StatefulSet of a pod is its name up to the last ordinal."""
    assert statefulset_name(STATIC) == "db"
    assert statefulset_name(make_record(facts=make_facts(pod=make_pod("a-1-22")))) == "a-1"
    assert statefulset_name(make_record(facts=make_facts(pod=make_pod("web")))) is None


@pytest.mark.parametrize(
    ("record", "pod", "action", "words"),
    [
        (STATELESS, None, Action.RELEASE, "pod ns/web-1 does not exist"),
        (
            STATELESS,
            make_pod(uid="uid-2"),
            Action.RELEASE,
            "pod ns/web-1 has UID uid-2; the one that held the address, uid-1, is gone",
        ),
        (STATELESS, make_pod(), Action.KEEP, "exists"),
        (STATELESS, make_pod(deleted=True), Action.RELEASE, "pod ns/web-1 hangs in deletion"),
        (
            STATELESS,
            make_pod(phase="Succeeded", restart="Never"),
            Action.RELEASE,
            "pod ns/web-1 has ended (Succeeded)",
        ),
        (
            STATELESS,
            make_pod(phase="Succeeded", restart="Always"),
            Action.RELEASE,
            "pod ns/web-1 has ended (Succeeded)",
        ),
        (
            STATELESS,
            make_pod(phase="Failed", restart="OnFailure"),
            Action.RELEASE,
            "pod ns/web-1 has ended (Failed)",
        ),
        (
            let_go(STATELESS, IPState.COOLING, "now"),
            None,
            Action.KEEP,
            "the address is Cooling, nobody holds it",
        ),
        (STATIC, make_pod("db-1"), Action.KEEP, "exists"),
        (
            STATIC,
            make_pod("db-1", phase="Failed", reason="Evicted"),
            Action.RELEASE,
            "does not exist",
        ),
        (
            STATIC,
            make_pod("db-1", uid="uid-2", phase="Pending"),
            Action.RELEASE,
            "StatefulSet ns/db does not exist",
        ),
    ],
)
def test_leaks(record: SpiderIP, pod: Pod | None, action: Action, words: str) -> None:
    """An address is leaked when its very pod is gone, or ends without an end, and no owner keeps it."""
    verdict = judge_leak(record, pod)

    assert action is verdict.action
    assert words in verdict.reason


def test_claims_of_the_controller_are_no_leaks() -> None:
    """What the controller holds while it edits a pool has no pod and is kept."""
    claim = record_of(replace(STATELESS.spec, holder=Holder(kind=HolderKind.POOL, name="blue")))

    assert Action.KEEP is judge_leak(claim, None).action


@pytest.mark.parametrize(
    ("record", "pod", "action"),
    [
        (STATIC, make_pod("db-1", uid="uid-2", node="node2"), Action.HAND_OVER),
        (STATIC, make_pod("db-1"), Action.KEEP),
        (STATIC, make_pod("db-1", uid="uid-2", deleted=True), Action.KEEP),
        (STATIC, make_pod("db-2", uid="uid-2"), Action.KEEP),
        (STATIC, make_pod("db-1", "other", uid="uid-2"), Action.KEEP),
        (STATELESS, make_pod(uid="uid-2"), Action.KEEP),
        (let_go(STATIC, IPState.COOLING, "now"), make_pod("db-1", uid="uid-2"), Action.KEEP),
        (VIRTUAL, make_pod("virt-launcher-vm-def", uid="uid-2"), Action.HAND_OVER),
        (VIRTUAL, make_pod("virt-launcher-vm-def", "other", uid="uid-2"), Action.KEEP),
    ],
)
def test_handover(record: SpiderIP, pod: Pod, action: Action) -> None:
    """Only a static address goes over, only to the living pod of its holder's name, and only when the UID is new."""
    assert action is judge_handover(record, pod).action


PODS = st.sampled_from(
    [
        None,
        make_pod(),
        make_pod(uid="uid-2"),
        make_pod(deleted=True),
        make_pod("db-1"),
        make_pod("db-1", uid="uid-2"),
    ]
)


@given(
    st.sampled_from([STATELESS, STATIC, VIRTUAL, IMPORTED]),
    PODS,
    st.sampled_from(["", "sandbox-1", "x"]),
    st.sampled_from(["", "uid-1"]),
)
def test_a_living_pod_keeps_its_address(
    record: SpiderIP, pod: Pod | None, container: str, uid: str
) -> None:
    """Whatever DEL or scan says, an address is never taken from the living pod that holds it."""
    mine = (
        pod is not None
        and pod.metadata.uid == record.spec.holder.uid
        and pod.metadata.deletion_timestamp is None
    )
    verdicts = [judge_release(record, pod, container, uid), judge_leak(record, pod)]

    assert not mine or [Action.KEEP] * 2 == [verdict.action for verdict in verdicts]
    assert all(verdict.reason for verdict in verdicts)


def ending(grace: int | None = None, *, deleted: bool = True, phase: str = "Running") -> Pod:
    """Make a pod in deletion, or one that has ended, with so many seconds for its end."""
    pod = make_pod(deleted=deleted, phase=phase, restart="Never")
    if deleted:
        return replace(pod, metadata=replace(pod.metadata, deletion_grace_period_seconds=grace))
    return replace(pod, spec=replace(pod.spec, termination_grace_period_seconds=grace))


@pytest.mark.parametrize(
    ("pod", "additional_s", "trigger", "patience_s"),
    [
        (None, 0, Trigger.POD_GONE, 5),
        (None, 60, Trigger.POD_GONE, 65),
        (make_pod(uid="uid-2"), 0, Trigger.POD_REPLACED, 5),
        (ending(30), 0, Trigger.TERMINATING, 35),
        (ending(0), 0, Trigger.TERMINATING, 5),
        (ending(600), 10, Trigger.TERMINATING, 615),
        (ending(10, deleted=False, phase="Succeeded"), 0, Trigger.FINISHED, 5),
        (ending(None, deleted=False, phase="Failed"), 7, Trigger.FINISHED, 12),
    ],
)
def test_how_long_a_leak_must_have_been_seen(
    pod: Pod | None, additional_s: float, trigger: Trigger, patience_s: float
) -> None:
    """The pod's grace period once, since the observer's own clock runs, plus the additional delay and the second look."""
    verdict = judge_leak(STATELESS, pod, rules=Rules(additional_s=additional_s))

    assert (Action.RELEASE, trigger, patience_s) == (
        verdict.action,
        verdict.trigger,
        verdict.patience_s,
    )


@pytest.mark.parametrize("node", [NodeState.LOST, NodeState.GONE])
@pytest.mark.parametrize(("grace", "patience_s"), [(10, 15), (None, 35)])
def test_a_finished_pod_has_its_grace_where_nobody_can_be_asked(
    node: NodeState, grace: int | None, patience_s: float
) -> None:
    """On a lost node the pod's grace period passes first, Kubernetes' default of 30 s if it has none of its own."""
    pod = ending(grace, deleted=False, phase="Succeeded")

    assert patience_s == judge_leak(STATELESS, pod, node=node).patience_s


@pytest.mark.parametrize("pod", [ending(30), ending(10, deleted=False, phase="Succeeded")])
@pytest.mark.parametrize(
    ("node", "ready", "lost", "action"),
    [
        (NodeState.READY, True, False, Action.RELEASE),
        (NodeState.READY, False, True, Action.KEEP),
        (NodeState.LOST, True, False, Action.KEEP),
        (NodeState.LOST, False, True, Action.RELEASE),
        (NodeState.GONE, True, False, Action.KEEP),
        (NodeState.GONE, False, True, Action.RELEASE),
    ],
)
def test_switches_by_the_state_of_the_node(
    pod: Pod, node: NodeState, ready: bool, lost: bool, action: Action
) -> None:
    """
    Pods that end without an end are reclaimed by the switch for their node's state.

    Source: docs/reference/configuration.md#reclaim.
    """
    verdict = judge_leak(
        STATELESS, pod, node=node, rules=Rules(on_ready_node=ready, on_lost_node=lost)
    )

    assert action is verdict.action


@pytest.mark.parametrize("node", list(NodeState))
def test_switches_do_not_concern_pods_that_are_gone(node: NodeState) -> None:
    """
    A pod that is gone is reclaimed with both switches off.

    Source: docs/reference/release-and-reclaim.md#reclaim.
    """
    verdict = judge_leak(
        STATELESS, None, node=node, rules=Rules(on_ready_node=False, on_lost_node=False)
    )

    assert Action.RELEASE is verdict.action


@pytest.mark.parametrize(
    ("pod", "blank", "action"),
    [
        (make_pod(), False, Action.KEEP),
        (make_pod(), True, Action.RELEASE),
        (make_pod(phase="Pending"), True, Action.KEEP),
        (
            replace(
                make_pod(), status=replace(make_pod().status, pod_ips=(PodIP(ip="10.6.0.10"),))
            ),
            True,
            Action.KEEP,
        ),
    ],
)
def test_a_pod_that_runs_without_an_address(pod: Pod, blank: bool, action: Action) -> None:
    """Only with its switch, and only of a pod that runs and has no address in its status."""
    assert action is judge_leak(STATELESS, pod, rules=Rules(blank=blank)).action


@pytest.mark.parametrize(
    "static_pod",
    [make_pod("db-1", deleted=True), make_pod("db-1", phase="Failed", reason="Evicted")],
)
def test_a_wanted_static_pod_that_ends_keeps_its_address(static_pod: Pod) -> None:
    """
    A valid pod of a StatefulSet keeps its address on every node, ready or lost.

    Source: docs/reference/release-and-reclaim.md#reclaim.
    """
    owners = HolderOwners(statefulset=make_statefulset())

    assert {Action.KEEP} == {
        judge_leak(STATIC, static_pod, owners, node=node).action for node in NodeState
    }


LEAK = Verdict(Action.RELEASE, "pod ns/web-1 does not exist", Trigger.POD_GONE, 5.0)


@pytest.mark.parametrize(
    ("node", "seen_s", "asked_s", "answer", "step", "wait_s", "words"),
    [
        (NodeState.READY, 4.0, None, "", Step.WAIT, 1.0, "does not exist"),
        (NodeState.LOST, 4.0, None, "", Step.WAIT, 1.0, "does not exist"),
        (NodeState.READY, 5.0, None, "", Step.ASK, SILENCE_S, "does not exist"),
        (NodeState.READY, 9.0, 4.0, "", Step.WAIT, SILENCE_S - 4, "does not exist"),
        (
            NodeState.READY,
            90.0,
            SILENCE_S,
            "",
            Step.WAIT,
            IN_USE_CHECK_S,
            "the agent of node n does not answer",
        ),
        (
            NodeState.READY,
            90_000.0,
            90_000.0,
            "",
            Step.WAIT,
            300.0,
            "the agent of node n does not answer",
        ),
        (
            NodeState.READY,
            9000.0,
            8000.0,
            "still in use",
            Step.WAIT,
            IN_USE_CHECK_S,
            "does not exist; still in use",
        ),
        (NodeState.LOST, 5.0, None, "", Step.WAIT, IN_USE_CHECK_S, "node n is not Ready"),
        (NodeState.LOST, 200.0, 9.0, "still in use", Step.WAIT, 50.0, "its pods may live"),
        (NodeState.LOST, 90_000.0, None, "", Step.WAIT, 300.0, "node n is not Ready"),
        (NodeState.OUT_OF_SERVICE, 5.0, None, "", Step.RELEASE, 0.0, "node n is out of service"),
        (NodeState.OUT_OF_SERVICE, 9.0, 4.0, "still in use", Step.RELEASE, 0.0, "out of service"),
        (NodeState.GONE, 5.0, None, "", Step.RELEASE, 0.0, "node n does not exist"),
    ],
)
def test_next_step(
    node: NodeState,
    seen_s: float,
    asked_s: float | None,
    answer: str,
    step: Step,
    wait_s: float,
    words: str,
) -> None:
    """
    Two steps on a node that answers, time only where nothing runs any more.

    Source: docs/reference/release-and-reclaim.md#nodes-that-do-not-answer.
    """
    found = next_step(LEAK, node, seen_s=seen_s, asked_s=asked_s, answer=answer, name="n")

    assert (step, wait_s) == (found.step, found.wait_s)
    assert words in found.reason


@pytest.mark.parametrize(
    ("node", "asked_s", "step"),
    [
        (NodeState.READY, None, Step.ASK),
        (NodeState.READY, 9000.0, Step.WAIT),
        (NodeState.LOST, None, Step.WAIT),
        (NodeState.GONE, 9000.0, Step.WAIT),
    ],
)
def test_time_never_decides_between_two_addresses_of_a_living_pod(
    node: NodeState, asked_s: float | None, step: Step
) -> None:
    """Which of two addresses a pod has is known to its node alone."""
    verdict = judge_leak(STATELESS, make_pod(), twins=[STATELESS])

    assert (Action.RELEASE, Trigger.TWICE) == (verdict.action, verdict.trigger)
    assert step is next_step(verdict, node, seen_s=10_000.0, asked_s=asked_s, name="n").step


def come_back(*ips: str, phase: str = "Running", **more: Any) -> Pod:
    """Make the next pod of the name, with addresses in its status."""
    pod = make_pod("db-1", uid="second", phase=phase, **more)
    shown = tuple(PodIP(ip=ip) for ip in ips)
    return replace(pod, status=replace(pod.status, pod_ips=shown))


STATUS = "k8s.v1.cni.cncf.io/network-status"
MULTUS = [{"name": "ns/lan", "interface": "net1", "ips": ["10.6.0.10"]}]


@pytest.mark.parametrize(
    ("pod", "action"),
    [
        pytest.param(come_back("10.233.1.5"), Action.RELEASE, id="runs with another address"),
        pytest.param(
            come_back("10.233.1.5", phase="Pending"), Action.RELEASE, id="has its networks"
        ),
        pytest.param(come_back(), Action.RELEASE, id="runs without a status"),
        pytest.param(come_back(phase="Pending"), Action.KEEP, id="has no network yet"),
        pytest.param(come_back("10.6.0.10"), Action.KEEP, id="has the address"),
        pytest.param(come_back("fd00::1", "10.6.0.10"), Action.KEEP, id="has it beside another"),
        pytest.param(
            come_back("10.233.1.5", annotations={STATUS: MULTUS}), Action.KEEP, id="on another NIC"
        ),
        pytest.param(
            come_back("10.6.0.1", annotations={STATUS: [{"ips": ["10.6.0.100"]}]}),
            Action.RELEASE,
            id="an address that only begins like it",
        ),
        pytest.param(come_back("10.233.1.5", deleted=True), Action.KEEP, id="goes again"),
        pytest.param(come_back("10.233.1.5", phase="Failed"), Action.KEEP, id="has failed"),
        pytest.param(None, Action.KEEP, id="is not there yet"),
    ],
)
def test_a_static_pod_that_does_not_ask_any_more(pod: Pod | None, action: Action) -> None:
    """
    A pod that came back with all its networks and without an address gives that back.

    Its template dropped the network, the NIC, the family or the pool. Until then the ordinal keeps
    it.
    """
    owners = HolderOwners(statefulset=make_statefulset("db", replicas=2))
    verdict = judge_leak(STATIC, pod, owners)

    assert action is verdict.action
    assert verdict.trigger is (Trigger.POD_REPLACED if action is Action.RELEASE else None)


@pytest.mark.parametrize(
    ("uid", "pod", "action"),
    [
        ("second", make_pod("db-1", uid="second"), Action.RELEASE),
        ("third", make_pod("db-1", uid="second", phase="Pending"), Action.KEEP),
        ("second", make_pod("db-1", uid="second", deleted=True), Action.KEEP),
        ("second", None, Action.KEEP),
    ],
)
def test_a_static_pod_s_former_address_goes_when_it_lives_with_another(
    uid: str, pod: Pod | None, action: Action
) -> None:
    """
    An agent that ended between claiming one address and releasing the other leaves two.

    Only the living pod's stays.
    """
    twin = make_record(
        "10.6.0.11", facts=make_facts(pod=make_pod("db-1", uid=uid), owner=STATEFULSET)
    )
    owners = HolderOwners(statefulset=make_statefulset("db", replicas=2))

    verdict = judge_leak(STATIC, pod, owners, twins=[twin])

    assert action is verdict.action
    assert verdict.trigger is (Trigger.POD_REPLACED if action is Action.RELEASE else None)


@pytest.mark.parametrize(
    ("uses", "twin_in_use", "action"),
    [
        ([], True, Action.RELEASE),
        ([], False, Action.KEEP),
        ([LIVED_IN], True, Action.KEEP),
        ([LIVED_IN], False, Action.KEEP),
    ],
)
def test_the_node_keeps_the_one_that_is_in_use(
    uses: list[NamespaceUse], twin_in_use: bool, action: Action
) -> None:
    """Of two addresses of one claim that goes which is not in use while the other one is."""
    assert (
        action
        is judge_leak_check(
            STATELESS, make_pod(), Trigger.TWICE, uses, twin_in_use=twin_in_use
        ).action
    )


def test_next_step_of_a_record_that_stays() -> None:
    """A verdict that keeps needs nobody's word."""
    kept = Verdict(Action.KEEP, "pod ns/web-1 exists")

    assert {Step.KEEP} == {
        next_step(kept, node, seen_s=1000.0, asked_s=900.0, name="n").step for node in NodeState
    }


@pytest.mark.parametrize(
    ("pod", "trigger", "uses", "action", "again_s"),
    [
        (None, "pod gone", [], Action.RELEASE, 0),
        (None, "pod gone", [LIVED_IN], Action.KEEP, IN_USE_CHECK_S),
        (make_pod(), "pod gone", [], Action.KEEP, 0),
        (make_pod(), "pod gone", [LIVED_IN], Action.KEEP, 0),
        (make_pod(deleted=True), "pod terminating", [], Action.RELEASE, 0),
        (make_pod(), "pod without address", [], Action.RELEASE, 0),
        (make_pod(), "pod without address", [LIVED_IN], Action.KEEP, IN_USE_CHECK_S),
    ],
)
def test_the_word_of_the_node(
    pod: Pod | None, trigger: str, uses: list[NamespaceUse], action: Action, again_s: float
) -> None:
    """
    The node releases what no namespace has and no living pod has.

    What is in use it looks at again.
    """
    verdict = judge_leak_check(STATELESS, pod, trigger, uses)

    assert (action, again_s) == (verdict.action, verdict.patience_s)


@pytest.mark.parametrize(
    ("pod", "uses", "action", "again_s"),
    [
        (None, [NamespaceUse("/x", gone=True, paused=True)], Action.FENCE, 0),
        (None, [NamespaceUse("/x", gone=True)], Action.KEEP, IN_USE_CHECK_S),
        (None, [NamespaceUse("/x", gone=True, seen_s=55.0)], Action.KEEP, 5.0),
        (None, [NamespaceUse("/x", gone=True, seen_s=60.0)], Action.FENCE, 0),
        (None, [NamespaceUse("/x", seen_s=1e6)], Action.KEEP, IN_USE_CHECK_S),
        (None, [LIVED_IN, NamespaceUse("/y", gone=True, paused=True)], Action.FENCE, 0),
        (
            make_pod(deleted=True),
            [NamespaceUse("/x", gone=True, seen_s=60.0)],
            Action.KEEP,
            IN_USE_CHECK_S,
        ),
    ],
)
def test_what_a_pod_that_is_gone_still_has_is_taken_off(
    pod: Pod | None, uses: list[NamespaceUse], action: Action, again_s: float
) -> None:
    """
    At once where only the sandbox's process is left, after a minute where containers may run.

    Never where a pod lives, nor while the holder's object exists.
    """
    verdict = judge_leak_check(STATELESS, pod, "pod gone", uses)

    assert (action, again_s) == (verdict.action, verdict.patience_s)


GONE = NamespaceUse("/x", gone=True, seen_s=10.0)


@pytest.mark.parametrize(
    ("record", "use", "uid", "action", "again_s"),
    [
        pytest.param(STATIC, GONE, "old", Action.FENCE, 0, id="handed over"),
        pytest.param(STATELESS, GONE, "uid-1", Action.KEEP, 0, id="the controller's to ask"),
        pytest.param(None, GONE, "old", Action.KEEP, 50, id="no record, containers"),
        pytest.param(
            None, NamespaceUse("/x", gone=True, seen_s=60.0), "old", Action.FENCE, 0, id="no record"
        ),
        pytest.param(
            RESTING,
            NamespaceUse("/x", gone=True, seen_s=60.0),
            "uid-1",
            Action.FENCE,
            0,
            id="rests",
        ),
        pytest.param(STATIC, NamespaceUse("/x"), "old", Action.KEEP, 0, id="lives"),
    ],
)
def test_what_a_namespace_has_that_outlived_its_pod(
    record: SpiderIP | None, use: NamespaceUse, uid: str, action: Action, again_s: float
) -> None:
    """At once where somebody else holds the address by now, after a minute where nobody does."""
    verdict = judge_stray(record, use, uid)

    assert (action, again_s) == (verdict.action, verdict.patience_s)
