"""
What all commands of `spiderpoolctl` share.

The way to the API server, tables and JSON, errors and exit codes.
"""

from __future__ import annotations

import asyncio
import enum
import os
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from spiderpool.errors import SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import SERVICE_ACCOUNT, connect

COMMAND: Final = "spiderpoolctl"
FAILED: Final = 1  # exit code of a command that did not do what it was asked to
TIMEOUT_S: Final = 15.0  # of one request; people wait for it
CONNECTIONS: Final = 16
# columns where no terminal says how many there are: lines are not broken, as grep wants them
WIDE: Final = 400


class Output(enum.StrEnum):
    """How to print."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Table or JSON.")]
Work = Callable[[KubeClient], Awaitable[int]]


def run(work: Work, *, failure: int = FAILED) -> None:
    """
    Connect, work, and end with the exit code that the work gives.

    Args:
        work: gets the client.
        failure: exit code of a `SpiderpoolError`, which becomes one line on standard error.
    """
    try:
        code = asyncio.run(_connected(work))
    except SpiderpoolError as error:
        complain(error)
        code = failure
    if code:
        raise typer.Exit(code)


def complain(error: SpiderpoolError) -> None:
    """Write an error as one line to standard error."""
    sys.stderr.write(f"{COMMAND}: {' '.join(error.message.split())}\n")


@dataclass(slots=True)
class Login:
    """How the user asked to log in, by the options before the command."""

    kubeconfig: str | None = None
    context: str | None = None
    impersonate: str = ""


login = Login()


async def _connected(work: Work) -> int:
    async with connect(
        find_kubeconfig(),
        user_agent=COMMAND,
        limit=CONNECTIONS,
        timeout_s=TIMEOUT_S,
        context=login.context,
        impersonate=login.impersonate,
    ) as client:
        return await work(client)


def find_kubeconfig() -> str | None:
    """
    Find the way to the API server as kubectl does: --kubeconfig, KUBECONFIG, else ~/.kube/config.

    In a pod its service account.
    """
    if login.kubeconfig:
        return login.kubeconfig
    home = Path.home() / ".kube" / "config"
    if os.environ.get("KUBECONFIG") or SERVICE_ACCOUNT.exists() or not home.exists():
        return None  # what `connect` does by itself
    return str(home)


def print_json(value: Any) -> None:
    """Print a value as JSON that people can read."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str) -> None:
    """Print rows under their headers as kubectl does; a sentence when there are none."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*row)
    if not table.row_count:
        print_line(empty)
        return
    screen = console()
    with screen.capture() as captured:
        screen.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def print_line(text: str) -> None:
    """Print one line."""
    console().print(text, markup=False, highlight=False, soft_wrap=True)


def console() -> Console:
    """Return the console of now; tests replace standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False)
