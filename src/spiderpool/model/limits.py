"""
How much a tenant may write: texts, lists, networks of a pod.

All limits that are no part of a format stand here; code that reads a tenant's text checks them
before anything that costs more than the text itself.
Source: docs/reference/annotations.md#limits.
"""

from __future__ import annotations

from typing import Any, Final

from spiderpool.errors import InvalidRequest

ANNOTATION_BYTES: Final = 65_536
CONFIG_BYTES: Final = 32_768  # a NetworkAttachmentDefinition's spec.config
ARGS_BYTES: Final = 32_768  # CNI_ARGS
JSON_DEPTH: Final = 32
NICS: Final = 32  # networks of a pod, beside the default one; NICs in an annotation
NETWORK_NAME: Final = 128  # with container and NIC it is a file's name, of 255 bytes at most
PLUGINS: Final = 32  # of one network
PATTERNS: Final = 32  # names of pools and wildcards, of one NIC and family
PATTERN_LENGTH: Final = 253  # the longest name of an object
ROUTES: Final = 64
EXACT_IPS: Final = 8  # of one network selection, or one CNI call
NETWORK_IPS: Final = 64  # of all network selections of a pod
ADDRESS_ITEMS: Final = 512  # addresses and ranges in all lists of annotation `ip`
PORT_MAPPINGS: Final = 64


def check_text(text: str, most: int = ANNOTATION_BYTES, what: str = "the value") -> None:
    """Refuse a text of more bytes."""
    # A character has at most 4 bytes: most texts need no encoding.
    if len(text) * 4 > most and (size := len(text.encode(errors="surrogatepass"))) > most:
        raise InvalidRequest(f"{what} has {size} bytes; {most} is the most")


def check_count(count: int, most: int, what: str) -> None:
    """Refuse a list of more items; `what` names the list and its items."""
    if count > most:
        raise InvalidRequest(f"{what}: {count} are listed; {most} is the most")


def check_depth(text: str, document: Any, what: str = "the value") -> None:
    """
    Refuse a JSON document that is nested deeper than anything needs.

    Args:
        text: the document as it came: few brackets cannot be nested deeply.
        document: what was decoded.
        what: begins the message.
    """
    if text.count("[") + text.count("{") <= JSON_DEPTH:
        return
    level = [document]
    for _ in range(JSON_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise InvalidRequest(f"{what} is nested deeper than {JSON_DEPTH} levels")


def check_patterns(names: tuple[str, ...], what: str) -> None:
    """Refuse more, or longer, names and wildcards than pools can be meant by."""
    check_count(len(names), PATTERNS, what)
    for name in names:
        check_text(name, PATTERN_LENGTH, f"{what}: a name")
