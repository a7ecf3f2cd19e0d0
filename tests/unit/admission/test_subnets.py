"""
Admission of SpiderSubnets and of pools that belong to one.

Source: docs/reference/admission.md#spidersubnet, docs/reference/admission.md#spiderippool.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.admission.pools import adopted, mutate_pool, validate_pool
from spiderpool.admission.subnets import (
    forbid_subnet_update,
    mutate_subnet,
    validate_subnet,
    validate_subnet_delete,
)
from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.configuration.config import Features
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet
from tests.fakes.objects import FEATURES, make_ippool, make_pool

PROTECTED = Features(enable_validating_resources_deleted_webhook=True)
GIVEN = '{"auto":{"ips":["10.6.0.10-10.6.0.12"],"application":"apps_v1_Deployment_ns_web"},"blue":{"ips":["10.6.0.15"]}}'


def make_subnet(name: str = "s1", subnet: str = "10.6.0.0/16", **spec: Any) -> SpiderSubnet:
    """Make a subnet of ten addresses; keywords are keys of its spec, or `given`, `deleted`."""
    metadata: dict[str, Any] = {"name": name, "uid": f"{name}-uid"}
    if spec.pop("deleted", False):
        metadata |= {"deletionTimestamp": "2025-01-01T00:00:00Z", "finalizers": [FINALIZER]}
    status = {"controlledIPPools": spec.pop("given")} if "given" in spec else {}
    spec.setdefault("ips", ["fd00::10-fd00::19"] if ":" in subnet else ["10.6.0.10-10.6.0.19"])
    return msgspec.convert(
        {"metadata": metadata, "spec": {"subnet": subnet, **spec}, "status": status}, SpiderSubnet
    )


def refused(new: SpiderSubnet, *pools: Pool, others: tuple[SpiderSubnet, ...] = ()) -> list[str]:
    """Admit a new subnet as the API server would, and give the refused fields with their words."""
    errors = validate_subnet(None, mutate_subnet(new), map(Subnet.parse, others), pools, FEATURES)
    return [error.text for error in errors]


def changed(old: SpiderSubnet, **spec: Any) -> list[str]:
    """Change some fields of a subnet, and give the refused fields with their words."""
    before = mutate_subnet(old)
    after = mutate_subnet(replace(before, spec=replace(before.spec, **spec)))
    return [error.text for error in validate_subnet(before, after, (), (), FEATURES)]


def test_what_is_filled_in() -> None:
    """Finalizer, family, label and merged ranges; a subnet that is being deleted stays as it is."""
    subnet = mutate_subnet(make_subnet(ips=["10.6.0.3", "10.6.0.1-10.6.0.2"]))

    assert (FINALIZER,) == subnet.metadata.finalizers
    assert {"ipam.spidernet.io/subnet-cidr": "10-6-0-0-16"} == subnet.metadata.labels
    assert (4, ("10.6.0.1-10.6.0.3",)) == (subnet.spec.ip_version, subnet.spec.ips)
    assert make_subnet(deleted=True) == mutate_subnet(make_subnet(deleted=True))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"subnet": "nonsense"}, "spec.ipVersion: Invalid value: cannot be told"),
        (
            {"subnet": "10.6.0.1/16"},
            'spec.subnet: Invalid value: "10.6.0.1/16": "10.6.0.1/16" is not a network address',
        ),
        ({"ipVersion": 6}, "spec.subnet: Invalid value"),
        ({"ips": ["10.7.0.1"]}, "spec.ips[0]: Invalid value"),
        ({"ips": ["10.6.0.9-10.6.0.1"]}, "spec.ips[0]: Invalid value"),
        ({"excludeIPs": ["10.6.0.0/24"]}, "spec.excludeIPs[0]: Invalid value"),
        ({"gateway": "10.7.0.1"}, "spec.gateway: Invalid value"),
        ({"gateway": "10.6.0.10"}, "spec.ips[0]: Invalid value"),
        ({"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]}, "spec.routes[0].dst: Invalid value"),
    ],
)
def test_new_subnet(spec: dict[str, Any], words: str) -> None:
    """Each field is checked as a pool's is."""
    assert refused(make_subnet(**spec))[0].startswith(words)


def test_overlap() -> None:
    """No two subnets overlap; the same CIDR counts as well."""
    assert [
        'spec.subnet: Invalid value: "10.6.0.0/16": overlaps 10.6.0.0/16 of SpiderSubnet s2; no two subnets may'
    ] == refused(make_subnet(), others=(make_subnet("s2"),))
    assert 1 == len(refused(make_subnet(), others=(make_subnet("s2", "10.6.9.0/24", ips=[]),)))
    assert [] == refused(
        make_subnet(),
        others=(make_subnet("s2", "10.7.0.0/16", ips=[]), make_subnet("s6", "fd00::/64")),
    )


def test_pools_that_are_there() -> None:
    """
    A pool of another CIDR that overlaps is in the way.

    One of the same CIDR must have addresses of the subnet only.
    """
    (overlap,) = refused(make_subnet(), make_pool("red", "10.6.0.0/24"))
    (outside,) = refused(make_subnet(), make_pool("red", ips=["10.6.0.10-10.6.0.30"]))

    assert "overlaps subnet 10.6.0.0/24 of IPPool red" in overlap
    assert "lacks 11 addresses (10.6.0.20-10.6.0.30) of IPPool red" in outside
    assert [] == refused(
        make_subnet(), make_pool("red"), make_pool("green", "10.7.0.0/16", ips=["10.7.0.1"])
    )


