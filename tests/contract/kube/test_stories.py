"""Informer, election and Events over the real protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import ClassVar

import pytest

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import ConfigMap, Event, Lease
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.kube.cluster import Change
from spiderpool.kube.connect import connect
from spiderpool.kube.election import Election, Times
from spiderpool.kube.events import EventRecorder
from spiderpool.kube.informer import Informer, MetadataInformer
from spiderpool.model.event_reasons import EventReason
from tests.apiserver.control_plane import ControlPlane
from tests.apiserver.proxy import Fault
from tests.contract.kube.stage import RealStage, Stage, config_map, record

WAIT_S = 20.0


@pytest.fixture
async def informer(stage: Stage) -> AsyncIterator[Informer[ConfigMap]]:
    """Return a synced informer of the test's ConfigMaps; one, `first`, exists before."""
    await stage.other.create(config_map(stage, "first", v="1"))
    informer = Informer(
        stage.cluster, ConfigMap, namespace="default", labels=f"run={stage.run}", consistent=True
    )
    await informer.start()
    await informer.synced()
    yield informer
    await informer.stop()


async def shows(stage: Stage, informer: Informer[ConfigMap], *expected: str) -> bool:
    """Wait until an informer shows just these names."""
    names = {f"{stage.run}-{name}" for name in expected}
    return bool(
        await informer.wait_for(
            lambda m: {obj.metadata.name for obj in m.values()} == names, WAIT_S
        )
    )


def data_of(informer: Informer[ConfigMap], name: str) -> object:
    """Return the data of a ConfigMap that the informer shows."""
    found = informer.named(name, "default")
    return found and found.data


async def test_informer_follows_others(stage: Stage, informer: Informer[ConfigMap]) -> None:
    """What others create, change and delete is shown."""
    assert await shows(stage, informer, "first")
    second = await stage.other.create(config_map(stage, "second"))
    await stage.other.patch(
        ConfigMap, f"{stage.run}-first", {"data": {"v": "2"}}, namespace="default"
    )
    assert await shows(stage, informer, "first", "second")
    assert await informer.wait_for(lambda m: data_of(m, f"{stage.run}-first") == {"v": "2"}, WAIT_S)
    await stage.other.delete(ConfigMap, second.metadata.name, "default")
    assert await shows(stage, informer, "first")


async def test_informer_survives_a_restart_of_the_api_server(
    stage: Stage, informer: Informer[ConfigMap]
) -> None:
    """
    What happened before, during and after a restart is shown.

    Nothing that still exists was reported as deleted.
    """
    changes = []

    def note(change: Change, old: ConfigMap | None, new: ConfigMap | None) -> None:
        changed = new or old
        assert changed is not None
        changes.append((change, changed.metadata.name[len(stage.run) + 1 :]))

    informer.subscribe(note)
    await stage.other.create(config_map(stage, "before"))
    await stage.down()
    await stage.up()
    await stage.other.create(config_map(stage, "after"))
    assert await shows(stage, informer, "first", "before", "after")
    assert [(Change.ADDED, "before"), (Change.ADDED, "after")] == changes


async def test_own_writes_are_ahead_of_a_lagging_watch(
    stage: Stage, informer: Informer[ConfigMap]
) -> None:
    """While the watch lags, own creation, change and deletion are visible, and its old news undo none of them."""
    stage.hold_watch()
    mine = await stage.cluster.create(config_map(stage, "mine"))
    informer.remember(mine)
    await stage.other.patch(
        ConfigMap, f"{stage.run}-first", {"data": {"v": "theirs"}}, namespace="default"
    )
    informer.remember(
        await stage.cluster.patch(
            ConfigMap, f"{stage.run}-first", {"data": {"v": "mine"}}, namespace="default"
        )
    )
    doomed = await stage.cluster.create(config_map(stage, "doomed"))
    informer.remember(doomed)
    await stage.cluster.delete(ConfigMap, doomed.metadata.name, "default", uid=doomed.metadata.uid)
    informer.forget(doomed)
    assert await shows(stage, informer, "first", "mine")
    changes = []
    informer.subscribe(lambda change, _old, new: changes.append((change, new and new.data)))
    stage.release_watch()
    await stage.other.create(config_map(stage, "last", v="9"))
    assert await shows(stage, informer, "first", "mine", "last")
    assert [(Change.ADDED, {"v": "9"})] == changes


async def test_informer_waits_out_a_refusal(stage: Stage) -> None:
    """429 on the first list delays the informer and does not end it."""
    await stage.other.create(record(stage))
    stage.fail_next("list", SpiderIP, Fault.REFUSE)
    informer = MetadataInformer(stage.cluster, SpiderIP, labels=f"run={stage.run}")
    loop = asyncio.get_running_loop()
    began = loop.time()
    await informer.start()
    await informer.synced()
    assert loop.time() - began >= 2
    assert await informer.wait_for(lambda m: len(m) == 1, WAIT_S)
    await informer.stop()


