"""`spiderpoolctl explain` and the agent: the same state of the cluster, the same answer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st
from msgspec.structs import replace

from spiderpool.agent.api.server import serve_cni
from spiderpool.agent.ipam.plugin import IpamPlugin
from spiderpool.agent.node.caller import Peer
from spiderpool.api.crd.group import (
    ANNO_IP,
    ANNO_IPPOOL,
    ANNO_IPPOOLS,
    ANNO_NETWORKS,
    ANNO_NS_DEFAULT_IPV4,
)
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import ConfigMap, NetworkAttachmentDefinition, Pod
from spiderpool.audit.pod_explanation import Explanation
from spiderpool.cli.agents import AgentPod
from spiderpool.cli.commands.explain import explain_live
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.pool import Pool
from tests import virtual_time
from tests.fakes.objects import (
    make_facts,
    make_ippool,
    make_namespace,
    make_pod,
    make_record,
    make_statefulset,
)
from tests.unit.agent.simulation import Agent, Simulation, new_simulation, sandbox_of, with_owner

IP_OF_NET_A: Final = "10.7.0.15/16"
CONF: Final = (
    "enableIPv4: true\nenableIPv6: true\nenableStatefulSet: true\nenableKubevirtStaticIP: true\n"
)
SUBNETS: Final = {"a": "10.6.0.0/16", "b": "10.7.0.0/16", "c": "fd00:6::/64", "d": "10.8.0.0/16"}
FREE: Final = {
    "a": "10.6.0.10-10.6.0.19",
    "b": "10.7.0.10-10.7.0.19",
    "c": "fd00:6::10-fd00:6::19",
    "d": "10.8.0.10",
}
NAMES: Final = st.sampled_from(
    [["a"], ["b", "a"], ["d", "a"], ["d"], ["[ab]"], ["a", "b", "d"], ["a", "a"], ["missing"], []]
)
# a call for two NICs may empty a pool of one address
LARGE: Final = NAMES.filter(lambda names: "d" not in names)
SIX: Final = st.lists(st.sampled_from(["c", "c*"]), max_size=1)


@dataclass(frozen=True, slots=True)
class State:
    """
    A cluster with one pod that is about to start.

    What there is besides node, namespace and agent.
    """

    pools: dict[str, dict[str, Any]]
    networks: dict[str, dict[str, Any]]
    reserved: list[str]
    full: list[str]
    annotations: dict[str, str] = field(default_factory=dict)
    of_namespace: dict[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    stateful: bool = False


def _seldom(*values: Any) -> st.SearchStrategy[Any]:
    """Choose nothing most of the time."""
    return st.sampled_from([None] * 4 * len(values) + list(values))


@st.composite
def states(draw: st.DrawFn) -> State:
    """
    Make a state.

    Many pools that are refused for one reason or another, and every way to ask for pools.
    """
    specs: dict[str, st.SearchStrategy[Any]] = {
        "default": st.booleans(),
        "disable": _seldom(True),
        "nodeName": _seldom(["node1"], ["node2"]),
        "namespaceName": _seldom(["ns"], ["other"]),
        "podAffinity": _seldom({"matchLabels": {"app": "web"}}, {"matchLabels": {"app": "db"}}),
        "multusName": _seldom(["main"], ["ns/net-a"]),
    }
    chosen = draw(st.sampled_from(["abcd", "abcd", "abcd", "abc", "d"]))
    pools = {
        name: {key: value for key, value in draw(st.fixed_dictionaries(specs)).items() if value}
        for name in chosen
    }
    further = draw(st.sampled_from([(), (), ("net-a",), ("net-a", "net-b")]))
    networks = {name: draw(ipams()) for name in ("main", *further)}
    return State(
        pools,
        networks,
        reserved=draw(
            st.lists(st.sampled_from(["nonsense", *FREE.values(), "10.6.0.12"]), max_size=2)
        ),
        full=draw(st.lists(st.sampled_from(["d"]), max_size=1)),
        annotations=draw(pod_annotations(further)),
        of_namespace=draw(_seldom({ANNO_NS_DEFAULT_IPV4: '["b"]'}, {ANNO_NS_DEFAULT_IPV4: "b"}))
        or {},
        further=further,
        stateful=draw(st.booleans()),
    )


@st.composite
def ipams(draw: st.DrawFn) -> dict[str, Any]:
    """Make the `ipam` object of a network."""
    ipam: dict[str, Any] = {"type": "spiderpool"}
    for key, names in (("default_ipv4_ippool", NAMES), ("default_ipv6_ippool", SIX)):
        if draw(st.booleans()):
            ipam[key] = draw(names)
    if draw(st.integers(0, 9)) == 0:
        ipam["clean_gateway"] = draw(st.sampled_from([True, "yes"]))
    return ipam


@st.composite
def pod_annotations(draw: st.DrawFn, further: tuple[str, ...]) -> dict[str, str]:
    """Make the annotations of a pod."""
    found: dict[str, str] = {}
    nics = ["eth0", *(f"net{number}" for number in range(1, len(further) + 1))]
    kind = draw(st.sampled_from(["none"] * 4 + [ANNO_IPPOOL, ANNO_IPPOOLS] * 2 + ["broken"]))
    if kind == ANNO_IPPOOL:
        found[kind] = json.dumps({"ipv4": draw(NAMES), "ipv6": draw(SIX)})
    if kind == ANNO_IPPOOLS:
        mine = draw(st.sampled_from([nics, nics[:1]]))
        found[kind] = json.dumps(
            [{"interface": nic, "ipv4": draw(LARGE), "ipv6": draw(SIX)} for nic in mine]
        )
    if kind == "broken":
        found[ANNO_IPPOOL] = "{"
    if draw(st.integers(0, 5)) == 0:
        found[ANNO_IP] = draw(
            st.sampled_from(["10.6.0.11", "10.6.0.12", '["10.6.0.13-10.6.0.14"]', "10.99.0.1"])
        )
    if further:
        ips = draw(st.sampled_from([{}, {}, {"ips": [IP_OF_NET_A]}]))
        found[ANNO_NETWORKS] = json.dumps(
            [{"name": name, **(ips if name == "net-a" else {})} for name in further]
        )
    return found


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    What one ADD of the agent gave.

    Pool and address of the NIC by family, or an error's words.
    """

    held: dict[int, tuple[str, str]] = field(default_factory=dict)
    words: str = ""


