"""The page of commands, from their own help."""

from __future__ import annotations

import re

import typer

from deploy.reference.tables import page
from spiderpool.agent.main import cli as agent
from spiderpool.cli.command_reference import render_markdown
from spiderpool.cli.main import app as spiderpoolctl
from spiderpool.controller.main import app as controller
from spiderpool.installer.main import app as init

TEXT = """\
All commands and options, in the words of `--help`. [spiderpoolctl.md](../spiderpoolctl.md) shows
`spiderpoolctl` with real output; the other commands are what the pods of the chart run."""


def render() -> str:
    """Return the page."""
    commands = {
        "spiderpoolctl": spiderpoolctl,
        "spiderpool-agent": agent,
        "spiderpool-controller": controller,
        "spiderpool-init": init,
    }
    parts = [
        re.sub(r"^#", "##", render_markdown(typer.main.get_command(app), name), flags=re.MULTILINE)
        for name, app in commands.items()
    ]
    return page(
        "Commands", "the commands' own help, such as src/spiderpool/cli/main.py,", TEXT, *parts
    )
