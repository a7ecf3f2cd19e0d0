"""`spiderpoolctl` over a cluster in memory: what it reads, what it says, what it changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from spiderpool.addressing.ranges import parse_address, parse_ranges
from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace, NodeInterfaces
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec
from spiderpool.api.kubernetes.core import ConfigMap, NetworkAttachmentDefinition, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.audit.comparison import Kind
from spiderpool.audit.usage import Usage
from spiderpool.cli import main, session
from spiderpool.cli.agents import AgentPod, read_installation
from spiderpool.cli.commands import gc
from spiderpool.cli.commands.check import Report, audit, summary
from spiderpool.cli.commands.explain import check_options, explain_live
from spiderpool.cli.commands.ip import ByHand, find, give_back, record
from spiderpool.cli.manifest import read_pod
from spiderpool.cli.snapshot_reader import Unread, read_snapshot
from spiderpool.errors import AlreadyExists, Forbidden, InvalidRequest, NotFound, Unreachable
from spiderpool.ipam.automatic_pool import App, PoolPlan, build_pool
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.model.pool import Pool
from spiderpool.model.subnet import Subnet
from spiderpool.records.build import let_go
from spiderpool.records.projections import endpoint_of, pool_status
from tests.fakes.cluster import Call, FakeCluster
from tests.fakes.objects import (
    DEPLOYMENT,
    FEATURES,
    STATEFULSET,
    make_facts,
    make_ippool,
    make_namespace,
    make_node,
    make_pod,
    make_record,
    make_statefulset,
)

IP = parse_address("10.6.0.10")
CONF = "enableIPv4: true\nenableStatefulSet: true\n"
AUTOMATIC = "enableSpiderSubnet: true\nenableAutoPoolForApplication: true\n"


def agent_on(node: str) -> AgentPod:
    """Make the pod of an agent."""
    document = {
        "metadata": {
            "name": f"agent-{node}",
            "namespace": "spider",
            "labels": {"spiderpool.spidernet.io/one-object-per-address": "true"},
        },
        "spec": {
            "nodeName": node,
            "containers": [
                {
                    "ports": [
                        {"name": "metrics", "containerPort": 5711},
                        {"name": "health", "containerPort": 15710},
                    ],
                    "env": [{"name": "MULTUS_CLUSTER_NETWORK", "value": "spider/main"}],
                }
            ],
            "volumes": [{"name": "config-path", "configMap": {"name": "my-conf"}}],
        },
        "status": {"phase": "Running"},
    }
    return msgspec.convert(document, AgentPod)


class Lab:
    """A cluster of one node, an agent, a pool and a pod that holds, has and shows one address."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.in_use: dict[str, NodeInterfaces] = {}
        self.seed(make_node("node1"), make_namespace("ns"), agent_on("node1"))
        self.seed(
            msgspec.convert(
                {
                    "metadata": {"name": "my-conf", "namespace": "spider"},
                    "data": {"conf.yml": CONF},
                },
                ConfigMap,
            )
        )
        self.uses()

    def seed(self, *objects: Any) -> None:
        """Put objects into the cluster."""
        for obj in objects:
            self.cluster.seed(obj)

    def good(self) -> SpiderIP:
        """Have sources that agree."""
        record = make_record()
        pool = make_ippool()
        endpoint = endpoint_of([record], make_pod(), DEPLOYMENT)
        self.seed(
            replace(pool, status=pool_status([record], Pool.parse(pool))),
            make_pod(),
            record,
            endpoint,
        )
        self.uses("10.6.0.10/16")
        return self.cluster.all(SpiderIP)[0]

    def uses(self, *texts: str) -> None:
        """Let the pod's eth0 have addresses."""
        eth0 = InUseInterface(nic="eth0", addresses=texts)
        namespace = InUseNamespace(
            path="/var/run/netns/a", pod_uid="uid-1", containers=("sandbox-1",), interfaces=(eth0,)
        )
        self.in_use["node1"] = NodeInterfaces(node="node1", namespaces=(namespace,))

    async def ask(self, agent: AgentPod) -> NodeInterfaces:
        """Answer for an agent."""
        if agent.spec.node_name not in self.in_use:
            raise Unreachable(f"agent {agent.metadata.name} does not answer")
        return self.in_use[agent.spec.node_name]

    async def check(self) -> Report:
        """Check, without waiting between the two readings."""
        return await audit(self.cluster, self.ask, _at_once)


async def _at_once(_: float) -> None:
    """Wait for nothing."""


@pytest.fixture
def lab() -> Lab:
    """A lab without a pod."""
    return Lab()


# --- check
# ------------------------------------------------------------------------------------------------------------------


async def test_check_of_sources_that_agree(lab: Lab) -> None:
    """Exit code 0, and a line that says what was compared."""
    lab.good()
    report = await lab.check()

    assert ((), (), 0) == (report.differences, report.unread, report.exit_code)
    assert (
        "all agree (2 pods, 1 held addresses, 1 endpoints, 1 pools, the interfaces of 1 nodes)"
        == summary(report)
    )


