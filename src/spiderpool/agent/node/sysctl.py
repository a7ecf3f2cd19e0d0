"""
Kernel settings of the node, written as `datapath.kernel_settings` decides.

Former values are recorded before, and restored when Spiderpool is uninstalled.

The record lives as long as the settings do: in `/var/run`, which a start of the node empties.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import structlog

from spiderpool.agent.node.atomic_files import write_at_once
from spiderpool.api.agent.node_settings import NodeRecord
from spiderpool.datapath.kernel_settings import plan_changes, plan_undo

ROOT: Final = Path("/proc/sys")
RECORD: Final = "node-settings.json"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """
    The settings of the node that the agent runs on.

    In the network namespace that it shares with the node.
    """

    record_file: Path
    root: Path = ROOT

    def hold(self, wanted: Mapping[str, str]) -> None:
        """
        Write what is not as it must be.

        Keys that this kernel or namespace lacks are left out.
        """
        record = self.read_record()
        keys = {*wanted, *(changed.key for changed in record.settings)}
        changes = plan_changes(wanted, self._read(keys), record)
        if changes.record != record:
            self._keep(changes.record)
        self._write(changes.writes)

    def undo(self) -> None:
        """Put back what was changed, but for what somebody else changed since."""
        record = self.read_record()
        self._write(plan_undo(self._read(changed.key for changed in record.settings), record))
        self.record_file.unlink(missing_ok=True)

    def read_record(self) -> NodeRecord:
        """Return what was changed; a record that cannot be read is none."""
        try:
            return msgspec.json.decode(self.record_file.read_bytes(), type=NodeRecord)
        except (FileNotFoundError, NotADirectoryError):
            return NodeRecord()
        except (OSError, msgspec.DecodeError) as error:
            log.warning(
                "record of kernel settings cannot be read",
                file=str(self.record_file),
                reason=str(error),
            )
            return NodeRecord()

    def read(self, key: str) -> str | None:
        """Return the value of a setting, None where it does not exist."""
        return self._read((key,)).get(key)

    def _keep(self, record: NodeRecord) -> None:
        try:
            write_at_once(self.record_file, msgspec.json.encode(record))
        except OSError as error:
            log.warning(
                "record of kernel settings cannot be written",
                file=str(self.record_file),
                reason=error.strerror,
            )

    def _read(self, keys: Iterable[str]) -> dict[str, str]:
        found = {}
        for key in keys:
            try:
                found[key] = self._file(key).read_text().strip()
            except OSError:
                continue
        return found

    def _write(self, writes: Iterable[tuple[str, str]]) -> None:
        for key, value in writes:
            try:
                self._file(key).write_text(value)
            except OSError as error:
                log.warning(
                    "kernel setting not changed", key=key, value=value, reason=error.strerror
                )
            else:
                log.info("kernel setting changed", key=key, value=value)

    def _file(self, key: str) -> Path:
        return self.root / key.replace(".", "/")
