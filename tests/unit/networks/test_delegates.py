"""What a meta plugin's ADD will do."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.netconf import parse_definition
from spiderpool.cni.request import parse_args
from spiderpool.cni.result import Ip, Result, Route
from spiderpool.errors import BadEnvironment, InvalidRequest
from spiderpool.model.network_selection import Bandwidth, NetworkSelection, PortMapping
from spiderpool.networks.delegates import (
    BOTH,
    Delegate,
    Network,
    RouteChange,
    delegate_args,
    delegate_env,
    device_info_file,
    device_plugin_file,
    plan_delegates,
    route_change,
    with_default_routes,
)

CONFIG = parse_definition('{"cniVersion":"1.0.0","type":"macvlan"}', "n", "network n")
DEFAULT = Network("cluster", CONFIG)


def pod_request(name: str = "a", **more: Any) -> Network:
    """A network that a pod asks for."""
    keys = {key: more.pop(key) for key in ("resource_name", "device_id") if key in more}
    return Network(f"ns/{name}", CONFIG, NetworkSelection("ns", name, **more), **keys)


def plan(*networks: Network, runtime: dict[str, Any] | None = None) -> tuple[Delegate, ...]:
    """Plan the default network and more."""
    return plan_delegates([DEFAULT, *networks], "eth0", "c1", runtime or {})


@pytest.mark.parametrize(
    ("wishes", "names"),
    [
        ([], ["eth0"]),
        (["", ""], ["eth0", "net1", "net2"]),
        (["x", ""], ["eth0", "x", "net2"]),
        (["", "net1x"], ["eth0", "net1", "net1x"]),
        (["net2x", "UPPER_1"], ["eth0", "net2x", "UPPER_1"]),
    ],
)
def test_names(wishes: list[str], names: list[str]) -> None:
    """
    An automatic name has the position's number.

    A network with a name of its own uses up its number too.
    """
    assert names == [
        delegate.ifname for delegate in plan(*(pod_request(interface=name) for name in wishes))
    ]


@pytest.mark.parametrize("wishes", [["net2", ""], ["eth0"], ["x", "x"]])
def test_names_collide(wishes: list[str]) -> None:
    """Two networks cannot be one interface."""
    with pytest.raises(InvalidRequest, match="would both be interface"):
        plan(*(pod_request(interface=name) for name in wishes))


def test_the_coordinators_name() -> None:
    """Where a coordinator runs the name of its interface is taken; elsewhere it is one like others."""
    text = '{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"macvlan"},{"type":"coordinator"}]}'
    coordinated = Network("cluster", parse_definition(text, "n", "network n"))
    asked = pod_request(interface="veth0")

    with pytest.raises(InvalidRequest, match="ns/a: interface veth0 is what coordinator makes"):
        plan_delegates([coordinated, asked], "eth0", "c1", {})
    assert ["eth0", "veth0"] == [delegate.ifname for delegate in plan(asked)]


@pytest.mark.parametrize("name", [".", "..", "a:b", "x" * 16])
def test_impossible_name(name: str) -> None:
    """A name that no kernel takes is an error of code 4."""
    with pytest.raises(BadEnvironment):
        plan(pod_request(interface=name))


def test_default_network_keeps_its_name() -> None:
    """The default network's interface is the runtime's to name."""
    assert (
        "eth0" == plan_delegates([pod_request("a", interface="eth0")], "eth0", "c1", {})[0].ifname
    )
    with pytest.raises(InvalidRequest, match="remove the interface"):
        plan_delegates([pod_request(interface="x")], "eth0", "c1", {})


RUNTIME = {
    "portMappings": [{"hostPort": 1}],
    "bandwidth": {"ingressRate": 1},
    "unknown": 1,
    "ips": [],
}


def test_runtime_values() -> None:
    """
    The pod's hostPorts lead to the default network only.

    What else the runtime supplies reaches every network.
    """
    default, second = plan(pod_request(), runtime=RUNTIME)

    assert {
        "portMappings": [{"hostPort": 1}],
        "bandwidth": {"ingressRate": 1},
    } == default.capability_args
    assert {"bandwidth": {"ingressRate": 1}} == second.capability_args


def test_values_of_an_element() -> None:
    """An element's values override the runtime's, in the runtime's spelling."""
    element = pod_request(
        ips=("10.6.0.5/16",),
        mac="02:00:00:00:00:01",
        infiniband_guid="24:8a:07:03:00:8d:ae:2e",
        port_mappings=(PortMapping(80, 8080), PortMapping(53, 53, "udp", "10.0.0.1")),
        bandwidth=Bandwidth(egress_rate=5),
        device_id="0000:1",
    )

    assert {
        "ips": ["10.6.0.5/16"],
        "mac": "02:00:00:00:00:01",
        "infinibandGUID": "24:8a:07:03:00:8d:ae:2e",
        "portMappings": [
            {"hostPort": 80, "containerPort": 8080},
            {"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "10.0.0.1"},
        ],
        "bandwidth": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 5, "egressBurst": 0},
        "deviceID": "0000:1",
        "CNIDeviceInfoFile": "/var/run/k8s.cni.cncf.io/devinfo/cni/ns-a-c1_net1",
    } == plan(element, runtime=RUNTIME)[1].capability_args