async def test_check_of_a_difference(lab: Lab) -> None:
    """Exit code 1 for a leak."""
    lab.good()
    await lab.cluster.delete(Pod, "web-1", "ns")
    report = await lab.check()

    assert Kind.LEAK in [difference.kind for difference in report.differences]
    assert 1 == report.exit_code


async def test_check_reads_subnets(lab: Lab) -> None:
    """A subnet whose status nobody wrote is a difference."""
    lab.good()
    lab.seed(
        SpiderSubnet(
            metadata=ObjectMeta(name="s1"),
            spec=SubnetSpec(subnet="10.7.0.0/16", ips=("10.7.0.10",)),
        )
    )

    (difference,) = (await lab.check()).differences

    assert (Kind.SUBNET_STATUS, "s1") == difference.identity
    assert (
        "the status says 0 of 0 given to pools, its entries and ips say 0 of 1" == difference.text
    )


async def test_check_looks_twice(lab: Lab) -> None:
    """
    What is repaired between the two readings is no difference.

    The wait is what projections may take.
    """
    lab.good()
    lab.uses()
    waits = []

    async def remedy(seconds: float) -> None:
        waits.append(seconds)
        lab.uses("10.6.0.10/16")

    assert 0 == (await audit(lab.cluster, lab.ask, remedy)).exit_code
    assert [2.0] == waits


@pytest.mark.parametrize("kind", [Pod, SpiderIP, SpiderIPPool, SpiderEndpoint])
async def test_check_without_a_source(lab: Lab, kind: type[Any]) -> None:
    """Exit code 2 and the book's name; nothing is compared with a source that is missing."""
    lab.good()
    lab.cluster.faults.fail_next("list", kind, Forbidden("not yours"), times=9)
    report = await lab.check()

    assert (2, ()) == (report.exit_code, report.differences)
    assert kind.resource.plural in [unread.part for unread in report.unread]
    assert summary(report).startswith("incomplete: ")


async def test_check_without_an_agents_answer(lab: Lab) -> None:
    """Exit code 2; what the other sources say is compared all the same."""
    lab.good()
    lab.in_use.clear()
    report = await lab.check()

    assert (2, (Unread("interfaces of node node1", "agent agent-node1 does not answer"),)) == (
        report.exit_code,
        report.unread,
    )


async def test_check_of_a_node_without_an_agent(lab: Lab) -> None:
    """
    A node where a pod holds an address and no agent runs is a source that is missing.

    One that is gone is not.
    """
    lab.good()
    pod = make_pod("other", uid="uid-2", node="node2")
    lab.seed(make_node("node2"), pod, make_record("10.6.0.11", facts=make_facts(pod=pod)))
    gone = make_pod("third", uid="uid-3", node="node3")
    lab.seed(gone, make_record("10.6.0.12", facts=make_facts(pod=gone)))

    assert [Unread("interfaces of node node2", "no agent runs there")] == list(
        (await lab.check()).unread
    )


async def test_owners_of_static_holders(lab: Lab) -> None:
    """An awaited pod of a StatefulSet is no leak; one that was scaled away is."""
    for name, ip in (("db-1", "10.6.0.11"), ("db-7", "10.6.0.17")):
        lab.seed(make_record(ip, facts=make_facts(pod=make_pod(name, uid=name), owner=STATEFULSET)))
    lab.seed(make_statefulset())
    reading = await read_snapshot(lab.cluster, None)

    assert {"10.6.0.11", "10.6.0.17"} == set(reading.snapshot.owners)
    assert ["10.6.0.17"] == [
        each.subject for each in gc.remediable(reading.snapshot) if each.kind is Kind.LEAK
    ]


async def test_where_agents_answer(lab: Lab) -> None:
    """
    The port is the one that the pod calls health.

    Configuration and default network are the agent's own.
    """
    installation = await read_installation(lab.cluster)

    assert 15710 == agent_on("node1").port
    assert ("spider", "spider/main", True) == (
        installation.namespace,
        installation.default_network,
        installation.config.enable_stateful_set,
    )


# --- ip
# ---------------------------------------------------------------------------------------------------------------------


async def test_show_an_address(lab: Lab) -> None:
    """Who holds it."""
    lab.good()
    (line,) = (await find(lab.cluster, ip="10.6.0.10")).addresses
    assert ("10.6.0.10", "blue", "Held", "ns/web-1", "eth0", "node1") == (
        line.ip,
        line.pool,
        line.state,
        line.holder,
        line.nic,
        line.node,
    )


