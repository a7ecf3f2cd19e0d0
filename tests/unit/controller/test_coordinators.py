"""The status of the SpiderCoordinator, over a cluster in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from spiderpool.api.coordinator import CoordinatorSpec, CoordinatorStatus, PodCIDRType, SpiderCoordinator
from spiderpool.api.core import ConfigMap
from spiderpool.api.meta import KubeObject, ObjectMeta
from spiderpool.controller.coordinators import (
    GATHER_S,
    SERVICE_KINDS,
    CalicoIPPool,
    CidrsSpec,
    CiliumFamily,
    CiliumPodIPPool,
    CiliumPoolSpec,
    Container,
    Coordinators,
    CoordinatorSettings,
    ServiceCIDR,
    StartedPod,
    StartedPodSpec,
    find_cni,
)
from spiderpool.errors import InvalidRequest, NotFound
from tests.unit.controller.conftest import Scene, settle

KUBEADM = "networking:\n  podSubnet: 10.233.64.0/18\n  serviceSubnet: 10.233.0.0/18\n"
OLD_API = 99  # calls that find no such kind


def coordinator(kind: PodCIDRType = PodCIDRType.CLUSTER, name: str = "default") -> SpiderCoordinator:
    """Make an object without a status."""
    return SpiderCoordinator(metadata=ObjectMeta(name=name), spec=CoordinatorSpec(pod_cidr_type=kind))


def config(name: str, **data: str) -> ConfigMap:
    """Make a ConfigMap of kube-system."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="kube-system"), data=data)


def service(name: str, *cidrs: str, created: str = "2026-01-01T00:00:00Z") -> ServiceCIDR:
    """Make a ServiceCIDR."""
    return ServiceCIDR(metadata=ObjectMeta(name=name, creation_timestamp=created), spec=CidrsSpec(cidrs=cidrs))


def manager(*words: str) -> StartedPod:
    """Make the pod of the controller manager."""
    meta = ObjectMeta(
        name="kube-controller-manager-node1", namespace="kube-system", labels={"component": "kube-controller-manager"}
    )
    return StartedPod(
        metadata=meta, spec=StartedPodSpec(containers=(Container(command=("kube-controller-manager",), args=words),))
    )


def without(scene: Scene, *kinds: type[KubeObject]) -> None:
    """Let the API server not know some kinds."""
    for kind in kinds:
        scene.cluster.faults.fail_next("list", kind, NotFound(f"no {kind.resource.plural}"), times=OLD_API)


@asynccontextmanager
async def keeping(scene: Scene, folder: Path) -> AsyncIterator[Coordinators]:
    """Keep the status while the block runs."""
    settings = CoordinatorSettings("default", folder, ("kube-system", "cilium-config"))
    keeper = Coordinators(scene.cluster, scene.told, settings, clock=scene.clock)
    await keeper.start()
    try:
        await run(scene, keeper)
        yield keeper
    finally:
        await keeper.stop()


async def run(scene: Scene, keeper: Coordinators, seconds: float = GATHER_S) -> None:
    """Let time pass and the keeper work."""
    await scene.pass_time(seconds)
    await keeper.loop.run_due()
    await settle()


async def status_of(scene: Scene, folder: Path) -> CoordinatorStatus:
    """Keep once and give the status."""
    async with keeping(scene, folder):
        pass
    (found,) = scene.cluster.all(SpiderCoordinator)
    assert found.status is not None
    return found.status


def synced(pods: tuple[str, ...], services: tuple[str, ...]) -> CoordinatorStatus:
    """Give a status as it is read back: an empty list is one."""
    return CoordinatorStatus(phase="Synced", reason="", overlay_pod_cidr=pods, service_cidr=services)


async def test_kubeadm(scene: Scene, tmp_path: Path) -> None:
    """The configuration of kubeadm describes the cluster where nothing newer does."""
    without(scene, *SERVICE_KINDS)
    scene.cluster.seed(config("kubeadm-config", ClusterConfiguration=KUBEADM))
    scene.cluster.seed(coordinator())

    assert synced(("10.233.64.0/18",), ("10.233.0.0/18",)) == await status_of(scene, tmp_path)


async def test_service_cidrs(scene: Scene, tmp_path: Path) -> None:
    """ServiceCIDRs, in the order of their creation, say what Services have."""
    scene.cluster.seed(config("kubeadm-config", ClusterConfiguration=KUBEADM))
    scene.cluster.seed(service("b", "10.96.0.0/12", "fd00:96::/112"))
    scene.cluster.seed(service("a", "10.112.0.0/16", created="2026-01-02T00:00:00Z"))
    scene.cluster.seed(coordinator())

    expected = synced(("10.233.64.0/18",), ("10.96.0.0/12", "fd00:96::/112", "10.112.0.0/16"))
    assert expected == await status_of(scene, tmp_path)


async def test_manager(scene: Scene, tmp_path: Path) -> None:
    """Without kubeadm, the flags of the controller manager say it."""
    without(scene, *SERVICE_KINDS)
    scene.cluster.seed(manager("--cluster-cidr=10.1.0.0/16", "--service-cluster-ip-range=10.2.0.0/16"))
    scene.cluster.seed(coordinator())

    assert synced(("10.1.0.0/16",), ("10.2.0.0/16",)) == await status_of(scene, tmp_path)


