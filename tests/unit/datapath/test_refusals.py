"""
What does not go together is refused with a sentence.

And the corners of a plan that the worked examples leave out.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from spiderpool.datapath.coordinator_plan import fixed_mac, plan_attachment
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, Mode, PolicyRoute
from spiderpool.datapath.mangle_rules import RULES, missing_rules, present_rules, restore_input
from spiderpool.datapath.plan_types import Item, Kind, Plan, Setting
from spiderpool.errors import InvalidRequest
from spiderpool.model.netns_contents import Address, Route
from tests.unit.datapath.simulation import HIJACK, NODE_ADDRESSES, NODE_ADDRESSES_6, Simulation
from tests.unit.datapath.test_layouts import overlay, underlay_one, underlay_two

AUTO = CoordinatorSettings(hijack=HIJACK)


def refused(simulation: Simulation, ifname: str, **settings: object) -> str:
    """Return the words of a refusal."""
    with pytest.raises(InvalidRequest) as error:
        plan_attachment(simulation.view(ifname), replace(AUTO, **settings))  # type: ignore[arg-type]
    return error.value.message


def test_disabled() -> None:
    """Disabled does nothing, whatever the pod looks like."""
    assert Plan() == plan_attachment(
        Simulation.with_node().view("eth0"), CoordinatorSettings(mode=Mode.DISABLED)
    )


def test_no_such_nic() -> None:
    """Without the NIC of the call there is nothing to lay out."""
    assert "interface net1 is not in the pod" in refused(underlay_one(), "net1")


def test_no_address() -> None:
    """A NIC with a link-local address only cannot be laid out."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "169.254.3.4/16", "fe80::1/64")

    assert 'no usable IP addresses on "eth0"' in refused(simulation, "eth0")


def test_underlay_without_first() -> None:
    """Underlay on a second NIC needs veth0 of the first."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.168.172/16")
    simulation.add_nic("net1", "10.7.168.173/16")

    assert "must run on eth0 first" in refused(simulation, "net1", mode=Mode.UNDERLAY)


def test_overlay_on_first() -> None:
    """Overlay is not for the first NIC."""
    simulation = Simulation.with_node()
    simulation.add_calico("10.233.100.2/32")

    assert "overlay mode on eth0, the pod's first NIC" in refused(
        simulation, "eth0", mode=Mode.OVERLAY
    )


def test_overlay_after_underlay() -> None:
    """A pod has one mode."""
    assert "the pod has veth0 of underlay mode" in refused(
        underlay_two(), "net1", mode=Mode.OVERLAY
    )


def test_no_first_nic() -> None:
    """The first NIC must be there."""
    simulation = Simulation.with_node()
    simulation.add_nic("net1", "10.7.168.173/16")

    assert "interface eth0 is not in the pod" in refused(simulation, "net1")


def test_first_nic_without_a_peer() -> None:
    """Overlay needs a first NIC whose other end is on the node."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.168.172/16")
    simulation.add_nic("net1", "10.7.168.173/16")

    assert "the other end of the pod's eth0 is not a link of this node" in refused(
        simulation, "net1"
    )


@pytest.mark.parametrize(("mtu", "family"), [(60, 4), (1279, 6)])
def test_small_mtu(mtu: int, family: int) -> None:
    """A pair that could not carry the family is not made."""
    simulation = Simulation.with_node(*NODE_ADDRESSES_6)
    simulation.add_nic("eth0", "10.6.168.172/16" if family == 4 else "fd00:6::172/64")

    assert f"vethMTU is {mtu}, IPv{family} needs" in refused(simulation, "eth0", veth_mtu=mtu)


def test_default_route_nic_that_is_not_there() -> None:
    """A NIC that comes later cannot have the default route now."""
    simulation = underlay_one()
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))

    assert "podDefaultRouteNIC: net2 don't exist in pod" in refused(
        simulation, "net1", default_route_nic="net2"
    )


def test_no_free_table() -> None:
    """All tables taken by others is an error, not a table shared."""
    simulation = underlay_one()
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    simulation.pod |= {
        Route(ip_network("10.50.0.0/16"), "eth0", table) for table in range(101, 253)
    }

    assert "no free routing table in the pod: 101 to 252" in refused(simulation, "net1")