@pytest.mark.parametrize(
    ("ip", "note"),
    [
        ("10.6.0.11", "10.6.0.11 is free in pool blue"),
        (
            "10.6.0.12",
            "10.6.0.12 is free in pool blue and reserved by SpiderReservedIP printers: no pod gets it",
        ),
        ("10.6.0.19", "10.6.0.19 is the gateway of pool blue, so it is given to no pod"),
        ("10.9.0.1", "10.9.0.1 is in no pool"),
        ("10.7.0.0", "10.7.0.0 is the network address of 10.7.0.0/24, so it is given to no pod"),
    ],
)
async def test_show_an_address_without_a_record(lab: Lab, ip: str, note: str) -> None:
    """Why nobody holds it."""
    lab.seed(
        make_ippool(gateway="10.6.0.19"),
        make_ippool("red", "10.7.0.0/24", ips=["10.7.0.0-10.7.0.9"]),
    )
    lab.seed(
        msgspec.convert(
            {"metadata": {"name": "printers"}, "spec": {"ips": ["10.6.0.12"]}}, SpiderReservedIP
        )
    )
    assert note == (await find(lab.cluster, ip=ip)).note


async def test_show_a_pool(lab: Lab) -> None:
    """
    Its records and its numbers.

    Ten addresses, of which one is held, one cools and one is reserved.
    """
    lab.good()
    lab.seed(let_go(make_record("10.6.0.13"), IPState.COOLING, "2025-01-01T00:00:00Z"))
    lab.seed(
        msgspec.convert(
            {"metadata": {"name": "printers"}, "spec": {"ips": ["10.6.0.12"]}}, SpiderReservedIP
        )
    )
    shown = await find(lab.cluster, pool="blue")

    assert ["10.6.0.10", "10.6.0.13"] == [line.ip for line in shown.addresses]
    assert (
        Usage("blue", total=10, held=1, cooling=1, quarantined=0, reserved=1, gateway=0, free=7)
        == shown.pool
    )
    assert shown.pool is not None
    assert "1 held, 1 cooling, 1 reserved, 7 free, of 10" == shown.pool.words


async def test_show_a_pool_with_its_network_address(lab: Lab) -> None:
    """What no pod gets counts neither as free nor as the gateway."""
    lab.seed(make_ippool("red", "10.7.0.0/24", ips=["10.7.0.0-10.7.0.9"], gateway="10.7.0.9"))
    shown = await find(lab.cluster, pool="red")

    assert "0 held, 1 gateway, 1 of no host, 8 free, of 10" == (shown.pool and shown.pool.words)


async def test_show_a_pool_beside_a_reservation_that_cannot_be_read(lab: Lab) -> None:
    """The bad item is named; the good item beside it counts."""
    lab.good()
    ips = ["10.6.0.0/24", "10.6.0.12"]
    lab.seed(
        msgspec.convert({"metadata": {"name": "printers"}, "spec": {"ips": ips}}, SpiderReservedIP)
    )
    shown = await find(lab.cluster, pool="blue")

    assert 1 == (shown.pool.reserved if shown.pool else None)
    (warning,) = shown.warnings
    assert warning.startswith('SpiderReservedIP printers: "10.6.0.0/24" is not an IPv4 range: ')


async def test_show_a_pod(lab: Lab) -> None:
    """Only its own addresses, also together with another request."""
    lab.good()
    lab.seed(make_record("10.6.0.11", facts=make_facts(pod=make_pod("other", uid="uid-2"))))

    assert ["10.6.0.11"] == [
        line.ip for line in (await find(lab.cluster, pod="ns/other")).addresses
    ]
    assert (
        "not what you asked for" in (await find(lab.cluster, ip="10.6.0.10", pod="ns/other")).note
    )


async def test_release_refuses_a_living_holder(lab: Lab) -> None:
    """Unless it is forced; then the record goes."""
    lab.good()
    with pytest.raises(
        InvalidRequest,
        match=r"10\.6\.0\.10 stays with ns/web-1: pod ns/web-1 exists; --force releases it",
    ):
        await give_back(lab.cluster, IP, dry_run=False, force=False)
    assert 1 == len(lab.cluster.all(SpiderIP))

    assert "may record it again" in await give_back(lab.cluster, IP, dry_run=False, force=True)
    assert () == lab.cluster.all(SpiderIP)


async def test_release_of_a_leak(lab: Lab) -> None:
    """A dry run changes nothing; the real one deletes the record."""
    lab.seed(make_record())
    told = await give_back(lab.cluster, IP, dry_run=True, force=False)

    assert "would release 10.6.0.10 of ns/web-1, pool blue (pod ns/web-1 does not exist)" == told
    assert 1 == len(lab.cluster.all(SpiderIP))
    assert (await give_back(lab.cluster, IP, dry_run=False, force=False)).startswith("released ")
    assert () == lab.cluster.all(SpiderIP)


