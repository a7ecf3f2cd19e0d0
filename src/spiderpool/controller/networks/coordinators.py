"""
The reconciler of SpiderCoordinators: the cluster's CIDRs are written into the status.

Everything is read again each time: it is little, and asked for once a minute and after changes.
What can be read is also watched from then on. Agents take the status from their own watch, so a
change reaches the next pod.
Source: docs/reference/coordinator.md#which-cidrs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import structlog

from spiderpool.api.crd.coordinator import PHASE_NOT_READY, PodCIDRType, SpiderCoordinator
from spiderpool.api.kubernetes.core import ConfigMap
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource
from spiderpool.cni.netconf import SUFFIXES, first_network
from spiderpool.controller.runtime.context import RecordEvent
from spiderpool.controller.runtime.workqueue import WorkQueue
from spiderpool.datapath.cluster_cidrs import Sources, judge, resolve_kind
from spiderpool.datapath.control_plane_cidrs import (
    Cidrs,
    ClusterCidrs,
    Started,
    read_cidrs,
    read_kubeadm,
    read_manager,
)
from spiderpool.errors import Forbidden, InvalidRequest, NotFound
from spiderpool.kernel.directories import read_texts
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.kube.informer import Informer
from spiderpool.model.event_reasons import EventReason

KUBE_SYSTEM: Final = "kube-system"
KUBEADM: Final = "kubeadm-config"
MANAGER_LABEL: Final = "component=kube-controller-manager"
RESYNC_S: Final = 60.0
GATHER_S: Final = 0.2

T = TypeVar("T", bound=KubeObject)

Clock = Callable[[], float]
log = structlog.get_logger("spiderpool.controller")


class Variable(Kube, frozen=True, kw_only=True):
    """A variable of a container's environment; `value` is None when it comes from elsewhere."""

    name: str
    value: str | None = None


class Container(Kube, frozen=True, kw_only=True):
    """How a container is started."""

    name: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: tuple[Variable, ...] = ()

    @property
    def started(self) -> Started:
        """Return its command line."""
        env = {one.name: one.value for one in self.env if one.value is not None}
        return Started((*self.command, *self.args), env, self.name)


class StartedPodSpec(Kube, frozen=True, kw_only=True):
    """The containers of a pod."""

    containers: tuple[Container, ...] = ()


class StartedPod(KubeObject, frozen=True, kw_only=True):
    """A pod, as far as its command line goes."""

    resource: ClassVar[Resource] = Resource("", "v1", "Pod", "pods", namespaced=True)

    spec: StartedPodSpec = StartedPodSpec()


class CidrsSpec(Kube, frozen=True, kw_only=True):
    """
    The CIDRs of an object of another project.

    Whether a pool is switched off does not count: pods may still have its addresses.
    """

    cidrs: tuple[str, ...] = ()
    cidr: str = ""


class CidrObject(KubeObject, frozen=True, kw_only=True):
    """An object that holds CIDRs."""

    spec: CidrsSpec = CidrsSpec()

    @property
    def texts(self) -> tuple[str, ...]:
        """Return its CIDRs as written."""
        return tuple(filter(None, (*self.spec.cidrs, self.spec.cidr)))


class ServiceCIDR(CidrObject, frozen=True, kw_only=True):
    """Addresses of Services (Kubernetes 1.33 and later)."""

    resource: ClassVar[Resource] = Resource(
        "networking.k8s.io", "v1", "ServiceCIDR", "servicecidrs"
    )


class ServiceCIDRBeta(CidrObject, frozen=True, kw_only=True):
    """The same in Kubernetes 1.31 and 1.32."""

    resource: ClassVar[Resource] = Resource(
        "networking.k8s.io", "v1beta1", "ServiceCIDR", "servicecidrs"
    )


class ServiceCIDRAlpha(CidrObject, frozen=True, kw_only=True):
    """The same in Kubernetes 1.29 and 1.30."""

    resource: ClassVar[Resource] = Resource(
        "networking.k8s.io", "v1alpha1", "ServiceCIDR", "servicecidrs"
    )


class CalicoIPPool(CidrObject, frozen=True, kw_only=True):
    """A pool of Calico, as its own datastore keeps it."""

    resource: ClassVar[Resource] = Resource("crd.projectcalico.org", "v1", "IPPool", "ippools")


class CalicoIPPoolV3(CidrObject, frozen=True, kw_only=True):
    """
    The same where Calico has no objects of its own datastore.

    CRDs of the group that its users write.
    """

    resource: ClassVar[Resource] = Resource("projectcalico.org", "v3", "IPPool", "ippools")


class CiliumFamily(Kube, frozen=True, kw_only=True):
    """Addresses of one family of a pool of Cilium."""

    cidrs: tuple[str, ...] = ()


