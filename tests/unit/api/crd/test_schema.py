"""
The custom resource definitions say what the types say, and what other tools rely on.

Source: docs/reference/objects.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from spiderpool.api.crd.descriptions import read_descriptions
from spiderpool.api.crd.ippool import IPPoolSpec, RangeSpec
from spiderpool.api.crd.schema import V4, V6, main, render_crds
from spiderpool.api.crd.spiderip import SpiderIP

DEPLOYED = Path(__file__).parents[4] / "deploy" / "crds"


@cache
def crd(plural: str) -> dict[str, Any]:
    """Return one rendered definition."""
    document: dict[str, Any] = yaml.safe_load(
        render_crds()[f"spiderpool.spidernet.io_{plural}.yaml"]
    )
    return document


def root(plural: str) -> dict[str, Any]:
    """Return the schema of a whole object."""
    found: dict[str, Any] = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def schema(plural: str, *path: str) -> dict[str, Any]:
    """Return the schema of a field, without descriptions."""
    found = root(plural)
    for key in path:
        found = found["items"] if key == "[]" else found["properties"][key]
    return without_descriptions(found)


def without_descriptions(field: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without what is for people."""
    kept = {key: value for key, value in field.items() if key != "description"}
    if "properties" in kept:
        below = kept["properties"].items()
        kept["properties"] = {key: without_descriptions(value) for key, value in below}
    if "items" in kept:
        kept["items"] = without_descriptions(kept["items"])
    return kept


def fields_of(field: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return each field below a schema with its path."""
    for key, value in field.get("properties", {}).items():
        yield f"{path}.{key}", value
        yield from fields_of(value, f"{path}.{key}")
    if "items" in field:
        yield from fields_of(field["items"], f"{path}[]")


@pytest.mark.parametrize("name", render_crds())
def test_each_field_is_described(name: str) -> None:
    """`kubectl explain` says what each field is, in a sentence."""
    fields = list(fields_of(root(name.split("_")[1].removesuffix(".yaml"))))
    wrong = [
        path
        for path, field in fields
        if not re.fullmatch(r"[A-Z`].+\.", field.get("description", ""))
    ]

    assert [".metadata"] == wrong, "the API server refuses a description of metadata alone"
    assert len(fields) > 3


def test_a_description_stands_behind_its_field() -> None:
    """A class has those of its bases too; its own word goes before theirs."""
    own = read_descriptions(IPPoolSpec)

    assert "Whether the pool serves pods that name no pool." == own["default"]
    assert own["subnet"] == read_descriptions(RangeSpec)["subnet"]
    assert set(read_descriptions(RangeSpec)) < set(own)


def test_files_are_current() -> None:
    """`deploy/crds` holds exactly what the types render to; `make crds` writes it."""
    assert render_crds() == {path.name: path.read_text() for path in DEPLOYED.glob("*.yaml")}


def test_writing(tmp_path: Path) -> None:
    """The command writes one file a definition."""
    main([str(tmp_path)])

    assert sorted(render_crds()) == sorted(path.name for path in tmp_path.iterdir())


@pytest.mark.parametrize(
    ("plural", "kind", "short", "scope", "subresources"),
    [
        ("spiderippools", "SpiderIPPool", "sp", "Cluster", {"status": {}}),
        ("spidersubnets", "SpiderSubnet", "ss", "Cluster", {"status": {}}),
        ("spiderreservedips", "SpiderReservedIP", "sr", "Cluster", None),
        ("spiderendpoints", "SpiderEndpoint", "se", "Namespaced", None),
        ("spiderips", "SpiderIP", "sip", "Cluster", None),
        ("spidercoordinators", "SpiderCoordinator", "scc", "Cluster", {"status": {}}),
        ("spidermultusconfigs", "SpiderMultusConfig", "smc", "Namespaced", None),
    ],
)
def test_names(
    plural: str, kind: str, short: str, scope: str, subresources: dict[str, Any] | None
) -> None:
    """Names, scope and status subresource are the reference's."""
    document = crd(plural)
    names, (version,) = document["spec"]["names"], document["spec"]["versions"]

    assert f"{plural}.spiderpool.spidernet.io" == document["metadata"]["name"]
    assert (kind, plural, kind.lower(), [short], ["spiderpool"]) == (
        names["kind"],
        names["plural"],
        names["singular"],
        names["shortNames"],
        names["categories"],
    )
    assert (scope, "v2beta1", subresources) == (
        document["spec"]["scope"],
        version["name"],
        version.get("subresources"),
    )


@pytest.mark.parametrize(
    ("plural", "columns"),
    [
        (
            "spiderippools",
            "VERSION SUBNET ALLOCATED-IP-COUNT TOTAL-IP-COUNT DEFAULT DISABLE* NodeName* MultusName* APP-NAMESPACE*",
        ),
        ("spidersubnets", "VERSION SUBNET ALLOCATED-IP-COUNT TOTAL-IP-COUNT"),
        ("spiderreservedips", "VERSION"),
        ("spiderendpoints", "INTERFACE IPV4POOL IPV4 IPV6POOL IPV6 NODE"),
        ("spiderips", "ADDRESS POOL NAMESPACE POD NIC NODE STATE AGE CONTAINER*"),
        ("spidercoordinators", ""),
        ("spidermultusconfigs", ""),
    ],
)
def test_columns(plural: str, columns: str) -> None:
    """`kubectl get` shows the reference's columns; those with a star only with `-o wide`."""
    shown = crd(plural)["spec"]["versions"][0].get("additionalPrinterColumns", [])

    assert columns.split() == [column["name"] + "*" * ("priority" in column) for column in shown]


def test_fields_of_a_pool() -> None:
    """
    Only the subnet is required; flags default to false; the family is 4 or 6.

    Counts are not negative.
    """
    spec, status = schema("spiderippools", "spec"), schema("spiderippools", "status")

    assert ["subnet"] == spec["required"]
    assert [4, 6] == spec["properties"]["ipVersion"]["enum"]
    assert [False, False] == [spec["properties"][key]["default"] for key in ("default", "disable")]
    assert ["dst", "gw"] == spec["properties"]["routes"]["items"]["required"]
    assert {"type": "array", "items": {"type": "string"}} == spec["properties"]["namespaceName"]
    assert spec["properties"]["podAffinity"]["x-kubernetes-map-type"] == "atomic"
    assert status["properties"]["allocatedIPs"]["type"] == "string"
    assert status["properties"]["totalIPCount"] == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
    }


