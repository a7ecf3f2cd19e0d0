"""
What a living pod has that no record says: told by its endpoint, its interfaces, or its status.

The endpoint knows most (pools, routes), interfaces know all NICs, the status the first one only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from itertools import islice

from spiderpool.addressing.ranges import parse_address
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.endpoint import EndpointIP, SpiderEndpoint
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.configuration.config import Features
from spiderpool.errors import InvalidRequest
from spiderpool.model.claim import Slot, slot_of
from spiderpool.model.limits import NICS
from spiderpool.model.pod import full_name, is_static
from spiderpool.model.pool import Pool
from spiderpool.records.build import nic_record, pod_holder, pool_record

NICAddress = tuple[str, IPAddress]
"""A NIC, and an address that it has."""


def only_home(ip: IPAddress, pools: Iterable[Pool]) -> Pool | None:
    """Return the pool that has an address; None where no pool has it, or several have."""
    homes = [pool for pool in pools if ip in pool.total]
    return homes[0] if len(homes) == 1 else None


def unrecorded(
    in_use: Iterable[NICAddress], held: Iterable[SpiderIP], pools: Iterable[Pool]
) -> tuple[NICAddress, ...]:
    """
    Return addresses of pools on a pod's interfaces for whose NIC and family there is no record.

    A NIC that has a record may have more addresses for a moment: a former sandbox's.

    Args:
        in_use: what the interfaces have.
        held: the pod's records.
        pools: all pools.
    """
    slots, candidates = set(map(slot_of, held)), tuple(pools)
    return tuple(
        (nic, ip)
        for nic, ip in in_use
        if (nic, ip.version) not in slots and only_home(ip, candidates) is not None
    )


def lost_records(
    pod: Pod,
    owner: Application,
    features: Features,
    *,
    held: Sequence[SpiderIP],
    endpoint: SpiderEndpoint | None,
    in_use: Sequence[NICAddress],
    pools: Iterable[Pool],
) -> tuple[SpiderIP, ...]:
    """
    Make the records that a living pod should have beside those that it has.

    Args:
        pod: the pod.
        owner: its top owner.
        features: the switches of the configuration.
        held: its records.
        endpoint: what was written of this very pod; None = nothing.
        in_use: what its interfaces have.
        pools: all pools.
    Returns:
        At most one for each NIC and family. The endpoint only says more about what an interface
        has or the pod's status shows, in a pool that exists: anybody may have written it. A pod
        that still has records gets back only what an interface has.

    Raises:
        InvalidRequest: the endpoint cannot be read.
    """
    pools = tuple(pools)
    told = () if endpoint is None else records_of_endpoint(endpoint, pod, owner, features)
    ips = {ip for _, ip in in_use} | (set() if held else set(_shown(pod)))
    told = tuple(
        record for record in told if record.spec.address in ips and _is_given(record, pools)
    )
    seen = records_of_interfaces(in_use, pod, owner, features, pools)
    shown = () if held or told or seen else records_of_status(pod, owner, features, pools)
    found: dict[Slot, SpiderIP] = {}
    for record in (*told, *seen, *shown):
        found.setdefault(slot_of(record), record)
    taken = set(map(slot_of, held))
    return tuple(record for slot, record in found.items() if slot not in taken)


def records_of_interfaces(
    in_use: Iterable[NICAddress],
    pod: Pod,
    owner: Application,
    features: Features,
    pools: Iterable[Pool],
) -> tuple[SpiderIP, ...]:
    """
    Return records for what a pod's interfaces have of pools.

    Addresses in the pod's status come first: a former sandbox may still have another one.

    Args:
        in_use: what the interfaces have.
        pod: the pod.
        owner: its top owner.
        features: the switches of the configuration.
        pools: all pools; an address that several have is left out.
    """
    pools, static = tuple(pools), is_static(owner, features)
    shown = {ip.ip for ip in pod.status.pod_ips}
    ordered = sorted(in_use, key=lambda pair: str(pair[1]) not in shown)
    # A pod with NET_ADMIN makes as many interfaces as it likes: it is not given more for them than
    # a pod can ask for.
    nics = set(islice(dict.fromkeys(nic for nic, _ in ordered), 1 + NICS))
    return tuple(
        pool_record(home, ip, pod_holder(pod, owner, features, nic), static=static)
        for nic, ip in ordered
        if nic in nics and (home := only_home(ip, pools)) is not None
    )


def records_of_endpoint(
    endpoint: SpiderEndpoint, pod: Pod, owner: Application, features: Features
) -> tuple[SpiderIP, ...]:
    """
    Return the records that an endpoint describes.

    Args:
        endpoint: the pod's.
        pod: the pod.
        owner: its top owner.
        features: the switches of the configuration.
    Raises:
        InvalidRequest: somebody edited an address into text that is none.
    """
    nics = endpoint.status.current.ips if endpoint.status else ()
    try:
        return tuple(
            _record_of_nic(nic, ip_interface(address), pool, pod, owner, features)
            for nic in nics
            for address, pool in ((nic.ipv4, nic.ipv4_pool), (nic.ipv6, nic.ipv6_pool))
            if address and pool
        )
    except ValueError as error:
        raise InvalidRequest(
            f"SpiderEndpoint {'/'.join(endpoint.key)} cannot be read: {error}"
        ) from error


def records_of_status(
    pod: Pod, owner: Application, features: Features, pools: Iterable[Pool]
) -> tuple[SpiderIP, ...]:
    """
    Return records for the addresses in a pod's status that lie in a pool.

    The status has the first interface only. It does not say which pool gave an address, so one
    that several pools have is left out.

    Args:
        pod: the pod.
        owner: its top owner.
        features: the switches of the configuration.
        pools: all pools.
    """
    shown = tuple(("eth0", ip) for ip in _shown(pod))
    return records_of_interfaces(shown, pod, owner, features, pools)


def _shown(pod: Pod) -> tuple[IPAddress, ...]:
    """Return the addresses in a pod's status."""
    return tuple(parse_address(ip.ip) for ip in pod.status.pod_ips if ip.ip)


def _is_given(record: SpiderIP, pools: Iterable[Pool]) -> bool:
    """Return whether the pool that a record names has its address."""
    return any(
        pool.name == record.spec.pool and record.spec.address in pool.total for pool in pools
    )


def lost_text(record: SpiderIP, found: SpiderIP, pod: Pod) -> str:
    """
    Return a sentence about who has the address that a living pod uses.

    Args:
        record: what the pod's record should be.
        found: the record that exists.
        pod: the pod.
    """
    theirs = found.spec.holder
    return (
        f"{record.spec.ip} on {record.spec.holder.nic} of pod {full_name(pod)} is held by "
        f"{theirs.namespace}/{theirs.name} "
        f"on node {theirs.node or '(none)'}; two pods may use it: delete one of them"
    )


def _record_of_nic(
    nic: EndpointIP,
    interface: IPv4Interface | IPv6Interface,
    pool: str,
    pod: Pod,
    owner: Application,
    features: Features,
) -> SpiderIP:
    """Return the record of one address of a NIC; raises `ValueError` for routes that are none."""
    for route in nic.routes:
        ip_network(route.dst, strict=False)
    holder = pod_holder(pod, owner, features, nic.interface)
    static = is_static(owner, features)
    return nic_record(nic, interface.ip, interface.network.prefixlen, pool, holder, static=static)
