"""
The node's share of the installation: executables, and the meta plugin's configuration.

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
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
import structlog

from spiderpool.agent.node.atomic_files import write_at_once
from spiderpool.agent.node.installed_files import InstalledFiles, types_in_use
from spiderpool.agent.node.multus_files import EXECUTABLES as MULTUS_EXECUTABLES
from spiderpool.agent.node.multus_files import MultusFiles, MultusPlace, read_multus_place
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
FOREIGN_MULTUS: Final = (
    "00-multus.conf belongs to another installation of Multus, and runtimes take it first; "
    "remove that installation, or set multus.multusCNI.install=false and "
    "multus.builtin.enabled=false"
)
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


class MetaPlugin(StrEnum):
    """Who joins a pod with several networks, as far as this installation brings it."""

    BUILTIN = "builtin"
    MULTUS = "multus"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class InstallSettings:
    """
    What the environment says about the installation.

    Attributes:
        wanted: whether this agent installs anything.
        plugins: names of the CNI project's plugins to install from `plugin_dir`.
        default_network: empty = that of the first configuration on the node.
        record: where the node keeps what was installed.
    """

    wanted: bool
    meta_plugin: MetaPlugin
    shim: Path
    plugins: tuple[str, ...]
    plugin_dir: Path
    bin_dir: Path
    conf_dir: Path
    default_network: str
    namespace: str
    record: Path
    multus: MultusPlace


def read_install_settings(environ: Mapping[str, str]) -> InstallSettings:
    """Read the environment. Raises `InvalidRequest` for a flag that is none."""
    conf_dir = Path(environ.get("SPIDERPOOL_CNI_CONF_DIR") or "/etc/cni/net.d")
    namespace = environ.get("SPIDERPOOL_MULTUS_NAMESPACE") or environ.get(
        "SPIDERPOOL_POD_NAMESPACE", ""
    )
    return InstallSettings(
        wanted=read_flag(environ, "SPIDERPOOL_INSTALL_CNI", default=False),
        meta_plugin=_read_meta_plugin(environ),
        shim=Path(environ.get("SPIDERPOOL_SHIM_PATH") or "/usr/lib/spiderpool/cni"),
        plugins=tuple(filter(None, environ.get("SPIDERPOOL_CNI_PLUGINS", "").split(","))),
        plugin_dir=Path(environ.get("SPIDERPOOL_PLUGIN_DIR") or "/usr/lib/spiderpool/plugins"),
        bin_dir=Path(environ.get("SPIDERPOOL_CNI_BIN_DIR") or "/opt/cni/bin"),
        conf_dir=conf_dir,
        default_network=environ.get("SPIDERPOOL_DEFAULT_CNI", ""),
        namespace=namespace,
        record=Path(
            environ.get("SPIDERPOOL_INSTALLED_FILES") or "/var/lib/cni/spiderpool/installed.json"
        ),
        multus=read_multus_place(environ, conf_dir, namespace),
    )


def _read_meta_plugin(environ: Mapping[str, str]) -> MetaPlugin:
    if read_flag(environ, "SPIDERPOOL_BUILTIN_MULTUS", default=False):
        return MetaPlugin.BUILTIN
    if read_flag(environ, "SPIDERPOOL_INSTALL_MULTUS", default=False):
        return MetaPlugin.MULTUS
    return MetaPlugin.NONE


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
        Copy the CNI executable under each of its names, and the plugins that are wanted.

        What is the same already stays untouched.

        Raises:
            InvalidRequest: one is not in the image, or the folder cannot be written.
        """
        if not self.settings.wanted:
            return
        try:
            content = self.settings.shim.read_bytes()
            for name in self._names():
                if write_at_once(self.settings.bin_dir / name, content, _EXECUTABLE):
                    log.info("CNI executable installed", file=str(self.settings.bin_dir / name))
            self._install_socket_path()
            for name in self.settings.plugins:
                self._installed.copy(self.settings.plugin_dir / name, self.settings.bin_dir / name)
            if self.settings.meta_plugin is MetaPlugin.MULTUS:
                # The init container has just copied them.
                self._installed.adopt(self.settings.bin_dir / name for name in MULTUS_EXECUTABLES)
        except OSError as error:
            raise InvalidRequest(
                f"CNI executables cannot be installed: {error.filename}: {error.strerror}; "
                "check SPIDERPOOL_SHIM_PATH, SPIDERPOOL_CNI_BIN_DIR and the mounts of the agent"
            ) from error

    async def keep_configured(self) -> None:
        """
        Write the meta plugin's configuration once the default network is known; keep it right.

        The configuration of another meta plugin of this installation goes after that, not before: a
        pod that starts in between finds one of the two. Ends by cancellation only: where there is
        no meta plugin to configure it waits, since a background task that ends is one that failed.
        Begin it when the agent serves: from then on runtimes call the meta plugin for every pod.
        """
        told = ""
        while self.settings.wanted:
            problem = self._configure()
            if problem and problem != told:
                log.warning(problem, folder=str(self.settings.conf_dir))
            told = problem
            if self.settings.meta_plugin is MetaPlugin.NONE and not problem:
                break
            await asyncio.sleep(_LOOK_AGAIN_S)
        await asyncio.Event().wait()

    def remove_all(self) -> None:
        """
        Remove the configuration first, so that nobody calls what goes next.

        Last the socket, which nobody serves.
        """
        if not self.settings.wanted:
            return
        self._remove_configuration(keep=MetaPlugin.NONE)
        self._remove(*(self.settings.bin_dir / name for name in (*NAMES, SOCKET_FILE)))
        self._installed.remove(None, used=self._used)
        self._remove(Path(self.socket))

    @property
    def _conf(self) -> Path:
        return self.settings.conf_dir / CONF_FILE

    @property
    def _installed(self) -> InstalledFiles:
        return InstalledFiles(self.settings.record)

    @property
    def _multus(self) -> MultusFiles:
        return MultusFiles(self.settings.multus)

    def _install_socket_path(self) -> None:
        """Write where this agent listens, for the executables; no file means the usual place."""
        file = self.settings.bin_dir / SOCKET_FILE
        if self.socket == DEFAULT_SOCKET:
            self._remove(file)
        else:
            write_at_once(file, f"{self.socket}\n".encode(), _READABLE)

    def _names(self) -> tuple[str, ...]:
        builtin = self.settings.meta_plugin is MetaPlugin.BUILTIN
        return (*NAMES, META_PLUGIN) if builtin else NAMES

    def _configure(self) -> str:
        """Make the configuration right; return what is in the way, empty when nothing is."""
        wanted = self.settings.meta_plugin
        try:
            if wanted is not MetaPlugin.NONE:
                network = self.settings.default_network or find_default_network(
                    self.settings.conf_dir
                )
                if not network:
                    return "no default CNI on this node yet; waiting for its configuration"
                if wanted is MetaPlugin.MULTUS and not self._multus.write(network, self.multus):
                    return FOREIGN_MULTUS
                if wanted is MetaPlugin.BUILTIN:
                    self._write_builtin(network)
            self._remove_configuration(keep=wanted)
        except OSError as error:
            return f"CNI configuration cannot be written: {error.filename}: {error.strerror}"
        if wanted is MetaPlugin.BUILTIN and self._multus.conf.exists():
            return FOREIGN_MULTUS
        return ""

    def _write_builtin(self, network: str) -> None:
        text = render_conf(self.settings, network, self.socket, self.multus)
        if write_at_once(self._conf, text, _SECRET):
            log.info("CNI configuration written", file=str(self._conf), default_network=network)

    def _remove_configuration(self, keep: MetaPlugin) -> None:
        """Remove configuration and executable of each meta plugin of ours but one."""
        if keep is not MetaPlugin.BUILTIN:
            self._remove(self._conf, self.settings.bin_dir / META_PLUGIN)
        if keep is not MetaPlugin.MULTUS:
            self._multus.remove()
            self._installed.remove(MULTUS_EXECUTABLES, used=self._used)

    def _used(self) -> frozenset[str]:
        return types_in_use(self.settings.conf_dir)

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
    """Return the name of the node's first network that is not ours, empty when there is none."""
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