@given(states())
def test_explain_answers_what_the_agent_does(state: State) -> None:
    """
    Law.

    A NIC starts with the pools that explain names, or fails with the reasons that explain gives.
    """
    with TemporaryDirectory() as folder:
        virtual_time.run(_start(new_simulation(Path(folder)), state))


def _compare(nic: str, told: Explanation, outcome: Outcome, *, shared: bool) -> None:
    """Compare what was told about a NIC with what became of its ADD."""
    mine = [slot for slot in told.slots if shared or slot.nic == nic]
    problem = next((text for text in told.problems if text.startswith(f"{nic}: ")), None)
    fails = problem is not None or any(
        not slot.pools or slot.answer.startswith("waits") for slot in mine
    )
    event("refused" if problem else "fails" if fails else "starts")
    if problem is not None:
        assert f"{nic}: {outcome.words}" == problem
        return
    assert mine
    if fails:
        assert outcome.words
        empty = [slot for slot in mine if not slot.pools]
        assert all(
            reason.partition(": ")[2] in outcome.words for slot in empty for reason in slot.refused
        )
        return
    for slot in (slot for slot in mine if slot.nic == nic and not outcome.words):
        pool, ip = outcome.held[slot.family]
        assert slot.answer.startswith(
            (f"would get an address of {pool}", f"asks for {ip} of {pool}", f"holds {ip} of {pool}")
        )
    # somebody else's, or reserved
    assert not outcome.words or any(slot.answer.startswith("asks for") for slot in mine)


