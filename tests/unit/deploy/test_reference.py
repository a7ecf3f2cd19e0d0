"""Reference pages that are made from their sources."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter

from deploy.reference import __main__ as reference
from deploy.reference import metrics
from deploy.reference.tables import table
from spiderpool.model.event_reasons import EventReason

SOURCES = Path(__file__).parents[3] / "src/spiderpool"


def test_pages_are_current() -> None:
    """Each page is what its source says; `make reference` writes it."""
    assert {} == reference.read_stale(reference.FOLDER)


def test_a_stale_page_is_named_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check changes nothing and names pages; without it they are written, those that differ."""
    (tmp_path / "cli.md").write_text("old")
    assert 1 == reference.main(["--check"], tmp_path)
    said = capsys.readouterr().err.splitlines()
    assert (
        "docs/reference/cli.md is not what its source says; write it by `make reference`" == said[0]
    )
    assert (len(reference.PAGES), "old") == (len(said), (tmp_path / "cli.md").read_text())

    assert 0 == reference.main([], tmp_path)

    assert 0 == reference.main(["--check"], tmp_path)
    assert sorted(reference.PAGES) == sorted(path.name for path in tmp_path.iterdir())


def test_a_series_without_a_value_is_not_described() -> None:
    """It has no labels to describe: the page would be wrong."""
    registry = CollectorRegistry()
    Counter("x", "text", ("label",), registry=registry)
    with pytest.raises(ValueError, match="x has no value here"):
        metrics._table(registry.collect())


def test_a_bar_does_not_end_a_cell() -> None:
    """Cells may have the character that tables are made of."""
    assert "| a |\n|---|\n| x\\|y |\n" == table(("a",), [("x|y",)])


def test_each_reason_of_an_event_is_used() -> None:
    """The list promises no Event that nobody writes; each has its words, and warnings say what to do."""
    code = "\n".join(path.read_text() for path in SOURCES.rglob("*.py"))
    assert [] == [reason.name for reason in EventReason if f"EventReason.{reason.name}" not in code]
    assert all(text.endswith(".") for reason in EventReason for text in (reason.meaning,))
    assert {"AddedInterface", "PoolUsageNormal"} == {r for r in EventReason if r.type == "Normal"}
