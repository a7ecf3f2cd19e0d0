"""
`GET /v1/node` on the health port.

Which kernel settings the agent changed, and what becomes of INVALID packets.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from spiderpool.agent.api.server import Routes, json_response
from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.api.agent.node_settings import NodeReport
from spiderpool.datapath.invalid_packets import Verdict

PATH = "/v1/node"


def node_routes(node: str, settings: NodeSettings, verdict: Callable[[], Verdict | str]) -> Routes:
    """
    Make the route.

    Args:
        node: name of this agent's node.
        settings: of the node.
        verdict: gives what was last found about INVALID packets, or why nothing was.
    """

    async def handle(_: web.BaseRequest) -> web.Response:
        found = verdict()
        report = NodeReport(
            node=node,
            settings=settings.read_record().settings,
            invalid=str(found.fate) if isinstance(found, Verdict) else "",
            explanation=found.sentence if isinstance(found, Verdict) else found,
        )
        return json_response(200, report)

    return {PATH: {"GET": handle}}
