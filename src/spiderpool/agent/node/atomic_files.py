"""Files of the node that others read while we write them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Final

PRIVATE: Final = 0o600


def write_at_once(file: Path, content: bytes, mode: int = PRIVATE) -> bool:
    """Put a file in place at one stroke, unless it is there already; says whether it did."""
    with contextlib.suppress(FileNotFoundError):
        if file.read_bytes() == content and file.stat().st_mode & 0o777 == mode:
            return False
    file.parent.mkdir(parents=True, exist_ok=True)
    # The name must not end like a configuration: runtimes read the folder while we write.
    descriptor, beside = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".tmp", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(beside).replace(file)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return True
