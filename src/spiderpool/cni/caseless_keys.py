"""Reading keys of JSON objects the way the CNI world does: letter case does not matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def lookup(document: Mapping[str, Any], key: str) -> Any:
    """
    Return the value of a key, whatever its letter case; None when it is absent or null.

    The exact spelling wins; else the last one that differs in case only, as Go's decoder has it.
    """
    if key in document:
        return document[key]
    folded = key.casefold()
    found = None
    for name, value in document.items():
        if name.casefold() == folded:
            found = value
    return found


def without(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Copy an object without a key, whatever its letter case."""
    folded = key.casefold()
    return {name: value for name, value in document.items() if name.casefold() != folded}


def replaced(document: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Copy an object with one key set; its other spellings go, its place stays."""
    folded = key.casefold()
    if not any(name.casefold() == folded for name in document):
        return {**document, key: value}
    result: dict[str, Any] = {}
    for name, old in document.items():
        if name.casefold() == folded:
            result[key] = value
        else:
            result[name] = old
    return result
