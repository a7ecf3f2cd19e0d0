"""
The versions of the CNI protocol, and what each allows.

Source: CNI specification 1.1.0; supported ranges: docs/reference/cni.md#executables.
"""

from __future__ import annotations

from collections.abc import Iterable

ALL = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
OLDEST = ALL[0]
NEWEST = ALL[-1]
FIRST_WITH_INTERFACES = "0.3.0"
FIRST_WITH_CHECK = "0.4.0"
FIRST_WITHOUT_IP_VERSION = "1.0.0"
FIRST_WITH_GC = "1.1.0"  # and STATUS, and the link and route details of results

_SPOKEN = {"spiderpool": ALL[2:]}  # an IPAM plugin's first protocol is the one with `ips`
_FIRST_WITH_VERB = {"CHECK": FIRST_WITH_CHECK, "GC": FIRST_WITH_GC, "STATUS": FIRST_WITH_GC}


def spoken_by(plugin: str) -> tuple[str, ...]:
    """Return the versions that one of our executables speaks."""
    return _SPOKEN.get(plugin, ALL)


def numbers(version: str) -> tuple[int, ...]:
    """
    Read `1.0.0` as (1, 0, 0); absent is the oldest.

    Raises `ValueError` when it is not numbers joined by dots.
    """
    return tuple(int(part) for part in (version or OLDEST).split("."))


def at_least(version: str, minimum: str) -> bool:
    """Return whether a version is that old or newer; one that cannot be read is not."""
    try:
        return numbers(version) >= numbers(minimum)
    except ValueError:
        return False


def has_verb(version: str, verb: str) -> bool:
    """Return whether a protocol version knows a verb."""
    return at_least(version, _FIRST_WITH_VERB.get(verb, OLDEST))


def highest(versions: Iterable[str]) -> str | None:
    """Return the newest version of a list that we speak, None when there is none."""
    known = [version for version in versions if version in ALL]
    return max(known, key=ALL.index, default=None)
