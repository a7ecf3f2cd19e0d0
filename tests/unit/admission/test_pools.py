"""
Admission rules of pools and reservations.

Source: docs/reference/admission.md#spiderippool, docs/reference/admission.md#spiderreservedip.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.addressing.ranges import parse_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.admission.field_errors import FieldError, Kind, render_errors
from spiderpool.admission.pools import (
    forbid_pool_update,
    forbid_reserved_update,
    mutate_pool,
    mutate_reserved,
    validate_pool,
    validate_pool_delete,
    validate_reserved,
)
from spiderpool.api.crd.group import ANNO_IMPORTED, FINALIZER, LABEL_OWNER_APP_NAME
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import ReservedIPSpec, SpiderReservedIP
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.configuration.config import Features
from spiderpool.model.pool import Pool
from tests.fakes.objects import FEATURES, make_ippool, make_pool

PROTECTED = Features(enable_validating_resources_deleted_webhook=True)


def errors_of(new: SpiderIPPool, *others: Pool, features: Features = FEATURES) -> list[FieldError]:
    """Admit a new pool as the API server would: fill in, then validate."""
    return validate_pool(None, mutate_pool(new, created=True), others, None, features)


def change(
    old: SpiderIPPool, held: AddressSet | None = None, *others: Pool, **spec: Any
) -> list[FieldError]:
    """Change some fields of a pool's specification."""
    before = mutate_pool(old, created=True)
    after = mutate_pool(replace(before, spec=replace(before.spec, **spec)))
    return validate_pool(before, after, others, held, FEATURES)


def test_what_is_filled_in() -> None:
    """Finalizer, family, subnet label, the mark of a pool that was never Go Spiderpool's, and merged ranges."""
    pool = mutate_pool(
        make_ippool(
            ips=["10.6.0.9", "10.6.0.1-10.6.0.3", "10.6.0.2-10.6.0.4"],
            excludeIPs=["10.6.0.3", "10.6.0.2"],
            annotations={},
        ),
        created=True,
    )

    assert (FINALIZER,) == pool.metadata.finalizers
    assert {"ipam.spidernet.io/ippool-cidr": "10-6-0-0-16"} == pool.metadata.labels
    assert ANNO_IMPORTED in pool.metadata.annotations
    assert pool.spec.ip_version == 4
    assert ("10.6.0.1-10.6.0.4", "10.6.0.9") == pool.spec.ips
    assert ("10.6.0.2-10.6.0.3",) == pool.spec.exclude_ips


def test_what_is_left_alone() -> None:
    """A single range, ranges that cannot be read, a pool being deleted and, at a change, the mark stay as they are."""
    single = mutate_pool(make_ippool(ips=["10.6.0.1-10.6.0.1"], annotations={}))
    broken = mutate_pool(make_ippool(ips=["10.6.0.9-10.6.0.1", "x"], subnet="nonsense"))
    ending = make_ippool(deleted=True)

    assert ("10.6.0.1-10.6.0.1",) == single.spec.ips
    assert ANNO_IMPORTED not in single.metadata.annotations
    assert ("10.6.0.9-10.6.0.1", "x") == broken.spec.ips
    assert broken.spec.ip_version is None
    assert not broken.metadata.labels
    assert ending == mutate_pool(ending)


@given(
    st.lists(
        st.tuples(st.integers(1, 40), st.integers(0, 5)).map(
            lambda r: f"10.6.0.{r[0]}-10.6.0.{sum(r)}"
        ),
        max_size=6,
    )
)
def test_filling_in_changes_no_address(items: list[str]) -> None:
    """Merged ranges mean the same addresses, and filling in twice changes nothing."""
    pool = mutate_pool(make_ippool(ips=items))

    assert parse_ranges(4, items) == parse_ranges(4, pool.spec.ips)
    assert pool == mutate_pool(pool)


