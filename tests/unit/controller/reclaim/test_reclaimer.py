"""Reclaim of addresses whose pods are gone."""

from __future__ import annotations

import itertools
from contextlib import AsyncExitStack
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IN_USE
from spiderpool.api.crd.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.api.kubernetes.core import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Ordinals,
    Pod,
    PodIP,
    StatefulSet,
    StatefulSetSpec,
    Taint,
)
from spiderpool.api.kubernetes.kubevirt import VirtualMachine, VirtualMachineInstance
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.controller.reclaim.reclaimer import STATIC_LOOK_S, Reclaim
from spiderpool.errors import Forbidden, NotFound, TryAgain, Unreachable
from spiderpool.model.pool import COOL_DOWN_S
from spiderpool.records.build import let_go, marked, suspicion_of
from spiderpool.records.cooldown import QUARANTINE_S
from spiderpool.records.verdicts import SECOND_LOOK_S, SILENCE_S, Rules, Trigger
from tests import virtual_time
from tests.fakes.cluster import Call, FakeCluster
from tests.unit.controller.conftest import (
    Clock,
    Scene,
    Told,
    make_pod,
    make_pool,
    make_record,
    settle,
)


class Counts(list[Trigger | None]):
    """What reclaim told its metrics."""

    def __call__(self, trigger: Trigger | None) -> None:
        """Note one."""
        self.append(trigger)


async def reclaim(scene: Scene, **options: object) -> Reclaim:
    """Start reclaim over what the cluster has."""
    given = {"record_event": scene.told, "count": Counts(), "clock": scene.clock, **options}
    worker = Reclaim(await scene.lead(), **given)  # type: ignore[arg-type]
    worker.start()
    return worker


async def run(scene: Scene, worker: Reclaim, seconds: float = 0.0) -> None:
    """Let time pass, and reclaim work, in steps of a second at most."""
    left = seconds
    while True:
        await worker.rounds.run_due()
        await worker.queue.run_due()
        await settle()
        if left <= 0:
            return
        step = min(1.0, left)
        left -= step
        await scene.pass_time(step)


def held(scene: Scene) -> list[str]:
    """Return the addresses that somebody holds."""
    return [record.spec.ip for record in scene.cluster.all(SpiderIP) if record.held]


def resting(scene: Scene) -> list[str]:
    """Return the addresses that have records which nobody holds."""
    return [record.spec.ip for record in scene.cluster.all(SpiderIP) if not record.held]


def make_statefulset(
    name: str = "db", replicas: int | None = 3, start: int | None = None
) -> StatefulSet:
    """Make a StatefulSet."""
    ordinals = None if start is None else Ordinals(start=start)
    return StatefulSet(
        metadata=ObjectMeta(name=name, namespace="ns", generation=1),
        spec=StatefulSetSpec(replicas=replicas, ordinals=ordinals),
    )


async def test_living_pod_keeps_its_address(scene: Scene) -> None:
    """A record whose pod exists is not touched, and costs no live read."""
    scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record())
    await run(scene, await reclaim(scene), 1000)

    assert ["10.6.0.10"] == held(scene)
    assert 0 == scene.cluster.count("get")


async def test_address_of_a_pod_that_is_gone_comes_back(scene: Scene) -> None:
    """At the start of a leadership, a record without a pod is reclaimed after the second look, not before."""
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, SECOND_LOOK_S - 1)
    assert ["10.6.0.10"] == held(scene)
    await run(scene, worker, 2)

    assert [] == held(scene)


async def test_deleted_pod_is_noticed_by_its_event(scene: Scene) -> None:
    """A pod that goes leads to reclaim within seconds, without a scan."""
    scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, 30)
    scene.cluster.drop(Pod, "p", "ns")
    await run(scene, worker, 0)
    await run(scene, worker, SECOND_LOOK_S + 1)

    assert [] == held(scene)


async def test_pod_of_that_name_with_another_uid_is_another_pod(scene: Scene) -> None:
    """A record of a pod that was replaced by one of the same name is reclaimed, the new pod's record stays."""
    scene.cluster.seed(make_pod(uid="new"))
    scene.cluster.seed(make_record("10.6.0.10", uid="old"))
    scene.cluster.seed(make_record("10.6.0.11", uid="new"))
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)

    assert ["10.6.0.11"] == held(scene)


