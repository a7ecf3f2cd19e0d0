"""
Etcd comes back from a backup, without a revision bump: the store is behind what everybody has seen.

Kubernetes' own programs are started again, as its documentation asks; ours go on.
Source: Kubernetes, "Operating etcd clusters", restoring.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

from spiderlab import Lab, paths
from spiderlab.controlplane import API_SERVER, COMPONENTS, ETCD
from spiderlab.topology import ROUTER
from tests.lab.hostagent import HostAgent, PaperNode, Sandbox, paper_pod, vanish, write_kubeconfig
from tests.lab.inside import processes_of
from tests.lab.kube import Kube
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.networks import ENS192
from tests.lab.observer import Observer
from tests.lab.retry import until, until_none
from tests.lab.story import Story
from tests.lab.test_outages import LATER_S, steady, wait_components

__all__ = ["steady"]
# A store that comes back under a running API server ends no watch: what the controller knows is
# compared with it every minute (`kube.informer.SHORT_CHECK_S`).
CHECKED_S = LATER_S + 60.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.still,
    pytest.mark.usefixtures("steady"),
    pytest.mark.timeout(2400),
]

NODE: Final = "restored-a"
CALLS: Final = 50


def stop_control_plane(lab: Lab) -> None:
    """End etcd and what stands on it."""
    for name in reversed(COMPONENTS):
        lab.stop_component(name)


def start_control_plane(lab: Lab) -> None:
    """Start them, and wait for the API server."""
    for name in (ETCD, API_SERVER):
        lab.start_component(name)
    lab.api.wait_ready()
    for name in COMPONENTS[2:]:
        lab.start_component(name)


def back_up(lab: Lab, folder: Path) -> None:
    """Copy etcd's folder while nobody writes."""
    stop_control_plane(lab)
    shutil.copytree(paths.ETCD, folder)
    start_control_plane(lab)


def bring_back(lab: Lab, folder: Path) -> None:
    """Put etcd's folder back, and start Kubernetes' own programs again."""
    stop_control_plane(lab)
    shutil.rmtree(paths.ETCD)
    shutil.copytree(folder, paths.ETCD)
    start_control_plane(lab)
    for node in lab.nodes:
        node.stop_program("kubelet")
        node.start_kubelet()
        node.restart_kube_proxy()


def test_a_backup_comes_back(story: Story, kube: Kube, lab: Lab, tmp_path: Path) -> None:
    """
    A backup, then 50 ADDs and DELs beside pods that come and go, then the backup comes back.

    Everything settles by itself: pods of before have their addresses and records, those of after
    are gone with theirs, new ones start, `spiderpoolctl check` has nothing to say, and no address
    ever had two machines.
    """
    pool = story.pool("p", count=32)
    annotations: dict[str, object] = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOL: {"ipv4": [pool]},
    }
    first, last = kube.need("SpiderIPPool", pool)["spec"]["ips"][0].split("-")
    prefix, start = first.rsplit(".", 1)
    ips = [f"{prefix}.{number}" for number in range(int(start), int(last.rsplit(".", 1)[1]) + 1)]
    paper = story.pool("paper", count=32)
    on_paper = {**annotations, IPPOOL: {"ipv4": [paper]}}
    story.workload("Deployment", "old", 4, annotations)
    before = story.wait_replicas("old", 4)
    with (
        PaperNode(lab.kubeconfig, NODE),
        HostAgent(NODE, write_kubeconfig(kube, NODE, tmp_path / "kubeconfig"), tmp_path) as agent,
        Observer(ROUTER, str(ENS192.gateway(4)), ips, tmp_path) as observer,
    ):
        back_up(lab, tmp_path / "etcd")
        wait_components(kube)

        story.workload("Deployment", "new", 6, annotations)
        for pod in before[:2]:
            kube.delete("Pod", pod.name, story.namespace)
        for number in range(CALLS):
            sandbox = Sandbox(paper_pod(story, NODE, f"paper{number}", on_paper))
            answer = until(lambda s=sandbox: agent.add(s), "the agent answers")
            assert answer.status == 200, answer
            vanish(sandbox.pod)
            agent.delete(sandbox)
        after = story.wait_replicas("new", 6)
        old = {pod.uid for pod in before}
        after += [pod for pod in story.wait_replicas("old", 4) if pod.uid not in old]

        bring_back(lab, tmp_path / "etcd")
        wait_components(kube)
        until_none(
            lambda: [pod for pod in after if processes_of(pod.uid)],
            "pods that the store does not know are gone",
            within_s=LATER_S,
        )
        until(
            lambda: len(story.wait_replicas("old", 4, within_s=LATER_S)) == 4,
            "the pods of before run",
            within_s=LATER_S,
        )
        late = Sandbox(paper_pod(story, NODE, "late", on_paper))
        answer = until(lambda: agent.add(late), "the agent answers")
        assert answer.status == 200, answer
        story.workload("Deployment", "later", 4, annotations)
        story.wait_replicas("later", 4, within_s=LATER_S)
        vanish(late.pod)
        agent.delete(late)
        story.assert_clean(within_s=CHECKED_S)
        agent.stop()
    assert [] == observer.shared
    assert observer.rounds > 60
    assert len(observer.machines) >= 14
