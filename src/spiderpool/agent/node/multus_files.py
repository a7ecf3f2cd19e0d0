"""
What Multus needs on a node besides its executable: a CNI configuration, and credentials.

Multus works with the agent's service account. Its token is replaced about once an hour, so the file
with the credentials is written again as soon as the token changes.
Source: docs/reference/configuration.md#multus-on-the-node.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from spiderpool.agent.node.atomic_files import write_at_once
from spiderpool.configuration.config import MultusSettings

CONF_FILE: Final = "00-multus.conf"  # first in byte order: runtimes take the first file
KUBECONFIG: Final = "multus.d/multus.kubeconfig"
EXECUTABLES: Final = ("multus", "passthru")
# The account of a plain installation, also of the project that this one is a drop-in for: files
# that it left are this release's.
USUAL_ACCOUNT: Final = "spiderpool-agent"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MultusPlace:
    """
    Where Multus works, and what it logs.

    Attributes:
        namespace: where networks are looked for, that of the release.
        log_file: on the node; empty = none.
        account_dir: where the agent's own token and the cluster's CA are.
        server: host and port of the API server; empty outside a cluster.
    """

    conf_dir: Path
    namespace: str
    log_level: str
    log_file: str
    account_dir: Path
    server: tuple[str, str]


def read_multus_place(environ: Mapping[str, str], conf_dir: Path, namespace: str) -> MultusPlace:
    """Read the environment."""
    return MultusPlace(
        conf_dir=conf_dir,
        namespace=namespace,
        log_level=environ.get("SPIDERPOOL_MULTUS_LOG_LEVEL", ""),
        log_file=environ.get("SPIDERPOOL_MULTUS_LOG_FILE", ""),
        account_dir=Path(
            environ.get("SPIDERPOOL_SERVICE_ACCOUNT_DIR")
            or "/var/run/secrets/kubernetes.io/serviceaccount"
        ),
        server=(
            environ.get("KUBERNETES_SERVICE_HOST", ""),
            environ.get("KUBERNETES_SERVICE_PORT", ""),
        ),
    )


@dataclass(frozen=True, slots=True)
class MultusFiles:
    """Multus' files on one node."""

    place: MultusPlace

    @property
    def conf(self) -> Path:
        """The CNI configuration."""
        return self.place.conf_dir / CONF_FILE

    @property
    def kubeconfig(self) -> Path:
        """The credentials."""
        return self.place.conf_dir / KUBECONFIG

    def write(self, network: str, choices: MultusSettings) -> bool:
        """
        Write what is missing or differs; the credentials first, since Multus reads them at once.

        Args:
            network: the network of pods that ask for none.
            choices: what pods may choose.
        Returns:
            False where another installation of Multus has its configuration there: both would write
            theirs for ever.
        Raises:
            OSError: a file cannot be read or written.
        """
        if not self.is_ours():
            return False
        token, authority = self._read("token"), self._read("ca.crt")
        secret = render_kubeconfig(self.place, token.decode(), authority)
        if write_at_once(self.kubeconfig, secret):
            log.info("credentials for Multus written", file=str(self.kubeconfig))
        text = render_multus_conf(self.place, network, str(self.kubeconfig), choices)
        if write_at_once(self.conf, text):
            log.info(
                "configuration of Multus written", file=str(self.conf), default_network=network
            )
        return True

    def remove(self) -> None:
        """Remove the files of this release; those of another installation of Multus stay."""
        if not self.is_ours():
            return
        for file in (self.conf, self.kubeconfig):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
                log.info("removed from the node", file=str(file))
        with contextlib.suppress(OSError):
            self.kubeconfig.parent.rmdir()

    def is_ours(self) -> bool:
        """Return whether the configuration on the node is this release's, or there is none."""
        texts = {}
        for file in (self.conf, self.kubeconfig):
            with contextlib.suppress(FileNotFoundError):
                texts[file] = file.read_bytes()
        own = account_of(self._token())
        return is_release_conf(
            texts.get(self.conf), texts.get(self.kubeconfig), str(self.kubeconfig), own
        )

    def _token(self) -> str:
        with contextlib.suppress(OSError):
            return self._read("token").decode()
        return ""

    def _read(self, name: str) -> bytes:
        return (self.place.account_dir / name).read_bytes()


