"""
An informer.

What it shows, when it lists again, and that one's own writes are never undone by older news.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import msgspec
import pytest

from spiderpool.api.kubernetes.core import ConfigMap, Node, NodeStatus, Pod, PodSpec
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.errors import Forbidden, Gone, TooManyRequests, Unreachable
from spiderpool.kube import informer as informer_module
from spiderpool.kube.cluster import Change
from spiderpool.kube.informer import Informer, MetadataInformer
from tests.fakes.cluster import FakeCluster

K = TypeVar("K", bound=KubeObject)


def config_map(name: str, **data: str) -> ConfigMap:
    """Make a ConfigMap in namespace `default`."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="default"), data=data)


@pytest.fixture
def cluster() -> FakeCluster:
    """Return an empty API server."""
    return FakeCluster()


@pytest.fixture
async def informer(cluster: FakeCluster) -> AsyncIterator[Informer[ConfigMap]]:
    """Return a synced informer of all ConfigMaps; one, `first`, exists before."""
    cluster.seed(config_map("first", a="1"))
    informer = Informer(cluster, ConfigMap)
    await informer.start()
    await informer.synced()
    yield informer
    await informer.stop()


def names(informer: Informer[ConfigMap]) -> list[str]:
    """Return the names that an informer shows."""
    return sorted(obj.metadata.name for obj in informer.values())


def name_of(obj: KubeObject | None) -> str:
    """Return the name of an object that is there."""
    assert obj is not None
    return obj.metadata.name


def whole_lists(cluster: FakeCluster) -> int:
    """Return how often all objects were listed; a look at the history lists a single one."""
    return sum(call.verb == "list" and not call.name for call in cluster.calls)


async def shows(informer: Informer[ConfigMap], *expected: str) -> bool:
    """Wait until an informer shows just these names."""
    return bool(await informer.wait_for(lambda m: names(m) == sorted(expected), 1.0))


def need(informer: Informer[K], name: str) -> K:
    """Return an object that the informer shows."""
    found = informer.named(name, "default")
    assert found is not None
    return found


