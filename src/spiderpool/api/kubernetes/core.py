"""
The few fields of Kubernetes' own objects that this project reads.

Written only by patch, so nothing is lost.
"""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource

# Kubernetes, "Non-graceful node shutdown": set by hand where the node is certainly down
OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"


class ContainerTerminated(Kube, frozen=True, kw_only=True):
    """How a container ended."""

    finished_at: str | None = None


class ContainerState(Kube, frozen=True, kw_only=True):
    """State of a container."""

    terminated: ContainerTerminated | None = None


class ContainerStatus(Kube, frozen=True, kw_only=True):
    """Status of a container."""

    state: ContainerState = ContainerState()


class PodIP(Kube, frozen=True, kw_only=True):
    """One address in a pod's status."""

    ip: str = ""


class PodSpec(Kube, frozen=True, kw_only=True):
    """Specification of a pod."""

    node_name: str = ""
    host_network: bool = False
    termination_grace_period_seconds: int | None = None


class PodStatus(Kube, frozen=True, kw_only=True):
    """Status of a pod."""

    phase: str = ""
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(KubeObject, frozen=True, kw_only=True):
    """A pod."""

    resource: ClassVar[Resource] = Resource("", "v1", "Pod", "pods", namespaced=True)

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Namespace(KubeObject, frozen=True, kw_only=True):
    """A namespace."""

    resource: ClassVar[Resource] = Resource("", "v1", "Namespace", "namespaces")


class Taint(Kube, frozen=True, kw_only=True):
    """What keeps pods off a node."""

    key: str


class NodeSpec(Kube, frozen=True, kw_only=True):
    """Specification of a node."""

    taints: tuple[Taint, ...] = ()


class NodeCondition(Kube, frozen=True, kw_only=True):
    """One condition of a node."""

    type: str
    status: str


class NodeStatus(Kube, frozen=True, kw_only=True):
    """Status of a node."""

    conditions: tuple[NodeCondition, ...] = ()


class Node(KubeObject, frozen=True, kw_only=True):
    """A node."""

    resource: ClassVar[Resource] = Resource("", "v1", "Node", "nodes")

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def out_of_service(self) -> bool:
        """Return whether an administrator says that nothing runs on the node any more."""
        return any(taint.key == OUT_OF_SERVICE for taint in self.spec.taints)

    @property
    def ready(self) -> bool:
        """Return whether the node's Ready condition is True."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class ReplicaSet(KubeObject, frozen=True, kw_only=True):
    """A ReplicaSet: only its owner matters."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "ReplicaSet", "replicasets", namespaced=True
    )


class Job(KubeObject, frozen=True, kw_only=True):
    """A Job: only its owner matters."""

    resource: ClassVar[Resource] = Resource("batch", "v1", "Job", "jobs", namespaced=True)


class Ordinals(Kube, frozen=True, kw_only=True):
    """Where a StatefulSet starts to count."""

    start: int = 0


class StatefulSetSpec(Kube, frozen=True, kw_only=True):
    """Specification of a StatefulSet."""

    replicas: int | None = None
    ordinals: Ordinals | None = None


class StatefulSet(KubeObject, frozen=True, kw_only=True):
    """A StatefulSet: who is a valid static holder."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "StatefulSet", "statefulsets", namespaced=True
    )

    spec: StatefulSetSpec = StatefulSetSpec()


class ConfigMap(KubeObject, frozen=True, kw_only=True):
    """A ConfigMap."""

    resource: ClassVar[Resource] = Resource("", "v1", "ConfigMap", "configmaps", namespaced=True)

    data: dict[str, str] = {}


class LeaseSpec(Kube, frozen=True, kw_only=True):
    """Who leads, and until when."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(KubeObject, frozen=True, kw_only=True):
    """A lease of coordination.k8s.io."""

    resource: ClassVar[Resource] = Resource(
        "coordination.k8s.io", "v1", "Lease", "leases", namespaced=True
    )

    spec: LeaseSpec = LeaseSpec()


class ObjectReference(Kube, frozen=True, kw_only=True):
    """The object that an Event speaks of."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class EventSource(Kube, frozen=True, kw_only=True):
    """Who wrote an Event."""

    component: str = ""
    host: str = ""


class Event(KubeObject, frozen=True, kw_only=True):
    """A core/v1 Event."""

    resource: ClassVar[Resource] = Resource("", "v1", "Event", "events", namespaced=True)

    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    # the API server has no defaults for these two: what is left out is shown as nothing
    type: str = ""
    count: int = 0
    first_timestamp: str | None = None
    last_timestamp: str | None = None
    source: EventSource = EventSource()
    reporting_component: str = ""
    reporting_instance: str = ""


class NetworkAttachmentDefinitionSpec(Kube, frozen=True, kw_only=True):
    """The CNI configuration, as text."""

    config: str = ""


class NetworkAttachmentDefinition(KubeObject, frozen=True, kw_only=True):
    """
    A network of the Network Plumbing Working Group's standard.

    Source: docs/reference/meta-plugin.md#networkattachmentdefinition.
    """

    resource: ClassVar[Resource] = Resource(
        "k8s.cni.cncf.io",
        "v1",
        "NetworkAttachmentDefinition",
        "network-attachment-definitions",
        namespaced=True,
    )

    spec: NetworkAttachmentDefinitionSpec = NetworkAttachmentDefinitionSpec()


class PartialObject(KubeObject, frozen=True, kw_only=True):
    """Any object, metadata only (`meta.k8s.io/v1 PartialObjectMetadata`)."""

    resource: ClassVar[Resource] = Resource("meta.k8s.io", "v1", "PartialObjectMetadata", "")