async def test_pod_that_the_informer_has_not_seen_keeps_its_address(scene: Scene) -> None:
    """A record that is seen before its pod belongs to a living pod: the live read finds it."""
    worker = await reclaim(scene)
    scene.cluster.hold_watch()
    scene.cluster.seed(make_pod())
    record = scene.cluster.seed(make_record())
    worker._context.records.remember(record)
    await run(scene, worker, SECOND_LOOK_S + 1)

    assert ["10.6.0.10"] == held(scene)


STATUS = "k8s.v1.cni.cncf.io/network-status"


@pytest.mark.parametrize("told", [True, False])
async def test_address_that_a_statefulset_s_pod_does_not_ask_for_any_more(
    scene: Scene, told: bool
) -> None:
    """
    A rolled out template without the network: the address goes soon after the pod has its networks.

    A meta plugin's word about them is an event. Without it the next look finds it, in time too.
    """
    scene.cluster.seed(make_statefulset("db", replicas=1))
    scene.cluster.seed(make_pod("db-0", "old"))
    scene.cluster.seed(make_record("10.6.0.10", "db-0", "old", static=True))
    scene.cluster.seed(make_record("10.7.0.10", "db-0", "old", static=True, nic="net1"))
    worker = await reclaim(scene)
    scene.cluster.drop(Pod, "db-0", "ns")
    pending = scene.cluster.seed(make_pod("db-0", "new", phase="Pending"))
    await scene.cluster.patch(SpiderIP, "10.6.0.10", {"spec": {"holder": {"uid": "new"}}})
    await run(scene, worker, 20)
    assert ["10.6.0.10", "10.7.0.10"] == held(scene)

    networks = {STATUS: '[{"ips":["10.6.0.10"]}]'} if told else {}
    meta = replace(pending.metadata, annotations=networks, resource_version="")
    status = replace(pending.status, phase="Running", pod_ips=(PodIP(ip="10.6.0.10"),))
    scene.cluster.seed(replace(pending, metadata=meta, status=status))
    await run(scene, worker, 0)
    for _ in range(2 if told else 12):
        await run(scene, worker, SECOND_LOOK_S + 1)

    assert ["10.6.0.10"] == held(scene)


async def test_record_that_changed_between_the_looks_begins_again(scene: Scene) -> None:
    """A record that was handed over after the first look is not deleted by the second."""
    scene.cluster.seed(make_record("10.6.0.10", "db-0", "old", static=True))
    worker = await reclaim(scene)
    await run(scene, worker, 2)
    body = {"spec": {"holder": {"uid": "new"}}}
    scene.cluster.seed(make_pod("db-0", "new"))
    await scene.cluster.patch(SpiderIP, "10.6.0.10", body)
    await run(scene, worker, SECOND_LOOK_S * 3)

    assert ["10.6.0.10"] == held(scene)


async def test_record_that_changes_during_the_delete_stays(scene: Scene) -> None:
    """The delete is conditional: a record that somebody took over at the last moment is kept."""
    scene.cluster.seed(make_record("10.6.0.10", "db-0", "old", static=True))
    counts = Counts()
    worker = await reclaim(scene, count=counts)

    async def take_over(call: Call) -> None:
        if call.verb in ("delete", "replace"):
            scene.cluster.seed(make_pod("db-0", "new"))
            await scene.cluster.patch(SpiderIP, "10.6.0.10", {"spec": {"holder": {"uid": "new"}}})

    scene.cluster.on_write(take_over)
    await run(scene, worker, SECOND_LOOK_S * 4)

    assert ["10.6.0.10"] == held(scene)
    assert [None] == counts


