"""
The webhook of new pods: `/mutate--v1-pod`.

What a pod gets is decided by `admission.pod_injection`.
"""

from __future__ import annotations

import msgspec
import structlog

from spiderpool.admission.pod_injection import InjectedPod, patch_pod, plan_injection, read_demand
from spiderpool.api.crd.multusconfig import SpiderMultusConfig
from spiderpool.api.kubernetes.core import Namespace
from spiderpool.controller.webhooks.server import AdmissionAnswer, AdmissionRequest, Status, patched
from spiderpool.errors import InvalidRequest, NotFound, SpiderpoolError
from spiderpool.kube.cluster import Cluster

log = structlog.get_logger("spiderpool.controller")


class PodInjector:
    """Puts networks and resources into new pods that ask for them."""

    def __init__(self, cluster: Cluster, release_namespace: str) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the door.
            release_namespace: whose networks pods of every namespace may get.
        """
        self._cluster = cluster
        self._release_namespace = release_namespace

    async def __call__(self, request: AdmissionRequest) -> AdmissionAnswer:
        """Answer one admission review."""
        try:
            pod = msgspec.json.decode(request.object, type=InjectedPod)
            return patched(
                request, await self._operations(pod, request.namespace or pod.metadata.namespace)
            )
        except msgspec.DecodeError as error:
            return refused(
                request, f"pod {request.name} cannot be read: {error}", "BadRequest", 400
            )
        except InvalidRequest as error:
            return refused(request, error.message, "Forbidden", 403)
        except SpiderpoolError as error:
            words = (
                f"pod {request.name} cannot be given its networks now: {error.message}; try again"
            )
            return refused(request, words, "ServiceUnavailable", 503)

    async def _operations(self, pod: InjectedPod, namespace: str) -> list[dict[str, object]]:
        """Decide on the changes of a pod."""
        demand = read_demand(pod.metadata.annotations, await self._annotations_of(namespace))
        if demand is None:
            return []
        configs = await self._cluster.list_objects(SpiderMultusConfig, labels=demand.selector)
        return patch_pod(
            pod, plan_injection(demand, configs.items, (namespace, self._release_namespace))
        )

    async def _annotations_of(self, namespace: str) -> dict[str, str]:
        """Read a namespace's annotations."""
        try:
            return (await self._cluster.get_metadata(Namespace, namespace)).metadata.annotations
        except NotFound:
            return {}


def refused(request: AdmissionRequest, message: str, reason: str, code: int) -> AdmissionAnswer:
    """Refuse a pod."""
    log.info(
        "refused",
        kind="Pod",
        namespace=request.namespace,
        name=request.name,
        code=code,
        reason=message,
    )
    status = Status(status="Failure", message=message, reason=reason, code=code)
    return AdmissionAnswer(uid=request.uid, allowed=False, status=status)
