"""The command `spiderlab`."""

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from spiderlab import binaries, packages, paths, processes, toolchain
from spiderlab import lab as story
from spiderlab import state as memory
from spiderlab.errors import LabError
from spiderlab.lab import Lab
from spiderlab.peers import QUICK, Cni, Meta, Peers
from spiderlab.progress import Progress
from spiderlab.topology import DEFAULT_NODES, ENS192, ENS224

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False
)
node_app = typer.Typer(no_args_is_help=True, help="Power of a node: stop, start, reboot.")
containerd_app = typer.Typer(no_args_is_help=True, help="A node's container runtime.")
proxy_app = typer.Typer(no_args_is_help=True, help="A node's kube-proxy.")
api_app = typer.Typer(no_args_is_help=True, help="The API server.")
app.add_typer(node_app, name="node")
app.add_typer(containerd_app, name="containerd")
app.add_typer(proxy_app, name="kube-proxy")
app.add_typer(api_app, name="apiserver")

PASS_ON = {
    "ignore_unknown_options": True,
    "allow_extra_args": True,
    "allow_interspersed_args": False,
}


class Switch(StrEnum):
    """Whether something is wanted."""

    ON = "on"
    OFF = "off"


NodeName = Annotated[str, typer.Argument(metavar="NODE", help="a node's name, such as node1")]


@app.command()
def up(
    nodes: Annotated[
        str, typer.Option(help="names of the nodes; the first one has the control plane")
    ] = ",".join(DEFAULT_NODES),
    *,
    ipv6: Annotated[bool, typer.Option(help="both address families, or IPv4 alone")] = True,
    cni: Annotated[
        Cni | None, typer.Option(help="the default network  [default: lab-calico]")
    ] = None,
    meta: Annotated[
        Meta | None, typer.Option(help="who attaches further networks  [default: builtin]")
    ] = None,
) -> None:
    """Start the lab and print the path of its kubeconfig."""
    peers = Peers(cni or QUICK.cni, meta or QUICK.meta) if cni or meta else None
    lab = Lab.up([name for name in nodes.split(",") if name], ipv6=ipv6, peers=peers)
    print(lab.kubeconfig)


@app.command()
def down() -> None:
    """End the lab and remove every trace of it; nothing happens where there is none."""
    if not story.down(Progress()):
        print("no lab runs here", file=sys.stderr)


@app.command()
def status(
    *,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="print nothing; exit code 1: no lab runs")
    ] = False,
) -> None:
    """Show nodes, their addresses, and what runs."""
    if quiet:
        raise typer.Exit(0 if story.runs() else 1)
    lab = Lab.attach()
    api_up = lab.api.ready()
    ready = lab.api.ready_nodes() if api_up else {}
    table = Table("NODE", "POWER", "READY", "ADDRESS", "ens192", "ens224", "PODS", box=None)
    for node, shown in zip(lab.nodes, _addresses(lab), strict=True):
        table.add_row(
            node.name, "on" if node.alive else "off", str(ready.get(node.name, "unknown")), *shown
        )
    Console(width=max(120, Console().width)).print(table)
    dead = [name for name, started in lab.processes().items() if not started.alive]
    print(f"peers: {lab.peers.cni} as the default network, {lab.peers.meta} as the meta plugin")
    print(f"API server: {lab.topology.api_server} ({'ready' if api_up else 'not ready'})")
    print(f"kubeconfig: {lab.kubeconfig}")
    print(f"not running: {', '.join(dead) or 'none'}")


def _addresses(lab: Lab) -> list[tuple[str, str, str, str]]:
    return [
        (
            str(n.facts.ip),
            str(ENS192.address(n.facts.index)),
            str(ENS224.address(n.facts.index)),
            str(n.facts.pods),
        )
        for n in lab.nodes
    ]


@app.command("peers")
def peers_() -> None:
    """
    Print the lab's default network and meta plugin, as scripts read them.

    `lab-calico builtin`.
    """
    peers = Lab.attach().peers
    print(peers.cni, peers.meta)


@app.command()
def kubeconfig() -> None:
    """Print the path of the administrator's kubeconfig."""
    print(Lab.attach().kubeconfig)


@app.command("exec", context_settings=PASS_ON)
def exec_(context: typer.Context, node: NodeName) -> None:
    """Run a command in a node's namespaces: `spiderlab exec node1 -- ip route`."""
    command = context.args[1:] if context.args[:1] == ["--"] else context.args
    enter = Lab.attach().node(node).enter()
    # The terminal goes over to the command.
    os.execvp(enter[0], [*enter, *(command or ["bash"])])  # noqa: S606


