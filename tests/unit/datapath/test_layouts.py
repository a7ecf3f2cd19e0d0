"""
Layouts A to G, line by line, compared as sets.

The original also fills table 101 in A, which no rule looks up (decision 0013).

Source: docs/reference/coordinator.md#layouts.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from itertools import product

import pytest

from spiderpool.datapath.coordinator_settings import CoordinatorSettings
from spiderpool.datapath.layout import own_table
from spiderpool.datapath.plan_types import Kind, Setting
from spiderpool.model.netns_contents import Route
from tests.unit.datapath.simulation import (
    HIJACK,
    NODE_ADDRESSES,
    NODE_ADDRESSES_6,
    Simulation,
    shown,
    shown_rules,
)

SETTINGS = CoordinatorSettings(hijack=HIJACK)
HOST = "vethdb6cd3880ab"

BUILTIN = """
0:	from all lookup local
32766:	from all lookup main
32767:	from all lookup default
"""
MAIN_A = """
default via 10.6.0.1 dev eth0
10.6.0.0/16 dev eth0 proto kernel scope link src 10.6.168.172
10.6.168.121 dev veth0 scope link src 10.6.168.172
10.7.168.71 dev veth0 scope link src 10.6.168.172
10.233.0.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
10.233.64.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
169.254.0.0/16 via 10.6.168.121 dev veth0 src 10.6.168.172
"""
TABLE_100_A = "default via 10.6.168.121 dev veth0 src 10.6.168.172"
TABLE_101_B = """
default via 10.7.0.1 dev net1
10.6.168.121 dev veth0 scope link src 10.6.168.172
10.7.0.0/16 dev net1 scope link src 10.7.168.173
10.7.168.71 dev veth0 scope link src 10.6.168.172
10.233.0.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
10.233.64.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
169.254.0.0/16 via 10.6.168.121 dev veth0 src 10.6.168.172
"""


def underlay_one(*extra: tuple[str, str], settings: CoordinatorSettings = SETTINGS) -> Simulation:
    """Make layout A."""
    simulation = Simulation.with_node(*NODE_ADDRESSES, *extra)
    cidrs = ("10.6.168.172/16", "fd00:6::172/64") if extra else ("10.6.168.172/16",)
    simulation.add_nic(
        "eth0", *cidrs, gateways=("10.6.0.1", "fd00:6::1") if extra else ("10.6.0.1",)
    )
    simulation.add("eth0", settings)
    return simulation


def underlay_two(*extra: tuple[str, str], settings: CoordinatorSettings = SETTINGS) -> Simulation:
    """Make layout B."""
    simulation = underlay_one(*extra, settings=settings)
    cidrs = ("10.7.168.173/16", "fd00:7::173/64") if extra else ("10.7.168.173/16",)
    simulation.add_nic(
        "net1", *cidrs, gateways=("10.7.0.1", "fd00:7::1") if extra else ("10.7.0.1",)
    )
    simulation.add("net1", settings)
    return simulation


def overlay(cidr: str = "10.233.100.2/32", settings: CoordinatorSettings = SETTINGS) -> Simulation:
    """Make layout D."""
    simulation = Simulation.with_node()
    simulation.add_calico(cidr)
    simulation.add_nic("net1", "10.6.212.145/16", gateways=("10.6.0.1",))
    simulation.add("net1", settings)
    return simulation


def mac_of(simulation: Simulation, name: str) -> str:
    """Return the MAC of a link, wherever it is."""
    return next(
        link.mac for link in (*simulation.pod_links, *simulation.node_links) if link.name == name
    )


def test_a() -> None:
    """Underlay, one NIC."""
    simulation = underlay_one()

    assert (
        shown_rules(BUILTIN + "1000:	from all fwmark 0x1 lookup 100") == simulation.pod_rules()
    )
    assert shown(MAIN_A) == simulation.pod_routes()
    assert shown(TABLE_100_A) == simulation.pod_routes(100)
    assert set() == simulation.pod_routes(101)
    host_mac, pod_mac = mac_of(simulation, HOST), mac_of(simulation, "veth0")
    assert {
        f"10.6.168.121 dev veth0 lladdr {host_mac} PERMANENT",
        f"10.7.168.71 dev veth0 lladdr {host_mac} PERMANENT",
    } == simulation.neighbours(simulation.pod)
    assert (4,) == simulation.mangle_rules
    assert shown_rules(BUILTIN + "1000: from all lookup 500") == simulation.node_rules()
    assert {f"10.6.168.172 dev {HOST} scope link"} == simulation.node_routes(500)
    assert {f"10.6.168.172 dev {HOST} lladdr {pod_mac} PERMANENT"} == simulation.neighbours(
        simulation.node
    )


def test_b() -> None:
    """Underlay, two NICs."""
    simulation = underlay_two()

    rules = "999:	from 10.7.168.173 lookup 101\n1000:	from all fwmark 0x1 lookup 100"
    assert shown_rules(BUILTIN + rules) == simulation.pod_rules()
    assert (
        shown(MAIN_A + "10.7.0.0/16 dev net1 proto kernel scope link src 10.7.168.173")
        == simulation.pod_routes()
    )
    assert shown(TABLE_100_A) == simulation.pod_routes(100)
    assert shown(TABLE_101_B) == simulation.pod_routes(101)
    assert shown(
        """
        10.6.168.172 dev vethdb6cd3880ab scope link
        10.7.168.173 dev vethdb6cd3880ab scope link
        """
    ) == simulation.node_routes(500)


def test_b_third_nic() -> None:
    """A third NIC has the rule 998 and table 102, likewise; the source there is eth0's address."""
    simulation = underlay_two()
    simulation.add_nic("net2", "10.8.168.174/16", gateways=("10.8.0.1",))

    simulation.add("net2", SETTINGS)

    assert shown("998: from 10.8.168.174 lookup 102") <= simulation.pod_rules()
    expected = (
        TABLE_101_B.replace("net1", "net2")
        .replace("10.7.168.173", "10.8.168.174")
        .replace("10.7.0.", "10.8.0.")
    )
    assert shown(expected) == simulation.pod_routes(102)


