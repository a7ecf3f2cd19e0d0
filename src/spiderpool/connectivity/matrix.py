"""
The 3x6 matrix: three kinds of pods ask, the same kinds and their Services answer.

Source: docs/reference/packet-paths.md#who-reaches-whom; the multi-NIC pod is asked at both of its
addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.errors import InvalidRequest

if TYPE_CHECKING:
    from spiderpool.connectivity.diagnosis import Diagnosis

FAMILIES: Final = (4, 6)


class Kind(StrEnum):
    """How a pod is attached."""

    OVERLAY = "overlay"  # the cluster's own CNI alone, such as Calico
    UNDERLAY = "underlay"  # one NIC in the underlay, such as Macvlan
    MULTI = "multi"  # both: eth0 of the overlay, net1 in the underlay


class Goal(StrEnum):
    """What is asked: an address of a pod, or its Service."""

    OVERLAY_POD = "overlay-pod"
    UNDERLAY_POD = "underlay-pod"
    MULTI_OVERLAY_IP = "multi-pod-overlay-ip"
    MULTI_UNDERLAY_IP = "multi-pod-underlay-ip"
    OVERLAY_SERVICE = "overlay-service"
    UNDERLAY_SERVICE = "underlay-service"
    MULTI_SERVICE = "multi-service"

    @property
    def kind(self) -> Kind:
        """The pod that answers."""
        return Kind(self.value.partition("-")[0])

    @property
    def is_service(self) -> bool:
        """Return whether kube-proxy stands in between."""
        return self.value.endswith("-service")

    @property
    def is_underlay_ip(self) -> bool:
        """Return whether the address that is asked is one of the underlay."""
        return self in {Goal.UNDERLAY_POD, Goal.MULTI_UNDERLAY_IP}


class Stage(StrEnum):
    """How far a transfer came."""

    CONNECT = "connect"  # no connection
    TRANSFER = "transfer"  # connected, and then not all bytes passed
    DONE = "done"  # all bytes of both directions arrived


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the pod that asks and the pod that answers run."""

    client: str
    server: str

    @property
    def is_local(self) -> bool:
        """Return whether both are on one node."""
        return self.client == self.server

    def __str__(self) -> str:
        """Name both, for a heading."""
        return f"on {self.client}" if self.is_local else f"from {self.client} to {self.server}"


@dataclass(frozen=True, slots=True)
class Case:
    """One question: may a pod of this kind, here, talk to that, there?"""

    placement: Placement
    family: int
    source: Kind
    goal: Goal


@dataclass(frozen=True, slots=True)
class Transfer:
    """What one attempt showed, as the asking pod saw it."""

    stage: Stage
    client: IPAddress | None  # its own address, None when there was no route at all
    client_port: int
    server: IPAddress
    server_port: int
    seen: IPAddress | None = None  # the address that the server saw it come from; only when done
    words: str = ""  # what the system said when it failed


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case: its last transfer, how many it took, and why it failed."""

    case: Case
    transfer: Transfer
    attempts: int = 1
    diagnosis: Diagnosis | None = None

    @property
    def passed(self) -> bool:
        """Return whether all bytes arrived."""
        return self.transfer.stage is Stage.DONE


def plan_placements(nodes: Sequence[str]) -> tuple[Placement, ...]:
    """
    Say which pairs of nodes are tried: the first node asks, every named node answers.

    Raises:
        InvalidRequest: no node, or one named twice.
    """
    if not nodes or not all(nodes):
        raise InvalidRequest(
            "no node to place pods on: name one or more, such as --nodes node1,node2"
        )
    if len(set(nodes)) < len(nodes):
        raise InvalidRequest(
            f"nodes {','.join(nodes)}: each may be named once; one node alone tests pods of the "
            "same node"
        )
    return tuple(Placement(nodes[0], node) for node in nodes)


def plan_cases(
    placements: Iterable[Placement],
    families: Iterable[int],
    kinds: Sequence[Kind],
    addresses: Mapping[tuple[str, Goal, int], IPAddress],
) -> Iterator[Case]:
    """
    Return all cases, row by row.

    Args:
        placements: which nodes.
        families: 4, 6 or both.
        kinds: kinds of pods that there are; without an underlay only `OVERLAY`.
        addresses: what can be asked, by node, goal and family; a goal without an address of a
        family has no case.
    """
    families = tuple(families)
    for placement in placements:
        for family in families:
            for source in kinds:
                for goal in Goal:
                    if (placement.server, goal, family) in addresses:
                        yield Case(placement, family, source, goal)


def exit_code(results: Iterable[Result]) -> int:
    """
    Return the command's exit code: 0 when every case passed, 1 otherwise.

    No case at all is no success.
    """
    outcomes = [result.passed for result in results]
    return 0 if outcomes and all(outcomes) else 1
