"""What the API server itself refuses of our objects, by their definitions."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, ClassVar

import pytest

from spiderpool.addressing.ranges import record_name
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.errors import Rejected
from tests.contract.kube.stage import RealStage


class AnyRecord(KubeObject, frozen=True, kw_only=True):
    """A SpiderIP with whatever specification."""

    resource: ClassVar[Resource] = SpiderIP.resource

    spec: dict[str, Any]


def written(name: str, ip: str, family: int, **more: Any) -> AnyRecord:
    """Write a record."""
    spec = {"ip": ip, "family": family, "pool": "blue", "prefixLength": 24, "holder": {}, **more}
    return AnyRecord(metadata=ObjectMeta(name=name), spec=spec)


@pytest.mark.parametrize(
    ("name", "ip", "family"),
    [
        ("garbage", "garbage", 4),
        ("10.66.0.300", "10.66.0.300", 4),
        ("10.66.0", "10.66.0", 4),
        ("010.66.0.1", "010.66.0.1", 4),
        ("10.66.0.1", "10.66.0.1", 6),
        ("10.66.0.2", "10.66.0.1", 4),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "fd66::1", 4),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "fd66::1::2", 6),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "0fd66::1", 6),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "FD66::1", 6),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "fd66::2", 6),
        ("fd66-0000-0000-0000-0000-0000-0000-0001", "fd66:0:0:0:0:0:0:1:9", 6),
    ],
)
async def test_a_record_that_is_no_address(
    real: RealStage, name: str, ip: str, family: int
) -> None:
    """It is refused, whoever writes it: everybody who reads records would meet it."""
    with pytest.raises(Rejected):
        await real.other.create(written(name, ip, family))


@pytest.mark.parametrize("gateway", ["garbage", "10.66.0.256", "fd66::1", ""])
async def test_a_gateway_that_is_no_address(real: RealStage, gateway: str) -> None:
    """Nor may a gateway be anything else."""
    with pytest.raises(Rejected, match="gateway"):
        await real.other.create(written("10.66.1.1", "10.66.1.1", 4, gateway=gateway))


async def test_a_prefix_length_of_the_other_family(real: RealStage) -> None:
    """IPv4 has 32 bits."""
    with pytest.raises(Rejected, match="prefixLength"):
        await real.other.create(written("10.66.1.2", "10.66.1.2", 4, prefixLength=64))


@pytest.mark.parametrize(
    ("ip", "gateway"),
    [
        ("10.66.2.1", "10.66.2.254"),
        ("0.66.2.1", "255.255.255.255"),
        ("fd66:2::1", "fe80::1"),
        ("fd66:2:0:1::", "::1"),
        ("fd66:2:1:2:3:4:5:6", "fd66:2:1:2:3:4:5:ffff"),
        ("fd66:0:0:1::2", "1:2:3:4:5:6:7::"),
    ],
)
async def test_a_record_of_an_address(real: RealStage, ip: str, gateway: str) -> None:
    """Every address in the form that Python writes is taken."""
    address = ip_address(ip)
    assert ip == str(address)
    made = await real.other.create(
        written(record_name(address), ip, address.version, gateway=gateway)
    )
    assert gateway == (await real.other.get(SpiderIP, made.metadata.name)).spec.gateway
