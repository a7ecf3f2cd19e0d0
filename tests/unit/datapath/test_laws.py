"""What holds for every pod: wanted is wanted, twice is once, DEL takes back what ADD made."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from spiderpool.datapath.coordinator_plan import plan_attachment
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, PolicyRoute
from spiderpool.datapath.diff import Drop, Put, applied, diff, undone
from spiderpool.datapath.plan_types import Item, Kind, Setting, Wanted
from spiderpool.model.netns_contents import MAIN_TABLE, Neighbour, Route, Rule
from tests.unit.datapath.simulation import HIJACK, NODE_ADDRESSES, NODE_ADDRESSES_6, Simulation

IPS = st.ip_addresses(v=4)
DEVICES = st.sampled_from(["eth0", "net1", "veth0"])
NETWORKS = st.builds(
    lambda ip, length: ip_network((ip, length), strict=False), IPS, st.integers(0, 32)
)
ROUTES = st.builds(Route, NETWORKS, DEVICES, st.sampled_from([100, 101, MAIN_TABLE]))
RULES = st.builds(
    Rule,
    st.just(4),
    st.integers(100, 110),
    st.none() | st.integers(1, 32000),
    st.none() | st.builds(ip_network, IPS),
)
NEIGHBOURS = st.builds(
    Neighbour, IPS, DEVICES, st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:02"])
)
SETTINGS = st.builds(
    Setting, st.sampled_from([Kind.MAC, Kind.TX_QUEUE_LEN]), DEVICES, st.sampled_from(["1", "2"])
)


def one_value(items: list[Item]) -> frozenset[Item]:
    """Keep one of the things that can only have one value; a rule that is there has a priority."""
    kept: dict[object, Item] = {}
    for item in items:
        match item:
            case Setting():
                kept[item.place] = item
            case Neighbour():
                kept[(item.ip, item.dev)] = item
            case Route():
                kept[(item.place if not item.is_default else item)] = item
            case Rule(priority=None):
                continue
            case _:
                kept[item] = item
    return frozenset(kept.values())


ITEMS: st.SearchStrategy[Item] = ROUTES | RULES | NEIGHBOURS | SETTINGS
SEEN = st.lists(ITEMS, max_size=12).map(one_value)
WANTED = st.lists(ITEMS, max_size=12).map(one_value)


@given(seen=SEEN, present=WANTED)
def test_twice_is_once(seen: frozenset[Item], present: frozenset[Item]) -> None:
    """What was applied is there: a second time there is nothing to do."""
    wanted = Wanted(
        tuple(sorted(present, key=repr)), frozenset(sorted(seen - present, key=repr)[:3])
    )

    after = applied(seen, diff(seen, wanted))

    assert () == diff(after, wanted)


@given(seen=SEEN)
def test_wanted_is_wanted(seen: frozenset[Item]) -> None:
    """What is there differs from itself in nothing."""
    assert () == diff(seen, Wanted(tuple(seen)))


@given(seen=SEEN, present=WANTED)
def test_undone(seen: frozenset[Item], present: frozenset[Item]) -> None:
    """The way back leads to where it began."""
    wanted = Wanted(
        tuple(sorted(present, key=repr)), frozenset(sorted(seen - present, key=repr)[:3])
    )
    operations = diff(seen, wanted)

    assert seen == applied(applied(seen, operations), undone(operations))


HIJACK_6 = tuple(ip_network(text) for text in ("fd00:10::/108", "fd00:20::/48"))
EVERYWHERE = tuple(ip_network(text) for text in ("0.0.0.0/0", "::/0"))
POLICIES = tuple(
    PolicyRoute(ip_network(dst), ip_address(gateway))
    for dst, gateway in (
        ("10.99.0.0/16", "10.6.0.9"),
        ("fd00:99::/64", "fd00:6::9"),
        ("0.0.0.0/0", "10.6.0.8"),
        ("::/0", "fd00:6::8"),
    )
)


FAMILIES = st.sampled_from([(4,), (6,), (4, 6)])


@dataclass(frozen=True)
class Story:
    """A pod with some NICs, all of which the coordinator sees."""

    overlay: bool
    families: tuple[tuple[int, ...], ...]  # of each NIC
    nics: int
    settings: CoordinatorSettings
    gateways: tuple[bool, ...] = (True, True, True)  # which NIC has a default route


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Make any pod that can be laid out."""
    overlay, nics = draw(st.booleans()), draw(st.integers(1, 3))
    first = st.just((4,)) if overlay else FAMILIES
    families = (draw(first), draw(FAMILIES), draw(FAMILIES))
    default = draw(st.sampled_from(["", "eth0", "net1"] if nics > 1 else ["", "eth0"]))
    policies = draw(st.lists(st.sampled_from(POLICIES), max_size=2))
    settings = CoordinatorSettings(
        hijack=(*HIJACK, *draw(st.sampled_from([(), HIJACK_6, EVERYWHERE]))),
        tune_pod_routes=bool(draw(st.booleans())),
        default_route_nic=str(default),
        policy_routes=tuple(policies),
        mac_prefix=str(draw(st.sampled_from(["", "0a:1b"]))),
        rp_filter=draw(st.sampled_from([None, 0, 2])),
        tx_queue_len=int(draw(st.sampled_from([0, 2000]))),
    )
    gateways = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    return Story(bool(overlay), families, int(nics), settings, gateways)


