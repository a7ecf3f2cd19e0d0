"""
The automatic pool of an application.

Its name, its labels, the object.

Source: docs/reference/automatic-pools.md#which-pool.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from spiderpool.addressing.ranges import cidr_label, render_ranges
from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import (
    ANNO_IPPOOL_IP_NUMBER,
    FINALIZER,
    LABEL_INTERFACE,
    LABEL_IP_VERSION,
    LABEL_IPPOOL_CIDR,
    LABEL_IPPOOL_RECLAIM,
    LABEL_OWNER_APP_GV,
    LABEL_OWNER_APP_KIND,
    LABEL_OWNER_APP_NAME,
    LABEL_OWNER_APP_NAMESPACE,
    LABEL_OWNER_APP_UID,
    LABEL_OWNER_SUBNET,
    PREFIX,
)
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.spiderip import Application
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.api.kubernetes.meta import LabelSelector, ObjectMeta, OwnerReference
from spiderpool.ipam.pool_size import IPNumber
from spiderpool.model.label_values import label_value
from spiderpool.model.pool import Place, Pool
from spiderpool.model.subnet import Subnet

NAME_LIMIT: Final = 253
TAIL: Final = 5
NOT_IN_NAME: Final = re.compile(r"[^a-z0-9-]")


@dataclass(frozen=True, slots=True)
class App:
    """An application, as the one which a pool is for."""

    owner: Application
    namespace: str

    @property
    def key(self) -> str:
        """
        The key in a subnet's status: `apps_v1_Deployment_ns_name`.

        Source: docs/reference/automatic-pools.md#spidersubnet.
        """
        return f"{self._group_version}_{self.owner.kind}_{self.namespace}_{self.owner.name}"

    @property
    def label_key(self) -> str:
        """
        The key as the labels of a pool have it.

        A name that is too long for a label is its hash.
        """
        name = label_value(self.owner.name)
        return f"{self._group_version}_{self.owner.kind}_{self.namespace}_{name}"

    @property
    def _group_version(self) -> str:
        return self.owner.api_version.replace("/", "_")

    def place(self, subnet: str, nic: str, family: int) -> Place:
        """
        Return what a pool of this application is for, as the pool's labels have it.

        Args:
            subnet: name of the SpiderSubnet.
            nic: name of the interface in the pod.
            family: 4 or 6.
        """
        return Place(self.label_key, label_value(subnet), label_value(nic), family)

    def affinity(self) -> dict[str, str]:
        """Return the five labels by which an automatic pool names its application."""
        return application_labels(self.owner, self.namespace)


def application_labels(owner: Application, namespace: str) -> dict[str, str]:
    """
    Return the labels by which an automatic pool selects its application.

    Values as label values.
    """
    group, _, version = owner.api_version.rpartition("/")
    values = {
        "api-group": group,
        "api-version": version,
        "kind": owner.kind,
        "namespace": namespace,
        "name": owner.name,
    }
    return {f"{PREFIX}app-{key}": label_value(value) for key, value in values.items()}


def pool_names(app: App, subnet: str, nic: str, family: int) -> Iterator[str]:
    """
    Return names for a pool, the original's first; the others are for when that one is taken.

    `auto4-<application>-<nic>-<tail>`: the tail is the start of the last part of the application's
    UID; then hashes of UID and subnet, so that the pool that an application had in another subnet
    is not in the way.

    Args:
        app: the application.
        subnet: name of the SpiderSubnet.
        nic: name of the interface in the pod.
        family: 4 or 6.
    Returns:
        Names without end.
    Source: docs/reference/automatic-pools.md#which-pool.
    """
    for number in itertools.count():
        text = f"{app.owner.uid}/{subnet}/{nic}/{family}/{number}"
        tail = (
            hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            if number
            else app.owner.uid.rpartition("-")[2]
        )
        yield _name(app.owner.name, nic, family, tail[:TAIL])


def _name(app: str, nic: str, family: int, tail: str) -> str:
    """
    Put a name together.

    The application's name is cut when it would be too long for Kubernetes.
    """
    before, after = f"auto{family}-", f"-{NOT_IN_NAME.sub('-', nic.lower())}-{tail.lower()}"
    return before + app.lower()[: NAME_LIMIT - len(before) - len(after)].rstrip("-.") + after


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """An automatic pool as it is to be; `number` is what its annotation says."""

    name: str
    app: App
    nic: str
    subnet: Subnet
    ips: AddressSet
    number: IPNumber
    reclaim: bool


def labels_of(plan: PoolPlan) -> dict[str, str]:
    """Return the labels of an automatic pool."""
    owner, family = plan.app.owner, plan.subnet.family
    return {
        LABEL_IPPOOL_CIDR: cidr_label(plan.subnet.text),
        LABEL_OWNER_SUBNET: label_value(plan.subnet.name),
        LABEL_OWNER_APP_GV: owner.api_version.replace("/", "_"),
        LABEL_OWNER_APP_KIND: owner.kind,
        LABEL_OWNER_APP_NAMESPACE: plan.app.namespace,
        LABEL_OWNER_APP_NAME: label_value(owner.name),
        LABEL_OWNER_APP_UID: owner.uid,
        LABEL_INTERFACE: label_value(plan.nic),
        LABEL_IP_VERSION: f"IPv{family}",
        LABEL_IPPOOL_RECLAIM: "true" if plan.reclaim else "false",
    }


def build_pool(plan: PoolPlan) -> SpiderIPPool:
    """Make the object, as it is to be created: gateway and routes are the subnet's."""
    subnet = plan.subnet
    return SpiderIPPool(
        metadata=ObjectMeta(
            name=plan.name,
            labels=labels_of(plan),
            annotations={ANNO_IPPOOL_IP_NUMBER: str(plan.number)},
            finalizers=(FINALIZER,),
            owner_references=(subnet_reference(subnet.name, subnet.uid),),
        ),
        spec=IPPoolSpec(
            ip_version=4 if subnet.family == 4 else 6,  # noqa: PLR2004
            subnet=subnet.text,
            ips=tuple(render_ranges(plan.ips)),
            gateway=subnet.gateway,
            routes=subnet.routes,
            pod_affinity=LabelSelector(match_labels=plan.app.affinity()),
            default=False,
            disable=False,
        ),
    )


