"""
Steps of installation and removal against the API: CRDs, default pools, programs.

Each may be repeated at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Final

import yaml

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.core import Lease
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.errors import AlreadyExists, InvalidRequest, NotFound, Rejected, SpiderpoolError
from spiderpool.installer.kube_types import (
    CustomResourceDefinition,
    DaemonSet,
    Deployment,
    EndpointSlice,
)
from spiderpool.kube.cluster import Cluster

POLL_S: Final = 1.0
# Of the controllers' leader (docs/reference/configuration.md#controller).
LEASE: Final = "spiderpool-controller-leases"

NOUNS: Final[dict[type[KubeObject], str]] = {SpiderSubnet: "subnet", SpiderIPPool: "pool"}

Say = Callable[[str], None]


async def create_defaults(
    cluster: Cluster, defaults: Iterable[SpiderSubnet | SpiderIPPool], say: Say
) -> None:
    """Create subnets and pools; one of that name that is there already stays as it is."""
    for default in defaults:
        spec = default.spec
        details = f": {spec.subnet}, {', '.join(spec.ips) or 'no addresses yet'}"
        await create_once(
            _create(cluster, default),
            f"{NOUNS[type(default)]} {default.metadata.name}",
            say,
            details,
        )


async def create_once(creating: Awaitable[object], what: str, say: Say, details: str = "") -> None:
    """
    Create something, and say so with its details.

    One of that name that is there already stays as it is.
    """
    try:
        await creating
    except AlreadyExists:
        say(f"{what} is there already; it stays as it is")
    else:
        say(f"{what} created{details}")


async def _create(cluster: Cluster, default: SpiderSubnet | SpiderIPPool) -> None:
    """Create an object of either kind."""
    if isinstance(default, SpiderSubnet):
        await cluster.create(default)
    else:
        await cluster.create(default)


async def wait_for_controller(cluster: Cluster, namespace: str, name: str, say: Say) -> None:
    """
    Wait until the controller's Service has a backend that is ready.

    Its webhook must answer for pools.
    """
    said = False
    while True:
        slices = await cluster.list_objects(
            EndpointSlice, namespace=namespace, labels=f"kubernetes.io/service-name={name}"
        )
        if any(endpoint.ready for piece in slices.items for endpoint in piece.endpoints or ()):
            return
        if not said:
            say(f"waiting for a ready backend of service {namespace}/{name}")
            said = True
        await asyncio.sleep(POLL_S)


async def remove_programs(
    cluster: Cluster, namespace: str, agent: str, controller: str, say: Say
) -> None:
    """
    Delete agents and controllers, wait until the last of them has ended, and take their lease away.

    An agent that ends and finds its DaemonSet marked for deletion takes what it put on its node
    away. Controllers go too: they would write to what is deleted next.
    """
    await _remove_workload(cluster, DaemonSet, agent, namespace, say)
    await _remove_workload(cluster, Deployment, controller, namespace, say)
    with contextlib.suppress(NotFound):
        await cluster.delete(Lease, LEASE, namespace)


async def _remove_workload(
    cluster: Cluster, kind: type[KubeObject], name: str, namespace: str, say: Say
) -> None:
    """Delete a workload in the foreground: it is there, marked, until its last pod has ended."""
    words = f"{kind.resource.kind.lower()} {namespace}/{name}"
    try:
        while True:
            found = await cluster.get_metadata(kind, name, namespace)
            if not found.metadata.deletion_timestamp:
                await cluster.delete(kind, name, namespace, propagation="Foreground")
                say(f"{words} is being deleted")
            await asyncio.sleep(POLL_S)
    except NotFound:
        say(f"{words} is gone")


def read_definitions(folder: Path) -> tuple[CustomResourceDefinition, ...]:
    """Read all CustomResourceDefinitions of a folder."""
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        raise InvalidRequest(f"{folder} holds no *.yaml file")
    return tuple(_definition(path, document) for path in paths for document in _documents(path))


def _documents(path: Path) -> list[Any]:
    """Read the YAML documents of a file, without empty ones."""
    try:
        return [document for document in yaml.safe_load_all(path.read_text()) if document]
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{path} is not YAML: {' '.join(str(error).split())}") from None


def _definition(path: Path, document: Any) -> CustomResourceDefinition:
    """Take a CustomResourceDefinition from a document."""
    if (
        not isinstance(document, dict)
        or document.get("kind") != CustomResourceDefinition.resource.kind
    ):
        raise InvalidRequest(f"{path} holds something that is not a CustomResourceDefinition")
    return CustomResourceDefinition(
        metadata=ObjectMeta(name=document["metadata"]["name"]), spec=document["spec"]
    )


async def apply_definitions(
    cluster: Cluster,
    definitions: Iterable[CustomResourceDefinition],
    say: Say,
    *,
    only_if_absent: bool = False,
) -> None:
    """
    Create or update CRDs and wait until their objects are served.

    A merge patch says all there is to say: the schema lives in the list `versions`, which it
    replaces as a whole.
    """
    for definition in definitions:
        name = definition.metadata.name
        try:
            await cluster.create(definition)
            say(f"crd {name} created")
        except AlreadyExists:
            if not only_if_absent:
                await cluster.patch(CustomResourceDefinition, name, {"spec": definition.spec})
            say(f"crd {name} {'is there already' if only_if_absent else 'brought up to date'}")
        await _until_established(cluster, name)


async def _until_established(cluster: Cluster, name: str) -> None:
    """Wait until the API server serves the objects of a CRD."""
    while True:
        if (await cluster.get(CustomResourceDefinition, name)).established:
            return
        await asyncio.sleep(POLL_S / 10)


async def until_done(step: Callable[[], Awaitable[None]], say: Say) -> None:
    """
    Repeat a step until it succeeds.

    Right after an installation the API server may not know the new roles and Services yet. What the
    API refuses for its content, or what is wrong in our input, does not get better.
    """
    while True:
        try:
            return await step()
        except (Rejected, InvalidRequest):
            raise
        except SpiderpoolError as error:
            say(f"{error.message}; trying again")
            await asyncio.sleep(POLL_S)