def render_multus_conf(
    place: MultusPlace, network: str, kubeconfig: str, choices: MultusSettings
) -> bytes:
    """
    Return the configuration that makes runtimes call Multus.

    Args:
        place: where Multus works, and what it logs.
        network: the network of pods that ask for none.
        kubeconfig: path of the credentials.
        choices: what pods may choose.
    """
    conf = {
        "cniVersion": "0.3.1",
        "name": "multus-cni-network",
        "type": "multus",
        "confDir": f"{place.conf_dir}/",
        "logLevel": place.log_level,
        "logFile": place.log_file,
        "capabilities": {"portMappings": True, "bandwidth": True},
        "namespaceIsolation": choices.namespace_isolation,
        "globalNamespaces": ",".join(choices.global_namespaces),
        "clusterNetwork": network,
        "defaultNetworks": [],
        "multusNamespace": place.namespace,
        "systemNamespaces": [],
        "kubeconfig": kubeconfig,
    }
    said = {key: value for key, value in conf.items() if value != ""}
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"


def render_kubeconfig(place: MultusPlace, token: str, authority: bytes) -> bytes:
    """Return a kubeconfig, as JSON, which every reader of YAML takes."""
    host, port = place.server
    # Only an IPv6 address goes into brackets: newer Go refuses an IPv4 address in them.
    where = f"[{host}]" if ":" in host else host
    cluster = {
        "server": f"https://{where}:{port}",
        "certificate-authority-data": base64.b64encode(authority).decode(),
    }
    context = {"cluster": "local", "user": "multus", "namespace": place.namespace}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "multus", "user": {"token": token}}],
        "contexts": [{"name": "multus-context", "context": context}],
        "current-context": "multus-context",
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def is_release_conf(
    conf: bytes | None, kubeconfig: bytes | None, path: str, own: tuple[str, str] | None
) -> bool:
    """
    Return whether a configuration of Multus belongs to this release.

    It does if it uses the credentials at `path`, and if these log in as this release's agent: other
    installations of Multus have the same file names, but an account of their own.

    Args:
        conf: text of the configuration; None = there is none.
        kubeconfig: text of the credentials; None = there are none.
        path: where the release's credentials are.
        own: namespace and name of the agent's account; None = not known.
    """
    if conf is not None and _value(conf, "kubeconfig") != path:
        return False
    if kubeconfig is None:
        return True
    account = account_in(kubeconfig)
    if account is None or own is None:
        return account == own
    return account in {own, (own[0], USUAL_ACCOUNT)}


def account_in(kubeconfig: bytes) -> tuple[str, str] | None:
    """Return the service account whose token a kubeconfig has; None where none can be found."""
    for line in kubeconfig.decode(errors="replace").splitlines():
        key, colon, value = line.strip().removeprefix("- ").partition(":")
        if colon and key.strip(" \"'") == "token":
            return account_of(value.strip(" \"',"))
    return None


def account_of(token: str) -> tuple[str, str] | None:
    """
    Return the namespace and name of the service account that a token is of, unverified.

    Source: RFC 7519; the subject is system:serviceaccount:NAMESPACE:NAME.
    """
    parts = token.strip().split(".")
    if len(parts) != 3:  # noqa: PLR2004  header, payload, signature
        return None
    try:
        payload = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4))
    except ValueError:
        return None
    subject = str(_value(payload, "sub")).split(":")
    known = len(subject) == 4 and subject[:2] == ["system", "serviceaccount"]  # noqa: PLR2004
    return (subject[2], subject[3]) if known else None


def _value(text: bytes, key: str) -> object:
    """Return one value of a JSON object, None where there is no such object or value."""
    try:
        document: Any = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return document.get(key) if isinstance(document, dict) else None
