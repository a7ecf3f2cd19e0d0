"""
The API server as a test asks it: one connection, plain JSON objects, the server's own words when it refuses.

Not `spiderpool.kube`: what a test believes must not come through the code that it judges.
"""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import urllib.parse
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final

import yaml

Thing = dict[str, Any]

SPIDERPOOL: Final = "spiderpool.spidernet.io/v2beta1"
MERGE_PATCH: Final = "application/merge-patch+json"

# kind: (API version, plural, namespaced)
KINDS: Final[dict[str, tuple[str, str, bool]]] = {
    "Pod": ("v1", "pods", True),
    "Event": ("v1", "events", True),
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "ConfigMap": ("v1", "configmaps", True),
    "Secret": ("v1", "secrets", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "Service": ("v1", "services", True),
    "Deployment": ("apps/v1", "deployments", True),
    "DaemonSet": ("apps/v1", "daemonsets", True),
    "StatefulSet": ("apps/v1", "statefulsets", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "Job": ("batch/v1", "jobs", True),
    "CronJob": ("batch/v1", "cronjobs", True),
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "Role": ("rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "FlowSchema": ("flowcontrol.apiserver.k8s.io/v1", "flowschemas", False),
    "PriorityLevelConfiguration": (
        "flowcontrol.apiserver.k8s.io/v1",
        "prioritylevelconfigurations",
        False,
    ),
    "SubjectAccessReview": ("authorization.k8s.io/v1", "subjectaccessreviews", False),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "MutatingWebhookConfiguration": (
        "admissionregistration.k8s.io/v1",
        "mutatingwebhookconfigurations",
        False,
    ),
    "ValidatingWebhookConfiguration": (
        "admissionregistration.k8s.io/v1",
        "validatingwebhookconfigurations",
        False,
    ),
    "CloneSet": ("apps.kruise.io/v1alpha1", "clonesets", True),
    "NetworkAttachmentDefinition": ("k8s.cni.cncf.io/v1", "network-attachment-definitions", True),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", True),
    "ServiceCIDR": ("networking.k8s.io/v1", "servicecidrs", False),
    "SpiderIPPool": (SPIDERPOOL, "spiderippools", False),
    "SpiderSubnet": (SPIDERPOOL, "spidersubnets", False),
    "SpiderReservedIP": (SPIDERPOOL, "spiderreservedips", False),
    "SpiderEndpoint": (SPIDERPOOL, "spiderendpoints", True),
    "SpiderIP": (SPIDERPOOL, "spiderips", False),
    "SpiderCoordinator": (SPIDERPOOL, "spidercoordinators", False),
    "SpiderMultusConfig": (SPIDERPOOL, "spidermultusconfigs", True),
}


class Refused(Exception):
    """The API server said no; `reason`, `message` and `fields` are those of its Status."""

    def __init__(self, code: int, status: Thing) -> None:
        """Keep the Status."""
        self.code = code
        self.reason = status.get("reason", "")
        self.message = status.get("message", "")
        causes = (status.get("details") or {}).get("causes") or []
        self.fields = sorted({cause.get("field", "") for cause in causes})
        super().__init__(f"{code} {self.reason}: {self.message}")


class Kube:
    """The API server, as the administrator of a kubeconfig."""

    def __init__(self, kubeconfig: Path, timeout_s: float = 65) -> None:
        """Read the kubeconfig; connect with the first call."""
        self.kubeconfig = kubeconfig
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        self.warnings: list[str] = []  # of the last answer, as kubectl shows them
        self._connection = HTTPSConnection(
            url.hostname or "", url.port, timeout=timeout_s, context=_tls(cluster, user)
        )

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def get(self, kind: str, name: str, namespace: str = "") -> Thing | None:
        """Return an object, None when there is none."""
        try:
            return self._call("GET", path_of(kind, namespace, name))
        except Refused as refusal:
            if refusal.code == 404:
                return None
            raise

    def need(self, kind: str, name: str, namespace: str = "") -> Thing:
        """Return an object that must be there."""
        thing = self.get(kind, name, namespace)
        assert thing is not None, f"{kind} {namespace}/{name} does not exist"
        return thing

    def list(
        self, kind: str, namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> list[Thing]:
        """Return all objects of a kind, of one namespace or of all."""
        query = urllib.parse.urlencode({"labelSelector": labels, "fieldSelector": fields})
        return self._call("GET", f"{path_of(kind, namespace)}?{query}")["items"] or []

    def create(self, thing: Thing, *, dry_run: bool = False) -> Thing:
        """Create an object from a manifest that has kind and metadata, or only ask whether it would be let in."""
        kind, metadata = thing["kind"], thing["metadata"]
        body = {"apiVersion": KINDS[kind][0], **thing}
        return self._call(
            "POST",
            path_of(kind, metadata.get("namespace", "")) + ("?dryRun=All" if dry_run else ""),
            body,
        )

    def patch(
        self, kind: str, name: str, change: Thing, namespace: str = "", *, subresource: str = ""
    ) -> Thing:
        """Change an object by a merge patch (RFC 7386: None removes a key)."""
        tail = f"/{subresource}" if subresource else ""
        return self._call("PATCH", path_of(kind, namespace, name) + tail, change, MERGE_PATCH)

    def replace(self, thing: Thing) -> Thing:
        """Write a whole object."""
        metadata = thing["metadata"]
        return self._call(
            "PUT", path_of(thing["kind"], metadata.get("namespace", ""), metadata["name"]), thing
        )

    def delete(self, kind: str, name: str, namespace: str = "", **options: object) -> None:
        """Delete an object; one that is gone is fine. Options are those of DeleteOptions."""
        try:
            self._call("DELETE", path_of(kind, namespace, name), options or None)
        except Refused as refusal:
            if refusal.code != 404:
                raise

    def delete_all(
        self, kind: str, namespace: str = "", *, labels: str = "", **options: object
    ) -> None:
        """Delete all objects of a kind in a namespace, or those with some labels."""
        query = urllib.parse.urlencode({"labelSelector": labels})
        self._call("DELETE", f"{path_of(kind, namespace)}?{query}", options or None)

    def raw(self, path: str) -> str:
        """Return the text behind any path, such as `/metrics`."""
        return self._send("GET", path, None, "application/json")[1].decode()

    def _call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> Thing:
        """Ask, and give the object of the answer."""
        code, answer = self._send(method, path, body, content_type)
        if code >= 400:
            raise Refused(code, _status(answer))
        return json.loads(answer)

    def _send(self, method: str, path: str, body: object, content_type: str) -> tuple[int, bytes]:
        """
        Ask once.

        A reading call whose old connection turns out to be dead asks again on a new one.
        """
        payload = None if body is None else json.dumps(body)
        for attempt in (1, 2):
            try:
                self._connection.request(method, path, payload, {"Content-Type": content_type})
                answer = self._connection.getresponse()
                self.warnings = answer.headers.get_all("Warning") or []
                return answer.status, answer.read()
            except (OSError, HTTPException):
                self._connection.close()
                if method != "GET" or attempt == 2:
                    raise
        raise AssertionError("unreachable")


def path_of(kind: str, namespace: str = "", name: str = "") -> str:
    """Return the path of a collection or of one object."""
    version, plural, namespaced = KINDS[kind]
    root = "/api/" if version == "v1" else "/apis/"
    scope = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{root}{version}{scope}/{plural}{'/' + urllib.parse.quote(name) if name else ''}"


def _status(answer: bytes) -> Thing:
    """Read a refusal; what is no Status becomes its message."""
    try:
        status = json.loads(answer)
    except ValueError:
        return {"message": answer.decode(errors="replace")}
    return status if isinstance(status, dict) else {"message": str(status)}


def _tls(cluster: Thing, user: Thing) -> ssl.SSLContext:
    """Load the kubeconfig's certificates; Python's ssl wants the client's as files."""
    context = ssl.create_default_context(cadata=_text(cluster, "certificate-authority"))
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as pair:
        pair.write(_text(user, "client-certificate") + _text(user, "client-key"))
        pair.flush()
        context.load_cert_chain(pair.name)
    return context


def _text(section: Thing, key: str) -> str:
    """Return a PEM that a kubeconfig has inline or as a file."""
    if f"{key}-data" in section:
        return base64.b64decode(section[f"{key}-data"]).decode()
    return Path(section[key]).read_text()
