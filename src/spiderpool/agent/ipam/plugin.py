"""
The IPAM plugin `spiderpool` for our own executable.

CNI verbs become operations of `Ipam`, answers become CNI results.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from spiderpool.agent.ipam.detection import Detector
from spiderpool.agent.ipam.master_addresses import with_master_addresses
from spiderpool.agent.ipam.socket_operations import Ipam
from spiderpool.agent.node.caller import Peer, PodCall, host_of, read_pod
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.request import Call
from spiderpool.cni.result import Ip, Result, Route, parse_result, render
from spiderpool.cni.valid_attachments import Attachment, valid_attachments
from spiderpool.errors import CheckFailed, NoPool, Unsupported
from spiderpool.ipam.pod_routes import answered_routes
from spiderpool.networks.ipam_request import read_ipam_request


@dataclass(frozen=True, slots=True)
class IpamPlugin:
    """Serves the CNI calls of `spiderpool`."""

    ipam: Ipam
    detector: Detector

    async def __call__(self, call: Call, peer: Peer) -> str:
        """Serve one call; gives what the executable prints."""
        match call.command:
            case "ADD":
                return await self._add(call, peer)
            case "DEL":
                await self.ipam.release(read_pod(call), call.container_id)
            case "CHECK":
                check(call, self.ipam.held(read_pod(call)))
            case "STATUS":
                await self.ipam.require_ready()
            case "GC":
                await self._collect(call)
            case _:
                raise Unsupported(f"CNI_COMMAND {call.command} is not supported by spiderpool")
        return ""

    async def _add(self, call: Call, peer: Peer) -> str:
        pod, request = read_pod(call), read_ipam_request(call)
        device_id = str(lookup(call.config, "deviceID") or "")
        with host_of(peer) as host:
            request = await with_master_addresses(request, host, call.netns, device_id)
            allocation = await self.ipam.allocate(
                pod, request, lambda allocation: self.detector.verify(call, host, allocation)
            )
        return render(to_result(allocation.records, call.ifname), call.cni_version)

    async def _collect(self, call: Call) -> None:
        """
        Treat what the runtime does not know any more, on this node and of this network, as deleted.

        The judgement is that of a DEL, so a living pod keeps its addresses. All is tried; the first
        error is told at the end.
        """
        alive = valid_attachments(call.config)
        stale = {
            of_pod(record)
            for record in self.ipam.informers.records
            if record.held and is_stale(record, call.network, alive)
        }
        ended = await asyncio.gather(
            *(self.ipam.release(pod, sandbox) for pod, sandbox in stale), return_exceptions=True
        )
        for error in ended:
            if isinstance(error, BaseException):
                raise error


def to_result(records: Iterable[SpiderIP], ifname: str) -> Result:
    """
    Return what is for one interface, IPv4 before IPv6.

    Source: docs/reference/allocation.md#answer.
    """
    mine = sorted(
        (record.spec for record in records if record.spec.holder.nic == ifname),
        key=lambda spec: spec.family,
    )
    if not mine:
        raise NoPool(f"no IPPool available: no address was allocated for interface {ifname}")
    return Result(
        ips=tuple(Ip(spec.interface, spec.gateway_address) for spec in mine),
        routes=tuple(
            Route(ip_network(route.dst, strict=False), ip_address(route.gw))
            for spec in mine
            for route in answered_routes(spec)
        ),
    )


def check(call: Call, held: Iterable[SpiderIP]) -> None:
    """Raise `CheckFailed` unless the pod still holds what ADD gave to this interface."""
    mine = {record.spec.address for record in held if record.spec.holder.nic == call.ifname}
    pod = f"{call.args.namespace}/{call.args.name}"
    if not mine:
        raise CheckFailed(f"pod {pod} holds no address for {call.ifname}")
    previous: Mapping[str, Any] | None = lookup(call.config, "prevResult")
    if previous is None:
        return
    # In a chain other plugins add addresses of theirs: ours must be among them, no more.
    given = {ip.address.ip for ip in parse_result(previous).ips}
    missing = sorted(map(str, mine - given))
    if missing:
        raise CheckFailed(
            f"pod {pod} holds {', '.join(missing)} for {call.ifname}, the result of ADD does not "
            "have it"
        )


def is_stale(record: SpiderIP, network: str, alive: frozenset[Attachment]) -> bool:
    """Return whether a record is of this network, and its interface unknown to the runtime."""
    holder = record.spec.holder
    return (
        bool(holder.container_id)
        and holder.network == network
        and Attachment(holder.container_id, holder.nic) not in alive
    )


def of_pod(record: SpiderIP) -> tuple[PodCall, str]:
    """Return the pod and the sandbox of a record."""
    holder = record.spec.holder
    return PodCall(holder.namespace, holder.name, holder.uid), holder.container_id
