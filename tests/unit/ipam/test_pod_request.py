"""
What a pod asks for.

Every source, their precedence, and what is refused.

Source: docs/reference/annotations.md.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.api.crd.ippool import Route
from spiderpool.configuration.config import Features
from spiderpool.errors import InvalidRequest
from spiderpool.ipam.pod_request import NicRequest, PodRequest, Request, Source, read_pod_request
from tests.fakes.objects import FEATURES, make_namespace, make_pod

IPPOOLS = "ipam.spidernet.io/ippools"
IPPOOL = "ipam.spidernet.io/ippool"
ROUTES = "ipam.spidernet.io/routes"
DEFAULT_ROUTE_NIC = "ipam.spidernet.io/default-route-nic"
IP = "ipam.spidernet.io/ip"
NETWORKS = "k8s.v1.cni.cncf.io/networks"
V4_ONLY = Features(enable_ipv4=True)
AUTO = Features(
    enable_ipv4=True,
    enable_ipv6=True,
    enable_spider_subnet=True,
    enable_auto_pool_for_application=True,
)


def read(
    annotations: dict[str, Any], *, nic: str = "eth0", features: Features = FEATURES, **more: Any
) -> PodRequest:
    """Read the request of a pod with annotations; keywords `namespace` and those of a request."""
    namespace = more.pop("namespace", None)
    return read_pod_request(
        make_pod(annotations=annotations), namespace, Request(nic, **more), features
    )


def refusal(annotations: dict[str, Any], **more: Any) -> str:
    """Return the words with which annotations are refused."""
    with pytest.raises(InvalidRequest) as caught:
        read(annotations, **more)
    return caught.value.message


def test_precedence() -> None:
    """
    The first source that names a pool decides alone, for both families.

    Source: docs/reference/selection.md#sources.
    """
    sources: list[tuple[Source, dict[str, Any], dict[str, Any]]] = [
        (Source.IPPOOLS, {IPPOOLS: [{"ipv4": ["a"]}]}, {}),
        (Source.IPPOOL, {IPPOOL: {"ipv4": ["b"]}}, {}),
        (Source.NAMESPACE, {}, {"namespace": make_namespace(ipv4='["c"]')}),
        (Source.CNI, {}, {"default_ipv4": ("d",), "default_ipv6": ("e",)}),
        (Source.DEFAULT, {}, {}),
    ]
    expected = [{4: ("a",)}, {4: ("b",)}, {4: ("c",)}, {4: ("d",), 6: ("e",)}, None]
    for first, (source, _, _) in enumerate(sources):
        annotations = {key: value for _, pod, _ in sources[first:] for key, value in pod.items()}
        request = {key: value for _, _, call in sources[first:] for key, value in call.items()}
        pod_request = read(annotations, **request)

        assert source is pod_request.source
        assert expected[first] == pod_request.nics[0].patterns


def test_families_are_never_merged() -> None:
    """A namespace that names only an IPv4 pool gets only IPv4, whatever the CNI configuration names for IPv6."""
    pod_request = read({}, namespace=make_namespace(ipv4='["c"]', ipv6="[]"), default_ipv6=("e",))

    assert {4: ("c",)} == pod_request.nics[0].patterns


def test_disabled_families_drop_out() -> None:
    """Pools of a disabled family are dropped silently."""
    pod_request = read({IPPOOL: {"ipv4": ["a"], "ipv6": ["b"]}}, features=V4_ONLY)

    assert {4: ("a",)} == pod_request.nics[0].patterns


def test_named_nics() -> None:
    """With interfaces named, the caller's and all others are asked for at once, each with its own clean gateway."""
    items = [
        {"interface": "eth0", "ipv4": ["a", "b*"], "cleangateway": True},
        {"interface": "net1", "ipv4": ["c"], "ipv6": ["d"]},
    ]
    pod_request = read({IPPOOLS: items}, nic="net1", clean_gateway=True, match_master_subnet=True)

    assert pod_request.nic == "net1"
    assert pod_request.nics == (
        NicRequest("eth0", Source.IPPOOLS, {4: ("a", "b*")}, clean_gateway=True),
        NicRequest(
            "net1",
            Source.IPPOOLS,
            {4: ("c",), 6: ("d",)},
            clean_gateway=False,
            match_master_subnet=True,
        ),
    )


def test_nics_by_order() -> None:
    """Without names, items belong to eth0 and to the networks in their order, under the networks' interface names."""
    pod_request = read(
        {IPPOOLS: [{"ipv4": ["a"]}, {"ipv4": ["b"]}, {}], NETWORKS: "n1@data,n2"}, nic="data"
    )

    assert ["eth0", "data", "net2"] == [nic.nic for nic in pod_request.nics]
    assert [{4: ("a",)}, {4: ("b",)}, {}] == [nic.patterns for nic in pod_request.nics]


