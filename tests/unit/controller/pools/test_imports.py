"""Taking over from Go Spiderpool."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.endpoint import EndpointCurrent, EndpointIP, EndpointStatus, SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED, FINALIZER
from spiderpool.api.crd.ippool import Route, SpiderIPPool
from spiderpool.api.crd.spiderip import Application, HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.controller.pools.imports import LOOK_AGAIN_S, Imports
from spiderpool.controller.pools.pool_status import Projection
from spiderpool.errors import Unreachable
from tests.fakes.cluster import Call
from tests.unit.controller.conftest import (
    NAMESPACE,
    Scene,
    make_pod,
    make_pool,
    make_record,
    settle,
)

TEN = {f"10.6.0.{n}": {"pod": f"ns/p{n}", "podUid": f"u{n}"} for n in range(10, 20)}
OURS = {
    "app.kubernetes.io/component": "spiderpool-agent",
    "spiderpool.spidernet.io/one-object-per-address": "true",
}
THEIRS = {"app.kubernetes.io/component": "spiderpool-agent"}


async def take_over(scene: Scene) -> Imports:
    """Start to import what the cluster has."""
    imports = Imports(await scene.lead(), scene.told, NAMESPACE, clock=scene.clock)
    imports.start()
    return imports


async def run(scene: Scene, imports: Imports, seconds: float = 0.0) -> None:
    """Let time pass and the import work."""
    await scene.pass_time(seconds)
    await imports.queue.run_due()
    await settle()


def make_endpoint(
    name: str,
    uid: str,
    nics: tuple[EndpointIP, ...],
    *,
    owner: str = "Deployment",
    static: bool = False,
) -> SpiderEndpoint:
    """Make an endpoint as Go Spiderpool writes it, finalizer included."""
    owners = () if static else (OwnerReference(api_version="v1", kind="Pod", name=name, uid=uid),)
    return SpiderEndpoint(
        metadata=ObjectMeta(
            name=name, namespace="ns", finalizers=(FINALIZER,), owner_references=owners
        ),
        status=EndpointStatus(
            current=EndpointCurrent(uid=uid, node="node2", ips=nics),
            owner_controller_type=owner,
            owner_controller_name="app",
        ),
    )


def records(scene: Scene) -> dict[str, SpiderIP]:
    """Return the stored records by address."""
    return {record.spec.ip: record for record in scene.cluster.all(SpiderIP)}


def is_marked(scene: Scene, name: str = "blue") -> bool:
    """Return whether a stored pool carries the mark."""
    return any(
        ANNO_IMPORTED in p.metadata.annotations
        for p in scene.cluster.all(SpiderIPPool)
        if p.metadata.name == name
    )


async def test_records_come_from_status_and_endpoint(scene: Scene) -> None:
    """
    A record holds what pool status and endpoint say together.

    Holder, node, NIC, gateway, routes of its family.
    """
    text = '{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'
    scene.cluster.seed(make_pool(marked=False, allocated=text))
    nics = (
        EndpointIP(interface="eth0", ipv4="10.9.0.5/16", ipv4_pool="other"),
        EndpointIP(
            interface="net1",
            ipv4="10.6.0.10/16",
            ipv4_pool="blue",
            ipv4_gateway="10.6.0.254",
            ipv6="fd00::a/64",
            clean_gateway=True,
            routes=(Route(dst="10.7.0.0/16", gw="10.6.0.2"), Route(dst="fd01::/64", gw="fd00::1")),
        ),
    )
    scene.cluster.seed(make_endpoint("p", "u", nics))
    await run(scene, await take_over(scene))
    spec = records(scene)["10.6.0.10"].spec

    assert ("blue", 4, 16, "10.6.0.254", True) == (
        spec.pool,
        spec.family,
        spec.prefix_length,
        spec.gateway,
        spec.clean_gateway,
    )
    assert (Route(dst="10.7.0.0/16", gw="10.6.0.2"),) == spec.routes
    holder = spec.holder
    assert ("ns", "p", "u", "net1", "node2", "") == (
        holder.namespace,
        holder.name,
        holder.uid,
        holder.nic,
        holder.node,
        holder.container_id,
    )
    assert Application(api_version="", kind="Deployment", name="app", uid="") == holder.owner
    assert not spec.static
    assert is_marked(scene)


@pytest.mark.parametrize(
    ("owner", "kind"),
    [("StatefulSet", HolderKind.POD), ("VirtualMachineInstance", HolderKind.VIRTUAL_MACHINE)],
)
async def test_static_holders_stay_static(scene: Scene, owner: str, kind: HolderKind) -> None:
    """
    Addresses of StatefulSets and virtual machines outlive their pods.

    Their endpoints have no owner.

    Source: docs/reference/objects.md#spiderendpoint.
    """
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/db-0","podUid":"u"}}')
    )
    nic = EndpointIP(interface="eth0", ipv4="10.6.0.10/16", ipv4_pool="blue")
    scene.cluster.seed(make_endpoint("db-0", "u", (nic,), owner=owner, static=True))
    await run(scene, await take_over(scene))
    spec = records(scene)["10.6.0.10"].spec

    assert (True, kind) == (spec.static, spec.holder.kind)


async def test_ipv6_addresses_get_canonical_records(scene: Scene) -> None:
    """An IPv6 allocation becomes a record whose name is the address in groups."""
    pool = make_pool(
        marked=False,
        allocated='{"fd00::a":{"pod":"ns/p","podUid":"u"}}',
        subnet="fd00::/64",
        ips=("fd00::a-fd00::f",),
        gateway="fd00::1",
    )
    scene.cluster.seed(pool)
    await run(scene, await take_over(scene))

    record = records(scene)["fd00::a"]
    assert "fd00-0000-0000-0000-0000-0000-0000-000a" == record.metadata.name
    assert (6, 64) == (record.spec.family, record.spec.prefix_length)


async def test_allocation_without_endpoint_is_taken_over(scene: Scene) -> None:
    """
    An allocation whose endpoint was never written has a record too.

    NIC and node are not known.
    """
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}')
    )
    await run(scene, await take_over(scene))

    assert ("u", "", "") == _holder_facts(records(scene)["10.6.0.10"])


def _holder_facts(record: SpiderIP) -> tuple[str, str, str]:
    """Return UID, NIC and node of a record's holder."""
    return record.spec.holder.uid, record.spec.holder.nic, record.spec.holder.node


