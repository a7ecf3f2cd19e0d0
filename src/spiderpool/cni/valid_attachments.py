"""
The list of living attachments that comes with GC.

Source: CNI specification 1.1.0, "GC"; its early text, and libcni 1.3, write `cni.dev/attachments`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from spiderpool.cni.caseless_keys import lookup
from spiderpool.errors import Undecodable

KEYS = ("cni.dev/valid-attachments", "cni.dev/attachments")


@dataclass(frozen=True, slots=True, order=True)
class Attachment:
    """One interface of one container."""

    container_id: str
    ifname: str


def valid_attachments(config: Mapping[str, Any]) -> frozenset[Attachment]:
    """
    Read who is alive; both keys count.

    Raises:
        Undecodable: neither key is there (an absent list must not mean "collect everything"), or an
        entry is malformed.
    Source: Go's libcni writes an empty list as null.
    """
    lists = [[] if config[key] is None else config[key] for key in KEYS if key in config]
    if not lists:
        raise Undecodable(
            f"GC without {KEYS[0]}: write the list of {{containerID, ifname}} that are alive, [] "
            "when none is"
        )
    if not all(isinstance(items, list) for items in lists):
        raise Undecodable(f"GC: {KEYS[0]} is no list, write one of {{containerID, ifname}}")
    return frozenset(_read(item) for items in lists for item in items)


def render_attachments(attachments: Iterable[Attachment]) -> dict[str, Any]:
    """Return the configuration keys that tell a plugin who is alive."""
    items = [
        {"containerID": item.container_id, "ifname": item.ifname} for item in sorted(attachments)
    ]
    return dict.fromkeys(KEYS, items)


def _read(item: object) -> Attachment:
    container_id = lookup(item, "containerID") if isinstance(item, dict) else None
    ifname = lookup(item, "ifname") if isinstance(item, dict) else None
    if not isinstance(container_id, str) or not isinstance(ifname, str):
        raise Undecodable(f"GC: {item!r} is no attachment, write {{containerID, ifname}}")
    return Attachment(container_id, ifname)