async def test_metadata_informer_looks_at_the_history(stage: Stage) -> None:
    """It goes on after its watch was ended for a look, in a cluster scope and in a namespace."""
    await stage.other.create(config_map(stage, "first"))
    informers = [
        MetadataInformer(stage.cluster, kind, labels=f"run={stage.run}", check_s=0.2)
        for kind in (SpiderIP, ConfigMap)
    ]
    for informer in informers:
        await informer.start()
        await informer.synced()
    await asyncio.sleep(1.0)  # several looks, one informer knows an object, the other none
    await stage.other.create(record(stage))
    await stage.other.create(config_map(stage, "second"))
    records, config_maps = informers
    assert await records.wait_for(lambda m: len(m) == 1, WAIT_S)
    assert await config_maps.wait_for(lambda m: len(m) == 2, WAIT_S)
    for informer in informers:
        assert informer.trouble is None
        await informer.stop()


class Right(KubeObject, frozen=True, kw_only=True):
    """A Role."""

    resource: ClassVar[Resource] = Resource(
        "rbac.authorization.k8s.io", "v1", "Role", "roles", namespaced=True
    )
    rules: list[dict[str, list[str]]]


class Grant(KubeObject, frozen=True, kw_only=True):
    """A RoleBinding."""

    resource: ClassVar[Resource] = Resource(
        "rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", namespaced=True
    )
    role_ref: dict[str, str]
    subjects: list[dict[str, str]]


async def test_informer_that_may_see_one_name_only(
    real: RealStage, control_plane: ControlPlane
) -> None:
    """It looks at the history within its selection, before the object exists and after."""
    meta = ObjectMeta(name=f"{real.run}-reader", namespace="default")
    group = "rbac.authorization.k8s.io"
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": [f"{real.run}-one"],
        "verbs": ["get", "list", "watch"],
    }
    await real.other.create(Right(metadata=meta, rules=[rule]))
    await real.other.create(
        Grant(
            metadata=meta,
            role_ref={"apiGroup": group, "kind": "Role", "name": meta.name},
            subjects=[{"apiGroup": group, "kind": "User", "name": meta.name}],
        )
    )
    async with connect(str(control_plane.kubeconfig), impersonate=meta.name) as reader:
        informer = Informer(
            reader,
            ConfigMap,
            namespace="default",
            fields=f"metadata.name={real.run}-one",
            check_s=0.2,
        )
        await informer.start()
        await informer.synced()
        await asyncio.sleep(1.0)  # several looks, at nothing
        assert informer.trouble is None
        await real.other.create(config_map(real, "one"))
        assert await informer.wait_for(lambda m: len(m) == 1, WAIT_S)
        await asyncio.sleep(1.0)  # several looks, at the object
        assert informer.trouble is None
        await real.other.patch(
            ConfigMap, f"{real.run}-one", {"data": {"v": "2"}}, namespace="default"
        )
        assert await informer.wait_for(lambda m: [obj.data for obj in m] == [{"v": "2"}], WAIT_S)
        await informer.stop()


async def test_election_between_two(stage: Stage) -> None:
    """
    Two candidates over two connections.

    One leads at a time, and when it leaves the other follows.
    """
    # a busy API server changes no leader
    times = Times(duration_s=12, renew_s=10, retry_s=0.1, gap_s=0.1)
    terms: list[str] = []
    together = 0
    leading = 0

    async def work(name: str) -> None:
        nonlocal together, leading
        terms.append(name)
        leading += 1
        together = max(together, leading)
        try:
            await asyncio.Event().wait()
        finally:
            leading -= 1

    elections = {
        name: Election(cluster, stage.run, "default", name, times=times)
        for name, cluster in (("a", stage.cluster), ("b", stage.other))
    }
    tasks = {
        name: asyncio.create_task(election.run(partial(work, name)))
        for name, election in elections.items()
    }
    async with asyncio.timeout(WAIT_S):
        while not terms:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1.5)
        assert 1 == len(terms)
        first, second = terms[0], "b" if terms[0] == "a" else "a"
        lease = await stage.other.get(Lease, stage.run, "default")
        assert first == lease.spec.holder_identity
        tasks[first].cancel()
        while len(terms) == 1:
            await asyncio.sleep(0.05)
    assert [first, second] == terms
    assert 1 == together
    tasks[second].cancel()
    await asyncio.wait(tasks.values())
    assert not (await stage.other.get(Lease, stage.run, "default")).spec.holder_identity


async def test_events_are_counted(stage: Stage) -> None:
    """The API server takes the Event and the raise of its count."""
    about = await stage.other.create(config_map(stage, "a"))
    for text in ("first", "second"):
        recorder = EventRecorder(stage.cluster, "contract", host="n1")
        await recorder.start()
        recorder.record(about, EventReason.WRONG_INPUT, text)
        await recorder.stop()
    fields = f"involvedObject.uid={about.metadata.uid}"
    events = (await stage.other.list_objects(Event, namespace="default", fields=fields)).items
    assert [(2, "WrongInput", "second", "Warning")] == [
        (e.count, e.reason, e.message, e.type) for e in events
    ]
