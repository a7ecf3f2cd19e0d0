"""
The network namespaces of a node's pods, whose they are, and what their interfaces have.

Whose a namespace is, is known from the control groups of its processes, in which kubelet writes the
pod's UID. Found by the runtime's files in /var/run/netns as well, so a namespace without processes,
which a lost DEL leaves, is seen too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace
from spiderpool.errors import NotFound, TryAgain
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.rtnetlink import GET_ADDRESS, GET_LINK, RouteSocket

NETNS_FOLDER: Final = Path("/var/run/netns")
PROC: Final = Path("/proc")
OWN: Final = "/proc/self/ns/net"

# `…/pod<UID>/<container>` of the cgroupfs driver, `…-pod<UID with
# _>.slice/cri-containerd-<container>.scope` of systemd's. Pods that kubelet reads from files have a
# UID of 32 digits without dashes.
_POD: Final = re.compile(
    r"pod(?P<uid>[0-9a-f]{8}(?:[-_]?[0-9a-f]{4}){3}[-_]?[0-9a-f]{12})(?P<rest>\S*)"
)
_CONTAINER: Final = re.compile(r"[0-9a-f]{64}")

Inode = tuple[int, int]
"""What a file is, whatever its name: device and number."""


@dataclass(slots=True)
class _Found:
    """A namespace before it is entered."""

    path: str
    inode: int
    uid: str = ""
    others: bool = False
    containers: dict[str, None] = field(default_factory=dict)  # a dict keeps the order


async def read_pod_namespaces(
    pods: Mapping[str, str], *, folder: Path = NETNS_FOLDER, proc: Path = PROC
) -> tuple[InUseNamespace, ...]:
    """
    Look into every network namespace of this node's pods.

    Args:
        pods: the node's pods: the UID that the runtime knows → the UID of the object.
        folder: where the runtime keeps its files.
        proc: the process file system of the host's PID namespace.
    Returns:
        By path. Namespaces of processes that belong to none of `pods` and that `folder` does not
        have are another node's (nested nodes share one PID namespace), and the caller's own is the
        node's: both are left out.
    """
    # A thread of its own, that ends in the last namespace it has entered.
    with Namespaces.network(OWN) as here:
        return await here.run(lambda: tuple(_look_into(find_namespaces(pods, folder, proc))))


def find_namespaces(pods: Mapping[str, str], folder: Path, proc: Path) -> list[_Found]:
    """
    Find namespaces by the runtime's files and by the processes of pods; each once, by path.

    Args:
        pods: the node's pods: the UID that the runtime knows → the UID of the object.
        folder: where the runtime keeps its files.
        proc: the process file system of the host's PID namespace.
    """
    found = {inode: _Found(str(path), inode[1]) for path, inode in _files(folder)}
    for pid, owner in _processes(proc):
        path = proc / str(pid) / "ns" / "net"
        inode = _inode(path)
        if owner is None:
            if inode in found:
                found[inode].others = True
            continue
        uid, container = owner
        if inode is None or (inode not in found and uid not in pods):
            continue
        namespace = found.setdefault(inode, _Found(str(path), inode[1]))
        namespace.uid = namespace.uid or pods.get(uid, uid)
        if container:
            namespace.containers[container] = None
    own = _inode(proc / "self" / "ns" / "net")
    return sorted(
        (each for inode, each in found.items() if inode != own), key=lambda each: each.path
    )


def read_control_groups(text: str) -> tuple[str, str] | None:
    """
    Return pod UID and container from the text of `/proc/PID/cgroup`.

    None when the process is no pod's.
    """
    match = _POD.search(text)
    if match is None:
        return None
    container = _CONTAINER.search(match["rest"])
    return match["uid"].replace("_", "-"), container[0] if container else ""


def _files(folder: Path) -> Iterator[tuple[Path, Inode]]:
    """Return the files of a folder with what they name."""
    try:
        paths = sorted(folder.iterdir())
    except OSError:
        return  # no runtime has made one yet
    for path in paths:
        inode = _inode(path)
        if inode is not None:
            yield path, inode


def _processes(proc: Path) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """
    Return all processes, by number, with UID and container where they are a pod's.

    The sandbox's own is older than its containers.
    """
    for pid in sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdigit()):
        try:
            owner = read_control_groups((proc / str(pid) / "cgroup").read_text())
        except OSError:
            continue  # it ended meanwhile
        yield pid, owner


def _inode(path: Path) -> Inode | None:
    try:
        found = path.stat()
    except OSError:
        return None
    # Device and inode identify a namespace, whichever file names it (namespaces(7)).
    return found.st_dev, found.st_ino


def _look_into(found: Iterable[_Found]) -> Iterator[InUseNamespace]:
    """
    Enter one namespace after the other; one that vanishes meanwhile, or is none, is left out.

    Raises:
        TryAgain: one cannot be read now. It is not left out: what is in use there is unknown.
    """
    for each in found:
        try:
            with Namespaces.network(each.path) as namespace:
                namespace.enter()
        except NotFound:
            continue
        try:
            interfaces = tuple(read_interfaces())
        except TryAgain as error:
            raise TryAgain(f"namespace {each.path}: {error.message}") from error
        yield InUseNamespace(
            path=each.path,
            inode=each.inode,
            pod_uid=each.uid,
            containers=tuple(each.containers),
            others=each.others,
            interfaces=interfaces,
        )


def read_interfaces() -> Iterator[InUseInterface]:
    """Read the interfaces of this thread's namespace and their given addresses, not loopback."""
    with RouteSocket() as socket:
        # Addresses first: a link that is made in between has none that counts yet.
        answers = socket.dump(GET_ADDRESS, wire.ask_addresses(), wire.is_given)
        links = [
            wire.read_link(data)
            for data in socket.dump(GET_LINK, wire.ask_links(), wire.is_no_loopback)
        ]
    names = {link.index: link.name for link in links}
    addresses = [wire.read_address(data, lambda index: names.get(index, "")) for data in answers]
    for link in links:
        mine = (
            f"{address.ip}/{address.prefix_length}"
            for address in addresses
            if address.dev == link.name
        )
        yield InUseInterface(nic=link.name, mac=link.mac, addresses=tuple(sorted(mine)))