def test_c() -> None:
    """Underlay, two NICs, the second has the default route."""
    settings = CoordinatorSettings(hijack=HIJACK, default_route_nic="net1")
    simulation = underlay_two(settings=settings)

    assert shown("999: from 10.6.168.172 lookup 101") <= simulation.pod_rules()
    assert {"default via 10.7.0.1 dev net1"} == {
        line for line in simulation.pod_routes() if "default" in line
    }
    assert shown(
        """
        default via 10.6.0.1 dev eth0
        10.6.0.0/16 dev eth0 scope link src 10.6.168.172
        10.6.168.121 dev veth0 scope link src 10.6.168.172
        10.7.168.71 dev veth0 scope link src 10.6.168.172
        10.233.0.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
        10.233.64.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172
        169.254.0.0/16 via 10.6.168.121 dev veth0 src 10.6.168.172
        """
    ) == simulation.pod_routes(101)


MAIN_D = """
default via 169.254.1.1 dev eth0
10.6.0.0/16 dev net1 proto kernel scope link src 10.6.212.145
10.6.168.121 dev eth0 scope link src 10.233.100.2
10.7.168.71 dev eth0 scope link src 10.233.100.2
10.233.0.0/18 via 10.6.168.121 dev eth0 src 10.233.100.2
10.233.64.0/18 via 10.6.168.121 dev eth0 src 10.233.100.2
169.254.0.0/16 via 10.6.168.121 dev eth0 src 10.233.100.2
169.254.1.1 dev eth0 scope link
"""


def test_d() -> None:
    """Overlay."""
    simulation = overlay()

    rules = "32764:	from 10.233.100.2 lookup 100\n32765:	from 10.6.212.145 lookup 101"
    assert shown_rules(BUILTIN + rules) == simulation.pod_rules()
    assert shown(MAIN_D) == simulation.pod_routes()
    assert {"default via 169.254.1.1 dev eth0"} == simulation.pod_routes(100)
    assert shown(
        """
        default via 10.6.0.1 dev net1
        10.6.0.0/16 dev net1 scope link src 10.6.212.145
        10.6.168.121 dev eth0 scope link src 10.233.100.2
        10.7.168.71 dev eth0 scope link src 10.233.100.2
        """
    ) == simulation.pod_routes(101)
    assert {
        "10.6.168.121 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
        "10.7.168.71 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
    } == simulation.neighbours(simulation.pod)
    assert () == simulation.mangle_rules
    assert {"10.6.212.145 dev calicd43bf782ac scope link"} == simulation.node_routes(500)
    assert {
        f"10.6.212.145 dev calicd43bf782ac lladdr {mac_of(simulation, 'eth0')} PERMANENT"
    } == simulation.neighbours(simulation.node)


