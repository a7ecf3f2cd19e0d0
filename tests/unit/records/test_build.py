"""The record of a claim, over its life, and what is derived from records."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.spiderip import Holder, HolderKind, IPState, SpiderIP
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.configuration.config import Features
from spiderpool.ipam.pod_request import Request
from spiderpool.ipam.response import render_answer
from spiderpool.model.claim import ClaimKey
from spiderpool.records.build import hand_over, let_go, put_in_place, record_of
from spiderpool.records.projections import endpoint_of, pool_status
from tests.fakes.objects import (
    DEPLOYMENT,
    FEATURES,
    MACHINE,
    STATEFULSET,
    make_facts,
    make_pod,
    make_pool,
    make_record,
)

GATED = make_pool(gateway="10.6.0.1", routes=[{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}])
GATED6 = make_pool("six", "fd00::/64", gateway="fd00::1")


def document(value: Any) -> Any:
    """Return what goes over the wire."""
    return json.loads(msgspec.json.encode(value))


def test_a_new_record() -> None:
    """A record says who holds the address, what came with it, and can be selected by pool, node, holder and owner."""
    custom = Route(dst="10.9.0.0/16", gw="10.6.0.3")
    record = make_record("10.6.0.10", GATED, routes=(custom,), clean_gateway=True)

    assert document(record) == {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderIP",
        "metadata": {
            "name": "10.6.0.10",
            "labels": {
                "ipam.spidernet.io/ippool": "blue",
                "ipam.spidernet.io/node": "node1",
                "ipam.spidernet.io/owner": "d-uid",
                "ipam.spidernet.io/holder-key": ClaimKey.of_record(record).label,
            },
        },
        "spec": {
            "ip": "10.6.0.10",
            "pool": "blue",
            "family": 4,
            "prefixLength": 16,
            "state": "Held",
            "holder": {
                "namespace": "ns",
                "name": "web-1",
                "uid": "uid-1",
                "nic": "eth0",
                "node": "node1",
                "containerID": "sandbox-1",
                "network": "macvlan",
                "owner": {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "name": "web",
                    "uid": "d-uid",
                },
            },
            "static": False,
            "gateway": "10.6.0.1",
            "cleanGateway": True,
            "routes": [
                {"dst": "10.7.0.0/16", "gw": "10.6.0.2"},
                {"dst": "10.9.0.0/16", "gw": "10.6.0.3"},
            ],
            "stateSince": None,
            "conflictMAC": None,
        },
    }


def test_long_names_in_labels() -> None:
    """A pool's name that is too long for a label is hashed in the label and whole in the specification."""
    record = make_record(pool=make_pool("p" * 70))

    assert record.spec.pool == "p" * 70
    assert len(record.metadata.labels["ipam.spidernet.io/ippool"]) == 32


def test_a_machine_s_record() -> None:
    """The holder of a virtual machine's address is the machine, not its launcher pod."""
    record = make_record(facts=make_facts(pod=make_pod("virt-launcher-vm-abc"), owner=MACHINE))

    assert (HolderKind.VIRTUAL_MACHINE, "vm", True) == (
        record.spec.holder.kind,
        record.spec.holder.name,
        record.spec.static,
    )


def test_hand_over() -> None:
    """
    A handed-over record has the new pod's UID, node and sandbox.

    Name, routes, key and resource version stay.
    """
    facts = make_facts(GATED, pod=make_pod("db-0"), owner=STATEFULSET)
    old = make_record("10.6.0.10", GATED, facts)
    stored = replace(old, metadata=replace(old.metadata, uid="r-uid", resource_version="7"))
    new = hand_over(
        stored,
        make_pod("db-0", uid="uid-2", node="node2"),
        STATEFULSET,
        Request("eth0", container_id="sandbox-2"),
    )

    assert ("uid-2", "node2", "sandbox-2") == (
        new.spec.holder.uid,
        new.spec.holder.node,
        new.spec.holder.container_id,
    )
    assert new.metadata.labels["ipam.spidernet.io/node"] == "node2"
    assert ("r-uid", "7") == (new.metadata.uid, new.metadata.resource_version)
    assert old.spec.routes == new.spec.routes
    assert ClaimKey.of_record(old) == ClaimKey.of_record(new)