def test_clean_gateway_of_the_configuration() -> None:
    """
    Every source but `ippools` takes clean_gateway from the CNI configuration.

    Source: docs/reference/selection.md#sources.
    """
    assert read({IPPOOL: {"ipv4": ["a"]}}, clean_gateway=True).nics[0].clean_gateway
    assert not read({IPPOOLS: [{"ipv4": ["a"]}]}, clean_gateway=True).nics[0].clean_gateway


def test_exact_addresses() -> None:
    """
    Addresses of the call count for its NIC.

    Those of a network selection for the NIC of that network.
    """
    items = [
        {"interface": "eth0", "ipv4": ["a"]},
        {"interface": "net1", "ipv4": ["c"], "ipv6": ["d"]},
    ]
    networks = [{"name": "n", "ips": ["10.7.0.9/16", "fd00::9"]}]
    pod_request = read({IPPOOLS: items, NETWORKS: networks}, ips=(ip_address("10.6.0.9"),))

    assert [(ip_address("10.6.0.9"),), (ip_address("10.7.0.9"), ip_address("fd00::9"))] == [
        nic.ips for nic in pod_request.nics
    ]
    assert (ip_address("fd00::9"),) == pod_request.nics[1].ips_of(6)


def test_pinned_addresses() -> None:
    """
    The annotation `ip` pins eth0, another NIC, or the ordinals of a StatefulSet.

    The call's own request may say the same.
    """
    pools = {IPPOOLS: [{"interface": "eth0", "ipv4": ["a"]}, {"interface": "net1", "ipv4": ["c"]}]}
    by_nic = [
        {"interface": "net1", "ipv4": ["10.7.0.9"]},
        {"interface": "eth0", "ipv4": ["10.6.0.9"]},
    ]
    nine, nic_nine = ip_address("10.6.0.9"), ip_address("10.7.0.9")

    assert [(nine,), ()] == [nic.ips for nic in read({**pools, IP: "10.6.0.9"}).nics]
    assert [(nine,), (nic_nine,)] == [nic.ips for nic in read({**pools, IP: by_nic}).nics]
    assert [(nine,), ()] == [nic.ips for nic in read({**pools, IP: "10.6.0.9"}, ips=(nine,)).nics]
    unnamed = {
        IPPOOLS: [{"ipv4": ["a"]}, {"ipv4": ["c"]}],
        IP: [{"ipv4": ["10.6.0.9"]}, {"ipv4": ["10.7.0.9"]}],
    }
    assert [(nine,), (nic_nine,)] == [
        nic.ips for nic in read({**unnamed, NETWORKS: "n1@data"}).nics
    ]


def test_an_ordinal_picks_from_a_list() -> None:
    """Replica by replica a StatefulSet walks the lists of both families, those of network selections too."""
    pools = {IPPOOL: {"ipv4": ["a"], "ipv6": ["b"]}}
    lists = ["10.6.0.8-10.6.0.9", "fd00::8", "fd00::9"]
    pod = make_pod("db-1", annotations={**pools, IP: lists})
    pod_request = read_pod_request(pod, None, Request("eth0"), FEATURES, position=1)

    assert (ip_address("10.6.0.9"), ip_address("fd00::9")) == pod_request.nics[0].ips


@pytest.mark.parametrize(
    ("annotations", "request_ips", "words"),
    [
        (
            {IP: "10.6.0.9"},
            ("10.6.0.8",),
            "asks for 10.6.0.9 on eth0, the CNI call (ips, or IP of CNI_ARGS) for 10.6.0.8",
        ),
        ({IP: "fd00::9"}, (), "names no IPv6 pool that is enabled; name the pool that has it"),
        ({IP: ["10.6.0.8", "10.6.0.9"]}, (), "2 IPv4 addresses are listed, and this pod takes one"),
        (
            {},
            ("10.6.0.8", "10.6.0.9"),
            "the CNI call (ips, or IP of CNI_ARGS), interface eth0: 2 IPv4 addresses are listed",
        ),
        ({IP: "nonsense"}, (), "wrong input: annotation ipam.spidernet.io/ip: the value:"),
    ],
)
def test_pins_that_cannot_be(
    annotations: dict[str, Any], request_ips: tuple[str, ...], words: str
) -> None:
    """Pins that contradict each other, have no pool or are too many are refused with words."""
    assert words in refusal(
        {IPPOOL: {"ipv4": ["a"]}, **annotations}, ips=tuple(map(ip_address, request_ips))
    )