VALID: list[dict[str, Any]] = [
    {},
    {"ips": []},
    {
        "gateway": "10.6.0.1",
        "routes": [
            {"dst": "10.7.0.0/16", "gw": "10.6.0.2"},
            {"dst": "10.8.0.0/16", "gw": "10.6.0.2"},
        ],
    },
    {"gateway": "10.6.0.10", "excludeIPs": ["10.6.0.10"]},
    {
        "subnet": "fd00::/64",
        "gateway": "fd00::1",
        "routes": [{"dst": "fd01::/64", "gw": "fd00::2"}],
    },
    {
        "podAffinity": {"matchLabels": {"a": "b"}},
        "nodeAffinity": {},
        "namespaceAffinity": {"matchLabels": {"a": "b"}},
    },
    # network and broadcast address are never given, so they may be listed
    {
        "subnet": "10.66.9.0/24",
        "ips": ["10.66.9.0-10.66.9.255"],
        "excludeIPs": ["10.66.9.1"],
        "gateway": "10.66.9.1",
    },
    {"subnet": "10.66.9.0/31", "ips": ["10.66.9.1"], "gateway": "10.66.9.0"},  # RFC 3021
    {"subnet": "10.66.9.0/32", "ips": ["10.66.9.0"]},
    {"subnet": "fd00:9::/127", "ips": ["fd00:9::1"], "gateway": "fd00:9::"},  # RFC 6164
    # every router has the anycast address
    {"subnet": "fd00:9::/64", "ips": ["fd00:9::1"], "gateway": "fd00:9::"},
    {
        "subnet": "10.6.0.0/16",
        "ips": ["10.6.0.2"],
        "routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.2"}],
    },
]
NO_SUBNETS = {
    "0.0.0.0/8": "0.0.0.0/8 means this network",
    "0.1.0.0/16": "0.0.0.0/8 means this network",
    "127.0.0.0/8": "127.0.0.0/8 is loopback",
    "127.0.0.0/24": "127.0.0.0/8 is loopback",
    "224.0.0.0/4": "224.0.0.0/4 is multicast",
    "239.1.0.0/16": "224.0.0.0/4 is multicast",
    "240.0.0.0/4": "is the limited broadcast",
    "250.0.0.0/8": "240.0.0.0/4 is reserved",
    "255.255.255.255/32": "is the limited broadcast",
    "::/128": "::/128 means no address",
    "::1/128": "::1/128 is loopback",
    "::ffff:a06:0/112": "::ffff:0:0/96 stands for IPv4 addresses",
    "ff00::/8": "ff00::/8 is multicast",
    "ff02::/64": "ff00::/8 is multicast",
    "fe80::/10": "fe80::/10 is link-local",
    "fe80::/64": "fe80::/10 is link-local",
    "0.0.0.0/0": "0.0.0.0/8 means this network",
}
GATEWAYS = {
    "10.66.9.0": "is the network address of 10.66.9.0/24",
    "10.66.9.255": "is the broadcast address of 10.66.9.0/24",
    "10.66.10.1": "is not an address of subnet 10.66.9.0/24",
    "fd00::1": "is not an address of subnet 10.66.9.0/24",
    "0.0.0.9": "is not an address of subnet 10.66.9.0/24",
    "224.0.0.1": "is not an address of subnet 10.66.9.0/24",
    "127.0.0.1": "is not an address of subnet 10.66.9.0/24",
    "10.66.9.1/24": "is not an address of subnet 10.66.9.0/24",
    "": "is not an address of subnet 10.66.9.0/24",
}


@pytest.mark.parametrize("spec", VALID)
def test_valid_pools(spec: dict[str, Any]) -> None:
    """Pools as the documents show them pass; empty `ips` is valid."""
    assert not errors_of(make_ippool(**spec))


