"""
The words of the code: those of Kubernetes, CNI and Linux, in plain English (docs/glossary.md).

Searched are names, comments and texts of the product, the lab, the benchmark and the build.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
FOLDERS: Final = ("src", "lab/src", "bench", "deploy")
COLUMNS: Final = 100

BANNED: Final = {
    "anew": "again",
    "bear": "tolerate, have",
    "borne": "tolerated",
    "comeback": "retry policy",
    "grave": "tombstone",
    "lest": "so that … not",
    "mend": "repair, end",
    "mended": "repaired, ended",
    "mends": "repairs, ends",
    "mirrors": "informer",
    "thereof": "of it",
    "wear": "have",
    "wearer": "user",
    "wearing": "having",
    "wears": "has",
    "whoever": "a user who, code that",
    "wish": "request",
    "wishes": "requests",
    "wishing": "requesting",
    "worn": "in use",
}
"""Words that cost a reader a look-up, and what to write instead."""

OPENINGS: Final = {
    "Give": "Return",
    "Gives": "Returns",
    "Prepare": "Keep the arguments",
    "Tell": "Return, report, write",
}
"""First words of a docstring that say less than another."""

_WORD: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_DOCSTRING: Final = re.compile(r'"""\s*(\w+)')
_PRAGMA: Final = re.compile(r"  # (noqa|type:|fmt:).*$")


def sources() -> list[Path]:
    """Every Python file of the product and of what is built around it."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def banned_words(text: str) -> list[str]:
    """Name the banned words of a source: line, word, and what to write instead."""
    found = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (tokenize.NAME, tokenize.COMMENT, tokenize.STRING):
            continue
        for offset, line in enumerate(token.string.splitlines()):
            found += [
                f"{token.start[0] + offset}: {word}: write {BANNED[word]}"
                for word in map(str.lower, _WORD.findall(line))
                if word in BANNED
            ]
    return found


def weak_openings(text: str) -> list[str]:
    """Name the docstrings that begin with a word that says little."""
    return [
        f"{token.start[0]}: {match[1]}: write {OPENINGS[match[1]]}"
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.STRING
        and (match := _DOCSTRING.match(token.string))
        and match[1] in OPENINGS
    ]


def long_lines(text: str) -> list[str]:
    """Name the lines that are too long; what a linter is told counts for nothing."""
    return [
        f"{number}: {len(line)} columns"
        for number, line in enumerate(text.splitlines(), 1)
        if len(_PRAGMA.sub("", line)) > COLUMNS
    ]


@pytest.mark.parametrize("look", [banned_words, weak_openings, long_lines])
def test_sources(look: Callable[[str], list[str]]) -> None:
    """No source has a banned word, a docstring that begins with little, or a line too long."""
    found = {
        str(path.relative_to(ROOT)): faults
        for path in sources()
        if (faults := look(path.read_text()))
    }

    assert {} == found


def test_banned_words_are_found() -> None:
    """Names in both spellings, comments, docstrings and messages are searched; parts of words not."""
    text = (
        'class WornAddress:\n    """What a pod\n    wears, however worn-out."""\n'
        'still_worn = f"{x} is borne"  # written anew\nwormhole = "bearing, wishful"\n'
    )

    assert ["1: worn", "3: wears", "3: worn", "4: worn", "4: borne", "4: anew"] == [
        each.rsplit(":", 1)[0] for each in banned_words(text)
    ]


def test_weak_openings_are_found() -> None:
    """Docstrings in one line and in several; a word inside does not count."""
    text = (
        'def a():\n    """Tell."""\ndef b():\n    """\n    Gives x.\n    """\n"""Return Give."""\n'
    )

    assert ["2: Tell", "4: Gives"] == [each.rsplit(":", 1)[0] for each in weak_openings(text)]


def test_long_lines_are_found() -> None:
    """A hundred columns are allowed, and the words for a linter beside them."""
    fine, long = "x" * COLUMNS, "x" * (COLUMNS + 1)

    assert ["2: 101 columns"] == long_lines(f"{fine}\n{long}\n{fine}  # noqa: E501\n")
