"""
From the name of a network to its configuration, in the cluster or in files of the node.

Source: docs/reference/meta-plugin.md#networkattachmentdefinition,
docs/reference/meta-plugin.md#networks-of-a-pod.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition
from spiderpool.cni.netconf import (
    LIST_SUFFIX,
    ConfFile,
    NetworkConfig,
    candidate_files,
    find_by_name,
    parse_definition,
    parse_file,
    with_plugin_files,
)
from spiderpool.errors import InvalidRequest, NotFound, SpiderpoolError, Unreachable
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kube.cluster import Cluster
from spiderpool.networks.delegates import Network
from spiderpool.networks.meta_config import MetaConfig

RESOURCE_NAME: Final = "k8s.v1.cni.cncf.io/resourceName"


@dataclass(frozen=True, slots=True)
class Networks:
    """Finds networks, in the cluster and below a caller's root."""

    cluster: Cluster
    config: MetaConfig
    host: Namespaces

    async def defined(self, namespace: str, name: str) -> Network:
        """
        Find a NetworkAttachmentDefinition; one without configuration means the file of its name.

        Raises:
            NotFound: there is no such definition.
            InvalidRequest: its configuration cannot be used.
        """
        where = f"network {namespace}/{name}"
        try:
            definition = await self.cluster.get(NetworkAttachmentDefinition, name, namespace)
        except NotFound as error:
            raise NotFound(
                f"{where}: there is no such NetworkAttachmentDefinition; create it, or correct the "
                "name"
            ) from error
        text = definition.spec.config
        config = (
            parse_definition(text, name, where)
            if text
            else await self._in_folder(self.config.node.conf_dir, name)
        )
        resource = definition.metadata.annotations.get(RESOURCE_NAME, "")
        return Network(name=f"{namespace}/{name}", config=config, resource_name=resource)

    async def configured(self, value: str) -> Network:
        """
        Find what `clusterNetwork` or `defaultNetworks` names.

        A definition, else a file of that name; or a path.

        Raises:
            SpiderpoolError: neither; with the reason of both.
        """
        if "/" in value:
            config = await self._at_path(value)
            return Network(name=config.name, config=config)
        try:
            return await self.defined(self.config.namespace, value)
        except SpiderpoolError as definition_error:
            try:
                config = await self._in_folder(self.config.node.conf_dir, value)
            except InvalidRequest as file_error:
                raise _both(value, definition_error, file_error) from definition_error
            return Network(name=config.name, config=config)

    async def _in_folder(self, folder: str, name: str) -> NetworkConfig:
        files = await self.host.run(lambda: _read_folder(folder))
        return find_by_name(files, name, folder)

    async def _at_path(self, path: str) -> NetworkConfig:
        where = f"network {path}"
        try:
            found = await self.host.run(
                lambda: _read_folder(path) if Path(path).is_dir() else _read_file(Path(path))
            )
        except OSError as error:
            raise InvalidRequest(
                f"{where}: {error.strerror}; write a name, or the path of a CNI configuration"
            ) from error
        if isinstance(found, list):
            return find_by_name(found, "", path)
        config = parse_file(found, where)
        if not path.endswith(LIST_SUFFIX):
            return config
        beside = str(Path(path).parent / config.name)
        files = [
            file
            for file in await self.host.run(lambda: _read_folder(beside))
            if file.name.endswith(".conf")
        ]
        return with_plugin_files(config, files, beside)


def _both(
    value: str, definition_error: SpiderpoolError, file_error: SpiderpoolError
) -> SpiderpoolError:
    """Join why neither a definition nor a file was found; retryable when the API did not answer."""
    kind = type(definition_error) if isinstance(definition_error, Unreachable) else InvalidRequest
    return kind(f"default network {value}: {definition_error.message}; {file_error.message}")


def _read_folder(folder: str) -> list[ConfFile]:
    """
    Read the configuration files of a folder.

    One that vanishes meanwhile is left out, so is a missing folder.
    """
    try:
        names = candidate_files(entry.name for entry in Path(folder).iterdir())
    except OSError:
        return []
    files = []
    for name in names:
        try:
            files.append(_read_file(Path(folder, name)))
        except OSError:
            continue
    return files


def _read_file(path: Path) -> ConfFile:
    return ConfFile(path.name, path.read_text(errors="replace"))
