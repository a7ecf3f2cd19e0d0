"""
The audit: four sources of the same addresses are compared.

Every difference gets its cause and the command that ends it.

The sources: pods that live; SpiderIPs; what is derived from them (SpiderEndpoints, pool status;
what SpiderSubnets say of their pools counts here as well); the interfaces, as agents read them from
their kernels. Sources are read one after another, so a difference counts only when a second
reading has it too (`lasting`); projections may lag behind by `Snapshot.lag_s`.
"""

from __future__ import annotations

import enum
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.audit.remediation import (
    delete_pod,
    move_off,
    record_by_hand,
    remove_namespace,
    restart_agents,
    restart_controller,
)
from spiderpool.audit.snapshot import Name, Slot, Snapshot
from spiderpool.ipam.automatic_pool import controlling_subnet
from spiderpool.ipam.grants_of_pools import misgiven
from spiderpool.model.claim import ClaimKey, slot_of
from spiderpool.model.pod import full_name, is_alive
from spiderpool.model.pool import Pool, is_imported
from spiderpool.model.subnet import Subnet
from spiderpool.records.projections import pool_status
from spiderpool.records.verdicts import NO_OWNERS, Action, judge_leak

LOST: Final = "its records were lost, and the node's agent has not made them again"


class Kind(enum.StrEnum):
    """What does not agree."""

    LEAK = "Leak"  # a record whose holder is gone
    # a static record that names the pod before the one that lives
    NOT_HANDED_OVER = "NotHandedOver"
    DUPLICATE_CLAIM = "DuplicateClaim"  # two addresses for the same claim
    POOL_GONE = "PoolGone"  # a record of a pool that does not exist
    OUTSIDE_POOL = "OutsidePool"  # a record whose address its pool does not have
    UNRECORDED = "Unrecorded"  # an address on an interface that nobody holds
    FOREIGN = "Foreign"  # an address on an interface of somebody who is not its holder
    OTHER_NIC = "OtherNIC"  # an address on another interface of its holder than the record says
    NOT_ASSIGNED = "NotAssigned"  # an address that its running holder does not have
    OTHER_SANDBOX = "OtherSandbox"  # a record made for a sandbox that the pod does not run in
    ENDPOINT = "Endpoint"  # a SpiderEndpoint that is not what the records say
    POOL_STATUS = "PoolStatus"  # a pool's status that is not what the records say
    # what a subnet's status gives to a pool is not what the pool has
    SUBNET_STATUS = "SubnetStatus"
    NOT_IMPORTED = "NotImported"  # a pool whose former allocations are not taken over


@dataclass(frozen=True, slots=True)
class Difference:
    """
    One difference.

    `subject`: the address, endpoint or pool. `text`: what the sources say. `cause`: how that comes.
    `remedy`: a command line.
    """

    kind: Kind
    subject: str
    text: str
    cause: str
    remedy: str

    @property
    def identity(self) -> tuple[Kind, str]:
        """What makes it the same difference in a second reading."""
        return self.kind, self.subject


def compare(snapshot: Snapshot) -> tuple[Difference, ...]:
    """Return every difference of the sources, addresses first, in the order of `Kind`."""
    leaks = tuple(find_leaks(snapshot))
    leaked = {leak.subject for leak in leaks}
    found = [
        *leaks,
        *(
            d
            for record in snapshot.held
            if record.spec.ip not in leaked
            for d in _record(record, snapshot)
        ),
        *_twice(snapshot, leaked),
        *_interfaces(snapshot),
        *_endpoints(snapshot),
        *_pools(snapshot),
        *_subnets(snapshot),
    ]
    order = list(Kind)
    return tuple(sorted(found, key=lambda d: (order.index(d.kind), d.subject)))


def lasting(first: Iterable[Difference], second: Iterable[Difference]) -> tuple[Difference, ...]:
    """Keep the differences of a second reading that the first had too."""
    known = {difference.identity for difference in first}
    return tuple(difference for difference in second if difference.identity in known)


