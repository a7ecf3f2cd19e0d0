"""Kernel settings of the node: written, recorded, put back."""

from __future__ import annotations

from pathlib import Path

from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.api.agent.node_settings import ChangedSetting, NodeRecord

FILTER = "net.ipv4.conf.all.rp_filter"
LIBERAL = "net.netfilter.nf_conntrack_tcp_be_liberal"


def node(folder: Path, **values: str) -> NodeSettings:
    """Make a kernel of files that has some settings."""
    for key, value in values.items():
        file = folder / "sys" / key.replace(".", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return NodeSettings(folder / "run" / "node-settings.json", folder / "sys")


def test_held_and_put_back(tmp_path: Path) -> None:
    """
    A changed setting is on record, over a restart too, and comes back when Spiderpool goes.

    Absent ones are left out.
    """
    settings = node(tmp_path, **{FILTER: "2"})
    for _ in range(2):
        settings.hold({FILTER: "0", LIBERAL: "1"})

        assert ("0", None) == (settings.read(FILTER), settings.read(LIBERAL))
        assert (
            ChangedSetting(key=FILTER, before="2", after="0"),
        ) == settings.read_record().settings
    settings.undo()
    assert "2" == settings.read(FILTER)
    assert not settings.record_file.exists()


def test_changed_by_somebody_else(tmp_path: Path) -> None:
    """What somebody else changed since is not touched at the end."""
    settings = node(tmp_path, **{FILTER: "2"})
    settings.hold({FILTER: "0"})
    node(tmp_path, **{FILTER: "1"})
    settings.undo()

    assert "1" == settings.read(FILTER)


def test_nothing_to_do(tmp_path: Path) -> None:
    """Where all is as it must be, nothing is written and nothing is on record."""
    settings = node(tmp_path, **{FILTER: "0"})
    settings.hold({FILTER: "0"})
    settings.undo()

    assert not settings.record_file.parent.exists()


def test_record_is_written_first(tmp_path: Path) -> None:
    """An agent that ends between record and change knows the first value when it comes back."""
    settings = node(tmp_path, **{FILTER: "2"})
    settings._keep(NodeRecord(settings=(ChangedSetting(key=FILTER, before="2", after="0"),)))
    settings.hold({FILTER: "0"})
    settings.undo()

    assert "2" == settings.read(FILTER)


def test_broken_record(tmp_path: Path) -> None:
    """A record that cannot be read is none: what is found now is what was before."""
    settings = node(tmp_path, **{FILTER: "2"})
    settings.record_file.parent.mkdir()
    settings.record_file.write_text("{")
    settings.hold({FILTER: "0"})

    assert ["2"] == [changed.before for changed in settings.read_record().settings]
