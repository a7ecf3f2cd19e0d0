"""
Networks and their resources that a new pod gets without naming them.

Source: docs/reference/networks.md#pod-injection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from spiderpool.admission.multusconfigs import injection_problem, resource_of
from spiderpool.api.crd.group import ANNO_NETWORKS
from spiderpool.api.crd.multusconfig import (
    ANNO_NETWORK_INJECT,
    ANNO_RDMA_INJECT,
    MasterConfig,
    SpiderMultusConfig,
    SriovConfig,
)
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource
from spiderpool.errors import InvalidRequest
from spiderpool.model.label_values import LABEL_VALUE
from spiderpool.networks.definition import block_of, definition_name

KEYS: Final = (ANNO_RDMA_INJECT, ANNO_NETWORK_INJECT)  # the first that is found counts
ONE: Final = "1"


class ContainerResources(Kube, frozen=True, kw_only=True):
    """What a container asks for; None: not said."""

    limits: dict[str, Any] | None = None


class InjectedContainer(Kube, frozen=True, kw_only=True):
    """A container of a new pod."""

    resources: ContainerResources | None = None


class InjectedPodSpec(Kube, frozen=True, kw_only=True):
    """The containers of a new pod."""

    containers: tuple[InjectedContainer, ...] = ()


class InjectedPod(KubeObject, frozen=True, kw_only=True):
    """A new pod, as far as its networks and resources go."""

    resource: ClassVar[Resource] = Resource("", "v1", "Pod", "pods", namespaced=True)

    spec: InjectedPodSpec = InjectedPodSpec()


@dataclass(frozen=True, slots=True)
class Demand:
    """What a pod asks for: networks whose label `key` has this value."""

    key: str
    value: str

    @property
    def selector(self) -> str:
        """The label selector that finds them."""
        return f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class Injection:
    """What a pod gets: the annotation's text, and one of each resource."""

    networks: str
    resources: tuple[str, ...]


def read_demand(pod: Mapping[str, str], namespace: Mapping[str, str]) -> Demand | None:
    """
    Return what a pod asks for, None when it asks for nothing.

    Args:
        pod: annotations of the pod.
        namespace: annotations of its namespace, which speak for pods that say nothing.
    Raises:
        InvalidRequest: no label has such a value.
    """
    for key in KEYS:
        value = pod.get(key) or namespace.get(key)
        if value and not LABEL_VALUE.fullmatch(value):
            raise InvalidRequest(
                f"annotation {key} has {value!r}, which no label can have: no SpiderMultusConfig "
                "is meant by it"
            )
        if value:
            return Demand(key, value)
    return None


def plan_injection(
    demand: Demand, configs: Iterable[SpiderMultusConfig], namespaces: Collection[str]
) -> Injection:
    """
    Decide on networks and resources.

    Args:
        demand: what the pod asks for.
        configs: the networks that have the label.
        namespaces: whose networks may be put into the pod: its own, and the release's. Anybody may
            label a network of a third.
    Raises:
        InvalidRequest: there is none, or one of them cannot be put into pods.
    """
    chosen = sorted(
        (config for config in configs if config.metadata.namespace in namespaces),
        key=lambda config: (_order(config), f"{config.metadata.namespace}/{config.metadata.name}"),
    )
    if not chosen:
        raise InvalidRequest(
            f"no SpiderMultusConfig of namespace {' or '.join(sorted(set(namespaces)))} has the "
            f"label {demand.selector}, which the pod or its namespace asks for"
        )
    for config in chosen:
        if problem := injection_problem(config, demand.key):
            raise InvalidRequest(
                f"SpiderMultusConfig {config.metadata.namespace}/{config.metadata.name}: {problem}"
            )
    resources = dict.fromkeys(filter(None, (resource_of(config.spec) for config in chosen)))
    # The name of the definition: that is what the meta plugin looks for.
    networks = ",".join(
        f"{config.metadata.namespace}/{definition_name(config)}" for config in chosen
    )
    return Injection(networks, tuple(resources))


def patch_pod(pod: InjectedPod, injection: Injection) -> list[dict[str, Any]]:
    """
    Write an injection as a JSON patch: the pod has many fields that we do not read.

    A resource that some container limits already is not asked for once more.
    """
    return [*_annotate(pod, injection.networks), *_limit(pod, injection.resources)]


def _annotate(pod: InjectedPod, networks: str) -> Iterator[dict[str, Any]]:
    """Name the networks; what the pod named itself is replaced."""
    if not pod.metadata.annotations:
        yield {"op": "add", "path": "/metadata/annotations", "value": {ANNO_NETWORKS: networks}}
    elif pod.metadata.annotations.get(ANNO_NETWORKS) != networks:
        yield {
            "op": "add",
            "path": f"/metadata/annotations/{_escape(ANNO_NETWORKS)}",
            "value": networks,
        }


def _limit(pod: InjectedPod, resources: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Limit the first container to one of each resource."""
    containers = pod.spec.containers
    known = {name for container in containers for name in (_limits(container) or ())}
    wanted = {name: ONE for name in resources if name not in known}
    if not wanted or not containers:
        return
    path, first = "/spec/containers/0/resources", containers[0]
    if first.resources is None:
        yield {"op": "add", "path": path, "value": {"limits": wanted}}
    elif first.resources.limits is None:
        yield {"op": "add", "path": f"{path}/limits", "value": wanted}
    else:
        for name, count in wanted.items():
            yield {"op": "add", "path": f"{path}/limits/{_escape(name)}", "value": count}


def _limits(container: InjectedContainer) -> dict[str, Any] | None:
    """Return a container's limits."""
    return container.resources.limits if container.resources is not None else None


def _order(config: SpiderMultusConfig) -> str:
    """Return what networks are sorted by: the interface that they are on."""
    match block_of(config.spec):
        case MasterConfig() as block:
            several = len(block.master) > 1
            return (
                block.bond.name if several and block.bond is not None else "".join(block.master[:1])
            )
        case SriovConfig() as block:
            return block.resource_name
    return ""


def _escape(key: str) -> str:
    """Write a key as a JSON pointer's token (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")
