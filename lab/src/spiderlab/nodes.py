"""
A node's life: its namespaces and first process, containerd, kubelet, kube-proxy.

Stop, start, reboot.
"""

import shutil
import threading
import time
from pathlib import Path

from spiderlab import (
    binaries,
    cgroups,
    images,
    kuberouter,
    namespaces,
    nodeconfig,
    paths,
    processes,
)
from spiderlab.errors import LabError
from spiderlab.peers import Cni
from spiderlab.state import Started, State
from spiderlab.topology import Node
from spiderlab.wiring import plan_node, plan_node_ports

_memory = threading.Lock()
"""Nodes start in parallel, the state is one file."""


def lay_out(state: State, node: Node) -> None:
    """Write a node's disk, for a first start; later ones find it as it was."""
    nodeconfig.write_all(state.topology, node)
    install_plugins(node)


def install_plugins(node: Node) -> None:
    """Put the CNI plugins where containerd looks for them."""
    target = paths.node_data(node.name) / "cni-bin"
    for program in binaries.CNI.programs:
        shutil.copy2(binaries.program(program), target / program)


def boot(state: State, node: Node) -> None:
    """Return a node its network and first process."""
    cgroups.make(node.name)
    namespaces.make(node.namespace)
    namespaces.apply(plan_node(state.topology, node))
    namespaces.apply(plan_node_ports(node))
    unshare: list[str | Path] = [
        "unshare",
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "sh",
        paths.node_data(node.name) / "init.sh",
    ]
    entered: list[str | Path] = [
        "nsenter",
        f"--net={namespaces.FOLDER / node.namespace}",
        "--",
        *unshare,
    ]
    init = processes.start(node.name, entered, group=node.name, init=None)
    remember(state, node.name, init)
    _wait_for(
        Path(f"/proc/{init.pid}/root/{nodeconfig.READY_FILE}"), init, f"node {node.name}", node.name
    )


def start_containerd(state: State, node: Node) -> None:
    """Start containerd and wait for its socket."""
    init = init_of(state, node)
    command: list[str | Path] = [
        "containerd",
        "--config",
        paths.node_data(node.name) / "containerd.toml",
    ]
    name = f"containerd-{node.name}"
    socket = Path(f"/proc/{init}/root/run/containerd/containerd.sock")
    socket.unlink(missing_ok=True)
    started = processes.start(name, command, group=node.name, init=init)
    remember(state, name, started)
    _wait_for(socket, started, f"containerd of {node.name}", name)


def start_kubelet(state: State, node: Node) -> None:
    """Start kubelet; when its Node is Ready the API server knows."""
    command = nodeconfig.kubelet_command(state.topology, node, binaries.folder(binaries.KUBE))
    _start(state, node, f"kubelet-{node.name}", command)


def start_kube_proxy(state: State, node: Node) -> None:
    """Start kube-proxy."""
    config = paths.node_data(node.name) / "kube-proxy.json"
    _start(
        state,
        node,
        f"kube-proxy-{node.name}",
        [binaries.program("kube-proxy"), f"--config={config}"],
    )


def start_network(state: State, node: Node) -> None:
    """Start the default network's own program, where it has one."""
    if state.peers.cni is Cni.KUBE_ROUTER:
        command = kuberouter.command(state.topology, node.name, binaries.program("kube-router"))
        _start(state, node, f"kube-router-{node.name}", command)


def wait_pod_routes(state: State, node: Node, *, wait_s: float = 20) -> None:
    """Wait until a node has routes to the pods of all other nodes."""
    topology, name = state.topology, f"kube-router-{node.name}"
    others = [other for other in topology.nodes if other != node]
    wanted = {
        str(block)
        for other in others
        for block in ((other.pods, other.pods6) if topology.ipv6 else (other.pods,))
    }
    deadline = time.monotonic() + wait_s
    while late := wanted - namespaces.routes(node.namespace):
        if not state.processes[name].alive:
            raise LabError(f"{name} ended; its last words: {processes.last_words(name)}")
        if time.monotonic() > deadline:
            raise LabError(
                f"{node.name} has no route to {', '.join(sorted(late))} after {wait_s:.0f} s"
            )
        time.sleep(0.2)


def _start(state: State, node: Node, name: str, command: list[str | Path]) -> None:
    remember(
        state, name, processes.start(name, command, group=node.name, init=init_of(state, node))
    )


def shut_down(node: Node) -> None:
    """Cut a node's power: all its processes at once, then its network. Its disk stays."""
    cgroups.end_processes(node.name)
    namespaces.remove(node.namespace)
    cgroups.remove(node.name)


def init_of(state: State, node: Node) -> int:
    """A node's first process."""
    started = state.processes.get(node.name)
    if started is None or not started.alive:
        raise LabError(f"{node.name} is down; start it with: spiderlab node start {node.name}")
    return started.pid


def remember(state: State, name: str, started: Started) -> None:
    """Write down a process that was started."""
    with _memory:
        state.processes[name] = started
        state.save()


def load_images(state: State, node: Node) -> None:
    """Import the image that pods and sandboxes run, and those of the lab's peers."""
    for archive in sorted(paths.IMAGES.glob("*.tar")):
        images.load(init_of(state, node), archive)


def _wait_for(path: Path, started: Started, what: str, log: str, wait_s: float = 30) -> None:
    deadline = time.monotonic() + wait_s
    while not path.exists():
        if not started.alive:
            raise LabError(f"{what} ended; its last words: {processes.last_words(log)}")
        if time.monotonic() > deadline:
            raise LabError(
                f"{what} is not ready after {wait_s:.0f} s; its last words: "
                f"{processes.last_words(log)}"
            )
        time.sleep(0.02)
