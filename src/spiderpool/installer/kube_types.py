"""The few objects that only the installation reads or writes, as far as it does."""

from __future__ import annotations

from typing import Any, ClassVar

from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource


class EndpointConditions(Kube, frozen=True, kw_only=True):
    """State of an endpoint; absent means ready."""

    ready: bool | None = None


class ServiceEndpoint(Kube, frozen=True, kw_only=True):
    """One backend of a Service."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()

    @property
    def ready(self) -> bool:
        """
        Return whether it takes connections (discovery.k8s.io/v1.

        An absent condition counts as true).
        """
        return self.conditions.ready is not False


class EndpointSlice(KubeObject, frozen=True, kw_only=True):
    """Some backends of a Service."""

    resource: ClassVar[Resource] = Resource(
        "discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", namespaced=True
    )

    address_type: str = "IPv4"
    endpoints: tuple[ServiceEndpoint, ...] | None = None


class DaemonSet(KubeObject, frozen=True, kw_only=True):
    """A DaemonSet: only whether it is there matters."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "DaemonSet", "daemonsets", namespaced=True
    )


class Deployment(KubeObject, frozen=True, kw_only=True):
    """A Deployment: only whether it is there matters."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "Deployment", "deployments", namespaced=True
    )


class DefinitionCondition(Kube, frozen=True, kw_only=True):
    """One condition of a CustomResourceDefinition."""

    type: str
    status: str


class DefinitionStatus(Kube, frozen=True, kw_only=True):
    """Status of a CustomResourceDefinition."""

    conditions: tuple[DefinitionCondition, ...] | None = None


class CustomResourceDefinition(KubeObject, frozen=True, kw_only=True):
    """A CustomResourceDefinition; its specification passes through as it is."""

    resource: ClassVar[Resource] = Resource(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"
    )

    spec: dict[str, Any] = {}
    status: DefinitionStatus = DefinitionStatus()

    @property
    def established(self) -> bool:
        """Return whether the API server serves its objects."""
        return any(
            c.type == "Established" and c.status == "True" for c in self.status.conditions or ()
        )