def test_d_with_a_tunnel_address() -> None:
    """An address of the node on its tunnel device adds one more route to the node."""
    simulation = Simulation.with_node(*NODE_ADDRESSES, ("vxlan.calico", "10.233.100.0/32"))
    simulation.add_calico("10.233.100.2/32")
    simulation.add_nic("net1", "10.6.212.145/16", gateways=("10.6.0.1",))

    simulation.add("net1", SETTINGS)

    assert "10.233.100.0 dev eth0 scope link src 10.233.100.2" in simulation.pod_routes()


def test_d_second_additional_nic() -> None:
    """A second additional NIC has the rule 32763 and table 102 with the cluster's networks."""
    simulation = overlay()
    simulation.add_nic("net2", "10.7.212.146/16", gateways=("10.7.0.1",))

    simulation.add("net2", SETTINGS)

    assert shown("32763: from 10.7.212.146 lookup 102") <= simulation.pod_rules()
    assert shown(
        """
        default via 10.7.0.1 dev net2
        10.7.0.0/16 dev net2 scope link src 10.7.212.146
        10.6.168.121 dev eth0 scope link src 10.233.100.2
        10.7.168.71 dev eth0 scope link src 10.233.100.2
        10.233.0.0/18 via 10.6.168.121 dev eth0 src 10.233.100.2
        10.233.64.0/18 via 10.6.168.121 dev eth0 src 10.233.100.2
        169.254.0.0/16 via 10.6.168.121 dev eth0 src 10.233.100.2
        """
    ) == simulation.pod_routes(102)


def test_e() -> None:
    """
    Overlay, the additional NIC has the default route.

    Eth0's routes are all in table 101, table 100 is not used.
    """
    simulation = overlay(
        "10.233.100.4/32", CoordinatorSettings(hijack=HIJACK, default_route_nic="net1")
    )

    assert shown_rules(BUILTIN + "32765: from 10.233.100.4 lookup 101") == simulation.pod_rules()
    assert {"default via 10.6.0.1 dev net1"} == {
        line for line in simulation.pod_routes() if "default" in line
    }
    moved = {
        line for line in shown(MAIN_D.replace("10.233.100.2", "10.233.100.4")) if "net1" not in line
    }
    assert moved == simulation.pod_routes(101)
    assert set() == simulation.pod_routes(100)


def test_f() -> None:
    """Dual stack: IPv6 beside B, with metric 1024 and no source."""
    simulation = underlay_two(*NODE_ADDRESSES_6)

    assert {
        "0: lookup local",
        "999: from fd00:7::173 lookup 101",
        "1000: fwmark 0x1 lookup 100",
        "32766: lookup main",
    } == simulation.pod_rules(6)
    assert {"default via fd00:6::121 dev veth0 metric 1024"} == simulation.pod_routes(100, 6)
    assert {
        "default via fd00:7::1 dev net1 metric 1024",
        "fd00:7::/64 dev net1 metric 1024",
        "fd00:6::121 dev veth0 metric 1024",
        "fd00:7::71 dev veth0 metric 1024",
    } == simulation.pod_routes(101, 6)
    assert {
        "default via fd00:6::1 dev eth0 metric 1024",
        "fd00:6::/64 dev eth0 metric 256",
        "fd00:7::/64 dev net1 metric 256",
        "fd00:6::121 dev veth0 metric 1024",
        "fd00:7::71 dev veth0 metric 1024",
    } == simulation.pod_routes(family=6)
    assert "1000: lookup 500" in simulation.node_rules(6)
    assert {
        f"fd00:6::172 dev {HOST} metric 1024",
        f"fd00:7::173 dev {HOST} metric 1024",
    } == simulation.node_routes(500, 6)
    assert (4, 6) == simulation.mangle_rules
    assert shown(TABLE_101_B) == simulation.pod_routes(101)
    assert Setting(Kind.SYSCTL, "net.ipv6.conf.all.disable_ipv6", "0") in simulation.pod


def way(dst: str, nic: str, gateway: str) -> Route:
    """Make a route of a pool, as a main plugin writes it."""
    via = ip_address(gateway)
    return Route(ip_network(dst), nic, gateway=via, metric=1024 * (via.version == 6))


def three_nics(
    *owners: str,
    settings: CoordinatorSettings = SETTINGS,
    tuned: bool = True,
    routers: tuple[str, ...] = ("eth0", "net1", "net2"),
) -> Simulation:
    """Make three underlay NICs; the pools of some have a route to 10.9.0.0/24 and fd09::/64."""
    settings = replace(settings, tune_pod_routes=tuned)
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    for number, nic in enumerate(("eth0", "net1", "net2"), 6):
        gateways = (f"10.{number}.0.1", f"fd00:{number}::1")
        simulation.add_nic(
            nic,
            f"10.{number}.0.5/16",
            f"fd00:{number}::5/64",
            gateways=gateways if nic in routers else (),
        )
        if nic in owners:
            simulation.pod |= {
                way("10.9.0.0/24", nic, f"10.{number}.0.9"),
                way("fd09::/64", nic, f"fd00:{number}::9"),
            }
        simulation.add(nic, settings)
    return simulation