@pytest.mark.parametrize("error", [Unreachable("down"), Forbidden("no"), TryAgain("later")])
async def test_without_a_live_answer_nothing_is_reclaimed(scene: Scene, error: Exception) -> None:
    """As long as the pod cannot be read, its address stays; then it is judged again."""
    scene.cluster.seed(make_record())
    scene.cluster.faults.fail_next("get", Pod, error, times=100)
    worker = await reclaim(scene)
    await run(scene, worker, 60)
    assert ["10.6.0.10"] == held(scene)

    scene.cluster.faults._planned.clear()
    await run(scene, worker, 60)
    assert [] == held(scene)


async def test_reclaim_can_be_switched_off(scene: Scene) -> None:
    """With SPIDERPOOL_GC_IP_ENABLED=false held records stay; those that cool still end."""
    scene.cluster.seed(make_record("10.6.0.10"))
    scene.cluster.seed(make_record("10.6.0.11", state=IPState.COOLING))
    await run(scene, await reclaim(scene, enabled=False), COOL_DOWN_S + 2)

    assert ["10.6.0.10"] == held(scene)
    assert [] == resting(scene)


@pytest.mark.parametrize(
    ("state", "seconds"), [(IPState.COOLING, COOL_DOWN_S), (IPState.QUARANTINED, QUARANTINE_S)]
)
async def test_unheld_records_end_by_time(scene: Scene, state: IPState, seconds: float) -> None:
    """Cooling and quarantined addresses become free when their time is over, by the observer's clock."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record(state=state))
    worker = await reclaim(scene)
    await run(scene, worker, seconds - 2)
    assert ["10.6.0.10"] == resting(scene)
    await run(scene, worker, 3)

    assert [] == resting(scene)


async def test_address_taken_back_from_cooling_stays(scene: Scene) -> None:
    """A cooling record that its holder takes back is held again, and its time is forgotten."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record(state=IPState.COOLING))
    worker = await reclaim(scene)
    await run(scene, worker, COOL_DOWN_S - 2)
    await scene.cluster.patch(SpiderIP, "10.6.0.10", {"spec": {"state": "Held"}})
    await run(scene, worker, COOL_DOWN_S * 2)

    assert ["10.6.0.10"] == held(scene)


