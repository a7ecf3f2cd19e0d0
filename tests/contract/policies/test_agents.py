"""
Agents of two nodes at work, with their tokens, roles and policies.

Nothing that they do in their stories is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from spiderpool.agent.app import informed
from spiderpool.agent.build import build
from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.agent.ipam.allocator import Allocation
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.settings import read_settings
from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED, ANNO_IN_USE, ANNO_IPPOOL, ANNO_SUSPECT
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, OwnerReference, Resource
from spiderpool.errors import NotFound, WireConflict
from spiderpool.ipam.pod_request import Request
from spiderpool.kube.cluster import if_exists
from spiderpool.records.build import marked
from tests.contract.policies.conftest import Nodes
from tests.unit.agent.simulation import CONFIG, Agent, call_of, ips, sandbox_of

QUESTION = "pod gone: it is not there"
PATIENT = RetryPolicy(busy_s=5.0, absent_s=2.0)


class WholePod(KubeObject, frozen=True, kw_only=True):
    """A pod with all of its specification."""

    resource: ClassVar[Resource] = Pod.resource

    spec: dict[str, Any]


class Scene:
    """A pool, pods and records, as an administrator makes and sees them."""

    def __init__(self, nodes: Nodes, namespace: str, folder: Path) -> None:
        self.nodes = nodes
        self.namespace = namespace
        self.folder = folder

    async def pool(self, name: str, subnet: str, *addresses: str) -> None:
        """Have a pool."""
        meta = ObjectMeta(name=name, annotations={ANNO_IMPORTED: "true"})
        await self.nodes.admin.create(
            SpiderIPPool(metadata=meta, spec=IPPoolSpec(subnet=subnet, ips=addresses))
        )

    async def pod(self, node: str, pool: str, name: str = "web-1", *, owner: str = "") -> Pod:
        """Have a pod on a node that wants an address of a pool."""
        owners = OwnerReference(
            api_version="apps/v1", kind="StatefulSet", name=owner, uid="set", controller=True
        )
        meta = ObjectMeta(
            name=name,
            namespace=self.namespace,
            annotations={ANNO_IPPOOL: f'{{"ipv4":["{pool}"]}}'},
            owner_references=(owners,) if owner else (),
        )
        await self.nodes.admin.create(
            WholePod(
                metadata=meta,
                spec={
                    "nodeName": node,
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{"name": "c", "image": "none"}],
                },
            )
        )
        return await self.nodes.admin.get(Pod, name, self.namespace)

    async def gone(self, pod: Pod) -> None:
        """Delete a pod."""
        await self.nodes.admin.delete(Pod, pod.metadata.name, self.namespace)

    async def record(self, ip: str) -> SpiderIP:
        """Return the record of an address."""
        return await self.nodes.admin.get(SpiderIP, ip)

    @asynccontextmanager
    async def agent(self, node: str, *uses: InUseNamespace) -> AsyncIterator[Agent]:
        """Run the agent of a node, whose namespaces have something."""

        async def look() -> tuple[InUseNamespace, ...]:
            return uses

        env = {
            "SPIDERPOOL_POD_NAMESPACE": "kube-system",
            "SPIDERPOOL_POD_NAME": f"spiderpool-agent-{node}",
            "SPIDERPOOL_NODE_NAME": node,
        }
        config = replace(
            CONFIG, enable_ipv6=False, ipam_unix_socket_path=str(self.folder / f"{node}.sock")
        )
        app = build(
            read_settings(env),
            config,
            self.nodes.agents[node],
            Metrics("v0"),
            retry=PATIENT,
            wait_s=2.0,
            quiet_s=0.0,
            look=look,
        )
        async with informed(app):
            yield Agent(app)


@pytest.fixture
async def scene(nodes: Nodes, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    """Return a scene in which nothing that agents do is refused."""
    yield Scene(nodes, namespace, tmp_path)
    assert not nodes.refused


async def seen(agent: Agent, pod: Pod) -> None:
    """Wait until an agent knows a pod; a story is not about late news."""
    await until(
        lambda: agent.app.informers.pods.named(pod.metadata.name, pod.metadata.namespace) == pod
    )


async def until(done: Callable[[], object]) -> None:
    """Wait for a state that nobody signals."""
    async with asyncio.timeout(15):
        while not done():
            await asyncio.sleep(0.05)


async def until_so(ask: Callable[[], Any]) -> None:
    """Wait until what the API server answers is true."""
    async with asyncio.timeout(15):
        while not await ask():
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_add_and_del(scene: Scene, node: str) -> None:
    """A pod gets its address and its endpoint, and gives both back."""
    pool = f"plain-{node}"
    await scene.pool(pool, "10.20.0.0/16", f"10.20.{node[-1]}.1")
    async with scene.agent(node) as agent:
        pod = await scene.pod(node, pool)
        await seen(agent, pod)
        assert [f"10.20.{node[-1]}.1"] == ips(await agent.add(pod))

        async def endpoint() -> SpiderEndpoint | None:
            return await if_exists(
                scene.nodes.admin.get(SpiderEndpoint, pod.metadata.name, scene.namespace)
            )

        await until_so(endpoint)
        await scene.gone(pod)
        await agent.delete(pod)
        record = await scene.record(f"10.20.{node[-1]}.1")
        assert IPState.COOLING is record.spec.state

        async def no_endpoint() -> bool:
            return await endpoint() is None

        await until_so(no_endpoint)


@pytest.mark.parametrize(("first", "second"), [("node1", "node2"), ("node2", "node1")])
async def test_a_fixed_address_follows_its_pod(scene: Scene, first: str, second: str) -> None:
    """The pod of a StatefulSet gets its address on the other node, and so does its endpoint."""
    pool, ip = f"fixed-{first}", f"10.21.{first[-1]}.1"
    await scene.pool(pool, "10.21.0.0/16", f"{ip}-10.21.{first[-1]}.9")
    async with scene.agent(first) as one, scene.agent(second) as two:
        pod = await scene.pod(first, pool, "db-0", owner="db")
        await seen(one, pod)
        before = ips(await one.add(pod))

        async def described() -> bool:
            name = (SpiderEndpoint, "db-0", scene.namespace)
            found = await if_exists(scene.nodes.admin.get(*name))
            return (
                found is not None
                and found.status is not None
                and found.status.current.node == pod.spec.node_name
            )

        await until_so(described)
        await scene.gone(pod)
        pod = await scene.pod(second, pool, "db-0", owner="db")
        await seen(two, pod)
        assert before == ips(await two.add(pod))
        await until_so(described)


@pytest.mark.parametrize(("first", "second"), [("node1", "node2"), ("node2", "node1")])
async def test_a_fixed_address_that_is_not_wanted_any_more(
    scene: Scene, first: str, second: str
) -> None:
    """The pod comes back on the other node and names another pool: that node releases the former address."""
    old, new = f"old-{first}", f"new-{first}"
    await scene.pool(old, "10.22.0.0/16", f"10.22.{first[-1]}.1")
    await scene.pool(new, "10.23.0.0/16", f"10.23.{first[-1]}.1")
    async with scene.agent(first) as one, scene.agent(second) as two:
        pod = await scene.pod(first, old, "db-0", owner="db")
        await seen(one, pod)
        await one.add(pod)
        await scene.gone(pod)
        pod = await scene.pod(second, new, "db-0", owner="db")
        await seen(two, pod)
        assert [f"10.23.{first[-1]}.1"] == ips(await two.add(pod))
        record = await scene.record(f"10.22.{first[-1]}.1")
        assert IPState.COOLING is record.spec.state


@pytest.mark.parametrize(("first", "second"), [("node1", "node2"), ("node2", "node1")])
async def test_what_rests_is_taken_and_put_back(scene: Scene, first: str, second: str) -> None:
    """The only address of a pool goes to the other node's pod; an ADD that fails puts it back as it was."""
    pool, ip = f"rest-{first}", f"10.24.{first[-1]}.1"
    await scene.pool(pool, "10.24.0.0/16", ip)
    async with scene.agent(first) as one, scene.agent(second) as two:
        pod = await scene.pod(first, pool)
        await seen(one, pod)
        await one.add(pod)
        await scene.gone(pod)
        await one.delete(pod)
        before = await scene.record(ip)
        assert IPState.COOLING is before.spec.state

        other = await scene.pod(second, pool, "web-2")
        await seen(two, other)
        taken: list[str] = []

        async def refuse(granted: Allocation) -> None:
            taken.extend(record.spec.holder.node for record in granted.records)
            raise WireConflict("in use")

        request = Request(nic="eth0", container_id=sandbox_of(other))
        with pytest.raises(WireConflict):
            await two.app.ipam.allocator.add(call_of(other), request, refuse)
        assert [second] == taken
        assert before.spec == (await scene.record(ip)).spec
        assert [ip] == ips(await two.add(other))


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_an_add_that_fails_takes_its_record_back(scene: Scene, node: str) -> None:
    """What the ADD had made is deleted."""
    pool, ip = f"undo-{node}", f"10.25.{node[-1]}.1"
    await scene.pool(pool, "10.25.0.0/16", ip)
    async with scene.agent(node) as agent:
        pod = await scene.pod(node, pool)
        await seen(agent, pod)

        async def refuse(_: Allocation) -> None:
            raise WireConflict("in use")

        request = Request(nic="eth0", container_id=sandbox_of(pod))
        with pytest.raises(WireConflict):
            await agent.app.ipam.allocator.add(call_of(pod), request, refuse)
        with pytest.raises(NotFound):
            await scene.record(ip)


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_a_lost_record_is_made_again(scene: Scene, node: str) -> None:
    """Somebody deletes the record of a living pod: its agent makes it again."""
    pool, ip = f"lost-{node}", f"10.26.{node[-1]}.1"
    await scene.pool(pool, "10.26.0.0/16", ip)
    async with scene.agent(node) as agent:
        pod = await scene.pod(node, pool)
        await seen(agent, pod)
        await agent.add(pod)
        first = await scene.record(ip)
        await scene.nodes.admin.delete(SpiderIP, ip)

        async def again() -> bool:
            found = await if_exists(scene.nodes.admin.get(SpiderIP, ip))
            return found is not None and found.metadata.uid != first.metadata.uid

        await until_so(again)
        assert first.spec == (await scene.record(ip)).spec


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_the_controllers_questions_are_answered(scene: Scene, node: str) -> None:
    """A living pod's record loses the suspicion; one in use gets an answer; the others are released."""
    pool, base = f"leak-{node}", f"10.27.{node[-1]}"
    await scene.pool(pool, "10.27.0.0/16", f"{base}.1-{base}.3")
    admin = scene.nodes.admin
    async with scene.agent(node) as agent:
        pods = [await scene.pod(node, pool, name) for name in ("lives", "used", "gone")]
        for pod in pods:
            await seen(agent, pod)
        alive, used, lost = [ips(await agent.add(pod))[0] for pod in pods]
    link = InUseInterface(nic="eth0", addresses=(f"{used}/16",))
    # a pod that lives has it, so it is not taken off
    namespace = InUseNamespace(
        path="/run/netns/x", inode=7, pod_uid=pods[0].metadata.uid, interfaces=(link,)
    )
    for pod in pods[1:]:
        await scene.gone(pod)
    async with scene.agent(node, namespace):
        for ip in (alive, used, lost):
            await admin.replace(marked(await scene.record(ip), ANNO_SUSPECT, QUESTION))

        async def answered() -> bool:
            first, second, third = [await scene.record(ip) for ip in (alive, used, lost)]
            return (
                ANNO_SUSPECT not in first.metadata.annotations
                and {ANNO_SUSPECT, ANNO_IN_USE} <= set(second.metadata.annotations)
                and third.spec.state is IPState.COOLING
                and third.metadata.annotations.get(ANNO_SUSPECT) == QUESTION
            )

        await until_so(answered)


@pytest.mark.parametrize("node", ["node1", "node2"])
async def test_an_address_in_conflict_is_quarantined(scene: Scene, node: str) -> None:
    """What somebody else uses on the wire is set aside."""
    pool, ip = f"wire-{node}", f"10.28.{node[-1]}.1"
    await scene.pool(pool, "10.28.0.0/16", ip)
    async with scene.agent(node) as agent:
        pod = await scene.pod(node, pool)
        await seen(agent, pod)
        await agent.add(pod)
        await agent.app.ipam.releases.delete_all(pod.metadata.uid)
        record = await scene.record(ip)
        assert IPState.QUARANTINED is record.spec.state
