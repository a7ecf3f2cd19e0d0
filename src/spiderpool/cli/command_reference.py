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
    words = [each for each in command.params if each.param_type_name == "argument"]
    options = [
        each for each in command.params if each.param_type_name == "option" and not each.hidden
    ]
    if words:
        yield from ("| argument | meaning |", "|---|---|")
        for each in words:
            yield f"| `{each.metavar or each.name.upper()}` | {each.help or ''} |"
        yield ""
    if options:
        yield from ("| option | default | meaning |", "|---|---|---|")
        for each in options:
            yield f"| `{_names(each)}` | {_default(each)} | {each.help or ''} |"
        yield ""
    for each, below in sorted(getattr(command, "commands", {}).items()):
        yield from _lines(below, f"{name} {each}", level + 1)


def _names(option: Any) -> str:
    """Return all names of an option."""
    return ", ".join((*option.opts, *option.secondary_opts))


def _default(option: Any) -> str:
    """Return an option's default; nothing for a switch that is off, and where there is none."""
    if option.required:
        return "required"
    value = getattr(option.default, "value", option.default)  # of an enumeration
    return "" if value in (None, False, "", (), []) else f"`{value}`"
