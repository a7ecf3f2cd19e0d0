"""One JSON object of an annotation, read field by field with words that a user can act on."""

from __future__ import annotations

from typing import Any

import msgspec

from spiderpool.errors import InvalidRequest
from spiderpool.model.limits import NICS, check_count, check_depth, check_text


def read_json(text: str, example: str) -> object:
    """Read a JSON document; `example` shows in the error what to write."""
    check_text(text)
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"the value is not JSON ({error}); write {example}") from None
    check_depth(text, document)
    return document


def read_objects(text: str, example: str, most: int = NICS) -> list[Fields]:
    """Read a JSON array of objects, `most` of them."""
    items = read_json(text, example)
    if not isinstance(items, list):
        raise InvalidRequest(f"the value is {kind_of(items)}, not a JSON array; write {example}")
    check_count(len(items), most, "the list")
    return [Fields(item, f"item {number}") for number, item in enumerate(items, 1)]


class Fields:
    """
    Typed access to one JSON object.

    Keys match in any case and `null` counts as absent, as for Go's decoder, whose users wrote the
    annotations in use.
    """

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{where} is {kind_of(value)}; it must be an object")
        self.where = where
        self._values = {key.lower(): item for key, item in value.items()}

    def _get(self, key: str, kind: type, must: str) -> Any:
        value = self._values.get(key.lower())
        if value is None:
            return None
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise InvalidRequest(f'{self.where}: "{key}" is {kind_of(value)}; it must be {must}')
        return value

    def text(self, key: str) -> str:
        """Return a text, empty when absent."""
        return self._get(key, str, "a text") or ""

    def number(self, key: str) -> int:
        """Return a whole number, 0 when absent."""
        return self._get(key, int, "a whole number") or 0

    def flag(self, key: str) -> bool:
        """Return a truth value, false when absent."""
        return bool(self._get(key, bool, "true or false"))

    def texts(self, key: str) -> list[str] | None:
        """Return a list of texts, None when absent."""
        values: list[object] | None = self._get(key, list, "a list of texts")
        if values is not None and not all(isinstance(value, str) for value in values):
            raise InvalidRequest(f'{self.where}: "{key}" must be a list of texts')
        return values  # type: ignore[return-value]

    def raw_object(self, key: str) -> dict[str, Any] | None:
        """Return an object as it is, None when absent."""
        value: dict[str, Any] | None = self._get(key, dict, "an object")
        return value

    def nested(self, key: str) -> Fields | None:
        """Return typed access to an object, None when absent."""
        value = self.raw_object(key)
        return None if value is None else Fields(value, f'{self.where}: "{key}"')

    def nested_list(self, key: str) -> list[Fields]:
        """Return typed access to each object of a list."""
        values: list[object] = self._get(key, list, "a list of objects") or []
        return [
            Fields(value, f'{self.where}: "{key}"[{index}]') for index, value in enumerate(values)
        ]


def kind_of(value: object) -> str:
    """Say what a JSON value is."""
    return {
        type(None): "null",
        bool: "true or false",
        str: "a text",
        list: "a list",
        dict: "an object",
    }.get(type(value), "a number")