@pytest.mark.parametrize(
    ("owner", "name", "kept"),
    [
        (make_statefulset(), "db-0", True),
        (make_statefulset(), "db-2", True),
        (make_statefulset(), "db-3", False),
        (make_statefulset(replicas=0), "db-0", False),
        (make_statefulset(start=5), "db-5", True),
        (make_statefulset(start=5), "db-8", False),
        (make_statefulset(start=5), "db-0", False),
        (make_statefulset("web"), "db-0", False),
        (None, "db-0", False),
        (make_statefulset(), "db", False),
    ],
)
async def test_static_holders_are_judged_by_their_owner(
    scene: Scene, owner: StatefulSet | None, name: str, kept: bool
) -> None:
    """
    A missing pod keeps its address while its StatefulSet exists and wants that ordinal.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    if owner is not None:
        scene.cluster.seed(owner)
    scene.cluster.seed(make_record("10.6.0.10", name, static=True))
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)

    assert kept is bool(held(scene))


async def test_scaled_down_statefulset_is_noticed_without_an_event(scene: Scene) -> None:
    """A StatefulSet that is scaled down while its pod is away gives the address back within a minute or so."""
    scene.cluster.seed(make_statefulset())
    scene.cluster.seed(make_record("10.6.0.10", "db-2", static=True))
    worker = await reclaim(scene)
    await run(scene, worker, 10)
    await scene.cluster.patch(StatefulSet, "db", {"spec": {"replicas": 2}}, namespace="ns")
    await run(scene, worker, STATIC_LOOK_S + SECOND_LOOK_S + 2)

    assert [] == held(scene)


@pytest.mark.parametrize(
    ("objects", "kept"),
    [
        ((VirtualMachineInstance,), True),
        ((VirtualMachine,), True),
        ((VirtualMachineInstance, VirtualMachine), True),
        ((), False),
    ],
)
async def test_virtual_machines_are_judged_by_their_objects(
    scene: Scene, objects: tuple[type[VirtualMachine | VirtualMachineInstance], ...], kept: bool
) -> None:
    """
    The address of a virtual machine stays while its instance or its machine exists.

    Source: docs/reference/release-and-reclaim.md#owners-of-fixed-addresses.
    """
    for kind in objects:
        scene.cluster.seed(kind(metadata=ObjectMeta(name="vm", namespace="ns")))
    record = make_record("10.6.0.10", "vm", static=True)
    holder = replace(record.spec.holder, kind=HolderKind.VIRTUAL_MACHINE)
    scene.cluster.seed(replace(record, spec=replace(record.spec, holder=holder)))
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)

    assert kept is bool(held(scene))


async def test_claims_of_the_controller_itself_stay(scene: Scene) -> None:
    """An address that the controller claims while it edits a pool has no pod and is not a leak."""
    record = make_record()
    holder = replace(record.spec.holder, kind=HolderKind.POOL)
    scene.cluster.seed(replace(record, spec=replace(record.spec, holder=holder)))
    await run(scene, await reclaim(scene), 1000)

    assert ["10.6.0.10"] == held(scene)


def make_endpoint(name: str = "db-0", *, owned: bool = False) -> SpiderEndpoint:
    """Make an endpoint, of a static holder unless it is owned."""
    owners = (OwnerReference(api_version="v1", kind="Pod", name=name, uid="u"),) if owned else ()
    return SpiderEndpoint(metadata=ObjectMeta(name=name, namespace="ns", owner_references=owners))


async def test_endpoint_goes_with_the_last_static_record(scene: Scene) -> None:
    """
    An endpoint of a static holder goes when its last address is reclaimed.

    That of another pod is not ours to delete.
    """
    scene.cluster.seed(make_endpoint())
    scene.cluster.seed(make_endpoint("p", owned=True))
    scene.cluster.seed(make_record("10.6.0.10", "db-0", static=True))
    scene.cluster.seed(make_record("10.6.0.11", "db-0", static=True, nic="net1"))
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)

    assert [] == held(scene)
    assert ["p"] == [endpoint.metadata.name for endpoint in scene.cluster.all(SpiderEndpoint)]


async def test_orphaned_endpoint_is_found_by_the_scan(scene: Scene) -> None:
    """
    An endpoint of a static holder without address and pod (a crash after the release) goes.

    One in use stays.
    """
    scene.cluster.seed(make_endpoint("db-0"))
    scene.cluster.seed(make_endpoint("db-1"))
    scene.cluster.seed(make_endpoint("db-2"))
    scene.cluster.seed(make_pod("db-1", "u1"))
    scene.cluster.seed(make_statefulset())
    scene.cluster.seed(make_record("10.6.0.12", "db-2", static=True))
    await run(scene, await reclaim(scene))

    assert ["db-1", "db-2"] == [
        endpoint.metadata.name for endpoint in scene.cluster.all(SpiderEndpoint)
    ]


async def test_endpoints_stay_while_pools_wait_for_their_import(scene: Scene) -> None:
    """Before the import endpoints have no records; they are what the import reads."""
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/db-0","podUid":"u"}}')
    )
    scene.cluster.seed(make_endpoint())
    await run(scene, await reclaim(scene))

    assert 1 == len(scene.cluster.all(SpiderEndpoint))


async def test_new_leader_begins_with_a_scan(scene: Scene) -> None:
    """What was leaked while nobody led is found at the start of the next leadership."""
    scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record())
    first = await reclaim(scene)
    await run(scene, first, 10)
    scene.cluster.hold_watch()
    scene.cluster.drop(Pod, "p", "ns")
    scene.cluster.release_watch()
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)

    assert [] == held(scene)


STEPS = (
    "create",
    "delete",
    "replace",
    "claim",
    "hand_over",
    "late",
    "hold",
    "show",
    "wait",
    "reclaim",
    "fail",
)


class Story:
    """
    Pods, records, faults and reclaim in any order.

    Every delete of a record is checked against the law.
    """

    def __init__(self, scene: Scene, worker: Reclaim, choices: Random, *, static: bool) -> None:
        self.scene = scene
        self.cluster = scene.cluster
        self.worker = worker
        self.choices = choices
        self.static = static
        self.stolen: list[str] = []
        self._uids = (f"uid{number}" for number in itertools.count())
        self.cluster.seed(make_statefulset("p"))
        self.cluster.on_write(self._check)

    def _check(self, call: Call) -> None:
        if (call.verb, call.plural) in (("delete", "spiderips"), ("replace", "spiderips")):
            record = next(r for r in self.cluster.all(SpiderIP) if r.metadata.name == call.name)
            if record.held and (record.spec.holder.name, record.spec.holder.uid) in self.living:
                self.stolen.append(call.name)

    @property
    def living(self) -> set[tuple[str, str]]:
        """Name and UID of all pods."""
        return {(pod.metadata.name, pod.metadata.uid) for pod in self.cluster.all(Pod)}

    async def do(self, step: str) -> None:
        """Do one step, then let a few things happen."""
        await getattr(self, step)(f"p-{self.choices.randrange(2)}")
        await settle(self.choices.randrange(5))

    async def create(self, name: str) -> None:
        """A pod comes."""
        if name not in dict(self.living):
            self.cluster.seed(make_pod(name, next(self._uids)))

    async def delete(self, name: str) -> None:
        """A pod goes."""
        if name in dict(self.living):
            self.cluster.drop(Pod, name, "ns")

    async def replace(self, name: str) -> None:
        """A pod goes and another of its name comes."""
        await self.delete(name)
        await self.create(name)

    async def claim(self, name: str) -> None:
        """
        A pod gets an address, if that one is free.

        The record may be seen before the pod is, watches are not in step.
        """
        ip = f"10.6.0.{self.choices.randrange(10, 18)}"
        if name in dict(self.living) and ip not in held(self.scene):
            record = self.cluster.seed(
                make_record(ip, name, dict(self.living)[name], static=self.static)
            )
            if self.choices.random() < 0.5:
                self.worker._context.records.remember(record)

    async def late(self, name: str) -> None:
        """The watch of pods is late for a new pod and its record is seen at once."""
        await self.hold(name)
        await self.replace(name)
        await self.claim(name)

    async def hand_over(self, name: str) -> None:
        """A static pod takes the addresses of its predecessor."""
        for record in self.cluster.all(SpiderIP):
            if self.static and record.spec.holder.name == name and name in dict(self.living):
                body = {"spec": {"holder": {"uid": dict(self.living)[name]}}}
                await self.cluster.patch(SpiderIP, record.metadata.name, body)

    async def hold(self, _: str) -> None:
        """Watches show nothing new."""
        self.cluster.hold_watch()

    async def show(self, _: str) -> None:
        """Watches show all."""
        self.cluster.release_watch()

    async def wait(self, _: str) -> None:
        """Time passes."""
        await self.scene.pass_time(SECOND_LOOK_S)

    async def reclaim(self, _: str) -> None:
        """Reclaim works on what is due, and some time later again."""
        await run(self.scene, self.worker, self.choices.choice([0, SECOND_LOOK_S + 1]))

    async def fail(self, _: str) -> None:
        """The next read or delete fails."""
        self.cluster.faults.fail_next(
            self.choices.choice(["get", "delete"]), None, Unreachable("down")
        )

    async def end(self) -> None:
        """All is shown, nothing fails any more, and reclaim has the time it needs."""
        self.cluster.release_watch()
        self.cluster.faults._planned.clear()
        await settle()
        await run(self.scene, self.worker, 100)


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=10, max_size=60),
    seed=st.integers(0, 2**32),
    static=st.booleans(),
)
@pytest.mark.timeout(120)
def test_no_living_pod_loses_its_address(steps: list[str], seed: int, static: bool) -> None:
    """
    Law.

    Whatever happens in whatever order, no pod that lives loses its record, and in the end nothing
    is leaked.
    """
    virtual_time.run(_play(steps, Random(seed), static=static))  # noqa: S311 - a story, not a secret


async def _play(steps: list[str], choices: Random, *, static: bool) -> None:
    """Play a story to its end."""
    async with AsyncExitStack() as stack:
        scene = Scene(FakeCluster(), Clock(), Told(), stack)
        story = Story(scene, await reclaim(scene), choices, static=static)
        for step in steps:
            await story.do(step)
        await story.end()

        assert [] == story.stolen
        wanted = {"p-0", "p-1"} if static else set()
        holders = [record.spec.holder for record in scene.cluster.all(SpiderIP)]
        assert [] == [
            h for h in holders if (h.name, h.uid) not in story.living and h.name not in wanted
        ]


async def test_record_that_its_node_released_first_is_no_failure(scene: Scene) -> None:
    """When the node's DEL was faster, reclaim finds nothing to do and counts nothing."""
    scene.cluster.seed(make_record())
    counts = Counts()
    worker = await reclaim(scene, count=counts)
    await run(scene, worker, 2)
    scene.cluster.faults.fail_next("delete", SpiderIP, NotFound("gone"))
    await run(scene, worker, SECOND_LOOK_S)

    assert [] == counts


