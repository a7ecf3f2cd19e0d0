"""Errors of fields, and which of them a change brings."""

from __future__ import annotations

from spiderpool.admission.field_errors import FieldError, Kind, new_errors


def error(field: str, value: str = "x", message: str = "is wrong") -> FieldError:
    """Make an error."""
    return FieldError(field, Kind.INVALID, value, message)


def test_what_was_wrong_before_is_no_news() -> None:
    """The same fault of the same value stays allowed, also at another place of its list."""
    before = [error("spec.ips[0]"), error("spec.gateway", "10.9.0.1")]

    assert [] == new_errors([error("spec.ips[3]"), error("spec.gateway", "10.9.0.1")], before)


def test_what_a_change_brings_is_refused() -> None:
    """Another field, value or fault is new."""
    before = [error("spec.ips[0]")]
    news = [error("spec.ips[0]", "y"), error("spec.excludeIPs[0]"), error("spec.ips[0]", "x", "no")]

    assert news == new_errors([error("spec.ips[0]"), *news], before)
    assert before == new_errors(before, [])
