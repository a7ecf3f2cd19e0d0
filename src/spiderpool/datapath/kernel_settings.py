"""
Kernel settings of a node that underlay networks need: what is written, and what is restored.

Pure; the agent reads and writes the files.

Source: docs/reference/coordinator.md#node-settings,
docs/reference/packet-paths.md#half-seen-connections; kernel,
Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.api.agent.node_settings import ChangedSetting, NodeRecord

NEIGHBOURS: Final = "28160"  # the original's; each pod has permanent neighbours on its node
TUNED: Final[Mapping[int, Mapping[str, str]]] = {
    4: {
        "net.ipv4.neigh.default.gc_thresh3": NEIGHBOURS,
        "net.ipv4.conf.all.arp_notify": "1",
        "net.ipv4.conf.all.forwarding": "1",
        "net.ipv4.conf.all.rp_filter": "0",
    },
    6: {"net.ipv6.neigh.default.gc_thresh3": NEIGHBOURS, "net.ipv6.conf.all.forwarding": "1"},
}
# A bound that somebody has set higher holds what we need: lowering it would take room from others.
AT_LEAST: Final = frozenset(
    {"net.ipv4.neigh.default.gc_thresh3", "net.ipv6.neigh.default.gc_thresh3"}
)
TCP_BE_LIBERAL: Final = "net.netfilter.nf_conntrack_tcp_be_liberal"
# A program that came after us relies on them without writing them again: a node that stops
# forwarding loses its pods.
KEPT: Final = frozenset({"net.ipv4.conf.all.forwarding", "net.ipv6.conf.all.forwarding"})


@dataclass(frozen=True, slots=True)
class Changes:
    """What to write, in this order, and the record that must be on disk before the first write."""

    record: NodeRecord
    writes: tuple[tuple[str, str], ...]


def wanted_settings(families: Iterable[int], *, tune: bool, be_liberal: bool) -> dict[str, str]:
    """
    Return the settings that a node is to have.

    Args:
        families: the enabled ones.
        tune: the chart's switch `spiderpoolAgent.tuneSysctlConfig`.
        be_liberal: the chart's switch `coordinator.tcpBeLiberal`.
    """
    tuned = (
        {key: value for family in families for key, value in TUNED[family].items()} if tune else {}
    )
    return tuned | ({TCP_BE_LIBERAL: "1"} if be_liberal else {})


def plan_changes(
    wanted: Mapping[str, str], found: Mapping[str, str], record: NodeRecord
) -> Changes:
    """
    Decide what to write.

    Args:
        wanted: what the node is to have.
        found: what it has; keys that this kernel lacks are missing.
        record: what was changed before, by this agent or one before it.
    Returns:
        A setting that is right already and was not changed by us is not ours: it is neither written
        nor recorded. One that we changed and that is not wanted any more is put back.
    """
    known = {changed.key: changed for changed in record.settings}
    kept: list[ChangedSetting] = []
    writes: list[tuple[str, str]] = []
    for key, changed in known.items():
        if key in wanted:
            continue
        back = undo_of(changed, found)
        writes += back
        if not back and changed.kept:
            kept.append(changed)
    for key, value in wanted.items():
        if key not in found:
            continue
        before = known[key].before if key in known else found[key]
        wrong = not is_enough(key, found[key], value)
        if wrong:
            writes.append((key, value))
        if key in known or wrong:
            kept.append(ChangedSetting(key=key, before=before, after=value, kept=key in KEPT))
    return Changes(NodeRecord(settings=tuple(kept)), tuple(writes))


def is_enough(key: str, found: str, wanted: str) -> bool:
    """
    Return whether a setting does what is wanted of it.

    Args:
        key: name of the sysctl; those of `AT_LEAST` may be larger.
        found: the value now.
        wanted: the value that Spiderpool needs.
    """
    more = key in AT_LEAST and found.isdecimal() and int(found) > int(wanted)
    return found == wanted or more


def plan_undo(found: Mapping[str, str], record: NodeRecord) -> tuple[tuple[str, str], ...]:
    """Decide what to put back when Spiderpool leaves a node, last change first."""
    return tuple(
        write for changed in reversed(record.settings) for write in undo_of(changed, found)
    )


def undo_of(changed: ChangedSetting, found: Mapping[str, str]) -> list[tuple[str, str]]:
    """
    Return the write that puts a setting back.

    None when it stays, or when somebody else changed it since.
    """
    ours = found.get(changed.key) == changed.after and changed.before != changed.after
    return [(changed.key, changed.before)] if ours and not changed.kept else []
