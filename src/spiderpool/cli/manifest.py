"""The pod that a manifest would make, without making it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import yaml

from spiderpool.api.crd.spiderip import Application
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import InvalidRequest

# Kind → where its pod template is.
TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "Deployment": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


def read_pod(text: str, namespace: str, node: str = "") -> tuple[Pod, Application]:
    """
    Read the first pod, or workload with a pod template, of a YAML file.

    Args:
        text: one or several documents.
        namespace: of the pod where the manifest names none.
        node: on which the pod is thought to be, where the manifest names none.
    Returns:
        The first pod that it would make, and what it would belong to.
    """
    try:
        documents = [each for each in yaml.safe_load_all(text) if isinstance(each, dict)]
    except yaml.YAMLError as error:
        raise InvalidRequest(f"the manifest is not YAML: {' '.join(str(error).split())}") from None
    document = next(
        (each for each in documents if each.get("kind") == "Pod" or each.get("kind") in TEMPLATES),
        None,
    )
    if document is None:
        raise InvalidRequest(f"the manifest has no Pod and none of {', '.join(TEMPLATES)}")
    try:
        return _pod_of(document, namespace, node)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"the manifest's {document['kind']}: {error}") from None


def _pod_of(document: Mapping[str, Any], namespace: str, node: str) -> tuple[Pod, Application]:
    """Make the pod of one document."""
    kind, metadata = document["kind"], document.get("metadata") or {}
    name = metadata.get("name") or metadata.get("generateName") or "unnamed"
    template = document if kind == "Pod" else _template(document, TEMPLATES[kind])
    spec = dict(template.get("spec") or {})
    spec["nodeName"] = spec.get("nodeName") or node
    pod_name = {"Pod": name, "StatefulSet": f"{name}-0"}.get(kind, f"{name}-")
    pod = {
        "metadata": {
            **(template.get("metadata") or {}),
            "name": pod_name,
            "namespace": metadata.get("namespace") or namespace,
            "uid": "",
        },
        "spec": spec,
    }
    owner = Application(
        api_version=str(document.get("apiVersion", "v1")), kind=kind, name=name, uid=""
    )
    return msgspec.convert(pod, Pod), owner


def _template(document: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    """Follow the path to the pod template."""
    found: Any = document
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise InvalidRequest(f"the manifest's {document['kind']} has no {'.'.join(path)}")
    return found
