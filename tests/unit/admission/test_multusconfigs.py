"""
Admission of networks: defaults and checks.

Source: docs/reference/networks.md#fields,
docs/reference/networks.md#annotations-of-a-spidermultusconfig.
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from spiderpool.admission.multusconfigs import (
    complete_config,
    injection_problem,
    managed_by_another,
    validate_config,
)
from spiderpool.api.crd.multusconfig import (
    CNIType,
    MasterConfig,
    MultusConfigSpec,
    SpiderMultusConfig,
)
from spiderpool.api.kubernetes.meta import ObjectMeta

MACVLAN = {"cniType": "macvlan", "macvlan": {"master": ["ens192"]}}
VLAN = {"cniType": "vlan", "vlan": {"master": ["ens192"]}}
IPVLAN = {"cniType": "ipvlan", "ipvlan": {"master": ["ens192"]}}
BOND = {"name": "bond0", "mode": 1}
SRIOV = {"cniType": "sriov", "sriov": {"resourceName": "spidernet.io/rail1"}}
IB_SRIOV = {"cniType": "ib-sriov", "ibsriov": {"resourceName": "spidernet.io/ib"}}
IPOIB = {"cniType": "ipoib", "ipoib": {"master": "ibs5f0"}}
OVS = {"cniType": "ovs", "ovs": {"bridge": "br1"}}
NO_NAME = (
    "is no name of an interface: at most 15 characters, without '/', ':', '%' and blanks, "
    "and not '.', '..', 'all' or 'default'"
)
TOO_LONG = "the VLAN's interface would have this name, and the kernel takes at most 15 characters"
POOLS = {"ipv4": ["p4"]}
RDMA = "cni.spidernet.io/rdma-resource-inject"
NETWORK = "cni.spidernet.io/network-resource-inject"
CR_NAME = "multus.spidernet.io/cr-name"


def network(
    spec: dict[str, Any], annotations: dict[str, str] | None = None, **meta: Any
) -> SpiderMultusConfig:
    """Make a network as a user writes it."""
    metadata = ObjectMeta(name="net", namespace="ns", annotations=annotations or {}, **meta)
    return SpiderMultusConfig(metadata=metadata, spec=msgspec.convert(spec, MultusConfigSpec))


def completed(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Complete a network and give its specification as JSON."""
    found: dict[str, Any] = msgspec.json.decode(
        msgspec.json.encode(complete_config(network(spec, annotations)).spec)
    )
    return found


def refused(spec: dict[str, Any], annotations: dict[str, str] | None = None) -> list[str]:
    """Complete a network and give the refusals in Kubernetes' words."""
    return [
        error.text for error in validate_config(None, complete_config(network(spec, annotations)))
    ]


