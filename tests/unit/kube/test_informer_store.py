"""
A law.

Whatever order own writes, events and lists arrive in, later news win and the end is the truth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.kubernetes.core import ConfigMap
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.kube.cluster import Change, Listing, WatchEvent
from spiderpool.kube.informer_store import InformerStore

NAMES = ("a", "b")
Steps = list[tuple[str, str]]


@dataclass
class World:
    """A server's objects, and the events that its watchers have not read yet."""

    version: int = 0
    objects: dict[str, ConfigMap] = field(default_factory=dict)
    events: list[WatchEvent[ConfigMap]] = field(default_factory=list)
    snapshots: list[Listing[ConfigMap]] = field(default_factory=lambda: [Listing((), "0")])

    def write(self, name: str) -> ConfigMap:
        """Create or change an object."""
        self.version += 1
        old = self.objects.get(name)
        uid = old.metadata.uid if old else f"uid-{self.version}"
        new = ConfigMap(
            metadata=ObjectMeta(
                name=name, namespace="n", uid=uid, resource_version=str(self.version)
            )
        )
        self.objects[name] = new
        self._tell(Change.MODIFIED if old else Change.ADDED, new)
        return new

    def delete(self, name: str) -> ConfigMap | None:
        """Delete an object and give what it was."""
        old = self.objects.pop(name, None)
        if old is not None:
            self.version += 1
            meta = ObjectMeta(
                name=name, namespace="n", uid=old.metadata.uid, resource_version=str(self.version)
            )
            self._tell(Change.DELETED, ConfigMap(metadata=meta))
        return old

    def _tell(self, change: Change, obj: ConfigMap) -> None:
        self.events.append(WatchEvent(change, obj))
        self.snapshots.append(Listing(tuple(self.objects.values()), str(self.version)))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["mine", "theirs", "drop mine", "drop theirs", "event", "relist"]),
            st.sampled_from(NAMES),
        )
    ),
    st.randoms(use_true_random=False),
)
def test_own_writes_are_never_undone(  # noqa: C901 - a line for each thing that happens
    steps: Steps, chance: random.Random
) -> None:
    """
    After each own write the replica shows it or something later.

    When all events are read it shows what the server has.
    """
    world, replica, read = World(), InformerStore[ConfigMap](lambda: 0.0), 0
    replica.index("uid", lambda obj: obj.metadata.uid)
    for action, name in steps:
        if action == "mine":
            replica.put(world.write(name))
            assert world.objects[name] == replica.objects["n", name]
        elif action == "theirs":
            world.write(name)
        elif action == "drop mine":
            if (gone := world.delete(name)) is not None:
                replica.bury(gone)
                assert replica.objects.get(("n", name)) is None
        elif action == "drop theirs":
            world.delete(name)
        elif action == "event" and read < len(world.events):
            replica.apply(world.events[read])
            read += 1
        # the API server's memory may lag, but never behind what we have read
        elif action == "relist":
            read = chance.randint(read, len(world.events))
            replica.replace(world.snapshots[read])
        for obj in replica.objects.values():
            assert (obj,) == replica.by_index("uid", obj.metadata.uid)
    for event in world.events[read:]:
        replica.apply(event)
    assert {("n", name): obj for name, obj in world.objects.items()} == replica.objects
    assert {obj.metadata.uid for obj in world.objects.values()} == set(replica._indexes["uid"].keys)


def test_restored_backup_goes_back() -> None:
    """After a restore, versions that are lower than what was known are the truth, and tombstones are forgotten."""
    replica = InformerStore[ConfigMap](lambda: 0.0)
    old = ConfigMap(metadata=ObjectMeta(name="a", namespace="n", uid="u", resource_version="5"))
    new = ConfigMap(metadata=ObjectMeta(name="a", namespace="n", uid="u", resource_version="50"))
    lost = ConfigMap(metadata=ObjectMeta(name="b", namespace="n", uid="u2", resource_version="51"))
    back = ConfigMap(metadata=ObjectMeta(name="c", namespace="n", uid="u3", resource_version="6"))
    replica.put(new)
    replica.put(lost)
    replica.bury(back)
    replica.replace(Listing((old, back), "10"), restored=True)
    assert {old.key: old, back.key: back} == replica.objects


def test_tombstones_are_forgotten_after_five_minutes() -> None:
    """The memory of deletions does not grow without end."""
    now = 0.0
    replica = InformerStore[ConfigMap](lambda: now)
    for i in range(100):
        now = i * 10.0
        replica.bury(
            ConfigMap(
                metadata=ObjectMeta(name="a", namespace="n", uid=str(i), resource_version="1")
            )
        )
    assert 31 == len(replica._tombstones)


def test_an_object_that_no_index_can_place_is_passed_over() -> None:
    """The others of its list are there, and so is it once it can be read again."""

    def place(obj: ConfigMap) -> int:
        return int(obj.data["number"])

    def made(name: str, number: str, resource_version: int) -> ConfigMap:
        meta = ObjectMeta(
            name=name, namespace="n", uid=name, resource_version=str(resource_version)
        )
        return ConfigMap(metadata=meta, data={"number": number})

    store: InformerStore[ConfigMap] = InformerStore(lambda: 0.0)
    store.index("number", place)
    seen: list[tuple[Change, str]] = []
    store.subscribe(
        lambda change, old, new: seen.append((change, (new or old).metadata.name))  # type: ignore[union-attr]
    )
    store.replace(Listing((made("a", "none", 1), made("b", "5", 2)), "2"))
    assert ["b"] == [found.metadata.name for found in store.objects.values()]
    store.put(made("a", "7", 3))
    assert ["a"] == [found.metadata.name for found in store.by_index("number", 7)]
    store.put(made("a", "none", 4))
    assert () == store.by_index("number", 7)
    assert [
        (Change.ADDED, "b"),
        (Change.ADDED, "a"),
        (Change.DELETED, "a"),
    ] == seen


def test_a_subscriber_that_raises_keeps_nobody_from_the_news() -> None:
    """The next subscriber hears of the object, and of all that follow."""
    store: InformerStore[ConfigMap] = InformerStore(lambda: 0.0)

    def refuse(*_: object) -> None:
        raise RuntimeError("subscriber")

    heard: list[str] = []
    store.subscribe(refuse)
    store.subscribe(lambda _change, _old, new: heard.append(new.metadata.name))  # type: ignore[union-attr]
    world = World()
    world.write("a")
    world.write("b")
    store.replace(world.snapshots[-1])
    assert ["a", "b"] == heard
