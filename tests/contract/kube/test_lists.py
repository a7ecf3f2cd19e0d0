"""Lists and watches: selection, pages, positions, and events in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

import pytest

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import ConfigMap, PartialObject, Pod
from spiderpool.api.kubernetes.meta import KubeObject
from spiderpool.errors import Gone, Rejected
from spiderpool.kube import client
from spiderpool.kube.cluster import Change, Listing, WatchEvent
from tests.contract.kube.stage import Stage, config_map, pod, record

K = TypeVar("K", bound=KubeObject)


def short_names(stage: Stage, listing: Listing[K]) -> list[str]:
    """Return the names of a list without the test's mark, sorted."""
    return sorted(obj.metadata.name.removeprefix(f"{stage.run}-") for obj in listing.items)


async def take(events: AsyncGenerator[WatchEvent[K], None], count: int) -> list[WatchEvent[K]]:
    """Return the next events of a watch that are no bookmarks."""
    found: list[WatchEvent[K]] = []
    async with asyncio.timeout(20):
        async for event in events:
            if event.change is not Change.BOOKMARK:
                found.append(event)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", ["a", "b", "c"]),
        ("tier=front", ["a"]),
        ("tier==front", ["a"]),
        ("tier!=front", ["b", "c"]),
        ("tier in (front, back)", ["a", "b"]),
        ("tier notin (front)", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier,tier!=back", ["a"]),
    ],
)
async def test_label_selectors(stage: Stage, selector: str, expected: list[str]) -> None:
    """All forms of label selectors."""
    for name, labels in (("a", {"tier": "front"}), ("b", {"tier": "back"}), ("c", {})):
        await stage.cluster.create(config_map(stage, name, labels))
    wanted = ",".join(filter(None, (f"run={stage.run}", selector)))
    assert expected == short_names(
        stage, await stage.cluster.list_objects(ConfigMap, namespace="default", labels=wanted)
    )


async def test_the_version_of_the_store(stage: Stage) -> None:
    """It is at least that of the last write, of whatever kind, and never goes back."""
    before = int(await stage.cluster.latest_version(SpiderIP))
    written = await stage.cluster.create(config_map(stage, "a"))
    after = int(await stage.cluster.latest_version(SpiderIP))
    in_namespace = int(await stage.cluster.latest_version(ConfigMap, "default"))

    assert before < int(written.metadata.resource_version) <= after <= in_namespace


async def test_a_list_of_one_name_tells_the_version_of_the_store(stage: Stage) -> None:
    """Whether there is such an object or not: who looks for one learns the version as well."""
    first = await stage.cluster.create(config_map(stage, "a"))
    last = await stage.cluster.create(config_map(stage, "b"))
    for name in (first.metadata.name, "absent"):
        listing = await stage.cluster.list_metadata(
            ConfigMap, namespace="default", fields=f"metadata.name={name}"
        )
        assert int(listing.resource_version) >= int(last.metadata.resource_version)


async def test_names(stage: Stage) -> None:
    """The names of all objects that match, of all namespaces, and nothing when none does."""
    for name, labels in (("a", {"tier": "front"}), ("b", {"tier": "front"}), ("c", {})):
        await stage.cluster.create(config_map(stage, name, labels))
    first, second = record(stage), record(stage)
    for obj in (first, second):
        await stage.cluster.create(obj)

    async def names(kind: type[KubeObject], labels: str, count: int) -> list[str]:
        """Ask until the API server's memory has caught up."""
        async with asyncio.timeout(10):
            while len(found := await stage.cluster.list_names(kind, labels=labels)) != count:
                await asyncio.sleep(0.05)
        return sorted(found)

    assert [f"{stage.run}-a", f"{stage.run}-b"] == await names(
        ConfigMap, f"run={stage.run},tier=front", 2
    )
    assert sorted((first.metadata.name, second.metadata.name)) == await names(
        SpiderIP, f"run={stage.run}", 2
    )
    assert [] == await names(SpiderIP, "run=nobody", 0)


async def test_field_selectors(stage: Stage) -> None:
    """Pods by node, objects by name, and a field that a kind does not offer is refused."""
    for name, node in (("a", "n1"), ("b", "n2")):
        await stage.cluster.create(pod(stage, name, node))
    labels = f"run={stage.run}"
    assert ["a"] == short_names(
        stage, await stage.cluster.list_objects(Pod, labels=labels, fields="spec.nodeName=n1")
    )
    assert ["b"] == short_names(
        stage, await stage.cluster.list_metadata(Pod, labels=labels, fields="spec.nodeName!=n1")
    )
    by_name = f"metadata.name={stage.run}-b"
    assert ["b"] == short_names(
        stage, await stage.cluster.list_objects(Pod, namespace="default", fields=by_name)
    )
    with pytest.raises(Rejected):
        await stage.cluster.list_objects(SpiderIP, fields="spec.pool=blue")


async def test_namespaces_are_apart(stage: Stage) -> None:
    """A list of one namespace shows no other's objects; without a namespace it shows all."""
    await stage.cluster.create(config_map(stage, "a"))
    labels = f"run={stage.run}"
    assert [] == short_names(
        stage, await stage.cluster.list_objects(ConfigMap, namespace="kube-system", labels=labels)
    )
    assert ["a"] == short_names(stage, await stage.cluster.list_objects(ConfigMap, labels=labels))


