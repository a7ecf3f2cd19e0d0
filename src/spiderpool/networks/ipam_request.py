"""What a CNI call of the IPAM plugin asks for: the call, its configuration and its arguments."""

from __future__ import annotations

from spiderpool.cni.request import Call, ipam_config, wanted_ips
from spiderpool.ipam.pod_request import Request


def read_ipam_request(call: Call) -> Request:
    """
    Read a call of the plugin `spiderpool`.

    Raises:
        InvalidRequest: the `ipam` object is missing, or one of its values has a wrong type.
        BadEnvironment: an exact address that is asked for is none.
    """
    config = ipam_config(call)
    return Request(
        nic=call.ifname,
        default_ipv4=config.default_ipv4_ippool or (),
        default_ipv6=config.default_ipv6_ippool or (),
        clean_gateway=config.clean_gateway,
        match_master_subnet=config.match_master_subnet,
        network=call.network,
        ips=wanted_ips(call),
        container_id=call.container_id,
    )
