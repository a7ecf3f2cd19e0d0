"""
From what is there to what is wanted: the fewest operations, and the way back of each.

Laws: what is wanted differs from itself in nothing; applying twice changes nothing; undoing gives
back what was there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from spiderpool.datapath.plan_types import Item, Setting, Wanted
from spiderpool.model.netns_contents import Neighbour, Route, Rule

_FIRST_FREE_PRIORITY: Final = 32765  # below the rule of the main table


@dataclass(frozen=True, slots=True)
class Put:
    """Make something; `old` is what it replaces."""

    item: Item
    old: Item | None = None


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove something."""

    item: Item


Operation = Put | Drop


def diff(seen: frozenset[Item], wanted: Wanted) -> tuple[Operation, ...]:
    """
    Return the operations that lead from what is seen to what is wanted.

    Additions come first, so that no connection is cut in between.

    A route is there when its destination has a route of that table and metric, whatever its device:
    the original ignores EEXIST, and a connected route must not be replaced. A default route must be
    there exactly.

    Source: docs/reference/coordinator.md#what-one-add-makes.
    """
    left = seen - wanted.absent
    conflicts = [
        Drop(item)
        for item in sorted(seen & wanted.absent, key=repr)
        if _is_in_the_way(item, wanted.present)
    ]
    rules = [item for item in left if isinstance(item, Rule)]
    puts: list[Operation] = []
    for item in wanted.present:
        if is_there(item, left):
            continue
        made = _with_priority(item, rules) if isinstance(item, Rule) else item
        if isinstance(made, Rule):
            rules.append(made)
        old = next((found for found in left if replaces(made, found)), None)  # there is one at most
        left = left - {old} | {made}
        puts.append(Put(made, old))
    gone = {drop.item for drop in conflicts}
    drops = [Drop(item) for item in sorted(seen & wanted.absent, key=repr) if item not in gone]
    return (*conflicts, *puts, *drops)


def is_there(item: Item, seen: Iterable[Item]) -> bool:
    """Return whether what is wanted is among what is seen."""
    match item:
        case Route():
            if item.is_default:
                return item in frozenset(seen)
            return any(isinstance(found, Route) and found.place == item.place for found in seen)
        case Rule(priority=None):
            return any(
                isinstance(found, Rule) and found.selector == item.selector for found in seen
            )
        case _:
            return item in frozenset(seen)


def replaces(new: Item, old: Item) -> bool:
    """Return whether making one thing takes the place of another."""
    match new, old:
        case Setting(), Setting():
            return new.place == old.place
        case Neighbour(), Neighbour():
            return (new.ip, new.dev) == (old.ip, old.dev)
        case _:
            return False


def applied(seen: frozenset[Item], operations: Iterable[Operation]) -> frozenset[Item]:
    """Return what is there after operations, as the kernel would have it."""
    for operation in operations:
        match operation:
            case Put(item=item, old=old):
                seen = seen - {old} | {item}
            case Drop(item=item):
                seen = seen - {item}
    return seen


def undone(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return the operations that take back others, the last first."""
    return tuple(_inverse(operation) for operation in reversed(operations))


def _inverse(operation: Operation) -> Operation:
    match operation:
        case Put(item=item, old=Neighbour(missing=True)):
            return Drop(item)  # the kernel takes no neighbour without a MAC
        case Put(item=item, old=old):
            return Drop(item) if old is None else Put(old, item)
        case Drop(item=item):
            return Put(item)


def _is_in_the_way(item: Item, present: Sequence[Item]) -> bool:
    """Return whether an unwanted item has the place of a wanted one, so that it must go first."""
    return isinstance(item, Route) and any(
        isinstance(new, Route) and new.place == item.place for new in present
    )


def _with_priority(rule: Rule, rules: Sequence[Rule]) -> Rule:
    """
    Return a rule with the priority of the kernel: one before the second of the family's rules.

    Source: `fib_default_rule_pref` of net/core/fib_rules.c;
    docs/reference/coordinator.md#tunepodroutes.
    """
    if rule.priority is not None:
        return rule
    known = sorted(found.priority or 0 for found in rules if found.family == rule.family)
    return replace(rule, priority=known[1] - 1 if len(known) > 1 else _FIRST_FREE_PRIORITY)