def test_taken_table_is_passed_over() -> None:
    """A table that somebody else uses is not shared."""
    simulation = underlay_one()
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    simulation.pod |= {Route(ip_network("10.50.0.0/16"), "eth0", 101)}

    simulation.add("net1", AUTO)

    assert "default via 10.7.0.1 dev net1" in simulation.pod_routes(102)


def test_nobody_has_a_default_route() -> None:
    """Without a default route all stays in main, and that is noted."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.168.172/16")
    simulation.add("eth0", AUTO)
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))

    plan = simulation.add("net1", AUTO)

    assert (
        "no NIC of the pod has a default route: all routes stay in the main table",
    ) == plan.notes
    assert "default via 10.7.0.1 dev net1" in simulation.pod_routes()
    assert not [line for line in simulation.pod_rules() if "from" in line]


def test_third_nic_has_the_default_route() -> None:
    """When a third NIC is to have it, both others leave the main table to it, each with a table of its own."""
    simulation = underlay_one()
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    simulation.add("net1", replace(AUTO, tune_pod_routes=False))
    simulation.add_nic("net2", "10.8.168.174/16", gateways=("10.8.0.1",))

    simulation.add("net2", replace(AUTO, default_route_nic="net1"))

    assert {"default via 10.7.0.1 dev net1"} == {
        line for line in simulation.pod_routes() if "default" in line
    }
    assert {"from 10.8.168.174 lookup 102", "from 10.6.168.172 lookup 103"} == {
        line.partition(": ")[2] for line in simulation.pod_rules() if "from" in line
    }
    assert "default via 10.8.0.1 dev net2" in simulation.pod_routes(102)
    assert "default via 10.6.0.1 dev eth0" in simulation.pod_routes(103)


def test_policy_routes() -> None:
    """The first NIC's policy routes are in main, a later one's in its own table, and never of a family that it has not."""
    policies = (
        PolicyRoute(ip_network("10.99.0.0/16"), ip_address("10.6.0.9")),
        PolicyRoute(ip_network("fd99::/64"), ip_address("fd00::9")),
    )
    simulation = underlay_one(settings=replace(AUTO, policy_routes=policies))
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    later = (PolicyRoute(ip_network("10.98.0.0/16"), ip_address("10.7.0.9")),)

    simulation.add("net1", replace(AUTO, policy_routes=later))

    assert "10.99.0.0/16 via 10.6.0.9 dev eth0" in simulation.pod_routes()
    assert "10.98.0.0/16 via 10.7.0.9 dev net1" in simulation.pod_routes(101)
    assert set() == {line for line in simulation.pod_routes(family=6) if "fd99" in line}


def test_policy_route_of_another_nic() -> None:
    """A policy of the whole cluster whose gateway is on one NIC's network is left out on the others, and noted."""
    policies = (
        PolicyRoute(ip_network("10.99.0.0/16"), ip_address("10.6.0.9")),
        PolicyRoute(ip_network("10.98.0.0/16"), ip_address("10.7.0.9")),
        PolicyRoute(ip_network("fd99::/64"), ip_address("fe80::9")),
    )
    settings = replace(AUTO, policy_routes=policies)
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    plans = []
    for nic, number in (("eth0", 6), ("net1", 7)):
        cidrs = (f"10.{number}.0.5/16", f"fd00:{number}::5/64")
        simulation.add_nic(nic, *cidrs, gateways=(f"10.{number}.0.1", f"fd00:{number}::1"))
        plans.append(simulation.add(nic, settings))

    left = [
        "policyRoutes: 10.98.0.0/16 via 10.7.0.9 is left out on eth0: 10.7.0.9 is in no network of eth0",
        "policyRoutes: 10.99.0.0/16 via 10.6.0.9 is left out on net1: 10.6.0.9 is in no network of net1",
    ]
    assert [(text,) for text in left] == [plan.notes for plan in plans]
    assert [tuple(left[:1]), ()] == [plan.left_out for plan in plans]
    assert "10.99.0.0/16 via 10.6.0.9 dev eth0" in simulation.pod_routes()
    assert "10.98.0.0/16 via 10.7.0.9 dev net1" in simulation.pod_routes(101)
    assert "fd99::/64 via fe80::9 dev eth0 metric 1024" in simulation.pod_routes(family=6)
    assert "fd99::/64 via fe80::9 dev net1 metric 1024" in simulation.pod_routes(101, 6)


