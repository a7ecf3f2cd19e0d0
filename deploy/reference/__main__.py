"""
Reference pages that are made from their sources: `python -m deploy.reference` writes them.

With `--check` nothing is written, and a page that is not what its source says is an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from deploy.reference import cli, crds, events, metrics

PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "cli.md": cli.render,
    "crds.md": crds.render,
    "events.md": events.render,
    "metrics.md": metrics.render,
}
FOLDER: Final = Path(__file__).resolve().parents[2] / "docs/reference"


def read_stale(folder: Path) -> dict[str, str]:
    """Return the pages of a folder that are missing or old, each with its right text."""
    return {
        name: text
        for name, render in PAGES.items()
        for path in [folder / name]
        for text in [render()]
        if not path.exists() or path.read_text() != text
    }


def main(arguments: list[str], folder: Path = FOLDER) -> int:
    """Write the stale pages, or name them and return 1."""
    stale = read_stale(folder)
    if "--check" not in arguments:
        for name, text in stale.items():
            (folder / name).write_text(text)
        return 0
    for name in stale:
        print(  # noqa: T201  the answer of this command
            f"docs/reference/{name} is not what its source says; write it by `make reference`",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
