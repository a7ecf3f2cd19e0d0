"""JSON patches between two documents."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.controller.runtime.jsonpatch import diff

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text("ab/~", max_size=2), JSON, max_size=4)


def apply(document: Any, operations: list[dict[str, Any]]) -> Any:
    """Apply a patch as RFC 6902 says, for the operations that we write."""
    for operation in operations:
        *parents, last = [
            token.replace("~1", "/").replace("~0", "~")
            for token in operation["path"].split("/")[1:]
        ]
        target = document
        for token in parents:
            target = target[token]
        if operation["op"] == "remove":
            del target[last]
        elif operation["op"] == "replace":
            assert last in target
            target[last] = operation["value"]
        else:
            target[last] = operation["value"]
    return document


def copy(document: dict[str, Any]) -> dict[str, Any]:
    """Copy the objects of a document, deep enough for a patch."""
    return {
        key: copy(value) if isinstance(value, dict) else value for key, value in document.items()
    }


@given(OBJECTS, OBJECTS)
def test_patch_leads_to_the_new_document(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Applying the difference to the old document gives the new one."""
    assert new == apply(copy(old), list(diff(old, new)))


@given(OBJECTS)
def test_equal_documents_need_no_patch(document: dict[str, Any]) -> None:
    """A document does not differ from itself."""
    assert [] == list(diff(document, document))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            {"metadata": {}},
            {"metadata": {"labels": {"ipam.spidernet.io/x": "1"}}},
            [{"op": "add", "path": "/metadata/labels", "value": {"ipam.spidernet.io/x": "1"}}],
        ),
        (
            {"metadata": {"labels": {"ipam.spidernet.io/x": "1"}}},
            {"metadata": {"labels": {"ipam.spidernet.io/x": "2"}}},
            [{"op": "replace", "path": "/metadata/labels/ipam.spidernet.io~1x", "value": "2"}],
        ),
    ],
)
def test_paths_are_json_pointers(old: Any, new: Any, expected: list[dict[str, Any]]) -> None:
    """A slash in a key is written `~1` (RFC 6901)."""
    assert expected == list(diff(old, new))
