"""Manifests of what the stories create: plain JSON objects."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.lab.kube import Thing

IPPOOLS: Final = "ipam.spidernet.io/ippools"
IPPOOL: Final = "ipam.spidernet.io/ippool"
SUBNETS: Final = "ipam.spidernet.io/subnets"
SUBNET: Final = "ipam.spidernet.io/subnet"
IP_NUMBER: Final = "ipam.spidernet.io/ippool-ip-number"
ROUTES: Final = "ipam.spidernet.io/routes"
DEFAULT_ROUTE_NIC: Final = "ipam.spidernet.io/default-route-nic"
NAMESPACE_POOLS: Final = {
    4: "ipam.spidernet.io/default-ipv4-ippool",
    6: "ipam.spidernet.io/default-ipv6-ippool",
}
DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"

TEST_LABEL: Final = "spiderpool-test"  # on whatever a story creates outside of its own namespace

# Serves its own name over HTTP, and ends at once when told to: a shell that waits hears TERM, a
# `sleep` as PID 1 does not.
SERVE: Final = (
    "mkdir -p /www; hostname >/www/name; httpd -h /www; trap 'exit 0' TERM; sleep 1000000 & wait"
)


def pod_spec(node: str | None = None, selector: Mapping[str, str] | None = None) -> Thing:
    """Return a pod's spec: one busybox that serves its name; `node` leaves out the scheduler."""
    spec: Thing = {
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [
            {
                "name": "web",
                "image": "busybox:1",
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", SERVE],
            },
        ],
    }
    if node:
        spec["nodeName"] = node
    if selector:
        spec["nodeSelector"] = dict(selector)
    return spec


def texts(annotations: Mapping[str, Any] | None) -> dict[str, str]:
    """Return annotations as text; what is no text becomes JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in (annotations or {}).items()
    }


def pod(
    name: str,
    namespace: str,
    annotations: Mapping[str, Any],
    labels: Mapping[str, str],
    spec: Thing,
) -> Thing:
    """Return a pod."""
    metadata = {
        "name": name,
        "namespace": namespace,
        "annotations": texts(annotations),
        "labels": dict(labels),
    }
    return {"kind": "Pod", "metadata": metadata, "spec": spec}


def workload(
    kind: str,
    name: str,
    namespace: str,
    replicas: int,
    annotations: Mapping[str, Any],
    spec: Thing,
    **more: Any,
) -> Thing:
    """Return a Deployment or StatefulSet whose pods have these annotations."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels, "annotations": texts(annotations)}, "spec": spec}
    return {
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template,
            **more,
        },
    }


def macvlan(name: str, namespace: str, master: str, ipam: Mapping[str, Any]) -> Thing:
    """Return a macvlan network whose addresses come from Spiderpool."""
    config = {
        "cniVersion": "1.0.0",
        "name": name,
        "type": "macvlan",
        "master": master,
        "mode": "bridge",
        "ipam": {"type": "spiderpool", **ipam},
    }
    metadata = {"name": name, "namespace": namespace}
    return {
        "kind": "NetworkAttachmentDefinition",
        "metadata": metadata,
        "spec": {"config": json.dumps(config)},
    }


def coordinated(name: str, namespace: str, master: str) -> Thing:
    """Return a macvlan network with addresses from Spiderpool and the coordinator behind it."""
    ipam = {"type": "spiderpool"}
    macvlan = {"type": "macvlan", "master": master, "mode": "bridge", "ipam": ipam}
    config = {"cniVersion": "1.0.0", "name": name, "plugins": [macvlan, {"type": "coordinator"}]}
    metadata = {"name": name, "namespace": namespace}
    spec = {"config": json.dumps(config)}
    return {"kind": "NetworkAttachmentDefinition", "metadata": metadata, "spec": spec}


def pool(name: str, subnet: str, ips: Sequence[str], **spec: Any) -> Thing:
    """Return a SpiderIPPool."""
    metadata = {"name": name, "labels": {TEST_LABEL: "true"}}
    return {
        "kind": "SpiderIPPool",
        "metadata": metadata,
        "spec": {"subnet": subnet, "ips": list(ips), **spec},
    }


def multus_config(
    name: str, namespace: str, annotations: Mapping[str, str] | None = None, **spec: Any
) -> Thing:
    """Return a SpiderMultusConfig."""
    metadata = {"name": name, "namespace": namespace, "annotations": dict(annotations or {})}
    return {"kind": "SpiderMultusConfig", "metadata": metadata, "spec": spec}
