"""
What the test puts on the cluster.

A namespace, pods of each kind, a Service for each pod that answers. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, ClassVar, Final

import msgspec

from spiderpool.api.kubernetes.core import Namespace, Pod, PodIP
from spiderpool.api.kubernetes.meta import Kube, KubeObject, ObjectMeta, Resource
from spiderpool.connectivity.matrix import Kind

# on the namespace and all pods: what may be deleted
LABEL: Final = "spiderpool.spidernet.io/connectivity"
NAME_LABEL: Final = "spiderpool.spidernet.io/connectivity-pod"
PORT: Final = 8080
# bytes up and down; more than one segment each way, several of them full (MTU)
GIVE, TAKE = 4096, 16384
CONTAINER: Final = "probe"

DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"
IPPOOLS: Final = "ipam.spidernet.io/ippools"
UNDERLAY_NIC: Final = {Kind.UNDERLAY: "eth0", Kind.MULTI: "net1"}

TRANSFER_VARIABLE: Final = "TRANSFER"
TRANSFER_COMMAND: Final = ("python3", "-c", f"import os; exec(os.environ['{TRANSFER_VARIABLE}'])")


class ProbeStatus(Kube, frozen=True, kw_only=True):
    """How far a pod is."""

    phase: str = ""
    pod_ips: tuple[PodIP, ...] = msgspec.field(default=(), name="podIPs")


class ProbePod(KubeObject, frozen=True, kw_only=True):
    """A pod of the test, with its whole specification."""

    resource: ClassVar[Resource] = Pod.resource

    spec: dict[str, Any] = {}
    status: ProbeStatus = ProbeStatus()


class ServiceSpec(Kube, frozen=True, kw_only=True):
    """A Service."""

    selector: dict[str, str] = {}
    ports: tuple[dict[str, Any], ...] = ()
    ip_family_policy: str = ""
    cluster_ips: tuple[str, ...] = msgspec.field(default=(), name="clusterIPs")


class Service(KubeObject, frozen=True, kw_only=True):
    """A Service."""

    resource: ClassVar[Resource] = Resource("", "v1", "Service", "services", namespaced=True)

    spec: ServiceSpec = ServiceSpec()


@dataclass(frozen=True, slots=True)
class Probe:
    """One pod: what it is, where, and whether it asks or answers."""

    kind: Kind
    node: str
    name: str
    answers: bool


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all pods have in common."""

    namespace: str
    image: str
    pull_policy: str
    network: str = ""  # namespace/name of the underlay's NetworkAttachmentDefinition
    # family → pools; None = those that the cluster chooses
    pools: Mapping[int, tuple[str, ...]] | None = None


def plan_probes(nodes: Sequence[str], kinds: Sequence[Kind]) -> tuple[Probe, ...]:
    """
    Return the pods.

    Of each kind one that asks on the first node, and one that answers on every node.
    """
    return tuple(_probes(nodes, kinds))


def _probes(nodes: Sequence[str], kinds: Sequence[Kind]) -> Iterator[Probe]:
    for kind in kinds:
        yield Probe(kind, nodes[0], f"client-{kind.value}", answers=False)
        for number, node in enumerate(nodes, 1):
            yield Probe(kind, node, f"server-{kind.value}-{number}", answers=True)


def render_namespace(name: str) -> Namespace:
    """Return the namespace, marked as one that may be deleted."""
    return Namespace(metadata=ObjectMeta(name=name, labels={LABEL: "true"}))


def render_service(probe: Probe, recipe: Recipe) -> Service:
    """Return the Service of a pod that answers; it has the pod's name."""
    spec = ServiceSpec(
        selector={NAME_LABEL: probe.name},
        ports=({"name": "tcp", "protocol": "TCP", "port": PORT},),
        ip_family_policy="PreferDualStack",  # of both families, where the cluster has both
    )
    return Service(
        metadata=ObjectMeta(name=probe.name, namespace=recipe.namespace, labels={LABEL: "true"}),
        spec=spec,
    )


def render_pod(probe: Probe, recipe: Recipe) -> ProbePod:
    """Return a pod. All of them can ask and answer; `nodeName` leaves out the scheduler."""
    container = {
        "name": CONTAINER,
        "image": recipe.image,
        "imagePullPolicy": recipe.pull_policy,
        "command": ["python3", "-c", read_program("serve"), str(PORT), str(GIVE), str(TAKE)],
        "env": [{"name": TRANSFER_VARIABLE, "value": read_program("transfer")}],
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}},
    }
    spec = {
        "nodeName": probe.node,
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    metadata = ObjectMeta(
        name=probe.name,
        namespace=recipe.namespace,
        labels={LABEL: "true", NAME_LABEL: probe.name},
        annotations=render_annotations(probe.kind, recipe),
    )
    return ProbePod(metadata=metadata, spec=spec)


def render_annotations(kind: Kind, recipe: Recipe) -> dict[str, str]:
    """Say which networks and pools a pod wants."""
    nic = UNDERLAY_NIC.get(kind)
    if nic is None:
        return {}
    annotations = {DEFAULT_NETWORK if kind is Kind.UNDERLAY else NETWORKS: recipe.network}
    if recipe.pools:
        item = {
            "interface": nic,
            **{f"ipv{family}": list(names) for family, names in recipe.pools.items()},
        }
        annotations[IPPOOLS] = json.dumps([item])
    return annotations


def read_program(name: str) -> str:
    """Return the text of a program that runs inside a pod."""
    return (files("spiderpool.cli.connectivity.inside") / f"{name}.py").read_text()
