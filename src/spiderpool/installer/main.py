"""
`spiderpool-init`.

The jobs of the Helm chart, before, after and at the end of an installation.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from spiderpool.errors import SpiderpoolError
from spiderpool.installer.default_network import create_coordinator, create_default_network
from spiderpool.installer.default_pools import read_defaults
from spiderpool.installer.steps import (
    apply_definitions,
    create_defaults,
    read_definitions,
    remove_programs,
    until_done,
    wait_for_controller,
)
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.connect import connect

app = typer.Typer(
    add_completion=False,
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def pools(context: typer.Context) -> None:
    """Wait for the controller and create the default objects that the environment names."""
    if context.invoked_subcommand:
        return
    defaults = read_defaults(os.environ)

    async def step(cluster: Cluster) -> None:
        await wait_for_controller(cluster, defaults.namespace, defaults.controller, say)
        if defaults.coordinator is not None:
            await create_coordinator(cluster, defaults.coordinator, say)
        await create_defaults(cluster, (*defaults.subnets, *defaults.pools), say)
        if defaults.with_network:
            await create_default_network(cluster, os.environ, say)

    run(step)


@app.command()
def crds(
    folder: Annotated[
        Path, typer.Argument(help="Folder of CustomResourceDefinitions to create or update.")
    ],
    if_absent: Annotated[
        Path | None, typer.Option(help="Folder of others, created only where they are missing.")
    ] = None,
) -> None:
    """Bring CustomResourceDefinitions up to date."""
    ours = read_definitions(folder)
    others = read_definitions(if_absent) if if_absent else ()

    async def step(cluster: Cluster) -> None:
        await apply_definitions(cluster, ours, say)
        await apply_definitions(cluster, others, say, only_if_absent=True)

    run(step)


@app.command()
def remove(
    timeout_s: Annotated[
        float, typer.Option(help="How long to wait for agents and controllers to end.")
    ] = 120.0,
) -> None:
    """
    Delete agents, which then clean their nodes, and controllers, and wait for them.

    The agent of a node that is down never ends: the removal goes on without it.
    """
    defaults = read_defaults(os.environ)

    async def step(cluster: Cluster) -> None:
        await remove_programs(cluster, defaults.namespace, defaults.agent, defaults.controller, say)

    try:
        run(step, timeout_s)
    except TimeoutError:
        say(
            f"not all agents and controllers ended within {timeout_s:g} s; what agents put on such "
            "nodes stays there"
        )


def run(step: Callable[[Cluster], Awaitable[None]], timeout_s: float | None = None) -> None:
    """Connect and repeat a step until it is done, or until time is out (`TimeoutError`)."""

    async def all_of_it() -> None:
        async with connect(
            os.environ.get("KUBECONFIG") or None, user_agent="spiderpool-init"
        ) as cluster:
            async with asyncio.timeout(timeout_s):
                await until_done(lambda: step(cluster), say)

    asyncio.run(all_of_it())


def say(text: str) -> None:
    """Report progress."""
    typer.echo(text)


def main() -> None:
    """Run a command; what goes wrong is one line on stderr and exit code 1."""
    try:
        app()
    except SpiderpoolError as error:
        typer.echo(f"spiderpool-init: {error.message}", err=True)
        sys.exit(1)