def test_fields_of_an_endpoint() -> None:
    """Required keys and the VLAN's bounds are the reference's."""
    status = schema("spiderendpoints", "status")
    entry = schema("spiderendpoints", "status", "current", "ips", "[]")

    assert ["current", "ownerControllerType", "ownerControllerName"] == status["required"]
    assert ["interface"] == entry["required"]
    assert entry["properties"]["vlan"] == {
        "type": "integer",
        "format": "int64",
        "minimum": 0,
        "maximum": 4094,
        "default": 0,
    }


def test_rules_of_a_record() -> None:
    """Address, pool and family never change, and the name is tied to the address."""
    spec, whole = schema("spiderips", "spec"), schema("spiderips")
    immutable = [
        key for key, field in spec["properties"].items() if "x-kubernetes-validations" in field
    ]

    assert ["ip", "pool", "family"] == immutable
    assert "self.metadata.name == self.spec.ip" in whole["x-kubernetes-validations"][0]["rule"]
    assert ["Held", "Cooling", "Quarantined"] == spec["properties"]["state"]["enum"]


TEXTS = st.one_of(
    st.ip_addresses().map(str),
    st.text(alphabet="0129af:.", max_size=39),
    st.lists(st.sampled_from(["0", "fd00", "12345", "", "1", "::", ":"]), max_size=9).map(":".join),
    st.lists(st.sampled_from(["0", "255", "256", "01", "", "9"]), max_size=5).map(".".join),
)


@given(TEXTS)
def test_patterns_of_addresses(text: str) -> None:
    """The definition takes as an address what Python takes, and nothing else."""
    families = {4: re.fullmatch(V4, text), 6: re.fullmatch(V6, text)}
    try:
        family: int = ip_address(text).version
    except ValueError:
        family = 0
    # IPv4 in the last digits of IPv6 is a form that str() does not give to plain addresses
    assume("." not in text or ":" not in text)
    assert {family} - {0} == {number for number, found in families.items() if found}


@pytest.mark.parametrize(
    "changes",
    [
        {"ip": "garbage"},
        {"ip": ""},
        {"ip": "10.6.0.300"},
        {"ip": "fd00::1"},
        {"gateway": "garbage"},
        {"gateway": "fd00::1"},
        {"family": 6},
    ],
)
def test_a_record_that_is_no_address_cannot_be_read(changes: dict[str, Any]) -> None:
    """Whoever decodes it is told at once; nobody meets it later."""
    spec = {"ip": "10.6.0.10", "pool": "blue", "family": 4, "prefixLength": 16, "holder": {}}
    document = {"metadata": {"name": "10.6.0.10"}, "spec": spec}
    assert msgspec.json.decode(msgspec.json.encode(document), type=SpiderIP).spec.ip == "10.6.0.10"
    document["spec"] = {**spec, **changes}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(document), type=SpiderIP)


