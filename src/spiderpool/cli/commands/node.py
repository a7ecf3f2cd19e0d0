"""
`spiderpoolctl node`.

Kernel settings that agents changed on their nodes, and what becomes of INVALID packets there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import typer

from spiderpool.api.agent.node_settings import NodeReport
from spiderpool.cli import session
from spiderpool.cli.agents import AgentPod, asking, list_agents
from spiderpool.cli.session import Output, OutputOption
from spiderpool.errors import NotFound, SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster

PATH: Final = "/v1/node"
HEADERS: Final = ("NODE", "SETTING", "BEFORE", "NOW", "WHEN SPIDERPOOL GOES")

Fetch = Callable[[AgentPod], Awaitable[NodeReport]]
"""Asks an agent about its node."""

app = typer.Typer(
    no_args_is_help=True, help="What Spiderpool does to nodes.", rich_markup_mode=None
)


@app.callback()
def about() -> None:
    """Show what Spiderpool does to nodes."""


@app.command("settings")
def settings(
    node: Annotated[str, typer.Argument(help="Only this node.")] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show kernel settings that agents changed, and whether a node drops INVALID packets."""

    async def work(client: KubeClient) -> int:
        reports, unread = await read_reports(client, asking(client, PATH, NodeReport), node)
        if output is Output.JSON:
            session.print_json(reports)
        else:
            show(reports)
        for error in unread:
            session.complain(error)
        return session.FAILED if unread else 0

    session.run(work)


async def read_reports(
    cluster: Cluster, ask: Fetch, node: str = ""
) -> tuple[list[NodeReport], list[SpiderpoolError]]:
    """
    Ask all agents, or one node's; gives what they say, and why some say nothing.

    Raises:
        NotFound: no agent runs there.
    """
    agents = [agent for agent in await list_agents(cluster) if node in ("", agent.spec.node_name)]
    if not agents:
        raise NotFound(f"no agent runs on node {node}" if node else "no agent runs")
    answers = await asyncio.gather(*(ask(agent) for agent in agents), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, SpiderpoolError):
            raise answer
    reports = [answer for answer in answers if isinstance(answer, NodeReport)]
    return reports, [answer for answer in answers if isinstance(answer, SpiderpoolError)]


def show(reports: list[NodeReport]) -> None:
    """Print the settings as a table, then a line for each node."""
    rows = (
        (
            report.node,
            setting.key,
            setting.before,
            setting.after,
            "stays" if setting.kept else f"is {setting.before} again",
        )
        for report in reports
        for setting in report.settings
    )
    session.print_table(HEADERS, rows, empty="no kernel setting was changed")
    for report in reports:
        session.print_line(f"{report.node}: {report.explanation}")
