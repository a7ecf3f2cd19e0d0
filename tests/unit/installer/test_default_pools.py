"""What the init job reads from its environment."""

from __future__ import annotations

import pytest

from spiderpool.api.crd.ippool import IPPoolSpec
from spiderpool.api.crd.subnet import SubnetSpec
from spiderpool.errors import InvalidRequest
from spiderpool.installer.default_pools import read_defaults

BASE = {
    "SPIDERPOOL_NAMESPACE": "kube-system",
    "SPIDERPOOL_CONTROLLER_NAME": "spiderpool-controller",
    "SPIDERPOOL_AGENT_NAME": "spiderpool-agent",
    "SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG": "true",
}
V4 = {
    "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_NAME": "default-v4-ippool",
    "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_SUBNET": "10.6.0.0/16",
    "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_IPRANGES": '["10.6.168.10-10.6.168.20","10.6.169.1"]',
    "SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_GATEWAY": "10.6.0.1",
}
V6 = {
    "SPIDERPOOL_INIT_DEFAULT_IPV6_IPPOOL_NAME": "default-v6-ippool",
    "SPIDERPOOL_INIT_DEFAULT_IPV6_IPPOOL_SUBNET": "fd00:6::/64",
    "SPIDERPOOL_INIT_DEFAULT_IPV6_IPPOOL_IPRANGES": "",
    "SPIDERPOOL_INIT_DEFAULT_IPV6_IPPOOL_GATEWAY": "",
}


def test_no_pools_without_names() -> None:
    """An installation without default pools makes none."""
    assert () == read_defaults(BASE).pools


def test_both_pools() -> None:
    """Each family's pool is a default pool with the values that were given."""
    pools = read_defaults(BASE | V4 | V6).pools
    assert ["default-v4-ippool", "default-v6-ippool"] == [pool.metadata.name for pool in pools]
    assert [
        IPPoolSpec(
            ip_version=4,
            subnet="10.6.0.0/16",
            ips=("10.6.168.10-10.6.168.20", "10.6.169.1"),
            gateway="10.6.0.1",
            default=True,
        ),
        IPPoolSpec(ip_version=6, subnet="fd00:6::/64", default=True),
    ] == [pool.spec for pool in pools]


def test_subnets() -> None:
    """
    A pool whose subnet has a name is made with that subnet, of the same addresses.

    Another is not.
    """
    subnets = read_defaults(
        BASE | V4 | V6 | {"SPIDERPOOL_INIT_DEFAULT_IPV4_SUBNET_NAME": "default-v4-subnet"}
    ).subnets
    spec = SubnetSpec(
        ip_version=4,
        subnet="10.6.0.0/16",
        ips=("10.6.168.10-10.6.168.20", "10.6.169.1"),
        gateway="10.6.0.1",
    )

    assert [("default-v4-subnet", spec)] == [
        (subnet.metadata.name, subnet.spec) for subnet in subnets
    ]


@pytest.mark.parametrize("name", sorted(BASE))
def test_required(name: str) -> None:
    """The four variables that the reference asks for must be there."""
    with pytest.raises(InvalidRequest, match=f"{name} is required and is not set"):
        read_defaults({key: value for key, value in BASE.items() if key != name})


@pytest.mark.parametrize(
    ("suffix", "value", "words"),
    [
        ("SUBNET", "", "is required and is empty"),
        ("SUBNET", "10.6.0.1/16", "write 10.6.0.0/16"),
        ("SUBNET", "fd00::/64", "must be an IPv4 subnet"),
        ("SUBNET", "ten", "not a CIDR"),
        ("IPRANGES", "10.6.0.10", "must be a JSON list"),
        ("IPRANGES", '["10.6.0.0/24"]', "10.6.0.0/24"),
        ("IPRANGES", '["10.6.0.9-10.6.0.3"]', "runs backwards"),
        ("IPRANGES", '["10.7.0.9"]', "not inside the pool's subnet"),
        ("GATEWAY", "10.7.0.1", "not inside the pool's subnet"),
        ("GATEWAY", "router", "not an IP address"),
    ],
)
def test_refused(suffix: str, value: str, words: str) -> None:
    """A wrong value is refused in a sentence that names the variable and says what is wrong."""
    name = f"SPIDERPOOL_INIT_DEFAULT_IPV4_IPPOOL_{suffix}"
    with pytest.raises(InvalidRequest) as refusal:
        read_defaults(BASE | V4 | {name: value})
    assert name in refusal.value.message
    assert words in refusal.value.message


def test_one_name_for_both() -> None:
    """Two pools cannot have one name."""
    with pytest.raises(InvalidRequest, match="both 'default-v4-ippool'"):
        read_defaults(
            BASE | V4 | V6 | {"SPIDERPOOL_INIT_DEFAULT_IPV6_IPPOOL_NAME": "default-v4-ippool"}
        )


def test_flag_that_is_none() -> None:
    """A switch that is neither true nor false is refused."""
    with pytest.raises(InvalidRequest, match="SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG"):
        read_defaults(BASE | {"SPIDERPOOL_INIT_ENABLE_MULTUS_CONFIG": "perhaps"})
