"""
Detection of address conflicts and of gateways that do not answer, then the announcement.

All addresses of a NIC are asked for at once: 0.2 s for conflicts, 0.5 s at most for gateways. An
ADD that meets addresses in use tries three times, so that detection costs it 1.1 s at most.
Source: docs/reference/allocation.md#detection, docs/reference/objects.md#states-of-a-spiderip.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.ipam.allocator import Allocation
from spiderpool.agent.records.releases import Deletions
from spiderpool.api.crd.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.cni.request import Call
from spiderpool.errors import (
    Conflict,
    NotFound,
    SpiderpoolError,
    TryAgain,
    UnknownOutcome,
    WireConflict,
)
from spiderpool.ipam.response import detections
from spiderpool.kernel import neighbour_probe
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.pod_network import find_link, set_up
from spiderpool.kernel.rtnetlink import RouteSocket
from spiderpool.model.facts import Facts
from spiderpool.model.pod import holder_kind

# addresses that one ADD tries for a slot when it meets one in use after the other
ATTEMPTS: Final = 3
# Addresses of one pool that a node quarantines at a time: a machine with a wrong address has one,
# or a few; one that answers everything is a broken router, or an attack.
MOST_QUARANTINED: Final = 16
# While a virtual machine migrates, two pods use its address
# (docs/reference/allocation.md#detection).
ANNO_MIGRATION: Final = "kubevirt.io/migrationJobName"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """What to ask about the addresses of one NIC; `gateways` by own address."""

    ifname: str
    conflicts: tuple[IPAddress, ...] = ()
    gateways: Mapping[IPAddress, IPAddress] = field(default_factory=dict)
    announced: tuple[IPAddress, ...] = ()


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """Who answered: MACs by address in conflict, and the gateways that nobody answered for."""

    conflicts: Mapping[IPAddress, str] = field(default_factory=dict)
    silent: tuple[IPAddress, ...] = ()


class InUse(WireConflict):
    """
    Addresses that were about to be given are in use; `set_aside`.

    They are quarantined, another ADD gets others.
    """

    def __init__(self, ifname: str, macs: Mapping[IPAddress, str], *, set_aside: bool) -> None:
        """
        Say so in the original's words.

        Args:
            ifname: the NIC.
            macs: of the others, by address.
            set_aside: whether these addresses are quarantined.
        """
        words = (
            f"ip conflict: pod's interface {ifname} with an conflicting ip {ip}, {ip} is located "
            f"at {mac}"
            for ip, mac in macs.items()
        )
        super().__init__("; ".join(words))
        self.set_aside = set_aside


@dataclass(frozen=True, slots=True)
class Detector:
    """
    Asks the wire about what an ADD is about to answer.

    `quarantined` counts this node's quarantined addresses of a pool; `on_excess` is told of a pool,
    in which words, when one more is not quarantined because of that.
    """

    deletions: Deletions
    quarantined: Callable[[str], int] = lambda _: 0
    on_excess: Callable[[str, str], None] = lambda *_: None

    async def verify(self, call: Call, host: Namespaces, allocation: Allocation) -> None:
        """
        Ask about the addresses of the call's NIC, then announce them.

        Args:
            call: the ADD.
            host: namespaces of the executable that calls.
            allocation: what it is to get.

        Raises:
            InUse: somebody else answers for an address.
            TryAgain: a gateway does not answer.
        """
        probe_request = read_probe_request(allocation, call.ifname)
        try:
            netns = await host.run(lambda: Namespaces.network(call.netns))
        except NotFound as error:
            log.debug("wire is not asked", interface=call.ifname, reason=error.message)
            return
        with netns:
            findings = await netns.run(lambda: look(probe_request))
        if findings.conflicts:
            raise await self._set_aside(call.ifname, allocation, findings.conflicts)
        if findings.silent:
            raise TryAgain("; ".join(f"gateway {ip} is unreachable" for ip in findings.silent))

    async def _set_aside(
        self, ifname: str, allocation: Allocation, macs: Mapping[IPAddress, str]
    ) -> InUse:
        """Quarantine addresses in conflict; static ones stay with their pod, which has to wait."""
        mine = [record for record in allocation.records if record.spec.address in macs]
        loose = [record for record in mine if not record.spec.static]
        quarantined = await asyncio.gather(
            *(self._quarantine(record, macs[record.spec.address]) for record in loose)
        )
        return InUse(ifname, macs, set_aside=len(loose) == len(mine) and all(quarantined))

    async def _quarantine(self, record: SpiderIP, mac: str) -> bool:
        """
        Let nobody have an address for a while.

        A machine that answers every probe would empty the pool that way: above the limit the
        address is released, and only this ADD fails. Tells whether it was quarantined.
        """
        if self.quarantined(record.spec.pool) >= MOST_QUARANTINED:
            text = (
                f"{mac} answers for {record.spec.ip} and {MOST_QUARANTINED} addresses of this pool "
                "are quarantined by this node; no more are, find out what has that MAC"
            )
            self.on_excess(record.spec.pool, text)
            return False  # the ADD that fails gives it back
        with suppress(Conflict, UnknownOutcome):  # somebody else changed it meanwhile
            await self.deletions.release(record, IPState.QUARANTINED, conflict_mac=mac)
        log.warning(
            "address in use by somebody else", ip=record.spec.ip, pool=record.spec.pool, mac=mac
        )
        return True


def quarantined_in(records: Iterable[SpiderIP], pool: str) -> int:
    """Count the quarantined addresses of a pool."""
    return sum(
        record.spec.state is IPState.QUARANTINED and record.spec.pool == pool for record in records
    )


def read_probe_request(allocation: Allocation, ifname: str) -> ProbeRequest:
    """Decide what to ask; only the addresses of this NIC are its business."""
    features, pools = allocation.facts.features, allocation.facts.pools
    conflicts: list[IPAddress] = []
    gateways: dict[IPAddress, IPAddress] = {}
    mine = [record for record in allocation.records if record.spec.holder.nic == ifname]
    for record in mine:
        conflict, gateway = detections(record, features, pools)
        if conflict and not _is_migrating(allocation.facts):
            conflicts.append(record.spec.address)
        if gateway and (ip := record.spec.gateway_address) is not None:
            gateways[record.spec.address] = ip
    return ProbeRequest(
        ifname, tuple(conflicts), gateways, tuple(record.spec.address for record in mine)
    )


def _is_migrating(facts: Facts) -> bool:
    """Return whether a virtual machine migrates into the pod: anybody may write the annotation."""
    machine = holder_kind(facts.owner, facts.features) is HolderKind.VIRTUAL_MACHINE
    return machine and ANNO_MIGRATION in facts.pod.metadata.annotations


def look(probe_request: ProbeRequest) -> ProbeResult:
    """
    Ask, then announce, in the pod's namespace.

    A NIC that is not there yet cannot be asked: some plugins make it after they have its addresses.
    """
    with RouteSocket() as pod:
        link = find_link(pod, probe_request.ifname)
        if link is None:
            return ProbeResult()
        if not link.up:
            set_up(pod, link)
    try:
        found = solicit(probe_request)
    except SpiderpoolError as error:
        if probe_request.gateways:
            raise
        log.info("wire is not asked", interface=probe_request.ifname, reason=error.message)
        return ProbeResult()
    if not found.conflicts and not found.silent:
        neighbour_probe.announce(probe_request.ifname, probe_request.announced)
    return found


def solicit(probe_request: ProbeRequest) -> ProbeResult:
    """Ask for conflicts first: nobody may learn of an address that is somebody else's."""
    answers = neighbour_probe.solicit(
        probe_request.ifname,
        _probes(probe_request.conflicts),
        tries=neighbour_probe.CONFLICT_TRIES,
    )
    if answers:
        return ProbeResult(answers)
    probes = [
        neighbour_probe.Probe(gateway, own) for own, gateway in probe_request.gateways.items()
    ]
    answered = neighbour_probe.solicit(
        probe_request.ifname, probes, tries=neighbour_probe.GATEWAY_TRIES
    )
    return ProbeResult(
        silent=tuple(probe.target for probe in probes if probe.target not in answered)
    )


def _probes(ips: Iterable[IPAddress]) -> list[neighbour_probe.Probe]:
    return [neighbour_probe.Probe(ip) for ip in ips]