def find_leaks(snapshot: Snapshot) -> Iterator[Difference]:
    """Find records whose holder is gone; the judgement is that of the controller's reclaim."""
    for record in snapshot.held:
        holder = record.spec.holder
        pod = snapshot.pod_named.get((holder.namespace, holder.name))
        verdict = judge_leak(record, pod, snapshot.owners.get(record.metadata.name, NO_OWNERS))
        ended = pod is not None and pod.metadata.uid == holder.uid
        if verdict.action is Action.RELEASE and (not ended or _is_taken_down(record, snapshot)):
            yield Difference(
                Kind.LEAK,
                record.spec.ip,
                f"{_holding(record)}, which {'has ended' if ended else 'is gone'}",
                f"{verdict.reason}; its release never came, or the controller has not looked yet",
                f"spiderpoolctl ip release --ip {record.spec.ip}{' --force' if ended else ''}",
            )


def _is_taken_down(record: SpiderIP, snapshot: Snapshot) -> bool:
    """
    Return whether nothing is left of a pod that has ended: its namespace goes after its DEL.

    On a lost node nobody makes one.
    """
    node = record.spec.holder.node
    if (snapshot.nodes is not None and node not in snapshot.nodes) or node in snapshot.lost:
        return True
    return node in snapshot.read_nodes and record.spec.address not in snapshot.addresses_in_use


# --- records against pods and pools


def _record(record: SpiderIP, snapshot: Snapshot) -> Iterator[Difference]:
    """Compare one record that is no leak."""
    yield from _handed_over(record, snapshot)
    yield from _in_its_pool(record, snapshot)
    yield from _in_use_by_holder(record, snapshot)


def _handed_over(record: SpiderIP, snapshot: Snapshot) -> Iterator[Difference]:
    """
    A static address follows its pod's name.

    A running pod of that name that shows the address must have taken it over. One that does not
    show it gives it back: that is a leak.
    """
    holder, spec = record.spec.holder, record.spec
    pod = snapshot.pod_named.get((holder.namespace, holder.name))
    if pod is not None and spec.static and pod.metadata.uid != holder.uid and _runs(pod):
        yield Difference(
            Kind.NOT_HANDED_OVER,
            spec.ip,
            f"{_holding(record)} with UID {holder.uid}; the pod that runs has {pod.metadata.uid}",
            "the record was edited by hand, or somebody else than Spiderpool gave the pod its "
            "address",
            delete_pod(pod),
        )


def _in_its_pool(record: SpiderIP, snapshot: Snapshot) -> Iterator[Difference]:
    """Every record has a pool, and the pool its address."""
    spec = record.spec
    pool = snapshot.parsed.get(spec.pool)
    if pool is None:
        yield Difference(
            Kind.POOL_GONE,
            spec.ip,
            f"{_holding(record)} from pool {spec.pool}, which does not exist",
            "the pool was deleted by force, its finalizer removed by hand",
            move_off(record, snapshot),
        )
    elif pool.broken is None and spec.address not in pool.total:
        yield Difference(
            Kind.OUTSIDE_POOL,
            spec.ip,
            f"{_holding(record)} from pool {spec.pool}, which does not have it",
            "the pool was edited while the address was claimed, or past the webhook",
            f"kubectl edit spiderippool {spec.pool}  # add {spec.ip}; or: "
            f"{move_off(record, snapshot)}",
        )


def _twice(snapshot: Snapshot, leaked: set[str]) -> Iterator[Difference]:
    """One claim has one address."""
    claims: dict[ClaimKey, list[SpiderIP]] = defaultdict(list)
    for record in snapshot.held:
        if record.spec.ip not in leaked:
            claims[ClaimKey.of_record(record)].append(record)
    for records in claims.values():
        if len(records) > 1:
            ips = sorted(record.spec.address for record in records)
            spare = next((r for r in records if not _uses(r, snapshot)), records[-1])
            yield Difference(
                Kind.DUPLICATE_CLAIM,
                ", ".join(map(str, ips)),
                f"all are held by {_holder(records[0])} for {records[0].spec.holder.nic}, "
                f"IPv{records[0].spec.family}",
                "an agent ended between claiming one address and giving back another",
                f"spiderpoolctl ip release --ip {spare.spec.ip} --force",
            )