def pool_changes(pool: SpiderIPPool, plan: PoolPlan) -> dict[str, Any]:
    """Return the merge patch that makes an existing pool what it is to be, empty when it is so."""
    ips, number = render_ranges(plan.ips), str(plan.number)
    labels = {
        key: value
        for key, value in labels_of(plan).items()
        if pool.metadata.labels.get(key) != value
    }
    patch: dict[str, Any] = {}
    if labels:
        patch["metadata"] = {"labels": labels}
    if pool.metadata.annotations.get(ANNO_IPPOOL_IP_NUMBER) != number:
        patch.setdefault("metadata", {})["annotations"] = {ANNO_IPPOOL_IP_NUMBER: number}
    if list(pool.spec.ips) != ips or pool.spec.exclude_ips:
        patch["spec"] = {"ips": ips, "excludeIPs": None}
    return patch


def subnet_reference(name: str, uid: str) -> OwnerReference:
    """Make a subnet the controlling owner of a pool."""
    resource = SpiderSubnet.resource
    return OwnerReference(
        api_version=resource.api_version,
        kind=resource.kind,
        name=name,
        uid=uid,
        controller=True,
        block_owner_deletion=True,
    )


def controlling_subnet(pool: SpiderIPPool) -> OwnerReference | None:
    """Return the subnet that controls a pool, None for an orphan."""
    resource = SpiderSubnet.resource
    return next(
        (
            ref
            for ref in pool.metadata.owner_references
            if ref.controller
            and (ref.api_version, ref.kind) == (resource.api_version, resource.kind)
        ),
        None,
    )


def is_granted(pool: Pool, subnet: Subnet) -> bool:
    """
    Return whether an automatic pool has exactly what its subnet's status grants to it.

    A status grants no address twice, so such a pool has nothing in common with others.
    """
    grant = subnet.grants.get(pool.name)
    return (
        pool.auto
        and grant is not None
        and grant.application is not None
        and grant.ips == pool.total
    )


def label_key_of(application: str) -> str:
    """
    Return the label form of an application's key.

    Its last part is the name, and no part has a `_`.
    """
    before, _, name = application.rpartition("_")
    return f"{before}_{label_value(name)}"


def parse_application_key(text: str) -> tuple[str, str, str, str] | None:
    """
    Read an application's key as (API version, kind, namespace, name); None when it is none.

    No part has a `_`.
    """
    match text.split("_"):
        case [version, kind, namespace, name]:
            return version, kind, namespace, name
        case [group, version, kind, namespace, name]:
            return f"{group}/{version}", kind, namespace, name
        case _:
            return None
