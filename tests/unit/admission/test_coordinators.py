"""
Admission of coordinator settings: defaults and checks.

Source: docs/reference/coordinator.md#fields-of-a-spidercoordinator.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.admission.coordinators import complete_coordinator, normalise, validate_coordinator
from spiderpool.api.crd.coordinator import (
    CoordinatorMode,
    CoordinatorSpec,
    PodCIDRType,
    SpiderCoordinator,
)
from spiderpool.api.crd.ippool import Route
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.datapath.coordinator_merge import read_coordinator

GOING = "2026-01-01T00:00:00Z"


def coordinator(meta: ObjectMeta | None = None, **spec: Any) -> SpiderCoordinator:
    """Make an object as a user writes it."""
    return SpiderCoordinator(
        metadata=meta or ObjectMeta(name="default"), spec=msgspec.convert(spec, CoordinatorSpec)
    )


def refused(**spec: Any) -> list[str]:
    """Complete an object and give the fields that are refused."""
    whole = {"podCIDRType": "auto", **spec}
    return [
        error.field for error in validate_coordinator(complete_coordinator(coordinator(**whole)))
    ]


def test_defaults() -> None:
    """Everything but `podCIDRType` has a default, and the object gets our finalizer."""
    completed = complete_coordinator(coordinator())
    expected = CoordinatorSpec(
        mode=CoordinatorMode.AUTO,
        tune_pod_routes=True,
        host_rule_table=500,
        pod_rp_filter=0,
        tx_queue_len=0,
        veth_link_address="",
        veth_mtu=1500,
    )

    assert expected == completed.spec
    assert ("spiderpool.spidernet.io",) == completed.metadata.finalizers


def test_what_is_said_stays() -> None:
    """Values of the user are no defaults."""
    said = {
        "mode": "overlay",
        "podCIDRType": "none",
        "tunePodRoutes": False,
        "hostRuleTable": 600,
        "podRPFilter": -1,
        "txQueueLen": 5,
        "vethLinkAddress": "169.254.100.1",
        "vethMTU": 1400,
    }
    completed = complete_coordinator(
        coordinator(ObjectMeta(name="default", finalizers=("a", "spiderpool.spidernet.io")), **said)
    )

    assert said == {
        key: value for key, value in msgspec.to_builtins(completed.spec).items() if key in said
    }
    assert ("a", "spiderpool.spidernet.io") == completed.metadata.finalizers


def test_bare_addresses_become_networks() -> None:
    """A bare address means the network of it alone."""
    spec = normalise(
        CoordinatorSpec(
            hijack_cidr=("10.6.0.1", "10.7.0.0/16", "fd00::1", "nonsense"),
            policy_routes=(
                Route(dst="10.1.1.1", gw="10.6.0.1"),
                Route(dst="fd01::/64", gw="fd00::1"),
            ),
        )
    )

    assert ("10.6.0.1/32", "10.7.0.0/16", "fd00::1/128", "nonsense") == spec.hijack_cidr
    assert ["10.1.1.1/32", "fd01::/64"] == [route.dst for route in spec.policy_routes]


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({}, []),
        ({"podCIDRType": None}, ["spec.podCIDRType"]),
        ({"hijackCIDR": ["10.6.0.1", "fd00::/64"]}, []),
        ({"hijackCIDR": ["10.6.0.0/16", "10.6.0.300"]}, ["spec.hijackCIDR[1]"]),
        (
            {
                "policyRoutes": [
                    {"dst": "10.1.0.0/16", "gw": "10.6.0.1"},
                    {"dst": "fd01::/64", "gw": "fd00::1"},
                ]
            },
            [],
        ),
        ({"policyRoutes": [{"dst": "10.1.0.0/16", "gw": "fd00::1"}]}, ["spec.policyRoutes[0].gw"]),
        (
            {"policyRoutes": [{"dst": "10.1.0.0/16", "gw": "127.0.0.1"}]},
            ["spec.policyRoutes[0].gw"],
        ),
        ({"policyRoutes": [{"dst": "fd00::/64", "gw": "ff02::1"}]}, ["spec.policyRoutes[0].gw"]),
        ({"policyRoutes": [{"dst": "fd00::/64", "gw": "fe80::1"}]}, []),
        (
            {"policyRoutes": [{"dst": "x", "gw": "y"}]},
            ["spec.policyRoutes[0].dst", "spec.policyRoutes[0].gw"],
        ),
        ({"podMACPrefix": "0a:1b"}, []),
        ({"podMACPrefix": ""}, []),
        ({"podMACPrefix": "0b:1b"}, ["spec.podMACPrefix"]),
        ({"podMACPrefix": "0a-1b"}, ["spec.podMACPrefix"]),
        ({"podMACPrefix": "0a:1b:2c"}, ["spec.podMACPrefix"]),
        ({"hostRuleTable": -1}, ["spec.hostRuleTable"]),
        ({"hostRuleTable": 2**32}, ["spec.hostRuleTable"]),
        ({"hostRuleTable": 253}, ["spec.hostRuleTable"]),
        ({"hostRuleTable": 254}, ["spec.hostRuleTable"]),
        ({"hostRuleTable": 255}, ["spec.hostRuleTable"]),
        ({"hostRuleTable": 252}, []),
        ({"podDefaultRouteNIC": "net1"}, []),
        ({"podDefaultRouteNIC": "sixteen-letters!"}, ["spec.podDefaultRouteNIC"]),
        ({"podDefaultRouteNIC": "net 1"}, ["spec.podDefaultRouteNIC"]),
        ({"podRPFilter": 2}, []),
        ({"podRPFilter": -5}, []),
        ({"podRPFilter": 3}, ["spec.podRPFilter"]),
        ({"txQueueLen": -1}, ["spec.txQueueLen"]),
        ({"txQueueLen": 2**31}, ["spec.txQueueLen"]),
        ({"vethLinkAddress": "169.254.100.1"}, []),
        ({"vethLinkAddress": "169.254.100.1/32"}, ["spec.vethLinkAddress"]),
        ({"vethLinkAddress": "::"}, ["spec.vethLinkAddress"]),
        ({"vethLinkAddress": "ff02::1"}, ["spec.vethLinkAddress"]),
        ({"vethMTU": 67}, ["spec.vethMTU"]),
        ({"vethMTU": 68}, []),
        ({"vethMTU": 65535}, []),
        ({"vethMTU": 65536}, ["spec.vethMTU"]),
    ],
)
def test_checks(spec: dict[str, Any], fields: list[str]) -> None:
    """What is out of range, of another family or no address at all is refused by name."""
    assert fields == refused(**spec)


@pytest.mark.parametrize("kind", list(PodCIDRType))
@pytest.mark.parametrize("mode", list(CoordinatorMode))
def test_all_words_are_fine(mode: CoordinatorMode, kind: PodCIDRType) -> None:
    """Every mode goes with every source of the CIDRs."""
    assert [] == refused(mode=mode, podCIDRType=kind)


WRONG_TYPES: dict[str, list[Any]] = {
    "mode": ["disable", 1],
    "podCIDRType": ["weave", 1],
    "hijackCIDR": ["10.6.0.0/16", [1]],
    "policyRoutes": [
        {"dst": "10.1.0.0/16", "gw": "10.6.0.1"},
        [{"dst": "10.1.0.0/16"}],
        [{"gw": "10.6.0.1"}],
    ],
    "podMACPrefix": [1],
    "tunePodRoutes": ["true", 1],
    "podDefaultRouteNIC": [1],
    "hostRuleTable": ["500", True, 1.5],
    "podRPFilter": ["0", True],
    "txQueueLen": ["0"],
    "vethLinkAddress": [1],
    "vethMTU": ["1500", 0, -1],
}


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in WRONG_TYPES.items() for value in values],
)
def test_wrong_types(field: str, value: object) -> None:
    """
    A value of a wrong type does not become settings, whatever let it pass.

    The words name the field.
    """
    with pytest.raises(msgspec.ValidationError, match=rf"\$\.{field}"):
        msgspec.convert({field: value}, CoordinatorSpec)


def test_every_field_has_a_wrong_type() -> None:
    """No field is left out above."""
    assert {
        field.encode_name for field in msgspec.structs.fields(CoordinatorSpec)
    } == WRONG_TYPES.keys()


def test_what_is_admitted_is_served() -> None:
    """Numbers that the webhook lets pass are right for the coordinator too."""
    for key, values in {
        "hostRuleTable": (1, 252, 2**32 - 1),
        "txQueueLen": (2**31 - 1,),
        "vethMTU": (68, 65535),
    }.items():
        for value in values:
            assert [] == refused(**{key: value})
            assert read_coordinator({}, {key: value})


def test_words() -> None:
    """A refusal says the value and what would do."""
    (error,) = validate_coordinator(
        complete_coordinator(coordinator(podCIDRType="auto", podMACPrefix="01:1b"))
    )
    expected = 'spec.podMACPrefix: Invalid value: "01:1b": starts a multicast MAC: the lowest bit of the first byte must be 0'

    assert expected == error.text


def test_on_its_way_out() -> None:
    """An object that is being deleted is neither filled in nor refused."""
    going = coordinator(ObjectMeta(name="default", deletion_timestamp=GOING), vethMTU=1)

    assert going == complete_coordinator(going)
    assert [] == validate_coordinator(going)


@given(
    st.sampled_from([None, *PodCIDRType]),
    st.lists(st.ip_addresses().map(str) | st.sampled_from(["10.0.0.0/8", "?"]), max_size=3),
    st.integers(-3, 3) | st.none(),
)
def test_completing_twice_changes_nothing(
    kind: PodCIDRType | None, hijacked: list[str], rp_filter: int | None
) -> None:
    """What is complete stays as it is: the webhook may see an object several times."""
    spec = CoordinatorSpec(pod_cidr_type=kind, hijack_cidr=tuple(hijacked), pod_rp_filter=rp_filter)
    once = complete_coordinator(SpiderCoordinator(metadata=ObjectMeta(name="default"), spec=spec))

    assert once == complete_coordinator(once)
