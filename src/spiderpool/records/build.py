"""
The SpiderIP of a claim: how it is made, handed over, released and taken again.

Writing it is the store's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from msgspec.structs import replace

from spiderpool.addressing.ranges import record_name
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.endpoint import EndpointIP
from spiderpool.api.crd.group import (
    ANNO_IN_USE,
    ANNO_SUSPECT,
    LABEL_KEY,
    LABEL_NODE,
    LABEL_OWNER,
    LABEL_POOL,
    LABEL_STATE,
)
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.spiderip import (
    Application,
    Holder,
    HolderKind,
    IPState,
    SpiderIP,
    SpiderIPSpec,
)
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.configuration.config import Features
from spiderpool.ipam.pod_request import NicRequest, Request
from spiderpool.ipam.pod_routes import stored_routes
from spiderpool.model.claim import ClaimKey
from spiderpool.model.facts import Facts
from spiderpool.model.label_values import label_value
from spiderpool.model.pod import holder_kind
from spiderpool.model.pool import Pool

OWN_LABELS: Final = frozenset({LABEL_POOL, LABEL_NODE, LABEL_KEY, LABEL_OWNER, LABEL_STATE})


def build_record(
    ip: IPAddress,
    prefix_length: int,
    pool: str,
    holder: Holder,
    *,
    static: bool = False,
    gateway: str | None = None,
    clean_gateway: bool = False,
    routes: tuple[Route, ...] = (),
) -> SpiderIP:
    """
    Return the Held record of an address, as it is to be created.

    Args:
        ip: the address, which also names the record.
        prefix_length: of the network that the holder's interface is on.
        pool: name of the pool that has the address.
        holder: who gets it (`pod_holder` for a pod).
        static: whether the record outlives its pod.
        gateway: of the default route, None where there is none.
        clean_gateway: whether the pod gets no default route in spite of a gateway.
        routes: further routes that go with the address.
    """
    spec = SpiderIPSpec(
        ip=str(ip),
        pool=pool,
        family=ip.version,
        prefix_length=prefix_length,
        holder=holder,
        static=static,
        gateway=gateway,
        clean_gateway=clean_gateway,
        routes=routes,
    )
    return record_of(spec)


@dataclass(frozen=True, slots=True)
class Terms:
    """
    What an address comes with; `clean_gateway`.

    Whether its pod gets no default route in spite of a gateway.
    """

    gateway: str | None
    clean_gateway: bool
    routes: tuple[Route, ...]

    @classmethod
    def of(cls, pool: Pool, own: Iterable[Route] = (), *, clean_gateway: bool = False) -> Self:
        """
        Return what a pool's address comes with now.

        Args:
            pool: the pool.
            own: custom routes of the pod that go with the address.
            clean_gateway: whether the pod wants no default route.
        """
        gateway = None if pool.gateway is None else str(pool.gateway)
        routes = stored_routes(pool.routes, own, None if clean_gateway else pool.gateway)
        return cls(gateway, clean_gateway, routes)


def pool_record(
    pool: Pool, ip: IPAddress, holder: Holder, *, static: bool, terms: Terms | None = None
) -> SpiderIP:
    """
    Return the record of an address as its pool gives it now.

    Args:
        pool: the pool that has the address.
        ip: the address.
        holder: who gets it.
        static: whether it outlives the pod.
        terms: gateway and routes that the pod asks for itself; None = the pool's.
    """
    terms = terms or Terms.of(pool)
    return build_record(
        ip,
        pool.subnet.prefixlen,
        pool.name,
        holder,
        static=static,
        gateway=terms.gateway,
        clean_gateway=terms.clean_gateway,
        routes=terms.routes,
    )


def nic_record(
    nic: EndpointIP, ip: IPAddress, prefix_length: int, pool: str, holder: Holder, *, static: bool
) -> SpiderIP:
    """
    Return the record of an address as a SpiderEndpoint remembers it.

    Args:
        nic: the endpoint's NIC; gateway and routes of the address' family are taken from it.
        ip: the address.
        prefix_length: of its subnet.
        pool: name of the pool that gave it.
        holder: who has it.
        static: whether it outlives the pod.
    """
    six = ip.version == 6  # noqa: PLR2004
    return build_record(
        ip,
        prefix_length,
        pool,
        holder,
        static=static,
        gateway=nic.ipv6_gateway if six else nic.ipv4_gateway,
        clean_gateway=bool(nic.clean_gateway),
        routes=tuple(route for route in nic.routes if (":" in route.dst) == six),
    )


def claim_record(
    pool: Pool,
    ip: IPAddress,
    key: ClaimKey,
    facts: Facts,
    nic_request: NicRequest,
    request: Request,
    routes: tuple[Route, ...] = (),
) -> SpiderIP:
    """
    Return the record that an ADD claims.

    Args:
        pool: the pool that has the address.
        ip: the address.
        key: the claim that the record answers.
        facts: what the ADD decides by.
        nic_request: what the pod asks for on this NIC.
        request: the CNI call.
        routes: custom routes of the pod that go with this address.
    """
    holder = pod_holder(
        facts.pod,
        facts.owner,
        facts.features,
        key.nic,
        container_id=request.container_id,
        # The call speaks for its own NIC only. Which networks the other NICs are on is known when
        # their calls come.
        network=(request.network or "") if key.nic == request.nic else "",
    )
    terms = Terms.of(pool, routes, clean_gateway=nic_request.clean_gateway)
    return pool_record(pool, ip, holder, static=key.static, terms=terms)


def pod_holder(
    pod: Pod,
    owner: Application,
    features: Features,
    nic: str,
    *,
    container_id: str = "",
    network: str = "",
) -> Holder:
    """
    Return a pod, or the virtual machine that it runs, as the holder of an address.

    Args:
        pod: bound to its node.
        owner: top owner of the pod.
        features: the switches of the configuration.
        nic: interface that the address is for.
        container_id: the pod's sandbox; empty where it is not known.
        network: network of the interface; empty where it is not known.
    """
    kind = holder_kind(owner, features)
    return Holder(
        kind=kind,
        namespace=pod.metadata.namespace,
        name=owner.name if kind is HolderKind.VIRTUAL_MACHINE else pod.metadata.name,
        uid=pod.metadata.uid,
        nic=nic,
        node=pod.spec.node_name,
        container_id=container_id,
        network=network,
        owner=owner,
    )


def record_of(spec: SpiderIPSpec, metadata: ObjectMeta | None = None) -> SpiderIP:
    """
    Make the object around a specification.

    Its name is the address, its labels serve selection only; a suspicion ends.
    """
    base = metadata or ObjectMeta(name=record_name_of(spec))
    labels = {key: value for key, value in base.labels.items() if key not in OWN_LABELS}
    annotations = {
        key: value
        for key, value in base.annotations.items()
        if key not in (ANNO_SUSPECT, ANNO_IN_USE)
    }
    return SpiderIP(
        api_version=SpiderIP.resource.api_version,
        kind=SpiderIP.resource.kind,
        metadata=replace(base, labels=labels | _labels(spec), annotations=annotations),
        spec=spec,
    )


def record_name_of(spec: SpiderIPSpec) -> str:
    """Return the name that a record must have."""
    return record_name(spec.address)


def hand_over(
    record: SpiderIP, pod: Pod, owner: Application, request: Request, terms: Terms | None = None
) -> SpiderIP:
    """
    Hand a static record over to the pod that now has its holder's name, or to a new sandbox.

    The update must be conditional on UID and resource version, which the result carries.

    Args:
        record: as it was read.
        pod: the new holder.
        owner: its top owner.
        request: the CNI call.
        terms: what the address comes with now. They are for a new pod only: a pod that was started
        with others keeps
            them over its sandboxes. None: not known, what the address came with stays.
    """
    holder = replace(
        record.spec.holder,
        uid=pod.metadata.uid,
        node=pod.spec.node_name,
        container_id=request.container_id,
        network=(request.network or "")
        if request.nic == record.spec.holder.nic
        else record.spec.holder.network,
        owner=owner,
    )
    spec = replace(record.spec, holder=holder)
    if terms is not None and record.spec.holder.uid != pod.metadata.uid:
        spec = replace(
            spec, gateway=terms.gateway, clean_gateway=terms.clean_gateway, routes=terms.routes
        )
    return record_of(spec, record.metadata)


def let_go(
    record: SpiderIP,
    state: IPState,
    since: str,
    *,
    suspicion: str = "",
    conflict_mac: str | None = None,
) -> SpiderIP:
    """
    Release an address; its last holder stays visible.

    In the state Cooling that holder may take it back at once.

    Args:
        record: as it was judged; the update must be conditional on its UID and resource version,
        which the result carries.
        state: Cooling, or Quarantined for an address that somebody else uses on the wire.
        since: RFC 3339.
        suspicion: stays on the record, where it is the reason of the release.
        conflict_mac: the MAC that answered for the address on the wire.
    """
    spec = replace(record.spec, state=state, state_since=since, conflict_mac=conflict_mac)
    released = record_of(spec, record.metadata)
    return marked(released, ANNO_SUSPECT, suspicion) if suspicion else released


def marked(record: SpiderIP, key: str, text: str) -> SpiderIP:
    """
    Write the annotation of a suspicion, or of the agent's answer, on a record.

    Args:
        record: as it is now; the result is conditional on it.
        key: `ANNO_SUSPECT` (the controller's) or `ANNO_IN_USE` (the agent's).
        text: the annotation's value.
    """
    annotations = {**record.metadata.annotations, key: text}
    return replace(record, metadata=replace(record.metadata, annotations=annotations))


def unmarked(record: SpiderIP) -> SpiderIP:
    """Take question and answer off a record, conditionally."""
    return record_of(record.spec, record.metadata)


def suspicion_of(record: SpiderIP) -> str:
    """
    Return why the controller suspects that a record is nobody's any more.

    Empty when it does not.
    """
    return record.metadata.annotations.get(ANNO_SUSPECT, "")


def name_of(record: SpiderIP) -> str:
    """Return address and holder of a record, for texts."""
    return f"{record.spec.ip} of {record.spec.holder.namespace}/{record.spec.holder.name}"


def describe_holder(record: SpiderIP) -> str:
    """Say who has an address, or why nobody gets it."""
    holder, pool = record.spec.holder, record.spec.pool
    if record.spec.state is IPState.QUARANTINED:
        return f"quarantined in pool {pool}: somebody else used it on the wire"
    if holder.kind is HolderKind.POOL:
        return f"taken by the controller while it edits pool {pool}"
    kind = "pod" if holder.kind is HolderKind.POD else holder.kind
    verb = "held by" if record.held else "just released by"
    return (
        f"{verb} {kind} {holder.namespace}/{holder.name} ({holder.nic}, node "
        f"{holder.node or 'unknown'})"
    )


def put_in_place(old: SpiderIP, fresh: SpiderIP) -> SpiderIP:
    """
    Put a claim (`claim_record`), or what was there before it, in the place of a record.

    The result is conditional on that record.
    """
    return record_of(fresh.spec, old.metadata)


def _labels(spec: SpiderIPSpec) -> dict[str, str]:
    """Return the labels by which records are selected."""
    holder = spec.holder
    labels = {
        LABEL_POOL: spec.pool,
        LABEL_NODE: holder.node,
        LABEL_OWNER: holder.owner.uid if holder.owner else "",
    }
    if spec.state is not IPState.HELD:
        labels[LABEL_STATE] = spec.state
    if holder.kind is not HolderKind.POOL:
        labels[LABEL_KEY] = ClaimKey.of_spec(spec).label
    return {key: label_value(value) for key, value in labels.items() if value}
