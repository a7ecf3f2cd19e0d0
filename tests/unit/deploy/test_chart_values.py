"""The table of the chart's values, and what is made from it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import yaml

from deploy.chart.values import (
    ORIGINAL,
    Reader,
    Value,
    original_paths,
    outputs,
    read_keys,
    render_page,
    render_schema,
    render_values,
    value_of,
)

THEIRS = yaml.safe_load(ORIGINAL.read_text())
TABLE = yaml.safe_load(
    """
_shared:
  image:
    tag: [text, "", "Tag of the image."]
agent:
  _about: The agent.
  image: {_use: [image]}
  port: [port, 5710, "Port of the probes."]
  gops: [port, 5712, "Port for diagnosis.", {no-effect: "There is none."}]
sriov:
  _about: SR-IOV.
  _no-effect: "Not part of this."
  _original: true
  install: [flag, false, "Install it.", {refuse: "Leave it off."}]
mode: [{enum: [auto, manual]}, auto, "How."]
"""
)
OLD: dict[str, Any] = {
    "agent": {"port": 5710, "gops": 5712},
    "sriov": {"install": False, "image": {"tag": "v1"}, "resources": {"limits": {"cpu": 1}}},
}
ROOT = Reader(TABLE, OLD).read()


def test_all_values_of_the_original_have_a_fate() -> None:
    """Each of the 312 values has its place in the table, with an effect or a sentence."""
    values = {value.path: value for value in read_keys().values()}
    fates = Counter(_fate(value_of(values, path)) for path in original_paths(THEIRS))
    assert {"effective": 204, "no effect": 104, "refused": 4} == fates


def _fate(value: Value) -> str:
    assert value.about or value.no_effect, value.path
    return "refused" if value.refuse else "no effect" if value.no_effect else "effective"


def test_files_of_the_table() -> None:
    """values.yaml, the schema and the documents' page say what the table says."""
    assert [] == [path.name for path, text in outputs().items() if path.read_text() != text]


def test_values_file() -> None:
    """Values have their descriptions; those without effect, or that cannot be on, are left out."""
    text = render_values(ROOT)
    assert {"agent": {"image": {"tag": ""}, "port": 5710}, "mode": "auto"} == yaml.safe_load(text)
    assert "  # Port of the probes.\n  port: 5710\n" in text


def test_schema() -> None:
    """The schema has type, default and description of each value, and what follows of it."""
    properties = json.loads(render_schema(ROOT))["properties"]
    agent = properties["agent"]["properties"]
    assert {
        "type": "integer",
        "minimum": 1,
        "maximum": 65535,
        "default": 5712,
        "description": "Port for diagnosis.",
        "x-no-effect": "There is none.",
    } == agent["gops"]
    assert ["auto", "manual"] == properties["mode"]["enum"]
    sriov = properties["sriov"]["properties"]
    assert "Leave it off." == sriov["install"]["x-refuse"]
    assert "x-no-effect" not in sriov["install"]
    assert {"default": "v1", "x-no-effect": "Not part of this."} == sriov["image"]["properties"][
        "tag"
    ]
    # what is below `resources` may have other names than those of the defaults
    assert {"limits": {"cpu": 1}} == sriov["resources"]["default"]


def test_page() -> None:
    """The page counts the original's values by their fate, and marks this chart's own."""
    page = " ".join(render_page(ROOT, OLD).split())
    assert "All 5 values of the chart of Spiderpool v1.2.1" in page
    assert (
        "(1 have their effect, 3 have none here, 1 are refused when they are on), and 2 are" in page
    )
    assert '| `agent.image.tag` + | `""` | Tag of the image. |' in page
    assert "| `agent.port` | `5710` |" in page
    assert "Install it. **Refused**: Leave it off." in page


def test_value_that_is_not_in_the_table() -> None:
    """A value of the original's that the table lacks ends the making of the page."""
    with pytest.raises(StopIteration):
        value_of({value.path: value for value in ROOT.values()}, ("agent", "binName"))
