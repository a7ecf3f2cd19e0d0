"""Takes an address off a namespace whose pod is gone, and the way to it off the node."""

from __future__ import annotations

import os
from contextlib import closing
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.datapath.diff import diff
from spiderpool.datapath.layout import VETH
from spiderpool.datapath.removal import plan_fence
from spiderpool.errors import NotFound
from spiderpool.kernel import pod_network
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.pod_namespaces import OWN

DEFAULT_NIC: Final = "eth0"  # what kubelet has runtimes call the first one


async def fence(namespace: InUseNamespace, ip: IPAddress) -> None:
    """
    Take an address off all interfaces of a namespace of this node; gone already is as good.

    Links stay, so that a late DEL finds what it looks for.

    Raises:
        SpiderpoolError: the kernel refuses.
    """
    with Namespaces.network(OWN) as here:
        await here.run(lambda: _fence(namespace, ip))


def _fence(namespace: InUseNamespace, ip: IPAddress) -> None:
    try:
        network = pod_network.open_pod_network(namespace.path)
    except NotFound:
        return
    with closing(network):
        if os.fstat(network.pod_namespace.fds[0][0]).st_ino != namespace.inode:
            return  # another one has its name by now
        view = pod_network.look(network, DEFAULT_NIC, "", DEFAULT_NIC, VETH, told=(ip,))
        plan = plan_fence(view, ip)
        pod_network.change_pod(network, diff(view.pod.items, plan.pod), view.pod.links)
        pod_network.change_node(network, diff(view.node.items, plan.node), view.node.links)