@pytest.mark.parametrize(
    ("gateway", "why"),
    [
        ("192.0.2.1", "192.0.2.1 is in no network of eth0"),
        ("10.6.168.172", "10.6.168.172 is the pod's own address"),
        ("10.6.255.255", "10.6.255.255 is the broadcast address of 10.6.0.0/16"),
        ("10.6.0.0", "10.6.0.0 is the network address of 10.6.0.0/16"),
        ("169.254.7.7", "169.254.7.7 is in no network of eth0"),
    ],
)
def test_policy_route_by_a_gateway_that_cannot_be_one(gateway: str, why: str) -> None:
    """What the kernel would refuse in the middle of an ADD is left out, and the user is told."""
    policies = (PolicyRoute(ip_network("10.99.0.0/16"), ip_address(gateway)),)
    plan = plan_attachment(underlay_one().view("eth0"), replace(AUTO, policy_routes=policies))

    text = f"policyRoutes: 10.99.0.0/16 via {gateway} is left out on eth0: {why}"
    assert ((text,), (text,)) == (plan.notes, plan.left_out)


EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))


def defaults(simulation: Simulation, table: int, family: int) -> set[str]:
    """Return the default routes of a table of the pod."""
    return {line for line in simulation.pod_routes(table, family) if line.startswith("default")}


@pytest.mark.parametrize("family", [4, 6])
def test_hijacked_default_route(family: int) -> None:
    """
    A NIC that has a default route keeps it as the only one.

    The note says what to write.
    """
    settings = replace(AUTO, hijack=(*HIJACK, *EVERYWHERE))
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    simulation.add_nic(
        "eth0", "10.6.168.172/16", "fd00:6::172/64", gateways=("10.6.0.1", "fd00:6::1")
    )
    simulation.add("eth0", settings)
    simulation.add_nic(
        "net1", "10.7.168.173/16", "fd00:7::173/64", gateways=("10.7.0.1", "fd00:7::1")
    )
    plan = simulation.add("net1", settings)

    metric = {4: "", 6: " metric 1024"}[family]
    first, second = {4: ("10.6.0.1", "10.7.0.1"), 6: ("fd00:6::1", "fd00:7::1")}[family]
    assert {f"default via {first} dev eth0{metric}"} == defaults(simulation, 254, family)
    assert {f"default via {second} dev net1{metric}"} == defaults(simulation, 101, family)
    halves = {4: "0.0.0.0/1 and 128.0.0.0/1", 6: "::/1 and 8000::/1"}[family]
    assert [note for note in plan.notes if note.endswith(f"to send all by the node write {halves}")]


def test_default_route_as_policy_route() -> None:
    """
    A policy route to everywhere is made only where the NIC has no default route.

    Of two ways the NIC's own stays.
    """
    policies = (PolicyRoute(EVERYWHERE[0], ip_address("10.6.0.9")),)
    simulation = underlay_one(settings=replace(AUTO, policy_routes=policies))
    simulation.add_nic("net1", "10.7.168.173/16", gateways=("10.7.0.1",))
    simulation.add(
        "net1", replace(AUTO, policy_routes=(PolicyRoute(EVERYWHERE[0], ip_address("10.7.0.0")),))
    )
    bare = Simulation.with_node()
    bare.add_nic("eth0", "10.6.168.172/16")
    bare.add("eth0", replace(AUTO, policy_routes=policies))

    assert {"default via 10.6.0.1 dev eth0"} == defaults(simulation, 254, 4)
    assert {"default via 10.7.0.1 dev net1"} == defaults(simulation, 101, 4)
    assert {"default via 10.6.0.9 dev eth0"} == defaults(bare, 254, 4)