class CiliumPoolSpec(Kube, frozen=True, kw_only=True):
    """Addresses of a pool of Cilium."""

    ipv4: CiliumFamily = CiliumFamily()
    ipv6: CiliumFamily = CiliumFamily()


class CiliumPodIPPool(KubeObject, frozen=True, kw_only=True):
    """A pool of Cilium, of its mode multi-pool."""

    resource: ClassVar[Resource] = Resource(
        "cilium.io", "v2alpha1", "CiliumPodIPPool", "ciliumpodippools"
    )

    spec: CiliumPoolSpec = CiliumPoolSpec()

    @property
    def texts(self) -> tuple[str, ...]:
        """Return its CIDRs as written."""
        return (*self.spec.ipv4.cidrs, *self.spec.ipv6.cidrs)


class CiliumPodIPPoolV2(CiliumPodIPPool, frozen=True, kw_only=True):
    """The same in the next version of Cilium's API."""

    resource: ClassVar[Resource] = Resource(
        "cilium.io", "v2", "CiliumPodIPPool", "ciliumpodippools"
    )


CidrKind = type[CidrObject] | type[CiliumPodIPPool]

# Kinds that say the same, in the order in which they are asked for.
SERVICE_KINDS: Final[tuple[CidrKind, ...]] = (ServiceCIDR, ServiceCIDRBeta, ServiceCIDRAlpha)
CALICO_KINDS: Final[tuple[CidrKind, ...]] = (CalicoIPPool, CalicoIPPoolV3)
CILIUM_KINDS: Final[tuple[CidrKind, ...]] = (CiliumPodIPPool, CiliumPodIPPoolV2)


@dataclass(frozen=True, slots=True)
class CoordinatorSettings:
    """
    Which object is kept, and where the CNI's own words are.

    `cilium` is the (namespace, name) of its ConfigMap.
    """

    name: str
    cni_dir: Path
    cilium: tuple[str, str]
    resync_s: float = RESYNC_S