def make_node(*, ready: bool = True) -> Node:
    """Make the node of all records."""
    return Node(
        metadata=ObjectMeta(name="node1"),
        status=NodeStatus(
            conditions=(NodeCondition(type="Ready", status="True" if ready else "Unknown"),)
        ),
    )


def out_of_service(node: Node) -> Node:
    """Say of a node that nothing runs there any more."""
    spec = NodeSpec(taints=(Taint(key="node.kubernetes.io/out-of-service"),))
    return replace(make_node(ready=False), metadata=node.metadata, spec=spec)


async def answer(scene: Scene, **annotations: str) -> None:
    """Let the node's agent say that an address is still in use, or release it when there is nothing to say."""
    (record,) = scene.cluster.all(SpiderIP)
    if annotations:
        (text,) = annotations.values()
        await scene.cluster.replace(marked(record, ANNO_IN_USE, text))
    else:
        await scene.cluster.replace(
            let_go(record, IPState.COOLING, "now", suspicion=suspicion_of(record))
        )


async def test_a_ready_node_is_asked_first(scene: Scene) -> None:
    """
    The record is marked with the reason.

    The node's release is counted, logged and told once, with the trigger.
    """
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    counts = Counts()
    worker = await reclaim(scene, count=counts)
    await run(scene, worker, SECOND_LOOK_S + 1)

    assert ["10.6.0.10"] == held(scene)
    assert ["pod gone: pod ns/p does not exist"] == [
        suspicion_of(record) for record in scene.cluster.all(SpiderIP)
    ]
    await answer(scene)
    await run(scene, worker, 1)

    assert [Trigger.POD_GONE] == counts
    ((pool, reason, text),) = scene.told.events
    assert ("blue", "IPReclaimed") == (pool, reason)
    assert (
        "10.6.0.10 of ns/p (eth0) is reclaimed: pod ns/p does not exist; no namespace of node node1 has it"
        == text
    )


