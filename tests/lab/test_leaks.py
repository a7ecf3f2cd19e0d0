"""
Leaks made on purpose, one of each kind: `spiderpoolctl check` names every one, and all are given back within a minute.

What is found and ended on real nodes (another sandbox, addresses on interfaces without a record, a
pool deleted by force) is in `test_spiderpoolctl`; an agent that is killed between two writes in
`test_crashes`; a finished pod in `test_reclaim`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest

from spiderlab import Lab
from spiderpool.audit.comparison import Kind
from tests.fakes.mutations import IP, NAMESPACE_POOLS, NETWORKS, VALID, slips
from tests.lab import audit, manifests
from tests.lab.hostagent import Answer, HostAgent, Sandbox, paper_pod, spec_for, vanish
from tests.lab.kube import Kube
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, ROUTES
from tests.lab.networks import IPAddress
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story
from tests.lab.test_reclaim import (
    OUT_OF_SERVICE,
    in_use,
    is_ready,
    node_of_paper,
    pod_with_address,
)

pytestmark = pytest.mark.still

READY: Final = "leaks-ready"
LOST: Final = "leaks-lost"
WITHIN_S: Final = 60.0
WRITTEN: Final = tuple((key, text) for key, text in VALID if key != NAMESPACE_POOLS)
READ_BY_ADD: Final = (IPPOOLS, IPPOOL, IP, ROUTES, NETWORKS)
NOBODY: Final = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def agent(kube: Kube, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostAgent]:
    """Return the agent of a node that stays Ready."""
    with node_of_paper(kube, lab, READY, tmp_path_factory.mktemp(READY)) as (_, agent):
        yield agent
        agent.stop()


class Leaks:
    """Records that nobody stands behind, of one pool; each has an address of its own."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.pool = story.pool("p", count=24)
        first = ip_address(
            story.kube.need("SpiderIPPool", self.pool)["spec"]["ips"][0].partition("-")[0]
        )
        self._free = [first + offset for offset in range(24)][::-1]
        self.made: dict[str, IPAddress] = {}

    def take(self) -> IPAddress:
        """Return an address that nobody has."""
        held = {record.ip for record in self.story.records(states=("Held", "Cooling"))}
        while (ip := self._free.pop()) in held:
            pass
        return ip

    def record(self, why: str, *, static: bool = False, **holder: str) -> None:
        """Write a record as an agent would have: its holder is what the caller says of it."""
        ip = self.take()
        whole = {
            "kind": "Pod",
            "namespace": self.story.namespace,
            "uid": NOBODY,
            "nic": "eth0",
            "node": READY,
            **holder,
        }
        spec = {
            "ip": str(ip),
            "pool": self.pool,
            "family": 4,
            "prefixLength": 16,
            "state": "Held",
            "holder": whole,
        }
        labels = {"ipam.spidernet.io/ippool": self.pool}
        labels |= {"ipam.spidernet.io/node": whole["node"]} if whole["node"] else {}
        thing = {
            "kind": "SpiderIP",
            "metadata": {"name": str(ip), "labels": labels},
            "spec": {**spec, "static": static},
        }
        self.story.kube.create(thing)
        self.made[why] = ip


