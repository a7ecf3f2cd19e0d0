"""
The network-status annotation.

Source: docs/reference/meta-plugin.md#result-and-status.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from spiderpool.cni.result import parse_result
from spiderpool.networks.network_status import Attached, network_status


def status(*results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries for results, the default network's first."""
    attached = [
        Attached(f"n{index}", parse_result(result), default=index == 0)
        for index, result in enumerate(results)
    ]
    text = network_status(attached)
    entries: list[dict[str, Any]] = msgspec.json.decode(text) if text else []
    return entries


def test_text() -> None:
    """Keys have their order, objects four blanks, and no line break between them."""
    result = parse_result(
        {
            "interfaces": [
                {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns", "mtu": 1450}
            ],
            "ips": [{"address": "10.1.0.5/16"}, {"address": "FD00:0::5/64"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}],
            "dns": {"nameservers": ["10.1.0.3"]},
        }
    )
    info = {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:1"}}
    items = [
        Attached("ns/a", result, default=True, device_info=info),
        Attached("b", parse_result({"interfaces": [{}]})),
    ]

    assert """[{
    "name": "ns/a",
    "interface": "eth0",
    "ips": [
        "10.1.0.5",
        "fd00::5"
    ],
    "mac": "02:00:00:00:00:01",
    "mtu": 1450,
    "default": true,
    "dns": {
        "nameservers": [
            "10.1.0.3"
        ]
    },
    "device-info": {
        "type": "pci",
        "version": "1.1.0",
        "pci": {
            "pci-address": "0000:1"
        }
    },
    "gateway": [
        "10.1.0.1"
    ]
},{
    "name": "b",
    "dns": {}
}]""" == network_status(items)


HOST = {"name": "veth1", "mac": "02:00:00:00:00:09"}
POD = {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/ns"}
POD2 = {"name": "eth1", "sandbox": "/ns"}


@pytest.mark.parametrize(
    "result", [{}, {"ip4": {"ip": "10.1.0.5/16"}}, {"ips": [{"address": "10.1.0.5/16"}]}]
)
def test_without_interfaces(result: dict[str, Any]) -> None:
    """A result without interfaces gives no entry, and nothing at all gives no annotation."""
    assert [] == status(result)


def test_lone_interface() -> None:
    """All addresses go to a lone interface, its name and MAC are told only inside a sandbox."""
    ips = [{"address": "10.1.0.5/16"}, {"address": "10.2.0.5/16", "interface": 3}]

    assert [
        {
            "name": "n0",
            "interface": "eth0",
            "ips": ["10.1.0.5", "10.2.0.5"],
            "mac": "02:00:00:00:00:01",
            "default": True,
            "dns": {},
        }
    ] == status({"interfaces": [POD], "ips": ips})
    assert [{"name": "n0", "ips": ["10.1.0.5", "10.2.0.5"], "default": True, "dns": {}}] == status(
        {"interfaces": [HOST], "ips": ips}
    )


def test_several_interfaces() -> None:
    """
    Host ends are left out with their addresses.

    An address without interface goes to the last one inside.
    """
    ips = [
        {"address": "10.1.0.5/16", "interface": 1},
        {"address": "10.2.0.5/16", "interface": 0},
        {"address": "10.3.0.5/16"},
        {"address": "10.4.0.5/16", "interface": 9},
    ]
    entries = status({}, {"interfaces": [HOST, POD, POD2], "ips": ips})

    assert [("eth0", ["10.1.0.5"]), ("eth1", ["10.3.0.5"])] == [
        (entry["interface"], entry["ips"]) for entry in entries
    ]
    assert all("default" not in entry for entry in entries)


@pytest.mark.parametrize(
    ("ips", "chosen"),
    [
        ([], ["eth0"]),
        ([{"address": "10.1.0.5/16", "interface": 2}], ["eth0"]),
        ([{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}], ["eth0"]),
        ([{"address": "10.1.0.5/16", "interface": 2, "gateway": "10.1.0.1"}], ["eth1"]),
        ([{"address": "10.1.0.5/16", "interface": 0, "gateway": "10.1.0.1"}], []),
    ],
)
def test_default(ips: list[dict[str, Any]], chosen: list[str]) -> None:
    """
    One entry of the default network is the default.

    The interface of the first address with gateway, else the first.
    """
    entries = status({"interfaces": [HOST, POD, POD2], "ips": ips})

    assert chosen == [entry["interface"] for entry in entries if entry.get("default")]


@pytest.mark.parametrize(
    ("routes", "gateways"),
    [
        ([], None),
        ([{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}], None),
        (
            [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0", "gw": "fd00::1"}],
            ["10.1.0.1", "fd00::1"],
        ),
        ([{"dst": "0.0.0.0/1", "gw": "10.1.0.1"}], ["10.1.0.1"]),
        ([{"dst": "0.0.0.0/0"}], ["10.1.0.254"]),
        ([{"dst": "::/0"}], None),
    ],
)
def test_gateways(routes: list[dict[str, str]], gateways: list[str] | None) -> None:
    """
    Gateways are those of default routes.

    One without a gateway borrows its family's, or is left out.
    """
    ips = [{"address": "10.1.0.5/16", "gateway": "10.1.0.254"}, {"address": "fd00::5/64"}]

    assert gateways == status({"interfaces": [POD], "ips": ips, "routes": routes})[0].get("gateway")