def new_simulation(story: Story) -> Simulation:
    """Make an empty pod on a node of the pod's families."""
    families = sorted({family for nic in story.families[: story.nics] for family in nic})
    return Simulation.with_node(
        *(pair for family in families for pair in {4: NODE_ADDRESSES, 6: NODE_ADDRESSES_6}[family])
    )


def begin(story: Story) -> Simulation:
    """Make the pod with its first NIC."""
    simulation = new_simulation(story)
    if story.overlay:
        simulation.add_calico("10.233.100.2/32")
    else:
        make_nic(
            simulation,
            "eth0",
            story,
            {4: "10.6.168.172/16", 6: "fd00:6::172/64"},
            {4: "10.6.0.1", 6: "fd00:6::1"},
            rank=0,
        )
    return simulation


def make_nic(
    simulation: Simulation,
    name: str,
    story: Story,
    cidrs: dict[int, str],
    gateways: dict[int, str],
    *,
    rank: int,
) -> None:
    """Make a NIC with addresses of the story's families, and its default routes when it is to have them."""
    families = story.families[rank]
    ways = (gateways[family] for family in families) if story.gateways[rank] else ()
    simulation.add_nic(name, *(cidrs[family] for family in families), gateways=tuple(ways))


def add_nic(simulation: Simulation, number: int, story: Story) -> str:
    """Add an additional NIC."""
    name, net = f"net{number}", 6 + number
    cidrs = {4: f"10.{net}.212.145/16", 6: f"fd00:{net}::145/64"}
    make_nic(simulation, name, story, cidrs, {4: f"10.{net}.0.1", 6: f"fd00:{net}::1"}, rank=number)
    return name


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@given(story=stories())
def test_delete_takes_back(story: Story) -> None:
    """After ADDs of all NICs, and DELs in the opposite order, all routes, rules and neighbours are as before."""
    simulation = begin(story)
    empty = visible(simulation if story.overlay else new_simulation(story))
    done: list[tuple[str, frozenset[Item]]] = []
    if not story.overlay:
        simulation.add("eth0", story.settings)
    for number in range(1, story.nics):
        before = visible(simulation)
        name = add_nic(simulation, number, story)
        done.append((name, before))
        simulation.add(name, story.settings)

    for name, before in reversed(done):
        simulation.delete(name, story.settings)
        simulation.remove_nic(name)
        assert before == visible(simulation)
    if not story.overlay:
        simulation.delete("eth0", story.settings)
        simulation.remove_nic("eth0")
    assert empty == visible(simulation)
    node_rules = {rule for rule in simulation.node if isinstance(rule, Rule) and rule.table == 500}
    assert len(node_rules) <= 2
    assert () == simulation.mangle_rules


