"""A conditional write is decided again until it fits, and not for ever."""

from __future__ import annotations

import pytest

from spiderpool.errors import Conflict, NotFound, SpiderpoolError, TryAgain, UnknownOutcome
from spiderpool.kube.compare_and_swap import ATTEMPTS, compare_and_swap


class Place:
    """
    A number that may be written by a client that knows its present value.

    It may be changed under a writer, so many times.
    """

    def __init__(
        self, value: int, *, changes: int = 0, error: type[SpiderpoolError] = Conflict
    ) -> None:
        self.value = value
        self._changes = changes
        self._error = error
        self.decided_by: list[int] = []

    async def write(self, seen: int) -> str:
        """Decide by what was seen, and write."""
        self.decided_by.append(seen)
        if self._changes:
            self._changes -= 1
            self.value += 1
        if seen != self.value:
            raise self._error("changed")
        return f"written over {seen}"

    async def reread(self) -> int:
        """Read the present value."""
        return self.value


async def test_a_write_that_fits_is_done_once() -> None:
    """Nothing is read when nobody changed anything."""
    place = Place(1)

    assert "written over 1" == await compare_and_swap(1, place.write, place.reread, subject="it")
    assert [1] == place.decided_by


@pytest.mark.parametrize("error", [Conflict, UnknownOutcome])
async def test_a_lost_write_is_decided_again(error: type[SpiderpoolError]) -> None:
    """Each attempt is decided by what was read after the loss."""
    place = Place(1, changes=2, error=error)

    assert "written over 3" == await compare_and_swap(1, place.write, place.reread, subject="it")
    assert [1, 2, 3] == place.decided_by


async def test_it_ends_when_others_always_win() -> None:
    """The error names what is written."""
    place = Place(1, changes=100)

    with pytest.raises(TryAgain, match=r"^10\.6\.0\.9 changes all the time$"):
        await compare_and_swap(1, place.write, place.reread, subject="10.6.0.9")
    assert ATTEMPTS == len(place.decided_by)


async def test_other_errors_end_it() -> None:
    """Only a lost race is repeated, or what the caller names so."""
    place = Place(1, changes=1, error=NotFound)
    with pytest.raises(NotFound):
        await compare_and_swap(1, place.write, place.reread, subject="it")

    place = Place(1, changes=1, error=NotFound)
    assert "written over 2" == await compare_and_swap(
        1, place.write, place.reread, subject="it", lost=(NotFound,)
    )
