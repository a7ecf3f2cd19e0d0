"""Kernel settings of a node: what is written, recorded and put back."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.agent.node_settings import ChangedSetting, NodeRecord
from spiderpool.datapath.kernel_settings import (
    KEPT,
    TCP_BE_LIBERAL,
    Changes,
    plan_changes,
    plan_undo,
    wanted_settings,
)

FILTER = "net.ipv4.conf.all.rp_filter"
NEIGHBOURS = "net.ipv4.neigh.default.gc_thresh3"
FORWARD = "net.ipv4.conf.all.forwarding"


def test_wanted() -> None:
    """
    The settings are the reference's, by family.

    Conntrack's only when asked for.

    Source: docs/reference/coordinator.md#node-settings.
    """
    expected = {
        "net.ipv4.neigh.default.gc_thresh3": "28160",
        "net.ipv4.conf.all.arp_notify": "1",
        "net.ipv4.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": "0",
        "net.ipv6.neigh.default.gc_thresh3": "28160",
        "net.ipv6.conf.all.forwarding": "1",
    }

    assert expected == wanted_settings((4, 6), tune=True, be_liberal=False)
    assert {key: value for key, value in expected.items() if "ipv6" in key} == wanted_settings(
        (6,), tune=True, be_liberal=False
    )
    assert {"net.netfilter.nf_conntrack_tcp_be_liberal": "1"} == wanted_settings(
        (4, 6), tune=False, be_liberal=True
    )
    assert {} == wanted_settings((4, 6), tune=False, be_liberal=False)


def test_only_what_is_wrong_is_ours() -> None:
    """What is right already is neither written nor recorded; what the kernel lacks is left out."""
    changes = plan_changes(
        {FILTER: "0", FORWARD: "1", TCP_BE_LIBERAL: "1"}, {FILTER: "2", FORWARD: "1"}, NodeRecord()
    )

    assert ((FILTER, "0"),) == changes.writes
    assert (ChangedSetting(key=FILTER, before="2", after="0"),) == changes.record.settings


def test_a_higher_bound_stays() -> None:
    """
    Room for more neighbours than we need is not taken away.

    When somebody adds room later, it stays at the end too.
    """
    wanted = {NEIGHBOURS: "28160"}
    ours = NodeRecord(settings=(ChangedSetting(key=NEIGHBOURS, before="1024", after="28160"),))

    assert (NodeRecord(), ()) == read(plan_changes(wanted, {NEIGHBOURS: "100000"}, NodeRecord()))
    assert (ours, ((NEIGHBOURS, "28160"),)) == read(
        plan_changes(wanted, {NEIGHBOURS: "1024"}, NodeRecord())
    )
    assert (ours, ()) == read(plan_changes(wanted, {NEIGHBOURS: "100000"}, ours))
    assert () == plan_undo({NEIGHBOURS: "100000"}, ours)


def read(changes: Changes) -> tuple[NodeRecord, tuple[tuple[str, str], ...]]:
    """Return record and writes."""
    return changes.record, changes.writes


def test_restart_remembers_the_first_value() -> None:
    """
    A restarted agent finds its own values, writes nothing, and knows what was before.

    So does one that writes again.
    """
    record = NodeRecord(settings=(ChangedSetting(key=FILTER, before="2", after="0"),))
    for found, writes in (({FILTER: "0"}, ()), ({FILTER: "1"}, ((FILTER, "0"),))):
        changes = plan_changes({FILTER: "0"}, found, record)

        assert (record, writes) == (changes.record, changes.writes)


def test_switched_off() -> None:
    """What is not wanted any more is put back, unless somebody else changed it since."""
    record = NodeRecord(settings=(ChangedSetting(key=TCP_BE_LIBERAL, before="0", after="1"),))

    assert ((TCP_BE_LIBERAL, "0"),) == plan_changes({}, {TCP_BE_LIBERAL: "1"}, record).writes
    assert () == plan_changes({}, {TCP_BE_LIBERAL: "0"}, record).writes
    assert NodeRecord() == plan_changes({}, {TCP_BE_LIBERAL: "1"}, record).record


def test_forwarding_stays() -> None:
    """A node goes on forwarding: others rely on it. The record keeps showing that it was us."""
    record = plan_changes({FORWARD: "1"}, {FORWARD: "0"}, NodeRecord()).record

    assert (ChangedSetting(key=FORWARD, before="0", after="1", kept=True),) == record.settings
    assert () == plan_undo({FORWARD: "1"}, record)
    assert (record, ()) == (
        plan_changes({}, {FORWARD: "1"}, record).record,
        plan_changes({}, {FORWARD: "1"}, record).writes,
    )


KEYS = ["net.a", "net.b", FORWARD]
VALUES = st.dictionaries(st.sampled_from(KEYS), st.sampled_from("012"), max_size=3)


def after(found: Mapping[str, str], writes: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Carry out writes."""
    return {**found, **dict(writes)}


@given(found=VALUES, first=VALUES, second=VALUES)
def test_everything_comes_back(
    found: dict[str, str], first: dict[str, str], second: dict[str, str]
) -> None:
    """However often what is wanted changes, the node has what is wanted, and at the end what it had, but for forwarding."""
    record, now = NodeRecord(), dict(found)
    for wanted in (first, second):
        changes = plan_changes(wanted, now, record)
        record, now = changes.record, after(now, changes.writes)
        assert all(now[key] == value for key, value in wanted.items() if key in found)
    now = after(now, plan_undo(now, record))

    assert {key: value for key, value in found.items() if key not in KEPT} == {
        key: value for key, value in now.items() if key not in KEPT
    }
