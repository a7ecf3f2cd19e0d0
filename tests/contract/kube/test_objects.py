"""Single objects: creation, reading, conditional change and deletion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
import pytest

from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import ConfigMap
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.api.kubernetes.workloads import Deployment
from spiderpool.errors import AlreadyExists, Conflict, NotFound, Rejected
from spiderpool.kube.cluster import PatchType
from tests.contract.kube.stage import Stage, config_map, record

FINALIZER = "spiderpool.spidernet.io/test"


async def test_create_gives_what_the_server_made_of_it(stage: Stage) -> None:
    """
    The answer carries UID, version, time, kind, and what was sent.

    A live read gives the same.
    """
    sent = record(stage, namespace="shop", name="web-0", uid="u1", nic="eth0", node="n1")
    created = await stage.cluster.create(sent)
    assert sent.spec == created.spec
    assert ("SpiderIP", "spiderpool.spidernet.io/v2beta1") == (created.kind, created.api_version)
    assert created.metadata.uid
    assert created.metadata.creation_timestamp
    assert int(created.metadata.resource_version) > 0
    assert created == await stage.cluster.get(SpiderIP, sent.metadata.name)


class App(KubeObject, frozen=True, kw_only=True):
    """A Deployment, written whole."""

    resource: ClassVar[Resource] = Deployment.resource

    spec: dict[str, Any]


async def test_scale_of_an_object(stage: Stage) -> None:
    """
    The scale subresource tells the replicas.

    A kind without it, and an object that does not exist, are not found.
    """
    labels, name = {"app": stage.run}, f"{stage.run}-scaled"
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "c", "image": "c"}]},
    }
    spec = {"replicas": 3, "selector": {"matchLabels": labels}, "template": template}
    await stage.cluster.create(App(metadata=ObjectMeta(name=name, namespace="default"), spec=spec))
    plain = await stage.cluster.create(config_map(stage, "unscaled"))

    assert 3 == await stage.cluster.get_scale(Deployment, name, "default")
    for attempt in (
        stage.cluster.get_scale(ConfigMap, plain.metadata.name, "default"),
        stage.cluster.get_scale(Deployment, f"{stage.run}-ghost", "default"),
    ):
        with pytest.raises(NotFound):
            await attempt


async def test_second_create_of_a_name_is_told_so(stage: Stage) -> None:
    """AlreadyExists, which is a Conflict, and the first stays as it is."""
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    with pytest.raises(AlreadyExists):
        await stage.other.create(config_map(stage, "a", v="2"))
    assert first == await stage.cluster.get(ConfigMap, first.metadata.name, "default")


async def test_one_of_many_concurrent_creates_wins(stage: Stage) -> None:
    """20 creations of one address at a time: one record, 19 times AlreadyExists."""
    wanted = record(stage)
    results = await asyncio.gather(
        *(stage.cluster.create(wanted) for _ in range(20)), return_exceptions=True
    )
    assert 1 == sum(isinstance(result, SpiderIP) for result in results)
    assert 19 == sum(isinstance(result, AlreadyExists) for result in results)


async def test_generated_name_begins_with_what_was_asked(stage: Stage) -> None:
    """`generateName` gives each object a name of its own."""
    sent = config_map(stage, "x")
    meta = ObjectMeta(generate_name=f"{stage.run}-", namespace="default")
    one, two = [
        await stage.cluster.create(msgspec.structs.replace(sent, metadata=meta)) for _ in range(2)
    ]
    assert one.metadata.name.startswith(f"{stage.run}-")
    assert one.metadata.name != two.metadata.name


async def test_what_is_not_there_is_not_found(stage: Stage) -> None:
    """Every way to touch a missing object says NotFound."""
    ghost = msgspec.structs.replace(
        config_map(stage, "ghost"),
        metadata=ObjectMeta(
            name="ghost",
            namespace="default",
            uid="6b0e2b47-0000-4000-8000-000000000000",
            resource_version="1",
        ),
    )
    for attempt in (
        stage.cluster.get(ConfigMap, "ghost", "default"),
        stage.cluster.get_metadata(ConfigMap, "ghost", "default"),
        stage.cluster.patch(ConfigMap, "ghost", {"data": {"a": "1"}}, namespace="default"),
        stage.cluster.delete(ConfigMap, "ghost", "default"),
        stage.cluster.delete(ConfigMap, "ghost", "default", uid=ghost.metadata.uid),
    ):
        with pytest.raises(NotFound):
            await attempt


@pytest.mark.parametrize(("name", "namespace"), [("", "default"), ("a", "")])
async def test_what_has_no_name_is_not_asked_for(stage: Stage, name: str, namespace: str) -> None:
    """
    The URL would be that of all objects.

    A mistake of the caller, who never gets an answer to another question.
    """
    with pytest.raises(ValueError, match="configmaps: the name"):
        await stage.cluster.get(ConfigMap, name, namespace)
    with pytest.raises(ValueError, match="configmaps: the name"):
        await stage.cluster.delete(ConfigMap, name, namespace)


async def test_replace_needs_the_present_version(stage: Stage) -> None:
    """
    A replace at the present version succeeds and gives a later one.

    At the old one it is a Conflict.
    """
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    second = await stage.cluster.replace(msgspec.structs.replace(first, data={"v": "2"}))
    assert {"v": "2"} == second.data
    assert int(second.metadata.resource_version) > int(first.metadata.resource_version)
    with pytest.raises(Conflict) as caught:
        await stage.other.replace(msgspec.structs.replace(first, data={"v": "3"}))
    assert not isinstance(caught.value, AlreadyExists)
    assert second == await stage.cluster.get(ConfigMap, first.metadata.name, "default")


async def test_replace_needs_the_same_object(stage: Stage) -> None:
    """A name that now belongs to another object is a Conflict."""
    first = await stage.cluster.create(config_map(stage, "a"))
    await stage.other.delete(ConfigMap, first.metadata.name, "default")
    second = await stage.other.create(config_map(stage, "a"))
    mixed = msgspec.structs.replace(
        first.metadata, resource_version=second.metadata.resource_version
    )
    with pytest.raises(Conflict):
        await stage.cluster.replace(msgspec.structs.replace(first, metadata=mixed, data={"v": "1"}))


@pytest.mark.parametrize("missing", ["uid", "resource_version"])
async def test_unconditional_replace_is_refused_here(stage: Stage, missing: str) -> None:
    """Without UID or version nothing is sent."""
    first = await stage.cluster.create(config_map(stage, "a"))
    meta = msgspec.structs.replace(first.metadata, **{missing: ""})
    with pytest.raises(ValueError, match="uid and resourceVersion"):
        await stage.cluster.replace(msgspec.structs.replace(first, metadata=meta))


async def test_merge_patch_changes_only_what_it_names(stage: Stage) -> None:
    """Named fields are set, null ones removed, all others kept."""
    first = await stage.cluster.create(config_map(stage, "a", keep="1", change="1", drop="1"))
    patch = {"data": {"change": "2", "drop": None, "new": "1"}}
    second = await stage.cluster.patch(ConfigMap, first.metadata.name, patch, namespace="default")
    assert {"keep": "1", "change": "2", "new": "1"} == second.data
    assert first.metadata.labels == second.metadata.labels


async def test_merge_patch_on_condition(stage: Stage) -> None:
    """UID and version in the body make a patch conditional."""
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    name, meta = first.metadata.name, first.metadata
    await stage.other.patch(ConfigMap, name, {"data": {"v": "2"}}, namespace="default")
    for condition in (
        {"resourceVersion": meta.resource_version},
        {"uid": "6b0e2b47-0000-4000-8000-000000000000"},
    ):
        with pytest.raises(Conflict):
            await stage.cluster.patch(
                ConfigMap, name, {"metadata": condition, "data": {"v": "3"}}, namespace="default"
            )
    present = await stage.cluster.get(ConfigMap, name, "default")
    condition = {"uid": meta.uid, "resourceVersion": present.metadata.resource_version}
    changed = await stage.cluster.patch(
        ConfigMap, name, {"metadata": condition, "data": {"v": "3"}}, namespace="default"
    )
    assert {"v": "3"} == changed.data


async def test_patch_that_changes_nothing_keeps_the_version(stage: Stage) -> None:
    """Writing what is there is no write."""
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    again = await stage.cluster.patch(
        ConfigMap, first.metadata.name, {"data": {"v": "1"}}, namespace="default"
    )
    assert first.metadata.resource_version == again.metadata.resource_version


async def test_json_patch(stage: Stage) -> None:
    """
    `test`, `add`, `replace` and `remove` in one patch; `~1` is a slash.

    A missing member is replaced as if it were there.
    """
    first = await stage.cluster.create(config_map(stage, "a", {"a/b": "1"}, change="1", drop="1"))
    operations: list[Mapping[str, Any]] = [
        {
            "op": "test",
            "path": "/metadata/resourceVersion",
            "value": first.metadata.resource_version,
        },
        {"op": "replace", "path": "/data/change", "value": "2"},
        {"op": "remove", "path": "/data/drop"},
        {"op": "add", "path": "/data/new", "value": "1"},
        {"op": "replace", "path": "/data/missing", "value": "1"},
        {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
    ]
    changed = await stage.cluster.patch(
        ConfigMap, first.metadata.name, operations, namespace="default", patch_type=PatchType.JSON
    )
    assert {"change": "2", "new": "1", "missing": "1"} == changed.data
    assert "2" == changed.metadata.labels["a/b"]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/data/v", "value": "other"},
        {"op": "remove", "path": "/data/missing"},
    ],
)
async def test_json_patch_is_all_or_nothing(stage: Stage, operation: dict[str, str]) -> None:
    """An operation that fails refuses the patch, also the part before it."""
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    operations: list[Mapping[str, Any]] = [
        {"op": "add", "path": "/data/new", "value": "1"},
        operation,
    ]
    with pytest.raises(Rejected):
        await stage.cluster.patch(
            ConfigMap,
            first.metadata.name,
            operations,
            namespace="default",
            patch_type=PatchType.JSON,
        )
    assert first == await stage.cluster.get(ConfigMap, first.metadata.name, "default")


async def test_object_that_breaks_its_schema_is_rejected(stage: Stage) -> None:
    """A field of the wrong type is refused and nothing changes."""
    created = await stage.cluster.create(record(stage))
    with pytest.raises(Rejected):
        await stage.cluster.patch(SpiderIP, created.metadata.name, {"spec": {"holder": "nobody"}})
    assert created == await stage.cluster.get(SpiderIP, created.metadata.name)


async def test_delete_on_condition_of_version(stage: Stage) -> None:
    """At an old version the object stays; at the present one it goes."""
    first = await stage.cluster.create(record(stage))
    name, uid = first.metadata.name, first.metadata.uid
    second = await stage.other.patch(SpiderIP, name, {"spec": {"state": "Cooling"}})
    with pytest.raises(Conflict):
        await stage.cluster.delete(
            SpiderIP, name, uid=uid, resource_version=first.metadata.resource_version
        )
    assert second == await stage.cluster.get(SpiderIP, name)
    await stage.cluster.delete(
        SpiderIP, name, uid=uid, resource_version=second.metadata.resource_version
    )
    with pytest.raises(NotFound):
        await stage.cluster.get(SpiderIP, name)


async def test_delete_on_condition_of_uid(stage: Stage) -> None:
    """A record that was deleted and made again by another holder is not the one that we mean."""
    wanted = record(stage)
    first = await stage.cluster.create(wanted)
    await stage.other.delete(SpiderIP, wanted.metadata.name)
    second = await stage.other.create(wanted)
    with pytest.raises(Conflict):
        await stage.cluster.delete(SpiderIP, wanted.metadata.name, uid=first.metadata.uid)
    assert second == await stage.cluster.get(SpiderIP, wanted.metadata.name)


async def test_delete_without_condition(stage: Stage) -> None:
    """What was asked for happens, in both forms of propagation."""
    for name, propagation in (("a", None), ("b", "Background")):
        created = await stage.cluster.create(config_map(stage, name))
        await stage.cluster.delete(
            ConfigMap, created.metadata.name, "default", propagation=propagation
        )
        with pytest.raises(NotFound):
            await stage.cluster.get(ConfigMap, created.metadata.name, "default")


async def test_finalizer_keeps_an_object_until_it_is_removed(stage: Stage) -> None:
    """A deletion marks the object, changes go on, and it goes with its last finalizer."""
    first = await stage.cluster.create(config_map(stage, "a"))
    name = first.metadata.name
    await stage.cluster.patch(
        ConfigMap, name, {"metadata": {"finalizers": [FINALIZER]}}, namespace="default"
    )
    await stage.cluster.delete(ConfigMap, name, "default")
    marked = await stage.cluster.get(ConfigMap, name, "default")
    assert marked.metadata.deletion_timestamp
    changed = await stage.cluster.patch(ConfigMap, name, {"data": {"v": "1"}}, namespace="default")
    assert marked.metadata.deletion_timestamp == changed.metadata.deletion_timestamp
    await stage.cluster.patch(
        ConfigMap, name, {"metadata": {"finalizers": None}}, namespace="default"
    )
    with pytest.raises(NotFound):
        await stage.cluster.get(ConfigMap, name, "default")


async def test_status_has_a_door_of_its_own(stage: Stage) -> None:
    """
    Where a kind has the subresource, each door changes only its own part.

    The generation counts changes of the spec.
    """
    pool = SpiderIPPool(
        metadata=ObjectMeta(name=stage.run),
        spec=IPPoolSpec(subnet="10.6.0.0/16", ips=("10.6.0.1",)),
    )
    created = await stage.cluster.create(pool)
    both = {"spec": {"ips": ["10.6.0.2"]}, "status": {"totalIPCount": 7}}
    by_status = await stage.cluster.patch(SpiderIPPool, stage.run, both, subresource="status")
    assert (("10.6.0.1",), 7) == (by_status.spec.ips, by_status.status.total_ip_count)
    assert created.metadata.generation == by_status.metadata.generation
    both["status"] = {"totalIPCount": 8}
    by_main = await stage.cluster.patch(SpiderIPPool, stage.run, both)
    assert (("10.6.0.2",), 7) == (by_main.spec.ips, by_main.status.total_ip_count)
    assert created.metadata.generation + 1 == by_main.metadata.generation
    replaced = await stage.cluster.replace(
        msgspec.structs.replace(by_main, status=created.status), subresource="status"
    )
    assert ("10.6.0.2",) == replaced.spec.ips


async def test_kind_without_status_subresource(stage: Stage) -> None:
    """A door that a kind does not have is NotFound."""
    created = await stage.cluster.create(record(stage))
    with pytest.raises(NotFound):
        await stage.cluster.patch(
            SpiderIP, created.metadata.name, {"status": {}}, subresource="status"
        )
