"""Bearing an API server that says "later" or nothing."""

from __future__ import annotations

import asyncio
import time

import pytest

from spiderpool.agent.concurrency.retry import RetryPolicy
from spiderpool.errors import (
    Conflict,
    Forbidden,
    SpiderpoolError,
    TooManyRequests,
    UnknownOutcome,
    Unreachable,
)


class Work:
    """Fails with each of some errors, then gives 7."""

    def __init__(self, *errors: SpiderpoolError) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> int:
        """Do it once."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return 7


async def test_what_did_not_happen_is_repeated() -> None:
    """Refused connections and 429 are repeated until it works."""
    work = Work(Unreachable("refused"), TooManyRequests("later", retry_after_s=0.01))

    assert 7 == await RetryPolicy(busy_s=1, absent_s=1).run(work)
    assert 3 == work.calls


async def test_a_server_that_does_not_know_its_roles_yet_is_asked_again() -> None:
    """
    An API server refuses everybody until it has read its roles.

    One that goes on refusing is believed.
    """
    assert 7 == await RetryPolicy(busy_s=1, absent_s=1).run(
        Work(Forbidden("no role"), Forbidden("no role"))
    )

    with pytest.raises(Forbidden):
        await RetryPolicy(busy_s=1, absent_s=0.3).run(
            Work(*(Forbidden("no role") for _ in range(100)))
        )


async def test_a_refusal_after_a_long_absence_is_not_believed_at_once() -> None:
    """A server that comes back when retry policy is nearly over gets time to read its roles."""
    answers = iter(
        [(0.35, Unreachable("absent")), (0.15, Forbidden("no role")), (0.0, Forbidden("no role"))]
    )

    async def work() -> int:
        for takes_s, error in answers:
            await asyncio.sleep(takes_s)
            raise error
        return 7

    assert 7 == await RetryPolicy(busy_s=1, absent_s=0.5).run(work)


async def test_the_wait_is_at_least_what_the_server_asks_for() -> None:
    """`Retry-After` is honoured."""
    began = time.monotonic()

    await RetryPolicy(busy_s=1, absent_s=1).run(Work(TooManyRequests("later", retry_after_s=0.25)))

    assert time.monotonic() - began >= 0.25


async def test_a_wait_beyond_the_limit_is_not_begun() -> None:
    """A server that asks for more time than there is gets no second request."""
    work = Work(TooManyRequests("later", retry_after_s=5))

    with pytest.raises(TooManyRequests):
        await RetryPolicy(busy_s=1, absent_s=1).run(work)

    assert 1 == work.calls


@pytest.mark.parametrize("error", [UnknownOutcome("cut"), Conflict("changed")])
async def test_what_may_have_happened_is_never_repeated(error: SpiderpoolError) -> None:
    """A write without an answer is the caller's to resolve, and so is a lost race."""
    work = Work(error)

    with pytest.raises(type(error)):
        await RetryPolicy().run(work)

    assert 1 == work.calls


async def test_patience_ends() -> None:
    """An absent server is tolerated for the time given, then the last error is raised."""
    work = Work(*(Unreachable(f"refused {n}") for n in range(100)))

    with pytest.raises(Unreachable):
        await RetryPolicy(busy_s=1, absent_s=0.3).run(work)

    assert 1 < work.calls < 100


async def test_attempts_at_work_that_is_no_function() -> None:
    """Each attempt may fail; after one that succeeds there is no other."""
    work, results = Work(Unreachable("refused"), Forbidden("no role")), []

    async for attempt in RetryPolicy(busy_s=1, absent_s=1).attempts():
        with attempt:
            results.append(await work())

    assert [7] == results
    assert 3 == work.calls


@pytest.mark.parametrize("error", [UnknownOutcome("cut"), Conflict("changed"), ValueError("slip")])
async def test_an_attempt_raises_what_is_not_worth_another(error: Exception) -> None:
    """Only what certainly did not happen, and may happen later, is tried again."""
    tried = []

    async def work() -> None:
        async for attempt in RetryPolicy(busy_s=1, absent_s=1).attempts():
            with attempt:
                tried.append(attempt)
                raise error

    with pytest.raises(type(error)):
        await work()
    assert 1 == len(tried)
