"""
The mangle rules that mark what entered by veth0, as text of iptables-save and iptables-restore.

Source: docs/reference/coordinator.md#way-back-by-veth0, docs/reference/coordinator.md#layouts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

# As the original's output shows them.
RULES: Final = (
    "PREROUTING -i veth0 -m conntrack --ctstate NEW -j MARK --set-xmark 0x1/0xffffffff",
    "PREROUTING -m mark --mark 0x1 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    "OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
)
RESTORE: Final = {4: "iptables-restore", 6: "ip6tables-restore"}
SAVE: Final = {4: "iptables-save", 6: "ip6tables-save"}


def missing_rules(saved: str) -> tuple[str, ...]:
    """Return the rules that a dump of the mangle table does not have."""
    there = {
        line.removeprefix("-A ").strip() for line in saved.splitlines() if line.startswith("-A ")
    }
    return tuple(rule for rule in RULES if rule not in there)


def present_rules(saved: str) -> tuple[str, ...]:
    """Return the rules that a dump of the mangle table has."""
    return tuple(rule for rule in RULES if rule not in missing_rules(saved))


def restore_input(rules: Iterable[str], *, remove: bool = False) -> str:
    """Return what appends rules, or removes them; other rules stay (`--noflush`)."""
    sign = "-D" if remove else "-A"
    return "\n".join(["*mangle", *(f"{sign} {rule}" for rule in rules), "COMMIT", ""])
