"""
SpiderSubnets as values, and the text of their status.

Source: docs/reference/automatic-pools.md#spidersubnet.
"""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.model.subnet import Grant, Subnet, read_grants, subnet_status

TOTAL = parse_ranges(4, ["10.6.0.1-10.6.0.20"])


def test_status_text() -> None:
    """The text is the one of the reference's own example, byte by byte, with its counts."""
    grants = {
        "b": Grant(parse_ranges(4, ["10.6.0.1-10.6.0.3"]), "apps_v1_Deployment_ns_n"),
        "a": Grant(parse_ranges(4, ["10.6.0.9"])),
    }
    text = '{"a":{"ips":["10.6.0.9"]},"b":{"ips":["10.6.0.1-10.6.0.3"],"application":"apps_v1_Deployment_ns_n"}}'

    assert SubnetStatus(
        controlled_ippools=text, total_ip_count=20, allocated_ip_count=4
    ) == subnet_status(grants, TOTAL)
    assert grants == read_grants(text, 4)


def test_nothing_given() -> None:
    """Without pools the field is absent."""
    assert SubnetStatus(total_ip_count=20, allocated_ip_count=0) == subnet_status({}, TOTAL)


def test_counts_of_a_large_subnet() -> None:
    """A count is cut at the largest number of the API."""
    assert (
        2**63 - 1
        == subnet_status({}, parse_ranges(6, ["fd00::-fd00::ffff:ffff:ffff:ffff"])).total_ip_count
    )


def test_parse() -> None:
    """
    Addresses are those of `ips` without `excludeIPs`.

    One that cannot be read says why and has none.
    """
    spec = SubnetSpec(
        ip_version=4, subnet="10.6.0.0/16", ips=("10.6.0.1-10.6.0.9",), exclude_ips=("10.6.0.5",)
    )
    subnet = Subnet.parse(SpiderSubnet(metadata=ObjectMeta(name="s"), spec=spec))
    broken = Subnet.parse(
        SpiderSubnet(metadata=ObjectMeta(name="s"), spec=SubnetSpec(subnet="nonsense"))
    )

    assert parse_ranges(4, ["10.6.0.1-10.6.0.4", "10.6.0.6-10.6.0.9"]) == subnet.total
    assert broken.broken is not None
    assert not broken.total


@given(
    st.text()
    | st.dictionaries(
        st.text(max_size=3),
        st.none()
        | st.integers()
        | st.fixed_dictionaries({"ips": st.lists(st.sampled_from(["10.6.0.1", "x", "fd00::1"]))}),
        max_size=3,
    ).map(json.dumps)
)
def test_any_text(text: str) -> None:
    """Whatever somebody wrote into the status, reading it gives what can be read."""
    assert all(grant.ips.family == 4 for grant in read_grants(text, 4).values())