def ways(simulation: Simulation, table: int = 254) -> list[str]:
    """Name the NICs by which a table leads to the pools' destination, in both families alike."""
    four, six = (
        [
            line.split()[4]
            for line in sorted(simulation.pod_routes(table, family))
            if line.startswith(("10.9.0.0/24", "fd09::/64"))
        ]
        for family in (4, 6)
    )
    assert four == six
    return four


@pytest.mark.parametrize(
    ("owners", "default", "main"),
    [
        (("net1",), "", ["net1"]),
        (("net1", "net2"), "", []),
        (("eth0", "net1"), "", ["eth0"]),
        (("eth0", "net2"), "", ["eth0"]),
        (("eth0", "net1", "net2"), "", ["eth0"]),
        (("eth0", "net1"), "net1", ["net1"]),
        (("net1", "net2"), "net1", ["net1"]),
        (("eth0", "net2"), "net1", []),
        (("eth0", "net1", "net2"), "net1", ["net1"]),
    ],
)
def test_one_destination_by_several_nics(
    owners: tuple[str, ...], default: str, main: list[str]
) -> None:
    """
    The main table has one way to a destination: that of the NIC with the default route, or none.

    One NIC's alone stays there. Each NIC has its own in its own table.
    """
    settings = CoordinatorSettings(hijack=HIJACK, default_route_nic=default)
    simulation = three_nics(*owners, settings=settings)

    assert main == ways(simulation)
    tables = {"eth0": 101, "net2": 102} if default else {"net1": 101, "net2": 102}
    for nic, table in tables.items():
        assert ways(simulation, table) == [nic] * (nic in owners)


@pytest.mark.parametrize("routers", [(), ("net1",), ("net2",), ("net1", "net2")])
@pytest.mark.parametrize(
    "owners", [("net1", "net2"), ("eth0", "net1"), ("eth0", "net2"), ("eth0", "net1", "net2")]
)
def test_one_destination_and_a_first_nic_without_a_default_route(
    owners: tuple[str, ...], routers: tuple[str, ...]
) -> None:
    """
    The main table has one way at most, and what comes from each further NIC's address has its own.

    A NIC that has no table of its own has its way in the main table.
    """
    simulation = three_nics(*owners, routers=routers)

    main = ways(simulation)
    assert len(main) <= 1
    for number, nic in enumerate(("eth0", "net1", "net2"), 6):
        own = own_table(simulation.view(nic).pod.rules, [ip_address(f"10.{number}.0.5")])
        if nic in owners:
            assert [nic] == (main if own is None else ways(simulation, own))


FAMILIES = ("4", "6", "46")


@pytest.mark.parametrize("default", ["", "eth0", "net1"])
@pytest.mark.parametrize("has", list(product(FAMILIES, repeat=3)), ids=",".join)
def test_one_default_route_of_each_family(has: tuple[str, str, str], default: str) -> None:
    """
    Whatever families three NICs have: the main table has one default route of each that there is.

    It is that of the NIC that is to have it. Where that NIC has none of the family, the first
    NIC that has one keeps it.
    """
    settings = CoordinatorSettings(hijack=HIJACK, default_route_nic=default)
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    nics = dict(zip(("eth0", "net1", "net2"), has, strict=True))
    for number, (nic, families) in enumerate(nics.items(), 6):
        cidrs = {"4": f"10.{number}.0.5/16", "6": f"fd00:{number}::5/64"}
        gateways = {"4": f"10.{number}.0.1", "6": f"fd00:{number}::1"}
        simulation.add_nic(
            nic, *(cidrs[f] for f in families), gateways=tuple(gateways[f] for f in families)
        )
        simulation.add(nic, settings if nic != "eth0" else SETTINGS)

    for family in ("4", "6"):
        owners = [nic for nic, families in nics.items() if family in families]
        expected = owners[:1] if default not in owners else [default]
        shown_defaults = [
            line.split()[4]
            for line in simulation.pod_routes(family=int(family))
            if line.startswith("default")
        ]
        assert expected == shown_defaults


