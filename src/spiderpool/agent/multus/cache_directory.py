"""
The meta plugin's folder on the node: delegates of living containers, and their last results.

Files are written whole or not at all, and are looked at where the caller of our executable sees
them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from spiderpool.errors import SpiderpoolError, Undecodable
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.networks.result_cache import (
    RESULTS,
    CachedResult,
    parse_result_file,
    render_result_file,
    result_file,
)

R = TypeVar("R")
_FOLDER_MODE: Final = 0o700
# No file can have a name that is too long: what was not kept is not in the way of a DEL.
_NEVER_WRITTEN: Final = frozenset({errno.ENOENT, errno.ENAMETOOLONG})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CacheDir:
    """The folder, below a caller's root."""

    path: str
    host: Namespaces

    async def delegates(self, container_id: str) -> bytes | None:
        """Return the text about a container, None when there is none."""
        return await self._run(lambda: _read(self._file(container_id)))

    async def save_delegates(self, container_id: str, text: bytes) -> None:
        """Keep the text about a container."""
        await self._run(lambda: _write(self._file(container_id), text, durable=True))

    async def drop_delegates(self, container_id: str) -> None:
        """Forget a container."""
        await self._run(lambda: _unlink(self._file(container_id)))

    async def containers(self) -> list[str]:
        """Return the containers that are known."""
        return await self._run(lambda: sorted(entry.name for entry in _entries(Path(self.path))))

    async def result(
        self, network: str, container_id: str, ifname: str
    ) -> Mapping[str, Any] | None:
        """Return the last result of an attachment, None when there is none or it is damaged."""
        file = Path(self.path, result_file(network, container_id, ifname))
        text = await self._run(lambda: _read(file))
        if text is None:
            return None
        try:
            return parse_result_file(text).result
        except Undecodable as error:
            log.warning("cached result is not used", file=str(file), reason=error.message)
            return None

    async def save_result(self, cached: CachedResult) -> None:
        """Keep the last result of an attachment."""
        file = Path(self.path, result_file(cached.network, cached.container_id, cached.ifname))
        await self._run(lambda: _write(file, render_result_file(cached), durable=False))

    async def drop_result(self, network: str, container_id: str, ifname: str) -> None:
        """Forget the result of an attachment."""
        file = Path(self.path, result_file(network, container_id, ifname))
        await self._run(lambda: _unlink(file))

    async def results(self) -> list[CachedResult]:
        """Return all results that can be read."""
        texts = await self._run(
            lambda: [_read(entry) for entry in _entries(Path(self.path, RESULTS))]
        )
        found = []
        for text in texts:
            with contextlib.suppress(Undecodable):
                found.append(parse_result_file(text or b""))
        return found

    def _file(self, container_id: str) -> Path:
        return Path(self.path, container_id)

    async def _run(self, work: Callable[[], R]) -> R:
        try:
            return await self.host.run(work)
        except OSError as error:
            raise SpiderpoolError(
                f"cache folder {self.path}: {error.strerror or error}", details=str(error)
            ) from error


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError as error:
        if error.errno in _NEVER_WRITTEN:
            return None
        raise


def _unlink(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        if error.errno not in _NEVER_WRITTEN:
            raise


def _write(file: Path, text: bytes, *, durable: bool) -> None:
    """
    Write beside and rename: a crash of ours or a full disk leaves the old file, or none.

    Durable: also a crash of the machine. That takes milliseconds, and DEL can do without results.
    """
    file.parent.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as beside:
            beside.write(text)
            if durable:
                beside.flush()
                os.fsync(beside.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _entries(folder: Path) -> list[Path]:
    """Return the finished files of a folder; one that is being written begins with a dot."""
    try:
        return [
            entry
            for entry in folder.iterdir()
            if not entry.name.startswith(".") and entry.is_file()
        ]
    except FileNotFoundError:
        return []
