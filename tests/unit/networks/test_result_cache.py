"""What is kept between ADD and DEL, in Multus' form."""

from __future__ import annotations

import base64
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.netconf import parse_definition
from spiderpool.cni.request import parse_args
from spiderpool.errors import Undecodable
from spiderpool.networks.delegates import Delegate
from spiderpool.networks.result_cache import (
    cached_result,
    parse_delegates,
    parse_result_file,
    render_delegates,
    render_result_file,
    result_file,
)

TEXTS = st.text("abc:1", max_size=5)
CONFIGS = st.sampled_from(
    [
        parse_definition(
            '{"cniVersion":"1.0.0","type":"macvlan","x":{"y":[1]}}', "n1", "network n1"
        ),
        parse_definition(
            '{"plugins":[{"type":"a","x":1},{"type":"b"}],"cniVersions":["1.1.0"]}',
            "n2",
            "network n2",
        ),
    ]
)
GATEWAYS = st.none() | st.lists(st.ip_addresses(), max_size=2).map(tuple)
ARGS = st.dictionaries(st.sampled_from(["mac", "ips", "portMappings"]), TEXTS)


@st.composite
def lists_of_delegates(draw: st.DrawFn) -> tuple[Delegate, ...]:
    """Delegates as a plan makes them: names by position unless they ask for one."""
    requests = draw(st.lists(st.sampled_from(["", "x", "y"]), min_size=1, max_size=3))
    names = [
        request or ("eth0" if index == 0 else f"net{index}")
        for index, request in enumerate(requests)
    ]
    return tuple(
        Delegate(
            name=draw(TEXTS),
            config=draw(CONFIGS),
            ifname=name,
            requested_ifname=request,
            ips=tuple(draw(st.lists(TEXTS, max_size=2))),
            mac=draw(TEXTS),
            infiniband_guid=draw(TEXTS),
            gateways=draw(GATEWAYS),
            lose=draw(st.frozensets(st.sampled_from([4, 6]))),
            device_id=draw(TEXTS),
            resource_name=draw(TEXTS),
            capability_args=draw(ARGS),
        )
        for name, request in zip(names, requests, strict=True)
    )


@given(lists_of_delegates())
def test_round_trip(delegates: tuple[Delegate, ...]) -> None:
    """DEL finds what ADD had, all of it."""
    assert delegates == parse_delegates(render_delegates(delegates), "eth0", {})


@given(lists_of_delegates(), st.data())
def test_damage(delegates: tuple[Delegate, ...], data: st.DataObject) -> None:
    """A text that was cut off anywhere is damaged, never half a truth."""
    text = render_delegates(delegates)
    cut = data.draw(st.integers(0, len(text) - 1))

    with pytest.raises(Undecodable):
        parse_delegates(text[:cut], "eth0", {})


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{}",
        "null",
        "[1]",
        "[{}]",
        '[{"Conf":{"name":"x"}}]',
        '[{"Bytes":"!!"}]',
        '[{"Bytes":"e30="}]',
    ],
)
def test_nonsense(text: str) -> None:
    """What nobody writes is damaged."""
    with pytest.raises(Undecodable):
        parse_delegates(text.encode(), "eth0", {})


def test_keys() -> None:
    """
    The text has Multus' keys, so that Multus can take over.

    Source: docs/reference/meta-plugin.md#failure-del-check-status-gc.
    """
    config = parse_definition(
        '{"cniVersion":"0.3.1","name":"n","type":"macvlan"}', "n", "network n"
    )
    gateways = (ip_address("10.6.0.1"),)
    delegate = Delegate(
        "ns/n",
        config,
        "x",
        requested_ifname="x",
        mac="m",
        ips=("i",),
        gateways=gateways,
        lose=frozenset({6}),
    )

    (item,) = msgspec.json.decode(render_delegates([delegate]))

    document = {"cniVersion": "0.3.1", "name": "n", "type": "macvlan"}
    assert document == msgspec.json.decode(base64.b64decode(item.pop("Bytes")))
    assert {
        "Conf": document,
        "ConfList": {},
        "Name": "ns/n",
        "ifnameRequest": "x",
        "macRequest": "m",
        "ipRequest": ["i"],
        "default-route": ["10.6.0.1"],
        "IsFilterV4Gateway": False,
        "IsFilterV6Gateway": True,
        "capabilityArgs": {},
    } == item


def test_values_that_multus_does_not_keep() -> None:
    """
    Without kept values the requests give them.

    The runtime's port mappings are the default network's.
    """
    conf = {"cniVersion": "0.3.1", "name": "n", "type": "macvlan"}
    items = [
        {"Conf": conf, "Name": "a"},
        {"Conf": conf, "Name": "b", "macRequest": "m", "ipRequest": ["i"], "deviceID": "d"},
    ]
    runtime = {"portMappings": [1], "bandwidth": {"x": 1}}

    first, second = parse_delegates(msgspec.json.encode(items), "eth0", runtime)

    assert runtime == first.capability_args
    assert {
        "bandwidth": {"x": 1},
        "mac": "m",
        "ips": ["i"],
        "deviceID": "d",
    } == second.capability_args
    assert ("eth0", "net1") == (first.ifname, second.ifname)


def test_result_file() -> None:
    """
    A kept result has libcni's form and place.

    Source: docs/reference/meta-plugin.md#what-a-plugin-gets.
    """
    config = parse_definition('{"cniVersion":"1.0.0","type":"macvlan"}', "n", "network n")
    delegate = Delegate("ns/n", config, "net1", capability_args={"mac": "m"})
    kept = cached_result(
        delegate, "c1", "/ns", parse_args("IgnoreUnknown=1;A=b"), {"cniVersion": "1.0.0"}
    )

    text = render_result_file(kept)

    document: dict[str, Any] = msgspec.json.decode(text)
    assert config.document == msgspec.json.decode(base64.b64decode(document.pop("config")))
    assert {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "ifName": "net1",
        "networkName": "n",
        "netns": "/ns",
        "cniArgs": [["IgnoreUnknown", "1"], ["A", "b"]],
        "capabilityArgs": {"mac": "m"},
        "result": {"cniVersion": "1.0.0"},
    } == document
    assert kept == parse_result_file(text)
    assert "results/n-c1-net1" == result_file("n", "c1", "net1")


@pytest.mark.parametrize(
    "text", [b"", b"{}", b'{"kind":"other"}', b'{"kind":"cniCacheV1","result":1}', b"[]"]
)
def test_damaged_result_file(text: bytes) -> None:
    """What is no cached result is refused."""
    with pytest.raises(Undecodable):
        parse_result_file(text)
