"""
The objects derived from SpiderIPs, in the form that other tools know.

Nothing decides from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Final

import msgspec

from spiderpool.api.crd.endpoint import EndpointCurrent, EndpointIP, EndpointStatus, SpiderEndpoint
from spiderpool.api.crd.group import LABEL_NODE
from spiderpool.api.crd.ippool import IPPoolStatus, Route
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.ipam.response import sorted_records
from spiderpool.model.label_values import label_value
from spiderpool.model.pool import Pool

STATUS_LIMIT: Final = 5000  # the original's own limit (SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS)
MAX_INT64: Final = 2**63 - 1


def endpoint_of(records: Iterable[SpiderIP], pod: Pod, owner: Application) -> SpiderEndpoint | None:
    """
    Return the SpiderEndpoint of a pod.

    The endpoint of a static holder outlives the pod, any other belongs to it. No finalizer:
    namespaces would hang on it.

    Args:
        records: the pod's; only held ones count.
        pod: the holder.
        owner: its top owner.
    Returns:
        None when the pod holds nothing.
    Source: docs/reference/objects.md#spiderendpoint.
    """
    held = sorted_records(record for record in records if record.held)
    if not held:
        return None
    spec = held[0].spec
    nics = tuple(
        _endpoint_ip(nic, tuple(group))
        for nic, group in groupby(held, key=lambda record: record.spec.holder.nic)
    )
    return SpiderEndpoint(
        api_version=SpiderEndpoint.resource.api_version,
        kind=SpiderEndpoint.resource.kind,
        metadata=ObjectMeta(
            name=spec.holder.name,
            namespace=spec.holder.namespace,
            owner_references=() if spec.static else (_owned_by(pod),),
        ),
        status=EndpointStatus(
            current=EndpointCurrent(uid=pod.metadata.uid, node=pod.spec.node_name, ips=nics),
            owner_controller_type=owner.kind,
            owner_controller_name=owner.name,
        ),
    )


def kept_endpoint(
    records: Iterable[SpiderIP], pod: Pod, owner: Application
) -> SpiderEndpoint | None:
    """
    Return the endpoint as the agent of the pod's node keeps it, None when the pod holds nothing.

    Args:
        records: of this very pod, in any state.
        pod: the living pod.
        owner: its application.
    """
    endpoint = endpoint_of(records, pod, owner)
    if endpoint is None:
        return None
    # The label is how the agent finds the endpoints of its node after a restart.
    labels = {**endpoint.metadata.labels, LABEL_NODE: label_value(pod.spec.node_name)}
    return msgspec.structs.replace(
        endpoint, metadata=msgspec.structs.replace(endpoint.metadata, labels=labels)
    )


def merge_endpoint(found: SpiderEndpoint, wanted: SpiderEndpoint) -> SpiderEndpoint:
    """
    Return an endpoint that exists with the content that it should have.

    Labels and annotations of others stay. Finalizers go: a former version of the product set one,
    and namespaces hang on it. The write must be conditional on UID and resource version, which the
    result carries.
    """
    metadata = msgspec.structs.replace(
        found.metadata,
        labels={**found.metadata.labels, **wanted.metadata.labels},
        owner_references=wanted.metadata.owner_references,
        finalizers=(),
    )
    return msgspec.structs.replace(found, metadata=metadata, status=wanted.status)


def pool_status(records: Iterable[SpiderIP], pool: Pool, limit: int = STATUS_LIMIT) -> IPPoolStatus:
    """
    Make the status of a pool.

    Args:
        records: SpiderIPs of this pool, in any state; those held by pods count.
        limit: above so many the map is left out, the counts stay.

    Source: docs/reference/objects.md#spiderippool.
    """
    held = [record.spec for record in records if record.held_by_workload]
    entries = {
        spec.ip: {"pod": f"{spec.holder.namespace}/{spec.holder.name}", "podUid": spec.holder.uid}
        for spec in sorted(held, key=lambda spec: spec.ip)
    }
    return IPPoolStatus(
        allocated_ips=msgspec.json.encode(entries).decode() if 0 < len(entries) <= limit else None,
        total_ip_count=min(pool.total.size, MAX_INT64),
        allocated_ip_count=len(held),
    )


def _endpoint_ip(nic: str, records: tuple[SpiderIP, ...]) -> EndpointIP:
    """Make the entry of one NIC: both families in one."""
    v4 = next((record.spec for record in records if record.spec.family == 4), None)  # noqa: PLR2004
    v6 = next((record.spec for record in records if record.spec.family == 6), None)  # noqa: PLR2004
    with_gateway = [spec for spec in (v4, v6) if spec is not None and spec.gateway is not None]
    return EndpointIP(
        interface=nic,
        ipv4=f"{v4.ip}/{v4.prefix_length}" if v4 else None,
        ipv4_pool=v4.pool if v4 else None,
        ipv4_gateway=v4.gateway if v4 else None,
        ipv6=f"{v6.ip}/{v6.prefix_length}" if v6 else None,
        ipv6_pool=v6.pool if v6 else None,
        ipv6_gateway=v6.gateway if v6 else None,
        vlan=0,
        clean_gateway=with_gateway[0].clean_gateway if with_gateway else None,
        routes=_union(route for record in records for route in record.spec.routes),
    )


def _union(routes: Iterable[Route]) -> tuple[Route, ...]:
    """Leave out repetitions, keep the order."""
    return tuple(dict.fromkeys(routes))


def _owned_by(pod: Pod) -> OwnerReference:
    """Make the pod an owner that is no controller: the endpoint goes with it."""
    return OwnerReference(
        api_version="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid
    )
