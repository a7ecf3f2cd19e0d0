"""
The application that a pod belongs to.

One step at a time, since the parent of a ReplicaSet or Job has to be fetched: `next_owner` of the
pod; unless `is_final`, fetch that object's metadata and take `top_owner`; then `application`.

Source: docs/reference/allocation.md#application-of-a-pod.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import OwnerReference

# A controller that is itself managed by another, and by which.
MANAGED_BY: Final = {
    ("apps/v1", "ReplicaSet"): ("apps/v1", "Deployment"),
    ("batch/v1", "Job"): ("batch/v1", "CronJob"),
}


def next_owner(refs: Iterable[OwnerReference]) -> OwnerReference | None:
    """Return the controller among an object's owners, if it has one."""
    return next((ref for ref in refs if ref.controller), None)


def is_final(ref: OwnerReference) -> bool:
    """Return whether this owner is the application itself: no other kind can stand above it."""
    return (ref.api_version, ref.kind) not in MANAGED_BY


def manager_of(
    api_version: str, kind: str, owners: Iterable[OwnerReference]
) -> OwnerReference | None:
    """
    Return the manager of an object among its owners.

    Only the manager that Kubernetes itself has for the kind counts: a ReplicaSet owned by anything
    but a Deployment is the application.
    """
    parent = next_owner(owners)
    if parent is None or MANAGED_BY.get((api_version, kind)) != (parent.api_version, parent.kind):
        return None
    return parent


def top_owner(ref: OwnerReference, parents: Iterable[OwnerReference]) -> OwnerReference:
    """Return the application, knowing the owners of a ReplicaSet or Job."""
    return manager_of(ref.api_version, ref.kind, parents) or ref


def referred(ref: OwnerReference) -> Application:
    """Return the application that a reference names."""
    return Application(api_version=ref.api_version, kind=ref.kind, name=ref.name, uid=ref.uid)


def application(pod: Pod, ref: OwnerReference | None) -> Application:
    """Return the application of a pod: its top owner, or the pod itself."""
    if ref is None:
        return Application(
            api_version="v1", kind="Pod", name=pod.metadata.name, uid=pod.metadata.uid
        )
    return referred(ref)