async def test_release_of_a_pod_that_ends(lab: Lab) -> None:
    """Its node gives the address back when it is taken down; until then only force does."""
    lab.seed(make_pod(deleted=True), make_record())
    with pytest.raises(
        InvalidRequest, match="its node gives the address back once it is taken down"
    ):
        await give_back(lab.cluster, IP, dry_run=False, force=False)


async def test_release_is_conditional(lab: Lab) -> None:
    """An address that a living pod takes after it was judged stays with that pod."""
    other = make_pod("other", uid="uid-2")
    lab.seed(make_record(), other)

    async def take(call: Call) -> None:
        if call.verb == "delete":
            found = lab.cluster.all(SpiderIP)[0]
            theirs = make_record(facts=make_facts(pod=other)).spec
            await lab.cluster.replace(replace(found, spec=theirs))

    lab.cluster.on_write(take)
    with pytest.raises(InvalidRequest, match="stays with ns/other"):
        await give_back(lab.cluster, IP, dry_run=False, force=False)
    assert ["other"] == [found.spec.holder.name for found in lab.cluster.all(SpiderIP)]


async def test_release_meets_another_writer(lab: Lab) -> None:
    """A record that was only marked while it was judged is judged again, and goes."""
    lab.seed(make_record())
    mangle_rules = iter(["suspected"])

    async def mark(call: Call) -> None:
        if call.verb == "delete" and (text := next(mangle_rules, "")):
            await lab.cluster.patch(
                SpiderIP, call.name, {"metadata": {"annotations": {"note": text}}}
            )

    lab.cluster.on_write(mark)
    assert (await give_back(lab.cluster, IP, dry_run=False, force=False)).startswith("released ")
    assert () == lab.cluster.all(SpiderIP)


async def test_release_of_nothing(lab: Lab) -> None:
    """An address without a record."""
    with pytest.raises(NotFound, match=r"10\.6\.0\.10 has no record: nobody holds it"):
        await give_back(lab.cluster, IP, dry_run=False, force=False)


def by_hand(**more: Any) -> ByHand:
    """Make what the user says of an address."""
    said = {
        "ip": IP,
        "pod": "web-1",
        "namespace": "ns",
        "container_id": "sandbox-9",
        "node": "node1",
        "nic": "eth0",
    }
    return ByHand(**(said | more))


async def test_set_writes_what_is_in_use(lab: Lab) -> None:
    """The record is the one that an ADD would have made, so the check is content."""
    lab.good()
    await lab.cluster.delete(SpiderIP, "10.6.0.10")
    assert 1 == (await lab.check()).exit_code

    await record(lab.cluster, by_hand(container_id="sandbox-1"), FEATURES)

    (made,) = lab.cluster.all(SpiderIP)
    assert make_record(network="").spec.holder.uid == made.spec.holder.uid
    assert 0 == (await lab.check()).exit_code


async def test_set_corrects_its_own(lab: Lab) -> None:
    """A record of the same pod gets the sandbox and the interface that the user names."""
    lab.good()
    await record(lab.cluster, by_hand(nic="net1"), FEATURES)

    holder = lab.cluster.all(SpiderIP)[0].spec.holder
    assert ("sandbox-9", "net1") == (holder.container_id, holder.nic)


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"pod": "nobody"}, InvalidRequest, "pod ns/nobody does not exist"),
        ({"node": "node2"}, InvalidRequest, "is on node node1, not on node2; correct --node"),
        ({"ip": parse_address("10.9.0.1")}, InvalidRequest, "10.9.0.1 is in no pool"),
        (
            {"ip": parse_address("10.6.0.11"), "nic": "net1"},
            AlreadyExists,
            "10.6.0.11 is held by ns/other from pool blue; release it first",
        ),
        ({"pod": "ended"}, InvalidRequest, "pod ns/ended has ended"),
        (
            {"ip": parse_address("10.6.0.12")},
            InvalidRequest,
            "ns/web-1 holds 10.6.0.10 on eth0 already; release that first",
        ),
    ],
)
async def test_set_refuses(
    lab: Lab, more: dict[str, Any], error: type[Exception], words: str
) -> None:
    """What makes no sense is refused with its reason."""
    lab.good()
    lab.seed(make_record("10.6.0.11", facts=make_facts(pod=make_pod("other", uid="uid-2"))))
    lab.seed(make_pod("ended", uid="uid-3", phase="Succeeded", restart="Never"))
    with pytest.raises(error) as raised:
        await record(lab.cluster, by_hand(**more), FEATURES)
    assert words in str(raised.value)


# --- gc
# ---------------------------------------------------------------------------------------------------------------------


