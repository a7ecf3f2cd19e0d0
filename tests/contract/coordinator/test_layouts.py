"""
The layouts on a real kernel: `ip` shows what the reference shows.

The expected lines are kept beside the same test of the plan alone.

Source: docs/reference/coordinator.md#layouts.
"""

from __future__ import annotations

import msgspec
import pytest

from tests.contract.coordinator.stage import PodNics, Stage, dual
from tests.unit.datapath.simulation import shown, shown_rules
from tests.unit.datapath.test_layouts import BUILTIN, MAIN_A, MAIN_D, TABLE_100_A, TABLE_101_B

MANGLE = [
    "-A PREROUTING -i veth0 -m conntrack --ctstate NEW -j MARK --set-xmark 0x1/0xffffffff",
    "-A PREROUTING -m mark --mark 0x1 -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    "-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
]


async def test_a(ground: Stage) -> None:
    """Underlay, one NIC."""
    with ground.pod() as pod:
        given = pod.macvlan("eth0", "ens192", "10.6.168.172/16")

        assert given | {"dns": {}} == await ground.run("ADD", pod, "eth0", given)

        assert shown_rules(BUILTIN + "1000:	from all fwmark 0x1 lookup 100") == pod.rules()
        assert shown(MAIN_A) == pod.routes()
        assert shown(TABLE_100_A) == pod.routes(100)
        assert set() == pod.routes(101)
        host_mac = ground.node_mac(pod.veth)
        assert {
            f"10.6.168.121 dev veth0 lladdr {host_mac} PERMANENT",
            f"10.7.168.71 dev veth0 lladdr {host_mac} PERMANENT",
        } == pod.neighbours()
        assert pod.mangle() == MANGLE
        assert pod.mangle("ip6tables") == []
        assert shown_rules(BUILTIN + "1000: from all lookup 500") == ground.node_rules()
        assert {f"10.6.168.172 dev {pod.veth} scope link"} == ground.node_routes()
        assert {
            f"10.6.168.172 dev {pod.veth} lladdr {pod.mac('veth0')} PERMANENT"
        } == ground.node_neighbours()


async def two_nics(ground: Stage, pod: PodNics, *, ipv6: bool = False, **config: object) -> None:
    """Make layout B."""
    nics = {
        "eth0": ("ens192", "10.6.168.172/16", "fd00:6::172/64"),
        "net1": ("ens224", "10.7.168.173/16", "fd00:7::173/64"),
    }
    for name, (master, *cidrs) in nics.items():
        given = pod.macvlan(name, master, *cidrs[: 1 + ipv6])
        await ground.run("ADD", pod, name, given, **config)


async def test_b(ground: Stage) -> None:
    """Underlay, two NICs, and the probes of example H."""
    with ground.pod() as pod:
        await two_nics(ground, pod)

        rules = "999:	from 10.7.168.173 lookup 101\n1000:	from all fwmark 0x1 lookup 100"
        assert shown_rules(BUILTIN + rules) == pod.rules()
        assert (
            shown(MAIN_A + "10.7.0.0/16 dev net1 proto kernel scope link src 10.7.168.173")
            == pod.routes()
        )
        assert shown(TABLE_100_A) == pod.routes(100)
        assert shown(TABLE_101_B) == pod.routes(101)
        assert {
            f"10.6.168.172 dev {pod.veth} scope link",
            f"10.7.168.173 dev {pod.veth} scope link",
        } == ground.node_routes()
        assert "via 10.7.0.1 dev net1 table 101" in pod.netns.ip(
            "route", "get", "1.1.1.1", "from", "10.7.168.173"
        )
        assert "via 10.6.0.1 dev eth0" in pod.netns.ip(
            "route", "get", "1.1.1.1", "from", "10.6.168.172"
        )
        marked = pod.netns.ip("route", "get", "1.1.1.1", "mark", "0x1")
        assert "via 10.6.168.121 dev veth0 table 100" in marked
        assert "via 10.6.168.121 dev veth0" in pod.netns.ip("route", "get", "10.233.0.10")
        reached = ground.node.in_node("ip", "route", "get", "10.7.168.173")
        assert f"dev {pod.veth} table 500" in reached


async def test_c(ground: Stage) -> None:
    """Underlay, two NICs, the second has the default route, by the pod's request."""
    with ground.pod() as pod:
        ground.configs.document["podDefaultRouteNIC"] = "net1"
        await two_nics(ground, pod)

        assert shown("999: from 10.6.168.172 lookup 101") <= pod.rules()
        assert {"default via 10.7.0.1 dev net1"} == {
            line for line in pod.routes() if "default" in line
        }
        expected = TABLE_101_B.replace("10.7.0.1 dev net1", "10.6.0.1 dev eth0").replace(
            "10.7.0.0/16 dev net1 scope link src 10.7.168.173",
            "10.6.0.0/16 dev eth0 scope link src 10.6.168.172",
        )
        assert shown(expected) == pod.routes(101)