def test_fields_of_a_coordinator() -> None:
    """
    Defaults, closed sets and limits; what the API server does not fill in has no default.

    Source: docs/reference/coordinator.md#fields-of-a-spidercoordinator.
    """
    spec, status = schema("spidercoordinators", "spec"), schema("spidercoordinators", "status")
    defaults = {
        key: field["default"] for key, field in spec["properties"].items() if "default" in field
    }

    assert {
        "mode": "auto",
        "tunePodRoutes": True,
        "hostRuleTable": 500,
        "podRPFilter": 0,
        "txQueueLen": 0,
    } == defaults
    assert ["auto", "underlay", "overlay", "disabled"] == spec["properties"]["mode"]["enum"]
    assert ["auto", "cluster", "calico", "cilium", "none"] == spec["properties"]["podCIDRType"][
        "enum"
    ]
    assert {"type": "integer", "format": "int64", "minimum": 1} == spec["properties"]["vethMTU"]
    assert ["dst", "gw"] == spec["properties"]["policyRoutes"]["items"]["required"]
    assert {"hijackCIDR", "podMACPrefix", "podDefaultRouteNIC", "vethLinkAddress"} <= spec[
        "properties"
    ].keys()
    assert ["phase"] == status["required"]
    assert ["phase", "reason", "overlayPodCIDR", "serviceCIDR"] == list(status["properties"])


def defaults_of(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of an object's own fields."""
    return {
        key: field["default"] for key, field in fields["properties"].items() if "default" in field
    }


def test_fields_of_a_network() -> None:
    """
    Plugins, blocks and the defaults of the definition.

    Source: docs/reference/networks.md#fields.
    """
    spec = schema("spidermultusconfigs", "spec")
    plugins = ["macvlan", "ipvlan", "vlan", "sriov", "ovs", "ib-sriov", "ipoib", "custom"]

    assert plugins == spec["properties"]["cniType"]["enum"]
    assert {"cniType": "custom", "enableCoordinator": True, "disableIPAM": False} == defaults_of(
        spec
    )
    # The cluster's settings are inherited: nothing is filled in that the user did not say.
    coordinator = spec["properties"]["coordinator"]
    assert {} == defaults_of(coordinator)
    assert (
        coordinator["properties"].keys()
        == schema("spidercoordinators", "spec")["properties"].keys()
    )


@pytest.mark.parametrize(
    ("block", "required", "defaults"),
    [
        ("macvlan", ["master"], {"mtu": 0}),
        ("ipvlan", ["master"], {"mtu": 0}),
        ("vlan", ["master"], {"mtu": 0, "vlanMode": "manual"}),
        ("sriov", ["resourceName"], {"mtu": 0, "rdmaIsolation": False}),
        (
            "ibsriov",
            ["resourceName"],
            {"linkState": "enable", "rdmaIsolation": True, "enableIbKubernetes": False},
        ),
        ("ipoib", ["master"], {}),
        ("ovs", ["bridge"], {}),
    ],
)
def test_blocks_of_a_network(block: str, required: list[str], defaults: dict[str, Any]) -> None:
    """
    Required fields and defaults of each block; every block may name pools.

    Source: docs/reference/networks.md#fields.
    """
    fields = schema("spidermultusconfigs", "spec", block)

    assert (required, defaults) == (fields["required"], defaults_of(fields))
    assert {"matchMasterSubnet": False} == defaults_of(fields["properties"]["ippools"])


def test_limits_of_a_network() -> None:
    """VLANs end at 4094, bonds have the modes 0 to 6 and need a name."""
    macvlan = schema("spidermultusconfigs", "spec", "macvlan")["properties"]

    assert {"type": "integer", "format": "int64", "minimum": 0, "maximum": 4094} == macvlan[
        "vlanID"
    ]
    assert {"type": "integer", "format": "int64", "minimum": 0, "maximum": 6} == macvlan["bond"][
        "properties"
    ]["mode"]
    assert ["name", "mode"] == macvlan["bond"]["required"]


PLURALS = [
    "spiderippools",
    "spiderreservedips",
    "spiderendpoints",
    "spiderips",
    "spidercoordinators",
    "spidermultusconfigs",
]


@pytest.mark.parametrize("plural", PLURALS)
def test_schemas_are_structural(plural: str) -> None:
    """Every node has a type, and neither references nor alternatives occur, as apiextensions/v1 demands."""

    def walk(node: dict[str, Any]) -> None:
        assert "type" in node
        assert not {"$ref", "anyOf", "oneOf", "allOf"} & set(node)
        for child in [
            *node.get("properties", {}).values(),
            *(node[key] for key in ("items", "additionalProperties") if key in node),
        ]:
            walk(child)

    walk(schema(plural))
