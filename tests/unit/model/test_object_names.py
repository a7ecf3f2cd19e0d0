"""Names of objects are refused in Kubernetes' own words."""

from __future__ import annotations

import pytest

from spiderpool.model.object_names import name_problem


@pytest.mark.parametrize("name", ["a", "a-b", "a.b-c.1", "0", "x" * 253])
def test_names_that_can_be(name: str) -> None:
    """Every DNS subdomain name is possible."""
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "ä", "a\n"])
def test_names_that_cannot_be(name: str) -> None:
    """Others are refused as the API server refuses them."""
    problem = name_problem(name) or ""

    assert problem.startswith("a lowercase RFC 1123 subdomain must consist of lower case")


def test_names_that_are_too_long() -> None:
    """A longer one is refused by its length."""
    assert "must be no more than 253 characters" == name_problem("x" * 254)
