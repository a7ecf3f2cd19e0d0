"""Rights of the lab's programs, as objects with their paths at the API server. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

Object = tuple[str, dict[str, Any]]
"""An object's path at the API server, and the object."""

GROUP = "rbac.authorization.k8s.io"


def reader(
    name: str, watched: Mapping[str, Sequence[str]], subject: Mapping[str, str]
) -> list[Object]:
    """
    Return a ClusterRole that reads things, and the binding that gives it to a subject.

    Args:
        name: of both objects.
        watched: the resources by API group.
        subject: kind and name, and what else its kind asks for.
    """
    verbs = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": verbs}
        for group, resources in watched.items()
    ]
    head = {"apiVersion": f"{GROUP}/v1", "metadata": {"name": name}}
    role = {**head, "kind": "ClusterRole", "rules": rules}
    binding = {
        **head,
        "kind": "ClusterRoleBinding",
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [dict(subject)],
    }
    return [
        (f"/apis/{GROUP}/v1/clusterroles/{name}", role),
        (f"/apis/{GROUP}/v1/clusterrolebindings/{name}", binding),
    ]
