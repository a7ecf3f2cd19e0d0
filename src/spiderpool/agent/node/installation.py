"""
The node's share of the installation: CNI executables, and the CNI configuration that puts the meta plugin first.

Both stay while the agent restarts or is replaced; they go when the agent's DaemonSet is being
deleted.
Source: docs/reference/configuration.md#installation-on-the-node,
docs/reference/meta-plugin.md#configuration-of-the-meta-plugin.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import structlog

from spiderpool.agent.node.files import write_at_once
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import KubeObject, Resource
from spiderpool.cni.netconf import SUFFIXES, first_network
from spiderpool.cni.request import DEFAULT_SOCKET
from spiderpool.configuration.config import MultusSettings
from spiderpool.configuration.environment import read_flag
from spiderpool.errors import InvalidRequest, NotFound
from spiderpool.kernel.directories import read_texts
from spiderpool.kube.cluster import Cluster
from spiderpool.networks.delegates import META_PLUGIN
from spiderpool.networks.meta_config import NodePolicy

NAMES: Final = ("spiderpool", "coordinator", "ifacer")
SOCKET_FILE: Final = (
    ".spiderpool-socket"  # beside the executables, which read there where we listen
)
CONF_FILE: Final = "00-spiderpool.conflist"  # first in byte order: runtimes take the first file
CNI_DIR: Final = "/var/lib/cni/multus"  # Multus' own, so that either finds what the other kept
# Runtimes that do not know `cniVersions` speak 1.0.0; those that do choose 1.1.0, for GC and
# STATUS.
CNI_VERSIONS: Final = ("1.0.0", "1.1.0")
_LOOK_AGAIN_S: Final = 2.0
_EXECUTABLE: Final = 0o755
_READABLE: Final = 0o644
_SECRET: Final = 0o600

log = structlog.get_logger(__name__)


class DaemonSet(KubeObject, frozen=True, kw_only=True):
    """A DaemonSet: only whether it is being deleted matters."""

    resource: ClassVar[Resource] = Resource(
        "apps", "v1", "DaemonSet", "daemonsets", namespaced=True
    )


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """
    What the environment says about the installation.

    `wanted`: whether this agent installs anything. `default_network` empty = that of the first
    configuration on the node.
    """

    wanted: bool
    meta_plugin: bool
    shim: Path
    bin_dir: Path
    conf_dir: Path
    default_network: str
    namespace: str


def read_install_settings(environ: Mapping[str, str]) -> InstallSettings:
    """Read the environment. Raises `InvalidRequest` for a flag that is none."""
    return InstallSettings(
        wanted=read_flag(environ, "SPIDERPOOL_INSTALL_CNI", default=False),
        meta_plugin=read_flag(environ, "SPIDERPOOL_BUILTIN_MULTUS", default=False),
        shim=Path(environ.get("SPIDERPOOL_SHIM_PATH") or "/usr/lib/spiderpool/cni"),
        bin_dir=Path(environ.get("SPIDERPOOL_CNI_BIN_DIR") or "/opt/cni/bin"),
        conf_dir=Path(environ.get("SPIDERPOOL_CNI_CONF_DIR") or "/etc/cni/net.d"),
        default_network=environ.get("SPIDERPOOL_DEFAULT_CNI", ""),
        namespace=environ.get("SPIDERPOOL_MULTUS_NAMESPACE")
        or environ.get("SPIDERPOOL_POD_NAMESPACE", ""),
    )


def node_policy(settings: InstallSettings, allowed_plugins: Sequence[str] = ()) -> NodePolicy:
    """Return the folders that the agent writes into its configuration, and what may run there."""
    return NodePolicy(
        bin_dir=str(settings.bin_dir),
        conf_dir=str(settings.conf_dir),
        cni_dir=CNI_DIR,
        allowed_plugins=frozenset(allowed_plugins),
    )


@dataclass(frozen=True, slots=True)
class NodeInstaller:
    """Installs on the node that the agent runs on, and removes."""

    settings: InstallSettings
    socket: str = DEFAULT_SOCKET
    multus: MultusSettings = field(default_factory=MultusSettings)

    def install_executables(self) -> None:
        """
        Copy the CNI executable under each of its names; what is the same already stays untouched.

        Raises:
            InvalidRequest: it is not in the image, or the folder cannot be written.
        """
        if not self.settings.wanted:
            return
        try:
            content = self.settings.shim.read_bytes()
            for name in self._names():
                if write_at_once(self.settings.bin_dir / name, content, _EXECUTABLE):
                    log.info("CNI executable installed", file=str(self.settings.bin_dir / name))
            self._install_socket_path()
            if not self.settings.meta_plugin:
                self._remove(self._conf, self.settings.bin_dir / META_PLUGIN)
        except OSError as error:
            raise InvalidRequest(
                f"CNI executables cannot be installed: {error.filename}: {error.strerror}; "
                "check SPIDERPOOL_SHIM_PATH, SPIDERPOOL_CNI_BIN_DIR and the mounts of the agent"
            ) from error

    async def keep_configured(self) -> None:
        """
        Write the configuration once the node's default network is known, and keep it right; ends only by cancellation.

        Begin it when the agent serves: from then on runtimes call the meta plugin for every pod.
        """
        waiting = False
        while self.settings.wanted and self.settings.meta_plugin:
            network = self._default_network()
            if network:
                self._configure(network)
            elif not waiting:
                log.warning(
                    "no default CNI on this node yet; waiting for its configuration",
                    folder=str(self.settings.conf_dir),
                )
            waiting = not network
            await asyncio.sleep(_LOOK_AGAIN_S)

    def remove_all(self) -> None:
        """
        Remove the configuration first, so that nobody calls what goes next.

        Last the socket, which nobody serves.
        """
        if self.settings.wanted:
            self._remove(
                self._conf,
                *(self.settings.bin_dir / name for name in (*NAMES, META_PLUGIN, SOCKET_FILE)),
                Path(self.socket),
            )

    @property
    def _conf(self) -> Path:
        return self.settings.conf_dir / CONF_FILE

    def _install_socket_path(self) -> None:
        """Tell the executables where this agent listens; without the file it is the usual place."""
        file = self.settings.bin_dir / SOCKET_FILE
        if self.socket == DEFAULT_SOCKET:
            self._remove(file)
        else:
            write_at_once(file, f"{self.socket}\n".encode(), _READABLE)

    def _names(self) -> tuple[str, ...]:
        return (*NAMES, META_PLUGIN) if self.settings.meta_plugin else NAMES

    def _configure(self, network: str) -> None:
        text = render_conf(self.settings, network, self.socket, self.multus)
        try:
            if write_at_once(self._conf, text, _SECRET):
                log.info("CNI configuration written", file=str(self._conf), default_network=network)
        except OSError as error:
            log.warning(
                "CNI configuration cannot be written", file=str(self._conf), reason=error.strerror
            )

    def _default_network(self) -> str:
        return self.settings.default_network or find_default_network(self.settings.conf_dir)

    def _remove(self, *files: Path) -> None:
        for file in files:
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
                log.info("removed from the node", file=str(file))


def render_conf(
    settings: InstallSettings, network: str, socket: str, multus: MultusSettings
) -> bytes:
    """
    Return the configuration that makes runtimes call the meta plugin.

    Args:
        settings: folders and the meta plugin's namespace.
        network: the default network's name.
        socket: where the agent listens.
        multus: what pods may choose.
    """
    plugin: dict[str, Any] = {
        "type": META_PLUGIN,
        "capabilities": {"portMappings": True, "bandwidth": True},
        "clusterNetwork": network,
        "confDir": str(settings.conf_dir),
        "cniDir": CNI_DIR,
        "binDir": str(settings.bin_dir),
        "multusNamespace": settings.namespace,
        "namespaceIsolation": multus.namespace_isolation,
        "globalNamespaces": ",".join(multus.global_namespaces),
        "defaultNetworks": [],
        "systemNamespaces": [],
        "ipam_unix_socket_path": socket,
    }
    conf = {
        "cniVersion": CNI_VERSIONS[0],
        "cniVersions": list(CNI_VERSIONS),
        # as Multus calls it: the name stands in what runtimes keep about containers
        "name": "multus-cni-network",
        "plugins": [plugin],
    }
    return msgspec.json.format(msgspec.json.encode(conf), indent=2) + b"\n"


def find_default_network(conf_dir: Path) -> str:
    """Return the name of the first network configured on the node by somebody else, empty when there is none yet."""
    try:
        network = first_network(read_texts(conf_dir, SUFFIXES))
    except OSError:
        return ""
    return network.name if network is not None else ""


async def is_being_removed(cluster: Cluster, namespace: str, pod_name: str) -> bool:
    """
    Return whether the agent's DaemonSet is being deleted, or gone: then this is no restart.

    Raises:
        SpiderpoolError: the API server does not tell; then nothing should be removed.
    """
    pod = await cluster.get(Pod, pod_name, namespace)
    owner = next(
        (
            ref
            for ref in pod.metadata.owner_references
            if ref.controller and ref.kind == "DaemonSet"
        ),
        None,
    )
    if owner is None:
        return False
    try:
        daemon_set = await cluster.get_metadata(DaemonSet, owner.name, namespace)
    except NotFound:
        return True
    return (
        daemon_set.metadata.uid != owner.uid or daemon_set.metadata.deletion_timestamp is not None
    )
