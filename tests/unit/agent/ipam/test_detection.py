"""
What an ADD asks the wire about.

Whose word counts, whose addresses, who is left in peace.

Source: docs/reference/allocation.md#detection.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from msgspec.structs import replace

from spiderpool.agent.ipam.allocator import Allocation
from spiderpool.agent.ipam.detection import InUse, ProbeRequest, read_probe_request
from tests.fakes.objects import FEATURES, make_facts, make_pod, make_pool, make_record

OWN, GATEWAY = ip_address("10.6.0.10"), ip_address("10.6.0.1")


def probe_request(
    *,
    conflict: bool = False,
    gateway: bool = False,
    annotations: dict[str, str] | None = None,
    **pool: Any,
) -> ProbeRequest:
    """Decide about eth0 of a pod that also has a net1."""
    features = replace(
        FEATURES, enable_ip_conflict_detection=conflict, enable_gateway_detection=gateway
    )
    made = make_pool(gateway=str(GATEWAY), **pool)
    facts = make_facts(made, pod=make_pod(annotations=annotations or {}), features=features)
    records = (
        make_record(str(OWN), made, facts),
        make_record("10.6.0.11", made, facts, nic="net1"),
    )
    return read_probe_request(Allocation(facts, records), "eth0")


@pytest.mark.parametrize(
    ("cluster", "pool", "asked"),
    [(False, None, False), (True, None, True), (False, True, True), (True, False, False)],
)
def test_whose_word_counts(cluster: bool, pool: bool | None, asked: bool) -> None:
    """
    The pool's word goes before the cluster's, for conflicts and for gateways.

    Only the NIC's own addresses are asked for.
    """
    words: dict[str, Any] = (
        {} if pool is None else {"enableIPConflictDetection": pool, "enableGatewayDetection": pool}
    )

    found = probe_request(conflict=cluster, gateway=cluster, **words)

    assert ((OWN,) if asked else ()) == found.conflicts
    assert ({OWN: GATEWAY} if asked else {}) == found.gateways
    assert (OWN,) == found.announced


def test_migration() -> None:
    """While a virtual machine migrates two pods have its address: that is no conflict."""
    found = probe_request(
        conflict=True, gateway=True, annotations={"kubevirt.io/migrationJobName": "job"}
    )

    assert () == found.conflicts
    assert {OWN: GATEWAY} == found.gateways


def test_words_of_a_conflict() -> None:
    """The error is the original's text, one part for each address, and may be tried again."""
    error = InUse("eth0", {OWN: "02:00:00:00:00:01", GATEWAY: "02:00:00:00:00:02"}, set_aside=True)

    assert (
        "ip conflict: pod's interface eth0 with an conflicting ip 10.6.0.10, 10.6.0.10 is located at 02:00:00:00:00:01; "
        "ip conflict: pod's interface eth0 with an conflicting ip 10.6.0.1, 10.6.0.1 is located at 02:00:00:00:00:02"
    ) == error.message
    assert error.retryable