async def _start(simulation: Simulation, state: State) -> None:
    """Start the pod: before each NIC's ADD ask for an explanation."""
    pod = _seed(simulation, state)
    shared = ANNO_IPPOOLS in state.annotations  # one call asks for all NICs then
    env = {"SPIDERPOOL_POD_NAMESPACE": "spider", "MULTUS_CLUSTER_NETWORK": "spider/main"}
    async with simulation.agent(env=env) as agent:
        for nic, network in zip(("eth0", "net1", "net2"), ("main", *state.further), strict=False):
            told = await explain_live(
                simulation.cluster, pod, await TopOwners(simulation.cluster).of(pod)
            )
            ip = (
                IP_OF_NET_A
                if network == "net-a" and IP_OF_NET_A in state.annotations[ANNO_NETWORKS]
                else ""
            )
            _compare(
                nic,
                told,
                await _add(simulation, agent, pod, nic, state.networks[network], ip),
                shared=shared,
            )


def _seed(simulation: Simulation, state: State) -> Pod:
    """Fill the cluster; give the pod."""
    cluster = simulation.cluster
    namespace = make_namespace("ns")
    metadata = replace(namespace.metadata, annotations=state.of_namespace)
    cluster.drop(type(namespace), "ns")
    cluster.seed(replace(namespace, metadata=metadata))
    for name, spec in state.pools.items():
        pool = cluster.seed(make_ippool(name, SUBNETS[name], ips=[FREE[name]], **spec))
        if name in state.full:
            other = make_facts(pod=make_pod("other", uid="uid-other"))
            cluster.seed(make_record(FREE[name], Pool.parse(pool), other))
    if state.reserved:
        cluster.seed(
            msgspec.convert(
                {"metadata": {"name": "r"}, "spec": {"ips": state.reserved}}, SpiderReservedIP
            )
        )
    for name, ipam in state.networks.items():
        config = {"cniVersion": "1.0.0", "name": name, "type": "macvlan", "ipam": ipam}
        where = {"name": name, "namespace": "spider" if name == "main" else "ns"}
        document = {"metadata": where, "spec": {"config": json.dumps(config)}}
        cluster.seed(msgspec.convert(document, NetworkAttachmentDefinition))
    cluster.seed(make_statefulset("db"))
    cluster.seed(
        msgspec.convert(
            {
                "metadata": {"name": "spiderpool-conf", "namespace": "spider"},
                "data": {"conf.yml": CONF},
            },
            ConfigMap,
        )
    )
    cluster.seed(msgspec.convert(AGENT, AgentPod))
    pod = make_pod("db-1", uid="uid-1", labels={"app": "web"}, annotations=state.annotations)
    return cluster.seed(with_owner(pod) if state.stateful else pod)


AGENT: Final = {
    "metadata": {
        "name": "agent",
        "namespace": "spider",
        "labels": {"spiderpool.spidernet.io/one-object-per-address": "true"},
    },
    "spec": {
        "nodeName": "node1",
        "containers": [{"env": [{"name": "MULTUS_CLUSTER_NETWORK", "value": "spider/main"}]}],
    },
    "status": {"phase": "Running"},
}


async def _add(
    simulation: Simulation, agent: Agent, pod: Pod, nic: str, ipam: dict[str, Any], ip: str
) -> Outcome:
    """
    Let the plugin of a network ADD one NIC.

    The meta plugin tells it the address that the pod asks for.
    """
    name, namespace, uid = pod.metadata.name, pod.metadata.namespace, pod.metadata.uid
    args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};K8S_POD_UID={uid}{f';IP={ip}' if ip else ''}"
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": sandbox_of(pod),
        "CNI_NETNS": "/var/run/netns/none",
        "CNI_IFNAME": nic,
        "CNI_ARGS": args,
        "CNI_PATH": "/opt/cni/bin",
    }
    config = {"cniVersion": "1.0.0", "name": "some", "type": "macvlan", "ipam": ipam}
    plugin = IpamPlugin(agent.app.ipam, agent.app.detector)
    body = msgspec.json.encode({"plugin": "spiderpool", "env": env, "config": config})
    with Peer.of_process(os.getpid()) as peer:
        answer = await serve_cni({"spiderpool": plugin}, body, peer)
    if answer.exit_code:
        words: str = json.loads(answer.output)["msg"]
        return Outcome(words=words.removeprefix("spiderpool IP allocation error: "))
    records = [
        each
        for each in simulation.cluster.all(SpiderIP)
        if each.spec.holder.uid == uid and each.spec.holder.nic == nic
    ]
    return Outcome({each.spec.family: (each.spec.pool, each.spec.ip) for each in records})
