"""A pod with NET_ADMIN that dresses up as another pod: nothing of another pod's is ever touched."""

from __future__ import annotations

from typing import Any

import msgspec

from tests.contract.coordinator.stage import Stage

CIDR = "10.6.168.172/16"


def index(text: str) -> int:
    """Read the index of the one link that `ip -j link show` told of."""
    found: list[dict[str, Any]] = msgspec.json.decode(text)
    return int(found[0]["ifindex"])


async def test_pair_with_the_indexes_of_another(ground: Stage) -> None:
    """
    A pair inside the pod has the indexes of a victim's pair; DEL takes its own, and only that.

    Which indexes a pair has is its maker's choice, whose namespaces its ends are in is not.
    """
    with ground.pod("victim1234567") as victim, ground.pod("thief12345678") as thief:
        before = thief.macvlan("eth0", "ens224", "10.7.168.173/16")
        await ground.run("ADD", victim, "eth0", victim.macvlan("eth0", "ens192", CIDR))
        await ground.run("ADD", thief, "eth0", before)
        outer = index(ground.node.in_node("ip", "-j", "link", "show", victim.veth))
        inner = index(victim.netns.ip("-j", "link", "show", "veth0"))
        kept = (ground.node_routes(500), ground.node_neighbours() - {""})
        thief.netns.ip("link", "delete", "veth0")
        pair = ["type", "veth", "peer", "name", "bait", "index", str(outer)]
        thief.netns.ip("link", "add", "veth0", "index", str(inner), *pair)
        thief.netns.ip("addr", "add", CIDR, "dev", "eth0")

        await ground.run("DEL", thief, "eth0", thief.result("eth0", CIDR))

        assert victim.veth in ground.node_links()
        assert thief.veth not in ground.node_links()
        mine = {line for line in kept[0] if "10.6.168.172" in line}
        assert mine
        assert mine <= ground.node_routes(500)
        assert {line for line in kept[1] if "10.6.168.172" in line} <= ground.node_neighbours()
        await ground.run("DEL", victim, "eth0")
        assert victim.veth not in ground.node_links()