class Coordinators:
    """Keeps the status of the one SpiderCoordinator that counts."""

    def __init__(
        self,
        cluster: Cluster,
        record_event: RecordEvent,
        settings: CoordinatorSettings,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the fenced door.
            record_event: writes Events.
            settings: which object, and where to look.
            clock: monotonic seconds.
        """
        self._cluster = cluster
        self._record_event = record_event
        self._settings = settings
        self._informers: dict[str, Informer[Any]] = {}
        self._noted: tuple[str, ...] = ()
        self.queue = WorkQueue("coordinators", self._reconcile, clock=clock)

    async def start(self) -> None:
        """Ask for the object now and whenever it changes."""
        await self._watch("coordinators", Informer(self._cluster, SpiderCoordinator))
        self.queue.add(self._settings.name)

    async def stop(self) -> None:
        """End all watches."""
        await asyncio.gather(*(informer.stop() for informer in self._informers.values()))

    async def _reconcile(self, name: str) -> float:
        """Write into the status what the cluster says now; gives seconds until it is read again."""
        try:
            found = await self._cluster.get(SpiderCoordinator, name)
        except NotFound:
            return self._settings.resync_s
        if found.metadata.deletion_timestamp is None:
            await self._bring_up_to_date(found)
        return self._settings.resync_s

    async def _bring_up_to_date(self, found: SpiderCoordinator) -> None:
        """Compare and write."""
        kind = found.spec.pod_cidr_type or PodCIDRType.AUTO
        judgement = judge(await self._read(kind))
        self._note(found, judgement.notes)
        status = judgement.status
        if status == found.status:
            return
        body = {
            "status": {
                "phase": status.phase,
                "reason": status.reason,
                "overlayPodCIDR": status.overlay_pod_cidr,
                "serviceCIDR": status.service_cidr,
            }
        }
        await self._cluster.patch(
            SpiderCoordinator, found.metadata.name, body, subresource="status"
        )
        if status.phase == PHASE_NOT_READY:
            self._record_event(
                found,
                EventReason.CILIUM_NOT_READY
                if kind is PodCIDRType.CILIUM
                else EventReason.COORDINATOR_NOT_READY,
                status.reason,
            )
        log.info("coordinator", name=found.metadata.name, type=str(kind), **body["status"])

    def _note(self, found: SpiderCoordinator, notes: tuple[str, ...]) -> None:
        """Report what is left out, once for as long as it stays the same."""
        if notes and notes != self._noted:
            self._record_event(found, EventReason.CIDR_NOT_READABLE, "; ".join(notes))
        self._noted = notes

    async def _read(self, kind: PodCIDRType) -> Sources:
        """Read everything that the decision looks at."""
        cni = ""
        try:
            if kind is PodCIDRType.AUTO:
                cni = await asyncio.to_thread(find_cni, self._settings.cni_dir)
        except InvalidRequest as error:
            return Sources(kind, cni_problem=error.message)
        resolved = resolve_kind(kind, cni)
        problems: list[str] = []
        services = await self._read_first(SERVICE_KINDS, problems) or None
        cilium = (
            await self._read_config(*self._settings.cilium)
            if resolved is PodCIDRType.CILIUM
            else None
        )
        return Sources(
            kind=kind,
            cni=cni,
            cluster=await self._read_cluster(problems, with_services=services is None),
            services=services,
            calico=await self._read_first(CALICO_KINDS, problems)
            if resolved is PodCIDRType.CALICO
            else None,
            cilium=None if cilium is None else cilium.data,
            cilium_pools=await self._read_first(CILIUM_KINDS, problems)
            if resolved is PodCIDRType.CILIUM
            else None,
            problems=tuple(problems),
        )

    async def _read_cluster(
        self, problems: list[str], *, with_services: bool
    ) -> ClusterCidrs | None:
        """
        Read what the cluster was set up with.

        None when neither kubeadm nor the controller manager says enough.
        """
        config = await self._read_config(KUBE_SYSTEM, KUBEADM)
        told = (
            read_kubeadm(config.data.get("ClusterConfiguration", ""))
            if config is not None
            else ClusterCidrs()
        )
        if told.complete:
            return told
        pods = await self._cluster.list_objects(StartedPod, labels=MANAGER_LABEL)
        managers = [
            read_manager(one.started for one in pod.spec.containers) for pod in by_age(pods.items)
        ]
        if managers:
            # the manager's own words, and kubeadm's for what it leaves open
            manager = next((said for said in managers if said.pods or said.services), managers[0])
            return manager.or_else(told)
        if told.pods and (told.services or not with_services):
            return told
        problems += told.problems
        return None

    async def _read_first(self, kinds: Iterable[CidrKind], problems: list[str]) -> Cidrs | None:
        """
        Read the CIDRs of the first kind that has some.

        Args:
            kinds: those that say the same.
            problems: gets a sentence for each text that is no CIDR.
        Returns:
            None when the API server knows none of the kinds.
        """
        known: Cidrs | None = None
        for kind in kinds:
            found = await self._read_cidrs(kind, problems)
            if found:
                return found
            known = found if known is None else known
        return known

    async def _read_cidrs(self, kind: CidrKind, problems: list[str]) -> Cidrs | None:
        """
        Read the CIDRs of all objects of a kind, in the order of their creation.

        None when there is no such kind.
        """
        resource = kind.resource
        try:
            listing = await self._cluster.list_objects(kind)
        except NotFound:
            return None
        except Forbidden as error:
            problems.append(error.message)
            return None
        # Two groups have `ippools`, and every version is a kind of its own.
        await self._watch(
            f"{resource.api_version}/{resource.plural}", Informer(self._cluster, kind)
        )
        found: list[str] = []
        for obj in by_age(listing.items):
            if obj.metadata.deletion_timestamp is None:
                cidrs, wrong = read_cidrs(
                    f"{resource.kind} {obj.metadata.name}", " ".join(obj.texts)
                )
                found += cidrs
                problems += wrong
        return tuple(dict.fromkeys(found))

    async def _read_config(self, namespace: str, name: str) -> ConfigMap | None:
        """Read a ConfigMap and watch it from now on, whether it exists or not."""
        fields = f"metadata.name={name}"
        await self._watch(
            f"{namespace}/{name}",
            Informer(self._cluster, ConfigMap, namespace=namespace, fields=fields),
        )
        return await if_exists(self._cluster.get(ConfigMap, name, namespace))

    async def _watch(self, what: str, informer: Informer[Any]) -> None:
        """Look again after each change from now on; once is enough."""
        if what in self._informers:
            return
        self._informers[what] = informer
        informer.subscribe(self._changed)
        await informer.start()

    def _changed(self, *_: object) -> None:
        """Something changed that the status may follow."""
        self.queue.add(self._settings.name, GATHER_S)


def find_cni(folder: Path) -> str:
    """
    Return the network of the first CNI configuration that is not a meta plugin's, or "".

    Raises:
        InvalidRequest: the folder cannot be read.
    """
    try:
        network = first_network(read_texts(folder, SUFFIXES))
    except OSError as error:
        raise InvalidRequest(
            f"CNI configurations in {folder} cannot be read: {error.strerror}"
        ) from None
    return network.name if network is not None else ""


def by_age(objects: Iterable[T]) -> list[T]:
    """Sort by creation, then by name."""
    return sorted(
        objects, key=lambda obj: (obj.metadata.creation_timestamp or "", obj.metadata.name)
    )
