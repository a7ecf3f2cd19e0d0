"""What is wrong with a field of an object, in the form and the words of the Kubernetes API."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from spiderpool.api.kubernetes.meta import Resource

_INDEX: Final = re.compile(r"\[\d+\]")


class Kind(enum.StrEnum):
    """What is wrong with a field: the cause reasons of the Kubernetes API."""

    INVALID = "FieldValueInvalid"
    NOT_SUPPORTED = "FieldValueNotSupported"
    FORBIDDEN = "FieldValueForbidden"
    REQUIRED = "FieldValueRequired"
    DUPLICATE = "FieldValueDuplicate"


WORDS: Final = {
    Kind.INVALID: "Invalid value",
    Kind.NOT_SUPPORTED: "Unsupported value",
    Kind.FORBIDDEN: "Forbidden",
    Kind.REQUIRED: "Required value",
    Kind.DUPLICATE: "Duplicate value",
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that is refused."""

    field: str
    kind: Kind
    value: str
    message: str

    @property
    def text(self) -> str:
        """The error as Kubernetes writes it."""
        value = (
            f': "{self.value}"'
            if self.value and self.kind not in (Kind.FORBIDDEN, Kind.REQUIRED)
            else ""
        )
        return f"{self.field}: {WORDS[self.kind]}{value}: {self.message}"


def render_errors(resource: Resource, name: str, errors: Iterable[FieldError]) -> str:
    """
    Return all errors of one object as one text, as Kubernetes writes it.

    Args:
        resource: the object's kind.
        name: of the object.
        errors: at least one.
    """
    texts = [error.text for error in errors]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return f'{resource.kind}.{resource.group} "{name}" is invalid: {listed}'


def new_errors(found: Iterable[FieldError], of_old: Iterable[FieldError]) -> list[FieldError]:
    """
    Return the errors that a change brings.

    What an object had before stays editable: it was stored under older rules, or with the webhook
    away. Kubernetes calls this ratcheting (KEP-4008).

    Args:
        found: everything that is wrong with the object as it is to be.
        of_old: everything that is wrong with it as it is.
    """
    known = {_key(error) for error in of_old}
    return [error for error in found if _key(error) not in known]


def _key(error: FieldError) -> tuple[str, Kind, str, str]:
    """Return an error's identity: all but its place in a list, which an edit may move."""
    return (_INDEX.sub("[]", error.field), error.kind, error.value, error.message)
