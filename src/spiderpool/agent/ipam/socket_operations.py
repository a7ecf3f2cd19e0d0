"""
What the socket's API does, without HTTP.

The original's requests become ADDs, DELs and look-ups.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

import msgspec

from spiderpool.addressing.ranges import parse_address, record_name
from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.informers import BY_POD, BY_UID, Informers
from spiderpool.agent.ipam.allocator import Allocation, Allocator, Verify
from spiderpool.agent.ipam.detection import ATTEMPTS, InUse
from spiderpool.agent.ipam.facts import FactSource
from spiderpool.agent.ipam.master_addresses import with_master_addresses
from spiderpool.agent.ipam.pod_events import Reports
from spiderpool.agent.ipam.release import Releases
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.node.caller import PodCall, pod_call
from spiderpool.api.agent.socket_bodies import (
    STATELESS_FORBIDDEN,
    STATIC_FORBIDDEN,
    EndpointInterface,
    EndpointRoute,
    IpamAddArgs,
    IpamBatchDelArgs,
    IpamDelArgs,
    ReleaseForbidden,
    WorkloadEndpoint,
)
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.errors import Exhausted, NotAvailable, NotFound, SpiderpoolError
from spiderpool.ipam.pod_request import Request
from spiderpool.ipam.response import render_answer, sorted_records
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.pod_namespaces import OWN
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.model.claim import Claimant


@dataclass(frozen=True, slots=True)
class Ipam:
    """All operations of the IPAM: each under its pod's lock, counted, and reported on failure."""

    cluster: Cluster
    informers: Informers
    source: FactSource
    allocator: Allocator
    releases: Releases
    pod_locks: KeyedLock
    metrics: Metrics
    reports: Reports
    release_conflict_ips: bool

    async def allocate(
        self, call: PodCall, request: Request, verify: Verify | None = None
    ) -> Allocation:
        """Allocate a pod's addresses, none of which `verify` refuses."""
        with self._counted_add(call):
            return await self.pod_locks.add(
                call.key, request.container_id, lambda: self._allocate(call, request, verify)
            )

    async def _allocate(self, call: PodCall, request: Request, verify: Verify | None) -> Allocation:
        """
        Claim.

        Where an address turns out to be in use by somebody else, it is set aside and another one is
        tried.
        """
        met: list[InUse] = []
        while True:
            try:
                return await self.allocator.add(call, request, verify)
            except InUse as error:
                met.append(error)
                if not error.set_aside or len(met) == ATTEMPTS:
                    raise
                self.reports.add_failed(call, error)
            except Exhausted as error:
                raise type(error)("; ".join(one.message for one in (error, *met))) from error

    async def release(self, call: PodCall, container_id: str) -> None:
        """Take back what a container had."""
        with self._counted_release():
            await self.pod_locks.delete(
                call.key, container_id, lambda: self.releases.delete(call, container_id)
            )

    def held(self, call: PodCall) -> tuple[SpiderIP, ...]:
        """
        Return what a pod of this node holds now.

        The addresses of a virtual machine's pod are in the machine's name.
        """
        by_uid = self.informers.records.by_index(BY_UID, call.uid) if call.uid else ()
        records = by_uid or self.informers.records.by_index(BY_POD, call.key)
        return tuple(record for record in records if record.held)

    async def healthy(self) -> None:
        """Serve; an API server that is away is no reason to start this agent again."""

    async def require_ready(self) -> None:
        """Raise `NotAvailable` while an ADD could not succeed."""
        trouble = self.informers.trouble
        if trouble is not None:
            raise NotAvailable(
                f"spiderpool-agent cannot follow the Kubernetes API: {trouble.message}"
            )

    async def add(self, args: IpamAddArgs) -> msgspec.Struct:
        """Serve `POST /v1/ipam/ip`."""
        call = call_of(args)
        request = Request(
            nic=args.if_name or "",
            default_ipv4=args.default_ipv4_ippool or (),
            default_ipv6=args.default_ipv6_ippool or (),
            clean_gateway=bool(args.clean_gateway),
            match_master_subnet=bool(args.match_master_subnet),
            container_id=args.container_id or "",
        )
        if request.match_master_subnet:
            # The agent has the node's network, and the directory of its network namespaces.
            with Namespaces.network(OWN) as here:
                request = await with_master_addresses(request, here, args.net_namespace or "")
        allocation = await self.allocate(call, request)
        return render_answer(allocation.records, allocation.facts.features, allocation.facts.pools)

    async def delete(self, args: IpamDelArgs) -> None:
        """Serve `DELETE /v1/ipam/ip`."""
        call = call_of(args)
        await self.release(call, args.container_id or "")

    async def delete_conflicting(self, args: IpamBatchDelArgs) -> None:
        """Serve `DELETE /v1/ipam/ips`: the caller found an address in use on the wire."""
        if not args.is_release_conflict_ips:
            return
        call = call_of(args)
        if not self.release_conflict_ips:
            raise ReleaseForbidden(
                f"pod {call}: addresses in conflict are not released, "
                "SPIDERPOOL_ENABLED_RELEASE_CONFLICT_IPS is false",
                STATELESS_FORBIDDEN,
            )
        try:
            pod = await self.source.read_pod(call)
        except NotFound:
            return
        claimant = Claimant.of(pod, await self.source.owner_of(pod), self.source.features)
        if claimant.static:
            raise ReleaseForbidden(
                f"pod {call}: its addresses are static, they are not released", STATIC_FORBIDDEN
            )
        with self._counted_release():
            uid = call.uid or pod.metadata.uid
            await self.pod_locks.delete(
                call.key, args.container_id or "", lambda: self.releases.delete_all(uid)
            )

    async def workload_endpoint(self, namespace: str, name: str) -> WorkloadEndpoint:
        """Serve `GET /v1/workloadendpoint` from the records, wherever in the cluster the pod is."""
        call = PodCall(namespace, name, "")
        if not (namespace and name):
            raise NotFound(f"pod {call} does not exist: a pod has a namespace and a name")
        records = self.held(call) or await self._held_elsewhere(call)
        if not records:
            raise NotFound(f"pod {call} holds no address")
        return render_workload_endpoint(call, records)

    async def _held_elsewhere(self, call: PodCall) -> tuple[SpiderIP, ...]:
        """
        Find the records of a pod of another node.

        Its endpoint says where to look, the records say what is true.
        """
        endpoint = await self.cluster.get(SpiderEndpoint, call.name, call.namespace)
        nics = endpoint.status.current.ips if endpoint.status else ()
        ips = [ip.partition("/")[0] for nic in nics for ip in (nic.ipv4, nic.ipv6) if ip]
        found = await asyncio.gather(*(self._record_of(ip) for ip in ips))
        return tuple(
            record
            for record in found
            if record is not None
            and record.held
            and (record.spec.holder.namespace, record.spec.holder.name) == call.key
        )

    async def _record_of(self, ip: str) -> SpiderIP | None:
        return await if_exists(self.cluster.get(SpiderIP, record_name(parse_address(ip))))

    @contextmanager
    def _counted_add(self, call: PodCall) -> Iterator[None]:
        began = time.monotonic()
        self.metrics.allocations.inc()
        try:
            yield
        except BaseException as error:
            self.metrics.failed_add(error)
            if isinstance(error, SpiderpoolError):
                self.reports.add_failed(call, error)
            raise
        finally:
            self.metrics.allocation_time.observe(time.monotonic() - began)

    @contextmanager
    def _counted_release(self) -> Iterator[None]:
        began = time.monotonic()
        self.metrics.releases.inc()
        try:
            yield
        except BaseException as error:
            self.metrics.failed_delete(error)
            raise
        finally:
            self.metrics.release_time.observe(time.monotonic() - began)


