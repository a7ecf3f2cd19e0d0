"""
Endpoints of static holders that have no address left.

No pod owns them, so nobody else deletes them.
"""

from __future__ import annotations

import structlog

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.controller.runtime.context import BY_HOLDER, Context
from spiderpool.errors import Conflict, NotFound
from spiderpool.kube.cluster import if_exists
from spiderpool.model.pool import is_imported

log = structlog.get_logger("spiderpool.controller")


async def drop_endpoint(context: Context, record: SpiderIP) -> None:
    """
    Delete the endpoint of a static holder that has no address left.

    No pod owns it, so nobody else would.
    """
    holder = record.spec.holder
    if _holds(context, (holder.namespace, holder.name)):
        return
    endpoint = await if_exists(context.cluster.get(SpiderEndpoint, holder.name, holder.namespace))
    if endpoint is not None and not endpoint.metadata.owner_references:
        await _delete_endpoint(context, endpoint)


async def drop_orphans(context: Context) -> None:
    """
    Delete endpoints of static holders that have neither an address nor a pod.

    A crash after the last release leaves such endpoints. Not while pools wait for their takeover:
    their endpoints have no records yet.
    """
    if not all(is_imported(pool) for pool in context.pools):
        return
    listing = await context.cluster.list_objects(SpiderEndpoint)
    for endpoint in listing.items:
        owned = endpoint.metadata.owner_references or _holds(context, endpoint.key)
        if not owned and context.pods.get(endpoint.key) is None:
            await _drop_orphan(context, endpoint)


def _holds(context: Context, holder: tuple[str, str]) -> bool:
    """Return whether a holder has an address."""
    return any(record.held for record in context.records.by_index(BY_HOLDER, holder))


async def _drop_orphan(context: Context, endpoint: SpiderEndpoint) -> None:
    """Delete one such endpoint after a live look for its pod: informers may be late."""
    meta = endpoint.metadata
    if await if_exists(context.cluster.get(Pod, meta.name, meta.namespace)) is None:
        await _delete_endpoint(context, endpoint)


async def _delete_endpoint(context: Context, endpoint: SpiderEndpoint) -> None:
    """Delete an endpoint on condition that it is the one that was looked at."""
    meta = endpoint.metadata
    try:
        await context.cluster.delete(
            SpiderEndpoint,
            meta.name,
            meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )
    except (NotFound, Conflict):
        return  # gone, or in use again
    log.info(
        "endpoint deleted: its holder has neither an address nor a pod",
        namespace=meta.namespace,
        name=meta.name,
    )