async def test_d(ground: Stage) -> None:
    """Overlay."""
    with ground.pod() as pod:
        pod.calico("10.233.100.2/32")
        given = pod.macvlan("net1", "ens192", "10.6.212.145/16")

        await ground.run("ADD", pod, "net1", given)

        rules = "32764:	from 10.233.100.2 lookup 100\n32765:	from 10.6.212.145 lookup 101"
        assert shown_rules(BUILTIN + rules) == pod.rules()
        assert shown(MAIN_D) == pod.routes()
        assert {"default via 169.254.1.1 dev eth0"} == pod.routes(100)
        assert shown(
            """
            default via 10.6.0.1 dev net1
            10.6.0.0/16 dev net1 scope link src 10.6.212.145
            10.6.168.121 dev eth0 scope link src 10.233.100.2
            10.7.168.71 dev eth0 scope link src 10.233.100.2
            """
        ) == pod.routes(101)
        assert {
            "10.6.168.121 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
            "10.7.168.71 dev eth0 lladdr ee:ee:ee:ee:ee:ee PERMANENT",
        } == pod.neighbours()
        assert pod.mangle() == []
        assert {f"10.6.212.145 dev {pod.cali} scope link"} == ground.node_routes()
        assert {
            f"10.6.212.145 dev {pod.cali} lladdr {pod.mac('eth0')} PERMANENT"
        } == ground.node_neighbours()


async def test_e(ground: Stage) -> None:
    """Overlay, the additional NIC has the default route."""
    with ground.pod() as pod:
        pod.calico("10.233.100.4/32")
        given = pod.macvlan("net1", "ens192", "10.6.212.145/16")

        await ground.run("ADD", pod, "net1", given, podDefaultRouteNic="net1")

        assert shown_rules(BUILTIN + "32765: from 10.233.100.4 lookup 101") == pod.rules()
        assert {"default via 10.6.0.1 dev net1"} == {
            line for line in pod.routes() if "default" in line
        }
        moved = {
            line
            for line in shown(MAIN_D.replace("10.233.100.2", "10.233.100.4"))
            if "net1" not in line
        }
        assert moved == pod.routes(101)
        assert set() == pod.routes(100)


async def test_f(ground: Stage) -> None:
    """Dual stack: B, and beside it IPv6 with metric 1024 and no source."""
    dual(ground)
    with ground.pod() as pod:
        await two_nics(ground, pod, ipv6=True)

        assert {
            "0: lookup local",
            "999: from fd00:7::173 lookup 101",
            "1000: fwmark 0x1 lookup 100",
            "32766: lookup main",
        } == pod.rules(6)
        assert {"default via fd00:6::121 dev veth0 metric 1024"} == pod.routes(100, 6)
        assert {
            "default via fd00:7::1 dev net1 metric 1024",
            "fd00:7::/64 dev net1 metric 1024",
            "fd00:6::121 dev veth0 metric 1024",
            "fd00:7::71 dev veth0 metric 1024",
        } == pod.routes(101, 6)
        assert {"default via fd00:6::1 dev eth0 metric 1024"} == {
            line for line in pod.routes(family=6) if "default" in line
        }
        assert "1000: lookup 500" in ground.node_rules(6)
        assert {
            f"fd00:6::172 dev {pod.veth} metric 1024",
            f"fd00:7::173 dev {pod.veth} metric 1024",
        } == ground.node_routes(family=6)
        assert pod.mangle() == MANGLE
        assert pod.mangle("ip6tables") == MANGLE
        assert shown(TABLE_101_B) == pod.routes(101)


async def test_g(ground: Stage) -> None:
    """Two underlay NICs without tuning."""
    with ground.pod() as pod:
        await two_nics(ground, pod, tunePodRoutes=False)

        assert shown_rules(BUILTIN + "1000: from all fwmark 0x1 lookup 100") == pod.rules()
        assert {"default via 10.7.0.1 dev net1", "default via 10.6.0.1 dev eth0"} == {
            line for line in pod.routes() if "default" in line
        }
        assert {line for line in shown(TABLE_101_B) if "net1" not in line} == pod.routes(101)


@pytest.mark.parametrize("default", ["", "net1"])
async def test_one_way_to_a_destination(ground: Stage, default: str) -> None:
    """
    Three dual-stack NICs whose pools have a route to one destination.

    Main has one default route and one way to the destination of each family, by the same NIC. For
    IPv6 the kernel had joined the NICs' routes into one with several next hops.
    """
    dual(ground)
    if default:
        ground.configs.document["podDefaultRouteNIC"] = default
    nics = (("eth0", "ens192", 6, 5), ("net1", "ens224", 7, 5), ("net2", "ens224", 7, 6))
    with ground.pod() as pod:
        for nic, master, net, host in nics:
            given = pod.macvlan(nic, master, f"10.{net}.9.{host}/16", f"fd00:{net}::9:{host}/64")
            for family, dst, gateway in (
                (4, "10.9.0.0/24", f"10.{net}.0.{host}"),
                (6, "fd09::/64", f"fd00:{net}::{host}"),
            ):
                pod.netns.ip(f"-{family}", "route", "append", dst, "via", gateway, "dev", nic)
            await ground.run("ADD", pod, nic, given)

        owner = default or "eth0"
        for family, dst in ((4, "10.9.0.0/24"), (6, "fd09::/64")):
            found = msgspec.json.decode(pod.netns.ip(f"-{family}", "-j", "route", "show"))
            for wanted in ("default", dst):
                hops = [
                    hop["dev"]
                    for route in found
                    if route["dst"] == wanted
                    for hop in route.get("nexthops", [route])
                ]
                assert (wanted, [owner]) == (wanted, hops)
            tables = {"eth0": 101, "net2": 102} if default else {"net1": 101, "net2": 102}
            for nic, table in tables.items():
                own = [line for line in pod.routes(table, family) if line.startswith(dst)]
                assert [True] == [f"dev {nic}" in line for line in own]
