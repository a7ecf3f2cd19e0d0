"""
Any order of everything that happens to a cluster: agents, controller, applications, nodes, users, crashes.

Never two holders of one address, never an address outside its pool, fixed addresses stay fixed, and
when all has settled nothing is held by nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.reconcile import suspected_records
from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.api.crd.group import ANNO_IN_USE
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import (
    Node,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Pod,
    StatefulSet,
    StatefulSetSpec,
    Taint,
)
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.controller.reclaim.reclaimer import Reclaim
from spiderpool.controller.runtime.context import Context as Leadership
from spiderpool.errors import SpiderpoolError, UnknownOutcome, Unreachable
from spiderpool.kube.informer import Informer
from spiderpool.records import verdicts
from spiderpool.records.build import suspicion_of
from tests import virtual_time
from tests.fakes.cluster import FakeCluster
from tests.unit.agent.simulation import (
    CONFIG,
    Agent,
    Simulation,
    ips,
    new_simulation,
    sandbox_of,
    with_owner,
)

NODES: Final = ("node1", "node2")
POOLS: Final = ("blue", "red")
RANGES: Final = {"blue": "10.6.0.", "red": "10.7.0."}
FIRST, LAST = 10, 13  # the addresses that a pool may have; fewer than pods may want
WRITES: Final = frozenset({"create", "replace", "patch", "delete"})
IPPOOL: Final = "ipam.spidernet.io/ippool"
LONG_S: Final = 900.0  # longer than two looks at a silent node, rest and static holders together


class Mortal:
    """
    The way of one process to the cluster; at a chosen write of a record it dies.

    Nothing that it asks is done any more.
    """

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self._left: int | None = None
        self._after_commit = False
        self.dead = False

    def doom(self, at: int, *, after_commit: bool) -> None:
        """Let it die at its `at`-th write from now on, before or after that is carried out."""
        self._left, self._after_commit = at, after_commit

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._cluster, name)
        return self._guarded(name, method) if asyncio.iscoroutinefunction(method) else method

    def _guarded(
        self, verb: str, method: Callable[..., Awaitable[Any]]
    ) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **more: Any) -> Any:
            if self.dead:
                raise Unreachable("this process is dead")
            subject = args[0] if isinstance(args[0], type) else type(args[0])
            if self._left is None or verb not in WRITES or subject is not SpiderIP:
                return await method(*args, **more)
            self._left -= 1
            if self._left:
                return await method(*args, **more)
            if self._after_commit:
                with suppress(SpiderpoolError):
                    await method(*args, **more)
            self.dead = True
            raise UnknownOutcome("this process is dead")

        return call


class Clock:
    """The controller's time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Tell it."""
        return self.now


@dataclass(slots=True)
class App:
    """An application as its controller wants it: how many pods, and of which template."""

    name: str
    static: bool
    replicas: int = 0
    pools: tuple[str, ...] = ("blue",)
    grace_s: int = 0


@dataclass(slots=True)
class Controller:
    """The process that leads."""

    door: Mortal
    worker: Reclaim
    stack: AsyncExitStack


@dataclass(slots=True)
class Box:
    """A pod's sandbox as the node has it, and what that has, until its namespace or its node ends."""

    pod: Pod
    uses: set[str] = field(default_factory=set)

    @property
    def paused(self) -> bool:
        """Whether only the sandbox's process is left when the pod is gone; of half of all pods."""
        return sum(self.pod.metadata.uid.encode()) % 2 == 0

    @property
    def interfaces(self) -> tuple[str, ...]:
        """What the kernel says of its addresses."""
        return tuple(f"{ip}/24" for ip in self.uses)