# --- records against interfaces


def _in_use_by_holder(record: SpiderIP, snapshot: Snapshot) -> Iterator[Difference]:
    """A running pod has what it holds, in the sandbox for which it was claimed."""
    spec, pod = record.spec, snapshot.living(record)
    if (
        pod is None
        or not _runs(pod)
        or pod.spec.host_network
        or pod.spec.node_name not in snapshot.read_nodes
    ):
        return
    namespaces = snapshot.in_use.get(spec.holder.uid, ())
    in_use = {slot for namespace in namespaces for slot in namespace.pairs}
    if spec.address not in {ip for _, ip in in_use}:
        seen = (
            f"has {_slots(in_use)}"
            if namespaces
            else f"has no network namespace on node {pod.spec.node_name}"
        )
        yield Difference(
            Kind.NOT_ASSIGNED,
            spec.ip,
            f"{_holding(record)} on {spec.holder.nic}; the pod {seen}",
            "the address was taken off the interface, or the interface was never made",
            delete_pod(pod),
        )
        return
    containers = [container for namespace in namespaces for container in namespace.containers]
    if spec.holder.container_id and containers and spec.holder.container_id not in containers:
        yield Difference(
            Kind.OTHER_SANDBOX,
            spec.ip,
            f"{_holding(record)} in sandbox {spec.holder.container_id[:12]}; the pod runs in "
            f"{containers[0][:12]}",
            "the sandbox was started again without an ADD that reached the record; its DEL will "
            "not release the address",
            record_by_hand(record.spec.ip, pod, spec.holder.nic, containers[0]),
        )


def _interfaces(snapshot: Snapshot) -> Iterator[Difference]:
    """Whatever has an address of a pool must hold it."""
    for node, namespace in (
        (each.node, namespace) for each in snapshot.interfaces for namespace in each.namespaces
    ):
        pod = snapshot.pod_of.get(namespace.pod_uid)
        if pod is not None and not is_alive(pod):
            continue  # it is being taken down
        for nic, ip in _in_order(namespace.pairs):
            yield from _one_in_use(nic, ip, node, namespace, pod, snapshot)


def _one_in_use(
    nic: str,
    ip: IPAddress,
    node: str,
    namespace: InUseNamespace,
    pod: Pod | None,
    snapshot: Snapshot,
) -> Iterator[Difference]:
    """Compare one address on one interface with its record."""
    record = snapshot.record_of.get(ip)
    pool = snapshot.in_pools(ip)
    if record is None and pool is None:
        return  # none of ours
    if not namespace.pod_uid and record is not None and _is_ending(record, snapshot):
        return  # its sandbox has no process any more, and is being taken down
    user_of = (
        f"pod {full_name(pod)}"
        if pod
        else f"namespace {namespace.path} on node {node}, of no pod that exists,"
    )
    if record is None or not record.held:
        state = "no record says so" if record is None else f"the record is {record.spec.state}"
        yield Difference(
            Kind.UNRECORDED,
            str(ip),
            f"{user_of} has it on {nic}; {state}",
            "the record was deleted while the pod ran"
            if pod
            else "the namespace outlived its pod: its DEL never came",
            record_by_hand(str(ip), pod, nic, next(iter(namespace.containers), "unknown"))
            if pod
            else remove_namespace(namespace, node),
        )
    elif pod is None or record.spec.holder.uid != pod.metadata.uid:
        yield Difference(
            Kind.FOREIGN,
            str(ip),
            f"{user_of} has it on {nic}; {_holding(record)}",
            "two may use it at once: this user got it before its record was lost, or by other "
            "means than Spiderpool",
            delete_pod(pod) if pod else remove_namespace(namespace, node),
        )
    elif record.spec.holder.nic != nic:
        yield Difference(
            Kind.OTHER_NIC,
            str(ip),
            f"{user_of} has it on {nic}; {_holding(record)} on {record.spec.holder.nic}",
            "the interface was given another name",
            delete_pod(pod),
        )