async def test_a_claim_that_holds_two_addresses_is_asked_about(scene: Scene) -> None:
    """
    Both records of a living pod's one claim are marked.

    When its node has released one, the other's mark goes.
    """
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_pod())
    for ip in ("10.6.0.10", "10.6.0.11"):
        scene.cluster.seed(make_record(ip))
    counts = Counts()
    worker = await reclaim(scene, count=counts)
    await run(scene, worker, SECOND_LOOK_S + 300)
    first, second = scene.cluster.all(SpiderIP)
    text = "held twice: pod ns/p holds another IPv4 address for eth0"
    assert [text, text] == [suspicion_of(first), suspicion_of(second)]
    await scene.cluster.replace(
        let_go(first, IPState.COOLING, "now", suspicion=suspicion_of(first))
    )
    await settle()
    await run(scene, worker, 5)

    assert ["10.6.0.11"] == held(scene)
    assert [""] == [suspicion_of(record) for record in scene.cluster.all(SpiderIP) if record.held]
    assert [Trigger.TWICE] == counts


async def test_silence_is_no_consent(scene: Scene) -> None:
    """A Ready node whose agent does not answer keeps the address, however long; that is told once."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, SECOND_LOOK_S + SILENCE_S + 1000)

    assert ["10.6.0.10"] == held(scene)
    text = "10.6.0.10 of ns/p (eth0) stays: pod ns/p does not exist; the agent of node node1 does not answer"
    assert [("blue", "NodeDoesNotAnswer", text)] == scene.told.events


async def test_a_partitioned_node_keeps_the_addresses_of_its_pods(scene: Scene) -> None:
    """
    The API server does not hear of the node, and its pods are evicted: they may live.

    Out of service is what an administrator says; then time decides.
    """
    scene.cluster.seed(make_pool())
    node = scene.cluster.seed(make_node(ready=False))
    scene.cluster.seed(
        make_pod(deletion_timestamp="2026-01-01T00:00:00Z", deletion_grace_period_seconds=20)
    )
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, 1000)
    assert ["10.6.0.10"] == held(scene)
    assert {("blue", "NodeDoesNotAnswer"), ("p", "NodeDoesNotAnswer")} == {
        (name, reason) for name, reason, _ in scene.told.events
    }

    scene.cluster.seed(out_of_service(node))
    await run(scene, worker, 300)

    assert [] == held(scene)


async def test_a_silent_node_that_comes_back_is_asked(scene: Scene) -> None:
    """When the node is Ready again its agent is asked, as if nothing had been."""
    scene.cluster.seed(make_pool())
    node = scene.cluster.seed(make_node(ready=False))
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, 100)
    assert [""] == [suspicion_of(record) for record in scene.cluster.all(SpiderIP)]

    scene.cluster.seed(replace(make_node(), metadata=node.metadata))
    await run(scene, worker, 50)

    assert [True] == [bool(suspicion_of(record)) for record in scene.cluster.all(SpiderIP)]


async def test_an_address_that_is_still_in_use_stays(scene: Scene) -> None:
    """
    While the node says that a namespace has the address it stays, however long.

    That is told.
    """
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, SECOND_LOOK_S + 1)
    await answer(scene, in_use="10.6.0.10 is still in use in /var/run/netns/x")
    await run(scene, worker, 300)

    assert ["10.6.0.10"] == held(scene)
    assert [("blue", "IPStillInUse")] == [(name, reason) for name, reason, _ in scene.told.events]


async def test_an_address_in_use_of_a_lost_node_is_reclaimed(scene: Scene) -> None:
    """When the node that said so is out of service, nobody can say it any more: time decides."""
    scene.cluster.seed(make_pool())
    node = scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, SECOND_LOOK_S + 1)
    await answer(scene, in_use="10.6.0.10 is still in use in /var/run/netns/x")
    scene.cluster.seed(out_of_service(node))
    await run(scene, worker, 60)

    assert [] == held(scene)


async def test_a_new_leader_goes_on_with_the_question(scene: Scene) -> None:
    """A record that a former leader marked is not marked again, and its agent has the whole time to answer."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    await run(scene, await reclaim(scene), SECOND_LOOK_S + 1)
    worker = await reclaim(scene)
    writes = scene.cluster.count("replace", SpiderIP)
    await run(scene, worker, SECOND_LOOK_S + SILENCE_S - 1)
    assert (writes, ["10.6.0.10"]) == (scene.cluster.count("replace", SpiderIP), held(scene))
    assert [] == scene.told.events
    await run(scene, worker, 3)

    assert ["NodeDoesNotAnswer"] == [reason for _, reason, _ in scene.told.events]


