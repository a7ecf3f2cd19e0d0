"""
An agent that is killed with -9 at every point between two writes.

The call is repeated, and nothing is lost or left.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.hostagent import (
    Answer,
    HostAgent,
    PaperNode,
    Sandbox,
    clear_node,
    paper_pod,
    spec_for,
    vanish,
    write_kubeconfig,
)
from tests.lab.kube import Kube
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOLS, NETWORKS
from tests.lab.networks import ENS192, ENS224
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story
from tests.lab.wire import Moment, Wire

pytestmark = pytest.mark.still

HOST: Final = "kubernetes.io/hostname"
NODES: Final = ("crash-a", "crash-b")
ADDRESSES: Final = 4  # two NICs, two families

# Every write of a call, in order: what an agent can be cut off between. One object an address; the
# endpoint after the answer.
ADD_WRITES: Final = ["POST spiderips"] * ADDRESSES + ["POST spiderendpoints"]
DEL_WRITES: Final = ["PUT spiderips"] * ADDRESSES + ["DELETE spiderendpoints"]
HAND_OVER_WRITES: Final = ["PUT spiderips"] * ADDRESSES + ["POST spiderendpoints"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A node whose agent reaches the API server over a wire that can kill it."""

    node: str
    agent: HostAgent
    wire: Wire

    def ready(self) -> Stage:
        """Make sure that the agent serves, also after a test that failed."""
        self.wire.listen()
        if not self.agent.runs:
            self.agent.start()
        return self

    def kill_at(self, number: int, moment: Moment) -> None:
        """Have the agent killed at a write of the next call."""
        self.wire.arm(number, moment, self.agent.kill)

    def begin_again(self, moment: Moment) -> None:
        """Start the next agent; a write that is LATE arrives now."""
        self.wire.listen()
        self.agent.start()
        if moment is Moment.LATE:
            self.wire.deliver()

    def add(self, sandbox: Sandbox) -> Answer:
        """Make an ADD that succeeds."""
        answer = self.agent.add(sandbox)
        assert answer is not None, "the agent died"
        assert answer.status == 200, answer
        return answer

    def delete(self, sandbox: Sandbox) -> None:
        """Make a DEL that succeeds."""
        answer = self.agent.delete(sandbox)
        assert answer is not None, "the agent died"
        assert answer.status == 200, answer


@pytest.fixture(scope="module")
def _stages(
    kube: Kube, lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Stage]]:
    """Build two nodes."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_stage(kube, lab, node, tmp_path_factory.mktemp(node)))
            for node in NODES
        ]


@pytest.fixture
def stages(_stages: list[Stage], story: Story) -> list[Stage]:
    """Return two nodes without pods, also after a test that failed."""
    for stage in _stages:
        clear_node(story.kube, stage.node)
    return [stage.ready() for stage in _stages]


@contextmanager
def _stage(kube: Kube, lab: Lab, node: str, folder: Path) -> Iterator[Stage]:
    """Build a node."""
    with PaperNode(lab.kubeconfig, node), Wire(lab.kubeconfig) as wire:
        kubeconfig = write_kubeconfig(kube, node, folder / "kubeconfig", wire.url)
        agent = HostAgent(node, kubeconfig, folder)
        with agent:
            yield Stage(node, agent, wire)
            if agent.runs:
                agent.stop()


def two_nics(story: Story, count: int) -> dict[str, object]:
    """Make networks and pools, and give the annotations of a pod with two NICs in both families."""
    items = [
        {
            "interface": nic,
            "ipv4": [story.pool(f"{nic}-v4", underlay, 4, count)],
            "ipv6": [story.pool(f"{nic}-v6", underlay, 6, count)],
        }
        for nic, underlay in (("eth0", ENS192), ("net1", ENS224))
    ]
    return {
        DEFAULT_NETWORK: story.macvlan("lan"),
        NETWORKS: story.macvlan("storage", ENS224),
        IPPOOLS: items,
    }


def wait_endpoint(story: Story, pod: Pod) -> None:
    """Wait until a pod's endpoint is its own and shows all its addresses."""

    def is_right() -> bool:
        current = (
            (story.kube.get("SpiderEndpoint", pod.name, pod.namespace) or {})
            .get("status", {})
            .get("current", {})
        )
        shown = [
            item[key]
            for item in current.get("ips", [])
            for key in ("ipv4", "ipv6")
            if item.get(key)
        ]
        return current.get("uid") == pod.uid and len(shown) == ADDRESSES

    until(is_right, f"the endpoint of {pod} is right", within_s=10)


def wait_no_endpoint(story: Story, pod: Pod) -> None:
    """Wait until a pod has no endpoint."""
    until_none(
        lambda: story.kube.get("SpiderEndpoint", pod.name, pod.namespace),
        f"{pod} has no endpoint",
        within_s=10,
    )


