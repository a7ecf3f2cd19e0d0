"""
What the namespaces of a node's pods have, on a real kernel.

Processes are told by a folder that looks like /proc.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.kernel.pod_namespaces import OWN, read_pod_namespaces
from tests.contract.meta.node import PodNetns, pod_netns

UID = "2b3a55f4-6a5e-4d0e-9d4e-0c5c0b8e6a11"
SANDBOX, CONTAINER = "a" * 64, "b" * 64
MAC = "0a:00:00:00:00:01"


@pytest.fixture
def pod() -> Iterator[PodNetns]:
    """A namespace with one interface of two addresses, one of them in each family."""
    with pod_netns() as made:
        made.ip("link", "add", "eth0", "address", MAC, "type", "veth", "peer", "name", "other")
        made.ip("link", "set", "eth0", "up")
        made.ip("addr", "add", "10.6.0.9/16", "dev", "eth0")
        made.ip("addr", "add", "fd00:6::9/64", "dev", "eth0", "nodad")
        # As a router's advertisement makes one.
        made.ip(
            "addr",
            "add",
            "fd00:6::ff/64",
            "dev",
            "eth0",
            "nodad",
            "valid_lft",
            "600",
            "preferred_lft",
            "600",
        )
        yield made


class Node:
    """Folders that look like /var/run/netns and /proc."""

    def __init__(self, folder: Path) -> None:
        self.files, self.proc = folder / "netns", folder / "proc"
        self.files.mkdir()
        self.process(1, OWN, "0::/init.scope")
        (self.proc / "self").symlink_to("1")

    def process(self, pid: int, netns: str, group: str) -> None:
        """Let a process run."""
        folder = self.proc / str(pid)
        (folder / "ns").mkdir(parents=True)
        (folder / "ns" / "net").symlink_to(netns)
        (folder / "cgroup").write_text(group)

    def file(self, name: str, netns: str) -> None:
        """Let the runtime keep a namespace."""
        (self.files / name).symlink_to(netns)

    async def look(self, *uids: str) -> tuple[InUseNamespace, ...]:
        """Look, knowing pods of these UIDs."""
        return await read_pod_namespaces(
            {uid: uid for uid in uids}, folder=self.files, proc=self.proc
        )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A node without pods."""
    return Node(tmp_path)


async def test_a_pod_and_its_namespace(node: Node, pod: PodNetns) -> None:
    """Interfaces with the addresses that they were given for good, whose they are, in which containers, the oldest first."""
    node.process(30, pod.path, f"0::/kubepods/besteffort/pod{UID}/{CONTAINER}")
    node.process(20, pod.path, f"0::/kubepods/besteffort/pod{UID}/{SANDBOX}")
    node.file("cni-1", pod.path)

    (found,) = await node.look(UID)

    assert (str(node.files / "cni-1"), UID, (SANDBOX, CONTAINER)) == (
        found.path,
        found.pod_uid,
        found.containers,
    )
    assert (
        InUseInterface(nic="eth0", mac=MAC, addresses=("10.6.0.9/16", "fd00:6::9/64"))
        in found.interfaces
    )
    assert "lo" not in [link.nic for link in found.interfaces]


async def test_a_namespace_that_only_processes_name(node: Node, pod: PodNetns) -> None:
    """Runtimes that keep no files: the pod is known, so its namespace is looked into."""
    node.process(20, pod.path, f"0::/kubepods/pod{UID}/{SANDBOX}")

    (found,) = await node.look(UID)

    assert (UID, True) == (
        found.pod_uid,
        "10.6.0.9/16" in found.interfaces[0].addresses + found.interfaces[-1].addresses,
    )


async def test_what_a_lost_del_leaves(node: Node, pod: PodNetns) -> None:
    """A namespace without processes is nobody's, and is told all the same."""
    node.file("cni-1", pod.path)

    assert [""] == [found.pod_uid for found in await node.look()]


async def test_processes_that_are_no_pod_s(node: Node, pod: PodNetns) -> None:
    """A namespace in which an administrator's program runs says so."""
    node.file("router", pod.path)
    node.process(20, pod.path, "0::/system.slice/keepalived.service")

    assert [("", True)] == [(found.pod_uid, found.others) for found in await node.look()]


async def test_other_nodes_and_the_nodes_own(node: Node, pod: PodNetns) -> None:
    """
    Left out.

    Namespaces of pods that are not this node's, and the one that the node itself lives in.
    """
    node.process(20, pod.path, f"0::/kubepods/pod{UID}/{SANDBOX}")
    node.process(21, OWN, "0::/kubepods/pod11111111-1111-1111-1111-111111111111/" + "c" * 64)

    assert () == await node.look("11111111-1111-1111-1111-111111111111")


async def test_files_that_name_nothing(node: Node) -> None:
    """A plain file, as a lazy unmount leaves it, and a link to nothing are passed over."""
    (node.files / "stale").write_text("")
    node.file("gone", "/nonexistent")

    assert () == await node.look()
