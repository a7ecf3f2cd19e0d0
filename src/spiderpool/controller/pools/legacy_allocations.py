"""
What Go Spiderpool left in a pool's status: addresses, holders, and the records they become.

Reading and writing is done by `imports`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

import msgspec

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.endpoint import EndpointIP, SpiderEndpoint
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application, Holder, HolderKind, SpiderIP
from spiderpool.errors import InvalidRequest
from spiderpool.model.pool import Pool
from spiderpool.records.build import nic_record, pool_record

STATIC_OWNERS: Final = {"StatefulSet": "apps/v1", "VirtualMachineInstance": "kubevirt.io/v1"}

Endpoints = Mapping[tuple[str, str], SpiderEndpoint]


@dataclass(frozen=True, slots=True)
class Allocation:
    """
    One entry of `status.allocatedIPs`: an address and its pod (of a virtual machine.

    The machine's name).
    """

    ip: IPAddress
    namespace: str
    name: str
    uid: str


class _Entry(msgspec.Struct, rename="camel"):
    """The value of an entry as it is written."""

    pod: str
    pod_uid: str


def read_allocations(pool: SpiderIPPool) -> list[Allocation]:
    """Read the allocations in a pool's status; `InvalidRequest` names what cannot be read."""
    text = pool.status.allocated_ips
    if text is None:
        return []
    try:
        entries = msgspec.json.decode(text, type=dict[str, _Entry])
        return [_read_allocation(ip, entry) for ip, entry in entries.items()]
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidRequest(
            f"pool {pool.metadata.name}: status.allocatedIPs cannot be read ({error}), so its "
            "allocations are not taken over; "
            "correct or remove the field"
        ) from None


def _read_allocation(ip: str, entry: _Entry) -> Allocation:
    """Read one entry."""
    namespace, slash, name = entry.pod.partition("/")
    if not (namespace and slash and name):
        raise ValueError(f"pod {entry.pod!r} of {ip} is not namespace/name")
    return Allocation(ip_address(ip), namespace, name, entry.pod_uid)


def render_import(pool: Pool, allocation: Allocation, endpoint: SpiderEndpoint | None) -> SpiderIP:
    """
    Make the record of an allocation.

    Args:
        pool: where the address is from.
        allocation: the entry of the status.
        endpoint: of the pod; without it NIC and node are not known, and the record lives as long as
        the pod.
    """
    nic = None if endpoint is None else _nic_of(endpoint, str(allocation.ip))
    holder = _holder(allocation, endpoint, nic)
    static = endpoint is not None and _is_static(endpoint)
    if nic is None:
        return pool_record(pool, allocation.ip, holder, static=static)
    return nic_record(nic, allocation.ip, pool.subnet.prefixlen, pool.name, holder, static=static)


def same_holder(record: SpiderIP, wanted: SpiderIP) -> bool:
    """Return whether an address that is taken already is held by the one who should hold it."""
    return record.spec.pool == wanted.spec.pool and record.spec.holder.uid == wanted.spec.holder.uid


def _holder(
    allocation: Allocation, endpoint: SpiderEndpoint | None, nic: EndpointIP | None
) -> Holder:
    """Say who holds the address; the sandbox is not known."""
    status = endpoint.status if endpoint is not None else None
    machine = status is not None and status.owner_controller_type == "VirtualMachineInstance"
    return Holder(
        kind=HolderKind.VIRTUAL_MACHINE if machine else HolderKind.POD,
        namespace=allocation.namespace,
        name=allocation.name,
        uid=allocation.uid,
        nic=nic.interface if nic else "",
        node=status.current.node if status else "",
        owner=_owner(endpoint),
    )


def _owner(endpoint: SpiderEndpoint | None) -> Application | None:
    """Return the application as far as an endpoint tells it."""
    if endpoint is None or endpoint.status is None:
        return None
    kind = endpoint.status.owner_controller_type
    return Application(
        api_version=STATIC_OWNERS.get(kind, ""),
        kind=kind,
        name=endpoint.status.owner_controller_name,
        uid="",
    )


def _is_static(endpoint: SpiderEndpoint) -> bool:
    """
    Return whether the addresses outlive the pod.

    Such an endpoint has no owner.

    Source: docs/reference/objects.md#spiderendpoint.
    """
    kind = endpoint.status.owner_controller_type if endpoint.status else ""
    return kind in STATIC_OWNERS and not endpoint.metadata.owner_references


def _nic_of(endpoint: SpiderEndpoint, ip: str) -> EndpointIP | None:
    """
    Find the NIC that has an address; two NICs of a pod on one pool shared theirs.

    Then the first.
    """
    nics = endpoint.status.current.ips if endpoint.status else ()
    return next((nic for nic in nics if ip in {_bare(nic.ipv4), _bare(nic.ipv6)}), None)


def _bare(address: str | None) -> str:
    """Take the prefix length off an address and write it canonically."""
    return "" if not address else str(ip_address(address.partition("/")[0]))