async def test_metadata_only(stage: Stage) -> None:
    """Name, UID, version and labels without the rest, one by one and as a list."""
    created = await stage.cluster.create(record(stage))
    partial = await stage.cluster.get_metadata(SpiderIP, created.metadata.name)
    assert PartialObject is type(partial)
    assert created.metadata == partial.metadata
    listing = await stage.cluster.list_metadata(SpiderIP, labels=f"run={stage.run}")
    assert [created.metadata] == [obj.metadata for obj in listing.items]


async def test_pages_are_joined(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of more objects than a page holds is whole, in order, and has a version to watch from."""
    monkeypatch.setattr(client, "PAGE", 3)
    for i in range(8):
        await stage.cluster.create(config_map(stage, f"{i}"))
    listing = await stage.cluster.list_objects(
        ConfigMap, namespace="default", labels=f"run={stage.run}"
    )
    assert [f"{stage.run}-{i}" for i in range(8)] == [obj.metadata.name for obj in listing.items]
    assert int(listing.resource_version) >= int(listing.items[-1].metadata.resource_version)


async def test_list_from_memory_is_not_older_than_asked(stage: Stage) -> None:
    """A list at `resourceVersion` N shows the state at N or later."""
    created = await stage.cluster.create(record(stage))
    listing = await stage.cluster.list_objects(
        SpiderIP, labels=f"run={stage.run}", resource_version=created.metadata.resource_version
    )
    assert (created,) == listing.items


async def test_watch_tells_every_change_after_its_position(stage: Stage) -> None:
    """Creation, change and deletion, in order, each with a later version; nothing from before."""
    await stage.cluster.create(config_map(stage, "before"))
    labels = f"run={stage.run}"
    listing = await stage.cluster.list_objects(ConfigMap, namespace="default", labels=labels)
    created = await stage.cluster.create(config_map(stage, "a", v="1"))
    changed = await stage.cluster.patch(
        ConfigMap, created.metadata.name, {"data": {"v": "2"}}, namespace="default"
    )
    await stage.cluster.delete(ConfigMap, created.metadata.name, "default")
    watch = stage.cluster.watch(
        ConfigMap, namespace="default", labels=labels, resource_version=listing.resource_version
    )
    async with aclosing(watch) as events:
        first, second, third = await take(events, 3)
    assert (Change.ADDED, created.data) == (first.change, first.object.data)
    assert (Change.MODIFIED, changed) == (second.change, second.object)
    assert (Change.DELETED, changed.data) == (third.change, third.object.data)
    assert created.metadata.uid == third.object.metadata.uid
    versions = [int(event.object.metadata.resource_version) for event in (first, second, third)]
    assert sorted(set(versions)) == versions


async def test_watch_goes_on_while_it_is_open(stage: Stage) -> None:
    """Changes made after the watch began arrive too."""
    labels = f"run={stage.run}"
    listing = await stage.cluster.list_objects(SpiderIP, labels=labels)
    async with aclosing(
        stage.cluster.watch(SpiderIP, labels=labels, resource_version=listing.resource_version)
    ) as events:
        waiting = asyncio.create_task(take(events, 1))
        await asyncio.sleep(0.05)
        created = await stage.other.create(record(stage))
        assert [WatchEvent(Change.ADDED, created)] == await waiting


async def test_leaving_and_entering_a_selection(stage: Stage) -> None:
    """An object that leaves the selection is DELETED at the version of the change, one that enters it ADDED."""
    created = await stage.cluster.create(config_map(stage, "a", {"node": "n1"}))
    labels = f"run={stage.run},node=n1"
    listing = await stage.cluster.list_objects(ConfigMap, namespace="default", labels=labels)
    versions = []
    for node in ("n2", "n1"):
        patch = {"metadata": {"labels": {"node": node}}}
        changed = await stage.cluster.patch(
            ConfigMap, created.metadata.name, patch, namespace="default"
        )
        versions.append(changed.metadata.resource_version)
    watch = stage.cluster.watch(
        ConfigMap, namespace="default", labels=labels, resource_version=listing.resource_version
    )
    async with aclosing(watch) as events:
        left, entered = await take(events, 2)
    assert (Change.DELETED, Change.ADDED) == (left.change, entered.change)
    assert versions == [event.object.metadata.resource_version for event in (left, entered)]


async def test_metadata_watch(stage: Stage) -> None:
    """Events carry metadata only."""
    labels = f"run={stage.run}"
    listing = await stage.cluster.list_metadata(SpiderIP, labels=labels)
    created = await stage.cluster.create(record(stage))
    watch = stage.cluster.watch_metadata(
        SpiderIP, labels=labels, resource_version=listing.resource_version
    )
    async with aclosing(watch) as events:
        (event,) = await take(events, 1)
    assert PartialObject is type(event.object)
    assert (Change.ADDED, created.metadata) == (event.change, event.object.metadata)


async def test_position_that_is_too_old_is_gone(stage: Stage) -> None:
    """410: the API server does not remember that far back."""
    await stage.cluster.create(record(stage))
    with pytest.raises(Gone):
        async with aclosing(stage.cluster.watch(SpiderIP, resource_version="1")) as events:
            await take(events, 1)