def call_of(args: IpamAddArgs | IpamDelArgs | IpamBatchDelArgs) -> PodCall:
    """
    Return the pod that a request is about.

    The wire allows empty texts where the API server has no object without a name.
    """
    return pod_call(args.pod_namespace, args.pod_name, args.pod_uid)


def render_workload_endpoint(call: PodCall, records: tuple[SpiderIP, ...]) -> WorkloadEndpoint:
    """Return what a pod holds, NIC by NIC."""
    ordered = sorted_records(records)
    holder = ordered[0].spec.holder
    return WorkloadEndpoint(
        pod_namespace=call.namespace,
        pod_name=call.name,
        pod_uid=holder.uid,
        node=holder.node,
        interfaces=tuple(
            _interface(nic, tuple(group))
            for nic, group in groupby(ordered, key=lambda record: record.spec.holder.nic)
        ),
    )


def _interface(nic: str, records: tuple[SpiderIP, ...]) -> EndpointInterface:
    """Return what one NIC holds, in both families."""
    fields: dict[str, str] = {}
    for spec in (record.spec for record in records):
        fields[f"ipv{spec.family}"] = f"{spec.ip}/{spec.prefix_length}"
        fields[f"ipv{spec.family}_pool"] = spec.pool
        if spec.gateway:
            fields[f"ipv{spec.family}_gateway"] = spec.gateway
    routes = dict.fromkeys(route for record in records for route in record.spec.routes)
    return EndpointInterface(
        interface=nic,
        routes=tuple(EndpointRoute(dst=route.dst, gw=route.gw) for route in routes) or None,
        **fields,
    )
