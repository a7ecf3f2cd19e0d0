"""`spiderpoolctl check` inside a test: the same code as the command's, one reading at a time."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from spiderlab import Lab, binaries
from spiderpool.audit.comparison import Difference, Kind, compare
from spiderpool.cli.snapshot_reader import Reading, asking_for_interfaces, read_snapshot
from spiderpool.kube.connect import connect

PROGRAM: Final = Path(sys.executable).with_name("spiderpoolctl")


def read(lab: Lab) -> Reading:
    """Read all sources once."""

    async def work() -> Reading:
        async with connect(str(lab.kubeconfig), user_agent="spiderpoolctl") as client:
            return await read_snapshot(client, asking_for_interfaces(client))

    return asyncio.run(work())


def complaints(lab: Lab) -> list[str]:
    """Return what one reading has to complain about, sources that cannot be read included."""
    reading = read(lab)
    differences = [f"{each.kind} {each.subject}: {each.text}" for each in compare(reading.snapshot)]
    return differences + [f"not read: {unread.part}: {unread.reason}" for unread in reading.unread]


def find(lab: Lab, kind: Kind, subject: object) -> Difference | None:
    """Return the difference of a kind about a subject, None when one reading does not have it."""
    found = (each for each in compare(read(lab).snapshot) if each.identity == (kind, str(subject)))
    return next(found, None)


def ctl(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would; the caller looks at the exit code."""
    return run_command(lab, shlex.join(["spiderpoolctl", *words]))


def run_command(lab: Lab, line: str) -> subprocess.CompletedProcess[str]:
    """Run a command line that a difference names, in a shell that finds spiderpoolctl and kubectl."""
    folders = f"{PROGRAM.parent}:{binaries.program('kubectl').parent}"
    environment = {
        "KUBECONFIG": str(lab.kubeconfig),
        "PATH": f"{folders}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/nonexistent",
    }
    return subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
