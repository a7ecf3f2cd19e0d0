"""
The pods of a StatefulSet.

The ordinal in a pod's name, and the ordinals that the StatefulSet wants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from spiderpool.api.kubernetes.core import StatefulSet

# docs/reference/release-and-reclaim.md#owners-of-fixed-addresses
POD_NAME: Final = re.compile(r"(.*)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class StatefulName:
    """A pod's name taken apart: the name of its StatefulSet and the pod's ordinal."""

    statefulset: str
    ordinal: int


def parse_stateful_name(pod_name: str) -> StatefulName | None:
    """Return StatefulSet and ordinal of a pod's name; None if a StatefulSet names no pod so."""
    match = POD_NAME.fullmatch(pod_name)
    return StatefulName(match[1], int(match[2])) if match else None


def wanted_ordinals(statefulset: StatefulSet) -> range:
    """Return the ordinals of the pods that a StatefulSet wants; one replica from 0 by default."""
    spec = statefulset.spec
    start = spec.ordinals.start if spec.ordinals else 0
    return range(start, start + (1 if spec.replicas is None else spec.replicas))


def position_of(pod_name: str, statefulset: StatefulSet) -> int | None:
    """Return the place of a pod among the ordinals, from 0; None if its name has no such place."""
    name = parse_stateful_name(pod_name)
    start = wanted_ordinals(statefulset).start
    return name.ordinal - start if name and name.ordinal >= start else None