def test_each_kind_is_found_and_given_back(story: Story, lab: Lab, agent: HostAgent) -> None:
    """
    Each leak is named by the audit, and given back within a minute; a living pod beside them keeps its address.

    DEL lost, record only, wrong UID, namespace gone, owner gone, scaled down, node gone, imported
    without a pod, endpoint only; one key twice.
    """
    leaks = Leaks(story)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [leaks.pool]}}
    living, kept = pod_with_address(story, agent, "living", annotations)
    unheard, leaks.made["DEL lost"] = pod_with_address(story, agent, "unheard", annotations)
    namesake = paper_pod(story, READY, "namesake", annotations)
    _stateful_set(story, "small", 0, annotations)

    with in_use(kept):
        vanish(unheard)
        leaks.record("record only", name="never-was")
        leaks.record("wrong UID", name="namesake")
        leaks.record("namespace gone", name="pod", namespace="no-such-namespace")
        leaks.record("owner gone", name="gone-0", static=True)
        leaks.record("scaled down", name="small-1", static=True)
        leaks.record("node gone", name="pod", node="no-such-node")
        leaks.record("imported without a pod", name="unknown", nic="", node="")
        left = _endpoint(story, "left-0")

        _all_are_named(
            lab, {str(ip): why for why, ip in leaks.made.items()} | {left: "endpoint only"}
        )
        until(
            lambda: {record.ip for record in story.records()} == {kept},
            "all is back",
            within_s=WITHIN_S,
            seen=story.records,
        )

        leaks.record("one key twice", name="living", uid=living.uid)
        pair = ", ".join(map(str, sorted([kept, leaks.made["one key twice"]])))
        until(
            lambda: audit.find(lab, Kind.DUPLICATE_CLAIM, pair),
            "the audit names the two",
            seen=lambda: audit.complaints(lab),
        )
        until(
            lambda: {record.ip for record in story.records()} == {kept},
            "the idle one is back",
            within_s=WITHIN_S,
        )
        until_none(
            lambda: story.kube.get("SpiderEndpoint", "left-0", story.namespace),
            "no endpoint is left",
            within_s=WITHIN_S,
        )

    vanish(living, namesake)
    until_none(story.records, "nothing is held", within_s=WITHIN_S)


def _all_are_named(lab: Lab, wanted: dict[str, str]) -> None:
    """
    Read the sources until the audit has named everything at least once.

    Each is given back in its own time.
    """
    named: set[str] = set()

    def all_are() -> bool:
        subjects = (line.split()[1].rstrip(":") for line in audit.complaints(lab))
        named.update(wanted[subject] for subject in subjects if subject in wanted)
        return named == set(wanted.values())

    until(
        all_are,
        "the audit names every leak",
        within_s=20,
        seen=lambda: set(wanted.values()) - named,
    )


def _stateful_set(
    story: Story, name: str, replicas: int, annotations: Mapping[str, Any], **spec: Any
) -> None:
    """Make a StatefulSet whose pods nothing evicts."""
    manifest = manifests.workload(
        "StatefulSet", name, story.namespace, replicas, annotations, spec_for(**spec)
    )
    story.kube.create(
        {
            **manifest,
            "spec": {**manifest["spec"], "serviceName": name, "podManagementPolicy": "Parallel"},
        }
    )


def _endpoint(story: Story, name: str) -> str:
    """
    Make the endpoint of a StatefulSet's pod that is nowhere.

    Gives its name as the audit has it.
    """
    current = {
        "uid": NOBODY,
        "node": READY,
        "ips": [{"interface": "eth0", "ipv4": "10.6.199.1/16", "ipv4Pool": "nowhere"}],
    }
    status = {
        "current": current,
        "ownerControllerType": "StatefulSet",
        "ownerControllerName": "left",
    }
    story.kube.create(
        {
            "kind": "SpiderEndpoint",
            "metadata": {"name": name, "namespace": story.namespace},
            "status": status,
        }
    )
    return f"{story.namespace}/{name}"


def test_scaled_down_while_the_node_is_down(
    story: Story, kube: Kube, lab: Lab, tmp_path: Path
) -> None:
    """
    A StatefulSet that is scaled down while its pod's node is out of service gets the address back.

    What it still wants it keeps.
    """
    pool = story.pool("p", count=4)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    with node_of_paper(kube, lab, LOST, tmp_path) as (node, agent):
        _stateful_set(story, "db", 2, annotations, selector={"kubernetes.io/hostname": LOST})
        pods = []
        for name in ("db-0", "db-1"):
            pod = until(lambda n=name: _bound(story, n), f"{name} has its node")
            answer = until(lambda p=pod: agent.add(Sandbox(p)), "the agent answers")
            pods.append((pod, {ip for _, ip in answer.pairs}))
            _make_ready(kube, pod)
        agent.stop()
        node.fall_silent()
        until(lambda: not is_ready(kube, LOST), "the node is lost", within_s=60)
        kube.patch("Node", LOST, OUT_OF_SERVICE)

        story.kube.patch("StatefulSet", "db", {"spec": {"replicas": 1}}, story.namespace)

        (_, kept), (_, gone) = pods
        until(
            lambda: audit.find(lab, Kind.LEAK, *gone),
            "the audit names it",
            seen=lambda: audit.complaints(lab),
        )
        until(
            lambda: {record.ip for record in story.records()} == kept,
            "it is back",
            within_s=WITHIN_S,
            seen=story.records,
        )
        story.kube.delete("StatefulSet", "db", story.namespace, propagationPolicy="Background")
        vanish(*(pod for pod, _ in pods))