async def test_gc(lab: Lab) -> None:
    """
    A plan changes nothing.

    Applied, leaks and orphaned endpoints are gone and missing endpoints are written.
    """
    lab.good()
    await lab.cluster.delete(SpiderEndpoint, "web-1", "ns")
    leak = make_record("10.6.0.11", facts=make_facts(pod=make_pod("gone", uid="uid-2")))
    lab.seed(leak, endpoint_of([leak], make_pod("gone", uid="uid-2"), DEPLOYMENT))
    steps = gc.planned(await read_snapshot(lab.cluster, None))

    assert [("Leak", "10.6.0.11", "planned"), ("Endpoint", "ns/web-1", "planned")] == [
        (step.kind, step.subject, step.outcome) for step in steps
    ]
    assert 2 == len(lab.cluster.all(SpiderIP))

    await gc.remedy(lab.cluster, await read_snapshot(lab.cluster, None))
    await gc.remedy(lab.cluster, await read_snapshot(lab.cluster, None))

    assert ["10.6.0.10"] == [found.spec.ip for found in lab.cluster.all(SpiderIP)]
    assert ["web-1"] == [found.metadata.name for found in lab.cluster.all(SpiderEndpoint)]
    assert 0 == (await lab.check()).exit_code


async def test_gc_leaves_an_endpoint_that_remembers(lab: Lab) -> None:
    """
    A living pod's record was lost.

    Its endpoint is what the agent makes it from again, and stays.
    """
    record = lab.good()
    lab.cluster.drop(SpiderIP, record.metadata.name)

    reading = await read_snapshot(lab.cluster, None)
    (step,) = await gc.remedy(lab.cluster, reading)
    (difference,) = [each for each in (await lab.check()).differences if each.kind is Kind.ENDPOINT]

    assert "failed" == step.outcome
    assert "the endpoint is what they are made from" in step.detail
    assert 1 == len(lab.cluster.all(SpiderEndpoint))
    assert (
        "kubectl --namespace spider rollout restart daemonset spiderpool-agent" == difference.remedy
    )


async def test_gc_corrects_an_endpoint(lab: Lab) -> None:
    """
    One that was edited is as its node's agent writes it.

    Labels of others stay, a former version's finalizer goes.
    """
    lab.good()
    (shown,) = lab.cluster.all(SpiderEndpoint)
    other = endpoint_of([make_record("10.6.0.12")], make_pod(), DEPLOYMENT)
    assert other is not None
    meta = replace(shown.metadata, labels={"team": "a"}, finalizers=("spiderpool.spidernet.io",))
    await lab.cluster.replace(replace(shown, metadata=meta, status=other.status))

    assert ["done"] == [
        step.outcome
        for step in await gc.remedy(lab.cluster, await read_snapshot(lab.cluster, None))
    ]
    assert 0 == (await lab.check()).exit_code
    (repaired,) = lab.cluster.all(SpiderEndpoint)
    assert {"team": "a", "ipam.spidernet.io/node": "node1"} == repaired.metadata.labels
    assert () == repaired.metadata.finalizers


async def test_gc_goes_on_after_a_failure(lab: Lab) -> None:
    """What cannot be repaired is told and does not stop the next."""
    for number in (1, 2):
        lab.seed(
            make_record(
                f"10.6.0.1{number}",
                facts=make_facts(pod=make_pod(f"gone-{number}", uid=f"uid-{number}")),
            )
        )
    reading = await read_snapshot(lab.cluster, None)
    lab.cluster.faults.fail_next("delete", SpiderIP, Forbidden("not yours"))

    assert ["failed not yours", "done"] == [
        f"{step.outcome} {step.detail}" if step.outcome is gc.Outcome.FAILED else str(step.outcome)
        for step in await gc.remedy(lab.cluster, reading)
    ]


def test_gc_refuses() -> None:
    """Options that make no sense, and judging by half of the facts."""
    with pytest.raises(InvalidRequest, match="no controller is asked"):
        gc.check_options(plan=False, apply=True, address="10.6.0.1:5720")
    with pytest.raises(InvalidRequest, match="exclude each other"):
        gc.check_options(plan=True, apply=True, address="")
    with pytest.raises(InvalidRequest, match="pods: not yours"):
        gc.refuse_gaps((Unread("pods", "not yours"),))


# --- explain
# ----------------------------------------------------------------------------------------------------------------


def network(
    name: str, ipam: dict[str, Any], namespace: str = "spider"
) -> NetworkAttachmentDefinition:
    """Make a network whose plugin is in a list."""
    plugins = [{"type": "macvlan", "ipam": ipam}, {"type": "tuning"}]
    config = msgspec.json.encode({"cniVersion": "0.3.1", "plugins": plugins}).decode()
    document = {"metadata": {"name": name, "namespace": namespace}, "spec": {"config": config}}
    return msgspec.convert(document, NetworkAttachmentDefinition)


