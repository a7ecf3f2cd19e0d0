"""KubeVirt's kinds, as far as reclaim asks for them: whether they exist."""

from __future__ import annotations

from typing import ClassVar

from spiderpool.api.meta import KubeObject, Resource


class VirtualMachineInstance(KubeObject, frozen=True, kw_only=True):
    """A virtual machine that runs."""

    resource: ClassVar[Resource] = Resource(
        "kubevirt.io", "v1", "VirtualMachineInstance", "virtualmachineinstances", namespaced=True
    )


class VirtualMachine(KubeObject, frozen=True, kw_only=True):
    """A virtual machine that may be started."""

    resource: ClassVar[Resource] = Resource("kubevirt.io", "v1", "VirtualMachine", "virtualmachines", namespaced=True)
