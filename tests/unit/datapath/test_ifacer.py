"""
What `ifacer` makes on a node, as a plan.

Source: docs/reference/networks.md#ifacer.
"""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.datapath.ifacer import (
    Bond,
    Enslave,
    InterfaceRequest,
    MakeBond,
    MakeVlan,
    Remove,
    SetUp,
    Step,
    plan_steps,
    read_interface_request,
    read_options,
    undo_steps,
)
from spiderpool.errors import InvalidRequest
from spiderpool.model.netns_contents import Link

BOND = {"name": "bond0", "mode": 1, "options": ""}


def link(name: str, *, parent: str = "", **values: Any) -> Link:
    """Make an interface that is up, with an index that follows from its name."""
    return Link(index(name), name, peer=index(parent) if parent else None, **values)


def index(name: str) -> int:
    """Return the index of an interface."""
    return crc32(name.encode())


def plan(config: dict[str, Any], *links: Link) -> list[Step]:
    """Plan over a node with these interfaces."""
    return plan_steps(read_interface_request(config), {one.name: one for one in links})


def test_nothing_to_make() -> None:
    """One interface without a VLAN, or several without a bond, need nothing."""
    assert [] == plan({"interfaces": ["ens192"]})
    assert [] == plan({"interfaces": ["ens192", "ens224"], "vlanID": 100})


@pytest.mark.parametrize(("up", "first"), [(True, []), (False, [SetUp("ens192")])])
def test_vlan(up: bool, first: list[Step]) -> None:
    """A VLAN is made on its parent, which is set up first if need be."""
    expected = [*first, MakeVlan("ens192.100", "ens192", 100), SetUp("ens192.100")]

    assert expected == plan({"interfaces": ["ens192"], "vlanID": 100}, link("ens192", up=up))


@pytest.mark.parametrize(("up", "steps"), [(True, []), (False, [SetUp("ens192.100")])])
def test_vlan_that_is_there(up: bool, steps: list[Step]) -> None:
    """An interface of the VLAN's name is only set up."""
    there = link("ens192.100", kind="vlan", up=up, vlan_id=100, parent="ens192")

    assert steps == plan({"interfaces": ["ens192"], "vlanID": 100}, link("ens192"), there)


def test_vlan_of_another_name() -> None:
    """
    The kernel has a VLAN of one interface only once.

    The same one of another interface is another VLAN.
    """
    named, elsewhere = (
        link("lan", kind="vlan", vlan_id=100, parent=parent) for parent in ("ens192", "ens224")
    )
    config = {"interfaces": ["ens192"], "vlanID": 100}
    with pytest.raises(
        InvalidRequest,
        match="cannot have multiple different vlan interfaces with the same vlanId 100 on node at the "
        "same time: the one of ens192 is lan",
    ):
        plan(config, link("ens192"), named)

    assert MakeVlan("ens192.100", "ens192", 100) in plan(config, link("ens192"), elsewhere)


def test_missing_parent() -> None:
    """An interface that does not exist is named, and those that do."""
    with pytest.raises(
        InvalidRequest, match="interface ens999 does not exist on this node; it has ens192, lo"
    ):
        plan({"interfaces": ["ens999"], "vlanID": 100}, link("lo"), link("ens192"))


def test_bond() -> None:
    """A bond is made, its interfaces join it in their order, then it is set up, and a VLAN on it."""
    config = {"interfaces": ["ens192", "ens224"], "vlanID": 100, "bond": BOND}
    expected = [
        MakeBond(Bond("bond0", 1)),
        Enslave("ens192", "bond0"),
        Enslave("ens224", "bond0"),
        SetUp("bond0"),
        MakeVlan("bond0.100", "bond0", 100),
        SetUp("bond0.100"),
    ]

    assert expected == plan(config, link("ens192"), link("ens224"))


@pytest.mark.parametrize(("up", "steps"), [(True, []), (False, [SetUp("bond0")])])
def test_bond_that_is_there(up: bool, steps: list[Step]) -> None:
    """A bond of that name is only set up, whatever is in it."""
    assert steps == plan(
        {"interfaces": ["ens192", "ens224"], "bond": BOND}, link("bond0", kind="bond", up=up)
    )


@pytest.mark.parametrize("kind", ["bridge", ""])
def test_name_of_something_else(kind: str) -> None:
    """What has the bond's name and is none is not touched."""
    with pytest.raises(InvalidRequest, match="bond0 exists and is no bond"):
        plan({"interfaces": ["ens192", "ens224"], "bond": BOND}, link("bond0", kind=kind))