async def test_nobody_says_it(scene: Scene, tmp_path: Path) -> None:
    """Where nobody describes the cluster, the status says so in the reference's words."""
    without(scene, *SERVICE_KINDS)
    scene.cluster.seed(coordinator())
    status = await status_of(scene, tmp_path)

    words = "No kube-controller-manager pod found, unable to get clusterCIDR"
    assert ("NotReady", words) == (status.phase, status.reason)
    assert [("default", "CoordinatorNotReady", words)] == scene.told.events


@pytest.mark.parametrize("name", ["calico", "k8s-pod-network"])
async def test_calico(scene: Scene, tmp_path: Path, name: str) -> None:
    """A node whose CNI is Calico: its pools say it, but for those that are switched off."""
    (tmp_path / "10-calico.conflist").write_text(json.dumps({"name": name, "plugins": [{"type": "calico"}]}))
    scene.cluster.seed(config("kubeadm-config", ClusterConfiguration=KUBEADM))
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    for pool, cidr, disabled in (("one", "10.244.0.0/16", False), ("two", "10.245.0.0/16", True)):
        spec = CidrsSpec(cidr=cidr, disabled=disabled)
        scene.cluster.seed(CalicoIPPool(metadata=ObjectMeta(name=pool), spec=spec))
    scene.cluster.seed(coordinator(PodCIDRType.AUTO))

    assert synced(("10.244.0.0/16",), ("10.96.0.0/12",)) == await status_of(scene, tmp_path)


async def test_cilium(scene: Scene, tmp_path: Path) -> None:
    """Cilium with pools of its own: they say it, of both families."""
    scene.cluster.seed(config("cilium-config", ipam="multi-pool"))
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    spec = CiliumPoolSpec(ipv4=CiliumFamily(cidrs=("10.5.0.0/16",)), ipv6=CiliumFamily(cidrs=("fd00:5::/64",)))
    scene.cluster.seed(CiliumPodIPPool(metadata=ObjectMeta(name="default"), spec=spec))
    scene.cluster.seed(coordinator(PodCIDRType.CILIUM))

    assert synced(("10.5.0.0/16", "fd00:5::/64"), ("10.96.0.0/12",)) == await status_of(scene, tmp_path)


async def test_changes_are_followed(scene: Scene, tmp_path: Path) -> None:
    """What was read is watched: a new kubeadm configuration, a new ServiceCIDR, another type are in the status at once."""
    scene.cluster.seed(coordinator())
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    async with keeping(scene, tmp_path) as keeper:
        seen = []
        for change in (
            config("kubeadm-config", ClusterConfiguration=KUBEADM),
            service("more", "10.112.0.0/16", created="2026-01-02T00:00:00Z"),
        ):
            scene.cluster.seed(change)
            await run(scene, keeper)
            await run(scene, keeper)
            seen.append(scene.cluster.all(SpiderCoordinator)[0].status)
        await scene.cluster.patch(SpiderCoordinator, "default", {"spec": {"podCIDRType": "none"}})
        await run(scene, keeper)
        await run(scene, keeper)
        seen.append(scene.cluster.all(SpiderCoordinator)[0].status)

    assert [
        synced(("10.233.64.0/18",), ("10.96.0.0/12",)),
        synced(("10.233.64.0/18",), ("10.96.0.0/12", "10.112.0.0/16")),
        synced((), ("10.96.0.0/12", "10.112.0.0/16")),
    ] == seen


async def test_written_once(scene: Scene, tmp_path: Path) -> None:
    """A status that is right is not written again."""
    scene.cluster.seed(config("kubeadm-config", ClusterConfiguration=KUBEADM))
    scene.cluster.seed(coordinator())
    async with keeping(scene, tmp_path) as keeper:
        for _ in range(3):
            await run(scene, keeper, 60)

    assert 1 == scene.cluster.count("patch")


async def test_only_the_one_that_counts(scene: Scene, tmp_path: Path) -> None:
    """Objects of other names are left alone, and their absence is no fault."""
    scene.cluster.seed(coordinator(name="other"))
    async with keeping(scene, tmp_path):
        pass

    assert [None] == [found.status for found in scene.cluster.all(SpiderCoordinator)]


def test_first_cni(tmp_path: Path) -> None:
    """The first configuration counts that is no meta plugin's; broken files are passed over."""
    assert "" == find_cni(tmp_path)
    for name, text in (
        ("00-multus.conf", {"name": "multus-cni-network", "type": "multus"}),
        ("00-spiderpool.conflist", {"name": "multus-cni-network", "plugins": [{"type": "spiderpool-multus"}]}),
        ("20-later.conf", {"name": "later", "type": "bridge"}),
        ("10-first.conflist", {"name": "first", "plugins": [{"type": "ptp"}]}),
    ):
        (tmp_path / name).write_text(json.dumps(text))
    (tmp_path / "05-broken.conf").write_text("{")

    assert "first" == find_cni(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that cannot be read is named."""
    with pytest.raises(InvalidRequest, match=r"CNI configurations in .*/none cannot be read: No such file or directory"):
        find_cni(tmp_path / "none")
