"""The cluster's DNS: CoreDNS as kubeadm would set it up. Pure.

The Service has the tenth address of the Service network, as usual.

Its pod runs the image of busybox with the program's folder mounted from the machine: an image
of 50 MB less to import at each start.
"""

from pathlib import Path
from typing import Any

from spiderlab.rbac import Object, reader
from spiderlab.topology import SERVICE_NETWORK

ADDRESS = SERVICE_NETWORK[10]
DOMAIN = "cluster.local"
NAMESPACE, SERVICE, NAME, ROLE = "kube-system", "kube-dns", "coredns", "system:coredns"
IMAGE = "busybox:1"
LABELS = {"k8s-app": "kube-dns"}
READY_PORT = 8181

# No `forward`: the lab is sealed, and a name of elsewhere fails at once instead of after a
# time-out.
COREFILE = f""".:53 {{
    errors
    health
    ready
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        pods insecure
        ttl 30
    }}
    cache 30
}}
"""


def objects(programs: Path) -> list[Object]:
    """
    Return all that makes the cluster's DNS.

    Args:
        programs: the folder with `coredns`, as nodes see it.
    """
    core = f"/api/v1/namespaces/{NAMESPACE}"
    watched = {
        "": ["endpoints", "services", "pods", "namespaces"],
        "discovery.k8s.io": ["endpointslices"],
    }
    subject = {"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}
    config = {**_named("v1", "ConfigMap", NAME), "data": {"Corefile": COREFILE}}
    return [
        (f"{core}/serviceaccounts/{NAME}", _named("v1", "ServiceAccount", NAME)),
        *reader(ROLE, watched, subject),
        (f"{core}/configmaps/{NAME}", config),
        (f"{core}/services/{SERVICE}", _service()),
        (f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}", _deployment(programs)),
    ]


def _named(version: str, kind: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS},
    }


def _service() -> dict[str, Any]:
    ports = [
        {"name": name, "port": 53, "protocol": protocol}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    return {
        **_named("v1", "Service", SERVICE),
        "spec": {"clusterIP": str(ADDRESS), "selector": LABELS, "ports": ports},
    }


def _deployment(programs: Path) -> dict[str, Any]:
    container = {
        "name": NAME,
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["/programs/coredns", "-conf", "/etc/coredns/Corefile"],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": READY_PORT}, "periodSeconds": 1},
        "volumeMounts": [
            {"name": "programs", "mountPath": "/programs", "readOnly": True},
            {"name": "config", "mountPath": "/etc/coredns", "readOnly": True},
        ],
    }
    pod = {
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "dnsPolicy": "Default",
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
        "volumes": [
            {"name": "programs", "hostPath": {"path": str(programs), "type": "Directory"}},
            {"name": "config", "configMap": {"name": NAME}},
        ],
    }
    return {
        **_named("apps/v1", "Deployment", NAME),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": pod},
        },
    }