async def test_a_mark_goes_when_its_pod_lives_after_all(scene: Scene) -> None:
    """A record that turns out to be a living pod's is not suspected any more."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_node())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, SECOND_LOOK_S + 1)
    scene.cluster.hold_watch()
    scene.cluster.seed(make_pod())
    await run(scene, worker, SILENCE_S + 2)

    assert ["10.6.0.10"] == held(scene)
    assert [""] == [suspicion_of(record) for record in scene.cluster.all(SpiderIP)]


@pytest.mark.parametrize("ready", [True, False])
@pytest.mark.parametrize("switched_on", [True, False])
async def test_a_pod_that_hangs_in_deletion(scene: Scene, ready: bool, switched_on: bool) -> None:
    """Past its grace period a terminating pod's address goes, when the switch for its node's state is on."""
    scene.cluster.seed(make_pool())
    node = scene.cluster.seed(make_node())
    if not ready:
        scene.cluster.seed(out_of_service(node))
    scene.cluster.seed(
        make_pod(deletion_timestamp="2026-01-01T00:00:00Z", deletion_grace_period_seconds=20)
    )
    scene.cluster.seed(make_record())
    rules = Rules(on_ready_node=switched_on and ready, on_lost_node=switched_on and not ready)
    worker = await reclaim(scene, rules=rules)
    await run(scene, worker, 20 + SECOND_LOOK_S - 1)
    assert ["10.6.0.10"] == held(scene)
    await run(scene, worker, 3)
    if ready and switched_on:
        await answer(scene)
    await run(scene, worker, SILENCE_S)

    assert switched_on is not bool(held(scene))
    names = {(name, reason) for name, reason, _ in scene.told.events}
    assert names == ({("blue", "IPReclaimed"), ("p", "IPReclaimed")} if switched_on else set())


async def test_a_finished_pod_gives_its_address_back(scene: Scene) -> None:
    """
    A finished Job's pod that stays keeps nothing.

    Its end is noticed by its phase, and its grace period is waited for.
    """
    scene.cluster.seed(make_pool())
    pod = scene.cluster.seed(make_pod())
    scene.cluster.seed(make_record())
    worker = await reclaim(scene)
    await run(scene, worker, 100)
    spec = replace(pod.spec, termination_grace_period_seconds=10)
    scene.cluster.seed(replace(pod, spec=spec, status=replace(pod.status, phase="Succeeded")))
    await settle()
    await run(scene, worker, 10)
    assert ["10.6.0.10"] == held(scene)
    await run(scene, worker, 30)

    assert [] == held(scene)


async def test_a_pod_that_runs_without_an_address_is_found_by_the_scan(scene: Scene) -> None:
    """
    With its switch on, a running pod without addresses in its status gives its record back.

    One with addresses does not.
    """
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_pod("blank", "u1"))
    in_use = make_pod("used", "u2")
    scene.cluster.seed(
        replace(in_use, status=replace(in_use.status, pod_ips=(PodIP(ip="10.6.0.11"),)))
    )
    scene.cluster.seed(make_record("10.6.0.10", "blank", "u1"))
    scene.cluster.seed(make_record("10.6.0.11", "used", "u2"))
    await run(scene, await reclaim(scene, rules=Rules(blank=True)), SECOND_LOOK_S + 1)

    assert ["10.6.0.11"] == held(scene)


async def test_a_statefulset_that_is_scaled_down_makes_us_look(scene: Scene) -> None:
    """The address of an ordinal that is not wanted any more comes back within seconds, though its pod is long gone."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_statefulset())
    scene.cluster.seed(make_record("10.6.0.10", "db-2", static=True))
    worker = await reclaim(scene)
    await run(scene, worker, 20)
    await scene.cluster.patch(StatefulSet, "db", {"spec": {"replicas": 2}}, namespace="ns")
    await settle()
    await run(scene, worker, SECOND_LOOK_S + 1)

    assert [] == held(scene)


async def test_a_pool_without_cool_down_gets_its_address_back_at_once(scene: Scene) -> None:
    """A leak in a pool whose cool-down is 0 is deleted, not left to rest."""
    pool = make_pool()
    scene.cluster.seed(replace(pool, spec=replace(pool.spec, cool_down_seconds=0)))
    scene.cluster.seed(make_record())
    counts = Counts()
    await run(scene, await reclaim(scene, count=counts), SECOND_LOOK_S + 1)

    assert [] == held(scene) + resting(scene)
    assert [Trigger.POD_GONE] == counts


async def test_a_resting_address_that_its_pool_lost_goes_at_once(scene: Scene) -> None:
    """
    An address that was moved out of its pool need not rest there.

    Another pool may have it now.
    """
    scene.cluster.seed(make_pool(ips=("10.6.0.11-10.6.0.19",)))
    scene.cluster.seed(make_record(state=IPState.COOLING))
    await run(scene, await reclaim(scene), 1)

    assert [] == resting(scene)
