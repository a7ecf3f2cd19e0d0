"""The lab as a whole: up, down, and what tests do to it in between."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from spiderlab import (
    binaries,
    cgroups,
    controlplane,
    dns,
    images,
    kuberouter,
    machine,
    namespaces,
    nodeconfig,
    nodes,
    packages,
    paths,
    processes,
    wiring,
)
from spiderlab import (
    state as memory,
)
from spiderlab.api import Api
from spiderlab.errors import LabError
from spiderlab.peers import QUICK, Cni, Meta, Peers
from spiderlab.progress import Progress
from spiderlab.state import Phase, Started, State
from spiderlab.topology import CLIENT, DEFAULT_NODES, ROUTER, SWITCH, Node, Topology, parse_topology


class Lab:
    """
    A running lab. `Lab.up()` starts one or finds the one that runs.

    `Lab.attach()` only finds it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @property
    def _state(self) -> State:
        """Read again each time: another command may have rebooted a node meanwhile."""
        return memory.require()

    @classmethod
    def attach(cls, progress: Progress | None = None) -> "Lab":
        """The lab that runs here; an error where none does."""
        memory.require()
        return cls(progress or Progress(quiet=True))

    @classmethod
    def up(
        cls,
        names: Sequence[str] = DEFAULT_NODES,
        *,
        ipv6: bool = True,
        peers: Peers | None = None,
        progress: Progress | None = None,
    ) -> "Lab":
        """
        Start a lab; one that runs already is left as it is.

        Args:
            names: the nodes; the first one has the control plane.
            ipv6: both address families, or IPv4 alone.
            peers: which default network and meta plugin; None: those of the lab that runs, the
                lab's own where none does.
            progress: where to tell what goes on.

        Raises:
            LabError: a lab runs, with other peers than those asked for.
        """
        progress = progress or Progress()
        topology = parse_topology(names, ipv6=ipv6, peers=peers or QUICK)
        if runs():
            running = memory.require()
            if peers not in {None, running.peers}:
                raise LabError(
                    f"a lab runs already, with {running.peers}; end it first with: spiderlab down"
                )
            progress.note(
                f"the lab runs already, with {', '.join(running.nodes)}; nothing is changed"
            )
            return cls(progress)
        packages.ensure(topology.peers, progress)
        for binary_set in binaries.sets_of(topology.peers):
            binaries.ensure(binary_set, progress)
        with memory.locked():
            if runs():
                progress.note(
                    "the lab was started by another command meanwhile; nothing is changed"
                )
                return cls(progress)
            if traces():
                with progress.stage("clear away a lab that was cut off"):
                    _remove_all()
            _start(topology, progress)
            return cls(progress)

    @property
    def topology(self) -> Topology:
        """Names and addresses of everything."""
        return self._state.topology

    @property
    def peers(self) -> Peers:
        """Its default network and meta plugin."""
        return self._state.peers

    @property
    def default_network(self) -> str:
        """The name of the default network's CNI configuration."""
        return nodeconfig.network_name(self.peers)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return paths.KUBECONFIG

    @property
    def api(self) -> Api:
        """The API server, for a few simple requests."""
        return Api(self.topology)

    def node(self, name: str) -> "LabNode":
        """One node, to do something with."""
        return LabNode(self.topology.node(name))

    @property
    def nodes(self) -> tuple["LabNode", ...]:
        """All nodes."""
        return tuple(LabNode(node) for node in self.topology.nodes)

    def in_client(
        self, command: Sequence[str], *, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the host outside of the cluster."""
        return _run_in(["ip", "netns", "exec", CLIENT], command, timeout_s)

    def in_router(
        self, command: Sequence[str], *, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command on the router."""
        return _run_in(["ip", "netns", "exec", ROUTER], command, timeout_s)

    def kubectl(self, *words: str, text: str | None = None, timeout_s: float = 120) -> str:
        """Run kubectl as the administrator and give what it printed."""
        return processes.run(
            [binaries.program("kubectl"), f"--kubeconfig={self.kubeconfig}", *words],
            text=text,
            timeout_s=timeout_s,
        )

    def helm(self, *words: str, timeout_s: float = 300) -> str:
        """Run helm as the administrator and give what it printed."""
        return processes.run(
            [binaries.program("helm"), f"--kubeconfig={self.kubeconfig}", *words],
            timeout_s=timeout_s,
        )

    def load_image(self, name: str, archive: Path, node_names: Iterable[str] = ()) -> None:
        """Import a docker or OCI archive under a name, on all nodes at once or on those named."""
        if not archive.is_file():
            raise LabError(f"there is no image archive {archive}")
        chosen = [self.topology.node(name) for name in node_names] or list(self.topology.nodes)
        _at_once(
            [
                partial(images.load_as, nodes.init_of(self._state, node), archive.resolve(), name)
                for node in chosen
            ]
        )

    def stop_api_server(self) -> None:
        """End the API server; etcd and the rest stay."""
        self._stop(controlplane.API_SERVER)

    def start_api_server(self) -> None:
        """Start the API server and wait until it serves."""
        self.start_component(controlplane.API_SERVER)
        self.api.wait_ready()

    def start_component(self, name: str) -> None:
        """Start one of the control plane's programs, unless it runs."""
        with memory.locked():
            state = self._state
            started = state.processes.get(name)
            if started is None or not started.alive:
                _start_component(state, name)

    def stop_component(self, name: str) -> None:
        """End one of the control plane's programs."""
        if name not in controlplane.COMPONENTS:
            raise LabError(
                f"{name} is none of the control plane's programs: "
                f"{', '.join(controlplane.COMPONENTS)}"
            )
        self._stop(name)

    def _stop(self, name: str) -> None:
        started = self._state.processes.get(name)
        if started is not None:
            processes.stop(started)

    def processes(self) -> Mapping[str, Started]:
        """Every process that the lab started, by its name."""
        return self._state.processes

    def down(self) -> None:
        """End the lab and remove every trace of it."""
        down(self._progress)


class LabNode:
    """One node of a running lab."""

    def __init__(self, node: Node) -> None:
        self.facts = node

    @property
    def _state(self) -> State:
        return memory.require()

    @property
    def name(self) -> str:
        """Its name, in Kubernetes too."""
        return self.facts.name

    @property
    def init(self) -> int:
        """
        Its first process, by its number on the machine.

        /proc/INIT/root is the node's file system.
        """
        return nodes.init_of(self._state, self.facts)

    @property
    def alive(self) -> bool:
        """Return whether it is on."""
        started = self._state.processes.get(self.name)
        return started is not None and started.alive

    def path(self, inside: str) -> Path:
        """A path of the node as the machine sees it."""
        return Path(f"/proc/{self.init}/root") / inside.lstrip("/")

    def enter(self) -> list[str]:
        """The words that put a command into the node's namespaces, as the lab's own process."""
        return [
            "sh",
            "-c",
            processes.JOIN,
            "sh",
            str(cgroups.join_file(self.name)),
            *processes.enter(self.init),
        ]

    def exec(
        self, command: Sequence[str], *, timeout_s: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        """Run a command in the node's namespaces; the caller looks at the exit code."""
        return _run_in(self.enter(), command, timeout_s)

    def stop(self) -> None:
        """Cut the power."""
        with memory.locked():
            nodes.shut_down(self.facts)

    def start(self) -> None:
        """Start a node that was stopped; when it is Ready the API server tells."""
        with memory.locked():
            if self.alive:
                raise LabError(f"{self.name} runs already")
            _start_again(self._state, self.facts)

    def reboot(self) -> None:
        """
        Cut the power and start again.

        Processes, pods, /run and the network are new, the disk is as it was.
        """
        with memory.locked():
            nodes.shut_down(self.facts)
            _start_again(self._state, self.facts)

    def restart_containerd(self) -> None:
        """End containerd and start it again; its shims and the pods live on."""
        self.stop_containerd()
        self.start_containerd()

    def stop_containerd(self) -> None:
        """End containerd."""
        self.stop_program("containerd")

    def start_containerd(self) -> None:
        """Start containerd."""
        with memory.locked():
            nodes.start_containerd(self._state, self.facts)

    def stop_program(self, name: str) -> None:
        """End `containerd`, `kubelet` or `kube-proxy`."""
        started = self._state.processes.get(f"{name}-{self.name}")
        if started is None:
            raise LabError(
                f"{name} never ran on {self.name}; there are containerd, kubelet, kube-proxy"
            )
        processes.stop(started)

    def start_kubelet(self) -> None:
        """Start kubelet."""
        with memory.locked():
            nodes.start_kubelet(self._state, self.facts)

    def start_kube_proxy(self) -> None:
        """Start kube-proxy."""
        with memory.locked():
            nodes.start_kube_proxy(self._state, self.facts)

    def set_felix_rules(self, *, on: bool) -> None:
        """
        Write rules as Calico's Felix does, for all workloads now and later, or take them away.

        The stand-in for Calico has none by itself; a reboot ends them.
        """
        if self._state.peers.cni is not Cni.LAB_CALICO:
            raise LabError(
                f"{self._state.peers.cni} writes its own rules; Felix's are lab-calico's"
            )
        done = self.exec(["/opt/cni/bin/lab-calico", "felix", "on" if on else "off"])
        if done.returncode:
            raise LabError(f"{self.name}: {done.stderr.strip()}")

    def restart_kube_proxy(self) -> None:
        """End kube-proxy and start it again; its rules stay meanwhile."""
        self.stop_program("kube-proxy")
        self.start_kube_proxy()


def _run_in(
    enter: list[str], command: Sequence[str], timeout_s: float
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*enter, *command], capture_output=True, text=True, timeout=timeout_s, check=False
    )


def _at_once(tasks: Sequence[Callable[[], object]]) -> None:
    """Do independent things in parallel; the first failure is raised when all have ended."""
    with ThreadPoolExecutor(max_workers=max(1, len(tasks))) as pool:
        for done in [pool.submit(task) for task in tasks]:
            done.result()


def _start(topology: Topology, progress: Progress) -> None:
    """The way from nothing to nodes that are Ready."""
    # Here, because the import takes a quarter of a second that every other command saves.
    from spiderlab import pki  # noqa: PLC0415

    began = time.monotonic()
    state = State([node.name for node in topology.nodes], topology.ipv6, topology.peers)
    machine.note(state)
    state.save()
    machine.make_folders(state)
    with progress.stage("certificates, images, network"):
        _at_once(
            [
                partial(pki.make_all, topology),
                partial(_make_images, topology.peers),
                partial(_make_network, topology),
            ]
        )
        cgroups.make(topology.control_plane.name)
        for node in topology.nodes:
            nodes.lay_out(state, node)
    with progress.stage(f"nodes {', '.join(state.nodes)}: namespaces"):
        for node in topology.nodes:
            nodes.boot(state, node)
    namespaces.route_machine(topology)
    with progress.stage("control plane, containerd on each node"):
        runtimes = [partial(_start_runtime, state, node) for node in topology.nodes]
        _at_once([partial(_start_control_plane, state), *runtimes])
    with progress.stage("kubelets, kube-proxies: nodes Ready"):
        _start_cluster(state)
    state.phase = Phase.RUNNING
    state.save()
    progress.note(f"the lab is up after {time.monotonic() - began:.1f} s")


def _make_images(peers: Peers) -> None:
    paths.IMAGES.mkdir(parents=True, exist_ok=True)
    images.make_busybox(paths.IMAGES / "busybox.tar")
    if peers.meta is Meta.MULTUS:
        images.make_multus(paths.IMAGES / "multus.tar")


def _make_network(topology: Topology) -> None:
    for name in (SWITCH, ROUTER, CLIENT):
        namespaces.make(name)
    namespaces.apply(wiring.plan_switch())
    namespaces.unlink_machine()
    namespaces.link_machine()
    for plan in (
        wiring.plan_router(topology),
        wiring.plan_switch_ports(),
        wiring.plan_client(topology),
    ):
        namespaces.apply(plan)


def _start_runtime(state: State, node: Node) -> None:
    nodes.start_containerd(state, node)
    nodes.load_images(state, node)


def _start_cluster(state: State) -> None:
    topology, api = state.topology, Api(state.topology)
    for node in topology.nodes:
        nodes.start_kubelet(state, node)
        nodes.start_kube_proxy(state, node)
    api.apply(
        "/api/v1/namespaces/kube-system/configmaps/kubeadm-config",
        nodeconfig.render_kubeadm(topology),
    )
    for path, thing in dns.objects(binaries.folder(binaries.DNS)):
        api.apply(path, thing)
    api.wait_nodes([node.name for node in topology.nodes])
    _start_networks(state, api)
    api.wait_service_account()


def _start_networks(state: State, api: Api) -> None:
    """Start the default network's own programs, if any, and wait for routes between the nodes."""
    if state.peers.cni is not Cni.KUBE_ROUTER:
        return
    topology = state.topology
    for path, thing in kuberouter.objects():
        api.apply(path, thing)
    for node in topology.nodes:
        api.give_pod_blocks(node, ipv6=topology.ipv6)
        nodes.start_network(state, node)
    for node in topology.nodes:
        nodes.wait_pod_routes(state, node)


def _start_component(state: State, name: str) -> None:
    node = state.topology.control_plane
    command = controlplane.commands(state.topology, binaries.folder(binaries.KUBE))[name]
    nodes.remember(
        state,
        name,
        processes.start(name, command, group=node.name, init=nodes.init_of(state, node)),
    )


def _start_control_plane(state: State) -> None:
    """Start the control plane; the last two programs give up when they find no API server."""
    store = controlplane.COMPONENTS[:2]
    for name in store:
        _start_component(state, name)
    Api(state.topology).wait_ready()
    for name in controlplane.COMPONENTS[len(store) :]:
        _start_component(state, name)


def _start_again(state: State, node: Node) -> None:
    """Start a node from its disk; the control plane too, where it is this node's."""
    nodes.boot(state, node)
    nodes.start_containerd(state, node)
    if node == state.topology.control_plane:
        _start_control_plane(state)
    nodes.start_kubelet(state, node)
    nodes.start_kube_proxy(state, node)
    nodes.start_network(state, node)


def runs() -> bool:
    """Return whether a lab is up on this machine."""
    state = memory.load()
    return state is not None and state.phase is Phase.RUNNING


def down(progress: Progress) -> bool:
    """
    End the lab and remove every trace of it, whatever was left of it.

    Whether there was anything.
    """
    with memory.locked():
        if not traces():
            return False
        with progress.stage("end the lab and remove its traces"):
            _remove_all()
        return True


def _remove_all() -> None:
    """
    Processes first, then what they held.

    The memory last, so that a `down` that is cut off can be repeated.
    """
    state = memory.load()
    cgroups.end_processes()
    namespaces.unlink_machine()
    for name in _namespace_names(state):
        namespaces.remove(name)
    cgroups.remove()
    if state is not None:
        machine.restore(state)
    shutil.rmtree(paths.DATA, ignore_errors=True)
    shutil.rmtree(paths.RUN, ignore_errors=True)


def _namespace_names(state: State | None) -> list[str]:
    return [SWITCH, ROUTER, CLIENT] if state is None else list(state.topology.namespaces)


def traces() -> list[str]:
    """What of a lab is on this machine, whether or not it runs."""
    found = [str(path) for path in (paths.STATE, paths.RUN, paths.DATA) if path.exists()]
    found += [str(path) for path in cgroups.traces()]
    state = None
    with contextlib.suppress(LabError):
        state = memory.load()
    found += [
        f"namespace {name}"
        for name in _namespace_names(state)
        if (namespaces.FOLDER / name).exists()
    ]
    return found