def _is_ending(record: SpiderIP, snapshot: Snapshot) -> bool:
    """Return whether the pod that holds an address exists and has ended."""
    pod = snapshot.living(record)
    return pod is not None and not is_alive(pod)


def _uses(record: SpiderIP, snapshot: Snapshot) -> bool:
    """Return whether an interface of its holder has the address of a record."""
    namespaces = snapshot.in_use.get(record.spec.holder.uid, ())
    return any(record.spec.address == ip for namespace in namespaces for _, ip in namespace.pairs)


# --- what is derived


def _endpoints(snapshot: Snapshot) -> Iterator[Difference]:
    """Every holder has an endpoint that says what it holds, and nobody else has one."""
    held: dict[Name, list[SpiderIP]] = defaultdict(list)
    for record in snapshot.held:
        held[record.spec.holder.namespace, record.spec.holder.name].append(record)
    shown = {endpoint.key: endpoint for endpoint in snapshot.endpoints}
    for key in sorted(held.keys() | shown.keys()):
        problem = _endpoint(held.get(key, []), shown.get(key), snapshot)
        if problem is not None:
            text, cause = problem
            remedy = (
                restart_agents(snapshot.namespace) if cause == LOST else "spiderpoolctl gc --apply"
            )
            yield Difference(Kind.ENDPOINT, f"{key[0]}/{key[1]}", text, cause, remedy)


def _endpoint(
    records: list[SpiderIP], endpoint: SpiderEndpoint | None, snapshot: Snapshot
) -> tuple[str, str] | None:
    """Say what is wrong with one endpoint, and how that comes."""
    holds = {(record.spec.holder.nic, record.spec.address) for record in records}
    if endpoint is None:
        pods = [pod for record in records if (pod := snapshot.living(record)) is not None]
        if not any(_runs(pod) for pod in pods):
            return None  # nothing to be read from it yet, or no more
        return (
            f"no endpoint; held are {_slots(holds)}",
            "the endpoint was deleted by hand, or the node's agent cannot write it",
        )
    shows = frozenset(slots_of(endpoint))
    if remembers(endpoint, records, snapshot):
        return f"the endpoint shows {_slots(shows)}; held are {_slots(holds)}", LOST
    if shows != holds:
        orphan = not records and snapshot.pod_named.get(endpoint.key) is None
        cause = (
            "it outlived its pod"
            if orphan
            else "it was edited by hand, or the node's agent cannot write it"
        )
        return f"the endpoint shows {_slots(shows)}; held are {_slots(holds)}", cause
    uid = endpoint.status.current.uid if endpoint.status else ""
    uids = {record.spec.holder.uid for record in records}
    if uids and uid not in uids:
        return (
            f"the endpoint is of pod UID {uid}; held by {', '.join(sorted(uids))}",
            "the node's agent cannot write it",
        )
    return None


def remembers(endpoint: SpiderEndpoint, records: Iterable[SpiderIP], snapshot: Snapshot) -> bool:
    """
    Return whether an endpoint is all that tells what a living pod has.

    Its records are made from it again.
    """
    pod = snapshot.pod_of.get(endpoint.status.current.uid) if endpoint.status else None
    held = set(map(slot_of, records))
    lost = [ip for nic, ip in slots_of(endpoint) if (nic, ip.version) not in held]
    in_use = (
        {ip for each in snapshot.in_use.get(pod.metadata.uid, ()) for _, ip in each.pairs}
        if pod is not None
        else set()
    )
    return (
        pod is not None
        and _runs(pod)
        and any(ip in in_use or pod.spec.node_name not in snapshot.read_nodes for ip in lost)
    )


