"""What has to be the same in several files of the repository."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from deploy.image import build

ROOT = Path(__file__).parents[3]
DECISIONS = ROOT / "docs/decisions"


@pytest.mark.parametrize("project", [".", "lab"])
def test_the_version_is_that_of_the_chart(project: str) -> None:
    """Chart, image and Python packages have one version, which is written in Chart.yaml alone."""
    chart = yaml.safe_load((ROOT / "deploy/chart/spiderpool/Chart.yaml").read_text())
    table = tomllib.loads((ROOT / project / "pyproject.toml").read_text())["project"]
    assert "version" not in table
    expected = chart["appVersion"]

    assert expected == chart["version"]
    assert expected == ProjectMetadata(str(ROOT / project), PluginManager()).version
    assert expected == build.read_project().version


def test_the_licence_comes_with_the_package() -> None:
    """The package says its licence as an SPDX expression, and brings both files along."""
    ours = metadata("spiderpool")
    assert "Apache-2.0" == ours["License-Expression"]
    assert ["LICENSE", "NOTICE"] == ours.get_all("License-File")
    assert (
        "Apache License\n                           Version 2.0, January 2004"
        in (ROOT / "LICENSE").read_text()
    )


def decisions() -> list[Path]:
    """Name the pages of decisions."""
    return sorted(DECISIONS.glob("0*.md"))


def test_decisions_are_in_the_index() -> None:
    """Each page has its number, title and state, and a row of the index says the same."""
    rows = [
        line
        for line in (DECISIONS / "README.md").read_text().splitlines()
        if line.startswith("| [")
    ]
    expected = []
    for page in decisions():
        title, _, state = page.read_text().splitlines()[:3]
        number = int(page.name[:4])
        assert title.startswith(f"# {number}. ")
        expected.append(
            f"| [{number}]({page.name}) | {title.partition('. ')[2]} | {state.removeprefix('State: ')} |"
        )

    assert expected == rows


@pytest.mark.parametrize("page", decisions(), ids=lambda page: page.stem)
def test_the_state_of_a_decision(page: Path) -> None:
    """A state is one of four, and a decision that follows exists."""
    state = page.read_text().splitlines()[2]
    pattern = r"State: (Proposed\.|Accepted\.|Superseded (in part )?by \[(\d+)\]\((?P<page>[\w-]+\.md)\)[^\n]*\.)"
    found = re.fullmatch(pattern, state)

    assert found, f"{page.name}: {state!r}"
    assert not found["page"] or (DECISIONS / found["page"]).exists()