async def test_nothing_is_taken_over_while_a_go_agent_runs(scene: Scene) -> None:
    """While a pod of Go Spiderpool's agent is there, nothing is created or marked, and an Event names it."""
    scene.cluster.seed(make_pool(marked=False, allocated=json.dumps(TEN)))
    scene.cluster.seed(make_pool("red", marked=False, subnet="10.7.0.0/16", ips=(), gateway=None))
    scene.cluster.seed(make_pod("new", "a1", namespace=NAMESPACE, labels=OURS))
    scene.cluster.seed(make_pod("old", "a2", namespace=NAMESPACE, labels=THEIRS))
    imports = await take_over(scene)
    await run(scene, imports, 60)

    assert {} == records(scene)
    assert not is_marked(scene)
    assert not is_marked(scene, "red")
    text = "pool blue is not taken over while agents of Go Spiderpool run: spiderpool/old"
    assert ("blue", "ImportWaits", text) in scene.told.events

    scene.cluster.drop(Pod, "old", NAMESPACE)
    await run(scene, imports, LOOK_AGAIN_S)
    assert set(TEN) == set(records(scene))
    assert is_marked(scene)
    assert is_marked(scene, "red")


async def test_ended_go_agent_does_not_hold_up(scene: Scene) -> None:
    """A pod object of a Go agent that has failed writes nothing any more."""
    scene.cluster.seed(make_pool(marked=False, allocated=json.dumps(TEN)))
    scene.cluster.seed(make_pod("old", "a2", namespace=NAMESPACE, labels=THEIRS, phase="Failed"))
    await run(scene, await take_over(scene))

    assert is_marked(scene)


async def test_pool_without_allocations_is_marked(scene: Scene) -> None:
    """A pool that has nothing to take over is marked, so that its projected status is never imported."""
    scene.cluster.seed(make_pool(marked=False))
    await run(scene, await take_over(scene))

    assert is_marked(scene)
    assert {} == records(scene)


async def test_marked_pool_is_never_imported_again(scene: Scene) -> None:
    """What stands in the status of a marked pool is a projection."""
    scene.cluster.seed(make_pool(allocated=json.dumps(TEN)))
    await run(scene, await take_over(scene), 60)

    assert {} == records(scene)


@pytest.mark.parametrize("step", range(1, 13))
async def test_crash_between_any_two_writes_is_repaired(scene: Scene, step: int) -> None:
    """A leader that dies before its nth write is followed by one that completes the import, with each holder right."""
    scene.cluster.seed(make_pool(marked=False, allocated=json.dumps(TEN)))
    first = await take_over(scene)
    writes = 0

    def die(_: Call) -> None:
        nonlocal writes
        writes += 1
        if writes >= step:
            raise Unreachable("this leader is dead")

    scene.cluster.on_write(die)
    await run(scene, first)
    written = len(records(scene))
    assert min(10, step - 1) == written
    assert (step > 11) is is_marked(scene)

    writes = -1000
    second = await take_over(scene)
    await run(scene, second)
    assert {ip: entry["podUid"] for ip, entry in TEN.items()} == {
        ip: record.spec.holder.uid for ip, record in records(scene).items()
    }
    assert is_marked(scene)
    assert [] == scene.told.events


