"""
Lists of names.

Repetitions, and wildcards with the rules of Go's `filepath.Match`.

Source: docs/reference/selection.md#names-and-wildcards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from spiderpool.errors import InvalidRequest


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def is_wildcard(text: str) -> bool:
    """Return whether a name is a pattern: it has `*`, `?`, or both `[` and `]`."""
    return "*" in text or "?" in text or ("[" in text and "]" in text)


def compile_pattern(text: str) -> re.Pattern[str]:
    """
    Read a pattern.

    `*`, `?`, classes `[a-c]` and `[^a-c]`, and a backslash before a character that stands for
    itself.
    """
    chunks: list[str] = [""]
    at = 0
    while at < len(text):
        char = text[at]
        if char == "*":
            chunks.append("")
            at += 1
            continue
        if char == "[":
            part, at = _class(text, at + 1)
        elif char == "?":
            part, at = "[^/]", at + 1
        else:
            literal, at = _literal(text, at)
            part = re.escape(literal)
        chunks[-1] += part
    return re.compile(_join(chunks), re.DOTALL)


def _join(chunks: list[str]) -> str:
    """
    Join what stands between the stars to one regular expression.

    Each chunk but the last takes the first place that it fits, as Go's `Match` does, in an atomic
    group: the search never comes back to it. Without the group, `*a*a*a*b` takes exponential time.
    """
    first, *rest = chunks
    if not rest:
        return first
    # Repeated stars are one: an empty chunk fits at once.
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in rest[:-1] if chunk)
    return f"{first}{middle}[^/]*{rest[-1]}"


def _class(text: str, at: int) -> tuple[str, int]:
    """Read a class after its `[`. Return its regular expression and where it ends."""
    negated = text[at : at + 1] == "^"
    at += negated
    ranges: list[str] = []
    while text[at : at + 1] != "]" or not ranges:
        low, at = _literal(text, at, in_class=True)
        high = low
        if text[at : at + 1] == "-":
            high, at = _literal(text, at + 1, in_class=True)
        # a range that runs backwards matches nothing, and is no error in Go
        ranges.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
    body = "".join(ranges)
    if not body:
        return ("[^/]" if negated else "(?!)"), at + 1
    return f"[{'^' if negated else ''}{body}]", at + 1


def _literal(text: str, at: int, *, in_class: bool = False) -> tuple[str, int]:
    """Read one character that stands for itself. Return it and where it ends."""
    if text[at : at + 1] == "\\":
        at += 1
    elif in_class and text[at : at + 1] in ("-", "]"):
        at = len(text)
    if at >= len(text):
        raise InvalidRequest(
            f'"{text}" is not a pattern; write *, ? or a class such as [a-c], a backslash before '
            "others"
        )
    return text[at], at + 1