async def test_shows_what_was_there_and_what_comes(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """Objects from before the start and from after it are both shown."""
    await cluster.create(config_map("second"))
    assert await shows(informer, "first", "second")
    assert {"a": "1"} == need(informer, "first").data


async def test_tells_subscribers_before_and_after(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """A subscriber gets the kind of change with the object before and after, until it leaves."""
    seen = []
    leave = informer.subscribe(
        lambda change, old, new: seen.append((change, old and old.data, new and new.data))
    )
    await cluster.create(config_map("x", v="1"))
    await cluster.patch(ConfigMap, "x", {"data": {"v": "2"}}, namespace="default")
    await cluster.delete(ConfigMap, "x", "default")
    await informer.wait_for(lambda _: len(seen) == 3, 1.0)
    leave()
    await cluster.create(config_map("y"))
    await shows(informer, "first", "y")
    expected = [
        (Change.ADDED, None, {"v": "1"}),
        (Change.MODIFIED, {"v": "1"}, {"v": "2"}),
        (Change.DELETED, {"v": "2"}, None),
    ]
    assert expected == seen


async def test_index_follows_changes(cluster: FakeCluster, informer: Informer[ConfigMap]) -> None:
    """An index finds objects by their present value, those from before it included."""
    informer.index("a", lambda obj: obj.data.get("a"))
    assert ["first"] == [obj.metadata.name for obj in informer.by_index("a", "1")]
    await cluster.patch(ConfigMap, "first", {"data": {"a": "2"}}, namespace="default")
    assert await informer.wait_for(lambda m: m.by_index("a", "2"), 1.0)
    assert () == informer.by_index("a", "1")
    await cluster.delete(ConfigMap, "first", "default")
    assert await shows(informer)
    assert () == informer.by_index("a", "2")


async def test_field_selector_is_passed_on(cluster: FakeCluster) -> None:
    """An informer of one node's pods shows no others, and drops one that leaves the selection."""
    for name, node in (("p1", "a"), ("p2", "b")):
        cluster.seed(
            Pod(metadata=ObjectMeta(name=name, namespace="default"), spec=PodSpec(node_name=node))
        )
    informer = Informer(cluster, Pod, fields="spec.nodeName=a")
    await informer.start()
    await informer.synced()
    assert ["p1"] == [pod.metadata.name for pod in informer]
    await informer.stop()


async def test_metadatan_informer_knows_no_spec(cluster: FakeCluster) -> None:
    """An informer of metadata carries names and labels of any kind, and follows changes."""
    cluster.seed(
        Pod(
            metadata=ObjectMeta(name="p", namespace="default", labels={"app": "x"}),
            spec=PodSpec(node_name="a"),
        )
    )
    informer = MetadataInformer(cluster, Pod)
    await informer.start()
    await informer.synced()
    assert {"app": "x"} == need(informer, "p").metadata.labels
    await cluster.patch(Pod, "p", {"metadata": {"labels": {"app": "y"}}}, namespace="default")
    assert await informer.wait_for(lambda m: need(m, "p").metadata.labels == {"app": "y"}, 1.0)
    await informer.stop()


async def test_metadata_informer_goes_on_after_its_watch(cluster: FakeCluster) -> None:
    """It asks for its kind, not for the metadata's, when it looks at the history; no second list."""
    cluster.seed(Pod(metadata=ObjectMeta(name="p", namespace="default"), spec=PodSpec()))
    informer = MetadataInformer(cluster, Pod)
    await informer.start()
    await informer.synced()
    for _ in range(2):
        cluster.end_watches()
        await asyncio.sleep(1.0)
    await cluster.patch(Pod, "p", {"metadata": {"labels": {"app": "y"}}}, namespace="default")
    assert await informer.wait_for(lambda m: need(m, "p").metadata.labels == {"app": "y"}, 1.0)
    assert (1, {"pods"}) == (whole_lists(cluster), {call.plural for call in cluster.calls})
    assert informer.trouble is None
    await informer.stop()


async def test_own_create_is_visible_at_once(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """While the watch lags, a remembered object is shown, and its late event changes nothing."""
    cluster.hold_watch()
    seen = []
    informer.remember(await cluster.create(config_map("mine")))
    assert ["first", "mine"] == names(informer)
    informer.subscribe(lambda change, _old, _new: seen.append(change))
    cluster.release_watch()
    await cluster.create(config_map("last"))
    await shows(informer, "first", "last", "mine")
    assert [Change.ADDED] == seen


async def test_own_update_is_not_undone_by_older_event(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """Another's earlier change that arrives after one's own later one is ignored."""
    cluster.hold_watch()
    await cluster.patch(ConfigMap, "first", {"data": {"a": "theirs"}}, namespace="default")
    informer.remember(
        await cluster.patch(ConfigMap, "first", {"data": {"a": "mine"}}, namespace="default")
    )
    values: list[str] = []
    informer.subscribe(lambda _change, _old, new: values.append(new.data["a"] if new else "gone"))
    cluster.release_watch()
    await cluster.patch(ConfigMap, "first", {"data": {"a": "later"}}, namespace="default")
    await informer.wait_for(lambda _: values, 1.0)
    assert ["later"] == values


async def test_own_deletion_is_not_undone_by_older_event(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """An object that one deleted does not reappear from its own creation, modification or an older list."""
    cluster.hold_watch()
    created = await cluster.create(config_map("mine"))
    informer.remember(created)
    await cluster.patch(ConfigMap, "mine", {"data": {"b": "2"}}, namespace="default")
    await cluster.delete(ConfigMap, "mine", "default")
    informer.forget(created)
    added = []
    informer.subscribe(lambda change, _old, new: added.append((change, new and new.metadata.name)))
    cluster.release_watch()
    await cluster.create(config_map("last"))
    await shows(informer, "first", "last")
    assert [(Change.ADDED, "last")] == added


async def test_same_name_after_own_deletion_is_shown(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """A new object of the deleted one's name is another object."""
    first = need(informer, "first")
    await cluster.delete(ConfigMap, "first", "default")
    informer.forget(first)
    assert [] == names(informer)
    await cluster.create(config_map("first", a="new"))
    assert await shows(informer, "first")


async def test_object_that_left_the_selection_may_come_back(cluster: FakeCluster) -> None:
    """
    DELETED because of a selector is not a deletion.

    The same object returns with a later version.
    """
    cluster.seed(
        msgspec.structs.replace(
            config_map("x"), metadata=ObjectMeta(name="x", namespace="default", labels={"n": "a"})
        )
    )
    informer = Informer(cluster, ConfigMap, labels="n=a")
    await informer.start()
    await informer.synced()
    for node, there in (("b", False), ("a", True)):
        await cluster.patch(
            ConfigMap, "x", {"metadata": {"labels": {"n": node}}}, namespace="default"
        )
        expected = ["x"] if there else []
        assert await shows(informer, *expected)
    await informer.stop()


async def test_relists_when_position_is_gone(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """After 410 the informer lists again and reports what it missed, deletions too."""
    changes = []
    informer.subscribe(lambda change, old, new: changes.append((change, name_of(new or old))))
    cluster.stop()
    cluster.start()
    await cluster.create(config_map("second"))
    await cluster.delete(ConfigMap, "first", "default")
    cluster.compact()
    assert await shows(informer, "second")
    assert {(Change.DELETED, "first"), (Change.ADDED, "second")} == set(changes)
    assert 2 == whole_lists(cluster)


async def test_own_write_survives_an_older_list(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """A list from the API server's memory that is older than one's own creation does not remove it."""
    cluster.hold_watch()
    informer.remember(await cluster.create(config_map("mine")))
    cluster.end_watches(Gone("too old"))
    assert await informer.wait_for(
        lambda _: cluster.count("list") == 2 and cluster.count("watch") == 2, 1.0
    )
    assert ["first", "mine"] == names(informer)


async def test_goes_on_without_a_list_when_the_watch_breaks(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """A broken watch is taken up where it was: no list, nothing lost."""
    cluster.end_watches(Unreachable("cut"))
    await cluster.create(config_map("second"))
    assert await shows(informer, "first", "second")
    assert 1 == whole_lists(cluster)


async def test_bookmark_moves_the_position(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """After a bookmark, a history that ends there is no reason to list again."""
    await asyncio.sleep(0.01)
    cluster.bookmark()
    await asyncio.sleep(0.01)
    cluster.compact()
    cluster.end_watches()
    await cluster.create(config_map("second"))
    assert await shows(informer, "first", "second")
    assert 1 == whole_lists(cluster)


async def test_restored_backup_replaces_everything(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """When the API server's versions have gone back, a consistent list is the truth."""
    informer.remember(msgspec.structs.replace(need(informer, "first"), metadata=ObjectMeta(
        name="lost", namespace="default", uid="u-lost", resource_version="900000")))  # fmt: skip
    informer._position.seen = "900000"
    cluster.end_watches(Gone("too old"))
    assert await shows(informer, "first")


async def test_a_restored_store_is_noticed(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """After a restore the API server accepts the watch from the future; the list is read again."""
    backup = cluster.back_up()
    await cluster.create(config_map("lost"))
    assert await shows(informer, "first", "lost")

    cluster.restore(backup)

    assert await shows(informer, "first")
    await cluster.create(config_map("second"))
    assert await shows(informer, "first", "second")


async def test_a_restored_store_that_has_caught_up_is_noticed_by_what_it_lost(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """Others write while we are away: the versions are past what was known, and the last change is not there."""
    backup = cluster.back_up()
    await cluster.create(config_map("lost"))
    assert await shows(informer, "first", "lost")

    cluster.restore(backup)
    for name in ("x", "y", "z"):
        await cluster.create(config_map(name))

    assert await shows(informer, "first", "x", "y", "z")


async def test_a_restored_deletion_is_noticed(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """What was deleted after the backup is there again, although the versions have caught up."""
    backup = cluster.back_up()
    cluster.drop(ConfigMap, "first", "default")
    assert await shows(informer)

    cluster.restore(backup)
    for name in ("x", "y"):
        await cluster.create(config_map(name))

    assert await shows(informer, "first", "x", "y")


async def test_a_restored_store_that_has_caught_up_is_noticed_by_its_list(
    cluster: FakeCluster, informer: Informer[ConfigMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the versions are past what was known, the next whole list shows the rewritten history."""
    monkeypatch.setattr(informer_module, "RELIST_S", -1.0)
    backup = cluster.back_up()
    await cluster.patch(ConfigMap, "first", {"data": {"a": "lost"}}, namespace="default")
    for name in ("x", "y"):
        cluster.drop(ConfigMap, (await cluster.create(config_map(name))).metadata.name, "default")
    await informer.wait_for(lambda m: need(m, "first").data["a"] == "lost", 1.0)
    position = int(informer._position.seen)

    cluster.restore(backup)
    while cluster._version <= position:
        cluster.bookmark()
    cluster.end_watches()

    assert await informer.wait_for(lambda m: need(m, "first").data["a"] == "1", 1.0)


async def test_the_history_is_checked_while_a_watch_stands(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that nothing ends is ended by us now and then, and goes on where it was."""
    monkeypatch.setattr(informer_module, "SHORT_WATCH_S", 0.001)
    informer = Informer(cluster, ConfigMap, check_s=0.02)
    await informer.start()
    await informer.synced()
    while cluster.count("version") < 3:
        await asyncio.sleep(0.01)
    await cluster.create(config_map("late"))

    assert await shows(informer, "late")
    assert 1 == cluster.count("list")
    await informer.stop()


async def test_waits_as_long_as_the_server_asks(cluster: FakeCluster) -> None:
    """429 with Retry-After keeps the informer quiet for that time."""
    cluster.faults.fail_next("list", Node, TooManyRequests("wait", retry_after_s=0.3))
    informer = Informer(cluster, Node)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await informer.start()
    await informer.synced()
    assert loop.time() - began == pytest.approx(0.3)
    await informer.stop()


async def test_trouble_is_told_and_goes(cluster: FakeCluster) -> None:
    """A refusal is kept in `trouble` until a list succeeds."""
    cluster.faults.fail_next("list", Node, Forbidden("no"))
    cluster.seed(Node(metadata=ObjectMeta(name="n"), status=NodeStatus()))
    informer = Informer(cluster, Node)
    await informer.start()
    while informer.trouble is None:
        await asyncio.sleep(0)
    assert "no" == informer.trouble.message
    assert not informer.is_synced
    await informer.synced()
    assert informer.trouble is None
    await informer.stop()


async def test_trouble_goes_where_nothing_changes(
    cluster: FakeCluster, informer: Informer[ConfigMap], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that stands again is the end of trouble, also when no event comes to tell."""
    monkeypatch.setattr(informer_module, "SHORT_WATCH_S", 0.05)
    cluster.end_watches(Unreachable("cut"))
    while informer.trouble is None:
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        while informer.trouble is not None:
            await asyncio.sleep(0.01)


async def test_failing_subscriber_does_not_end_the_informer(
    cluster: FakeCluster, informer: Informer[ConfigMap]
) -> None:
    """After a subscriber raised, later changes still arrive."""

    def broken(_change: Change, _old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is not None and new.metadata.name == "bad":
            raise RuntimeError("subscriber")

    informer.subscribe(broken)
    await cluster.create(config_map("bad"))
    await cluster.create(config_map("good"))
    assert await shows(informer, "bad", "first", "good")


async def test_wait_for_gives_up(informer: Informer[ConfigMap]) -> None:
    """None when the time is over and the predicate never held."""
    assert await informer.wait_for(lambda m: m.named("never"), 0.05) is None