def test_routes() -> None:
    """Routes are checked and written as networks."""
    pod_request = read(
        {ROUTES: [{"dst": "10.9.1.1/16", "gw": "10.6.0.1"}, {"DST": "::/0", "gw": "fd00::1"}]}
    )

    assert (
        Route(dst="10.9.0.0/16", gw="10.6.0.1"),
        Route(dst="::/0", gw="fd00::1"),
    ) == pod_request.routes


def test_a_pod_is_not_its_own_gateway() -> None:
    """An exact address that is the gateway of a route of the same pod is refused."""
    words = refusal(
        {
            IPPOOL: {"ipv4": ["a"]},
            IP: "10.6.0.9",
            ROUTES: [{"dst": "10.9.0.0/16", "gw": "10.6.0.9"}],
        }
    )

    assert (
        "wrong input: annotation ipam.spidernet.io/routes: gw 10.6.0.9 of 10.9.0.0/16 is the address that this pod asks for "
        "on eth0; name another gateway"
    ) == words


def test_subnet_annotations() -> None:
    """
    Where automatic pools are off but subnets are on the annotations are refused.

    Where subnets are off they say nothing.
    """
    annotations = {"ipam.spidernet.io/subnet": {"ipv4": ["s"]}}
    words = refusal(annotations, features=Features(enable_ipv4=True, enable_spider_subnet=True))

    assert words.startswith(
        "wrong input: it's invalid to use 'ipam.spidernet.io/subnets' or 'ipam.spidernet.io/subnet' "
        "annotation when Auto-Pool feature is disabled: annotation ipam.spidernet.io/subnet asks"
    )
    assert read(annotations).source is Source.DEFAULT


def test_subnets_come_first() -> None:
    """
    `subnets` wins over `subnet`, both over `ippools`.

    The request names the subnet of the caller's NIC.

    Source: docs/reference/selection.md#sources.
    """
    one = {
        "ipam.spidernet.io/subnet": {"ipv4": ["s1", "s2"], "ipv6": ["s6"]},
        IPPOOLS: [{"ipv4": ["a"]}],
    }
    items = [{"interface": "eth0", "ipv4": ["s3"]}, {"interface": "net1", "ipv4": ["s4"]}]
    several = {"ipam.spidernet.io/subnets": items, **one}

    assert (Source.SUBNET, {4: ("s1",), 6: ("s6",)}) == _asked(read(one, features=AUTO))
    assert (Source.SUBNETS, {4: ("s4",)}) == _asked(read(several, features=AUTO, nic="net1"))
    words = refusal(several, features=AUTO, nic="net2")
    assert "no item is for interface net2, only for eth0, net1" in words
    assert "no item is for interface net1, only for eth0" in refusal(one, features=AUTO, nic="net1")


