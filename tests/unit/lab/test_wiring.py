"""The plan of links, addresses and routes."""

from spiderlab.topology import Topology, parse_topology
from spiderlab.wiring import (
    Wiring,
    plan_client,
    plan_node,
    plan_node_ports,
    plan_router,
    plan_switch,
    plan_switch_ports,
)

BOTH = parse_topology(["a", "b"])
V4 = parse_topology(["a", "b"], ipv6=False)


def plans(topology: Topology = BOTH) -> list[Wiring]:
    """Return every plan of a lab."""
    nodes = [
        plan
        for node in topology.nodes
        for plan in (plan_node(topology, node), plan_node_ports(node))
    ]
    return [
        plan_switch(),
        plan_router(topology),
        plan_switch_ports(),
        plan_client(topology),
        *nodes,
    ]


def test_nothing_but_the_client_and_nodes_has_a_default_route() -> None:
    """The router knows its own networks only, so what is meant for elsewhere ends there."""
    with_default = {
        plan.namespace for plan in plans() if any("default" in line for line in plan.batch)
    }

    assert {"sl-client", "sl-a", "sl-b"} == with_default


def test_ipv4_alone_mentions_no_ipv6_address() -> None:
    """Without IPv6 no plan has an address, route or rule of it, and the kernel is told to do without."""
    lines = [line for plan in plans(V4) for line in (*plan.batch, *plan.ip6tables)]

    assert [] == [line for line in lines if "fd00" in line]
    assert all(
        plan.sysctls["net.ipv6.conf.all.disable_ipv6"] == "1" for plan in plans(V4) if plan.sysctls
    )


def test_every_port_that_is_made_is_plugged_in() -> None:
    """Each link's end in the switch is put on the bridge of its segment and brought up."""
    lines = [line for plan in plans() for line in plan.batch]
    ends = {
        line.split(" peer name ")[1].split()[0]
        for line in lines
        if " peer name " in line and "netns sl-switch" in line
    }

    assert ends == {line.split()[2] for line in lines if " master " in line}
    assert ends <= {
        line.split()[2] for line in lines if line.startswith("link set ") and line.endswith(" up")
    }
    assert len(ends) == 9  # three of the router, three of each node


def test_a_node_routes_to_the_other_nodes_pods() -> None:
    """Pods of other nodes are reached by their node, this node's unused addresses are a black hole."""
    plan = plan_node(BOTH, BOTH.nodes[0])

    assert "route add 10.233.101.0/24 via 172.18.0.12 dev eth0" in plan.batch
    assert "route add fd00:64:0:25::/64 via fd00:18::12 dev eth0" in plan.batch
    assert "route add blackhole 10.233.100.0/24" in plan.batch
    assert not any("10.233.100.0/24 via" in line for line in plan.batch)


def test_pods_are_masqueraded_towards_all_but_pods() -> None:
    """One rule a family: the source is a pod, the target is none."""
    plan = plan_node(BOTH, BOTH.nodes[0])

    assert 1 == len(plan.iptables) == len(plan.ip6tables)
    assert "-s 10.233.64.0/18 ! -d 10.233.64.0/18" in plan.iptables[0]
    assert "-s fd00:64::/56 ! -d fd00:64::/56" in plan.ip6tables[0]
