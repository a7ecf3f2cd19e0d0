"""
The node's addresses on the interface that a pod's NIC stands on, which is the NIC's master.

For a virtual function (SR-IOV) that is its physical function, for macvlan, ipvlan and VLAN
interfaces the interface below. Functions block.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from spiderpool.addressing.sets import IPAddress
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.pod_network import PAIRED, PodNetwork, open_pod_network
from spiderpool.kernel.rtnetlink import GET_ADDRESS, GET_LINK, MISSING, Refusal, RouteSocket

PCI_DEVICES: Final = Path("/sys/bus/pci/devices")
_PCI: Final = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


def read_master_addresses(
    netns: str, ifname: str, device_id: str = "", devices: Path = PCI_DEVICES
) -> tuple[IPAddress, ...] | None:
    """
    Read the addresses of a NIC's master, in a thread that is in the node's namespaces.

    The thread is in the pod's namespace afterwards, so it must end (`Namespaces.run`).

    Args:
        netns: path of the pod's network namespace.
        ifname: name of the NIC there.
        device_id: PCI address of the NIC's device where it is known: a NIC whose driver is in user
            space has no link that could be asked. IDs of other forms are ignored.
        devices: directory of the kernel's PCI devices.
    Returns:
        IPv6 link-local ones left out; None if there is no such link, or nothing of the node is
        below it.

    Raises:
        NotFound: there is no such namespace, and no physical function by `device_id`.
    """
    names = _physical_function(device_id, devices)
    if names:
        with RouteSocket() as node:
            return _addresses_of(node, names)
    with closing(open_pod_network(netns)) as network:
        names = _below(network, ifname, devices)
        return _addresses_of(network.node, names) if names else None


def _below(network: PodNetwork, ifname: str, devices: Path) -> frozenset[str]:
    """Return the node's interfaces below a NIC: one, or none."""
    data = _link(network.pod, wire.ask_link(name=ifname))
    if data is None:
        return frozenset()
    link = wire.read_link(data)
    if not link.peer or link.kind in PAIRED or not wire.is_parent_outside(data):
        return _physical_function(wire.read_parent_device(data), devices)
    below = _link(network.node, wire.ask_link(link.peer))
    return frozenset() if below is None else frozenset({wire.read_link(below).name})


def _physical_function(device: str, devices: Path) -> frozenset[str]:
    """
    Return the interfaces of a virtual function's physical function.

    In switchdev mode there are several: the representors of the functions, which have no addresses,
    are there too (Linux, Documentation/networking/representors.rst).
    """
    if _PCI.fullmatch(device):
        # sysfs shows the interfaces of the namespace that it was mounted in: the node's.
        with suppress(OSError):
            return frozenset(path.name for path in (devices / device / "physfn" / "net").iterdir())
    return frozenset()


def _link(socket: RouteSocket, question: bytes) -> bytes | None:
    """Ask for a link; None when it is not there."""
    try:
        return socket.get(GET_LINK, question)
    except Refusal as error:
        if error.code in MISSING:
            return None
        raise


def _addresses_of(node: RouteSocket, names: Collection[str]) -> tuple[IPAddress, ...]:
    """Read the addresses of interfaces, IPv4 first."""
    links = map(wire.read_link, node.dump(GET_LINK, wire.ask_links()))
    known = {link.index: link.name for link in links}
    answers = node.dump(GET_ADDRESS, wire.ask_addresses(), wire.is_no_link_local)
    found = (wire.read_address(data, lambda index: known.get(index, "")) for data in answers)
    ips = {address.ip for address in found if address.dev in names}
    return tuple(sorted(ips, key=lambda ip: (ip.version, int(ip))))
