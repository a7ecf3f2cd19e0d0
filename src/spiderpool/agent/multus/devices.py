"""
Devices of device plugins, such as SR-IOV: which one a pod's network gets, and their files.

Source: docs/reference/meta-plugin.md#what-a-plugin-gets. Read from kubelet's checkpoint, which
needs no gRPC; claims of the newer dynamic resource allocation are not in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import SpiderpoolError
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.networks.delegates import Delegate, Network, device_info_file, device_plugin_file

CHECKPOINT: Final = "/var/lib/kubelet/device-plugins/kubelet_internal_checkpoint"
_FILE_MODE: Final = 0o444
# A tenant's names are in the path: Python raises ValueError where one has a NUL.
_NO_FILE: Final = (OSError, ValueError)

log = structlog.get_logger(__name__)


class _Entry(msgspec.Struct, rename="pascal"):
    """
    Devices that kubelet gave to one container.

    The list is by NUMA node since Kubernetes 1.20.
    """

    pod_uid: str = msgspec.field(name="PodUID")
    resource_name: str = ""
    device_ids: dict[str, list[str]] | list[str] | None = msgspec.field(
        default=None, name="DeviceIDs"
    )


class _Data(msgspec.Struct, rename="pascal"):
    pod_device_entries: list[_Entry] | None = None


class _Checkpoint(msgspec.Struct, rename="pascal"):
    data: _Data = msgspec.field(default_factory=_Data)


@dataclass(frozen=True, slots=True)
class Devices:
    """The devices of a node, below a caller's root."""

    host: Namespaces

    async def hand_out(self, pod: Pod | None, networks: Sequence[Network]) -> list[Network]:
        """
        Assign to each network of a device resource the pod's next device of it, if one is left.

        Raises:
            SpiderpoolError: kubelet's record cannot be read.
        """
        if pod is None or not any(network.resource_name for network in networks):
            return list(networks)
        ids = await self._ids_of(pod)
        result = []
        for network in networks:
            left = ids.get(network.resource_name) or []
            result.append(replace(network, device_id=left.pop(0)) if left else network)
        return result

    async def lay_out(self, delegate: Delegate, container_id: str) -> None:
        """Copy what a device plugin told about the device to where the CNI plugin looks for it."""
        if not delegate.device_id:
            return
        source = Path(device_plugin_file(delegate.resource_name, delegate.device_id))
        target = Path(_info_file(delegate, container_id))
        try:
            await self.host.run(lambda: _copy(source, target))
        except _NO_FILE as error:
            log.warning("device info is not copied", file=str(source), reason=str(error))

    async def read_info(self, delegate: Delegate, container_id: str) -> dict[str, Any] | None:
        """Return what is known about a delegate's device after its ADD."""
        if not delegate.device_id:
            return None
        file = Path(_info_file(delegate, container_id))
        try:
            return msgspec.json.decode(await self.host.run(file.read_bytes), type=dict[str, Any])
        except (*_NO_FILE, msgspec.DecodeError):
            return None

    async def clear(self, delegate: Delegate, container_id: str) -> None:
        """Remove the file about a delegate's device."""
        if delegate.device_id:
            file = Path(_info_file(delegate, container_id))
            with contextlib.suppress(*_NO_FILE):
                await self.host.run(lambda: file.unlink(missing_ok=True))

    async def _ids_of(self, pod: Pod) -> dict[str, list[str]]:
        try:
            text = await self.host.run(Path(CHECKPOINT).read_bytes)
            checkpoint = msgspec.json.decode(text, type=_Checkpoint)
        except (OSError, msgspec.DecodeError) as error:
            raise SpiderpoolError(
                f"devices of pod {pod.metadata.name}: kubelet's record {CHECKPOINT}: {error}"
            ) from error
        ids: dict[str, set[str]] = {}
        for entry in checkpoint.data.pod_device_entries or ():
            if entry.pod_uid == pod.metadata.uid:
                ids.setdefault(entry.resource_name, set()).update(_flat(entry.device_ids))
        return {resource: sorted(values) for resource, values in ids.items()}


def _info_file(delegate: Delegate, container_id: str) -> str:
    return device_info_file(delegate.name, container_id, delegate.ifname)


def _flat(ids: dict[str, list[str]] | list[str] | None) -> list[str]:
    if isinstance(ids, dict):
        return [item for items in ids.values() for item in items]
    return ids or []


def _copy(source: Path, target: Path) -> None:
    if not source.exists() or target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    target.chmod(_FILE_MODE)
