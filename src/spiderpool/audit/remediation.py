"""The command lines that end what the audit finds."""

from __future__ import annotations

from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.audit.snapshot import Snapshot


def delete_pod(pod: Pod) -> str:
    """Delete a pod; its owner makes it again."""
    return f"kubectl --namespace {pod.metadata.namespace} delete pod {pod.metadata.name}"


def move_off(record: SpiderIP, snapshot: Snapshot) -> str:
    """
    Make a holder take another address.

    A static one keeps its own over the restart, so that is released.
    """
    pod = snapshot.living(record)
    release = f"spiderpoolctl ip release --ip {record.spec.ip} --force"
    if pod is None:
        return release
    return f"{delete_pod(pod)} && {release}" if record.spec.static else delete_pod(pod)


def record_by_hand(ip: str, pod: Pod, nic: str, container: str) -> str:
    """
    Return the command that writes a record for what a pod has.

    Args:
        ip: the address.
        pod: who has it.
        nic: name of the interface.
        container: ID of the pod's sandbox.
    """
    meta = pod.metadata
    return (
        f"spiderpoolctl ip set --ip {ip} --pod {meta.name} --namespace {meta.namespace} "
        f"--containerid {container} "
        f"--node {pod.spec.node_name} --interface {nic}"
    )


def restart_controller(namespace: str) -> str:
    """Begin the controller again, which then writes all that is derived."""
    return f"kubectl --namespace {namespace} rollout restart deployment spiderpool-controller"


def restart_agents(namespace: str) -> str:
    """
    Begin the agents again.

    Each makes the records again that living pods of its node have lost.
    """
    return f"kubectl --namespace {namespace} rollout restart daemonset spiderpool-agent"


def remove_namespace(namespace: InUseNamespace, node: str) -> str:
    """Remove a network namespace that outlived its pod, on its node."""
    name = namespace.path.rpartition("/")[2]
    return (
        f"ip netns delete {name}  # on node {node}"
        if "/netns/" in namespace.path
        else f"reboot node {node}"
    )
