"""Every text that a tenant may write is read, or refused with a sentence: nothing else is raised."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spiderpool.errors import InvalidRequest, SpiderpoolError
from spiderpool.model import limits
from spiderpool.model.json_fields import read_json
from tests.fuzz.texts import READERS, dumped


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_text(name: str, data: Any) -> None:
    """Whatever the text, its reader answers or refuses."""
    read, texts = READERS[name]
    with suppress(SpiderpoolError):
        read(data.draw(texts))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"' + "a" * limits.ANNOTATION_BYTES + '"', "has 65538 bytes; 65536 is the most"),
        ('"' + "é" * (limits.ANNOTATION_BYTES // 2) + '"', "has 65538 bytes"),
        ("[" * 33 + "]" * 33, "is nested deeper than 32 levels"),
        ('{"a":' * 33 + "1" + "}" * 33, "is nested deeper than 32 levels"),
        ("[" * 30_000, "is not JSON"),
    ],
)
def test_limits_of_a_text(text: str, words: str) -> None:
    """A text that is too long or too deep is refused with the limit."""
    with pytest.raises(InvalidRequest, match=words):
        read_json(text, "x")


def test_depth_that_is_allowed() -> None:
    """Many brackets are not deep ones, and 32 levels are taken."""
    wide = dumped([[{}]] * 1000)

    assert 1000 == len(read_json(wide, "x"))  # type: ignore[arg-type]
    read_json("[" * 32 + "]" * 32, "x")
