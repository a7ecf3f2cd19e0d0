"""
What a coordinator ADD costs on one node.

Time inside the agent, requests to the kernel, namespaces entered, and the turns that the agent's
event loop loses meanwhile, with few pods, with many, and with many beside objects that are none of
theirs. No cluster is needed: pods are namespaces, their NICs are macvlans.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.idle import idle, late_ms
from bench.load import percentile
from spiderpool.agent.coordinator import mangle_rules
from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.main import SWITCH_INTERVAL_S
from spiderpool.agent.node.caller import Peer, PodCall
from spiderpool.cni.request import Call, CniRequest, parse_call
from spiderpool.kernel import programs, rtnetlink
from spiderpool.kernel.namespaces import Namespaces

FEW, MANY = 20, 200  # pods
TOGETHER = 8  # ADDs at a time in the second round
NEIGHBOURS, ROUTES = 2000, 1000  # of the node's that have to do with no pod
ADDRESS = "10.6.{}.{}/16"
CONFIG = {
    "mode": "underlay",
    "tunePodRoutes": True,
    "overlayPodCIDR": ["10.233.64.0/18"],
    "serviceCIDR": ["10.233.0.0/18"],
    "hijackCIDR": ["169.254.0.0/16"],
}


class Configs:
    """The cluster's settings."""

    async def document_of(self, call: PodCall) -> dict[str, Any]:
        """Return them."""
        del call
        return CONFIG


@dataclass(frozen=True, slots=True)
class Row:
    """
    What one round measured.

    `cpu_ms` is the agent's, of an ADD. `idle_p99_ms` is how late a process wakes meanwhile that
    does nothing else: when it is large, others used the machine and the round says little.
    """

    pods: int
    strangers: int
    together: int
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    stall_p99_ms: float
    idle_p99_ms: float
    sends: float
    changes: float
    entries: float
    programs: float
    clean: bool


@dataclass
class Counts:
    """How often something was done."""

    sends: int = 0
    changes: int = 0
    entries: int = 0
    programs: int = 0


def sh(*command: str) -> str:
    """Run a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextlib.contextmanager
def node() -> Iterator[int]:
    """Make a node with one uplink; gives the process whose namespaces are its."""
    process = subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "slave", "sleep", "infinity"]
    )
    try:
        while (
            Path(f"/proc/{process.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
        ):
            time.sleep(0.005)
        enter = ("nsenter", f"--net=/proc/{process.pid}/ns/net")
        for command in (
            # else routes appear later
            "sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0",
            "ip link set lo up",
            "ip link add ens192 type veth peer name wire",
            "ip link set ens192 up",
            "ip link set wire up",
            "ip addr add 10.6.0.2/16 dev ens192",
        ):
            sh(*enter, *command.split())
        yield process.pid
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def add_strangers(node_pid: int) -> None:
    """Return the node neighbours and routes that no pod has to do with."""
    lines = [
        f"neigh add 10.6.{100 + n // 250}.{1 + n % 250} lladdr 02:00:00:00:00:01 dev ens192"
        for n in range(NEIGHBOURS)
    ]
    lines += [f"route add 10.9.{n // 250}.{n % 250}/32 dev ens192" for n in range(ROUTES)]
    enter = ("nsenter", f"--net=/proc/{node_pid}/ns/net")
    subprocess.run(
        [*enter, "ip", "-b", "-"],
        input="\n".join(lines),
        check=True,
        capture_output=True,
        text=True,
    )


@contextlib.contextmanager
def pods(node_pid: int, count: int) -> Iterator[list[str]]:
    """Make pods, each a namespace with a macvlan as eth0; gives the names of the namespaces."""
    names = [f"spbench-{os.getpid()}-{number}" for number in range(count)]
    made: list[str] = []
    try:
        for number, name in enumerate(names):
            sh("ip", "netns", "add", name)
            made.append(name)
            link = f"link add m{number} link ens192 netns {name} type macvlan mode bridge"
            sh("nsenter", f"--net=/proc/{node_pid}/ns/net", "ip", *link.split())
            address = ADDRESS.format(1 + number // 250, 1 + number % 250)
            batch = (
                f"link set lo up\nlink set m{number} name eth0 up\naddr add {address} dev eth0\n"
            )
            batch += "route add default via 10.6.0.1 dev eth0\n"
            subprocess.run(
                ["ip", "-n", name, "-b", "-"],
                input=batch,
                check=True,
                capture_output=True,
                text=True,
            )
        yield names
    finally:
        for name in made:
            sh("ip", "netns", "delete", name)


def call(command: str, name: str, number: int) -> Call:
    """Make a call of the runtime."""
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": f"/run/netns/{name}"}],
    }
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": f"{number:011d}",
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": (
            f"IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME={name};K8S_POD_UID={name}"
        ),
        "CNI_PATH": "/nowhere",
    }
    document = {
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "coordinator",
        "prevResult": previous,
    }
    return parse_call(CniRequest("coordinator", env, document))


def kept_by_node(node_pid: int) -> tuple[str, ...]:
    """Show all that pods could leave on a node, but for the rule that they share."""
    enter = ("nsenter", f"--net=/proc/{node_pid}/ns/net")
    words = (
        "-br link",
        "neigh show nud permanent",
        "route show table all",
        "-6 route show table all",
        "rule",
        "-6 rule",
    )
    shown = [sh(*enter, "ip", *line.split()) for line in words]
    shared = "1000:\tfrom all lookup 500"
    return (
        *(
            "\n".join(sorted(line for line in text.splitlines() if line != shared))
            for text in shown
        ),
        sh(*enter, "iptables-save"),
    )


async def stalls(samples: list[float]) -> None:
    """Note how much later than asked for the loop wakes a sleeper, milliseconds."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        samples.append(late_ms(began))


