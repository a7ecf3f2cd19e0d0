"""
Network selections in both forms.

Source: docs/reference/meta-plugin.md#network-selections.
"""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.errors import InvalidRequest
from spiderpool.model.network_selection import (
    Bandwidth,
    NetworkSelection,
    PortMapping,
    nic_name,
    parse_default_network,
    parse_networks,
)


def test_nothing() -> None:
    """An empty annotation and an empty array mean no networks."""
    assert not parse_networks("", "ns")
    assert not parse_networks("[]", "ns")


def test_short_form() -> None:
    """Items are [namespace/]name[@interface]; blanks around parts do not count."""
    expected = (
        NetworkSelection("ns", "net-a"),
        NetworkSelection("kube-system", "net-b"),
        NetworkSelection("ns", "net-a", "Data_1"),
        NetworkSelection("other", "net-c", "n.c"),
    )

    assert expected == parse_networks(
        "net-a, kube-system / net-b,net-a@Data_1 ,other/net-c@n.c", "ns"
    )


def test_default_namespace_of_a_slash() -> None:
    """`/name` and `name@` leave namespace and interface to their defaults."""
    assert (NetworkSelection("ns", "a"), NetworkSelection("ns", "b")) == parse_networks(
        "/a,b@", "ns"
    )


def test_json_form() -> None:
    """All keys of the standard arrive; names are not held to the short form's pattern."""
    text = json.dumps(
        [
            {"name": "Net.A"},
            {
                "name": "net-b",
                "namespace": "other",
                "interface": "data",
                "ips": ["10.6.0.9/16", "fd00::9"],
                "mac": "02:00:5e:10:00:01",
                "infiniband-guid": "02:00:5e:10:00:01:00:02",
                "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}],
                "bandwidth": {"ingressRate": 5},
                "default-route": ["10.6.0.1", "fd00::1"],
                "cni-args": {"a": [1]},
                "deviceID": "0000:01:00.0",
            },
        ]
    )
    expected = (
        NetworkSelection("ns", "Net.A"),
        NetworkSelection(
            namespace="other",
            name="net-b",
            interface="data",
            ips=("10.6.0.9/16", "fd00::9"),
            mac="02:00:5e:10:00:01",
            infiniband_guid="02:00:5e:10:00:01:00:02",
            port_mappings=(PortMapping(80, 8080, "tcp"),),
            bandwidth=Bandwidth(ingress_rate=5),
            default_route=(ip_address("10.6.0.1"), ip_address("fd00::1")),
            cni_args={"a": [1]},
            device_id="0000:01:00.0",
        ),
    )

    assert expected == parse_networks(text, "ns")


def test_keys_in_any_case_and_null() -> None:
    """Keys match in any case, unknown ones do not count, null is absent, the old alias counts after the key itself."""
    text = '[{"Name":"a","IPs":null,"INTERFACErequest":"old","x":1},{"name":"a","interface":"new","interfaceRequest":"old"}]'

    assert (
        NetworkSelection("ns", "a", "old"),
        NetworkSelection("ns", "a", "new"),
    ) == parse_networks(text, "ns")


