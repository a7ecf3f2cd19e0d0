"""
`make fuzz`: many texts, each reader's worst time and memory, and whether they are within bounds.

Times are of the whole reader, best of three, since this machine has other work too.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from spiderpool.errors import SpiderpoolError
from tests.fuzz.texts import READERS

WORST_MS = 20.0
WORST_MB = 10.0
SLOW_MS = 5.0


def clocked_ms(read: Any, value: Any) -> float:
    """Return how long a reader takes for a text."""
    began = time.perf_counter()
    with suppress(SpiderpoolError):
        read(value)
    return (time.perf_counter() - began) * 1000


def needed_mb(read: Any, value: Any) -> float:
    """Return the memory that a reader needs at its peak for a text."""
    tracemalloc.start()
    with suppress(SpiderpoolError):
        read(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def fuzz(name: str, inputs: int) -> bool:
    """Let one reader read many texts; prints its worst, tells whether that is within bounds."""
    read, texts = READERS[name]
    count, worst_ms, worst_mb, largest = 0, 0.0, 0.0, 0

    @settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(texts)
    def try_one(value: Any) -> None:
        nonlocal count, worst_ms, worst_mb, largest
        count += 1
        size = sum(map(len, value)) if isinstance(value, list) else len(value)
        spent = clocked_ms(read, value)
        if spent > worst_ms:
            spent = min(spent, *(clocked_ms(read, value) for _ in range(3)))
            worst_ms = max(worst_ms, spent)
        # memory is traced where it may matter: tracing takes ten times the time
        if spent > SLOW_MS or size > largest or not count % 50:
            largest = max(largest, size)
            worst_mb = max(worst_mb, needed_mb(read, value))

    try_one()
    row = f"{name:20} {count:8} inputs  worst {worst_ms:6.2f} ms  {worst_mb:6.2f} MB\n"
    sys.stdout.write(row)
    sys.stdout.flush()
    return worst_ms <= WORST_MS and worst_mb <= WORST_MB


def main(inputs: int) -> int:
    """Let all readers read; 1 when one is out of bounds."""
    fine = [fuzz(name, inputs // len(READERS)) for name in READERS]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