def test_bond_without_a_name() -> None:
    """
    A bond has the reference's name when it is given none.

    With one interface there is no bond.
    """
    config = {"interfaces": ["ens192", "ens224"], "bond": {"mode": 4}}

    assert Bond("sp_bond0", 4) == read_interface_request(config).bond
    assert read_interface_request({"interfaces": ["ens192"], "bond": BOND}).bond is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "interfaces needs at least one name"),
        ({"interfaces": [""]}, "interfaces needs at least one name"),
        ({"interfaces": "ens192"}, "Expected `array`"),
        ({"interfaces": ["a", "a"]}, "interfaces names one twice"),
        ({"interfaces": ["a"], "vlanID": 4095}, "vlanID is 4095"),
        ({"interfaces": ["a"], "vlanID": -1}, "vlanID is -1"),
        ({"interfaces": ["a"], "vlanID": "100"}, "Expected `int`"),
        (
            {"interfaces": ["abcdefghijkl"], "vlanID": 4000},
            "abcdefghijkl.4000 has 17 bytes; the kernel takes 15",
        ),
        ({"interfaces": ["a", "b"], "bond": {"name": "x", "mode": 7}}, "bond.mode is 7"),
        (
            {"interfaces": ["a", "b"], "bond": {"name": "sixteen-letters!", "mode": 1}},
            "bond.name sixteen-letters! has 16",
        ),
    ],
)
def test_wrong_configurations(config: dict[str, Any], words: str) -> None:
    """Each key that is not as it must be is named with what it has."""
    with pytest.raises(InvalidRequest) as caught:
        read_interface_request(config)

    assert words in caught.value.message


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", ()),
        ("miimon=100", (("miimon", 100),)),
        ("miimon=100; lacp_rate=fast;", (("miimon", 100), ("lacp_rate", 1))),
        (
            "xmit_hash_policy=layer2+3;primary=ens192",
            (("xmit_hash_policy", 2), ("primary", "ens192")),
        ),
        ('arp_ip_target=["10.6.0.1","10.6.0.2"]', (("arp_ip_target", ("10.6.0.1", "10.6.0.2")),)),
        ("arp_ip_target=10.6.0.1", (("arp_ip_target", ("10.6.0.1",)),)),
        ("miimon=0;use_carrier=1", (("use_carrier", 1),)),
        ("ad_actor_system=02:00:00:00:00:01", (("ad_actor_system", "02:00:00:00:00:01"),)),
    ],
)
def test_options(text: str, options: tuple[Any, ...]) -> None:
    """Options are read as the documents' examples write them, blanks included; 0 says nothing."""
    assert options == read_options(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("miimon", "has 'miimon'; write key=value"),
        ("a=b=c", "has 'a=b=c'"),
        ("speed=1", "speed is unknown; known are active_slave"),
        ("miimon=fast", "miimon is 'fast'; write a number"),
        ("lacp_rate=quick", "lacp_rate is 'quick'; write a number or one of slow, fast"),
        ("ad_actor_system=5", "ad_actor_system is '5'; write a MAC"),
        ("arp_ip_target=[", "arp_ip_target is '['"),
        ("arp_ip_target=fd00::1", "arp_ip_target is 'fd00::1'; write"),
        ('arp_ip_target=["10.6.0.1", "gateway"]', "arp_ip_target is"),
    ],
)
def test_wrong_options(text: str, words: str) -> None:
    """An option that would be lost is refused: the bond would be another one than was asked for."""
    with pytest.raises(InvalidRequest) as caught:
        read_options(text)

    assert words in caught.value.message


def test_what_could_not_be_made_is_not_ours() -> None:
    """
    An interface that somebody else made in between is not removed.

    One that could not join a bond is set up again.
    """
    links = {name: link(name) for name in ("ens192", "ens224")}
    bond = MakeBond(Bond("bond0", 1))

    assert [] == undo_steps([], bond, links)
    assert [Remove("bond0"), SetUp("ens192")] == undo_steps(
        [bond], Enslave("ens192", "bond0"), links
    )


NAMES = st.sampled_from(["a", "b", "bond0"])


@given(st.sampled_from([("a",), ("a", "b")]), st.integers(0, 3), st.booleans(), st.booleans())
def test_a_second_pod_finds_everything(
    interfaces: tuple[str, ...], vlan_id: int, bonded: bool, up: bool
) -> None:
    """After the steps of a plan were carried out, nothing is left to do."""
    interface_request = InterfaceRequest(
        interfaces, vlan_id, Bond("bond0", 1) if bonded and len(interfaces) > 1 else None
    )
    links = {name: link(name, up=up) for name in ("a", "b")}
    for step in plan_steps(interface_request, links):
        match step:
            case MakeVlan():
                assert links[step.parent].up
                links[step.name] = link(
                    step.name, kind="vlan", up=False, vlan_id=step.vlan_id, parent=step.parent
                )
            case MakeBond():
                links[step.bond.name] = link(step.bond.name, kind="bond", up=False)
            case SetUp():
                links[step.name] = link(
                    step.name, kind=links[step.name].kind, vlan_id=links[step.name].vlan_id
                )
            case Enslave():
                assert links[step.bond].kind == "bond"

    assert [] == plan_steps(interface_request, links)