def test_default_route_nic_without_a_gateway() -> None:
    """
    A NIC that is to have the default route and has none does not take the pod's only way out.

    Family by family.
    """
    settings = replace(AUTO, default_route_nic="net1")
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    simulation.add_nic(
        "eth0", "10.6.168.172/16", "fd00:6::172/64", gateways=("10.6.0.1", "fd00:6::1")
    )
    simulation.add("eth0", settings)
    simulation.add_nic("net1", "10.7.168.173/16", "fd00:7::173/64", gateways=("10.7.0.1",))
    partly = simulation.add("net1", settings)
    bare = underlay_one()
    bare.add_nic("net1", "10.7.168.173/16")
    plan = bare.add("net1", settings)

    assert {"default via 10.7.0.1 dev net1"} == defaults(simulation, 254, 4)
    assert {"default via 10.6.0.1 dev eth0"} == defaults(simulation, 101, 4)
    assert {"default via fd00:6::1 dev eth0 metric 1024"} == defaults(simulation, 254, 6)
    assert {"default via 10.6.0.1 dev eth0"} == defaults(bare, 254, 4)
    assert (
        "net1 is to have the default route and has none: eth0 keeps it; give net1 a pool with a gateway",
    ) == plan.notes
    (note,) = partly.notes
    assert note.startswith("net1 is to have the default route and has none of IPv6: eth0 keeps it")


def without_settings(simulation: Simulation) -> set[Item]:
    """Return what DEL takes back in the pod."""
    return {item for item in simulation.pod if not isinstance(item, Setting)}


@pytest.mark.parametrize("calico", [False, True])
def test_family_of_the_second_nic_alone(calico: bool) -> None:
    """
    What only an additional NIC has a family of.

    Its default route stays, and node and cluster are reached in that family.
    """
    cluster = ip_network("fd00:10::/108")
    settings = replace(AUTO, hijack=(*HIJACK, cluster))
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    if calico:
        simulation.add_calico("10.233.100.2/32")
    else:
        simulation.add_nic("eth0", "10.6.168.172/16", gateways=("10.6.0.1",))
        simulation.add("eth0", settings)
    before = without_settings(simulation)
    simulation.add_nic(
        "net1", "10.7.168.173/16", "fd00:7::173/64", gateways=("10.7.0.1", "fd00:7::1")
    )
    simulation.add("net1", settings)

    inner = "eth0" if calico else "veth0"
    assert {
        "default via fd00:7::1 dev net1 metric 1024",
        "fd00:7::/64 dev net1 metric 256",
        f"fd00:6::121 dev {inner} metric 1024",
        f"fd00:7::71 dev {inner} metric 1024",
        f"{cluster} via fd00:7::71 dev {inner} metric 1024",
    } == simulation.pod_routes(family=6)
    assert {"fd00:6::121", "fd00:7::71"} <= {
        line.split()[0] for line in simulation.neighbours(simulation.pod)
    }
    assert not [line for line in simulation.pod_rules(6) if "from" in line]
    assert [line for line in simulation.pod_rules(4) if "from 10.7.168.173 lookup 101" in line]
    simulation.delete("net1", settings)
    simulation.remove_nic("net1")
    assert before == without_settings(simulation)


def test_fixed_mac() -> None:
    """
    The reference's example, its IPv6 form, and an address with zeros.

    The NIC's addresses are announced.
    """
    assert "0a:1b:0a:06:d4:ca" == fixed_mac("0a:1b", ip_address("10.6.212.202"))
    assert "0a:1b:00:00:01:72" == fixed_mac("0a:1b", ip_address("fd00:6::172"))
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.212.202/16")

    plan = simulation.add("eth0", replace(AUTO, mac_prefix="0a:1b"))

    assert Setting(Kind.MAC, "eth0", "0a:1b:0a:06:d4:ca") in simulation.pod
    assert (ip_address("10.6.212.202"),) == plan.announce


