"""What the agent tells about its node."""

from __future__ import annotations

import json
from pathlib import Path

from aiohttp import web

from spiderpool.agent.api.node_settings import node_routes
from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.datapath.invalid_packets import Fate, Verdict
from tests.unit.agent.node.test_sysctl import FILTER, node


async def report(settings: NodeSettings, verdict: Verdict | str) -> object:
    """Ask."""
    answer = await node_routes("node1", settings, lambda: verdict)["/v1/node"]["GET"](None)  # type: ignore[arg-type]
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    return json.loads(answer.body)


async def test_report(tmp_path: Path) -> None:
    """It tells each changed setting, and what becomes of INVALID packets."""
    settings = node(tmp_path, **{FILTER: "2"})
    settings.hold({FILTER: "0"})
    expected = {
        "node": "node1",
        "settings": [{"key": FILTER, "before": "2", "after": "0", "kept": False}],
        "invalid": "Dropped",
        "explanation": "why",
    }

    assert expected == await report(settings, Verdict(Fate.DROPPED, "why"))


async def test_before_the_first_look(tmp_path: Path) -> None:
    """An agent that has not looked yet, or could not, says so."""
    expected = {"node": "node1", "settings": [], "invalid": "", "explanation": "not looked at yet"}

    assert expected == await report(node(tmp_path), "not looked at yet")