class AnyOrder:
    """
    A cluster of two nodes, three applications and two small pools.

    What happens to it is chosen by `choices`.
    """

    def __init__(self, choices: Random) -> None:
        self.choices = choices
        self.folder = TemporaryDirectory()
        self.runner = virtual_time.new_runner()
        self.simulation: Simulation = new_simulation(Path(self.folder.name))
        self.cluster = self.simulation.cluster
        self.clock = Clock()
        self.agents: dict[str, tuple[Agent, Mortal, AsyncExitStack]] = {}
        self.apps = {
            "web": App("web", static=False, pools=("blue", "red")),
            "api": App("api", static=False, pools=("red",), grace_s=20),
            "db": App("db", static=True, pools=("blue",)),
        }
        self.boxes: dict[str, Box] = {}  # by UID
        self.lost: set[str] = set()
        self.fixed: dict[str, str] = {}
        # addresses that a pool lost while watches stood still: a claim may have raced with that
        self.unseen: set[str] = set()
        self.late = False
        self.numbers = 0
        for pool in POOLS:
            self.simulation.pool(
                pool,
                f"{RANGES[pool]}0/24",
                default=False,
                ips=[f"{RANGES[pool]}{FIRST}-{RANGES[pool]}{LAST}"],
            )
        for node in NODES:
            self._node(node, ready=True)
        self.cluster.seed(
            StatefulSet(
                metadata=ObjectMeta(name="db", namespace="ns", generation=1),
                spec=StatefulSetSpec(replicas=0),
            )
        )
        self.run(self._begin())

    # --- the machinery
    # ------------------------------------------------------------------------------------------------------

    def run(self, work: Any) -> Any:
        """Run something to its end."""
        return self.runner.run(work)

    async def _begin(self) -> None:
        for node in NODES:
            await self._start_agent(node)
        self.controller = await self._lead()

    async def _start_agent(self, node: str) -> None:
        door, stack = Mortal(self.cluster), AsyncExitStack()
        agent = await stack.enter_async_context(
            self.simulation.agent(
                node,
                cluster=door,
                wait_s=0,
                look=lambda: self._look(node),
                fence=self._fence,
                config=CONFIG,
            )
        )
        self.agents[node] = (agent, door, stack)

    async def _look(self, node: str) -> tuple[InUseNamespace, ...]:
        """Return what the namespaces of a node have."""
        return tuple(
            InUseNamespace(
                path=uid,
                pod_uid=uid,
                containers=(sandbox_of(box.pod),) if box.paused else (),
                interfaces=(InUseInterface(nic="eth0", addresses=box.interfaces),),
            )
            for uid, box in self.boxes.items()
            if box.pod.spec.node_name == node
        )

    async def _fence(self, namespace: InUseNamespace, ip: IPAddress) -> None:
        """Take an address off a namespace."""
        if namespace.path in self.boxes:
            self.boxes[namespace.path].uses.discard(str(ip))

    async def _lead(self) -> Controller:
        door, stack = Mortal(self.cluster), AsyncExitStack()
        pools = Informer(door, SpiderIPPool)
        await pools.start()
        stack.push_async_callback(pools.stop)
        leadership = await stack.enter_async_context(Leadership(door, pools, CONFIG.features))
        worker = Reclaim(
            leadership, record_event=lambda *_: None, count=lambda _: None, clock=self.clock
        )
        worker.start()
        return Controller(door, worker, stack)

    async def _bury(self) -> None:
        """Let the successor of each process that died begin."""
        for node, (_, door, stack) in tuple(self.agents.items()):
            if door.dead:
                await stack.aclose()
                del self.agents[node]
                await self._start_agent(node)
        if self.controller.door.dead:
            await self.controller.stack.aclose()
            self.controller = await self._lead()

    async def _pass_time(self, seconds: float) -> None:
        """Let the controller work for some time, in steps of a few seconds, and the agents answer it."""
        left = seconds
        while left > 0:
            step = min(10.0, left)
            self.clock.now += step
            left -= step
            await self.controller.worker.rounds.run_due()
            await self.controller.worker.queue.run_due()
            await self._bury()
            await self._hear_agents()

    async def _hear_agents(self) -> None:
        """Return agents the time to answer: ours passes slower than the controller's."""
        await asyncio.sleep(0.003)
        for _ in range(200):
            asked = [
                record
                for record in self.cluster.all(SpiderIP)
                if record.held and suspicion_of(record)
            ]
            if self.late or all(
                ANNO_IN_USE in r.metadata.annotations or r.spec.holder.node in self.lost
                for r in asked
            ):
                return
            await asyncio.sleep(0.002)

    def _node(self, name: str, *, ready: bool, out_of_service: bool = False) -> None:
        condition = NodeCondition(type="Ready", status="True" if ready else "Unknown")
        taints = (Taint(key="node.kubernetes.io/out-of-service"),) if out_of_service else ()
        self.cluster.seed(
            Node(
                metadata=ObjectMeta(name=name),
                spec=NodeSpec(taints=taints),
                status=NodeStatus(conditions=(condition,)),
            )
        )

    def _pods(self, app: App) -> dict[str, Pod]:
        return {
            pod.metadata.name: pod
            for pod in self.cluster.all(Pod)
            if pod.metadata.name.rpartition("-")[0] == app.name
        }

    def _alive(self, pod: Pod) -> bool:
        return pod.metadata.deletion_timestamp is None

    def _lives(self, uid: str) -> bool:
        """Return whether a pod exists, and neither ends nor has ended."""
        pod = self._current(uid)
        return pod is not None and self._alive(pod) and pod.status.phase == "Running"

    def _current(self, uid: str) -> Pod | None:
        return next((pod for pod in self.cluster.all(Pod) if pod.metadata.uid == uid), None)

    # --- applications
    # -------------------------------------------------------------------------------------------------------

    def scale(self) -> None:
        """Let a user ask for another number of pods, and the application's controller make and delete pods."""
        app = self._any_app()
        app.replicas = self.choices.randrange(5)
        if app.static:
            self._write_statefulset()
        self._reconcile_app(app)

    def _any_app(self) -> App:
        return self.choices.choice(list(self.apps.values()))

    def _write_statefulset(self) -> None:
        (found,) = self.cluster.all(StatefulSet)
        replicas = self.apps["db"].replicas
        meta = replace(found.metadata, generation=found.metadata.generation + 1)
        self.cluster.seed(
            replace(found, metadata=meta, spec=replace(found.spec, replicas=replicas))
        )
        self.fixed = {
            name: ip for name, ip in self.fixed.items() if int(name.rpartition("-")[2]) < replicas
        }

    def reconcile(self) -> None:
        """Let each application's controller look after its pods."""
        for app in self.apps.values():
            self._reconcile_app(app)

    def _reconcile_app(self, app: App) -> None:
        pods = self._pods(app)
        alive = {name: pod for name, pod in pods.items() if self._alive(pod)}
        if app.static:
            wanted = [f"db-{n}" for n in range(app.replicas)]
            for name in [name for name in wanted if name not in pods]:
                self._create(app, name)
            surplus = [pod for name, pod in alive.items() if name not in wanted]
        else:
            for _ in range(app.replicas - len(alive)):
                self.numbers += 1
                self._create(app, f"{app.name}-{self.numbers}")
            surplus = list(alive.values())[app.replicas :]
        for pod in surplus:
            self._delete_pod(pod)

    def _create(self, app: App, name: str) -> None:
        """Let the scheduler bind a new pod to a node that is Ready, if there is one."""
        ready = [each for each in NODES if each not in self.lost]
        if not ready:
            return
        self.numbers += 1
        where = self.choices.choice(ready)
        annotations = {IPPOOL: {"ipv4": list(app.pools)}}
        pod = self.simulation.pod(
            name,
            uid=f"{name}#{self.numbers}",
            node=where,
            annotations=annotations,
            stateful=app.static,
        )
        if not app.static:
            self.cluster.seed(
                with_owner(
                    replace(pod, metadata=replace(pod.metadata, resource_version="")),
                    "Deployment",
                    app.name,
                )
            )

    def _delete_pod(self, pod: Pod) -> None:
        """Let somebody delete a pod: it ends when its kubelet says so."""
        grace = self.apps[pod.metadata.name.rpartition("-")[0]].grace_s
        meta = replace(
            pod.metadata,
            resource_version="",
            deletion_timestamp="2026-01-01T00:00:00Z",
            deletion_grace_period_seconds=grace,
        )
        self.cluster.seed(replace(pod, metadata=meta))

    def delete_pods(self) -> None:
        """Let a user delete some pods."""
        alive = [pod for pod in self.cluster.all(Pod) if self._alive(pod)]
        for pod in self.choices.sample(alive, self.choices.randrange(len(alive) + 1)):
            self._delete_pod(pod)

    def roll_out(self) -> None:
        """Let a user change the annotation of a template, and all pods be made again."""
        app, pools = self._any_app(), self.choices.choice([("blue",), ("red",), ("red", "blue")])
        if app.static and pools != app.pools:
            self.fixed.clear()  # a pool that is not named any more is left at restart
        app.pools = pools
        for pod in self._pods(app).values():
            if self._alive(pod):
                self._delete_pod(pod)

    def finish(self) -> None:
        """Let a stateless pod end by itself, as a Job's does."""
        running = [
            pod
            for pod in self.cluster.all(Pod)
            if self._alive(pod) and not pod.metadata.name.startswith("db")
        ]
        if running:
            pod = self.choices.choice(running)
            spec = replace(pod.spec, termination_grace_period_seconds=5)
            done = replace(
                pod,
                metadata=replace(pod.metadata, resource_version=""),
                spec=spec,
                status=replace(pod.status, phase="Succeeded"),
            )
            self.cluster.seed(done)

    # --- nodes
    # --------------------------------------------------------------------------------------------------------------

    def kubelets(self) -> None:
        """
        Let applications be looked after, and kubelets start what is to run and end what is to go.

        An agent may die at any write of that, and a DEL may get lost.
        """
        self.reconcile()
        for node in [node for node in NODES if node not in self.lost]:
            if self.choices.random() < 0.3:
                self.agents[node][1].doom(
                    self.choices.randrange(1, 4), after_commit=self.choices.random() < 0.5
                )
            self.run(self._kubelet(node, loses_del=self.choices.random() < 0.2))

    async def _kubelet(self, node: str, *, loses_del: bool) -> None:
        for pod in [pod for pod in self.cluster.all(Pod) if pod.spec.node_name == node]:
            if self._alive(pod) and pod.status.phase == "Running":
                await self._start(node, pod)
            elif pod.metadata.uid in self.boxes or not self._alive(pod):
                await self._end(node, pod, loses_del=loses_del)
        for uid in [uid for uid, box in self.boxes.items() if box.pod.spec.node_name == node]:
            if self._current(uid) is None:
                await self._end(node, self.boxes[uid].pod, loses_del=loses_del)
        await self._bury()

    async def _start(self, node: str, pod: Pod) -> None:
        uid = pod.metadata.uid
        if uid in self.boxes and self.boxes[uid].uses:
            return
        reserved = self._reserved()
        had = {
            record.spec.ip
            for record in self.cluster.all(SpiderIP)
            if record.spec.holder.uid == uid and record.held
        }
        had |= set(self.fixed.values())
        try:
            answer = await self.agents[node][0].add(pod)
        except SpiderpoolError:
            await self._bury()
            return
        (ip,) = ips(answer)
        self.boxes[uid] = Box(pod, {ip})
        assert self.late or ip in had or ip not in reserved
        if pod.metadata.name.startswith("db"):
            known = self.fixed.setdefault(pod.metadata.name, ip)
            assert known == ip, "a fixed address moved"

    async def _end(self, node: str, pod: Pod, *, loses_del: bool) -> None:
        """
        End a sandbox: the DEL is made, and repeated once after a failure.

        Or it is lost, and perhaps the namespace stays.
        """
        if not loses_del:
            for _ in range(2):
                with suppress(SpiderpoolError):
                    await self.agents[node][0].delete(pod)
                    break
                await self._bury()
        if not loses_del or self.choices.random() < 0.5:
            self.boxes.pop(pod.metadata.uid, None)
        if self._current(pod.metadata.uid) is not None and not self._alive(pod):
            self.cluster.drop(Pod, pod.metadata.name, "ns")

    def lose_node(self) -> None:
        """Let the power of a node fail; its pods may be evicted, or deleted by force; it may be said."""
        if self.lost:
            return
        node, fate = self.choices.choice(NODES), self.choices.choice(["kept", "evicted", "forced"])
        self.lost.add(node)
        self._node(node, ready=False, out_of_service=self.choices.random() < 0.5)
        for uid in [uid for uid, box in self.boxes.items() if box.pod.spec.node_name == node]:
            del self.boxes[uid]
        self.run(self.agents.pop(node)[2].aclose())
        for pod in [pod for pod in self.cluster.all(Pod) if pod.spec.node_name == node]:
            if fate == "forced":
                self.cluster.drop(Pod, pod.metadata.name, "ns")
            elif fate == "evicted":
                self._delete_pod(pod)

    def return_node(self) -> None:
        """Let it come back; what ran there is started again, or is gone."""
        if not self.lost:
            return
        node = self.lost.pop()
        self._node(node, ready=True)
        self.run(self._start_agent(node))

    def restart_agent(self) -> None:
        """Let an agent stop in good order, and the next one begin."""
        node = self.choices.choice(NODES)
        if node not in self.lost:
            self.run(self._restart(node))

    async def _restart(self, node: str) -> None:
        await self.agents.pop(node)[2].aclose()
        await self._start_agent(node)

    # --- the controller, users, the API server
    # ------------------------------------------------------------------------------

    def time(self) -> None:
        """Let time pass; the controller may die at its next write."""
        if self.choices.random() < 0.3:
            self.controller.door.doom(
                self.choices.randrange(1, 3), after_commit=self.choices.random() < 0.5
            )
        self.run(self._pass_time(self.choices.choice([1.0, 6.0, 40.0])))

    def _reserved(self) -> set[str]:
        return {ip for reserving in self.cluster.all(SpiderReservedIP) for ip in reserving.spec.ips}

    def reserve(self) -> None:
        """Let a user reserve one address, in place of the one before."""
        pool, number = self.choices.choice(POOLS), self.choices.randrange(FIRST, LAST + 1)
        self.cluster.seed(
            SpiderReservedIP(
                metadata=ObjectMeta(name="r"), spec=ReservedIPSpec(ips=(f"{RANGES[pool]}{number}",))
            )
        )
        self.run(asyncio.sleep(0.003))

    def edit_pool(self) -> None:
        """
        Let a user change a pool's addresses, as far as the webhook lets him.

        No held address goes.
        """
        pool = self.choices.choice(POOLS)
        low, high = (
            self.choices.randrange(FIRST, FIRST + 2),
            self.choices.randrange(LAST - 1, LAST + 1),
        )
        (found,) = [each for each in self.cluster.all(SpiderIPPool) if each.metadata.name == pool]
        wanted = parse_ranges(4, [f"{RANGES[pool]}{low}-{RANGES[pool]}{high}"])
        held = [
            record.spec.address
            for record in self.cluster.all(SpiderIP)
            if record.held and record.spec.pool == pool
        ]
        if all(ip in wanted for ip in held):
            if self.late:
                self.unseen |= {str(ip) for ip in parse_ranges(4, found.spec.ips) - wanted}
            spec = replace(found.spec, ips=(f"{RANGES[pool]}{low}-{RANGES[pool]}{high}",))
            self.cluster.seed(
                replace(found, metadata=replace(found.metadata, resource_version=""), spec=spec)
            )
            self.run(asyncio.sleep(0.003))

    def hold(self) -> None:
        """Let watches stand still."""
        self.late = True
        self.cluster.hold_watch()

    def show(self) -> None:
        """Let watches go on."""
        self.late = False
        self.cluster.release_watch()
        self.run(asyncio.sleep(0.005))

    # --- the laws
    # -----------------------------------------------------------------------------------------------------------

    def nobody_shares_an_address(self) -> None:
        """
        No two pods have one address; what a lost DEL left counts too.

        A static pod takes its address over as soon as it has its new UID: what a lost DEL
        left of itself may have it beside, until its node has looked.

        Source: docs/reference/allocation.md#fixed-addresses.
        """
        in_use = {
            (ip, name if name.startswith("db-") else uid)
            for uid, box in self.boxes.items()
            for name in [box.pod.metadata.name]
            for ip in box.uses
        }
        assert len(in_use) == len({ip for ip, _ in in_use})

    def what_a_living_pod_has_is_its_own(self) -> None:
        """The record of an address that a living pod has names this pod."""
        held = {
            record.spec.ip: record.spec.holder.uid
            for record in self.cluster.all(SpiderIP)
            if record.held
        }
        for uid, box in self.boxes.items():
            assert not self._lives(uid) or {uid} == {held.get(ip) for ip in box.uses}

    def addresses_are_of_their_pool(self) -> None:
        """A held address is one of its pool's, unless its claim raced with a user's edit."""
        pools = {
            pool.metadata.name: parse_ranges(4, pool.spec.ips)
            for pool in self.cluster.all(SpiderIPPool)
        }
        for record in self.cluster.all(SpiderIP):
            assert (
                not record.held
                or record.spec.address in pools[record.spec.pool]
                or record.spec.ip in self.unseen
            )

    def check(self) -> None:
        """Check all laws."""
        self.nobody_shares_an_address()
        self.what_a_living_pod_has_is_its_own()
        self.addresses_are_of_their_pool()

    def end(self) -> None:
        """Let all settle, then let everything be deleted; nobody hears of a lost node any more."""
        self.show()
        for node in self.lost:
            self._node(node, ready=False, out_of_service=True)
        self.run(self._settle())
        self.run(asyncio.sleep(61))  # agents compare namespaces and records once a minute
        self.check()
        pairs = [(ip, uid) for uid, box in self.boxes.items() for ip in box.uses]
        assert len(pairs) == len({ip for ip, _ in pairs}), "what was left behind is fenced"
        living = {pod.metadata.uid for pod in self.cluster.all(Pod) if self._alive(pod)}
        awaited = {f"db-{n}" for n in range(self.apps["db"].replicas)}
        holders = [record.spec.holder for record in self.cluster.all(SpiderIP) if record.held]
        assert [] == [
            holder for holder in holders if holder.uid not in living and holder.name not in awaited
        ]
        # A pod's key has its UID; that of a StatefulSet's pod its name, whatever UID the record
        # names.
        keys = [(h.name if h.name.startswith("db-") else h.uid, h.nic) for h in holders]
        assert len(keys) == len(set(keys)), "one key twice"
        for app in self.apps.values():
            app.replicas = 0
        self._write_statefulset()
        for app in self.apps.values():
            for pod in self._pods(app).values():
                self._delete_pod(pod)
        self.run(self._settle())
        assert () == self.cluster.all(SpiderIP)

    def close(self) -> None:
        """End all processes."""
        self.run(self._stop())
        self.runner.close()
        self.folder.cleanup()

    async def _settle(self) -> None:
        """Let every kubelet do its work, and the controller have the time that it needs."""
        for node in [node for node in NODES if node not in self.lost]:
            await self._kubelet(node, loses_del=False)
        await self._pass_time(LONG_S)

    async def _stop(self) -> None:
        await self.controller.stack.aclose()
        for _, _, stack in self.agents.values():
            await stack.aclose()


