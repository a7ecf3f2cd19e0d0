"""The plugin `ifacer` over a node in memory."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from spiderpool.agent.coordinator.ifacer_plugin import Ifacer
from spiderpool.agent.node.caller import Peer
from spiderpool.cni.request import Call, CniArgs
from spiderpool.datapath.ifacer import Enslave, MakeBond, MakeVlan, Remove, SetUp, Step
from spiderpool.errors import (
    AlreadyExists,
    CheckFailed,
    InvalidRequest,
    SpiderpoolError,
    Unsupported,
)
from spiderpool.model.netns_contents import Link


class Node:
    """Interfaces, and what was made of them."""

    def __init__(self) -> None:
        self.links = {"ens192": Link(2, "ens192"), "ens224": Link(3, "ens224", up=False)}
        self.enslaved: list[str] = []
        self.done: list[Step] = []
        self.fails_at = 0

    def read(self) -> dict[str, Link]:
        """Return the interfaces."""
        return dict(self.links)

    def apply(self, step: Step) -> None:
        """Carry out a step."""
        self.done.append(step)
        if len(self.done) == self.fails_at:
            raise SpiderpoolError(f"{step} is refused")
        match step:
            case MakeVlan():
                parent = self.links[step.parent].index
                self._add(step.name, kind="vlan", vlan_id=step.vlan_id, peer=parent)
            case MakeBond():
                self._add(step.bond.name, kind="bond")
            case Enslave():
                self.enslaved.append(step.name)
            case SetUp():
                self.links[step.name] = replace(self.links[step.name], up=True)
            case Remove():
                gone = self.links.pop(step.name, None)
                if gone is not None and gone.kind == "bond":
                    for name in self.enslaved:
                        self.links[name] = replace(self.links[name], up=False)
                    self.enslaved = []

    def _add(self, name: str, **values: Any) -> None:
        index = max(link.index for link in self.links.values()) + 1
        self.links[name] = Link(index, name, up=False, **values)


def call(command: str, **config: Any) -> Call:
    """Make a call."""
    whole = {"cniVersion": "1.0.0", "name": "n", "type": "ifacer", **config}
    return Call(
        "ifacer",
        command,
        "c1",
        "/run/netns/x",
        "eth0",
        CniArgs(),
        "/opt/cni/bin",
        "1.0.0",
        whole,
        {},
    )


VLAN = {"interfaces": ["ens192"], "vlanID": 100}


@pytest.mark.parametrize("vlan_id", [100, 101])
async def test_somebody_else_is_faster(vlan_id: int) -> None:
    """
    An interface that another program makes after the look is taken when it is the one that is wanted.

    Another one of that name is named.
    """
    node = Node()

    def late(step: Step) -> None:
        if isinstance(step, MakeVlan) and step.name not in node.links:
            node.apply(replace(step, vlan_id=vlan_id))
            raise AlreadyExists("interface ens192.100 cannot be made: it is there")
        node.apply(step)

    plugin = Ifacer(node.read, late)
    if vlan_id == VLAN["vlanID"]:
        await plugin(call("ADD", **VLAN), Peer.of_process(1))
        assert node.links["ens192.100"].up
    else:
        with pytest.raises(SpiderpoolError, match="101"):
            await plugin(call("ADD", **VLAN), Peer.of_process(1))


async def test_two_pods_at_once() -> None:
    """Two pods on one VLAN: it is made once, and both get the empty result of the reference."""
    node = Node()
    plugin = Ifacer(node.read, node.apply)
    answers = await asyncio.gather(
        *(plugin(call("ADD", **VLAN), Peer.of_process(1)) for _ in range(2))
    )

    assert [{"cniVersion": "1.0.0", "dns": {}}] * 2 == [json.loads(answer) for answer in answers]
    assert [MakeVlan("ens192.100", "ens192", 100), SetUp("ens192.100")] == node.done


async def test_delete_leaves_everything() -> None:
    """
    Other pods may be on the VLAN.

    DEL touches nothing, also when the configuration is wrong by now.
    """
    node = Node()

    assert "" == await Ifacer(node.read, node.apply)(call("DEL", interfaces=[]), Peer.of_process(1))
    assert [] == node.done


async def test_check() -> None:
    """CHECK says what is missing, and nothing when all is there."""
    node = Node()
    plugin = Ifacer(node.read, node.apply)
    with pytest.raises(CheckFailed, match=r"ens192\.100"):
        await plugin(call("CHECK", **VLAN), Peer.of_process(1))
    await plugin(call("ADD", **VLAN), Peer.of_process(1))

    assert "" == await plugin(call("CHECK", **VLAN), Peer.of_process(1))


async def test_wrong_configuration() -> None:
    """A wrong configuration touches nothing."""
    node = Node()
    with pytest.raises(InvalidRequest):
        await Ifacer(node.read, node.apply)(
            call("ADD", interfaces=["ens192"], vlanID=5000), Peer.of_process(1)
        )

    assert [] == node.done


async def test_kernels_refusal() -> None:
    """What the kernel has not is said in the caller's error, and the next call tries again."""

    def refuse(_: Step) -> None:
        raise Unsupported(
            "interface ens192.100 cannot be made: the kernel of this node has no VLAN interfaces"
        )

    plugin = Ifacer(Node().read, refuse)
    for _ in range(2):
        with pytest.raises(Unsupported, match="has no VLAN interfaces"):
            await plugin(call("ADD", **VLAN), Peer.of_process(1))


@pytest.mark.parametrize("step", range(1, 7))
async def test_failure_at_any_step(step: int) -> None:
    """Whichever step of a bond with a VLAN fails, the node is as before, and the next ADD makes the whole."""
    node = Node()
    plugin, before = Ifacer(node.read, node.apply), dict(node.links)
    config = {
        "interfaces": ["ens192", "ens224"],
        "vlanID": 100,
        "bond": {"name": "bond0", "mode": 1},
    }
    node.fails_at = step
    with pytest.raises(SpiderpoolError, match="is refused"):
        await plugin(call("ADD", **config), Peer.of_process(1))
    assert (before, []) == (node.links, node.enslaved)

    node.fails_at = 0
    await plugin(call("ADD", **config), Peer.of_process(1))
    assert {"ens192", "ens224", "bond0", "bond0.100"} == node.links.keys()
    assert ["ens192", "ens224"] == node.enslaved