async def test_pool_is_marked_before_it_is_projected(scene: Scene) -> None:
    """In the order of writes the mark comes before the first status, so a crash never leaves a projection unmarked."""
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}')
    )
    context = await scene.lead()
    imports = Imports(context, scene.told, NAMESPACE, clock=scene.clock)
    projection = Projection(context, limit=5000, clock=scene.clock)
    imports.start()
    projection.start()
    for _ in range(40):
        await scene.pass_time(0.1)
        await projection.queue.run_due()
        await imports.queue.run_due()

    writes = [
        (c.verb, c.plural) for c in scene.cluster.calls if c.verb not in {"get", "list", "watch"}
    ]
    assert [
        ("create", "spiderips"),
        ("patch", "spiderippools"),
        ("patch", "spiderippools"),
    ] == writes
    pool = scene.cluster.all(SpiderIPPool)[0]
    assert '{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}' == pool.status.allocated_ips
    assert 1 == pool.status.allocated_ip_count


async def test_status_that_changes_during_the_import_is_read_again(scene: Scene) -> None:
    """
    The mark is conditional.

    An allocation that came after the status was read is imported as well.
    """
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}')
    )
    imports = await take_over(scene)
    both = '{"10.6.0.10":{"pod":"ns/p","podUid":"u"},"10.6.0.11":{"pod":"ns/q","podUid":"v"}}'

    async def add(call: Call) -> None:
        if call.verb == "create" and len(records(scene)) == 0:
            await scene.cluster.patch(
                SpiderIPPool, "blue", {"status": {"allocatedIPs": both}}, subresource="status"
            )

    scene.cluster.on_write(add)
    await run(scene, imports)
    assert not is_marked(scene)
    await run(scene, imports, 1)

    assert {"10.6.0.10", "10.6.0.11"} == set(records(scene))
    assert is_marked(scene)


async def test_address_that_somebody_else_holds_is_reported(scene: Scene) -> None:
    """An address with another holder is left to it; an Event names both, and the import goes on."""
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}')
    )
    scene.cluster.seed(make_record("10.6.0.10", "q", "v", pool="red"))
    await run(scene, await take_over(scene))

    text = "10.6.0.10 was allocated to ns/p, but is held by ns/q from pool red; restart one of them"
    assert [("blue", "ImportConflict", text)] == scene.told.events
    assert "v" == records(scene)["10.6.0.10"].spec.holder.uid
    assert is_marked(scene)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"10.6.0.10":{"pod":"p","podUid":"u"}}', '{"x":{"pod":"ns/p","podUid":"u"}}'],
)
async def test_unreadable_status_is_reported_and_not_marked(scene: Scene, text: str) -> None:
    """
    A status that cannot be read stops the import of its pool with an Event.

    Other pools go on.
    """
    scene.cluster.seed(make_pool(marked=False, allocated=text))
    scene.cluster.seed(make_pool("red", marked=False, subnet="10.7.0.0/16", ips=(), gateway=None))
    await run(scene, await take_over(scene))

    assert ["ImportRefused"] == [reason for _, reason, _ in scene.told.events]
    assert "status.allocatedIPs cannot be read" in scene.told.events[0][2]
    assert not is_marked(scene)
    assert is_marked(scene, "red")
    assert {} == records(scene)


async def test_endpoints_lose_their_finalizer_after_the_import(scene: Scene) -> None:
    """
    The finalizer goes when all pools are imported, not before.

    The rest of the endpoint stays.
    """
    scene.cluster.seed(
        make_pool(marked=False, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}')
    )
    nic = EndpointIP(interface="eth0", ipv4="10.6.0.10/16", ipv4_pool="blue")
    endpoint = scene.cluster.seed(make_endpoint("p", "u", (nic,)))
    scene.cluster.seed(make_pod("old", "a2", namespace=NAMESPACE, labels=THEIRS))
    imports = await take_over(scene)
    await run(scene, imports, 60)
    assert (FINALIZER,) == scene.cluster.all(SpiderEndpoint)[0].metadata.finalizers

    scene.cluster.drop(Pod, "old", NAMESPACE)
    await run(scene, imports, LOOK_AGAIN_S)
    await run(scene, imports, LOOK_AGAIN_S)
    found = scene.cluster.all(SpiderEndpoint)[0]
    assert () == found.metadata.finalizers
    assert endpoint.status == found.status


async def test_finalizers_left_by_a_crash_go_with_the_next_leader(scene: Scene) -> None:
    """A leader that finds all pools marked still frees the endpoints."""
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_endpoint("p", "u", ()))
    await run(scene, await take_over(scene))

    assert () == scene.cluster.all(SpiderEndpoint)[0].metadata.finalizers


async def test_pool_on_its_way_out_is_taken_over(scene: Scene) -> None:
    """
    A deleted pool whose allocations wait is imported as well.

    Its pods still have the addresses.
    """
    pool = make_pool(
        marked=False, going=True, allocated='{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'
    )
    scene.cluster.seed(replace(pool, metadata=replace(pool.metadata, finalizers=(FINALIZER,))))
    await run(scene, await take_over(scene))

    assert ["10.6.0.10"] == list(records(scene))
    assert is_marked(scene)
