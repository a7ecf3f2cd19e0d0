"""What the lab remembers between commands: what was asked for and which processes it started.

Written before each thing is made. Names of namespaces, links and cgroups follow from the topology,
so they are not listed; processes are found by their control group, so that one that was started a
moment before a `kill -9` is not lost.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from spiderlab import paths
from spiderlab.errors import LabError
from spiderlab.peers import QUICK, Cni, Meta, Peers
from spiderlab.topology import Topology, parse_topology


class Phase(StrEnum):
    """How far `up` has come."""

    STARTING = "starting"
    RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Started:
    """A process by its number on the machine and its start time, since numbers come again."""

    pid: int
    ticks: int
    """Field 22 of /proc/PID/stat: clock ticks since boot."""

    @property
    def alive(self) -> bool:
        """Return whether this very process still runs."""
        return start_ticks(self.pid) == self.ticks


def start_ticks(pid: int) -> int | None:
    """When a process started; None where there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


@dataclass
class State:
    """The lab's memory, as it stands in `state.json`."""

    nodes: list[str]
    ipv6: bool
    peers: Peers = QUICK
    phase: Phase = Phase.STARTING
    processes: dict[str, Started] = field(default_factory=dict)
    """By name: `node1` for a node's first process, `kubelet-node1`, `etcd`, …"""
    kernel: dict[str, str] = field(default_factory=dict)
    """Settings of the whole machine that kubelet changes, as they were."""
    folders: list[str] = field(default_factory=list)
    """Mount points that the machine did not have."""
    netns_mount: bool = False
    """Whether `ip netns` had to make /run/netns a mount point."""

    @property
    def topology(self) -> Topology:
        """What was asked for."""
        return parse_topology(self.nodes, ipv6=self.ipv6, peers=self.peers)

    def save(self) -> None:
        """Write the file in one step."""
        paths.RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
        partial = paths.STATE.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.rename(paths.STATE)


def load() -> State | None:
    """The running lab's memory; None where there is no lab."""
    try:
        raw = json.loads(paths.STATE.read_text())
    except FileNotFoundError:
        return None
    raw["phase"] = Phase(raw["phase"])
    raw["peers"] = Peers(Cni(raw["peers"]["cni"]), Meta(raw["peers"]["meta"]))
    raw["processes"] = {name: Started(**started) for name, started in raw["processes"].items()}
    return State(**raw)


def require() -> State:
    """The memory of a lab that is up."""
    state = load()
    if state is None or state.phase is not Phase.RUNNING:
        raise LabError("no lab runs here; start one with: spiderlab up")
    return state


@contextmanager
def locked(*, wait_s: float = 600) -> Iterator[None]:
    """
    Keep other commands from changing the lab meanwhile.

    The kernel drops the lock of a process that dies.
    """
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = os.open(paths.LOCK, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(descriptor):
                break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise LabError(
                    f"another spiderlab command has held {paths.LOCK} for {wait_s:.0f} s; try "
                    "again later"
                ) from None
            time.sleep(0.1)
        os.close(descriptor)
    try:
        yield
    finally:
        if not paths.RUN.exists():
            paths.LOCK.unlink(missing_ok=True)
        os.close(descriptor)


def _is_current(descriptor: int) -> bool:
    """
    Return whether the locked file is still the one of that name.

    A `down` that ended removed it.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), paths.LOCK.stat())
    except FileNotFoundError:
        return False
