"""
Why a transfer failed: at which namespace its packets ended, and by what.

Two surveys of all namespaces involved are compared, one before the failing transfer and one after
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.connectivity.firewall import (
    Dropping,
    FilterRule,
    Firewall,
    Passage,
    State,
    droppings,
)
from spiderpool.connectivity.matrix import Transfer
from spiderpool.connectivity.packet_path import End, Hop, Walk, World, walk
from spiderpool.connectivity.survey import Ends, NamespaceSurvey, Tracked

PAIR: Final = "veth0"
"""The pod's end of the coordinator's pair: docs/reference/coordinator.md."""


class Reason(StrEnum):
    """What ended the packets."""

    INVALID_DROP = "INVALID drop"
    INVALID_BY_POLICY = "INVALID drop by policy"  # of a program that carries out NetworkPolicy
    POLICY = "policy drop"
    NO_POD_ROUTE = "no route to the pod network"
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
        "set net.netfilter.nf_conntrack_tcp_be_liberal=1 on every node and restart kube-proxy "
        "(1.29 or later); older ones: kube-proxy in IPVS mode, or use a Service instead of the "
        "pod's address"
    ),
    Reason.INVALID_BY_POLICY: (
        "nf_conntrack_tcp_be_liberal does not change this rule: use a Service instead of the pod's "
        "address, or let the rule's program do without it (kube-router: --run-firewall=false)"
    ),
    Reason.POLICY: (
        "look at the NetworkPolicies that select the two pods, and at the overlay's own kinds of "
        "policy"
    ),
    Reason.NO_POD_ROUTE: (
        "status.overlayPodCIDR of the SpiderCoordinator must contain the address: set "
        "spec.podCIDRType (`cluster` for overlays that `auto` does not know), then delete the pod "
        "so that it is created again"
    ),
    Reason.NO_ROUTE: (
        "compare `ip rule` and `ip route show table all` there with what the coordinator writes; "
        "delete pods that are older than a change of its networks"
    ),
    Reason.NO_NEIGHBOUR: "check that both are on one layer 2 network, and that the address exists",
    Reason.RP_FILTER: "set net.ipv4.conf.all.rp_filter and that of the interface to 0 there",
    Reason.NO_ENDPOINT: (
        "check that the Service has endpoints and that kube-proxy runs on that node"
    ),
    Reason.PARENT: (
        "chain the coordinator after the CNI plugin: it gives node and pod a veth pair of their own"
    ),
    Reason.NOT_LISTENING: (
        "check that a policy or another program does not answer in the pod's place"
    ),
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
        or _by_policy(before, after, request)
        or _by_missing_route(flow, request)
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

    Its counter rose, or the answer passes the node by; the rule alone proves nothing: it is there
    for everybody.

    Source: docs/reference/packet-paths.md#half-seen-connections.
    """
    if request.end not in {End.ARRIVED, End.UNSEEN}:
        return None
    for station, hop in _node_hops(after, request):
        tracked = _half_seen(station, packet, request)
        if tracked is None:
            continue
        passed_by = reply is not None and station.name not in reply.stations
        rules = _rules_on_the_way(before, station, hop, request, State.INVALID)
        found = next((each for each in rules if each.risen or (passed_by and each.drop.sure)), None)
        if found:
            return (
                Reason.INVALID_DROP if found.drop.of_kube_proxy else Reason.INVALID_BY_POLICY,
                station.name,
                _invalid_words(station, tracked, found),
            )
    return None


def _by_policy(before: World, after: World, request: Walk) -> Finding | None:
    """
    Find another rule whose counter rose, on the nodes that the request passed, and that drops it.

    Where a node refuses the first packet, conntrack remembers nothing of it, so a Service's
    address looks as if nobody had replaced it.
    """
    for station, hop in _node_hops(after, request):
        rules = _rules_on_the_way(before, station, hop, request, State.NEW)
        found = next((each for each in rules if each.risen), None)
        if found:
            rule = found.drop.rule
            verb = "refused" if rule.target == "REJECT" else "dropped"
            words = f"`{rule.text}` of chain {rule.chain} {verb} {found.risen} packets meanwhile"
            return Reason.POLICY, station.name, words
    return None


def _node_hops(world: World, way: Walk) -> Iterator[tuple[NamespaceSurvey, Hop]]:
    """Walk the nodes on a way."""
    stations = {station.name: station for station in world if not station.pod}
    return ((stations[hop.station], hop) for hop in way.hops if hop.station in stations)


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A rule that may have dropped the packet, and how many packets it dropped meanwhile."""

    drop: Dropping
    risen: int


def _rules_on_the_way(
    before: World, station: NamespaceSurvey, hop: Hop, request: Walk, state: State
) -> list[_Suspect]:
    """
    Return the rules of a node that drop the packet or may, the likeliest first.

    Args:
        before: the namespaces before the transfer.
        station: the node, after it.
        hop: how the packet passed it.
        request: the packet's way.
        state: what conntrack says of the packet; decides which rules are meant.
    """
    if hop.packet is None:
        return []
    family = hop.packet.source.version
    replaced = not (request.end is End.NO_TRANSLATION and hop is request.hops[-1])
    destination = hop.packet.destination if replaced else None
    passage = Passage(hop.packet.source, destination, hop.entered, hop.left, state)
    earlier = next((each for each in before if each.name == station.name), station)
    suspects = [
        _Suspect(drop, _risen(earlier.firewalls.get(family, {}), drop.rule))
        for drop in droppings(station.firewalls.get(family, {}), passage)
        if state is State.NEW or drop.rule.drops_invalid
    ]
    return sorted(suspects, key=lambda each: (not each.risen, not each.drop.sure, -each.risen))


def _risen(earlier: Firewall, rule: FilterRule) -> int:
    """
    Count the packets that a rule dropped meanwhile.

    A count that fell was started again: kube-proxy and kube-router rewrite their rules.
    """
    then = next((old.packets for old in earlier.get(rule.chain, ()) if old.text == rule.text), 0)
    return rule.packets - then if rule.packets >= then else rule.packets


def _half_seen(station: NamespaceSurvey, packet: Ends, request: Walk) -> Tracked | None:
    """Find the connection where no answer of it was seen."""
    for ends in (packet, request.last):
        tracked = station.connection(ends)
        if tracked is not None and not tracked.replied:
            return tracked
    return None


def _invalid_words(station: NamespaceSurvey, tracked: Tracked, found: _Suspect) -> str:
    dropped = f"; the rule dropped {found.risen} packets meanwhile" if found.risen else ""
    return (
        f"answers do not pass {station.name}, so its conntrack ({tracked.state}, unreplied) takes "
        f"what follows for INVALID, and `{found.drop.rule.text}` drops it{dropped}"
    )


def _by_missing_route(flow: Flow, request: Walk) -> Finding | None:
    """Notice a pod of the underlay that sends to the cluster by the underlay's gateway."""
    hop = request.hops[0]
    elsewhere = request.end is End.UNSEEN and len(request.hops) == 1 and hop.left != PAIR
    if not elsewhere or flow.client.link(PAIR) is None:
        return None
    words = (
        f"{hop.station} hands {flow.transfer.server} to the gateway {hop.next} by {hop.left}: "
        f"the coordinator gave it no route by {PAIR} to that network"
    )
    return Reason.NO_POD_ROUTE, hop.station, words


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
