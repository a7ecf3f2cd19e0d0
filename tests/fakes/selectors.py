"""Label and field selectors in text form, as the API server understands them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from spiderpool.errors import Rejected

Object = Mapping[str, Any]
Predicate = Callable[[Object], bool]

_SET = re.compile(r"^\s*(?P<key>[^\s!=]+)\s+(?P<word>in|notin)\s+\((?P<values>[^)]*)\)\s*$")
_COMPARE = re.compile(r"^\s*(?P<key>[^\s!=]+)\s*(?P<sign>==|!=|=)\s*(?P<value>[^\s]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<no>!?)\s*(?P<key>[^\s!=,]+)\s*$")
_COMMAS_OUTSIDE_BRACKETS = re.compile(r",(?![^()]*\))")

# Beyond `metadata.name` and `metadata.namespace`, which every kind has.
FIELDS = {
    "pods": {
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    },
    "nodes": {"spec.unschedulable"},
    "events": {
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "reason",
        "type",
        "source",
    },
    "namespaces": {"status.phase", "name"},
    "jobs": {"status.successful"},
}


def label_predicate(text: str) -> Predicate:
    """Read a label selector."""
    tests = [_label_test(part) for part in _COMMAS_OUTSIDE_BRACKETS.split(text) if part.strip()]
    return lambda obj: all(test(obj.get("metadata", {}).get("labels", {})) for test in tests)


def field_predicate(text: str, plural: str) -> Predicate:
    """
    Read a field selector.

    A field that the kind does not offer is refused, as the API server does.
    """
    tests = [_field_test(part, plural) for part in text.split(",") if part.strip()]
    return lambda obj: all(test(obj) for test in tests)


def _label_test(part: str) -> Predicate:
    if found := _SET.match(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["word"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _COMPARE.match(part):
        key, value = found["key"], found["value"]
        if found["sign"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        key, wanted = found["key"], not found["no"]
        return lambda labels: (key in labels) is wanted
    raise Rejected(f'unable to parse requirement: "{part}"')


def _field_test(part: str, plural: str) -> Predicate:
    found = _COMPARE.match(part)
    if found is None:
        raise Rejected(f'invalid field selector: "{part}"')
    key, value, equal = found["key"], found["value"], found["sign"] != "!="
    if key not in {"metadata.name", "metadata.namespace"} | FIELDS.get(plural, set()):
        raise Rejected(f"field label not supported: {key}")
    return lambda obj: (_at(obj, key) == value) is equal


def _at(obj: Any, path: str) -> str:
    for step in path.split("."):
        obj = obj.get(step, "") if isinstance(obj, Mapping) else ""
    return str(obj).lower() if isinstance(obj, bool) else str(obj)
