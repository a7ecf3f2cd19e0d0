"""
The objects that the installation makes, read from the job's environment.

Pure.

Source: docs/reference/configuration.md#jobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from spiderpool.addressing.ranges import parse_address, parse_network, parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.coordinator import SpiderCoordinator
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.configuration.environment import Environment, read_flag, read_required
from spiderpool.errors import InvalidRequest
from spiderpool.installer.default_network import read_coordinator

PREFIX: Final = "SPIDERPOOL_INIT_DEFAULT_IPV"


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the job waits for, and what it makes then."""

    namespace: str
    controller: str
    agent: str
    pools: tuple[SpiderIPPool, ...]
    coordinator: SpiderCoordinator | None
    with_network: bool
    subnets: tuple[SpiderSubnet, ...] = ()


def read_defaults(environ: Environment) -> Defaults:
    """
    Read the environment.

    `InvalidRequest` names the variable, what it has and what it must be.
    """
    read_required(environ, "SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG")
    with_network = read_flag(environ, "SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG", default=False)
    pools = tuple(pool for family in (4, 6) if (pool := _pool(environ, family)))
    if len({pool.metadata.name for pool in pools}) < len(pools):
        name = pools[0].metadata.name
        raise InvalidRequest(
            f"{PREFIX}4_IPPOOL_NAME and {PREFIX}6_IPPOOL_NAME are both {name!r}; give the pools "
            "different names"
        )
    return Defaults(
        namespace=read_required(environ, "SPIDERPOOL_NAMESPACE"),
        controller=read_required(environ, "SPIDERPOOL_CONTROLLER_NAME"),
        agent=read_required(environ, "SPIDERPOOL_AGENT_NAME"),
        pools=pools,
        coordinator=read_coordinator(environ),
        with_network=with_network,
        subnets=tuple(subnet for pool in pools if (subnet := _subnet_of(environ, pool))),
    )


def _subnet_of(environ: Environment, pool: SpiderIPPool) -> SpiderSubnet | None:
    """Make the subnet of a default pool, with the same addresses; None when it has no name."""
    spec = pool.spec
    name = environ.get(f"{PREFIX}{spec.ip_version}_SUBNET_NAME", "")
    if not name:
        return None
    return SpiderSubnet(
        metadata=ObjectMeta(name=name),
        spec=SubnetSpec(
            ip_version=spec.ip_version, subnet=spec.subnet, ips=spec.ips, gateway=spec.gateway
        ),
    )


def _pool(environ: Environment, family: int) -> SpiderIPPool | None:
    """Read the pool of one family; None when it has no name."""
    prefix = f"{PREFIX}{family}_IPPOOL"
    name = environ.get(f"{prefix}_NAME", "")
    if not name:
        return None
    subnet = _subnet(environ, f"{prefix}_SUBNET", family)
    spec = IPPoolSpec(
        ip_version=4 if family == 4 else 6,  # noqa: PLR2004
        subnet=environ[f"{prefix}_SUBNET"],
        ips=_ranges(environ, f"{prefix}_IPRANGES", subnet),
        gateway=_gateway(environ, f"{prefix}_GATEWAY", subnet),
        default=True,
    )
    return SpiderIPPool(metadata=ObjectMeta(name=name), spec=spec)


def _subnet(environ: Environment, name: str, family: int) -> AddressSet:
    """Read the pool's subnet."""
    try:
        network = parse_network(read_required(environ, name), strict=True)
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.message}") from None
    if network.version != family:
        raise InvalidRequest(
            f"{name}: {network} is IPv{network.version}; it must be an IPv{family} subnet"
        )
    return AddressSet.network(network)


def _ranges(environ: Environment, name: str, subnet: AddressSet) -> tuple[str, ...]:
    """Read the pool's addresses; none is fine, they can be added later."""
    text = environ.get(name) or "[]"
    try:
        items = msgspec.json.decode(text, type=tuple[str, ...])
        addresses = parse_ranges(subnet.family, items)
    except msgspec.DecodeError:
        raise InvalidRequest(
            f'{name} has {text!r}; it must be a JSON list such as ["10.6.0.10-10.6.0.20"]'
        ) from None
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.message}") from None
    if not addresses.issubset(subnet):
        raise InvalidRequest(f"{name} has {text!r}, which is not inside the pool's subnet")
    return items


def _gateway(environ: Environment, name: str, subnet: AddressSet) -> str | None:
    """Read the pool's gateway, if it has one."""
    text = environ.get(name) or None
    if text is None:
        return None
    try:
        inside = parse_address(text) in subnet
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error.message}") from None
    if not inside:
        raise InvalidRequest(f"{name}: {text} is not inside the pool's subnet")
    return text
