"""Records of pods on named nodes, made by the functions that the agent makes them with."""

from __future__ import annotations

import itertools
from ipaddress import ip_address
from typing import Any

from msgspec.structs import replace

from spiderpool.api.crd.spiderip import Application, Holder, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.ipam.pod_request import Request
from spiderpool.records.build import build_record, hand_over, pod_holder
from tests.fakes.objects import DEPLOYMENT, FEATURES, make_pod

_numbers = itertools.count(1)


def new_ip() -> str:
    """Return an address that no other test uses."""
    number = next(_numbers)
    return f"10.7.{number // 250}.{number % 250 + 1}"


def pod_on(node: str, name: str = "web-1", **more: Any) -> Pod:
    """Make a pod on a node; its UID is of name and node."""
    return make_pod(name, **{"uid": f"{name}-{node}", "node": node, **more})


def make_holder(
    name: str, node: str, *, owner: Application = DEPLOYMENT, namespace: str = "ns"
) -> Holder:
    """Make the holder that a pod on a node is."""
    pod = pod_on(node, name, namespace=namespace)
    return pod_holder(pod, owner, FEATURES, "eth0", container_id=f"sandbox-{node}")


def held(ip: str, holder: Holder, *, static: bool = False) -> SpiderIP:
    """Make the record of an address that a holder has."""
    return build_record(ip_address(ip), 16, "blue", holder, static=static)


def given(record: SpiderIP, node: str, owner: Application, **more: Any) -> SpiderIP:
    """Give a fixed address to the pod of the same name on another node."""
    holder = record.spec.holder
    pod = pod_on(node, holder.name, namespace=holder.namespace, **more)
    return hand_over(record, pod, owner, Request(nic="eth0", container_id=f"sandbox-{node}"))


def with_holder(record: SpiderIP, **changes: Any) -> SpiderIP:
    """Return a record whose holder says something else; labels stay."""
    holder = replace(record.spec.holder, **changes)
    return replace(record, spec=replace(record.spec, holder=holder))


def with_metadata(record: SpiderIP, **changes: Any) -> SpiderIP:
    """Return a record with other metadata."""
    return replace(record, metadata=replace(record.metadata, **changes))