# What happens, as often as it is listed.
STEPS: Final = (
    *("kubelets",) * 6,
    *("time", "scale", "delete_pods") * 2,
    *(
        "roll_out",
        "finish",
        "lose_node",
        "return_node",
        "restart_agent",
        "reserve",
        "edit_pool",
        "hold",
        "show",
        "show",
    ),
)


@pytest.mark.timeout(120)
@settings(max_examples=16, deadline=None, phases=(Phase.generate,))
@given(steps=st.lists(st.sampled_from(STEPS), min_size=20, max_size=60), seed=st.integers(0, 2**32))
def test_any_order(steps: list[str], seed: int) -> None:
    """Any story keeps the laws at every step, and leaves nothing behind."""
    with pytest.MonkeyPatch.context() as patch:
        # Agents answer the controller at once: its time passes faster than ours.
        patch.setattr(suspected_records, "GATHER_S", 0.0)
        patch.setattr(suspected_records, "RETRY_S", 0.002)
        patch.setattr(verdicts, "IN_USE_CHECK_S", 0.01)
        story = AnyOrder(Random(seed))  # noqa: S311 - a story, not a secret
        try:
            for step in ("scale", "scale", "kubelets", *steps):
                getattr(story, step)()
                story.check()
            story.end()
        finally:
            story.close()
