"""The chart as one file, the same bytes for the same content."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path


def pack_again(package: Path, out: Path, time_s: int) -> None:
    """
    Write a package of Helm again, sorted and with one time for all files.

    Helm writes the time at which it packs.

    Args:
        package: what `helm package` wrote.
        out: the file to write.
        time_s: the time of all files, seconds since 1970.

    """
    with (
        tarfile.open(package) as source,
        out.open("wb") as stream,
        gzip.GzipFile("", "wb", 9, stream, mtime=time_s) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as target,
    ):
        for member in sorted(source.getmembers(), key=lambda member: member.name):
            content = source.extractfile(member)
            text = content.read() if content else b""
            info = tarfile.TarInfo(member.name)
            info.size, info.mtime, info.mode = len(text), time_s, 0o644
            target.addfile(info, io.BytesIO(text))