def _asked(pod_request: PodRequest) -> tuple[Source, Any]:
    return pod_request.source, pod_request.nics[0].patterns


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        (IPPOOLS, "", "the value is not JSON"),
        (IPPOOLS, "[", "the value is not JSON"),
        (IPPOOLS, [], "the list is empty"),
        (IPPOOLS, {"ipv4": ["a"]}, "the value is an object, not a JSON array"),
        (IPPOOLS, ["a"], "item 1 is a text; it must be an object"),
        (
            IPPOOLS,
            [{"interface": "eth0"}, {"ipv4": ["a"]}],
            'item 2 has no "interface" while others have one',
        ),
        (IPPOOLS, [{"interface": "eth0"}, {"interface": "eth0"}], "interface eth0 is listed twice"),
        (IPPOOLS, [{"interface": "net1"}], "no item is for interface eth0, only for net1"),
        (
            IPPOOLS,
            [{"interface": "0123456789abcdef", "ipv4": ["a"]}],
            'item 1: interface "0123456789abcdef" is no name of an interface: at most 15',
        ),
        (
            DEFAULT_ROUTE_NIC,
            "0123456789abcdef",
            'the value: interface "0123456789abcdef" is no name',
        ),
        (DEFAULT_ROUTE_NIC, "net1,net2 ", 'the value: interface "net1,net2 " is no name'),
        (IPPOOLS, [{"ipv4": "a"}], 'item 1: "ipv4" is a text; it must be a list of texts'),
        (IPPOOLS, [{"ipv4": [1]}], 'item 1: "ipv4" must be a list of texts'),
        (IPPOOLS, [{"ipv4": [""]}], 'item 1: "ipv4" has an empty pool name'),
        (
            IPPOOLS,
            [{"cleangateway": "yes"}],
            'item 1: "cleangateway" is a text; it must be true or false',
        ),
        (IPPOOL, "", "the value is not JSON"),
        (IPPOOL, [], "the value is a list; it must be an object"),
        (IPPOOL, {}, "names no pool"),
        (IPPOOL, {"ipv4": [], "ipv6": None}, "names no pool"),
        (IPPOOL, {"ipv6": {}}, '"ipv6" is an object; it must be a list of texts'),
        (ROUTES, {"dst": "10.0.0.0/8"}, "the value is an object, not a JSON array"),
        (ROUTES, [{"dst": "10.0.0.0", "gw": "10.6.0.1"}], 'item 1: "10.0.0.0" is not a CIDR'),
        (ROUTES, [{"dst": "10.0.0.0/8"}], 'item 1 has no "gw"; write both, "dst" and "gw"'),
        (ROUTES, [{"destination": "10.0.0.0/8", "gw": "10.6.0.1"}], 'item 1 has no "dst"'),
        (
            ROUTES,
            [{"dst": "10.0.0.0/8", "gw": "fd00::1"}],
            "item 1: dst 10.0.0.0/8 is IPv4 and gw fd00::1 is IPv6",
        ),
        (
            ROUTES,
            [{"dst": "10.0.0.0/8", "gw": "10.6.0.1/16"}],
            'item 1: "10.6.0.1/16" is not an IP address',
        ),
        (ROUTES, [{"dst": "10.0.0.0/8", "gw": 1}], 'item 1: "gw" is a number; it must be a text'),
        (ROUTES, [{"dst": "10.0.0.0/33", "gw": "10.6.0.1"}], 'item 1: "10.0.0.0/33" is not a CIDR'),
        *(
            (
                ROUTES,
                [{"dst": "10.0.0.0/8", "gw": gw}],
                f"item 1: gw {gw} can be no gateway: {words}",
            )
            for gw, words in {
                "0.0.0.1": "0.0.0.0/8 means this network",
                "127.0.0.1": "127.0.0.0/8 is loopback",
                "224.0.0.1": "224.0.0.0/4 is multicast",
                "240.0.0.1": "240.0.0.0/4 is reserved",
                "255.255.255.255": "255.255.255.255/32 is the limited broadcast",
            }.items()
        ),
        *(
            (ROUTES, [{"dst": "::/0", "gw": gw}], f"item 1: gw {gw} can be no gateway: {words}")
            for gw, words in {
                "::": "::/128 means no address",
                "::1": "::1/128 is loopback",
                "ff02::2": "ff00::/8 is multicast",
                "::ffff:a06:1": "::ffff:0:0/96 stands for IPv4 addresses",
            }.items()
        ),
    ],
)
def test_malformed_annotations(key: str, value: object, words: str) -> None:
    """A malformed annotation is refused by name, with the item and what is wrong."""
    message = refusal({key: value})

    assert message.startswith(f"wrong input: annotation {key}: ")
    assert words in message


@pytest.mark.parametrize("value", ['"a"', "{}", "[1]", '[""]', "["])
def test_malformed_namespaces(value: str) -> None:
    """A malformed namespace annotation is refused by name."""
    message = refusal({}, namespace=make_namespace(ipv6=value))

    assert message.startswith("wrong input: annotation ipam.spidernet.io/default-ipv6-ippool: ")


def test_order_meets_a_named_network() -> None:
    """Items by order whose networks ask for the same interface are refused."""
    assert "interface eth0 is listed twice" in refusal({IPPOOLS: [{}, {}], NETWORKS: "n@eth0"})


VALID = [
    (
        IPPOOLS,
        json.dumps(
            [
                {"interface": "eth0", "ipv4": ["a"], "ipv6": ["b"], "cleangateway": True},
                {"interface": "net1"},
            ]
        ),
    ),
    (IPPOOLS, json.dumps([{"ipv4": ["a*"]}, {"ipv6": ["b"]}])),
    (IPPOOL, json.dumps({"ipv4": ["a"], "ipv6": ["b"]})),
    (
        ROUTES,
        json.dumps(
            [{"dst": "10.0.0.0/16", "gw": "192.168.1.1"}, {"dst": "fd00::/64", "gw": "fd00::1"}]
        ),
    ),
    (NETWORKS, "ns/a@net1,b"),
    (NETWORKS, json.dumps([{"name": "a", "ips": ["10.6.0.1/16"], "default-route": ["10.6.0.1"]}])),
]


@given(st.sampled_from(VALID), st.data())
def test_damaged_annotations(valid: tuple[str, str], data: st.DataObject) -> None:
    """
    A valid annotation that is damaged anywhere is read or refused as wrong input.

    It never breaks the reader.
    """
    key, text = valid
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 4)))
    damaged = text[:start] + data.draw(st.text('[]{}":,0a1 n\x00ü', max_size=3)) + text[end:]
    try:
        outcome = ["wrong input: ", *(nic.nic for nic in read({key: damaged}).nics)]
    except InvalidRequest as error:
        outcome = [error.message[:13], "eth0"]

    assert outcome[0] == "wrong input: "
    assert "eth0" in outcome