async def test_explain(lab: Lab) -> None:
    """Pools in their order with their numbers, the others with their reasons, and what the pod holds."""
    lab.good()
    lab.seed(
        make_ippool("green", "10.7.0.0/16", ips=["10.7.0.1-10.7.0.5"]),
        make_ippool("red", disable=True),
    )
    lab.seed(
        network("main", {"type": "spiderpool", "default_ipv4_ippool": ["blue", "green", "red"]})
    )
    told = await explain_live(lab.cluster, lab.cluster.all(Pod)[0], DEPLOYMENT)

    (slot,) = told.slots
    assert ("eth0", 4, "CNI configuration", "10.6.0.10") == (
        slot.nic,
        slot.family,
        slot.source,
        slot.address,
    )
    assert "holds 10.6.0.10 of blue, pool 1 of 2 in its order" == slot.answer
    assert [("blue", 9), ("green", 5)] == [(usage.pool, usage.free) for usage in slot.pools]
    assert ("red: disabled",) == slot.refused


async def test_explain_a_rule_that_only_the_node_can_judge(lab: Lab) -> None:
    """Pools are judged by the other rules, and a note tells of this one."""
    lab.seed(make_ippool())
    ipam = {"type": "spiderpool", "default_ipv4_ippool": ["blue"], "match_master_subnet": True}
    lab.seed(network("main", ipam))
    told = await explain_live(lab.cluster, make_pod(), DEPLOYMENT)

    assert ["would get an address of blue"] == [slot.answer for slot in told.slots]
    (note,) = told.notes
    assert note == (
        "eth0: match_master_subnet: a pool without multusName is used only if the NIC's master "
        "has an address in its subnet; only the node knows these addresses"
    )


async def test_explain_what_cannot_start(lab: Lab) -> None:
    """The words of the refusal that an ADD would give."""
    lab.seed(network("main", {"type": "spiderpool", "default_ipv4_ippool": ["purple"]}))
    told = await explain_live(lab.cluster, make_pod(), DEPLOYMENT)

    assert () == told.slots
    assert (
        'eth0: wrong input: CNI configuration: IPPool "purple" does not exist; create it or correct the name',
    ) == told.problems


async def test_explain_several_networks(lab: Lab) -> None:
    """One slot for each NIC that is ours; of the others it says whose they are."""
    lab.seed(
        make_ippool(), network("main", {"type": "spiderpool", "default_ipv4_ippool": ["blue"]})
    )
    lab.seed(
        network("local", {"type": "host-local"}, "ns"),
        network("more", {"type": "spiderpool"}, "ns"),
    )
    lab.seed(make_ippool("default", "10.8.0.0/16", ips=["10.8.0.1"], default=True))
    pod = make_pod(annotations={"k8s.v1.cni.cncf.io/networks": "local,more,missing"})
    told = await explain_live(lab.cluster, pod, DEPLOYMENT)

    assert [
        ("eth0", "would get an address of blue"),
        ("net2", "would get an address of default"),
    ] == [(slot.nic, slot.answer) for slot in told.slots]
    assert (
        "net1: network ns/local gets its addresses from host-local, not from Spiderpool",
        "net3: network ns/missing has no definition with an IPAM that could be read",
    ) == told.notes


async def test_explain_a_full_pool(lab: Lab) -> None:
    """The pod waits."""
    lab.seed(
        make_ippool(ips=["10.6.0.10"]),
        make_record(facts=make_facts(pod=make_pod("other", uid="uid-2"))),
    )
    lab.seed(network("main", {"type": "spiderpool", "default_ipv4_ippool": ["blue"]}))
    told = await explain_live(lab.cluster, make_pod(), DEPLOYMENT)
    assert ["waits: all pools that it may use are full"] == [slot.answer for slot in told.slots]


@pytest.mark.parametrize(
    ("pool", "answer"),
    [
        (make_ippool(disable=True), "gets nothing: no pool that it may use"),
        (
            make_ippool(annotations={}, status={"allocatedIPs": "{}"}),
            "waits: its pool is not ready yet",
        ),
    ],
)
async def test_explain_without_a_pool(lab: Lab, pool: SpiderIPPool, answer: str) -> None:
    """A pool that is only not usable yet makes the pod wait."""
    lab.seed(pool, network("main", {"type": "spiderpool", "default_ipv4_ippool": ["blue"]}))
    assert [answer] == [
        slot.answer for slot in (await explain_live(lab.cluster, make_pod(), DEPLOYMENT)).slots
    ]