def numbers_of(writes: list[str], moment: Moment) -> list[int]:
    """
    Return the writes to die at: each one.

    Of those on their way only the first and the last record, they are one story.
    """
    return (
        [1, ADDRESSES] if moment in {Moment.LATE, Moment.LAST} else list(range(1, len(writes) + 1))
    )


def committed_at(number: int, moment: Moment) -> int:
    """Return how many of the writes of addresses have happened when the agent dies at that write."""
    return min(ADDRESSES, number if moment is Moment.AFTER else number - 1)


@pytest.mark.parametrize("moment", Moment)
def test_add_is_cut_off_at_every_write(story: Story, stages: list[Stage], moment: Moment) -> None:
    """
    An ADD for four addresses is killed at each of its writes and repeated: the same addresses, four records, no fifth.

    Kubelet's way, a DEL of the failed sandbox and an ADD for a new one, gives the same addresses
    too.
    """
    stage = stages[0]
    annotations = two_nics(story, 2 * len(ADD_WRITES))
    clean = Sandbox(paper_pod(story, stage.node, "clean", annotations))
    assert ADDRESSES == len(stage.add(clean).pairs)
    wait_endpoint(story, clean.pod)
    assert ADD_WRITES == stage.wire.writes

    numbers = numbers_of(ADD_WRITES, moment)
    pods = [paper_pod(story, stage.node, f"pod-{number}", annotations) for number in numbers]
    sandboxes = [
        _cut_off_add(story, stage, pod, number, moment)
        for number, pod in zip(numbers, pods, strict=True)
    ]

    story.assert_clean()
    assert ADDRESSES * (1 + len(pods)) == len(story.records())
    vanish(clean.pod, *pods)
    for sandbox in (clean, *sandboxes):
        stage.delete(sandbox)
    assert [] == story.records()


def _cut_off_add(story: Story, stage: Stage, pod: Pod, number: int, moment: Moment) -> Sandbox:
    """Kill the agent at one write of an ADD, repeat the ADD, and give the sandbox that the pod has in the end."""
    sandbox = Sandbox(pod)
    stage.kill_at(number, moment)
    answer = stage.agent.add(sandbox)
    stage.agent.wait_dead()
    committed = story.sips_of(pod)
    assert (committed_at(number, moment), number > ADDRESSES) == (
        len(committed),
        answer is not None,
    )

    stage.begin_again(moment)
    again = stage.add(sandbox).pairs
    if moment is Moment.LAST:
        stage.wire.deliver()

    assert ADDRESSES == len(again)
    assert committed <= again == story.sips_of(pod)
    assert answer is None or answer.pairs == again
    stage.delete(sandbox)
    final = Sandbox(pod)
    assert again == stage.add(final).pairs == story.sips_of(pod)
    wait_endpoint(story, pod)
    return final


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER, Moment.LAST])
def test_del_is_cut_off_at_every_write(story: Story, stages: list[Stage], moment: Moment) -> None:
    """
    A DEL of four addresses is killed at each of its writes and repeated.

    Nothing is held, and no endpoint is left.
    """
    stage = stages[0]
    annotations = two_nics(story, len(DEL_WRITES))
    clean = _ending(story, stage, "clean", annotations)
    stage.wire.listen()
    stage.delete(clean)
    wait_no_endpoint(story, clean.pod)
    assert DEL_WRITES == stage.wire.writes
    vanish(clean.pod)

    for number in numbers_of(DEL_WRITES, moment):
        _cut_off_del(
            story, stage, _ending(story, stage, f"pod-{number}", annotations), number, moment
        )

    story.assert_clean()


def _ending(story: Story, stage: Stage, name: str, annotations: dict[str, object]) -> Sandbox:
    """Return the sandbox of a pod that has its addresses and is being deleted."""
    sandbox = Sandbox(paper_pod(story, stage.node, name, annotations))
    stage.add(sandbox)
    wait_endpoint(story, sandbox.pod)
    story.kube.delete("Pod", name, story.namespace, gracePeriodSeconds=60)
    return sandbox


def _cut_off_del(story: Story, stage: Stage, sandbox: Sandbox, number: int, moment: Moment) -> None:
    """Kill the agent at one write of a DEL, and repeat the DEL."""
    stage.kill_at(number, moment)
    answer = stage.agent.delete(sandbox)
    stage.agent.wait_dead()
    left = ADDRESSES - committed_at(number, moment)
    assert (left, number > ADDRESSES) == (len(story.sips_of(sandbox.pod)), answer is not None)

    stage.begin_again(moment)
    stage.delete(sandbox)
    if moment is Moment.LAST:
        stage.wire.deliver()

    assert set() == story.sips_of(sandbox.pod)
    wait_no_endpoint(story, sandbox.pod)
    vanish(sandbox.pod)