@app.command(context_settings=PASS_ON)
def kubectl(context: typer.Context) -> None:
    """Run kubectl as the lab's administrator."""
    _become("kubectl", context.args)


@app.command(context_settings=PASS_ON)
def helm(context: typer.Context) -> None:
    """Run helm as the lab's administrator."""
    _become("helm", context.args)


def _become(name: str, words: list[str]) -> None:
    program = binaries.program(name)
    os.environ["KUBECONFIG"] = str(Lab.attach().kubeconfig)
    os.execv(program, [str(program), *words])  # noqa: S606


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="kubectl, helm, kube-apiserver, macvlan, …")],
) -> None:
    """Print the path of one of the lab's programs, built by `spiderlab binaries`."""
    print(binaries.program(name))


@app.command("binaries")
def binaries_(
    sets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SET...",
            help="only these, and no packages: kube, cni, helm, coredns, multus, kube-router",
        ),
    ] = None,
) -> None:
    """Install and build the programs that the lab needs, and start nothing."""
    progress = Progress()
    if not sets:
        packages.ensure(QUICK, progress)
    for binary_set in binaries.named(sets or []):
        binaries.ensure(binary_set, progress)


@app.command()
def go(
    modules: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", help="Go modules that it has to build")
    ],
) -> None:
    """
    Print the path of a Go that is new enough.

    Install one into the cache when the machine has none.
    """
    print(toolchain.ensure(modules, Progress().note))


@app.command("load-image")
def load_image(
    name: Annotated[
        str, typer.Argument(help="the image's name for pods, such as registry.local/spiderpool:dev")
    ],
    archive: Annotated[Path, typer.Argument(metavar="TAR", help="a docker or OCI archive")],
    nodes: Annotated[str, typer.Option(help="only on these nodes")] = "",
) -> None:
    """Put an image on the nodes."""
    progress = Progress()
    lab = Lab.attach(progress)
    with progress.stage(f"load {name}"):
        lab.load_image(name, archive, [node for node in nodes.split(",") if node])


@app.command()
def logs(
    component: Annotated[
        str, typer.Argument(help="such as kube-apiserver or kubelet-node2; without: list them")
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", help="how many of the last lines")] = 200,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f")] = False,
) -> None:
    """Show the output of one of the lab's programs."""
    memory.require()
    if not component:
        print("\n".join(sorted(log.stem for log in paths.LOGS.glob("*.log"))))
        return
    log = processes.log_of(component)
    if not log.exists():
        raise LabError(f"there is no log of {component}; list them with: spiderlab logs")
    command = ["tail", f"--lines={lines}", *(["--follow"] if follow else []), str(log)]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


@node_app.command("stop")
def node_stop(node: NodeName) -> None:
    """Cut a node's power; its disk stays."""
    Lab.attach().node(node).stop()


@node_app.command("start")
def node_start(node: NodeName) -> None:
    """Start a node that was stopped."""
    Lab.attach().node(node).start()


@node_app.command("reboot")
def node_reboot(node: NodeName) -> None:
    """Cut a node's power and start it again."""
    Lab.attach().node(node).reboot()


@containerd_app.command("restart")
def containerd_restart(node: NodeName) -> None:
    """End containerd and start it again; pods live on."""
    Lab.attach().node(node).restart_containerd()


@proxy_app.command("restart")
def proxy_restart(node: NodeName) -> None:
    """End kube-proxy and start it again; it reads the node's settings again."""
    Lab.attach().node(node).restart_kube_proxy()


@app.command()
def felix(
    rules: Annotated[Switch, typer.Argument(help="on or off")],
    nodes: Annotated[str, typer.Option(help="only on these nodes")] = "",
) -> None:
    """Write firewall rules as Calico's Felix does, or take them away."""
    lab = Lab.attach()
    for node in [lab.node(name) for name in nodes.split(",") if name] or lab.nodes:
        node.set_felix_rules(on=rules is Switch.ON)


@api_app.command("stop")
def apiserver_stop() -> None:
    """End the API server; etcd and the rest stay."""
    Lab.attach().stop_api_server()


@api_app.command("start")
def apiserver_start() -> None:
    """Start the API server and wait until it serves."""
    Lab.attach().start_api_server()


def main() -> None:
    """Run the command line; an error of the lab is one line and exit code 1."""
    if os.geteuid() != 0:
        sys.exit("spiderlab: the lab makes namespaces and mounts; run it as root")
    try:
        app()
    except LabError as error:
        sys.exit(f"spiderlab: {error}")