def test_devices() -> None:
    """A device plugin's device goes into the configuration and wins over the element's, which goes into the capability."""
    handed, asked = plan(pod_request(resource_name="x/y", device_id="0000:2"), pod_request("b"))[1:]
    assert ("0000:2", "0000:2") == (
        handed.config.plugins[0]["deviceID"],
        handed.config.plugins[0]["pciBusID"],
    )
    assert "deviceID" not in asked.config.plugins[0]
    assert "deviceID" not in asked.capability_args


def test_device_files() -> None:
    """Paths of device information have no slash inside their last part."""
    assert "/var/run/k8s.cni.cncf.io/devinfo/cni/ns-a-c1_net1" == device_info_file(
        "ns/a", "c1", "net1"
    )
    assert (
        "/var/run/k8s.cni.cncf.io/devinfo/dp/intel.com-x-0000:1-device.json"
        == device_plugin_file("intel.com/x", "0000:1")
    )


def changes(*gateways: list[str] | None) -> list[RouteChange | None]:
    """Return the changes for networks with `default-route` keys, the default network first."""
    elements = [
        None if texts is None else tuple(ip_address(text) for text in texts) for texts in gateways
    ]
    networks = [
        pod_request(f"n{index}", default_route=value) for index, value in enumerate(elements)
    ]
    return [route_change(delegate) for delegate in plan_delegates(networks, "eth0", "c1", {})]


V4, V6 = ip_address("10.6.0.1"), ip_address("fd00:6::1")
ALL_GO = RouteChange(BOTH, ())
V4_GOES, V6_GOES = RouteChange(frozenset({4}), ()), RouteChange(frozenset({6}), ())


@pytest.mark.parametrize(
    ("gateways", "expected"),
    [
        ([None, None], [None, None]),
        ([None, ["10.6.0.1"]], [V4_GOES, RouteChange(BOTH, (V4,))]),
        ([None, ["fd00:6::1"]], [V6_GOES, RouteChange(BOTH, (V6,))]),
        ([None, ["10.6.0.1"], None], [V4_GOES, RouteChange(BOTH, (V4,)), ALL_GO]),
        ([None, ["10.6.0.1", "fd00:6::1"], None], [ALL_GO, RouteChange(BOTH, (V4, V6)), ALL_GO]),
        (
            [None, ["10.6.0.1"], ["fd00:6::1"]],
            [ALL_GO, RouteChange(BOTH, (V4,)), RouteChange(BOTH, (V6,))],
        ),
        ([None, []], [ALL_GO, None]),
        ([None, [], ["10.6.0.1"]], [ALL_GO, V4_GOES, RouteChange(BOTH, (V4,))]),
        ([[], ["10.6.0.1"]], [V4_GOES, RouteChange(BOTH, (V4,))]),
        ([["fd00:6::1"], ["10.6.0.1"]], [RouteChange(BOTH, (V6,)), RouteChange(BOTH, (V4,))]),
        ([["10.6.0.1"], None], [RouteChange(frozenset({4}), (V4,)), None]),
        ([["10.6.0.1"]], [RouteChange(frozenset({4}), (V4,))]),
    ],
)
def test_default_routes(
    gateways: list[list[str] | None], expected: list[RouteChange | None]
) -> None:
    """
    A NIC with gateways gets them, and the default network gives up the same families.

    Further networks have no default routes but by their gateways. An empty list keeps the plugin's
    own, unless a gateway is named. The key in the default network's element alone concerns nobody
    else.

    Source: docs/reference/meta-plugin.md#default-routes.
    """
    assert expected == changes(*gateways)


