"""Where the API server is and who we are: from the pod we run in, or from a kubeconfig file."""

from __future__ import annotations

import os
import ssl
from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from spiderpool.errors import InvalidRequest
from spiderpool.kube.client import KubeClient
from spiderpool.kube.credentials import AuthorityFile, BearerToken, TokenFile
from spiderpool.kube.transport import Access, Credentials, Observe

if TYPE_CHECKING:
    from lightkube import SingleConfig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def connect(
    kubeconfig: str | None = None,
    *,
    user_agent: str = "spiderpool",
    limit: int = 100,
    timeout_s: float = 30.0,
    observe: Observe | None = None,
) -> KubeClient:
    """
    Prepare a client; the first request opens the first connection.

    Args:
        kubeconfig: a file; None = the one that `KUBECONFIG` names, else the service account of the
        pod we run in.
        user_agent: how the API server's log and priority levels know us.
        limit: connections at a time, beside those of watches.
        timeout_s: how long a request other than a watch may take.
        observe: called after every request.
    Raises:
        InvalidRequest: the file, or the pod's service account, cannot be used; the message names
        path and reason.
    """
    path = kubeconfig or os.environ.get("KUBECONFIG", "")
    access = from_kubeconfig(Path(path)) if path else from_service_account(SERVICE_ACCOUNT)
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


def from_kubeconfig(path: Path) -> Access:
    """Read the current context of a kubeconfig file."""
    try:
        return _read_kubeconfig(path)
    except InvalidRequest as error:
        raise InvalidRequest(f"kubeconfig {path}: {error.message}") from error
    # the library checks little: a wrong file ends in any of ten built-in exceptions
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".removeprefix("ConfigError: ")
        raise InvalidRequest(f"kubeconfig {path}: {' '.join(reason.split())}") from error


def _read_kubeconfig(path: Path) -> Access:
    from lightkube import KubeConfig  # noqa: PLC0415 - in a pod nobody needs it, and it costs 6 MB

    config = KubeConfig.from_file(path).get()
    if config is None:
        raise InvalidRequest("no current context")
    server = config.cluster.server
    if not server.startswith("https:"):
        return Access(server, credentials=_credentials(config))
    tls = _tls(config)
    return Access(server, lambda: tls, _credentials(config))


def _tls(config: SingleConfig) -> ssl.SSLContext:
    cluster, user = config.cluster, config.user
    data, file = cluster.certificate_auth_data, cluster.certificate_auth
    tls = ssl.create_default_context(
        cadata=b64decode(data, validate=True).decode() if data else None,
        cafile=config.abs_file(file) if file and not data else None,
    )
    if cluster.insecure:
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    if user is None:
        return tls
    if user.client_cert_data and user.client_key_data:
        # OpenSSL reads keys from files only; nobody else may read this one
        with TemporaryDirectory() as folder:
            certificate, key = Path(folder, "certificate"), Path(folder, "key")
            certificate.write_bytes(b64decode(user.client_cert_data, validate=True))
            key.write_bytes(b64decode(user.client_key_data, validate=True))
            tls.load_cert_chain(certificate, key)
    elif user.client_cert and user.client_key:
        tls.load_cert_chain(config.abs_file(user.client_cert), config.abs_file(user.client_key))
    return tls


def _credentials(config: SingleConfig) -> Credentials | None:
    user = config.user
    if user is None or user.client_cert or user.client_cert_data:
        return None
    if user.token_file:
        return TokenFile(Path(config.abs_file(user.token_file)))
    if user.token:
        return BearerToken(user.token)
    raise InvalidRequest(
        "the user has neither certificate nor token; other ways to log in are not supported"
    )