@pytest.mark.parametrize("default", ["", "eth0", "net1", "net2"])
@pytest.mark.parametrize("routers", list(product(("", *FAMILIES), repeat=3)), ids=",".join)
@pytest.mark.parametrize("has", [("46", "46", "46"), ("4", "6", "46"), ("4", "46", "6")])
def test_one_default_route_whoever_has_gateways(
    has: tuple[str, str, str], routers: tuple[str, str, str], default: str
) -> None:
    """
    Whichever pools have gateways: of each family that has one the main table has one default route.

    It is that of the NIC that is to have it, else that of the first NIC with a gateway. A NIC can be
    named only when it is there.
    """
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    owners: dict[str, list[str]] = {"4": [], "6": []}
    for number, (nic, families, routed) in enumerate(
        zip(("eth0", "net1", "net2"), has, routers, strict=True), 6
    ):
        cidrs = {"4": f"10.{number}.0.5/16", "6": f"fd00:{number}::5/64"}
        gateways = {"4": f"10.{number}.0.1", "6": f"fd00:{number}::1"}
        mine = [family for family in families if family in routed]
        simulation.add_nic(
            nic, *(cidrs[f] for f in families), gateways=tuple(gateways[f] for f in mine)
        )
        known = default in {link.name for link in simulation.pod_links}
        simulation.add(nic, replace(SETTINGS, default_route_nic=default if known else ""))
        for family in mine:
            owners[family].append(nic)

    for family, nics in owners.items():
        defaults = [
            line.split()[4]
            for line in simulation.pod_routes(family=int(family))
            if line.startswith("default")
        ]
        assert ([default] if default in nics else nics[:1]) == defaults


def test_one_destination_by_several_nics_untuned() -> None:
    """Without tables of their own all stay in the main table, as default routes do."""
    assert ["net1", "net2"] == ways(three_nics("net1", "net2", tuned=False))


def test_a_pool_s_route_to_the_cluster() -> None:
    """A pool's route to a network of the cluster does not take that from the node."""
    simulation = underlay_one()
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    simulation.pod |= {way("10.233.0.0/18", "net1", "10.7.0.9")}

    simulation.add("net1", SETTINGS)

    assert "10.233.0.0/18 via 10.6.168.121 dev veth0 src 10.6.168.172" in simulation.pod_routes()


@pytest.mark.parametrize("default", ["", "net1"])
def test_a_nic_of_one_family(default: str) -> None:
    """An IPv4 NIC beside a dual-stack one moves and copies nothing of IPv6, whichever NIC has the default route."""
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    simulation.add_calico("10.233.100.2/32", "fd00:64::2/128")
    simulation.pod |= {
        Route(ip_network("::/0"), "eth0", gateway=ip_address("fe80::1"), metric=1024)
    }
    before = simulation.pod_routes(family=6), simulation.pod_rules(6)
    simulation.add_nic("net1", "10.6.212.145/16", gateways=("10.6.0.1",))

    simulation.add("net1", CoordinatorSettings(hijack=HIJACK, default_route_nic=default))

    assert before == (simulation.pod_routes(family=6), simulation.pod_rules(6))
    assert set() == simulation.pod_routes(100, 6) | simulation.pod_routes(101, 6)
    assert ["net1" if default else "eth0"] == [
        line.split()[-1] for line in simulation.pod_routes() if "default" in line
    ]


def test_ipv6_alone() -> None:
    """A pod with IPv6 only has nothing of IPv4, in either namespace."""
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    simulation.add_nic("eth0", "fd00:6::172/64", gateways=("fd00:6::1",))
    simulation.add("eth0", SETTINGS)

    assert (6,) == simulation.mangle_rules
    assert {"default via fd00:6::121 dev veth0 metric 1024"} == simulation.pod_routes(100, 6)
    assert set() == simulation.pod_routes() | simulation.node_routes(500)
    assert "1000: lookup 500" in simulation.node_rules(6)
    assert "1000: lookup 500" not in simulation.node_rules(4)


def test_g() -> None:
    """
    Two underlay NICs without tuning.

    No rule, both defaults stay in main, table 101 has the node and the cluster.
    """
    simulation = underlay_two(settings=CoordinatorSettings(hijack=HIJACK, tune_pod_routes=False))

    assert shown_rules(BUILTIN + "1000: from all fwmark 0x1 lookup 100") == simulation.pod_rules()
    assert {"default via 10.7.0.1 dev net1", "default via 10.6.0.1 dev eth0"} == {
        line for line in simulation.pod_routes() if "default" in line
    }
    assert {line for line in shown(TABLE_101_B) if "net1" not in line} == simulation.pod_routes(101)