def test_result_after_the_change() -> None:
    """
    The kept result says what is true.

    Lost default routes are gone, in either spelling, new ones are there.
    """
    result = Result(
        ips=(Ip(IPv4Interface("10.1.0.5/16")), Ip(IPv6Interface("fd00::5/64"))),
        routes=(
            Route(IPv4Network("0.0.0.0/0"), V4),
            Route(IPv6Network("::0/0")),
            Route(IPv4Network("10.9.0.0/16")),
        ),
    )

    assert (Route(IPv6Network("::/0")), Route(IPv4Network("10.9.0.0/16"))) == with_default_routes(
        result, {4}, ()
    ).routes
    assert (
        Route(IPv4Network("10.9.0.0/16")),
        Route(IPv4Network("0.0.0.0/0"), V4),
        Route(IPv6Network("::/0"), V6),
    ) == (with_default_routes(result, BOTH, (V4, V6)).routes)


KEYS = st.sampled_from(["K8S_POD_NAMESPACE", "K8S_POD_NAME", "K8S_POD_UID", "IP", "MAC", "X", "Y"])


@given(
    st.lists(st.tuples(KEYS, st.text("abc=.", max_size=4)), max_size=8),
    st.sampled_from(["ADD", "DEL", "CHECK"]),
)
def test_arguments(pairs: list[tuple[str, str]], command: str) -> None:
    """
    Every key stands there once, the pod's five always.

    Foreign keys and values that hold '=' survive.
    """
    pairs = [(key, "10.0.0.1" if key == "IP" else value) for key, value in pairs]
    args = parse_args(";".join(["IgnoreUnknown=1", *(f"{key}={value}" for key, value in pairs)]))
    delegate = plan(pod_request(mac="02:00:00:00:00:01", ips=("10.6.0.5/16", "fd00::5")))[1]

    split = (item.partition("=") for item in delegate_args(args, delegate, command).split(";"))
    got = [(key, value) for key, _, value in split]

    assert len(got) == len(dict(got))
    assert [
        "IgnoreUnknown",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_INFRA_CONTAINER_ID",
        "K8S_POD_UID",
    ] == [key for key, _ in got[:5]]
    expected = dict(pairs)
    if command == "ADD":
        expected |= {"MAC": "02:00:00:00:00:01", "IP": "10.6.0.5/16,fd00::5"}
    foreign = {key: value for key, value in expected.items() if not key.startswith("K8S_")}
    assert foreign == dict(got[5:])


def test_environment() -> None:
    """A delegate has the caller's environment, its own interface, and our folder before the caller's."""
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/p",
        "PATH": "/bin",
    }

    got = delegate_env(env, plan(pod_request())[1], "DEL", "/opt/cni/bin", parse_args(""), "")

    assert {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "",
        "CNI_IFNAME": "net1",
        "CNI_PATH": "/opt/cni/bin:/p",
        "PATH": "/bin",
        "CNI_CALLED_BY": "spiderpool-multus",
    } == {key: value for key, value in got.items() if key != "CNI_ARGS"}
