"""Start, stop and look at the lab's processes."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from spiderlab import cgroups, paths
from spiderlab.errors import LabError
from spiderlab.state import Started, start_ticks

# The new process enters the group itself, before it becomes the program: no moment is left in which
# it is nobody's.
JOIN = 'echo 0 > "$1" && shift && exec "$@"'
# The same, then left to run on its own: the shell ends, so the program is a child of nobody who
# might wait for it.
DETACH = 'echo 0 > "$1" && log="$2" && shift 2 && { "$@" </dev/null >>"$log" 2>&1 & echo $!; }'


def enter(init: int) -> list[str]:
    """The words that put a command into the namespaces of a node's first process."""
    return ["nsenter", f"--target={init}", "--mount", "--net", "--pid", "--uts", "--ipc", "--"]


def start(name: str, command: Sequence[str | Path], *, group: str, init: int | None) -> Started:
    """
    Start a program that outlives this command; its output goes to the log of its name.

    Args:
        group: the node whose control group it joins.
        init: the node's first process, to start inside its namespaces; None: the command itself
        makes them (`unshare --fork`).

    Returns:
        The program itself, not the `nsenter` or `unshare` that waits for it.
    """
    inside = enter(init) if init is not None else []
    paths.LOGS.mkdir(parents=True, exist_ok=True)
    argv = [
        "sh",
        "-c",
        DETACH,
        "sh",
        str(cgroups.join_file(group)),
        str(log_of(name)),
        *inside,
        *map(str, command),
    ]
    launched = subprocess.run(
        argv, stdout=subprocess.PIPE, text=True, check=False, start_new_session=True, cwd="/"
    )
    if launched.returncode:
        raise LabError(f"{name} did not start: sh ended with {launched.returncode}")
    return _child(name, int(launched.stdout))


def _child(name: str, outer: int) -> Started:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and start_ticks(outer) is not None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
            if children and (ticks := start_ticks(int(children[0]))) is not None:
                return Started(int(children[0]), ticks)
        time.sleep(0.005)
    raise LabError(f"{name} did not start; its last words: {last_words(name)}")


def stop(started: Started, *, grace_s: float = 5) -> None:
    """End a process: ask, wait, then force."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10)):
        if not started.alive:
            return
        try:
            os.kill(started.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + wait_s
        while started.alive and time.monotonic() < deadline:
            time.sleep(0.02)
    if started.alive:
        raise LabError(f"process {started.pid} does not end; see /proc/{started.pid}/stack")


def log_of(name: str) -> Path:
    """Where a component's output goes."""
    return paths.LOGS / f"{name}.log"


def last_words(name: str, lines: int = 3) -> str:
    """The end of a component's log, for an error message."""
    try:
        text = log_of(name).read_text(errors="replace")
    except FileNotFoundError:
        return "nothing"
    return " | ".join(text.strip().splitlines()[-lines:]) or "nothing"


def run(command: Sequence[str | Path], *, text: str | None = None, timeout_s: float = 120) -> str:
    """Run a program to its end and give what it printed; a failure becomes a sentence."""
    argv = [str(word) for word in command]
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError:
        raise LabError(f"the program {argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"{' '.join(argv)}: no end after {timeout_s:.0f} s") from None
    if done.returncode:
        raise LabError(
            f"{' '.join(argv)}: exit {done.returncode}: "
            f"{(done.stderr or done.stdout).strip()[-2000:]}"
        )
    return done.stdout