def test_settings_of_the_nic() -> None:
    """
    Queue length is the pod NIC's, rp_filter the pod's, veth0 has its address.

    -1 and 0 leave things alone.
    """
    settings = replace(
        AUTO, tx_queue_len=2000, rp_filter=2, veth_address=ip_address("169.254.100.1")
    )
    simulation = underlay_one(settings=settings)

    assert Setting(Kind.TX_QUEUE_LEN, "eth0", "2000") in simulation.pod
    assert Setting(Kind.SYSCTL, "net.ipv4.conf.all.rp_filter", "2") in simulation.pod
    assert Address("veth0", ip_address("169.254.100.1"), 32) in simulation.pod
    quiet = underlay_one(settings=replace(AUTO, rp_filter=None))
    assert not [
        item for item in quiet.pod if isinstance(item, Setting) and item.kind is Kind.SYSCTL
    ]


def test_no_address_on_the_node() -> None:
    """A family that the node has not is noted, and its networks are left out."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.168.172/16", "fd00:6::172/64")

    plan = simulation.add("eth0", replace(AUTO, hijack=(ip_network("fd00:10::/108"),)))

    assert [
        "the node has no IPv6 address: the cluster's IPv6 networks are not reached through the node"
    ] == list(plan.notes)
    assert {"fd00:6::/64 dev eth0 metric 256"} == simulation.pod_routes(family=6)


def test_pod_of_a_network_that_the_node_is_not_in() -> None:
    """Then the kernel says from which address the node would reach the pod, and it stays so when asked again."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.9.0.5/16", gateways=("10.9.0.1",))
    simulation.sources = {ip_address("10.9.0.5"): ip_address("10.7.168.71")}
    simulation.add("eth0", AUTO)
    first = simulation.pod_routes(100)

    simulation.sources = {ip_address("10.9.0.5"): ip_address("10.6.168.121")}
    simulation.add("eth0", AUTO)

    assert {"default via 10.7.168.71 dev veth0 src 10.9.0.5"} == first == simulation.pod_routes(100)


def test_stale_on_the_node() -> None:
    """What the node still knows of an address from a former pod goes."""
    simulation = Simulation.with_node()
    simulation.add_nic("eth0", "10.6.168.172/16")
    simulation.node |= {Route(ip_network("10.6.168.172/32"), "vethold", 500)}

    simulation.add("eth0", AUTO)

    assert {"10.6.168.172 dev vethdb6cd3880ab scope link"} == simulation.node_routes(500)


def test_delete_of_another_family() -> None:
    """DEL of a NIC whose default route is of one family leaves the table of a NIC of the other family alone."""
    simulation = Simulation.with_node(*NODE_ADDRESSES, *NODE_ADDRESSES_6)
    for number, cidr, gateway in (
        (0, "fd00:6::172/64", "fd00:6::1"),
        (1, "fd00:7::173/64", "fd00:7::1"),
    ):
        name = f"net{number}" if number else "eth0"
        simulation.add_nic(name, cidr, gateways=(gateway,))
        simulation.add(name, AUTO)
    before = without_settings(simulation)
    simulation.add_nic("net2", "10.8.168.174/16", gateways=("10.8.0.1",))
    simulation.add("net2", AUTO)

    simulation.delete("net2", AUTO)
    simulation.remove_nic("net2")

    assert before == without_settings(simulation)


def test_delete_of_a_late_sandbox() -> None:
    """DEL leaves a route of its address that leads to another pod."""
    simulation = overlay()
    theirs = Route(ip_network("10.6.212.145/32"), "calinew", 500)
    simulation.node = frozenset(
        item
        for item in simulation.node
        if getattr(item, "table", 0) != 500 or not isinstance(item, Route)
    )
    simulation.node |= {theirs}

    simulation.delete("net1", AUTO)

    assert theirs in simulation.node


def test_mangle_text() -> None:
    """Rules are told apart from others in a dump, and restored without touching those."""
    dump = f"*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j OTHER\n-A {RULES[1]}\nCOMMIT\n"

    assert (RULES[0], RULES[2]) == missing_rules(dump)
    assert (RULES[1],) == present_rules(dump)
    assert f"*mangle\n-A {RULES[0]}\nCOMMIT\n" == restore_input(RULES[:1])
    assert f"*mangle\n-D {RULES[0]}\nCOMMIT\n" == restore_input(RULES[:1], remove=True)
