"""
`spiderpool-controller clean`: remove all of Spiderpool from a cluster before it is uninstalled.

The webhooks go first, else nothing could be deleted without a controller; then all objects of our
group, finalizers taken off; then their definitions and the installation's job. What is gone already
is fine, so it can be run again. While a workload holds an address, objects and definitions stay:
the next installation must know which addresses are in use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from spiderpool.api.crd.schema import DEFINITIONS
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Job, PartialObject
from spiderpool.api.kubernetes.meta import KubeObject, Resource
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    Secret,
    ValidatingWebhookConfiguration,
)
from spiderpool.errors import NotFound
from spiderpool.kube.cluster import Cluster

DELETES_IN_FLIGHT: Final = 16
OWN: Final = frozenset(
    f"{each.kind.resource.plural}.{each.kind.resource.group}" for each in DEFINITIONS
)

Say = Callable[[str], None]


class CustomResourceDefinition(KubeObject, frozen=True, kw_only=True):
    """A kind that was added to the API."""

    resource: ClassVar[Resource] = Resource(
        "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"
    )

    spec: dict[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Remains:
    """
    What is to be removed besides the objects of our group.

    Attributes:
        even_if_held: objects and definitions go although workloads hold addresses.
    """

    validating: str
    mutating: str
    namespace: str
    init_job: str
    even_if_held: bool = False
    secret: str = ""


async def clean(cluster: Cluster, remains: Remains, say: Say) -> None:
    """Remove everything, saying each step."""
    await _delete(cluster, MutatingWebhookConfiguration, remains.mutating, say)
    await _delete(cluster, ValidatingWebhookConfiguration, remains.validating, say)
    held = () if remains.even_if_held else await _held(cluster)
    if held:
        say(_why_objects_stay(held))
    else:
        await _delete_objects(cluster, say)
    await _delete(
        cluster, Job, remains.init_job, say, namespace=remains.namespace, propagation="Background"
    )
    await _delete(cluster, Secret, remains.secret, say, namespace=remains.namespace)


async def _held(cluster: Cluster) -> Sequence[SpiderIP]:
    """Return the records of addresses that workloads hold."""
    try:
        records = (await cluster.list_objects(SpiderIP)).items
    except NotFound:
        return ()  # the definition is gone
    return [record for record in records if record.held_by_workload]


def _why_objects_stay(held: Sequence[SpiderIP]) -> str:
    first = held[0].spec
    return (
        f"workloads hold {len(held)} addresses, among them {first.ip} "
        f"({first.holder.namespace}/{first.holder.name}): pools, records and their definitions "
        "stay, and the next installation goes on with them; to delete them too, delete these "
        "workloads first, or set spiderpoolController.cleanup.evenIfHeld=true"
    )


async def _delete_objects(cluster: Cluster, say: Say) -> None:
    """
    Delete all objects of ours, then their definitions.

    What another product has in our group stays, and so does what of it we may not delete.
    """
    definitions = [
        definition
        for definition in (await cluster.list_objects(CustomResourceDefinition)).items
        if definition.metadata.name in OWN
    ]
    for definition in definitions:
        await _empty(cluster, kind_of(definition), say)
    for definition in definitions:
        await _delete(cluster, CustomResourceDefinition, definition.metadata.name, say)


def kind_of(definition: CustomResourceDefinition) -> type[KubeObject]:
    """Make a type for the objects of a definition; only their metadata is needed."""
    spec, names = definition.spec, definition.spec["names"]
    version = next(version["name"] for version in spec["versions"] if version["storage"])
    namespaced = spec["scope"] == "Namespaced"

    class Kind(KubeObject, frozen=True, kw_only=True):
        """Objects of the definition."""

        resource: ClassVar[Resource] = Resource(
            spec["group"], version, names["kind"], names["plural"], namespaced
        )

    return Kind


async def _empty(cluster: Cluster, kind: type[KubeObject], say: Say) -> None:
    """Delete all objects of a kind."""
    try:
        objects = (await cluster.list_metadata(kind)).items
    except NotFound:
        return  # the definition is on its way out
    for start in range(0, len(objects), DELETES_IN_FLIGHT):
        await asyncio.gather(
            *(_remove(cluster, kind, obj) for obj in objects[start : start + DELETES_IN_FLIGHT])
        )
    if objects:
        say(f"deleted {len(objects)} {kind.resource.plural}")


async def _remove(cluster: Cluster, kind: type[KubeObject], obj: PartialObject) -> None:
    """
    Delete one object, its finalizers first.

    The program that would take them off is being uninstalled.
    """
    meta = obj.metadata
    try:
        if meta.finalizers:
            await cluster.patch(
                kind, meta.name, {"metadata": {"finalizers": None}}, namespace=meta.namespace
            )
        await cluster.delete(kind, meta.name, meta.namespace)
    except NotFound:
        return  # gone by itself


async def _delete(
    cluster: Cluster,
    kind: type[KubeObject],
    name: str,
    say: Say,
    *,
    namespace: str = "",
    propagation: str | None = None,
) -> None:
    """Delete one named object."""
    if not name:
        return
    try:
        await cluster.delete(kind, name, namespace, propagation=propagation)
    except NotFound:
        say(f"{kind.resource.kind} {name} is not there")
    else:
        say(f"deleted {kind.resource.kind} {name}")
