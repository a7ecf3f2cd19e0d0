"""
An order of n positions that depends on a seed alone, needs no memory, and can be asked both ways.

The order is i -> (step * i + start) mod n with `step` coprime to n, both drawn from the seed:
nearly pairwise independent, so that two seeds meet again after a collision about as often as by
chance. A Feistel network with cycle walking would look more random and costs ten times as much in
each step, without fewer collisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import gcd


@dataclass(frozen=True, slots=True)
class Permutation:
    """
    One order of the positions 0 to n-1.

    `n` is at least 1 and at most 2**128; `step` is coprime to it.
    """

    n: int
    step: int
    start: int

    @classmethod
    def seeded(cls, n: int, seed: bytes) -> Permutation:
        """Draw the order of a seed."""
        digest = hashlib.blake2b(seed).digest()
        # 256 bits for a number below 2**128: what the remainder prefers is not measurable
        step, start = int.from_bytes(digest[:32]) % n, int.from_bytes(digest[32:]) % n
        while gcd(step, n) != 1:
            step = (step + 1) % n
        return cls(n, step, start)

    def __iter__(self) -> Iterator[int]:
        """Walk all positions, each once."""
        n, step, position = self.n, self.step, self.start
        for _ in range(n):
            yield position
            position += step
            if position >= n:
                position -= n

    def at(self, index: int) -> int:
        """Return the position that comes at an index of the order."""
        return (self.step * index + self.start) % self.n

    def index_of(self, position: int) -> int:
        """Return the index at which a position comes: the inverse of `at`."""
        return (position - self.start) * pow(self.step, -1, self.n) % self.n

    def indexed(self, positions: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Return (index, position) for many positions; the inverse is computed once."""
        inverse = pow(self.step, -1, self.n)
        return (((position - self.start) * inverse % self.n, position) for position in positions)


def permuted(n: int, seed: bytes) -> Iterator[int]:
    """Walk the positions 0 to n-1, each once, in the order of the seed."""
    return iter(Permutation.seeded(n, seed)) if n else iter(())


def permute(n: int, seed: bytes, i: int) -> int:
    """Return the i-th position of the seed's order."""
    return Permutation.seeded(n, seed).at(i)