def test_calls_that_nobody_repeats(story: Story, stages: list[Stage]) -> None:
    """
    An ADD and a DEL are cut off, and nobody comes back to them.

    The controller asks the node's agent, when it is back, for what is left.
    """
    stage = stages[0]
    annotations = two_nics(story, 4)
    ending = _ending(story, stage, "ending", annotations)
    stage.kill_at(2, Moment.AFTER)
    assert stage.agent.delete(ending) is None
    stage.agent.wait_dead()
    stage.begin_again(Moment.AFTER)
    starting = Sandbox(paper_pod(story, stage.node, "starting", annotations))
    stage.kill_at(3, Moment.AFTER)
    assert stage.agent.add(starting) is None
    stage.agent.wait_dead()
    assert ADDRESSES - 2 == len(story.sips_of(ending.pod))
    # One of the three writes may have been that of the other pod's endpoint.
    assert len(story.sips_of(starting.pod)) in {2, 3}

    vanish(ending.pod, starting.pod)

    # The node is Ready and its agent is dead: silence is no consent, what is left waits for the agent
    # (decision 0011).
    stage.begin_again(Moment.AFTER)
    until_none(story.records, "what is left is taken back", within_s=75)


@pytest.mark.parametrize("moment", [Moment.BEFORE, Moment.AFTER])
def test_hand_over_is_cut_off_at_every_write(
    story: Story, stages: list[Stage], moment: Moment
) -> None:
    """
    A StatefulSet's pod moves from node to node; each time the new node's agent is killed at another write of the hand-over.

    The repeated ADD gives the addresses that the pod had from the beginning.
    """
    annotations = two_nics(story, 2)
    spec = spec_for(selector={HOST: stages[0].node})
    more = {"serviceName": "db", "updateStrategy": {"type": "OnDelete"}}
    story.kube.create(
        manifests.workload("StatefulSet", "db", story.namespace, 1, annotations, spec, **more)
    )
    sandbox = Sandbox(_bound(story, stages[0]))
    first = stages[0].add(sandbox).pairs
    wait_endpoint(story, sandbox.pod)

    for number in range(len(HAND_OVER_WRITES) + 1):
        old, new = stages[number % 2], stages[(number + 1) % 2]
        sandbox = _move(story, sandbox, old, new)
        if number:
            _cut_off_hand_over(story, new, sandbox, number, moment)
        assert first == new.add(sandbox).pairs == story.sips_of(sandbox.pod)
        wait_endpoint(story, sandbox.pod)
        if not number:
            # When the endpoint is there already, which the old node's agent decides meanwhile, a
            # PUT follows.
            assert HAND_OVER_WRITES == new.wire.writes[: len(HAND_OVER_WRITES)]

    assert {new.node} == {record.node for record in story.records()}
    story.assert_clean()
    story.kube.delete("StatefulSet", "db", story.namespace, propagationPolicy="Orphan")
    vanish(sandbox.pod)


def _bound(story: Story, stage: Stage, *, other_than: str = "") -> Pod:
    """Wait until the StatefulSet has a pod on a node that is not the earlier one, and give it."""

    def found() -> list[Pod]:
        things = story.kube.list(
            "Pod", story.namespace, labels="app=db", fields=f"spec.nodeName={stage.node}"
        )
        return [
            Pod(story.kube, thing) for thing in things if thing["metadata"]["uid"] != other_than
        ]

    return until(found, f"db-0 is bound to {stage.node}", seen=story.words)[0]


def _move(story: Story, sandbox: Sandbox, old: Stage, new: Stage) -> Sandbox:
    """Have the StatefulSet make its pod again on another node, as kubelet and runtime of the old one see it."""
    change = {"spec": {"template": {"spec": {"nodeSelector": {HOST: new.node}}}}}
    story.kube.patch("StatefulSet", "db", change, story.namespace)
    story.kube.delete("Pod", sandbox.pod.name, story.namespace, gracePeriodSeconds=60)
    old.delete(sandbox)
    vanish(sandbox.pod)
    return Sandbox(_bound(story, new, other_than=sandbox.pod.uid))


def _cut_off_hand_over(
    story: Story, stage: Stage, sandbox: Sandbox, number: int, moment: Moment
) -> None:
    """Kill the agent at one write of an ADD that takes addresses over."""
    before = {(record.nic, record.ip) for record in story.records()}
    stage.kill_at(number, moment)
    answer = stage.agent.add(sandbox)
    stage.agent.wait_dead()
    taken_over = story.sips_of(sandbox.pod)
    assert (committed_at(number, moment), number > ADDRESSES) == (
        len(taken_over),
        answer is not None,
    )
    assert before == {(record.nic, record.ip) for record in story.records()}
    stage.begin_again(moment)
