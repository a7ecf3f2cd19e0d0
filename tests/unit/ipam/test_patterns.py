"""
Wildcards follow Go's `filepath.Match`.

The table is from the documentation and tests of that function.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.errors import InvalidRequest
from spiderpool.ipam.patterns import compile_pattern, is_wildcard, repeated


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*b*c*d*e*", "axbxcxdxexxx", True),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("[a-ζ]*", "ζ", True),
        ("*[a-ζ]", "A", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[b-a]", "a", False),
        ("*x", "xxx", True),
        ("a.c", "abc", False),
    ],
)
def test_matches(pattern: str, name: str, matches: bool) -> None:
    """A pattern matches a whole name."""
    assert matches == bool(compile_pattern(pattern).fullmatch(name))


@pytest.mark.parametrize(
    "pattern", ["*" * 250 + "!", "*a" * 120 + "!", "*?" * 120 + "!", "*[a-b]" * 40 + "!"]
)
def test_no_pattern_takes_exponential_time(pattern: str) -> None:
    """A pattern of a tenant is decided at once; with one of these the agent once stood still."""
    assert not compile_pattern(pattern).fullmatch("a" * 253)


@pytest.mark.parametrize(
    "pattern",
    ["[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[", "[^", "[^bc", "a[", "a[b", "\\", "[]", "[^]"],
)
def test_bad_patterns(pattern: str) -> None:
    """What Go calls a bad pattern is refused."""
    with pytest.raises(InvalidRequest, match="is not a pattern"):
        compile_pattern(pattern)


def test_what_is_a_wildcard() -> None:
    """
    A name is a pattern when it has a star, a question mark, or both brackets.

    Source: docs/reference/selection.md#names-and-wildcards.
    """
    assert [is_wildcard(text) for text in ("a*", "a?", "[a]", "a[", "a]", "abc")] == [
        True,
        True,
        True,
        False,
        False,
        False,
    ]


@given(st.text("ab*?[]^-\\/", max_size=8), st.text("ab-^", max_size=6))
def test_any_pattern(pattern: str, name: str) -> None:
    """Any text is a pattern or is refused."""
    try:
        matcher = compile_pattern(pattern)
    except InvalidRequest:
        return
    matcher.fullmatch(name)


def matches_by_definition(pattern: str, name: str) -> bool:
    """Return whether a pattern of letters, `*` and `?` matches, by the definition of both."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(matches_by_definition(pattern[1:], name[at:]) for at in range(len(name) + 1))
    return (
        bool(name) and pattern[0] in ("?", name[0]) and matches_by_definition(pattern[1:], name[1:])
    )


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_stars_match_by_their_definition(pattern: str, name: str) -> None:
    """Taking the first place that fits loses no match."""
    assert matches_by_definition(pattern, name) == bool(compile_pattern(pattern).fullmatch(name))


def test_repeated() -> None:
    """The first name that comes again is found."""
    assert repeated(["a", "b", "c", "b", "a"]) == "b"
    assert repeated(["a", "b"]) is None
