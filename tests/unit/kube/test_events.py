"""Events: one per object and reason, counted, bounded, and never in anybody's way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.kubernetes.core import Event, Node, ObjectReference, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Forbidden, Unreachable
from spiderpool.kube.events import EventRecorder, Ledger, cut
from spiderpool.model.event_reasons import EventReason
from tests.fakes.cluster import FakeCluster

POD = Pod(metadata=ObjectMeta(name="web-0", namespace="shop", uid="u1"))
ABOUT = ObjectReference(kind="Pod", name="web-0", namespace="shop", uid="u1")


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def cluster() -> FakeCluster:
    """Return an empty API server."""
    return FakeCluster()


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
async def recorder(cluster: FakeCluster, clock: Clock) -> AsyncIterator[EventRecorder]:
    """Return a recorder that runs."""
    recorder = EventRecorder(cluster, "spiderpool-agent", host="node-1", clock=clock)
    await recorder.start()
    yield recorder
    await recorder.stop()


async def settle() -> None:
    """Let the recorder do what it can do now."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_event_says_who_what_and_where(cluster: FakeCluster, recorder: EventRecorder) -> None:
    """The Event lies in the object's namespace and names object, source, reason and message."""
    recorder.record(POD, EventReason.NO_POOL, "no IPPool available: blue is disabled")
    await settle()
    event = cluster.all(Event)[0]
    assert "shop" == event.metadata.namespace
    assert ("Pod", "web-0", "shop", "u1", "v1") == (
        event.involved_object.kind,
        event.involved_object.name,
        event.involved_object.namespace,
        event.involved_object.uid,
        event.involved_object.api_version,
    )
    assert ("Warning", "NoIPPoolAvailable", 1) == (event.type, event.reason, event.count)
    assert "no IPPool available: blue is disabled" == event.message
    assert ("spiderpool-agent", "node-1") == (event.source.component, event.source.host)


async def test_repetitions_raise_the_count_every_30_s(
    cluster: FakeCluster, recorder: EventRecorder, clock: Clock
) -> None:
    """1000 repetitions within 30 s are one creation, and one patch after that time, with the last message."""
    for i in range(1000):
        recorder.record(POD, EventReason.NO_POOL, f"try {i}")
        if i == 0:
            await settle()
    clock.now = 29.9
    recorder._news.set()
    await settle()
    assert (1, 0) == (cluster.count("create"), cluster.count("patch"))
    clock.now = 30.0
    recorder._news.set()
    await settle()
    assert (1, 1) == (cluster.count("create"), cluster.count("patch"))
    assert (1000, "try 999") == (cluster.all(Event)[0].count, cluster.all(Event)[0].message)


async def test_reasons_types_and_objects_are_apart(
    cluster: FakeCluster, recorder: EventRecorder
) -> None:
    """Another reason, type, or object of the same name is another Event."""
    recorder.record(POD, EventReason.NO_POOL, "x")
    recorder.record(POD, EventReason.EXHAUSTED, "x")
    recorder.record(POD, EventReason.ADDED_INTERFACE, "x")
    other = Pod(metadata=ObjectMeta(name="web-0", namespace="shop", uid="u2"))
    recorder.record(other, EventReason.NO_POOL, "x")
    await settle()
    assert ["Normal", "Warning", "Warning", "Warning"] == sorted(
        event.type for event in cluster.all(Event)
    )


async def test_event_about_a_node_is_in_default(
    cluster: FakeCluster, recorder: EventRecorder
) -> None:
    """Objects without a namespace have their Events in `default`, as the API server demands."""
    node = Node(metadata=ObjectMeta(name="n1", uid="u"))
    recorder.record(node, EventReason.KUBE_PROXY_DROPS, "here")
    await settle()
    assert "default" == cluster.all(Event)[0].metadata.namespace