def test_changes() -> None:
    """
    Family and CIDR stay.

    What pools have cannot be taken away, everything else can.

    Source: docs/reference/admission.md#spidersubnet.
    """
    old = make_subnet(given=GIVEN)

    assert [
        "spec.subnet: Forbidden: is immutable: it is 10.6.0.0/16 and cannot become 10.8.0.0/16"
    ] == changed(old, subnet="10.8.0.0/16", ips=())
    assert [] == changed(old, ips=("10.6.0.10-10.6.0.12", "10.6.0.15"))
    words = changed(old, ips=("10.6.0.11-10.6.0.12",))
    assert [
        "spec.ips: Forbidden: lacks 1 address (10.6.0.10) given to IPPool auto",
        "spec.ips: Forbidden: lacks 1 address",
    ] == [
        words[0].partition(";")[0],
        words[1].partition(" (")[0],
    ]


def test_end_of_a_subnet() -> None:
    """
    A subnet that is being deleted is not changed any more, but finalizers may go.

    Deletion itself is refused on request.
    """
    going = make_subnet(deleted=True)
    other = replace(going, spec=replace(going.spec, ips=()))
    free = replace(going, metadata=replace(going.metadata, finalizers=()))

    assert "is being deleted and cannot be changed" in (forbid_subnet_update(going, other) or "")
    assert forbid_subnet_update(going, free) is None
    assert (
        forbid_subnet_update(
            going, replace(going, metadata=replace(going.metadata, labels={"a": "b"}))
        )
        is None
    )
    assert validate_subnet_delete(make_subnet(given=GIVEN), FEATURES) is None
    assert validate_subnet_delete(make_subnet(), PROTECTED) is None
    assert "4 addresses (10.6.0.10-10.6.0.12, 10.6.0.15) of it are given to auto, blue" in (
        validate_subnet_delete(make_subnet(given=GIVEN), PROTECTED) or ""
    )


# --- pools that belong to a subnet
# ----------------------------------------------------------------------------------------


def test_adoption() -> None:
    """
    A new pool of the CIDR gets its owner, its label, and what it leaves open.

    Another's pool stays as it is.
    """
    subnet = Subnet.parse(
        make_subnet(gateway="10.6.0.1", routes=[{"dst": "10.9.0.0/16", "gw": "10.6.0.2"}])
    )
    pool = mutate_pool(make_ippool(), subnet=subnet)
    explicit = mutate_pool(make_ippool(routes=[], gateway="10.6.0.3"), subnet=subnet)
    theirs = adopted(
        replace(pool, metadata=replace(pool.metadata, labels={})), Subnet.parse(make_subnet("s2"))
    )

    (owner,) = pool.metadata.owner_references
    assert ("s1", "s1-uid", True) == (owner.name, owner.uid, owner.controller)
    assert "s1" == pool.metadata.labels["ipam.spidernet.io/owner-spider-subnet"]
    assert ("10.6.0.1", 1) == (pool.spec.gateway, len(pool.spec.routes or ()))
    assert ("10.6.0.3", ()) == (explicit.spec.gateway, explicit.spec.routes)
    assert pool.metadata.owner_references == theirs.metadata.owner_references
    assert {} == theirs.metadata.labels


def under(
    subnet: SpiderSubnet, name: str = "green", *, auto: bool = False, **spec: Any
) -> list[str]:
    """Admit a new pool that belongs to a subnet, and give the refused fields with their words."""
    labels = {"ipam.spidernet.io/owner-application-name": "web"} if auto else {}
    pool = mutate_pool(make_ippool(name, labels=labels, **spec), subnet=Subnet.parse(subnet))
    return [
        error.text for error in validate_pool(None, pool, (), None, FEATURES, Subnet.parse(subnet))
    ]


def test_pool_within_its_subnet() -> None:
    """A pool has addresses of its subnet only, and none that the subnet gives to an automatic pool."""
    (outside,) = under(make_subnet(), ips=["10.6.0.19-10.6.0.21"])
    (granted,) = under(make_subnet(given=GIVEN), ips=["10.6.0.12-10.6.0.14"])

    assert "has 2 addresses (10.6.0.20-10.6.0.21) that SpiderSubnet s1 does not have" in outside
    assert "has 1 address (10.6.0.12) that SpiderSubnet s1 gives to automatic pool auto" in granted
    assert [] == under(make_subnet(given=GIVEN), ips=["10.6.0.16-10.6.0.19"])
    assert [] == under(make_subnet(given=GIVEN), "blue", ips=["10.6.0.15-10.6.0.16"])


def test_automatic_pool_has_what_it_was_given() -> None:
    """
    A user cannot change the addresses of an automatic pool.

    They are those of the subnet's status.
    """
    (words,) = under(make_subnet(given=GIVEN), "auto", auto=True, ips=["10.6.0.10-10.6.0.13"])

    assert "change annotation ipam.spidernet.io/ippool-ip-number or the replicas" in words
    assert [] == under(make_subnet(given=GIVEN), "auto", auto=True, ips=["10.6.0.10-10.6.0.12"])
    assert 1 == len(under(make_subnet(), "auto", auto=True, ips=["10.6.0.10"]))
