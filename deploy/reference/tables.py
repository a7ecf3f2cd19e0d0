"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

BAR: Final = r"\|"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; `|` in a cell does not end it."""
    lines = [_line(heads), f"|{'---|' * len(heads)}", *map(_line, rows)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    """Return one line of a table."""
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |"


def page(title: str, source: str, text: str, *parts: str) -> str:
    """
    Return a page.

    Args:
        title: its heading.
        source: the file or folder that it is made from.
        text: what stands below the heading.
        parts: sections.

    """
    made = f"<!-- Made from {source} by `make reference`: change it there. -->"
    return "\n".join((f"# {title}\n", made + "\n", text + "\n", *parts))
