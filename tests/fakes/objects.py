"""
Pods, pools and facts for tests.

Everything has a plain default, each test names only what it is about.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from spiderpool.api.crd.group import ANNO_IMPORTED
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.kubernetes.core import Namespace, Node, Pod, StatefulSet
from spiderpool.configuration.config import Features
from spiderpool.ipam.pod_request import NicRequest, Request, Source
from spiderpool.model.claim import Claimant, ClaimKey
from spiderpool.model.facts import Facts
from spiderpool.model.pool import Pool
from spiderpool.records.build import claim_record

FEATURES = Features(
    enable_ipv4=True, enable_ipv6=True, enable_stateful_set=True, enable_kubevirt_static_ip=True
)
DEPLOYMENT = Application(api_version="apps/v1", kind="Deployment", name="web", uid="d-uid")
STATEFULSET = Application(api_version="apps/v1", kind="StatefulSet", name="db", uid="s-uid")
MACHINE = Application(
    api_version="kubevirt.io/v1", kind="VirtualMachineInstance", name="vm", uid="v-uid"
)


def make_pod(name: str = "web-1", namespace: str = "ns", uid: str = "uid-1", **more: Any) -> Pod:
    """
    Make a running pod; further keys.

    `annotations`, `labels`, `node`, `phase`, `restart`, `reason`, `deleted`; `mirror` is the UID of
    a pod from a file, `owner` the kind and name of its owner.
    """
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid}
    metadata["annotations"] = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in more.get("annotations", {}).items()
    }
    metadata["labels"] = more.get("labels", {})
    kind, owner = more.get("owner", ("Node", more.get("node", "node1")))
    if "mirror" in more:
        metadata["annotations"]["kubernetes.io/config.mirror"] = more["mirror"]
    if "mirror" in more or "owner" in more:
        reference = {
            "apiVersion": "v1",
            "kind": kind,
            "name": owner,
            "uid": "n",
            "controller": True,
        }
        metadata["ownerReferences"] = [reference]
    if more.get("deleted"):
        metadata["deletionTimestamp"] = "2025-01-01T00:00:00Z"
    document = {
        "metadata": metadata,
        "spec": {
            "nodeName": more.get("node", "node1"),
            "restartPolicy": more.get("restart", "Always"),
        },
        "status": {"phase": more.get("phase", "Running"), "reason": more.get("reason", "")},
    }
    return msgspec.convert(document, Pod)


def make_node(name: str = "node1", labels: dict[str, str] | None = None) -> Node:
    """Make a node."""
    return msgspec.convert({"metadata": {"name": name, "labels": labels or {}}}, Node)


def make_namespace(
    name: str = "ns", labels: dict[str, str] | None = None, **annotations: str
) -> Namespace:
    """
    Make a namespace.

    Keywords become annotations `ipam.spidernet.io/default-<keyword>-ippool`.
    """
    keys = {
        f"ipam.spidernet.io/default-{family}-ippool": value for family, value in annotations.items()
    }
    return msgspec.convert(
        {"metadata": {"name": name, "labels": labels or {}, "annotations": keys}}, Namespace
    )


def make_statefulset(
    name: str = "db", replicas: int | None = 2, start: int | None = None
) -> StatefulSet:
    """Make a StatefulSet."""
    spec: dict[str, Any] = {"replicas": replicas}
    if start is not None:
        spec["ordinals"] = {"start": start}
    return msgspec.convert(
        {"metadata": {"name": name, "namespace": "ns"}, "spec": spec}, StatefulSet
    )


def make_ippool(name: str = "blue", subnet: str = "10.6.0.0/16", **spec: Any) -> SpiderIPPool:
    """
    Make a SpiderIPPool of ten addresses.

    Keywords are keys of its spec, or `labels`, `annotations`, `status`, `deleted`.
    """
    metadata: dict[str, Any] = {
        "name": name,
        "uid": f"{name}-uid",
        "labels": spec.pop("labels", {}),
    }
    metadata["annotations"] = spec.pop("annotations", {ANNO_IMPORTED: "true"})
    if spec.pop("deleted", False):
        metadata["deletionTimestamp"] = "2025-01-01T00:00:00Z"
    status = spec.pop("status", {})
    spec.setdefault("ips", ["fd00::10-fd00::19"] if ":" in subnet else ["10.6.0.10-10.6.0.19"])
    return msgspec.convert(
        {"metadata": metadata, "spec": {"subnet": subnet, **spec}, "status": status}, SpiderIPPool
    )


def make_pool(name: str = "blue", subnet: str = "10.6.0.0/16", **spec: Any) -> Pool:
    """Make the parsed form of `make_ippool`."""
    return Pool.parse(make_ippool(name, subnet, **spec))


def make_facts(*pools: Pool, pod: Pod | None = None, **more: Any) -> Facts:
    """Make facts around a pod of a Deployment."""
    more.setdefault("owner", DEPLOYMENT)
    more.setdefault("features", FEATURES)
    return Facts(pod=pod or make_pod(), pools={pool.name: pool for pool in pools}, **more)


def make_pod_request(nic: str = "eth0", **more: Any) -> NicRequest:
    """Make the request of one NIC; `patterns` by default names the pool `blue`."""
    more.setdefault("patterns", {4: ("blue",)})
    more.setdefault("source", Source.IPPOOL)
    return NicRequest(nic=nic, **more)


def make_key(facts: Facts, nic: str = "eth0", family: int = 4) -> ClaimKey:
    """Make the claim of the pod of some facts."""
    return ClaimKey(Claimant.of(facts.pod, facts.owner, facts.features), nic, family)


def make_record(
    ip: str = "10.6.0.10", pool: Pool | None = None, facts: Facts | None = None, **more: Any
) -> SpiderIP:
    """
    Make the Held record of a pod's address; keywords.

    `nic`, `container_id`, `clean_gateway`, `routes`, `network`.
    """
    pool = pool or (make_pool() if ":" not in ip else make_pool("six", "fd00::/64"))
    facts = facts or make_facts(pool)
    nic = more.get("nic", "eth0")
    request = Request(
        nic=nic,
        container_id=more.get("container_id", "sandbox-1"),
        network=more.get("network", "macvlan"),
    )
    pod_request = make_pod_request(nic, clean_gateway=more.get("clean_gateway", False))
    address = pool.total.at(0).__class__(ip)
    return claim_record(
        pool,
        address,
        make_key(facts, nic, pool.family),
        facts,
        pod_request,
        request,
        more.get("routes", ()),
    )
