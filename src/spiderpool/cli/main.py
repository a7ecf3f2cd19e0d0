"""The command `spiderpoolctl`: one module a noun."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.main import get_command

from spiderpool.cli import session
from spiderpool.cli.command_reference import render_markdown
from spiderpool.cli.commands import ip, node
from spiderpool.cli.commands.check import check
from spiderpool.cli.commands.explain import explain
from spiderpool.cli.commands.gc import gc
from spiderpool.cli.connectivity.command import connectivity
from spiderpool.cli.session import COMMAND

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "Inspect Spiderpool and repair it. Works with your own rights at the API server that "
        "KUBECONFIG names."
    ),
)


@app.callback()
def log_in(
    kubeconfig: Annotated[
        str | None, typer.Option("--kubeconfig", help="File, instead of those of KUBECONFIG.")
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", help="Context of the kubeconfig.")
    ] = None,
    impersonate: Annotated[
        str, typer.Option("--as", help="User in whose name to act, as kubectl's.")
    ] = "",
) -> None:
    """Take in how to log in; commands connect by it."""
    session.login.kubeconfig = kubeconfig
    session.login.context = context
    session.login.impersonate = impersonate


app.command("check")(check)
app.add_typer(ip.app, name="ip")
app.command("gc")(gc)
app.add_typer(node.app, name="node")
app.command("explain")(explain)
app.command("connectivity")(connectivity)


@app.command("generate-markdown")
def generate_markdown(
    markdown_path: Annotated[Path, typer.Option("--markdown-path", help="File to write.")],
) -> None:
    """Write the description of all commands to a file."""
    markdown_path.write_text(render_markdown(get_command(app), COMMAND))


def main() -> None:
    """Run the command line."""
    app(prog_name=COMMAND)
