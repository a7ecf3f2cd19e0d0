"""Every error has a code, a sentence, and a place in the table of its module."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from spiderpool import errors
from spiderpool.errors import DelegateFailed, InvalidRequest, SpiderpoolError, TooManyRequests


def tree(kind: type[SpiderpoolError] = SpiderpoolError) -> Iterator[type[SpiderpoolError]]:
    """Walk the project's own error classes."""
    if kind.__module__ == errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from tree(child)


def documented() -> dict[str, str]:
    """Read the table in the module's docstring."""
    return dict(re.findall(r"^\s*[*+] (\w+) +(\w+)", errors.__doc__ or "", re.MULTILINE))


@pytest.mark.parametrize("kind", list(tree()))
def test_every_error_has_a_code_and_a_sentence(kind: type[SpiderpoolError]) -> None:
    """An error of any class carries its sentence, and the code that the table gives it."""
    error = kind("pool blue: 254 of 254 addresses held, none free")

    assert str(error) == error.message == "pool blue: 254 of 254 addresses held, none free"
    assert documented()[kind.__name__] in ("any", str(error.cni_code))
    assert error.cni_code > 0


def test_the_table_is_complete() -> None:
    """The table names every class and no other."""
    assert {kind.__name__ for kind in tree()} == set(documented())


def test_only_what_may_succeed_later_is_retryable() -> None:
    """Codes 11 and 110 (and a conflict on the wire) invite another try, no other does."""
    assert {kind.cni_code for kind in tree() if kind.retryable} == {11, 110, 120}
    assert all(kind.retryable for kind in tree() if kind.cni_code in (11, 110))


def test_what_errors_carry() -> None:
    """The wait that a server asked for and the code of a delegate are kept."""
    assert TooManyRequests("later", retry_after_s=3.0).retry_after_s == 3.0
    assert DelegateFailed("macvlan: no", cni_code=7, details="x").cni_code == 7
    assert DelegateFailed("macvlan: no", cni_code=7, details="x").details == "x"


def test_a_message_is_one_line() -> None:
    """A text of several lines that a message quotes does not break it."""
    assert 'the value is "a b c"' == SpiderpoolError('the value is "a\nb\u2028c"').message


def test_long_messages() -> None:
    """What a tenant wrote is quoted, but not at any length: errors go into logs and Events again and again."""
    error = InvalidRequest("x" * 100_000)

    assert "x" * 4096 + "…" == error.message == str(error)