def changed(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Change a network's annotations and give the refusals."""
    old, new = (complete_config(network(MACVLAN, found)) for found in (before, after))
    return [error.text for error in validate_config(old, new)]


def block(spec: dict[str, Any], name: str, **values: Any) -> dict[str, Any]:
    """Set values of a block."""
    return {**spec, name: {**spec[name], **values}}


def test_defaults_of_macvlan() -> None:
    """The webhook's defaults are filled in; of the coordinator nothing, so that the cluster's settings are heard."""
    expected = {
        "cniType": "macvlan",
        "enableCoordinator": True,
        "disableIPAM": False,
        "chainCNIJsonData": [],
        "macvlan": {"master": ["ens192"], "vlanID": 0, "rdmaResourceName": ""},
    }

    assert expected == completed(MACVLAN)


@pytest.mark.parametrize(
    ("spec", "name", "expected"),
    [
        (
            block(MACVLAN, "macvlan", bond={"name": "b", "mode": 1}),
            "macvlan",
            {"bond": {"name": "b", "mode": 1, "options": ""}},
        ),
        (VLAN, "vlan", {"vlanMode": "manual", "vlanID": 0}),
        (SRIOV, "sriov", {"vlanID": 0, "minTxRateMbps": 0, "maxTxRateMbps": 0}),
        (IB_SRIOV, "ibsriov", {"pkey": ""}),
        (OVS, "ovs", {"vlan": 0}),
    ],
)
def test_defaults_of_blocks(spec: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    """Each block gets the webhook's defaults."""
    assert expected == {key: completed(spec)[name][key] for key in expected}


def test_vlan_of_the_pool() -> None:
    """With `vlanMode: auto` no VLAN is filled in."""
    assert "vlanID" not in completed(block(VLAN, "vlan", vlanMode="auto"))["vlan"]


def test_custom_has_no_coordinator() -> None:
    """
    A custom configuration is taken word by word.

    Coordinator settings go, an empty text is written.
    """
    found = completed({"coordinator": {"mode": "underlay"}, "enableCoordinator": True})
    expected = {
        "cniType": "custom",
        "enableCoordinator": False,
        "disableIPAM": False,
        "chainCNIJsonData": [],
        "customCNI": "",
    }

    assert expected == found


def test_coordinator_settings_are_normalised() -> None:
    """Bare addresses become networks here too."""
    found = completed({**MACVLAN, "coordinator": {"hijackCIDR": ["10.6.0.1"]}})

    assert ["10.6.0.1/32"] == found["coordinator"]["hijackCIDR"]


def test_injection_labels() -> None:
    """The annotations that pods are matched by become labels, unless no label may have their value."""
    found = complete_config(
        network(MACVLAN, {NETWORK: "rail", RDMA: "not a label!"}, labels={"a": "b"})
    )

    assert {"a": "b", NETWORK: "rail"} == found.metadata.labels


def test_completing_twice_changes_nothing() -> None:
    """What is complete stays as it is."""
    for spec in (MACVLAN, VLAN, SRIOV, IB_SRIOV, IPOIB, OVS, {}):
        once = complete_config(network(spec, {NETWORK: "rail"}))

        assert once == complete_config(once)


@pytest.mark.parametrize(
    "spec", [MACVLAN, VLAN, SRIOV, IB_SRIOV, IPOIB, OVS, {}, {"customCNI": '{"type":"x"}'}]
)
def test_smallest_networks_are_fine(spec: dict[str, Any]) -> None:
    """What the reference requires of each plugin is enough."""
    assert [] == refused(spec)


@pytest.mark.parametrize(
    ("spec", "texts"),
    [
        (
            {"cniType": "macvlan"},
            [
                "spec.macvlanConfig: Required value: cniType is macvlan, and its settings are missing"
            ],
        ),
        (
            {**MACVLAN, "ipvlan": {"master": ["ens224"]}},
            [
                "spec.ipvlanConfig: Forbidden: cniType is macvlan: only its own settings may be given"
            ],
        ),
        (
            {"cniType": "ipvlan", "macvlan": MACVLAN["macvlan"]},
            [
                "spec.macvlanConfig: Forbidden: cniType is ipvlan: only its own settings may be given",
                "spec.ipvlanConfig: Required value: cniType is ipvlan, and its settings are missing",
            ],
        ),
        (
            {**SRIOV, "customCNI": "{}"},
            [
                "spec.customCniTypeConfig: Forbidden: cniType is sriov: only its own settings may be given"
            ],
        ),
        (
            {"customCNI": "{"},
            [
                'spec.customCniTypeConfig: Invalid value: "{": customCNI is not JSON: Input data was truncated'
            ],
        ),
        (
            block(MACVLAN, "macvlan", master=[]),
            [
                "spec.macvlanConfig: Invalid value: master needs at least one name of an interface, and none may be empty"
            ],
        ),
        (
            block(MACVLAN, "macvlan", master=["ens192", "ens224"]),
            [
                'spec.macvlanConfig: Invalid value: "ens192,ens224": several masters need a bond with a name'
            ],
        ),
        (
            block(MACVLAN, "macvlan", master=["ens192", "ens192"], bond=BOND),
            ['spec.macvlanConfig: Invalid value: "ens192,ens192": master names an interface twice'],
        ),
        (
            block(MACVLAN, "macvlan", master=["sixteen-letters!"]),
            [f'spec.macvlanConfig: Invalid value: "sixteen-letters!": master {NO_NAME}'],
        ),
        (
            block(IPVLAN, "ipvlan", mtu=65536),
            [
                'spec.ipvlanConfig: Invalid value: "65536": mtu must be 65535 or less, the kernel refuses more'
            ],
        ),
        (block(IPVLAN, "ipvlan", mtu=65535), []),
        (
            block(SRIOV, "sriov", mtu=65536),
            [
                'spec.sriovConfig: Invalid value: "65536": mtu must be 65535 or less, the kernel refuses more'
            ],
        ),
        (
            block(MACVLAN, "macvlan", master=["ens192", "ens224"], bond={**BOND, "name": "a/b"}),
            [f'spec.macvlanConfig: Invalid value: "a/b": bond.name {NO_NAME}'],
        ),
        (block(MACVLAN, "macvlan", bond={**BOND, "name": "a/b"}), []),
        (
            block(
                MACVLAN,
                "macvlan",
                master=["ens192", "ens224"],
                bond={**BOND, "options": "miimon=fast"},
            ),
            [
                "spec.macvlanConfig: Invalid value: \"miimon=fast\": bond.options: miimon is 'fast'; write a number"
            ],
        ),
        (
            block(
                MACVLAN,
                "macvlan",
                master=["ens192", "ens224"],
                bond={**BOND, "options": "miimon=100; lacp_rate=1"},
            ),
            [],
        ),
        (
            block(MACVLAN, "macvlan", master=["enp175s0f0np0"], vlanID=100),
            [f'spec.macvlanConfig: Invalid value: "enp175s0f0np0.100": {TOO_LONG}'],
        ),
        (block(VLAN, "vlan", master=["enp175s0f0np0"], vlanID=100), []),
        (
            block(IPOIB, "ipoib", master="a b"),
            [f'spec.ipoibConfig: Invalid value: "a b": master {NO_NAME}'],
        ),
        (
            block(OVS, "ovs", bridge=""),
            ["spec.ovsConfig: Invalid value: bridge is empty; name a bridge of the nodes"],
        ),
        (
            block(VLAN, "vlan", vlanMode="auto", vlanID=100),
            [
                (
                    'spec.vlan: Invalid value: "auto": vlanMode auto is not supported: '
                    "no IPPool has a VLAN; write manual and vlanID"
                )
            ],
        ),
        (
            block(IPOIB, "ipoib", master=""),
            ["spec.ipoibConfig: Invalid value: master is empty; name an interface of the nodes"],
        ),
        (
            block(SRIOV, "sriov", minTxRateMbps=100),
            [
                'spec.sriovConfig: Invalid value: "100": minTxRateMbps must not be above maxTxRateMbps, which is 0'
            ],
        ),
        (
            block(SRIOV, "sriov", resourceName=""),
            [
                "spec.sriovConfig: Invalid value: resourceName is empty; name the resource of a device plugin"
            ],
        ),
        (
            block(IB_SRIOV, "ibsriov", resourceName=""),
            [
                "spec.ibsriovConfig: Invalid value: resourceName is empty; name the resource of a device plugin"
            ],
        ),
        (
            block(OVS, "ovs", trunk=[{"minID": 5, "maxID": 4}]),
            [
                'spec.ovsConfig: Invalid value: "5": trunk[0].minID must not be above maxID, which is 4'
            ],
        ),
        (block(SRIOV, "sriov", ippools={"matchMasterSubnet": True}), []),
        (
            block(MACVLAN, "macvlan", ippools={"matchMasterSubnet": True}),
            [
                'spec.macvlanConfig: Invalid value: "true": ippools.matchMasterSubnet is for sriov only'
            ],
        ),
        (
            {**MACVLAN, "chainCNIJsonData": ['{"type":"tuning"}', "[1]"]},
            ["spec.chainCNIJsonData[1]: Invalid value: \"[1]\": '[1]' is not a JSON object"],
        ),
        (
            {**MACVLAN, "coordinator": {"vethMTU": 10}},
            [
                'spec.coordinator.vethMTU: Invalid value: "10": must be 68 or more, the kernel refuses less'
            ],
        ),
        ({"coordinator": {"vethMTU": 10}}, []),
    ],
)
def test_checks(spec: dict[str, Any], texts: list[str]) -> None:
    """A wrong network is refused with the reference's field and a sentence."""
    assert texts == refused(spec)


MASTERS: dict[str, list[Any]] = {
    "master": ["ens192", [1]],
    "mtu": ["1500", -1],
    "vlanID": ["100", -1, 4095],
    "bond": [
        "bond0",
        {"mode": 1},
        {"name": "b"},
        {"name": "b", "mode": "1"},
        {"name": "b", "mode": 7},
        {"name": "b", "mode": -1},
    ],
    "rdmaResourceName": [1],
    "ippools": [["p"], {"ipv4": "p"}, {"ipv6": [1]}, {"matchMasterSubnet": "yes"}],
}
RATE = ["1", -1]
WRONG_TYPES: dict[str, dict[str, list[Any]]] = {
    "": {
        "cniType": ["bridge", 1],
        "enableCoordinator": ["yes"],
        "disableIPAM": [1],
        "coordinator": ["auto", {"mode": "fast"}, {"vethMTU": "1500"}],
        "chainCNIJsonData": ["{}", [1]],
        "customCNI": [{}],
        "macvlan": [[]],
        "ipvlan": [[]],
        "vlan": [[]],
        "sriov": [[]],
        "ibsriov": [[]],
        "ipoib": [[]],
        "ovs": [[]],
    },
    "macvlan": MASTERS,
    "ipvlan": MASTERS,
    "vlan": {**MASTERS, "vlanMode": ["none", 1]},
    "sriov": {
        "resourceName": [1],
        "vlanID": ["100", -1, 4095],
        "mtu": ["1500", -1],
        "minTxRateMbps": RATE,
        "maxTxRateMbps": RATE,
        "rdmaIsolation": ["yes"],
        "ippools": MASTERS["ippools"],
    },
    "ibsriov": {
        "resourceName": [1],
        "pkey": [1],
        "linkState": ["up", 1],
        "rdmaIsolation": ["yes"],
        "enableIbKubernetes": [1],
        "ippools": MASTERS["ippools"],
    },
    "ipoib": {"master": [["ibs5f0"]], "ippools": MASTERS["ippools"]},
    "ovs": {
        "bridge": [1],
        "vlan": ["10", -1, 4095],
        "trunk": [{"id": 1}, [{"minID": -1}], [{"maxID": 4095}], [{"id": "200"}]],
        "deviceID": [1],
        "ippools": MASTERS["ippools"],
    },
}
SMALLEST = {
    "macvlan": MACVLAN,
    "ipvlan": IPVLAN,
    "vlan": VLAN,
    "sriov": SRIOV,
    "ibsriov": IB_SRIOV,
    "ipoib": IPOIB,
    "ovs": OVS,
}


@pytest.mark.parametrize(
    ("where", "field", "value"),
    [
        (where, field, value)
        for where, fields in WRONG_TYPES.items()
        for field, values in fields.items()
        for value in values
    ],
)
def test_wrong_types(where: str, field: str, value: object) -> None:
    """
    A value of a wrong type or out of range makes no network, whatever let it pass.

    The words name the field.
    """
    spec = block(SMALLEST[where], where, **{field: value}) if where else {field: value}
    with pytest.raises(
        msgspec.ValidationError, match=rf"\$\.{where}\.?{field}" if where else rf"\$\.{field}"
    ):
        network(spec)


def test_every_field_has_a_wrong_type() -> None:
    """No field of a network or of its blocks is left out above."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(MultusConfigSpec)}
    assert fields.keys() == WRONG_TYPES[""].keys()
    for name in SMALLEST:
        (kind,) = (kind for kind in get_args(fields[name]) if kind is not type(None))
        assert {field.encode_name for field in msgspec.structs.fields(kind)} == WRONG_TYPES[
            name
        ].keys()


@pytest.mark.parametrize(
    ("annotations", "fragment"),
    [
        ({CR_NAME: ""}, f"{CR_NAME}: a lowercase RFC 1123 subdomain must consist of"),
        ({CR_NAME: "Upper"}, f"{CR_NAME}: a lowercase RFC 1123 subdomain must consist of"),
        ({CR_NAME: "k8s-pod-network"}, ""),
        (
            {"multus.spidernet.io/cni-version": "0.2.0"},
            "supported values: 0.3.0, 0.3.1, 0.4.0, 1.0.0",
        ),
        ({"multus.spidernet.io/cni-version": "0.4.0"}, ""),
        (
            {"cni.spidernet.io/cniconfig-name": "a b"},
            "cni.spidernet.io/cniconfig-name: write letters",
        ),
        ({NETWORK: "rail"}, ""),
        ({NETWORK: "not a label!"}, f"{NETWORK}: is no label value"),
        ({RDMA: "rail"}, f"{RDMA}: needs a resource name, and cniType macvlan here has none"),
    ],
)
def test_annotations(annotations: dict[str, str], fragment: str) -> None:
    """Annotations that shape the definition are checked."""
    texts = refused(MACVLAN, annotations)

    assert bool(fragment) == bool(texts)
    assert fragment in "".join(texts)
    assert all(text.startswith("metadata.annotations: Invalid value") for text in texts)


@pytest.mark.parametrize(
    ("before", "after", "fragment"),
    [
        ({CR_NAME: "a"}, {CR_NAME: "a"}, ""),
        ({CR_NAME: "a"}, {}, ""),
        ({CR_NAME: "a"}, {CR_NAME: "b"}, "cannot be changed from a"),
        ({}, {CR_NAME: "a"}, "cannot be added to an existing object"),
    ],
)
def test_definitions_name_stays(
    before: dict[str, str], after: dict[str, str], fragment: str
) -> None:
    """
    The definition's name may be given up, never changed or added.

    Source: docs/reference/networks.md#the-definition.
    """
    texts = changed(before, after)

    assert bool(fragment) == bool(texts)
    assert fragment in "".join(texts)


@pytest.mark.parametrize(
    ("spec", "key", "fragment"),
    [
        (MACVLAN, NETWORK, None),
        (block(MACVLAN, "macvlan", rdmaResourceName="x/y"), NETWORK, "needs at least one IPPool"),
        (block(MACVLAN, "macvlan", rdmaResourceName="x/y", ippools=POOLS), NETWORK, None),
        (block(MACVLAN, "macvlan", rdmaResourceName="x/y", ippools=POOLS), RDMA, None),
        (block(MACVLAN, "macvlan", ippools=POOLS), RDMA, "needs a resource name"),
        (SRIOV, RDMA, "needs at least one IPPool"),
        (block(SRIOV, "sriov", ippools={"ipv6": ["p6"]}), RDMA, None),
        (block(IB_SRIOV, "ibsriov", ippools=POOLS), RDMA, None),
        (IPOIB, NETWORK, None),
        (IPOIB, RDMA, "needs a resource name"),
        (OVS, NETWORK, "cniType ovs is not supported"),
        ({}, NETWORK, "cniType custom is not supported"),
    ],
)
def test_what_can_be_injected(spec: dict[str, Any], key: str, fragment: str | None) -> None:
    """
    RDMA needs a resource and a pool, a network a pool only with a resource.

    Open vSwitch and custom ones cannot.
    """
    problem = injection_problem(network(spec), key)

    assert (fragment is None) == (problem is None)
    assert (fragment or "") in (problem or "")


def test_definition_of_another() -> None:
    """The words for a definition that belongs to another network are the reference's."""
    text = managed_by_another(network(MACVLAN), "macvlan-conf", "other").text

    assert text.endswith(
        "the net-attach-def ns/macvlan-conf already exists and is managed by SpiderMultusConfig ns/other."
    )


def test_on_its_way_out() -> None:
    """A network that is being deleted is neither filled in nor refused."""
    going = network({"cniType": "macvlan"}, deletion_timestamp="2026-01-01T00:00:00Z")

    assert going == complete_config(going)
    assert [] == validate_config(None, going)


@pytest.mark.parametrize(
    ("text", "allowed", "words"),
    [
        ('{"type":"spiderpool-multus","binDir":"/tmp"}', (), "spiderpool-multus is a meta plugin"),
        ('{"plugins":[{"type":"a"},{"ipam":{"type":"multus"}}]}', (), "multus is a meta plugin"),
        ('{"type":"a\\u0000"}', (), "is no name of a CNI plugin"),
        ('{"type":"bridge"}', ("macvlan",), "plugin bridge is not allowed; allowed are macvlan"),
    ],
)
def test_plugins_of_a_custom_network(text: str, allowed: tuple[str, ...], words: str) -> None:
    """The controller writes no definition whose plugins nodes must not execute."""
    config = SpiderMultusConfig(
        metadata=ObjectMeta(name="n", namespace="ns"),
        spec=MultusConfigSpec(cni_type=CNIType.CUSTOM, custom_cni=text),
    )

    (error,) = validate_config(None, complete_config(config), allowed)
    assert "spec.customCniTypeConfig" == error.field
    assert words in error.message


def test_plugins_of_a_chain() -> None:
    """Further plugins are looked at too, and with a list all that the definition names."""
    spec = MultusConfigSpec(
        cni_type=CNIType.MACVLAN,
        macvlan=MasterConfig(master=("ens1",)),
        chain_cni_json_data=('{"type":"tuning","x":{"type":"multus"}}',),
    )
    config = SpiderMultusConfig(metadata=ObjectMeta(name="n", namespace="ns"), spec=spec)

    (error,) = validate_config(None, complete_config(config))
    assert "multus is a meta plugin" in error.message
    whole = msgspec.structs.replace(
        config, spec=msgspec.structs.replace(spec, chain_cni_json_data=())
    )
    own = ("macvlan", "spiderpool", "coordinator")
    assert [] == validate_config(None, complete_config(whole), own)
    assert 1 == len(validate_config(None, complete_config(whole), own[:2]))


def test_size_of_a_definition() -> None:
    """A network whose definition no node would read is refused, whatever makes it so large."""
    routes = [{"dst": "10.0.0.0/8", "gw": "10.6.0.1"}] * 5000
    spec = msgspec.convert({**MACVLAN, "coordinator": {"policyRoutes": routes}}, MultusConfigSpec)
    config = SpiderMultusConfig(metadata=ObjectMeta(name="n", namespace="ns"), spec=spec)

    errors = validate_config(None, complete_config(config))
    assert any("32768 is the most" in error.message for error in errors), errors[:2]
