"""
Label selectors.

What they match, what is wrong with them, how they read (rules and words of Kubernetes' `metav1`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from spiderpool.api.kubernetes.meta import LabelSelector, LabelSelectorRequirement
from spiderpool.model.label_values import LABEL_VALUE

KEY_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
KEY_PREFIX: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)


def matches(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Return whether labels satisfy a selector; the empty selector matches everything."""
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: LabelSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """Return whether one expression holds; an unknown operator never does."""
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case _:
            return False


def selector_problems(selector: LabelSelector) -> Iterator[tuple[str, str, str]]:
    """Return (path below the selector, value, message) for everything that is malformed."""
    for key, value in selector.match_labels.items():
        yield from (
            (f"matchLabels.{path}", bad, why) for path, bad, why in _label_problems(key, (value,))
        )
    for index, requirement in enumerate(selector.match_expressions):
        yield from (
            (f"matchExpressions[{index}].{path}", bad, why)
            for path, bad, why in _requirement_problems(requirement)
        )


def _requirement_problems(requirement: LabelSelectorRequirement) -> Iterator[tuple[str, str, str]]:
    """Check one expression."""
    match requirement.operator:
        case "In" | "NotIn":
            if not requirement.values:
                yield "values", "", "must be specified when `operator` is 'In' or 'NotIn'"
        case "Exists" | "DoesNotExist":
            if requirement.values:
                yield (
                    "values",
                    ",".join(requirement.values),
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                )
        case other:
            yield (
                "operator",
                other,
                "not a valid selector operator; write In, NotIn, Exists or DoesNotExist",
            )
    yield from _label_problems(requirement.key, requirement.values)


def _label_problems(key: str, values: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Check a label's key and values."""
    prefix, slash, name = key.rpartition("/")
    if not KEY_NAME.fullmatch(name) or (slash and not KEY_PREFIX.fullmatch(prefix)):
        yield (
            "key",
            key,
            (
                "not a label key: at most 63 letters, digits, '-', '_' or '.', after an optional "
                "DNS "
                "prefix and '/'"
            ),
        )
    for value in values:
        if not LABEL_VALUE.fullmatch(value):
            yield (
                "values",
                value,
                (
                    "not a label value: at most 63 letters, digits, '-', '_' or '.', beginning and "
                    "ending alphanumeric"
                ),
            )


def render_selector(selector: LabelSelector) -> str:
    """Write a selector as kubectl's `-l` does; the empty one as `everything`."""
    labels = [f"{key}={value}" for key, value in sorted(selector.match_labels.items())]
    return (
        ",".join(
            labels
            + [_render_requirement(requirement) for requirement in selector.match_expressions]
        )
        or "everything"
    )


def _render_requirement(requirement: LabelSelectorRequirement) -> str:
    """Write one expression."""
    match requirement.operator:
        case "Exists":
            return requirement.key
        case "DoesNotExist":
            return f"!{requirement.key}"
        case other:
            return f"{requirement.key} {other.lower()} ({','.join(requirement.values)})"