@pytest.mark.parametrize(
    ("spec", "field", "kind", "words"),
    [
        ({"subnet": "10.6.0.0"}, "spec.ipVersion", None, ""),
        ({"subnet": "10.6.0.1/16"}, "spec.subnet", Kind.INVALID, "write 10.6.0.0/16"),
        ({"subnet": "10.6.0.0/40"}, "spec.subnet", Kind.INVALID, "is not a CIDR"),
        (
            {"subnet": "fd00::/64", "ipVersion": 4},
            "spec.subnet",
            Kind.INVALID,
            "is IPv6, but ipVersion is 4",
        ),
        ({"ips": ["10.6.0.9-10.6.0.1"]}, "spec.ips[0]", Kind.INVALID, "runs backwards"),
        ({"ips": ["10.6.0.0/24"]}, "spec.ips[0]", Kind.INVALID, "not as CIDR"),
        (
            {"ips": ["10.7.0.1"]},
            "spec.ips[0]",
            Kind.INVALID,
            "is outside the subnet (10.6.0.0-10.6.255.255)",
        ),
        ({"ips": ["10.6.255.255-10.7.0.1"]}, "spec.ips[0]", Kind.INVALID, "is outside the subnet"),
        ({"ips": ["fd00::1"]}, "spec.ips[0]", Kind.INVALID, "is not an IPv4 range"),
        ({"excludeIPs": ["10.7.0.1"]}, "spec.excludeIPs[0]", Kind.INVALID, "is outside the subnet"),
        (
            {"gateway": "10.7.0.1"},
            "spec.gateway",
            Kind.INVALID,
            "is not an address of subnet 10.6.0.0/16",
        ),
        ({"gateway": "x"}, "spec.gateway", Kind.INVALID, "is not an address of subnet"),
        ({"gateway": "10.6.0.15"}, "spec.ips[0]", Kind.INVALID, "contains the gateway 10.6.0.15"),
        (
            {"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]},
            "spec.routes[0].dst",
            Kind.INVALID,
            "is the default route",
        ),
        (
            {"routes": [{"dst": "10.7.0.0", "gw": "10.6.0.1"}]},
            "spec.routes[0].dst",
            Kind.INVALID,
            "is not an IPv4 CIDR",
        ),
        (
            {"routes": [{"dst": "fd01::/64", "gw": "10.6.0.1"}]},
            "spec.routes[0].dst",
            Kind.INVALID,
            "is not an IPv4 CIDR",
        ),
        (
            {"routes": [{"dst": "10.7.0.0/16", "gw": "10.7.0.1"}]},
            "spec.routes[0].gw",
            Kind.INVALID,
            "is not an address of subnet",
        ),
        (
            {"routes": [{"dst": "10.7.0.0/16", "gw": "10.6.0.1"}] * 2},
            "spec.routes[1].dst",
            Kind.INVALID,
            "is listed twice",
        ),
        ({"podAffinity": {}}, "spec.podAffinity", Kind.INVALID, "is empty"),
        (
            {"podAffinity": {"matchExpressions": [{"key": "a", "operator": "Is"}]}},
            "spec.podAffinity.matchExpressions[0].operator",
            Kind.INVALID,
            "not a valid selector operator",
        ),
        (
            {"namespaceAffinity": {"matchLabels": {"-": "a"}}},
            "spec.namespaceAffinity.matchLabels.key",
            Kind.INVALID,
            "not a label key",
        ),
        (
            {"nodeAffinity": {"matchLabels": {"a": "b c"}}},
            "spec.nodeAffinity.matchLabels.values",
            Kind.INVALID,
            "not a label value",
        ),
        (
            {
                "labels": {LABEL_OWNER_APP_NAME: "web"},
                "podAffinity": {"matchLabels": {"app": "web"}},
            },
            "spec.podAffinity.matchLabels.app",
            Kind.INVALID,
            "not a label of an automatic pool",
        ),
        (
            {
                "labels": {LABEL_OWNER_APP_NAME: "web"},
                "podAffinity": {"matchExpressions": [{"key": "a", "operator": "Exists"}]},
            },
            "spec.podAffinity.matchExpressions",
            Kind.INVALID,
            "by labels only",
        ),
    ],
)
def test_refused_pools(spec: dict[str, Any], field: str, kind: Kind | None, words: str) -> None:
    """Each rule refuses with the field, and says what is wrong."""
    errors = errors_of(make_ippool(**spec))
    # the family follows from the subnet, so a subnet without slash is refused at the subnet alone
    if kind is None:
        field, kind, words = "spec.subnet", Kind.INVALID, "is not a CIDR"

    assert [(field, kind)] == [(error.field, error.kind) for error in errors]
    assert words in errors[0].message


@pytest.mark.parametrize(("subnet", "words"), NO_SUBNETS.items())
def test_subnets_that_no_pod_can_be_in(subnet: str, words: str) -> None:
    """Address classes that are for something else are no subnets of pools."""
    family = 6 if ":" in subnet else 4
    (error,) = errors_of(make_ippool(subnet=subnet, ips=[], ipVersion=family))

    assert ("spec.subnet", Kind.INVALID) == (error.field, error.kind)
    assert error.message.startswith("has addresses that no pod can have: ")
    assert error.message.endswith(words)


@pytest.mark.parametrize(("gateway", "words"), GATEWAYS.items())
def test_gateways_that_cannot_be_one(gateway: str, words: str) -> None:
    """A gateway is a host of the subnet, that of a route too."""
    routes = [{"dst": "10.9.0.0/16", "gw": gateway}]
    pool = make_ippool(subnet="10.66.9.0/24", ips=["10.66.9.10"], gateway=gateway, routes=routes)

    assert [("spec.gateway", words), ("spec.routes[0].gw", words)] == [
        (error.field, error.message) for error in errors_of(pool)
    ]


def test_a_gateway_that_a_pod_could_get() -> None:
    """The gateway is no address of the pool, also where the subnet has no other."""
    (error,) = errors_of(make_ippool(subnet="10.66.9.0/32", ips=["10.66.9.0"], gateway="10.66.9.0"))

    assert (
        "spec.ips[0]",
        "contains the gateway 10.66.9.0; take it out or list it in excludeIPs",
    ) == (
        error.field,
        error.message,
    )


def test_everything_is_said_at_once() -> None:
    """Independent errors of one pool come together."""
    errors = errors_of(
        make_ippool(
            ips=["x", "10.7.0.1"],
            gateway="10.9.0.1",
            routes=[{"dst": "x", "gw": "y"}],
            podAffinity={},
        ),
    )

    assert [
        "spec.ips[0]",
        "spec.ips[1]",
        "spec.gateway",
        "spec.routes[0].dst",
        "spec.routes[0].gw",
        "spec.podAffinity",
    ] == [error.field for error in errors]


def test_families() -> None:
    """The family must be known, supported and enabled."""
    unknown = errors_of(make_ippool(subnet="nonsense"))
    strange = validate_pool(
        None,
        replace(make_ippool(), spec=replace(make_ippool().spec, ip_version=5)),
        [],
        None,
        FEATURES,
    )
    disabled = errors_of(make_ippool(subnet="fd00::/64"), features=Features(enable_ipv4=True))

    assert ("spec.ipVersion", Kind.INVALID) == (unknown[0].field, unknown[0].kind)
    assert ("spec.ipVersion", Kind.NOT_SUPPORTED) == (strange[0].field, strange[0].kind)
    assert strange[0].text == 'spec.ipVersion: Unsupported value: "5": supported values: "4", "6"'
    assert [("spec.ipVersion", Kind.FORBIDDEN, "enableIPv6 is false in the configuration")] == [
        (error.field, error.kind, error.message) for error in disabled
    ]


def test_subnets_of_two_pools() -> None:
    """Subnets are equal or disjoint."""
    wider = make_pool("wide", "10.0.0.0/8", ips=[])
    (error,) = errors_of(make_ippool(), wider)

    assert ("spec.subnet", Kind.INVALID) == (error.field, error.kind)
    assert error.message == "overlaps subnet 10.0.0.0/8 of IPPool wide, and is not the same"
    assert not errors_of(
        make_ippool(), make_pool("next", "10.7.0.0/16", ips=[]), make_pool("six", "::/0", ips=[])
    )


def test_addresses_of_two_pools() -> None:
    """No two pools share an address; a pool is no neighbour of itself."""
    neighbour = make_pool("next", ips=["10.6.0.18-10.6.0.30"])
    (error,) = errors_of(make_ippool(), make_pool(), neighbour)

    assert ("spec.ips", Kind.FORBIDDEN) == (error.field, error.kind)
    assert (
        error.text
        == "spec.ips: Forbidden: has 2 addresses (10.6.0.18-10.6.0.19) of IPPool next; no two pools may share one"
    )
    assert not errors_of(make_ippool(excludeIPs=["10.6.0.18-10.6.0.19"]), neighbour)


def test_what_never_changes() -> None:
    """Family and subnet are immutable."""
    errors = change(make_ippool(), subnet="10.7.0.0/16", ips=())

    assert [("spec.subnet", Kind.FORBIDDEN)] == [(error.field, error.kind) for error in errors]
    assert "it is 10.6.0.0/16 and cannot become 10.7.0.0/16" in errors[0].message
    assert {"spec.ipVersion"} <= {error.field for error in change(make_ippool(), ip_version=6)}


def test_shrinking() -> None:
    """An address that a pod holds cannot leave the pool; others can."""
    held = AddressSet.of([ip_address("10.6.0.12"), ip_address("10.6.0.15")])
    (error,) = change(make_ippool(), held, ips=("10.6.0.10-10.6.0.14",))

    assert (
        error.text
        == "spec.ips: Forbidden: lacks 1 address (10.6.0.15) that pods hold; delete the pods first"
    )
    assert not change(make_ippool(), held, ips=("10.6.0.12-10.6.0.15",))
    assert change(make_ippool(), held, exclude_ips=("10.6.0.12",))


def test_messages_stay_short() -> None:
    """Of many ranges a few are shown."""
    held = AddressSet.of(
        [ip_address(f"10.6.0.{last}") for last in range(10, 20, 2)] + [ip_address("10.6.1.1")]
    )
    (error,) = change(make_ippool(), held, ips=())

    assert (
        "lacks 6 addresses (10.6.0.10, 10.6.0.12, 10.6.0.14, 10.6.0.16, 10.6.0.18, …)"
        in error.message
    )


def test_a_pool_that_is_being_deleted() -> None:
    """While it is deleted, a pool may only lose the finalizer, and that without further rules."""
    ending = make_ippool(deleted=True, ips=["nonsense"])
    kept = replace(ending, metadata=replace(ending.metadata, finalizers=(FINALIZER,)))

    assert "blue is being deleted" in (forbid_pool_update(kept, kept) or "")
    assert forbid_pool_update(kept, ending) is None
    assert forbid_pool_update(make_ippool(), make_ippool()) is None
    assert not validate_pool(kept, ending, [], None, FEATURES)


def test_deleting() -> None:
    """
    With the switch on, a pool whose addresses are held cannot be deleted.

    Source: docs/reference/admission.md#spiderippool.
    """
    held = AddressSet.of([ip_address("10.6.0.12")])
    words = "IPPool blue cannot be deleted: pods hold 1 address (10.6.0.12) of it; delete the pods first"

    assert words == validate_pool_delete(make_ippool(), held, PROTECTED)
    assert validate_pool_delete(make_ippool(), AddressSet.empty(4), PROTECTED) is None
    assert validate_pool_delete(make_ippool(), held, Features()) is None


def test_rendering() -> None:
    """The whole message reads as Kubernetes' own."""
    errors = errors_of(make_ippool(subnet="10.6.0.1/16"))
    two = [*errors, FieldError("spec.ips", Kind.FORBIDDEN, "x", "no")]

    assert (
        render_errors(SpiderIPPool.resource, "blue", errors)
        == 'SpiderIPPool.spiderpool.spidernet.io "blue" is invalid: '
        'spec.subnet: Invalid value: "10.6.0.1/16": "10.6.0.1/16" is not a network address: write 10.6.0.0/16'
    )
    assert render_errors(SpiderIPPool.resource, "blue", two).endswith(
        "write 10.6.0.0/16, spec.ips: Forbidden: no]"
    )


def reserved(
    *ips: str, version: int | None = None, deleted: bool = False, finalizers: tuple[str, ...] = ()
) -> SpiderReservedIP:
    """Make a reservation."""
    metadata = ObjectMeta(
        name="r",
        deletion_timestamp="2025-01-01T00:00:00Z" if deleted else None,
        finalizers=finalizers,
    )
    return SpiderReservedIP(metadata=metadata, spec=ReservedIPSpec(ip_version=version, ips=ips))  # type: ignore[arg-type]


def test_reservations_are_filled_in() -> None:
    """The family follows from the first item, several items are merged."""
    assert (
        reserved("10.6.0.1-10.6.0.3", version=4).spec
        == mutate_reserved(reserved("10.6.0.3", "10.6.0.1-10.6.0.2")).spec
    )
    assert mutate_reserved(reserved("fd00::1")).spec.ip_version == 6
    assert mutate_reserved(reserved()) == reserved()
    assert mutate_reserved(reserved("10.6.0.1", deleted=True)).spec.ip_version is None


@pytest.mark.parametrize(
    ("tested", "field", "words"),
    [
        (reserved(), "spec.ipVersion", "write 4 or 6"),
        (reserved("10.6.0.3-10.6.0.1"), "spec.ips[0]", "runs backwards"),
        (reserved("10.6.0.1", "fd00::1"), "spec.ips[1]", "is not an IPv4 range"),
        (reserved("10.6.0.0/24"), "spec.ips[0]", "not as CIDR"),
    ],
)
def test_refused_reservations(tested: SpiderReservedIP, field: str, words: str) -> None:
    """Each item must be an ordered range of the family, and the family known."""
    (error,) = validate_reserved(None, mutate_reserved(tested), FEATURES)

    assert field == error.field
    assert words in error.message


def test_reservations_over_time() -> None:
    """A reservation's family never changes, and once it is being deleted nothing does."""
    (error,) = validate_reserved(
        reserved("10.6.0.1", version=4), reserved("fd00::1", version=6), FEATURES
    )
    ending = reserved("10.6.0.1", version=4, deleted=True, finalizers=("x",))

    assert ("spec.ipVersion", Kind.FORBIDDEN) == (error.field, error.kind)
    assert not validate_reserved(
        reserved("10.6.0.1", version=4), reserved("10.6.0.2", version=4), FEATURES
    )
    assert "being deleted" in (forbid_reserved_update(ending, ending) or "")
    assert forbid_reserved_update(ending, reserved(deleted=True)) is None
    assert forbid_reserved_update(reserved(), reserved()) is None


TEXTS = st.sampled_from(
    [
        "10.6.0.1",
        "10.6.0.1-10.6.0.9",
        "10.6.0.9-10.6.0.1",
        "fd00::1",
        "10.6.0.0/16",
        "::/0",
        "",
        "x",
        "1-2-3",
    ]
)
SPECS = st.fixed_dictionaries(
    {"subnet": TEXTS},
    optional={
        "ipVersion": st.sampled_from([4, 6]),
        "ips": st.lists(TEXTS, max_size=3),
        "excludeIPs": st.lists(TEXTS, max_size=3),
        "gateway": TEXTS,
        "routes": st.lists(st.fixed_dictionaries({"dst": TEXTS, "gw": TEXTS}), max_size=2),
    },
)


@given(SPECS)
def test_what_is_admitted_can_be_read(spec: dict[str, Any]) -> None:
    """Any specification gets an answer, and a pool that is admitted is never a broken one."""
    new = mutate_pool(
        msgspec.convert({"metadata": {"name": "p"}, "spec": spec}, SpiderIPPool), created=True
    )
    errors = validate_pool(None, new, [], None, FEATURES)

    assert errors or Pool.parse(new).broken is None
    assert all(error.text for error in errors)


@pytest.mark.parametrize(
    "stored",
    [
        {"subnet": "10.6.0.1/16"},
        {"subnet": "127.0.0.0/8", "ips": ["127.0.0.10"]},
        {"ips": ["10.6.0.0-10.6.0.20"]},
        {"gateway": "10.6.255.255"},
        {"gateway": "10.9.0.1"},
        {"routes": [{"dst": "10.9.0.0/16", "gw": "10.7.0.1"}]},
    ],
)
def test_what_was_stored_under_older_rules_stays_editable(stored: dict[str, Any]) -> None:
    """A pool that would be refused today can be edited where it is right, and gets no further fault."""
    stored = {"ipVersion": 4, **stored}
    old = make_ippool(**stored)
    subnet = stored.get("subnet", "10.6.0.0/16").split(".")[0]

    fine = make_ippool(**{**stored, "disable": True})
    wrong = make_ippool(**{**stored, "excludeIPs": [f"{subnet}.6.0.x"]})

    assert [] == validate_pool(old, fine, [], None, FEATURES)
    assert ["spec.excludeIPs"] == [
        error.field.partition("[")[0] for error in validate_pool(old, wrong, [], None, FEATURES)
    ]
