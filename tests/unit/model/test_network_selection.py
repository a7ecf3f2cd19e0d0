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
    """All keys of the standard arrive; a name may have dots, as in no short form."""
    text = json.dumps(
        [
            {"name": "net.a"},
            {
                "name": "net-b",
                "namespace": "other",
                "interface": "data",
                "ips": ["10.6.0.9/16", "fd00::9"],
                "mac": "02:00:5e:10:00:01",
                "infiniband-guid": "02:00:5e:10:00:01:00:02",
                "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}],
                "bandwidth": {"ingressRate": 5, "ingressBurst": 6},
                "default-route": ["10.6.0.1", "fd00::1"],
                "cni-args": {"a": [1]},
                "deviceID": "0000:01:00.0",
            },
        ]
    )
    expected = (
        NetworkSelection("ns", "net.a"),
        NetworkSelection(
            namespace="other",
            name="net-b",
            interface="data",
            ips=("10.6.0.9/16", "fd00::9"),
            mac="02:00:5e:10:00:01",
            infiniband_guid="02:00:5e:10:00:01:00:02",
            port_mappings=(PortMapping(80, 8080, "tcp"),),
            bandwidth=Bandwidth(ingress_rate=5, ingress_burst=6),
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
    """`[]` as default-route differs from not saying it; a gateway listed twice counts once."""
    text = '[{"name":"a","default-route":[]},{"name":"b"},{"name":"c","default-route":["fd00::1","fd00:0::1"]}]'
    said, unsaid, repeated = parse_networks(text, "ns")

    assert () == said.default_route
    assert unsaid.default_route is None
    assert (ip_address("fd00::1"),) == repeated.default_route


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a/b/c", 'item "a/b/c" has too many'),
        ("a@b@c", 'item "a@b@c" has too many'),
        ("a,Upper", '"Upper" must be lower-case'),
        ("-a", '"-a" must be lower-case'),
        ("n.s/a", 'namespace "n.s"'),
        ("a@" + "x" * 16, 'interface "xxxxxxxxxxxxxxxx" is no name of an interface: at most 15'),
        ("a@" + "ü" * 8, "at most 15 characters"),
        ("a@.", 'interface "." is no name'),
        ("a@n:c", 'interface "n:c" is no name'),
        ("a@all", 'interface "all" is no name'),
        ("a@lo", 'item "a@lo": interface "lo" is the loopback that every pod has'),
        ('[{"name":"a","interface":"lo"}]', 'item 1: interface "lo" is the loopback'),
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
        (
            '[{"name":"kube-system/net"}]',
            'item 1: "name" is "kube-system/net"; in the JSON form write "namespace": "kube-system", "name": "net"',
        ),
        ('[{"name":"a/b","namespace":"c"}]', 'write "namespace": "a", "name": "b"'),
        ('[{"name":"Net"}]', '"name" is "Net"; it must be lower-case'),
        ('[{"name":"net_a"}]', '"name" is "net_a"; it must be lower-case'),
        ('[{"name":"a@net1"}]', '"name" is "a@net1"; it must be lower-case'),
        ('[{"name":" a"}]', '"name" is " a"; it must be lower-case'),
        ('[{"name":"' + "a" * 254 + '"}]', "at most 253"),
        ('[{"name":"a","namespace":"n.s"}]', '"namespace" is "n.s"; it must be lower-case'),
        ('[{"name":"a","namespace":"' + "a" * 64 + '"}]', "at most 63"),
        ('[{"name":"a","namespace":["b"]}]', '"namespace" is a list; it must be a text'),
        (
            '[{"name":"a","interface":"0123456789abcdef"}]',
            'item 1: interface "0123456789abcdef" is no name',
        ),
        ('[{"name":"a","interfaceRequest":"a/b"}]', 'item 1: interface "a/b" is no name'),
        ('[{"name":"a","interface":1}]', '"interface" is a number; it must be a text'),
        ('[{"name":"a","ips":["10.6.0.3/255.255.0.0"]}]', "write an address or a CIDR"),
        ('[{"name":"a","ips":["10.6.0.3/0.0.255.255"]}]', "write an address or a CIDR"),
        ('[{"name":"a","ips":["10.6.0.0/16"]}]', "10.6.0.0 is the network address of 10.6.0.0/16"),
        ('[{"name":"a","ips":["10.6.255.255/16"]}]', "is the broadcast address of 10.6.0.0/16"),
        ('[{"name":"a","ips":["fd00::/64"]}]', "is the subnet-router anycast address of fd00::/64"),
        (
            '[{"name":"a","ips":["224.0.0.1"]}]',
            "224.0.0.1 can be no pod's address: 224.0.0.0/4 is multicast",
        ),
        ('[{"name":"a","ips":["127.0.0.1/8"]}]', "127.0.0.0/8 is loopback"),
        ('[{"name":"a","ips":["::1"]}]', "::1/128 is loopback"),
        ('[{"name":"a","ips":["0.0.0.0"]}]', "0.0.0.0/8 means this network"),
        (
            '[{"name":"a","ips":["10.6.0.1-10.6.0.9"]}]',
            '"ips" has "10.6.0.1-10.6.0.9"; write an address or a CIDR',
        ),
        ('[{"name":"a","ips":["fe80::1%eth0"]}]', '"ips" has "fe80::1%eth0"'),
        (
            '[{"name":"a","mac":"01:00:5e:10:00:01"}]',
            '"mac" is "01:00:5e:10:00:01"; it is a group address',
        ),
        ('[{"name":"a","mac":"ff:ff:ff:ff:ff:ff"}]', "it is a group address"),
        ('[{"name":"a","mac":"0300.5e10.0001"}]', "it is a group address"),
        ('[{"name":"a","mac":"00:00:00:00:00:00"}]', "it is all zeros"),
        (
            '[{"name":"a","mac":"02:00:5e:10:00:00:00:01"}]',
            'a GUID of 8 octets is "infiniband-guid"',
        ),
        ('[{"name":"a","mac":"02005e100001"}]', "write 6 octets"),
        ('[{"name":"a","mac":2}]', '"mac" is a number; it must be a text'),
        (
            '[{"name":"a","infiniband-guid":"02:00:5e:10:00:01"}]',
            '"infiniband-guid" is "02:00:5e:10:00:01"; write 8 octets',
        ),
        ('[{"name":"a","infiniband-guid":"00:00:00:00:00:00:00:00"}]', "not all zeros or ones"),
        ('[{"name":"a","infiniband-guid":"ff-ff-ff-ff-ff-ff-ff-ff"}]', "not all zeros or ones"),
        ('[{"name":"a","mac":"02:00:5e"}]', '"mac" is "02:00:5e"'),
        ('[{"name":"a","mac":"02:00-5e:10:00:01"}]', '"mac" is'),
        ('[{"name":"a","default-route":[""]}]', '"" is not an IP address'),
        (
            '[{"name":"a","default-route":"10.6.0.1"}]',
            '"default-route" is a text; it must be a list',
        ),
        ('[{"name":"a","default-route":["10.6.0.1/16"]}]', '"10.6.0.1/16" is not an IP address'),
        (
            '[{"name":"a","default-route":["0.0.0.0"]}]',
            "0.0.0.0 can be no gateway: 0.0.0.0/8 means",
        ),
        (
            '[{"name":"a","default-route":["ff02::1"]}]',
            "ff02::1 can be no gateway: ff00::/8 is multicast",
        ),
        ('[{"name":"a","cni-args":"x"}]', '"cni-args" is a text; it must be an object'),
        ('[{"name":"a","deviceID":5}]', '"deviceID" is a number; it must be a text'),
        (
            '[{"name":"a","portMappings":{"hostPort":80}}]',
            '"portMappings" is an object; it must be a list',
        ),
        *(
            (
                json.dumps(
                    [
                        {
                            "name": "a",
                            "portMappings": [{"hostPort": 80, "containerPort": 80, **wrong}],
                        }
                    ]
                ),
                words,
            )
            for wrong, words in (
                ({"hostPort": 0}, '"portMappings"[0]: "hostPort" is 0; write 1 to 65535'),
                ({"hostPort": 65536}, '"hostPort" is 65536; write 1 to 65535'),
                ({"containerPort": -1}, '"containerPort" is -1; write 1 to 65535'),
                ({"protocol": "icmp"}, '"protocol" is "icmp"; write tcp, udp or sctp'),
                ({"hostIP": "10.6.0"}, '"hostIP": "10.6.0" is not an IP address'),
            )
        ),
        *(
            (json.dumps([{"name": "a", "bandwidth": limits}]), words)
            for limits, words in (
                ({"ingressRate": -1, "ingressBurst": 1}, "ingressRate is -1"),
                ({"egressRate": 1, "egressBurst": 2**35}, "the burst at most 34359738360"),
                ({"ingressRate": 2**63, "ingressBurst": 1}, "at most 9223372036854775807"),
                ({"ingressRate": 5}, "ingressRate is 5 and ingressBurst 0; write both, or none"),
                ({"egressBurst": 5}, "egressRate is 0 and egressBurst 5; write both, or none"),
                ([], '"bandwidth" is a list; it must be an object'),
            )
        ),
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
        ":".join(["00"] * 20),
    ],
)
def test_macs(mac: str) -> None:
    """
    Six octets in Go's three ways to write them, or the 20 of IP over InfiniBand.

    Kept as written.
    """
    (selection,) = parse_networks(json.dumps([{"name": "a", "mac": mac}]), "ns")

    assert mac == selection.mac


def test_values_that_only_repeat() -> None:
    """An address that is asked for twice counts once, with its prefix length where it has one."""
    ips = ["10.6.0.9", "10.6.0.9/16", "fd00::9", "fd00:0::9", "10.6.0.9"]
    (selection,) = parse_networks(json.dumps([{"name": "a", "ips": ips}]), "ns")

    assert ("10.6.0.9/16", "fd00::9") == selection.ips


@pytest.mark.parametrize(
    "ip", ["10.6.0.0/31", "10.6.0.0/32", "10.6.0.0", "fd00::/127", "169.254.1.1", "fe80::5/64"]
)
def test_ips_of_small_networks(ip: str) -> None:
    """
    What may be an interface's address is taken.

    That of a /31, one without a prefix, link-local ones.
    """
    (selection,) = parse_networks(json.dumps([{"name": "a", "ips": [ip]}]), "ns")

    assert (ip,) == selection.ips


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