def test_an_empty_default_route_is_something_said() -> None:
    """`[]` as default-route differs from not saying it."""
    said, unsaid = parse_networks('[{"name":"a","default-route":[]},{"name":"b"}]', "ns")

    assert () == said.default_route
    assert unsaid.default_route is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/b/c", 'item "a/b/c" has too many'),
        ("a@b@c", 'item "a@b@c" has too many'),
        ("a,Upper", '"Upper" must be lower-case'),
        ("-a", '"-a" must be lower-case'),
        ("n.s/a", 'namespace "n.s"'),
        ("a@" + "x" * 16, "at most 15 bytes"),
        ("a@" + "ü" * 8, "at most 15 bytes"),
        ("a,", 'item "" has no name'),
        ("ns/", "has no name"),
        ("@if", "has no name"),
        ("{}", "the value is an object, not a JSON array"),
        ('"a"', "the value is a text, not a JSON array"),
        ('["a"]', "item 1 is a text; it must be an object"),
        ("[null]", "item 1 is null; it must be an object"),
        ('[{"name":"a"},{"namespace":"b"}]', "item 2 has no name"),
        ('[{"name":1}]', 'item 1: "name" is a number; it must be a text'),
        ('[{"name":"a","ips":["10.6.0.300"]}]', '"ips" has "10.6.0.300"'),
        ('[{"name":"a","ips":"10.6.0.3"}]', '"ips" is a text; it must be a list of texts'),
        ('[{"name":"a","ips":[3]}]', '"ips" must be a list of texts'),
        ('[{"name":"a","mac":"02:00:5e"}]', '"mac" is "02:00:5e"'),
        ('[{"name":"a","mac":"02:00-5e:10:00:01"}]', '"mac" is'),
        ('[{"name":"a","default-route":[""]}]', '"" is not an IP address'),
        (
            '[{"name":"a","default-route":["10.6.0.1"]},{"name":"b","default-route":["10.7.0.1"]}]',
            "no ECMP",
        ),
        (
            '[{"name":"a","portMappings":[{"hostPort":"80"}]}]',
            '"portMappings"[0]: "hostPort" is a text',
        ),
        ('[{"name":"a","bandwidth":{"ingressRate":true}}]', '"ingressRate" is true or false'),
        ('[{"name":"a"', "the value is not JSON"),
    ],
)
def test_malformed(text: str, words: str) -> None:
    """What is malformed is refused, naming the annotation and the item."""
    with pytest.raises(InvalidRequest) as refusal:
        parse_networks(text, "ns")

    assert refusal.value.message.startswith("wrong input: annotation k8s.v1.cni.cncf.io/networks: ")
    assert words in refusal.value.message


@pytest.mark.parametrize(
    "mac",
    [
        "02:00:5e:10:00:01",
        "02-00-5E-10-00-01",
        "0200.5e10.0001",
        "02:00:5e:10:00:00:00:01",
        ":".join(["00"] * 20),
    ],
)
def test_macs(mac: str) -> None:
    """Go's MAC syntax: 6, 8 or 20 octets, three ways to write them; kept as written."""
    (selection,) = parse_networks(json.dumps([{"name": "a", "mac": mac}]), "ns")

    assert mac == selection.mac


def test_default_network() -> None:
    """The default network is exactly one, and its namespace defaults to the meta plugin's."""
    assert parse_default_network("calico", "kube-system") == NetworkSelection(
        "kube-system", "calico"
    )
    assert parse_default_network(
        '[{"name":"a","namespace":"b"}]', "kube-system"
    ) == NetworkSelection("b", "a")


@pytest.mark.parametrize("text", ["", "[]", "a,b"])
def test_not_one_default_network(text: str) -> None:
    """None and several are refused."""
    with pytest.raises(
        InvalidRequest,
        match=r"^wrong input: annotation v1\.multus-cni\.io/default-network: .* exactly one",
    ):
        parse_default_network(text, "kube-system")


def test_names_of_nics() -> None:
    """
    A network without a name asked for still consumes its number.

    Source: docs/reference/meta-plugin.md#networks-of-a-pod.
    """
    networks = parse_networks("a@data,b", "ns")

    assert ["data", "net2", "net3"] == [nic_name(networks, index) for index in (1, 2, 3)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "ips", "mac", "bandwidth"]), inner)
    ),
    max_leaves=8,
)


@given(st.text(max_size=30) | JSON.map(json.dumps))
def test_any_text(text: str) -> None:
    """Any annotation is read or refused; it never breaks the reader."""
    try:
        networks = parse_networks(text, "ns")
    except InvalidRequest:
        return
    assert all(network.name for network in networks)
