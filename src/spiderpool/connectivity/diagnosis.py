"""
Why a transfer failed: at which namespace its packets ended, and by what.

Two surveys of all namespaces involved are compared, one before the failing transfer and one after
it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.connectivity.matrix import Transfer
from spiderpool.connectivity.packet_path import End, Walk, World, walk
from spiderpool.connectivity.survey import Ends, NamespaceSurvey, Tracked


class Reason(StrEnum):
    """What ended the packets."""

    INVALID_DROP = "INVALID drop"
    NO_ROUTE = "no route"
    NO_NEIGHBOUR = "no neighbour"
    RP_FILTER = "rp_filter"
    NO_ENDPOINT = "no endpoint"
    PARENT = "macvlan parent"
    NOT_LISTENING = "not listening"
    UNKNOWN = "unknown"


_OF_END: Final = {
    End.NO_ROUTE: Reason.NO_ROUTE,
    End.NO_NEIGHBOUR: Reason.NO_NEIGHBOUR,
    End.REVERSE_PATH: Reason.RP_FILTER,
    End.NO_TRANSLATION: Reason.NO_ENDPOINT,
    End.PARENT: Reason.PARENT,
    End.LOOP: Reason.NO_ROUTE,
}

REMEDY: Final = {
    Reason.INVALID_DROP: (
        "set net.netfilter.nf_conntrack_tcp_be_liberal=1 on every node and restart kube-proxy (1.29 "
        "or later); older ones: kube-proxy in IPVS mode, or use a Service instead of the pod's address"
    ),
    Reason.NO_ROUTE: (
        "compare `ip rule` and `ip route show table all` there with what the coordinator writes; "
        "delete pods that are older than a change of its networks"
    ),
    Reason.NO_NEIGHBOUR: "check that both are on one layer 2 network, and that the address exists",
    Reason.RP_FILTER: "set net.ipv4.conf.all.rp_filter and that of the interface to 0 there",
    Reason.NO_ENDPOINT: "check that the Service has endpoints and that kube-proxy runs on that node",
    Reason.PARENT: (
        "chain the coordinator after the CNI plugin: it gives node and pod a veth pair of their own"
    ),
    Reason.NOT_LISTENING: "check that a policy or another program does not answer in the pod's place",
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """
    Where packets ended and why.

    The ways are what was worked out, empty where there was nothing to follow.
    """

    reason: Reason
    station: str
    sentence: str
    request: Walk | None = None
    reply: Walk | None = None

    @property
    def remedy(self) -> str:
        """What to do."""
        return REMEDY.get(self.reason, "look at both ends with tcpdump")


@dataclass(frozen=True, slots=True)
class Flow:
    """A transfer that failed, and between which."""

    transfer: Transfer
    client: NamespaceSurvey
    service: IPAddress | None = None  # when a Service was asked

    @property
    def packet(self) -> Ends | None:
        """The client's packets; None when it had not even an address to send from."""
        asked = self.transfer
        if asked.client is None:
            return None
        return Ends(asked.client, asked.client_port, asked.server, asked.server_port)


def diagnose(flow: Flow, before: World, after: World) -> Diagnosis:
    """
    Find the hop where the packets ended.

    Args:
        flow: what failed.
        before: the namespaces before the transfer.
        after: the same namespaces after it, while conntrack still remembers it.
    """
    packet = flow.packet
    if packet is None:
        return Diagnosis(
            Reason.NO_ROUTE,
            flow.client.name,
            f"{flow.client.name} has no route to {flow.transfer.server}",
        )
    request = walk(after, flow.client, packet, service=flow.service)
    reply = _walk_back(after, request)
    found = (
        _by_invalid(before, after, packet, request, reply)
        or _by_walk(request, reply)
        or _by_refusal(flow, request, reply)
    )
    if found:
        return Diagnosis(*found, request, reply)
    return Diagnosis(Reason.UNKNOWN, *_unknown(request, reply), request, reply)


def _walk_back(world: World, request: Walk) -> Walk | None:
    """Follow the answer of a packet that arrived."""
    if request.end is not End.ARRIVED:
        return None
    server = next(station for station in world if station.name == request.hops[-1].station)
    return walk(world, server, request.last.reversed())


Finding = tuple[Reason, str, str]


def _by_invalid(
    before: World, after: World, packet: Ends, request: Walk, reply: Walk | None
) -> Finding | None:
    """
    Look, on a node that saw one direction only, for the rule that drops INVALID packets.

    Its counter rose, or the answer passes the node by; the counter alone proves nothing: the rule
    is there for everybody.

    Source: docs/reference/packet-paths.md#half-seen-connections.
    """
    if request.end not in {End.ARRIVED, End.UNSEEN}:
        return None
    for station in (each for each in after if not each.pod and each.name in request.stations):
        tracked = _half_seen(station, packet, request)
        if tracked is None:
            continue
        risen = _risen(before, station, packet.source.version)
        passed_by = reply is not None and station.name not in reply.stations
        rules = [
            counter.rule for counter in station.drops if counter.family == packet.source.version
        ]
        if rules and (risen or passed_by):
            return (
                Reason.INVALID_DROP,
                station.name,
                _invalid_words(station, tracked, rules[0], risen),
            )
    return None


def _half_seen(station: NamespaceSurvey, packet: Ends, request: Walk) -> Tracked | None:
    """Find the connection where no answer of it was seen."""
    for ends in (packet, request.last):
        tracked = station.connection(ends)
        if tracked is not None and not tracked.replied:
            return tracked
    return None


def _risen(before: World, station: NamespaceSurvey, family: int) -> int:
    """
    Count the packets that the rules dropped meanwhile.

    A count that fell was started again by kube-proxy.
    """
    earlier = next(
        (each for each in before if each.name == station.name), NamespaceSurvey(station.node)
    )
    counts = {
        counter.rule: counter.packets for counter in earlier.drops if counter.family == family
    }
    rises = [
        (counter.packets, counts.get(counter.rule, 0))
        for counter in station.drops
        if counter.family == family
    ]
    return sum(now - then if now >= then else now for now, then in rises)


def _invalid_words(station: NamespaceSurvey, tracked: Tracked, rule: str, risen: int) -> str:
    dropped = f"; the rule dropped {risen} packets meanwhile" if risen else ""
    return (
        f"answers do not pass {station.name}, so its conntrack ({tracked.state}, unreplied) takes "
        f"what follows for INVALID, and `{rule}` drops it{dropped}"
    )


def _by_walk(request: Walk, reply: Walk | None) -> Finding | None:
    """Take the end of one of the ways."""
    for direction, way in (("the request", request), ("the answer", reply)):
        if way is not None and way.end in _OF_END:
            return _OF_END[way.end], way.hops[-1].station, f"{direction} ends there: {way.why}"
    return None


def _by_refusal(flow: Flow, request: Walk, reply: Walk | None) -> Finding | None:
    """Explain a connection that was refused although both ways are open."""
    if "refused" in flow.transfer.words and reply is not None and reply.end is End.ARRIVED:
        return (
            Reason.NOT_LISTENING,
            request.hops[-1].station,
            f"it was reached and refused: {flow.transfer.words}",
        )
    return None


def _unknown(request: Walk, reply: Walk | None) -> tuple[str, str]:
    """Say how far the packets can be followed."""
    way = next(
        (way for way in (request, reply) if way is not None and way.end is not End.ARRIVED),
        reply or request,
    )
    return way.hops[
        -1
    ].station, f"rules, routes, neighbours and connections show nothing that ends it: {way.why}"