def test_cooling_and_back() -> None:
    """A cooling record shows its last holder; taking it back keeps the object's identity."""
    held = make_record()
    stored = replace(held, metadata=replace(held.metadata, uid="r-uid", resource_version="7"))
    cooling = let_go(stored, IPState.COOLING, "2025-01-01T00:00:00Z")
    again = put_in_place(cooling, held)

    assert IPState.COOLING is cooling.spec.state
    assert cooling.spec.state_since == "2025-01-01T00:00:00Z"
    assert held.spec.holder == cooling.spec.holder
    assert held.spec == again.spec
    assert ("r-uid", "7") == (again.metadata.uid, again.metadata.resource_version)


def test_foreign_labels_stay() -> None:
    """Labels of others survive; ours follow the specification."""
    record = make_record()
    marked = replace(
        record.metadata,
        labels={**record.metadata.labels, "other": "x", "ipam.spidernet.io/node": "stale"},
    )

    assert record_of(record.spec, marked).metadata.labels == {
        **record.metadata.labels,
        "other": "x",
    }


def test_answer() -> None:
    """
    The answer has the original's form.

    Source: docs/reference/allocation.md#answer.
    """
    expected = {
        "ips": [
            {
                "address": "10.6.0.10/16",
                "gateway": "10.6.0.1",
                "ipPool": "blue",
                "nic": "eth0",
                "version": 4,
            }
        ],
        "routes": [
            {"dst": "10.7.0.0/16", "gw": "10.6.0.2", "ifName": "eth0"},
            {"dst": "0.0.0.0/0", "gw": "10.6.0.1", "ifName": "eth0"},
        ],
    }

    assert expected == document(render_answer([make_record("10.6.0.10", GATED)], FEATURES))


def test_order_of_the_answer() -> None:
    """eth0 comes first, other NICs by name with numbers by value, IPv4 before IPv6, whatever order records come in."""
    nics = ["net10", "eth0", "net2"]
    records = [make_record(ip, nic=nic) for nic in nics for ip in ("fd00::10", "10.6.0.10")]
    answer = render_answer(records, FEATURES)

    assert [("eth0", 4), ("eth0", 6), ("net2", 4), ("net2", 6), ("net10", 4), ("net10", 6)] == [
        (ip.nic, ip.version) for ip in answer.ips or ()
    ]
    assert answer.routes is None


def test_clean_gateway() -> None:
    """With clean gateway the gateway is told and no default route is made."""
    answer = render_answer([make_record("fd00::10", GATED6, clean_gateway=True)], FEATURES)

    assert ["fd00::1"] == [ip.gateway for ip in answer.ips or ()]
    assert answer.routes is None
    assert [("::/0", "fd00::1")] == [
        (route.dst, route.gw)
        for route in render_answer([make_record("fd00::10", GATED6)], FEATURES).routes or ()
    ]


def test_switches_in_the_answer() -> None:
    """The detection switches are told when they are on; nothing at all is null."""
    features = Features(enable_ip_conflict_detection=True, enable_gateway_detection=True)
    (ip,) = document(render_answer([make_record()], features))["ips"]

    assert ip["enableIPConflictDetection"]
    assert ip["enableGatewayDetection"]
    assert document(render_answer([], features)) == {"ips": None, "routes": None}


def test_endpoint() -> None:
    """
    The endpoint has one entry a NIC with both families, and belongs to its pod.

    Source: docs/reference/objects.md#spiderendpoint.
    """
    records = [
        make_record("10.6.0.11", nic="net1"),
        make_record("fd00::10", GATED6),
        make_record("10.6.0.10", GATED),
    ]
    endpoint = endpoint_of(records, make_pod(), DEPLOYMENT)

    assert endpoint is not None
    assert document(endpoint) == {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderEndpoint",
        "metadata": {
            "name": "web-1",
            "namespace": "ns",
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "web-1", "uid": "uid-1"}
            ],
        },
        "status": {
            "current": {
                "uid": "uid-1",
                "node": "node1",
                "ips": [
                    {
                        "interface": "eth0",
                        "ipv4": "10.6.0.10/16",
                        "ipv4Pool": "blue",
                        "ipv4Gateway": "10.6.0.1",
                        "ipv6": "fd00::10/64",
                        "ipv6Pool": "six",
                        "ipv6Gateway": "fd00::1",
                        "vlan": 0,
                        "cleanGateway": False,
                        "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
                    },
                    {"interface": "net1", "ipv4": "10.6.0.11/16", "ipv4Pool": "blue", "vlan": 0},
                ],
            },
            "ownerControllerType": "Deployment",
            "ownerControllerName": "web",
        },
    }