def slots_of(endpoint: SpiderEndpoint) -> Iterator[Slot]:
    """Return what an endpoint shows; a text that is no address counts as none."""
    for nic in endpoint.status.current.ips if endpoint.status else ():
        for text in (nic.ipv4, nic.ipv6):
            try:
                if text:
                    yield nic.interface, ip_interface(text).ip
            except ValueError:
                continue


def _pools(snapshot: Snapshot) -> Iterator[Difference]:
    """Every pool's status is what its records say."""
    records: dict[str, list[SpiderIP]] = defaultdict(list)
    for record in snapshot.records:
        records[record.spec.pool].append(record)
    for pool in snapshot.pools:
        name = pool.metadata.name
        if not is_imported(pool):
            yield Difference(
                Kind.NOT_IMPORTED,
                name,
                "its status has allocations that no records stand for, so nothing is allocated "
                "from it",
                "allocations of Go Spiderpool wait to be taken over: one of its agents runs, or no "
                "controller leads",
                f"kubectl --namespace {snapshot.namespace} get pods,leases,events",
            )
        elif ANNO_IMPORTED in pool.metadata.annotations:
            yield from _status(pool, records[name], snapshot)


def _status(
    pool: SpiderIPPool, records: list[SpiderIP], snapshot: Snapshot
) -> Iterator[Difference]:
    """
    Compare one pool's status.

    A map that is left out is no difference where the counts agree (it has a limit).
    """
    expected, shown = pool_status(records, snapshot.parsed[pool.metadata.name]), pool.status
    counts = (expected.allocated_ip_count or 0, expected.total_ip_count or 0)
    seen = (shown.allocated_ip_count or 0, shown.total_ip_count or 0)
    if seen == counts and shown.allocated_ips in {None, expected.allocated_ips}:
        return
    if seen == counts:
        text = "allocatedIPs names other addresses or pods than the records"
    else:
        text = (
            f"status says {seen[0]} of {seen[1]} allocated, the records {counts[0]} of {counts[1]}"
        )
    yield Difference(
        Kind.POOL_STATUS,
        pool.metadata.name,
        text,
        "no controller leads, or the leader cannot write the status",
        restart_controller(snapshot.namespace),
    )


def _subnets(snapshot: Snapshot) -> Iterator[Difference]:
    """Every subnet's status is what its pools have."""
    owned: dict[str, list[Pool]] = defaultdict(list)
    for pool in snapshot.pools:
        owner = controlling_subnet(pool)
        if owner is not None:
            owned[owner.uid].append(snapshot.parsed[pool.metadata.name])
    for obj in snapshot.subnets:
        subnet = Subnet.parse(obj)
        for pool_name, text in misgiven(subnet, obj.status, owned[subnet.uid]):
            yield Difference(
                Kind.SUBNET_STATUS,
                f"{subnet.name}/{pool_name}" if pool_name else subnet.name,
                text,
                "no controller leads, or the leader cannot write the status or the pool",
                restart_controller(snapshot.namespace),
            )


# --- words


def _runs(pod: Pod) -> bool:
    """Return whether a pod has all that it will get: before, its addresses are on their way."""
    return is_alive(pod) and pod.status.phase == "Running"


def _holder(record: SpiderIP) -> str:
    holder = record.spec.holder
    return (
        f"{'pod' if holder.kind is HolderKind.POD else holder.kind} "
        f"{holder.namespace}/{holder.name}"
    )


def _holding(record: SpiderIP) -> str:
    return f"held by {_holder(record)}"


def _slots(slots: Iterable[Slot]) -> str:
    """Show pairs of NIC and address."""
    return ", ".join(f"{ip} on {nic}" for nic, ip in _in_order(slots)) or "nothing"


def _in_order(slots: Iterable[Slot]) -> list[Slot]:
    """Sort by NIC and family; addresses of two families have no order of their own."""
    return sorted(slots, key=lambda slot: (slot[0], slot[1].version, slot[1]))
