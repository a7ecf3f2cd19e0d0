"""The list of living attachments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.valid_attachments import KEYS, Attachment, render_attachments, valid_attachments
from spiderpool.errors import Undecodable

ATTACHMENTS = st.frozensets(st.builds(Attachment, st.text(max_size=4), st.text(max_size=4)))


@given(ATTACHMENTS)
def test_round_trip(attachments: frozenset[Attachment]) -> None:
    """What is told to a delegate is what was read."""
    assert attachments == valid_attachments(render_attachments(attachments))


@pytest.mark.parametrize("key", KEYS)
def test_either_key(key: str) -> None:
    """The specification's key and the early one both count; null is Go's empty list."""
    assert {Attachment("c", "eth0")} == valid_attachments(
        {key: [{"containerID": "c", "ifname": "eth0"}]}
    )
    assert frozenset() == valid_attachments({key: None})


@pytest.mark.parametrize(
    "config", [{}, {KEYS[0]: {}}, {KEYS[0]: ["c"]}, {KEYS[0]: [{"containerID": "c"}]}]
)
def test_refused(config: dict[str, Any]) -> None:
    """Without a readable list nothing is collected."""
    with pytest.raises(Undecodable):
        valid_attachments(config)
