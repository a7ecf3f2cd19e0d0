"""An address that leaves a namespace whose pod is gone, on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from msgspec.structs import replace

from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.kernel.address_removal import fence
from spiderpool.kernel.pod_namespaces import read_pod_namespaces
from tests.contract.meta.node import PodNetns, pod_netns, sh

OTHERS = ["10.7.0.10/16", "fd00:6::9/64"]
NODE_END = "fencing-test"


@pytest.fixture
def pod() -> Iterator[PodNetns]:
    """
    A namespace as the coordinator leaves it.

    A NIC, and a pair with the node, which routes to the pod.
    """
    with pod_netns() as made:
        made.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other")
        made.ip("link", "set", "eth0", "up")
        for text in ("10.6.0.9/16", *OTHERS):
            made.ip("addr", "add", text, "dev", "eth0", *(["nodad"] if ":" in text else []))
        sh(
            "ip",
            "link",
            "add",
            NODE_END,
            "type",
            "veth",
            "peer",
            "name",
            "veth0",
            "netns",
            made.path,
        )
        try:
            sh("ip", "link", "set", NODE_END, "up")
            made.ip("link", "set", "veth0", "up")
            sh("ip", "rule", "add", "pref", "1000", "table", "500")
            sh("ip", "route", "add", "10.6.0.9/32", "dev", NODE_END, "table", "500")
            yield made
        finally:
            sh("ip", "rule", "del", "pref", "1000", "table", "500")
            sh("ip", "link", "del", NODE_END)


async def seen(pod: PodNetns) -> InUseNamespace:
    """Look into the namespace."""
    name = Path(pod.path).name
    found = await read_pod_namespaces({}, folder=Path(pod.path).parent)
    return next(each for each in found if Path(each.path).name == name)


def addresses(namespace: InUseNamespace) -> list[str]:
    """Return what the NIC has."""
    return next(list(link.addresses) for link in namespace.interfaces if link.nic == "eth0")


async def test_one_address_leaves(pod: PodNetns) -> None:
    """
    The address and the node's route to it are gone; other addresses and all links stay.

    Twice is as good as once.
    """
    before = await seen(pod)
    assert "10.6.0.9/16" in addresses(before)

    await fence(before, ip_address("10.6.0.9"))
    await fence(before, ip_address("10.6.0.9"))

    assert OTHERS == addresses(await seen(pod))
    assert "" == sh("ip", "route", "show", "table", "500")
    assert {"eth0", "other", "veth0"} == {link.nic for link in (await seen(pod)).interfaces}


async def test_an_ipv6_address_leaves(pod: PodNetns) -> None:
    """The same for the other family."""
    await fence(await seen(pod), ip_address("fd00:6::9"))

    assert ["10.6.0.9/16", "10.7.0.10/16"] == addresses(await seen(pod))


async def test_another_namespace_of_that_name_is_left_alone(pod: PodNetns) -> None:
    """What was seen was another namespace: nothing is taken off this one."""
    before = await seen(pod)

    await fence(replace(before, inode=before.inode + 1), ip_address("10.6.0.9"))
    await fence(replace(before, path="/nonexistent"), ip_address("10.6.0.9"))

    assert before == await seen(pod)
