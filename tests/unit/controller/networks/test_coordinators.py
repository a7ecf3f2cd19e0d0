"""The status of the SpiderCoordinator, over a cluster in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from spiderpool.api.crd.coordinator import (
    CoordinatorSpec,
    CoordinatorStatus,
    PodCIDRType,
    SpiderCoordinator,
)
from spiderpool.api.kubernetes.core import ConfigMap
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.controller.networks.coordinators import (
    GATHER_S,
    SERVICE_KINDS,
    CalicoIPPool,
    CalicoIPPoolV3,
    CidrsSpec,
    CiliumFamily,
    CiliumPodIPPool,
    CiliumPodIPPoolV2,
    CiliumPoolSpec,
    Container,
    Coordinators,
    CoordinatorSettings,
    ServiceCIDR,
    StartedPod,
    StartedPodSpec,
    Variable,
    find_cni,
)
from spiderpool.errors import Forbidden, InvalidRequest, NotFound
from tests.unit.controller.conftest import Scene, settle

KUBEADM = "networking:\n  podSubnet: 10.233.64.0/18\n  serviceSubnet: 10.233.0.0/18\n"
OLD_API = 99  # calls that find no such kind


def coordinator(
    kind: PodCIDRType = PodCIDRType.CLUSTER, name: str = "default"
) -> SpiderCoordinator:
    """Make an object without a status."""
    return SpiderCoordinator(
        metadata=ObjectMeta(name=name), spec=CoordinatorSpec(pod_cidr_type=kind)
    )


def config(name: str, **data: str) -> ConfigMap:
    """Make a ConfigMap of kube-system."""
    return ConfigMap(metadata=ObjectMeta(name=name, namespace="kube-system"), data=data)


def service(name: str, *cidrs: str, created: str = "2026-01-01T00:00:00Z") -> ServiceCIDR:
    """Make a ServiceCIDR."""
    return ServiceCIDR(
        metadata=ObjectMeta(name=name, creation_timestamp=created), spec=CidrsSpec(cidrs=cidrs)
    )


def manager(*words: str) -> StartedPod:
    """Make the pod of the controller manager."""
    meta = ObjectMeta(
        name="kube-controller-manager-node1",
        namespace="kube-system",
        labels={"component": "kube-controller-manager"},
    )
    return StartedPod(
        metadata=meta,
        spec=StartedPodSpec(
            containers=(Container(command=("kube-controller-manager",), args=words),)
        ),
    )


def without(scene: Scene, *kinds: type[KubeObject]) -> None:
    """Let the API server not know some kinds."""
    for kind in kinds:
        scene.cluster.faults.fail_next(
            "list", kind, NotFound(f"no {kind.resource.plural}"), times=OLD_API
        )


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
    await keeper.queue.run_due()
    await settle()


async def status_of(scene: Scene, folder: Path) -> CoordinatorStatus:
    """Keep once and give the status."""
    async with keeping(scene, folder):
        pass
    (found,) = scene.cluster.all(SpiderCoordinator)
    assert found.status is not None
    return found.status


def synced(pods: tuple[str, ...], services: tuple[str, ...]) -> CoordinatorStatus:
    """Return a status as it is read back: an empty list is one."""
    return CoordinatorStatus(
        phase="Synced", reason="", overlay_pod_cidr=pods, service_cidr=services
    )


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
    scene.cluster.seed(
        manager("--cluster-cidr=10.1.0.0/16", "--service-cluster-ip-range=10.2.0.0/16")
    )
    scene.cluster.seed(coordinator())

    assert synced(("10.1.0.0/16",), ("10.2.0.0/16",)) == await status_of(scene, tmp_path)


async def test_manager_and_kubeadm(scene: Scene, tmp_path: Path) -> None:
    """
    What the manager leaves open kubeadm may say.

    A container before the manager's does not hide it.
    """
    without(scene, *SERVICE_KINDS)
    scene.cluster.seed(
        config("kubeadm-config", ClusterConfiguration="networking: {podSubnet: 10.1.0.0/16}")
    )
    pod = manager("--service-cluster-ip-range", "$(RANGE)")
    (container,) = pod.spec.containers
    named = msgspec.structs.replace(
        container, env=(Variable(name="RANGE", value="10.2.0.0/16"), Variable(name="KEY"))
    )
    sidecar = Container(name="proxy", command=("proxy",))
    scene.cluster.seed(
        msgspec.structs.replace(pod, spec=StartedPodSpec(containers=(sidecar, named)))
    )
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


def calico_pool(
    name: str,
    cidr: str,
    *,
    kind: type[CalicoIPPool | CalicoIPPoolV3] = CalicoIPPool,
    disabled: bool = False,
    going: bool = False,
) -> KubeObject:
    """Make a pool of Calico, with a field that is not read."""
    deleted = "2026-01-01T00:00:00Z" if going else None
    spec = msgspec.convert({"cidr": cidr, "disabled": disabled}, CidrsSpec)
    return kind(metadata=ObjectMeta(name=name, deletion_timestamp=deleted), spec=spec)


@pytest.mark.parametrize("kind", [CalicoIPPool, CalicoIPPoolV3])
@pytest.mark.parametrize("name", ["calico", "k8s-pod-network"])
async def test_calico(
    scene: Scene, tmp_path: Path, name: str, kind: type[CalicoIPPool | CalicoIPPoolV3]
) -> None:
    """
    Pools of Calico say it: one that is disabled, since pods still have its addresses.

    None that is being deleted.
    """
    (tmp_path / "10-calico.conflist").write_text(
        json.dumps({"name": name, "plugins": [{"type": "calico"}]})
    )
    scene.cluster.seed(config("kubeadm-config", ClusterConfiguration=KUBEADM))
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    if kind is CalicoIPPoolV3:
        without(scene, CalicoIPPool)
    scene.cluster.seed(calico_pool("one", "10.244.0.0/16", kind=kind))
    scene.cluster.seed(calico_pool("two", "10.245.0.0/16", kind=kind, disabled=True))
    scene.cluster.seed(calico_pool("three", "10.246.0.0/16", kind=kind, going=True))
    scene.cluster.seed(coordinator(PodCIDRType.AUTO))

    assert synced(("10.244.0.0/16", "10.245.0.0/16"), ("10.96.0.0/12",)) == await status_of(
        scene, tmp_path
    )


async def test_calico_is_followed(scene: Scene, tmp_path: Path) -> None:
    """Pools of both groups are watched: their kinds have one plural."""
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    scene.cluster.seed(coordinator(PodCIDRType.CALICO))
    async with keeping(scene, tmp_path) as keeper:
        seen = []
        for pool in (
            calico_pool("one", "10.244.0.0/16", kind=CalicoIPPoolV3),
            calico_pool("two", "10.245.0.0/16", kind=CalicoIPPoolV3),
            calico_pool("three", "10.246.0.0/16"),
        ):
            scene.cluster.seed(pool)
            await run(scene, keeper)
            await run(scene, keeper)
            status = scene.cluster.all(SpiderCoordinator)[0].status
            seen.append(status and status.overlay_pod_cidr)

    assert [("10.244.0.0/16",), ("10.244.0.0/16", "10.245.0.0/16"), ("10.246.0.0/16",)] == seen


async def test_no_calico(scene: Scene, tmp_path: Path) -> None:
    """
    `calico` in a cluster that has neither group says so.

    Where one may not be read, that is said too.
    """
    without(scene, CalicoIPPool)
    refused = Forbidden("list ippools: not allowed")
    scene.cluster.faults.fail_next("list", CalicoIPPoolV3, refused, times=OLD_API)
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    scene.cluster.seed(coordinator(PodCIDRType.CALICO))
    status = await status_of(scene, tmp_path)

    assert ("NotReady", ()) == (status.phase, status.overlay_pod_cidr)
    assert status.reason.startswith(
        "podCIDRType is calico, and this cluster has no IPPools of Calico"
    )
    assert status.reason.endswith("; list ippools: not allowed")


async def test_told_once(scene: Scene, tmp_path: Path) -> None:
    """A text that is no CIDR is left out and told, once."""
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    scene.cluster.seed(calico_pool("one", "10.244.0.0"))
    scene.cluster.seed(calico_pool("two", "10.245.0.0/16"))
    scene.cluster.seed(coordinator(PodCIDRType.CALICO))
    async with keeping(scene, tmp_path) as keeper:
        await run(scene, keeper, 60)
        await run(scene, keeper, 60)

    words = 'IPPool one: "10.244.0.0" is not a CIDR and is left out'
    assert [("default", "CIDRNotReadable", words)] == scene.told.events


@pytest.mark.parametrize("kind", [CiliumPodIPPool, CiliumPodIPPoolV2])
async def test_cilium(scene: Scene, tmp_path: Path, kind: type[CiliumPodIPPool]) -> None:
    """Cilium with pools of its own: they say it, of both families."""
    scene.cluster.seed(config("cilium-config", ipam="multi-pool"))
    scene.cluster.seed(service("kubernetes", "10.96.0.0/12"))
    spec = CiliumPoolSpec(
        ipv4=CiliumFamily(cidrs=("10.5.0.0/16",)), ipv6=CiliumFamily(cidrs=("fd00:5::/64",))
    )
    if kind is CiliumPodIPPoolV2:
        without(scene, CiliumPodIPPool)
    scene.cluster.seed(kind(metadata=ObjectMeta(name="default"), spec=spec))
    scene.cluster.seed(coordinator(PodCIDRType.CILIUM))

    assert synced(("10.5.0.0/16", "fd00:5::/64"), ("10.96.0.0/12",)) == await status_of(
        scene, tmp_path
    )


async def test_changes_are_followed(scene: Scene, tmp_path: Path) -> None:
    """
    What was read is watched.

    A new kubeadm configuration, a new ServiceCIDR, another type are in the status at once.
    """
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
        synced((), ()),
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
        (
            "00-spiderpool.conflist",
            {"name": "multus-cni-network", "plugins": [{"type": "spiderpool-multus"}]},
        ),
        ("20-later.conf", {"name": "later", "type": "bridge"}),
        ("10-first.conflist", {"name": "first", "plugins": [{"type": "ptp"}]}),
    ):
        (tmp_path / name).write_text(json.dumps(text))
    (tmp_path / "05-broken.conf").write_text("{")

    assert "first" == find_cni(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    """A folder that cannot be read is named."""
    with pytest.raises(
        InvalidRequest,
        match=r"CNI configurations in .*/none cannot be read: No such file or directory",
    ):
        find_cni(tmp_path / "none")