def _bound(story: Story, name: str) -> Pod | None:
    """Return a pod that a controller made, once it has its node."""
    thing = story.kube.get("Pod", name, story.namespace)
    return Pod(story.kube, thing) if thing is not None and thing["spec"].get("nodeName") else None


def _make_ready(kube: Kube, pod: Pod) -> None:
    """Say of a pod what its kubelet would: that it runs and is ready."""
    condition = {"type": "Ready", "status": "True"}
    status = {"phase": "Running", "conditions": [condition]}
    kube.patch("Pod", pod.name, {"status": status}, pod.namespace, subresource="status")


def test_a_hundred_pods_of_one_name(story: Story, agent: HostAgent) -> None:
    """A pod that is made again a hundred times, its DELs late or lost, has one address each time, and never two hold one."""
    pool = story.pool("p", count=8)
    annotations = {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}}
    chance = Random(1)  # noqa: S311 - a story, no secret
    late: list[Sandbox] = []
    for _ in range(100):
        sandbox = Sandbox(paper_pod(story, READY, "same", annotations))
        answer = until(lambda s=sandbox: _given(agent, s), "it has an address", within_s=WITHIN_S)
        ((_, ip),) = answer.pairs
        assert [sandbox.pod.uid] == [record.uid for record in story.records() if record.ip == ip]
        vanish(sandbox.pod)
        late.append(sandbox)
        while late and chance.random() < 0.6:
            agent.delete(late.pop(chance.randrange(len(late))))
            if chance.random() < 0.1:
                break
        if chance.random() < 0.1 and late:
            late.pop()  # this DEL never comes
    for sandbox in late:
        agent.delete(sandbox)
    until_none(story.records, "nothing is held", within_s=WITHIN_S)


def _given(agent: HostAgent, sandbox: Sandbox) -> Answer | None:
    """Ask for an address; None while all are held by what went before."""
    answer = agent.add(sandbox)
    return answer if answer is not None and answer.status == 200 else None


def test_slips_in_annotations(story: Story, agent: HostAgent) -> None:
    """
    Twenty annotations with slips of the hand: an ADD gives an address, or a sentence that names the annotation.

    What the API server warns of when the pod is applied the agent cannot read. Nothing crashes; who
    is refused holds nothing.
    """
    pool, lan = story.pool("p", count=24), story.macvlan("lan")
    given, warnings = [], 0
    for seed in range(20):
        key, text = WRITTEN[seed % len(WRITTEN)]
        wrong = slips(text, Random(seed))  # noqa: S311 - slips, no secrets
        annotations = {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [pool]}, key: wrong}
        thing = story.kube.create(
            manifests.pod(f"slip{seed}", story.namespace, annotations, {}, spec_for(READY))
        )
        warned = [text for text in story.kube.warnings if "wrong input" in text]
        answer = agent.add(Sandbox(Pod(story.kube, thing)))
        assert answer is not None, f"the agent ended at {key}: {wrong}"
        given += [answer.status == 200]
        if answer.status != 200:
            assert isinstance(answer.body, str), answer
            assert [answer.body] == answer.body.splitlines()
            assert len(answer.body) > 20
        if warned and key in READ_BY_ADD:
            assert [True] == [key in text for text in warned]
            assert f"wrong input: annotation {key}: " in str(answer.body), (wrong, warned)
        warnings += len(warned)
    assert {True, False} == set(given)
    assert warnings > 5
    assert given.count(True) >= len({record.uid for record in story.records()})
    vanish(*(Pod(story.kube, thing) for thing in story.kube.list("Pod", story.namespace)))
    until_none(story.records, "nothing is held", within_s=WITHIN_S)
