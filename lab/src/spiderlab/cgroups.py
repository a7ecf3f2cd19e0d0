"""The lab's control groups: kubelets' roots, and the one that tells which processes are the lab's.

Every process of the lab starts in a group below `/spiderlab`, and its children stay below it. So
what is to be ended is asked of the kernel; no list can miss a process or name a stranger.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from spiderlab.errors import LabError
from spiderlab.state import start_ticks

ROOT = "spiderlab"
OWN = "lab"
"""The group of the lab's own processes, beside those that kubelet makes for pods."""


def parse_hierarchies(mounts: str) -> list[tuple[Path, str]]:
    """Read the control groups of /proc/mounts: mount points and kinds (`cgroup`, `cgroup2`)."""
    found = (line.split() for line in mounts.splitlines())
    return [(Path(fields[1]), fields[2]) for fields in found if fields[2] in {"cgroup", "cgroup2"}]


@cache
def hierarchies() -> list[tuple[Path, str]]:
    """The machine's hierarchies."""
    found = parse_hierarchies(Path("/proc/self/mounts").read_text())
    if not found:
        raise LabError("no control groups are mounted below /sys/fs/cgroup; kubelet needs them")
    return found


def of_record() -> Path:
    """
    The hierarchy that tells whose a process is.

    `pids`, which no kubelet compares with another, or the only one.
    """
    roots = [root for root, _ in hierarchies()]
    return next((root for root in roots if root.name == "pids"), roots[0])


def root_of(node: str) -> str:
    """A kubelet's `cgroupRoot`; shared roots make kubelets remove each other's pods."""
    return f"/{ROOT}/{node}"


def join_file(node: str) -> Path:
    """The file that a process writes `0` to, to become the lab's."""
    return of_record() / ROOT / node / OWN / "cgroup.procs"


def make(node: str) -> None:
    """Make a node's groups in every hierarchy."""
    for root, kind in hierarchies():
        unified_beside_v1 = kind == "cgroup2" and len(hierarchies()) > 1
        if unified_beside_v1:
            continue
        for group in (root / ROOT, root / ROOT / node):
            group.mkdir(exist_ok=True)
            _prepare(group, kind)
    join_file(node).parent.mkdir(exist_ok=True)


def _prepare(group: Path, kind: str) -> None:
    if kind == "cgroup2":
        for owner in (group.parent, group):
            controllers = (owner / "cgroup.controllers").read_text().split()
            (owner / "cgroup.subtree_control").write_text(
                " ".join(f"+{name}" for name in controllers)
            )
    elif (group / "cpuset.cpus").exists():
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (group / name).read_text().strip():
                (group / name).write_text((group.parent / name).read_text())


def processes(node: str = "") -> set[int]:
    """Every living process of a node, or of the whole lab."""
    found: set[int] = set()
    for procs in (of_record() / ROOT / node).rglob("cgroup.procs"):
        try:
            found.update(int(line) for line in procs.read_text().split())
        except (FileNotFoundError, OSError):  # the group went away while we looked
            continue
    return found


def end_processes(node: str = "", *, wait_s: float = 20) -> int:
    """
    Kill all processes of a node or of the lab, and wait until they are gone.

    How many there were.
    """
    deadline = time.monotonic() + wait_s
    seen: dict[int, int] = {}
    # A process leaves its group when it begins to end; it has let go of its namespaces when it has
    # ended.
    while (pids := processes(node) - {os.getpid()}) | (
        ending := {pid for pid in seen if start_ticks(pid) == seen[pid]}
    ):
        for pid in pids:
            if (ticks := start_ticks(pid)) is not None:
                seen[pid] = ticks
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            late = sorted(pids | ending)
            raise LabError(
                f"{len(late)} processes of the lab do not end: {late}; see /proc/PID/stack"
            )
        time.sleep(0.02)
    return len(seen)


def remove(node: str = "", *, wait_s: float = 5) -> None:
    """Remove a node's groups, or all of the lab; the processes must have ended."""
    deadline = time.monotonic() + wait_s
    for root, _ in hierarchies():
        for group in _deepest_first(root / ROOT / node):
            _remove_one(group, deadline)


def _deepest_first(group: Path) -> Iterable[Path]:
    if group.is_dir():
        folders = [path for path in group.rglob("*") if path.is_dir()]
        yield from sorted(folders, key=lambda path: -len(path.parts))
        yield group


def _remove_one(group: Path, deadline: float) -> None:
    while True:
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            # A killed process leaves its group only when its parent has collected it.
            if time.monotonic() > deadline:
                raise LabError(
                    f"the control group {group} cannot be removed: {error.strerror}"
                ) from error
            time.sleep(0.02)
        else:
            return


def traces() -> Iterator[Path]:
    """Groups of the lab that exist."""
    for root, _ in hierarchies():
        if (root / ROOT).exists():
            yield root / ROOT
