"""
`make fuzz`: many texts, each reader's worst time and memory, and whether they are within bounds.

Times are the processor's, of the whole reader; the best of four where one is the worst so far. A
machine with other work would show that in times of the clock.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from spiderpool.errors import SpiderpoolError
from tests.fuzz.texts import READERS

WORST_MS = 20.0
WORST_MB = 10.0
SLOW_MS = 5.0
CHUNK = 1000  # Hypothesis keeps what it has tried: a new run forgets it

Read = Callable[[Any], None]


@dataclass
class Worst:
    """What one reader needed at most, and for how many texts."""

    count: int = 0
    calls: int = 0
    ms: float = 0.0
    mb: float = 0.0
    size: int = 0

    def take(self, read: Read, value: Any) -> None:
        """Let the reader read what belongs together: one text, or those of all annotations."""
        texts = value if isinstance(value, list) else [value]
        self.count += len(texts)
        self.calls += 1
        size = sum(map(len, texts))
        spent = clocked_ms(read, value)
        if spent > self.ms:
            spent = min(spent, *(clocked_ms(read, value) for _ in range(3)))
            self.ms = max(self.ms, spent)
        # Memory is traced where it may matter: tracing takes ten times the time.
        if spent > SLOW_MS or size > self.size or not self.calls % 50:
            self.size = max(self.size, size)
            self.mb = max(self.mb, needed_mb(read, value))


def clocked_ms(read: Read, value: Any) -> float:
    """Return how long a reader takes for a text."""
    began = time.thread_time()
    with suppress(SpiderpoolError):
        read(value)
    return (time.thread_time() - began) * 1000


def needed_mb(read: Read, value: Any) -> float:
    """Return the memory that a reader needs at its peak for a text."""
    tracemalloc.start()
    with suppress(SpiderpoolError):
        read(value)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def read_many(read: Read, texts: st.SearchStrategy[Any], number: int, worst: Worst) -> None:
    """Let a reader read one chunk of texts."""

    @seed(number)
    @settings(
        max_examples=CHUNK,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(texts)
    def try_one(value: Any) -> None:
        worst.take(read, value)

    try_one()


def fuzz(name: str, number_of_texts: int) -> bool:
    """Let one reader read many texts; writes its worst, tells whether that is within bounds."""
    read, texts = READERS[name]
    worst, number = Worst(), 0
    while worst.count < number_of_texts:
        number += 1
        read_many(read, texts, number, worst)
    row = f"{name:20} {worst.count:8} texts  worst {worst.ms:6.2f} ms  {worst.mb:6.2f} MB\n"
    sys.stdout.write(row)
    sys.stdout.flush()
    return worst.ms <= WORST_MS and worst.mb <= WORST_MB


def main(number_of_texts: int) -> int:
    """Let all readers read; 1 when one is out of bounds."""
    fine = [fuzz(name, number_of_texts // len(READERS)) for name in READERS]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000))