@given(story=stories())
def test_all_stay_whole(story: Story) -> None:
    """
    After the ADDs of all NICs, CHECK finds nothing missing at any of them.

    A later NIC does not undo an earlier one.
    """
    # Where only the last NIC has a default route, an ADD of the one before it would now find it,
    # and tell the two apart.
    assume(story.nics < len(story.gateways) or all(story.gateways))
    simulation = begin(story)
    names = [] if story.overlay else ["eth0"]
    for name in names:
        simulation.add(name, story.settings)
    for number in range(1, story.nics):
        names.append(add_nic(simulation, number, story))
        simulation.add(names[-1], story.settings)

    for name in names:
        plan = plan_attachment(simulation.view(name), story.settings)
        assert (None, []) == (plan.veth, simulation.operations(plan))


@given(story=stories())
def test_one_way_everywhere(story: Story) -> None:
    """
    No table of the pod gets a second default route of a family from the coordinator.

    Two would share the traffic.
    """
    simulation = begin(story)
    ways = default_routes(simulation)
    if not story.overlay:
        simulation.add("eth0", story.settings)
    for number in range(1, story.nics):
        name = add_nic(simulation, number, story)
        ways |= default_routes(simulation)
        simulation.add(name, story.settings)

    made = default_routes(simulation) - ways
    assert len(made) == len(
        {route.place for route in made}
        - {route.place for route in default_routes(simulation) & ways}
    )


def default_routes(simulation: Simulation) -> set[Route]:
    """Return all default routes of the pod."""
    return {item for item in simulation.pod if isinstance(item, Route) and item.is_default}


def visible(simulation: Simulation) -> frozenset[Item]:
    """
    Return what DEL takes back.

    All but settings, and the one rule of the node that all pods share.
    """
    kept = {item for item in simulation.pod if not isinstance(item, Setting)}
    return frozenset(
        kept
        | {item for item in simulation.node if not (isinstance(item, Rule) and item.table == 500)}
    )


@given(story=stories(), half=st.integers(0, 60))
def test_cut_off(story: Story, half: int) -> None:
    """An ADD that was cut off after any operation is completed by the next one, to the same end as one that was not."""
    whole, cut = begin(story), begin(story)
    names = [] if story.overlay else ["eth0"]
    for simulation in (whole, cut):
        for name in names:
            simulation.add(name, story.settings)
    if story.nics > 1:
        for simulation in (whole, cut):
            add_nic(simulation, 1, story)
        cut.add_partly("net1", story.settings, half)
        for simulation in (whole, cut):
            simulation.add("net1", story.settings)

    assert whole.pod == cut.pod
    assert whole.node == cut.node


def test_neighbour_is_replaced() -> None:
    """A learned entry of the same address gives way to the permanent one, and comes back when that is undone."""
    old = Neighbour(
        ip_network("10.6.0.9").network_address, "eth0", "02:00:00:00:00:09", permanent=False
    )
    new = Neighbour(old.ip, "eth0", "02:00:00:00:00:01")

    operations = diff(frozenset({old}), Wanted((new,)))

    assert (Put(new, old),) == operations
    assert (Put(old, new),) == undone(operations)


def test_neighbour_that_did_not_answer_does_not_come_back() -> None:
    """
    An entry without a MAC gives way too.

    The kernel would refuse it, so undoing drops the new one.
    """
    ip = ip_network("10.6.0.9").network_address
    old = Neighbour(ip, "eth0", permanent=False, missing=True)
    new = Neighbour(ip, "eth0", "02:00:00:00:00:01")

    operations = diff(frozenset({old}), Wanted((new,)))

    assert (Put(new, old),) == operations
    assert (Drop(new),) == undone(operations)


def test_stale_route_goes_first() -> None:
    """A route of another device in the wanted one's place goes before that is made."""
    stale = Route(ip_network("10.6.0.9/32"), "veth1", 500)
    new = Route(ip_network("10.6.0.9/32"), "veth2", 500)

    assert (Drop(stale), Put(new)) == diff(frozenset({stale}), Wanted((new,), frozenset({stale})))


def test_kept_route() -> None:
    """A destination that has a route of the same metric keeps it: the reference ignores EEXIST."""
    connected = Route(ip_network("10.6.0.0/16"), "eth0")
    hijack = Route(
        ip_network("10.6.0.0/16"), "veth0", gateway=ip_network("10.6.0.1").network_address
    )

    assert () == diff(frozenset({connected}), Wanted((hijack,)))
