"""
The difference of two JSON documents as a JSON patch (RFC 6902). Lists are values.

They are replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Operation = dict[str, Any]


def diff(old: Any, new: Any, path: str = "") -> Iterator[Operation]:
    """Walk the operations that turn `old` into `new`; none when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _member(old, new, key, f"{path}/{_escape(key)}")
    elif old != new:
        yield {"op": "replace", "path": path, "value": new}


def _member(old: dict[str, Any], new: dict[str, Any], key: str, path: str) -> Iterator[Operation]:
    """
    Compare one member of two objects.

    `add` also replaces, which suits members that we did not read.
    """
    if key not in new:
        yield {"op": "remove", "path": path}
    elif key not in old:
        yield {"op": "add", "path": path, "value": new[key]}
    else:
        yield from diff(old[key], new[key], path)


def _escape(key: str) -> str:
    """Write a key as a JSON pointer's token (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