async def test_count_goes_on_after_a_restart(cluster: FakeCluster, recorder: EventRecorder) -> None:
    """A new process finds its predecessor's Event and counts on."""
    recorder.record(POD, EventReason.NO_POOL, "x")
    await settle()
    successor = EventRecorder(cluster, "spiderpool-agent", host="node-1")
    await successor.start()
    successor.record(POD, EventReason.NO_POOL, "y")
    await settle()
    await successor.stop()
    assert [(2, "y")] == [(event.count, event.message) for event in cluster.all(Event)]


async def test_forgotten_event_is_written_again(
    cluster: FakeCluster, recorder: EventRecorder, clock: Clock
) -> None:
    """After the API server dropped an Event, the next repetition creates it again."""
    recorder.record(POD, EventReason.NO_POOL, "x")
    await settle()
    event = cluster.all(Event)[0]
    cluster.drop(Event, event.metadata.name, "shop")
    clock.now = 3600.0
    recorder.record(POD, EventReason.NO_POOL, "x")
    await settle()
    assert [1] == [event.count for event in cluster.all(Event)]


async def test_unreachable_api_server_postpones(
    cluster: FakeCluster, recorder: EventRecorder, clock: Clock
) -> None:
    """An Event that could not be written comes 2 s later."""
    cluster.faults.fail_next("create", Event, Unreachable("down"))
    recorder.record(POD, EventReason.NO_POOL, "x")
    await settle()
    assert () == cluster.all(Event)
    clock.now = 2.0
    recorder._news.set()
    await settle()
    assert 1 == len(cluster.all(Event))


async def test_refused_event_is_dropped(
    cluster: FakeCluster, recorder: EventRecorder, clock: Clock
) -> None:
    """An Event that the API server refuses is not tried again by itself."""
    cluster.faults.fail_next("create", Event, Forbidden("no"))
    recorder.record(POD, EventReason.NO_POOL, "x")
    await settle()
    clock.now = 100.0
    recorder._news.set()
    await settle()
    assert 1 == cluster.count("create")


async def test_stop_writes_what_is_left(cluster: FakeCluster, clock: Clock) -> None:
    """An Event told just before the end is written."""
    recorder = EventRecorder(cluster, "spiderpool-agent", clock=clock)
    await recorder.start()
    recorder.record(POD, EventReason.NO_POOL, "x")
    await recorder.stop()
    assert 1 == len(cluster.all(Event))


def test_ledger_is_bounded() -> None:
    """100000 different objects do not fill the memory."""
    ledger = Ledger()
    for i in range(10_000):
        ledger.note(ObjectReference(uid=str(i)), "Warning", "R", "x", "t")
    assert 2048 == len(ledger._entries) == len(ledger.all())


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(0, 3))))
def test_every_occurrence_is_counted_once_and_writes_are_30_s_apart(
    steps: list[tuple[float, int]],
) -> None:
    """
    Whatever the times.

    What was written plus what is not is what happened, and no Event is written twice in 30 s.
    """
    ledger, now, noted, writes = Ledger(), 0.0, 0, []
    for wait_s, times in steps:
        now += wait_s
        for _ in range(times):
            ledger.note(ABOUT, "Warning", "R", "x", "t")
            noted += 1
        for entry in ledger.due(now):
            writes.append(now)
            ledger.settled(entry, entry.unwritten, entry.written + entry.unwritten, now)
    pending = sum(entry.unwritten for entry in ledger.all())
    written = sum(entry.written for entry in ledger._entries.values())
    assert noted == written + pending
    assert all(later - earlier >= 30 for earlier, later in pairwise(writes))


@given(st.text(max_size=3000))
def test_message_is_cut_between_characters(text: str) -> None:
    """At most 1024 bytes, valid, and the beginning of the text; short texts stay whole."""
    raw = text.encode(errors="surrogatepass")
    if any("\ud800" <= char <= "\udfff" for char in text):
        return
    result = cut(text)
    assert len(result.encode()) <= 1024
    assert text.startswith(result.removesuffix("…"))
    assert (len(raw) <= 1024) is (result == text)