def test_endpoints_of_static_holders() -> None:
    """A static holder's endpoint outlives the pod and has the holder's name."""
    facts = make_facts(pod=make_pod("virt-launcher-vm-abc"), owner=MACHINE)
    endpoint = endpoint_of([make_record(facts=facts)], facts.pod, MACHINE)

    assert endpoint is not None
    assert endpoint.metadata == ObjectMeta(name="vm", namespace="ns")


def test_no_endpoint() -> None:
    """A pod that holds nothing has no endpoint; cooling addresses are not held."""
    assert (
        endpoint_of([let_go(make_record(), IPState.COOLING, "now")], make_pod(), DEPLOYMENT) is None
    )


def test_owner_is_no_controller() -> None:
    """The pod owns its endpoint without controlling it."""
    endpoint = endpoint_of([make_record()], make_pod(), DEPLOYMENT)

    assert endpoint is not None
    assert (
        OwnerReference(api_version="v1", kind="Pod", name="web-1", uid="uid-1"),
    ) == endpoint.metadata.owner_references


def records_of(*ips: str) -> list[SpiderIP]:
    """Make the records of several pods."""
    return [
        make_record(ip, facts=make_facts(pod=make_pod(f"pod-{ip[-1]}", uid=f"u{ip[-1]}")))
        for ip in ips
    ]


def test_pool_status() -> None:
    """
    The status has the original's exact form.

    Keys in plain string order, counts beside it.

    Source: docs/reference/objects.md#spiderippool.
    """
    status = pool_status(records_of("10.6.0.9", "10.6.0.10"), make_pool(gateway="10.6.0.10"))

    assert (2, 10) == (status.allocated_ip_count, status.total_ip_count)
    assert status.allocated_ips == (
        '{"10.6.0.10":{"pod":"ns/pod-0","podUid":"u0"},"10.6.0.9":{"pod":"ns/pod-9","podUid":"u9"}}'
    )


def test_pool_status_of_nothing() -> None:
    """
    Without allocations the map is absent.

    Neither cooling addresses nor the controller's own claims count.
    """
    claim = replace(make_record("10.6.0.12").spec, holder=Holder(kind=HolderKind.POOL, name="blue"))
    status = pool_status(
        [let_go(make_record("10.6.0.11"), IPState.COOLING, "now"), record_of(claim)], make_pool()
    )

    assert status.allocated_ips is None
    assert (0, 10) == (status.allocated_ip_count, status.total_ip_count)


def test_pool_status_at_the_limit() -> None:
    """Above the limit the map is left out and the counts stay; a huge pool's total is capped."""
    records = records_of("10.6.0.10", "10.6.0.11", "10.6.0.12")
    huge = make_pool(subnet="fd00::/64", ips=["fd00::-fd00::ffff:ffff:ffff:ffff"])

    assert pool_status(records, make_pool(), limit=3).allocated_ips is not None
    assert pool_status(records, make_pool(), limit=2).allocated_ips is None
    assert pool_status(records, make_pool(), limit=2).allocated_ip_count == 3
    assert pool_status([], huge).total_ip_count == 2**63 - 1


@given(st.lists(st.sampled_from([IPState.HELD, IPState.COOLING, IPState.QUARANTINED]), max_size=10))
def test_only_held_records_count(states: list[IPState]) -> None:
    """Counts and map always agree, over records in any state."""
    records = [
        record_of(replace(make_record(f"10.6.0.{10 + number}").spec, state=state))
        for number, state in enumerate(states)
    ]
    status = pool_status(records, make_pool())
    held = [record.spec.ip for record in records if record.spec.state is IPState.HELD]

    assert sorted(held) == list(json.loads(status.allocated_ips or "{}"))
    assert len(held) == status.allocated_ip_count
