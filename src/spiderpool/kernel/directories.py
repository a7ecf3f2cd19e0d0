"""Folders of the node that others write to while we read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def read_texts(folder: Path, suffixes: Iterable[str]) -> dict[str, str]:
    """
    Return the texts of a folder's files by name.

    A file that vanishes meanwhile, or that this process may not read, is left out.

    Args:
        folder: where.
        suffixes: ends of the names that matter.
    Raises:
        OSError: the folder itself cannot be read.
    """
    texts = {}
    for entry in folder.iterdir():
        if entry.name.endswith(tuple(suffixes)) and entry.is_file():
            with suppress(OSError):
                texts[entry.name] = entry.read_text(errors="replace")
    return texts
