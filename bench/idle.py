"""
How late a process wakes that does nothing else.

What the machine itself, and others on it, cost.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO, cast


def late_ms(began: float) -> float:
    """Return by how many milliseconds a sleep of one millisecond that began then was too long."""
    return (time.perf_counter() - began - 0.001) * 1000


@contextlib.contextmanager
def idle(samples: list[float]) -> Iterator[None]:
    """Let such a process run beside the body, and give its samples after it."""
    with subprocess.Popen(
        [sys.executable, "-m", __name__], stdout=subprocess.PIPE, text=True
    ) as process:
        output = cast("IO[str]", process.stdout)
        output.readline()  # it has begun
        try:
            yield
        finally:
            process.terminate()
            samples += map(float, output.read().split())


def main() -> None:
    """Sleep until a signal comes, then print how late each sleep ended."""
    samples: list[float] = []

    def tell(*_: object) -> None:
        print(*samples)
        sys.exit()

    signal.signal(signal.SIGTERM, tell)
    print(flush=True)
    while True:
        began = time.perf_counter()
        time.sleep(0.001)
        samples.append(late_ms(began))


if __name__ == "__main__":
    main()