async def in_turns(works: Sequence[Callable[[], Awaitable[None]]], together: int) -> None:
    """Do all, so many at a time."""
    slots = asyncio.Semaphore(together)

    async def one(work: Callable[[], Awaitable[None]]) -> None:
        async with slots:
            await work()

    await asyncio.gather(*(one(work) for work in works))


async def measure(
    plugin: CoordinatorPlugin, node_pid: int, names: Sequence[str], together: int, strangers: int
) -> Row:
    """Add the NICs of all pods, then remove them."""
    before = kept_by_node(node_pid)
    times: list[float] = []
    late: list[float] = []
    others: list[float] = []

    async def add(number: int, name: str) -> None:
        began = time.perf_counter()
        await plugin(call("ADD", name, number), Peer.of_process(node_pid))
        times.append((time.perf_counter() - began) * 1000)

    async def delete(number: int, name: str) -> None:
        await plugin(call("DEL", name, number), Peer.of_process(node_pid))

    works = [
        lambda number=number, name=name: add(number, name) for number, name in enumerate(names)
    ]
    ends = [
        lambda number=number, name=name: delete(number, name) for number, name in enumerate(names)
    ]
    with counted() as counts, idle(others):
        watching = asyncio.create_task(stalls(late))
        began_s = time.process_time()
        await in_turns(works, together)
        cpu_s = time.process_time() - began_s
        watching.cancel()
        done = Counts(counts.sends, counts.changes, counts.entries, counts.programs)
    await in_turns(ends, together)
    n = len(names)
    return Row(
        clean=before == kept_by_node(node_pid),
        pods=n,
        strangers=strangers,
        together=together,
        p50_ms=percentile(times, 0.5),
        p99_ms=percentile(times, 0.99),
        cpu_ms=cpu_s * 1000 / n,
        stall_p99_ms=percentile(late, 0.99),
        idle_p99_ms=percentile(others, 0.99),
        sends=done.sends / n,
        changes=done.changes / n,
        entries=done.entries / n,
        programs=done.programs / n,
    )


@contextlib.contextmanager
def counted() -> Iterator[Counts]:
    """Count what goes to the kernel."""
    counts = Counts()
    real_send, real_change = rtnetlink.RouteSocket._send, rtnetlink.RouteSocket.change  # noqa: SLF001
    real_enter, real_run = Namespaces.enter, programs.run_program

    def send(self: Any, *args: Any, **keys: Any) -> None:
        counts.sends += 1
        real_send(self, *args, **keys)

    def change(self: Any, messages: Any) -> None:
        counts.changes += len(messages)
        real_change(self, messages)

    def enter(self: Any) -> None:
        counts.entries += 1
        real_enter(self)

    async def run(*args: Any, **keys: Any) -> Any:
        counts.programs += 1
        return await real_run(*args, **keys)

    patches: list[tuple[Any, str, Any, Any]] = [
        (rtnetlink.RouteSocket, "_send", send, real_send),
        (rtnetlink.RouteSocket, "change", change, real_change),
        (Namespaces, "enter", enter, real_enter),
        (mangle_rules, "run_program", run, real_run),
    ]
    for owner, name, mine, _ in patches:
        setattr(owner, name, mine)
    try:
        yield counts
    finally:
        for owner, name, _, real in patches:
            setattr(owner, name, real)


async def rounds(few: int = FEW, many: int = MANY) -> list[Row]:
    """
    Measure ADDs one after the other, then eight at a time.

    With few pods, with many, with many beside strangers.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the agent does
    plugin = CoordinatorPlugin(Configs())
    found: list[Row] = []
    for count in (few, many):
        with node() as node_pid, pods(node_pid, count) as names:
            found += [
                await measure(plugin, node_pid, names, together, 0) for together in (1, TOGETHER)
            ]
            if count == many:
                add_strangers(node_pid)
                strangers = NEIGHBOURS + ROUTES
                found += [
                    await measure(plugin, node_pid, names, together, strangers)
                    for together in (1, TOGETHER)
                ]
    await plugin.settle()
    return found


def verdicts(rows: Sequence[Row]) -> dict[str, bool]:
    """Compare with what the design asks."""
    alone = [row for row in rows if row.together == 1]
    many = [row for row in rows if row.together > 1]
    return {
        "coordinator ADD p50 at most 40 ms": all(row.p50_ms <= 40 for row in alone),
        "stall p99 at most 20 ms with 8 ADDs": all(row.stall_p99_ms <= 20 for row in many),
        "one process an ADD and family": all(row.programs <= 1 for row in rows),
        "node as before after all DELs": all(row.clean for row in rows),
    }
