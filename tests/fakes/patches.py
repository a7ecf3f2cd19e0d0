"""JSON merge patch (RFC 7386) and the operations of JSON patch (RFC 6902) that this project sends."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from spiderpool.errors import Rejected


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a merge patch; neither argument is changed (RFC 7386, section 2)."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: Sequence[Mapping[str, Any]]) -> Any:
    """Apply `add`, `remove`, `replace` and `test`, in order, all or nothing (RFC 6902, section 4)."""
    document = _with_lists(target)
    for operation in operations:
        document = _apply(document, operation)
    return document


def _with_lists(value: Any) -> Any:
    """Copy a document; msgspec leaves tuples where JSON has lists."""
    if isinstance(value, Mapping):
        return {key: _with_lists(each) for key, each in value.items()}
    return [_with_lists(each) for each in value] if isinstance(value, list | tuple) else value


def _apply(document: Any, operation: Mapping[str, Any]) -> Any:
    name, path = operation["op"], operation["path"]
    if path == "":
        return _at_root(document, operation)
    *folders, last = [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]
    parent = document
    for step in folders:
        parent = _child(parent, step, path)
    match name:
        case "add":
            _add(parent, last, copy.deepcopy(operation["value"]), path)
        case "replace":
            if isinstance(parent, list):
                _child(parent, last, path)
            # A missing member is added, against the RFC: so does the API server.
            parent[_index(parent, last)] = copy.deepcopy(operation["value"])
        case "remove":
            _child(parent, last, path)
            del parent[_index(parent, last)]
        case "test":
            if _child(parent, last, path) != operation["value"]:
                raise Rejected(f"the server rejected our request: testing value {path} failed")
        case _:
            raise Rejected(f"JSON patch operation {name} is not known here")
    return document


def _at_root(document: Any, operation: Mapping[str, Any]) -> Any:
    if operation["op"] == "test" and document != operation["value"]:
        raise Rejected("the server rejected our request: testing the whole document failed")
    return document if operation["op"] == "test" else copy.deepcopy(operation["value"])


def _add(parent: Any, last: str, value: Any, path: str) -> None:
    if isinstance(parent, list):
        position = len(parent) if last == "-" else int(last)
        if position > len(parent):
            raise Rejected(f"the server rejected our request: {path} is outside the list")
        parent.insert(position, value)
    else:
        parent[last] = value


def _child(parent: Any, step: str, path: str) -> Any:
    try:
        return parent[_index(parent, step)]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise Rejected(f"the server rejected our request: {path} does not exist") from error


def _index(parent: Any, step: str) -> Any:
    return int(step) if isinstance(parent, list) else step
