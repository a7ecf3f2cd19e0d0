"""
The two kinds of KubeVirt that judge whether a virtual machine keeps its addresses.

Read as metadata only.
"""

from __future__ import annotations

from typing import ClassVar

from spiderpool.api.kubernetes.meta import KubeObject, Resource


class VirtualMachineInstance(KubeObject, frozen=True, kw_only=True):
    """A running virtual machine."""

    resource: ClassVar[Resource] = Resource(
        "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances", namespaced=True
    )


class VirtualMachine(KubeObject, frozen=True, kw_only=True):
    """A virtual machine, running or not."""

    resource: ClassVar[Resource] = Resource(
        "kubevirt.io", "v1", "VirtualMachine", "virtualmachines", namespaced=True
    )
