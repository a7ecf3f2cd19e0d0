"""The plugin `ifacer` over a node in memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from spiderpool.agent.ifacer import Ifacer
from spiderpool.agent.server import Peer
from spiderpool.cni.request import Call, CniArgs
from spiderpool.errors import CheckFailed, InvalidRequest, Unsupported
from spiderpool.wiring.ifacer import MakeVlan, NodeLink, SetUp, Step


class Node:
    """Interfaces, and what was made of them."""

    def __init__(self) -> None:
        self.links = {"ens192": NodeLink("ens192", up=True)}
        self.done: list[Step] = []

    def read(self) -> dict[str, NodeLink]:
        """Give the interfaces."""
        return dict(self.links)

    def apply(self, step: Step) -> None:
        """Carry out a step."""
        self.done.append(step)
        if isinstance(step, MakeVlan):
            self.links[step.name] = NodeLink(step.name, kind="vlan", vlan_id=step.vlan_id, parent=step.parent)
        elif isinstance(step, SetUp):
            self.links[step.name] = NodeLink(step.name, kind=self.links[step.name].kind, up=True)


def call(command: str, **config: Any) -> Call:
    """Make a call."""
    whole = {"cniVersion": "1.0.0", "name": "n", "type": "ifacer", **config}
    return Call("ifacer", command, "c1", "/run/netns/x", "eth0", CniArgs(), "/opt/cni/bin", "1.0.0", whole, {})


VLAN = {"interfaces": ["ens192"], "vlanID": 100}


async def test_two_pods_at_once() -> None:
    """Two pods on one VLAN: it is made once, and both get the empty result of the reference."""
    node = Node()
    plugin = Ifacer(node.read, node.apply)
    answers = await asyncio.gather(*(plugin(call("ADD", **VLAN), Peer(1)) for _ in range(2)))

    assert [{"cniVersion": "1.0.0", "dns": {}}] * 2 == [json.loads(answer) for answer in answers]
    assert [MakeVlan("ens192.100", "ens192", 100), SetUp("ens192.100")] == node.done


async def test_delete_leaves_everything() -> None:
    """Other pods may be on the VLAN: DEL touches nothing, also when the configuration is wrong by now."""
    node = Node()

    assert "" == await Ifacer(node.read, node.apply)(call("DEL", interfaces=[]), Peer(1))
    assert [] == node.done


async def test_check() -> None:
    """CHECK says what is missing, and nothing when all is there."""
    node = Node()
    plugin = Ifacer(node.read, node.apply)
    with pytest.raises(CheckFailed, match=r"ens192\.100"):
        await plugin(call("CHECK", **VLAN), Peer(1))
    await plugin(call("ADD", **VLAN), Peer(1))

    assert "" == await plugin(call("CHECK", **VLAN), Peer(1))


async def test_wrong_configuration() -> None:
    """A wrong configuration touches nothing."""
    node = Node()
    with pytest.raises(InvalidRequest):
        await Ifacer(node.read, node.apply)(call("ADD", interfaces=["ens192"], vlanID=5000), Peer(1))

    assert [] == node.done


async def test_kernels_refusal() -> None:
    """What the kernel has not is said in the caller's error, and the next call tries again."""

    def refuse(_: Step) -> None:
        raise Unsupported("interface ens192.100 cannot be made: the kernel of this node has no VLAN interfaces")

    plugin = Ifacer(Node().read, refuse)
    for _ in range(2):
        with pytest.raises(Unsupported, match="has no VLAN interfaces"):
            await plugin(call("ADD", **VLAN), Peer(1))
