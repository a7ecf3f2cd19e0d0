"""
Record of the executables that this installation put on the node.

Removal takes these and nothing else. The CNI project's plugins and Multus have the same names in
every installation: a file counts as ours as long as its content is what the record says.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from spiderpool.agent.node.atomic_files import write_at_once
from spiderpool.kernel.directories import read_texts

# containerd runs `loopback` for every pod, whatever its configuration: without it no pod starts.
ALWAYS_NEEDED: Final = frozenset({"loopback"})
_EXECUTABLE: Final = 0o755

log = structlog.get_logger(__name__)


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is on record: the SHA-256 of each file by its path."""

    files: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class InstalledFiles:
    """The executables of one node that are on record in `record`."""

    record: Path

    def copy(self, source: Path, target: Path) -> None:
        """
        Put an executable in place of none or of an older one of ours; another's stays.

        Raises:
            OSError: it cannot be read or written.
        """
        content = source.read_bytes()
        known = self._read()
        if target.exists() and not _is_recorded(target, known):
            log.info("a file of that name is there already; it stays as it is", file=str(target))
            return
        # On record first: an agent that ends in between would not know its own file again.
        self._write({**known, str(target): _digest(content)})
        if write_at_once(target, content, _EXECUTABLE):
            log.info("CNI plugin installed", file=str(target))

    def adopt(self, targets: Iterable[Path]) -> None:
        """Put files on record that another container of this installation has just written."""
        known = self._read()
        found = {str(file): _digest_of(file) for file in targets if file.exists()}
        if not found.items() <= known.items():
            self._write({**known, **found})

    def remove(
        self, names: Collection[str] | None, used: Callable[[], Collection[str]] = tuple
    ) -> None:
        """
        Remove files that are ours, and take them off the record.

        Args:
            names: which, by their file names; None = all.
            used: returns file names that stay on the node, since something else calls them;
                asked only when there is something to remove.
        """
        known = self._read()
        chosen = {path for path in known if names is None or Path(path).name in names}
        kept = used() if chosen else ()
        for path in sorted(chosen):
            file = Path(path)
            if file.name in kept:
                log.info("stays on the node: other networks use it", file=path)
            elif _is_recorded(file, known):
                file.unlink()
                log.info("removed from the node", file=path)
        if chosen:
            self._write({path: digest for path, digest in known.items() if path not in chosen})

    def _read(self) -> dict[str, str]:
        try:
            return dict(msgspec.json.decode(self.record.read_bytes(), type=Record).files)
        except FileNotFoundError:
            return {}
        except msgspec.DecodeError as error:
            log.warning("the record of installed files cannot be read", reason=str(error))
            return {}

    def _write(self, files: dict[str, str]) -> None:
        if files:
            write_at_once(self.record, msgspec.json.encode(Record(files=files)))
            return
        self.record.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.record.parent.rmdir()


def types_in_use(conf_dir: Path) -> frozenset[str]:
    """Return the names of all executables that the node's own CNI configurations call."""
    try:
        texts = read_texts(conf_dir, (".conf", ".conflist", ".json"))
    except OSError:
        return ALWAYS_NEEDED
    found = set(ALWAYS_NEEDED)
    for text in texts.values():
        with contextlib.suppress(msgspec.DecodeError):
            found.update(_types(msgspec.json.decode(text)))
    return frozenset(found)


def _types(tree: Any) -> Iterator[str]:
    """Walk a configuration for each `type`: of plugins, of their `ipam` and of their delegates."""
    if isinstance(tree, list):
        for item in tree:
            yield from _types(item)
    elif isinstance(tree, dict):
        for key, item in tree.items():
            if key == "type" and isinstance(item, str):
                yield item
            yield from _types(item)


def _is_recorded(file: Path, known: dict[str, str]) -> bool:
    try:
        return known.get(str(file)) == _digest_of(file)
    except FileNotFoundError:
        return False


def _digest_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