async def test_explain_automatic_pools(lab: Lab) -> None:
    """A pod of an application gets the pool that was made for it; before that it waits."""
    conf = {
        "metadata": {"name": "my-conf", "namespace": "spider"},
        "data": {"conf.yml": CONF + AUTOMATIC},
    }
    lab.seed(msgspec.convert(conf, ConfigMap), network("main", {"type": "spiderpool"}))
    pod = make_pod(annotations={"ipam.spidernet.io/subnet": {"ipv4": ["s1"]}})
    (waiting,) = (await explain_live(lab.cluster, pod, DEPLOYMENT)).slots

    spec = SubnetSpec(ip_version=4, subnet="10.1.0.0/16", ips=("10.1.0.1-10.1.0.9",))
    plan = PoolPlan(
        name="auto4-web",
        app=App(DEPLOYMENT, "ns"),
        nic="eth0",
        subnet=Subnet.parse(SpiderSubnet(metadata=ObjectMeta(name="s1"), spec=spec)),
        ips=parse_ranges(4, ["10.1.0.1-10.1.0.3"]),
        number=IPNumber(1, flexible=True),
        reclaim=True,
    )
    made = build_pool(plan)
    lab.seed(replace(made, metadata=replace(made.metadata, annotations={ANNO_IMPORTED: "true"})))
    (given,) = (await explain_live(lab.cluster, pod, DEPLOYMENT)).slots

    assert "waits: its pool is not ready yet" == waiting.answer
    assert ("would get an address of auto4-web", "annotation ipam.spidernet.io/subnet") == (
        given.answer,
        given.source,
    )


@pytest.mark.parametrize(
    ("name", "uid", "ip"), [("db-1", "uid-1", "10.6.0.12"), ("db-0", "", "10.6.0.11")]
)
async def test_explain_pinned_addresses(lab: Lab, name: str, uid: str, ip: str) -> None:
    """
    A list of addresses is for the ordinals of a StatefulSet.

    Each pod asks for its own, a manifest's for the first.
    """
    lab.seed(
        make_ippool(), network("main", {"type": "spiderpool", "default_ipv4_ippool": ["blue"]})
    )
    if uid:
        lab.seed(make_statefulset())
    pod = make_pod(name, uid=uid, annotations={"ipam.spidernet.io/ip": "10.6.0.11,10.6.0.12"})
    (slot,) = (await explain_live(lab.cluster, pod, STATEFULSET)).slots
    assert f"asks for {ip} of blue" == slot.answer


async def test_explain_keeps_what_it_has(lab: Lab) -> None:
    """An address whose pool the pod may not use any more stays."""
    lab.good()
    lab.seed(make_ippool("green", "10.7.0.0/16", ips=["10.7.0.1-10.7.0.5"]))
    lab.seed(network("main", {"type": "spiderpool", "default_ipv4_ippool": ["green"]}))
    told = await explain_live(lab.cluster, lab.cluster.all(Pod)[0], DEPLOYMENT)
    assert [
        "holds 10.6.0.10 of blue: it keeps what it has, though it does not ask for it any more"
    ] == [slot.answer for slot in told.slots]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("a", "", True), "give --filename, and no POD"),
        (("", "", True), "give --filename, and no POD"),
        (("a", "x.yaml", False), "add --dry-run"),
        (("", "", False), "name a pod"),
    ],
)
def test_explain_refuses(options: tuple[str, str, bool], words: str) -> None:
    """Options that do not go together."""
    with pytest.raises(InvalidRequest, match=words):
        check_options(options[0], options[1], dry_run=options[2])


DEPLOYMENT_MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  template:
    metadata:
      labels: {app: web}
      annotations: {ipam.spidernet.io/ippool: '{"ipv4":["blue"]}'}
    spec: {containers: []}
"""


def test_pod_of_a_manifest() -> None:
    """
    The first workload of the file.

    Its template, its namespace, the node that the user thinks of.
    """
    pod, owner = read_pod(DEPLOYMENT_MANIFEST, "default", "node1")

    assert ("shop", "node1", {"app": "web"}) == (
        pod.metadata.namespace,
        pod.spec.node_name,
        pod.metadata.labels,
    )
    assert ("apps/v1", "Deployment", "web") == (owner.api_version, owner.kind, owner.name)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Pod", "web"), ("StatefulSet", "web-0"), ("CronJob", "web-"), ("DaemonSet", "web-")],
)
def test_pods_of_workloads(kind: str, name: str) -> None:
    """Each kind keeps its template where Kubernetes has it."""
    template = {"metadata": {}, "spec": {"nodeName": "node2"}}
    spec = {
        "Pod": template["spec"],
        "CronJob": {"jobTemplate": {"spec": {"template": template}}},
    }.get(kind, {"template": template})
    document = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web"}, "spec": spec}
    pod, _ = read_pod(msgspec.json.encode(document).decode(), "ns")

    assert (name, "ns", "node2") == (pod.metadata.name, pod.metadata.namespace, pod.spec.node_name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("kind: Service", "has no Pod and none of Deployment"),
        ("kind: Deployment\nspec: {}", "has no spec.template"),
        ("kind: Pod\nspec: {nodeName: [1]}", "the manifest's Pod"),
    ],
)
def test_manifests_that_make_no_pod(text: str, words: str) -> None:
    """Each is refused with its reason."""
    with pytest.raises(InvalidRequest, match=words):
        read_pod(text, "ns")


# --- the command line
# -------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the command line against the cluster in memory; gives exit code and output."""

    async def connected(work: Any) -> int:
        return int(await work(lab.cluster))

    monkeypatch.setattr(session, "_connected", connected)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main.app, words)
        return result.exit_code, result.output

    return run


