"""The master of a pod's NIC, on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from spiderpool.addressing.sets import IPAddress
from spiderpool.kernel.master_interface import read_master_addresses
from spiderpool.kernel.namespaces import Namespaces
from tests.contract.meta.node import PodNetns, pod_netns

MASTER = (ip_address("10.6.0.1"), ip_address("10.7.0.1"), ip_address("fd00:6::1"))


@pytest.fixture
def node() -> Iterator[PodNetns]:
    """A namespace that stands for a node: an interface with addresses, and another one."""
    with pod_netns() as made:
        for name in ("ens1", "ens2"):
            made.ip("link", "add", name, "type", "veth", "peer", "name", f"{name}-far")
            made.ip("link", "set", name, "up")
        for cidr in ("10.6.0.1/16", "10.7.0.1/16", "fd00:6::1/64"):
            made.ip("addr", "add", cidr, "dev", "ens1", *(["nodad"] if ":" in cidr else []))
        made.ip("addr", "add", "10.99.0.1/16", "dev", "ens2")
        yield made


@pytest.fixture
def pod() -> Iterator[PodNetns]:
    """A pod's namespace."""
    with pod_netns() as made:
        yield made


async def masters_of(
    node: PodNetns, pod: PodNetns, nic: str, device: str = "", **more: Path
) -> tuple[IPAddress, ...] | None:
    """Ask on the node."""
    with Namespaces.network(node.path) as here:
        return await here.run(lambda: read_master_addresses(pod.path, nic, device, **more))


async def test_the_interface_below(node: PodNetns, pod: PodNetns) -> None:
    """
    All its addresses in both families, without the link-local one, and none of other interfaces.

    A macvlan stands for ipvlan and VLAN interfaces, which name what is below them in the same way.
    """
    node.ip("link", "add", "child", "link", "ens1", "type", "macvlan", "mode", "bridge")
    node.ip("link", "set", "child", "netns", pod.path)
    pod.ip("link", "set", "child", "name", "net1")

    assert MASTER == await masters_of(node, pod, "net1")


async def test_an_interface_below_inside_of_the_pod(node: PodNetns, pod: PodNetns) -> None:
    """An interface of the pod is not the node's, even if the node has one of that number."""
    pod.ip("link", "add", "inner", "type", "veth", "peer", "name", "far")
    pod.ip("link", "add", "net1", "link", "inner", "type", "macvlan", "mode", "bridge")

    assert await masters_of(node, pod, "net1") is None


async def test_a_pair_has_no_master(node: PodNetns, pod: PodNetns) -> None:
    """The other end of a veth pair is no master, nor is a link that is not there."""
    node.ip("link", "set", "ens2-far", "netns", pod.path)

    assert await masters_of(node, pod, "ens2-far") is None
    assert await masters_of(node, pod, "net7") is None


async def test_a_master_without_addresses(node: PodNetns, pod: PodNetns) -> None:
    """It is there, and has none."""
    node.ip("addr", "flush", "dev", "ens2")
    node.ip("link", "add", "child", "link", "ens2", "type", "macvlan", "mode", "bridge")
    node.ip("link", "set", "child", "netns", pod.path)

    assert () == await masters_of(node, pod, "child")


async def test_a_virtual_function(node: PodNetns, pod: PodNetns, tmp_path: Path) -> None:
    """Its physical function is found by the device, whether or not the pod has a link."""
    (tmp_path / "0000:03:02.1" / "physfn" / "net" / "ens1").mkdir(parents=True)

    assert MASTER == await masters_of(node, pod, "net1", "0000:03:02.1", devices=tmp_path)
