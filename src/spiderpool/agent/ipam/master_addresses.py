"""The addresses of a NIC's master, read for the calls that ask for `match_master_subnet`."""

from __future__ import annotations

from dataclasses import replace

import structlog

from spiderpool.errors import NotFound
from spiderpool.ipam.pod_request import Request
from spiderpool.kernel.master_interface import read_master_addresses
from spiderpool.kernel.namespaces import Namespaces

log = structlog.get_logger(__name__)


async def with_master_addresses(
    request: Request, host: Namespaces, netns: str, device_id: str = ""
) -> Request:
    """
    Return a request with the addresses of its NIC's master, if it asks for them.

    Args:
        request: of an ADD.
        host: the node's network, and the mounts in which `netns` means something.
        netns: path of the pod's network namespace.
        device_id: of the NIC's device, empty where the caller does not tell.
    """
    if not request.match_master_subnet:
        return request
    try:
        found = await host.run(lambda: read_master_addresses(netns, request.nic, device_id))
    except NotFound as error:
        log.info("master is not known", interface=request.nic, reason=error.message)
        found = None
    return replace(request, master_addresses=found)