def test_command_show(lab: Lab, command: Any) -> None:
    """A table with one line an address."""
    lab.good()
    code, text = command("ip", "show")

    assert 0 == code
    assert [
        "ADDRESS",
        "POOL",
        "STATE",
        "HOLDER",
        "NIC",
        "NODE",
        "STATIC",
        "SINCE",
    ] == text.splitlines()[0].split()
    assert ["10.6.0.10", "blue", "Held", "ns/web-1", "eth0", "node1", "no"] == text.splitlines()[
        1
    ].split()[:7]


def test_command_check(lab: Lab, command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each difference with cause and fix, then what was compared; the exit code says it too."""
    monkeypatch.setattr("spiderpool.cli.commands.check.asking_for_interfaces", lambda _: lab.ask)
    lab.good()
    assert (0, True) == ((found := command("check"))[0], found[1].startswith("all agree ("))

    lab.uses()
    monkeypatch.setattr("spiderpool.cli.commands.check.Snapshot.lag_s", 0.0)
    code, text = command("check")

    assert 1 == code
    assert [
        "NotAssigned 10.6.0.10: held by pod ns/web-1 on eth0; the pod has nothing",
        "    cause: the address was taken off the interface, or the interface was never made",
        "    fix:   kubectl --namespace ns delete pod web-1",
    ] == text.splitlines()[:3]
    assert (
        "NotAssigned"
        == msgspec.json.decode(command("check", "-o", "json")[1])["differences"][0]["kind"]
    )


def test_command_json(lab: Lab, command: Any) -> None:
    """The same as JSON."""
    lab.good()
    code, text = command("ip", "show", "--pool", "blue", "-o", "json")
    shown = msgspec.json.decode(text)

    assert (0, "10.6.0.10", 9) == (code, shown["addresses"][0]["ip"], shown["pool"]["free"])


def test_command_refusal(lab: Lab, command: Any) -> None:
    """An error is one line and exit code 1."""
    lab.good()
    code, text = command("ip", "release", "--ip", "10.6.0.10")
    assert 1 == code
    assert text.startswith("spiderpoolctl: 10.6.0.10 stays with ns/web-1")


def test_command_gc(lab: Lab, command: Any) -> None:
    """Nothing to do is a sentence."""
    lab.good()
    assert (0, "nothing to do: every address has a holder, every endpoint is right\n") == command(
        "gc"
    )


def test_command_help(command: Any, tmp_path: Any) -> None:
    """Every command describes itself, and all of them go into one file."""
    path = tmp_path / "main.md"
    assert 0 == command("generate-markdown", "--markdown-path", str(path))[0]

    text = path.read_text()
    for name in ("check", "gc", "explain", "ip show", "ip release", "ip set"):
        assert f"spiderpoolctl {name}\n" in text
    assert "| `--ip` | required | The address. |" in text
    assert "| `--output, -o` | `table` | Table or JSON. |" in text
    assert "| argument | meaning |\n|---|---|\n| `POD` | " in text


def test_way_to_the_api_server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBECONFIG, else the file in the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert session.find_kubeconfig() is None

    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text("")
    assert str(tmp_path / ".kube" / "config") == session.find_kubeconfig()

    monkeypatch.setenv("KUBECONFIG", "/elsewhere")
    assert session.find_kubeconfig() is None


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ('{"plugins":5}', ""),
        (
            '{"cniVersion":"0.3.1","type":"macvlan","ipam":{"type":"spiderpool","default_ipv4_ippool":5}}',
            "eth0: ipam.default_ipv4_ippool is the number 5, write a list of strings",
        ),
        (
            '{"cniVersion":"0.3.1","type":"macvlan","ipam":{"type":"spiderpool","default_ipv6_ippool":"blue"}}',
            'eth0: ipam.default_ipv6_ippool is the string "blue", write a list of strings',
        ),
        (
            '{"type":"macvlan","ipam":{"type":"spiderpool"}}',
            "eth0: incompatible CNI versions; config is '0.1.0', spiderpool supports 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
    ],
)
async def test_explain_of_a_network_that_is_wrong(lab: Lab, config: str, problem: str) -> None:
    """
    A wrong value is told with the words of the agent.

    A configuration may have no IPAM of ours.
    """
    spec = {"config": config}
    definition = {"metadata": {"name": "main", "namespace": "spider"}, "spec": spec}
    lab.seed(make_ippool(default=True), msgspec.convert(definition, NetworkAttachmentDefinition))
    told = await explain_live(lab.cluster, make_pod(), DEPLOYMENT)

    if problem:
        assert (problem,) == told.problems
    else:
        assert (
            "eth0: network spider/main has no definition with an IPAM that could be read",
        ) == told.notes
