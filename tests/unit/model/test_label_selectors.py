"""Label selectors follow Kubernetes (concepts: labels and selectors)."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.kubernetes.meta import LabelSelector
from spiderpool.model.label_selectors import matches, render_selector, selector_problems

LABELS = {"app": "web", "tier": "front"}


def selector(**document: object) -> LabelSelector:
    """Make a selector from its JSON."""
    return msgspec.convert(document, LabelSelector)


def expression(operator: str, *values: str, key: str = "app") -> LabelSelector:
    """Make a selector of one expression."""
    return selector(matchExpressions=[{"key": key, "operator": operator, "values": values}])


@pytest.mark.parametrize(
    ("tested", "expected"),
    [
        (selector(), True),
        (selector(matchLabels={"app": "web"}), True),
        (selector(matchLabels={"app": "db"}), False),
        (selector(matchLabels={"app": "web", "zone": "a"}), False),
        (expression("In", "db", "web"), True),
        (expression("In", "db"), False),
        (expression("In", "a", key="zone"), False),
        (expression("NotIn", "db"), True),
        (expression("NotIn", "web"), False),
        (expression("NotIn", "a", key="zone"), True),
        (expression("Exists"), True),
        (expression("Exists", key="zone"), False),
        (expression("DoesNotExist"), False),
        (expression("DoesNotExist", key="zone"), True),
        (expression("Gt", "1"), False),
        (
            selector(
                matchLabels={"app": "web"},
                matchExpressions=[{"key": "tier", "operator": "DoesNotExist"}],
            ),
            False,
        ),
    ],
)
def test_matches(tested: LabelSelector, expected: bool) -> None:
    """All labels and all expressions must hold; NotIn holds for an absent key."""
    assert expected == matches(tested, LABELS)


@pytest.mark.parametrize(
    ("tested", "path", "words"),
    [
        (expression("In"), "matchExpressions[0].values", "must be specified"),
        (expression("NotIn"), "matchExpressions[0].values", "must be specified"),
        (expression("Exists", "a"), "matchExpressions[0].values", "may not be specified"),
        (
            expression("Equals", "a"),
            "matchExpressions[0].operator",
            "not a valid selector operator",
        ),
        (expression("Exists", key="-a"), "matchExpressions[0].key", "not a label key"),
        (expression("Exists", key="Bad_/a"), "matchExpressions[0].key", "not a label key"),
        (expression("In", "a b"), "matchExpressions[0].values", "not a label value"),
        (selector(matchLabels={"": "a"}), "matchLabels.key", "not a label key"),
        (selector(matchLabels={"a": "x" * 64}), "matchLabels.values", "not a label value"),
    ],
)
def test_problems(tested: LabelSelector, path: str, words: str) -> None:
    """Each malformed part is named with its path."""
    ((found, _, why),) = selector_problems(tested)

    assert path == found
    assert words in why


def test_no_problems() -> None:
    """Prefixed keys, empty values and every operator are fine."""
    fine = selector(
        matchLabels={"example.com/app": "", "a.b_c-d": "1"},
        matchExpressions=[
            {"key": "a", "operator": "In", "values": ["b"]},
            {"key": "a", "operator": "Exists"},
        ],
    )

    assert not list(selector_problems(fine))


def test_rendering() -> None:
    """Selectors read as on kubectl's command line."""
    tested = selector(
        matchLabels={"b": "2", "a": "1"},
        matchExpressions=[
            {"key": "c", "operator": "In", "values": ["x", "y"]},
            {"key": "d", "operator": "Exists"},
            {"key": "e", "operator": "DoesNotExist"},
        ],
    )

    assert render_selector(tested) == "a=1,b=2,c in (x,y),d,!e"
    assert render_selector(selector()) == "everything"
