"""
Automatic pools as objects.

Names, labels and specification of the reference, other names.

Source: docs/reference/automatic-pools.md#which-pool.
"""

from __future__ import annotations

import re
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.ipam.automatic_pool import (
    App,
    PoolPlan,
    application_labels,
    build_pool,
    label_key_of,
    parse_application_key,
    pool_changes,
    pool_names,
)
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.model.label_values import LABEL_VALUE
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet

UID = "b1a361c7-0000-4000-8000-7f619c69194e"
APP = App(
    Application(api_version="apps/v1", kind="Deployment", name="test-app", uid=UID), "default"
)
SUBNET = Subnet.parse(
    SpiderSubnet(
        metadata=ObjectMeta(name="subnet-test-ens192", uid="s-uid"),
        spec=SubnetSpec(
            ip_version=4,
            subnet="10.6.0.0/16",
            gateway="10.6.0.1",
            ips=("10.6.168.171-10.6.168.180",),
            routes=(Route(dst="10.99.0.0/16", gw="10.6.0.2"),),
        ),
    )
)
PLAN = PoolPlan(
    name="auto4-test-app-eth0-7f619",
    app=APP,
    nic="eth0",
    subnet=SUBNET,
    ips=parse_ranges(4, ["10.6.168.171-10.6.168.173"]),
    number=IPNumber(1, flexible=True),
    reclaim=True,
)
# DNS subdomain, RFC 1123
NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
DNS = st.from_regex(
    r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,60}[a-z0-9])?){0,5}", fullmatch=True
)
NICS = st.text("abcXYZ019_.@-", min_size=1, max_size=15)


def test_reference_name() -> None:
    """The first name is the reference's own example; the next ones differ from it, by subnet."""
    names = list(islice(pool_names(APP, "s", "eth0", 4), 3))

    assert "auto4-test-app-eth0-7f619" == names[0]
    assert "auto6-test-app-net1-7f619" == next(pool_names(APP, "s", "net1", 6))
    assert 3 == len(set(names))
    assert names[1] != list(islice(pool_names(APP, "t", "eth0", 4), 2))[1]


@given(DNS, NICS, st.sampled_from([4, 6]))
def test_names_are_names(app: str, nic: str, family: int) -> None:
    """Whatever the application and the NIC are called, every name is one for an object of Kubernetes."""
    owner = Application(
        api_version="apps/v1", kind="Deployment", name=(app * 20)[:253].strip("-."), uid=UID
    )
    for name in islice(pool_names(App(owner, "ns"), "s", nic, family), 3):
        assert NAME.fullmatch(name)
        assert len(name) <= 253


def test_object() -> None:
    """
    Labels, annotation, owner and specification are the reference's.

    Gateway and routes are the subnet's.
    """
    pool = build_pool(PLAN)

    prefix = "ipam.spidernet.io/"
    assert {
        prefix + "ippool-cidr": "10-6-0-0-16",
        prefix + "owner-spider-subnet": "subnet-test-ens192",
        prefix + "owner-application-gv": "apps_v1",
        prefix + "owner-application-kind": "Deployment",
        prefix + "owner-application-namespace": "default",
        prefix + "owner-application-name": "test-app",
        prefix + "owner-application-uid": UID,
        prefix + "interface": "eth0",
        prefix + "ip-version": "IPv4",
        prefix + "ippool-reclaim": "true",
    } == pool.metadata.labels
    assert {prefix + "ippool-ip-number": "+1"} == pool.metadata.annotations
    (owner,) = pool.metadata.owner_references
    assert ("SpiderSubnet", "subnet-test-ens192", "s-uid", True) == (
        owner.kind,
        owner.name,
        owner.uid,
        owner.controller,
    )
    assert (4, "10.6.0.0/16", "10.6.0.1") == (
        pool.spec.ip_version,
        pool.spec.subnet,
        pool.spec.gateway,
    )
    assert (Route(dst="10.99.0.0/16", gw="10.6.0.2"),) == pool.spec.routes
    assert ("10.6.168.171-10.6.168.173",) == pool.spec.ips
    assert pool.spec.pod_affinity is not None
    assert application_labels(APP.owner, "default") == pool.spec.pod_affinity.match_labels
    assert APP.place("subnet-test-ens192", "eth0", 4) == Pool.parse(pool).place


def test_nothing_to_change() -> None:
    """
    A pool that is as it is to be needs no write.

    Another size, owner or number changes just that.
    """
    pool = build_pool(PLAN)
    smaller = PoolPlan(
        PLAN.name,
        APP,
        "eth0",
        SUBNET,
        parse_ranges(4, ["10.6.168.172"]),
        IPNumber(0, flexible=True),
        False,
    )

    assert {} == pool_changes(pool, PLAN)
    assert {
        "metadata": {
            "labels": {"ipam.spidernet.io/ippool-reclaim": "false"},
            "annotations": {"ipam.spidernet.io/ippool-ip-number": "+0"},
        },
        "spec": {"ips": ["10.6.168.172"], "excludeIPs": None},
    } == pool_changes(pool, smaller)


def test_keys() -> None:
    """
    An application's key is the reference's and read back.

    Its label form hashes a name over 63 characters.

    Source: docs/reference/automatic-pools.md#spidersubnet.
    """
    core = App(
        Application(api_version="v1", kind="ReplicationController", name="rc", uid="u"), "ns"
    )
    long = App(Application(api_version="apps/v1", kind="Deployment", name="x" * 80, uid="u"), "ns")

    assert "apps_v1_Deployment_default_test-app" == APP.key == APP.label_key
    assert "v1_ReplicationController_ns_rc" == core.key
    assert ("apps/v1", "Deployment", "default", "test-app") == parse_application_key(APP.key)
    assert ("v1", "ReplicationController", "ns", "rc") == parse_application_key(core.key)
    assert parse_application_key("nonsense") is None
    assert long.label_key == label_key_of(long.key) != long.key
    assert all(LABEL_VALUE.fullmatch(value) for value in long.affinity().values())
