"""Reading files out of an image archive (deploy/image/archive.py writes them)."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO


def read_files(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """
    Return the content of regular files of an image by their path, as a container would see them.

    Args:
        archive: a docker archive with layers that are not compressed.
        wanted: says of a path, without a slash in front, whether to read it.

    """
    found: dict[str, bytes] = {}
    with tarfile.open(archive) as outer:
        (image,) = json.load(_open(outer, "manifest.json"))
        for name in image["Layers"]:
            with tarfile.open(fileobj=_open(outer, name)) as layer:
                for member in layer:
                    if member.isreg() and wanted(member.name):
                        found[member.name] = _open(layer, member).read()
    return found


def _open(archive: tarfile.TarFile, member: str | tarfile.TarInfo) -> IO[bytes]:
    """Open a file of an archive; folders and links are none."""
    stream = archive.extractfile(member)
    if stream is None:
        raise ValueError(f"{member} is no file of {archive.name!r}")
    return stream
