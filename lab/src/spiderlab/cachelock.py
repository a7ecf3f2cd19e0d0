"""One build of a thing at a time on this machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from spiderlab import paths


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock of that name in the cache; others wait."""
    folder = paths.cache() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
