"""Where the API server is and who we are: from the pod we run in, or from a kubeconfig file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from spiderpool.errors import InvalidRequest
from spiderpool.kube.client import KubeClient
from spiderpool.kube.credentials import AuthorityFile, TokenFile
from spiderpool.kube.kubeconfig import read_login
from spiderpool.kube.transport import Access, Observe

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(
    kubeconfig: str | None = None,
    *,
    user_agent: str = "spiderpool",
    limit: int = 100,
    timeout_s: float = 30.0,
    observe: Observe | None = None,
    context: str | None = None,
    impersonate: str = "",
) -> KubeClient:
    """
    Return a client; the first request opens the first connection.

    Args:
        kubeconfig: a file; None = those that `KUBECONFIG` names, else the service account of the
            pod we run in.
        user_agent: how the API server's log and priority levels know us.
        limit: connections at a time, beside those of watches.
        timeout_s: how long a request other than a watch may take.
        observe: called after every request.
        context: of the kubeconfig; None = its current one.
        impersonate: the user in whose name to act, empty = our own.

    Raises:
        InvalidRequest: the file, or the pod's service account, cannot be used; the message names
        path and reason.
    """
    paths = [kubeconfig] if kubeconfig else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    files = [Path(path) for path in paths if path]
    access = read_login(files, context).access if files else from_service_account(SERVICE_ACCOUNT)
    if impersonate:
        access = replace(access, headers={"Impersonate-User": impersonate})
    return KubeClient(
        access, user_agent=user_agent, limit=limit, timeout_s=timeout_s, observe=observe
    )


def from_service_account(folder: Path) -> Access:
    """Read what kubelet puts into every pod."""
    host, port = (
        os.environ.get("KUBERNETES_SERVICE_HOST", ""),
        os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
    )
    if not host:
        raise InvalidRequest(
            "no way to the API server: KUBECONFIG is not set, and this is not a pod"
        )
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, AuthorityFile(folder / "ca.crt").context, TokenFile(folder / "token"))
