"""The description of a command line as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def render_markdown(command: Any, name: str) -> str:
    """
    Describe a command and all below it.

    Args:
        command: as `typer.main.get_command` gives it; typer brings its own copy of click, whose
        types have no public name.
        name: what the user types.
    """
    return "\n".join(_lines(command, name, 1)) + "\n"


def _lines(command: Any, name: str, level: int) -> Iterator[str]:
    yield f"{'#' * level} {name}"
    yield ""
    yield command.help or ""
    yield ""
    options = [
        each for each in command.params if each.param_type_name == "option" and not each.hidden
    ]
    if options:
        yield "| option | meaning |"
        yield "|---|---|"
        for each in options:
            yield (
                f"| `{', '.join(each.opts)}`{' (required)' if each.required else ''} | "
                f"{each.help or ''} |"
            )
        yield ""
    for each, below in sorted(getattr(command, "commands", {}).items()):
        yield from _lines(below, f"{name} {each}", level + 1)
