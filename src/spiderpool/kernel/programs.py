"""
Running a program inside namespaces, without a thread that waits for it.

Standard input and outputs are files in memory, the end of the program is a file descriptor: no pipe
can fill, and a grandchild that keeps an output open holds nobody up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from spiderpool.errors import NotFound, SpiderpoolError, TryAgain
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.spawn import Process, spawn

# "Text file busy": somebody is writing the executable right now (an installer). Precedent: libcni,
# 6 tries.
BUSY_TRIES: Final = 6
BUSY_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: its exit code (negative: the signal that ended it) and what it wrote."""

    code: int
    output: bytes
    errors: bytes


async def run_program(
    name: str,
    folders: Sequence[str],
    env: Mapping[str, str],
    stdin: bytes,
    namespaces: Namespaces,
    timeout_s: float,
    arguments: Sequence[str] = (),
) -> Outcome:
    """
    Find a program in folders, and run it, both as seen from inside the namespaces.

    When the caller is cancelled, or the time is over, the program and what it started are killed
    before this returns.

    Args:
        name: file name of the program.
        folders: where it may be; the first that has it counts.
        env: its whole environment.
        stdin: its whole input.
        namespaces: where it runs.
        timeout_s: seconds until it is killed.
        arguments: of its command line.
    Raises:
        NotFound: no folder has an executable file of that name.
        TryAgain: it did not end in time, or its file stays busy.
        SpiderpoolError: it does not start.
    """
    for attempt in range(BUSY_TRIES):
        try:
            return await _run_once((name, *arguments), folders, env, stdin, namespaces, timeout_s)
        except OSError as error:
            if error.errno != errno.ETXTBSY:
                raise SpiderpoolError(f"program {name} does not start: {error.strerror}") from error
            if attempt + 1 < BUSY_TRIES:
                await asyncio.sleep(BUSY_PAUSE_S)
    raise TryAgain(f"program {name} is being written: still busy after {BUSY_TRIES} tries")


async def _run_once(
    command: tuple[str, ...],
    folders: Sequence[str],
    env: Mapping[str, str],
    stdin: bytes,
    namespaces: Namespaces,
    timeout_s: float,
) -> Outcome:
    with _MemoryFile(stdin) as source, _MemoryFile() as output, _MemoryFile() as errors:
        process = await _start(command, folders, env, (source, output, errors), namespaces)
        try:
            async with asyncio.timeout(timeout_s):
                await _ended(process)
        except TimeoutError:
            raise TryAgain(
                f"program {command[0]} did not end within {timeout_s:g} s and was stopped"
            ) from None
        finally:
            # Goes on by itself should the caller be cancelled once more: nothing may be left over.
            await asyncio.shield(_stop(process))
        return Outcome(process.code, output.read(), errors.read())


async def _start(
    command: tuple[str, ...],
    folders: Sequence[str],
    env: Mapping[str, str],
    files: tuple[_MemoryFile, _MemoryFile, _MemoryFile],
    namespaces: Namespaces,
) -> Process:
    fds = [os.dup(file.fd) for file in files]

    def start() -> Process:
        try:
            # Born in this thread, so inside. A session of its own can be killed as one.
            return spawn([_find(command[0], folders), *command[1:]], env, fds)
        finally:
            for fd in fds:
                os.close(fd)

    starting = asyncio.ensure_future(namespaces.run(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # The program may be born this very moment, and must not outlive its caller.
        starting.add_done_callback(_kill_started)
        await asyncio.wait({starting})
        raise


def _kill_started(starting: asyncio.Future[Process]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        _kill(starting.result())
        os.waitpid(starting.result().pid, 0)  # short: the signal cannot be refused


async def _ended(process: Process) -> None:
    """Wait for a program's end without a thread."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    fd = os.pidfd_open(process.pid)
    loop.add_reader(fd, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)


async def _stop(process: Process) -> None:
    """Collect a program that has ended; kill it first when it has not."""
    if not process.has_ended():
        _kill(process)
        await _ended(process)
        process.has_ended()


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _find(name: str, folders: Sequence[str]) -> str:
    if not name or "/" in name or "\0" in name:
        raise NotFound(f"program {name!r} has no plain name; write it without '/' and NUL")
    for folder in folders:
        path = f"{folder.rstrip('/')}/{name}"
        with contextlib.suppress(OSError):
            # Not pathlib: this runs in a thread inside another root.
            if stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116
                return path
    raise NotFound(
        f"program {name} is in none of {', '.join(folders) or 'no folders'}; install the CNI "
        "plugin on this node"
    )


class _MemoryFile:
    """A file without a name, for one program."""

    def __init__(self, content: bytes = b"") -> None:
        self.fd = os.memfd_create("cni", os.MFD_CLOEXEC)
        if content:
            os.write(self.fd, content)
            os.lseek(self.fd, 0, os.SEEK_SET)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def read(self) -> bytes:
        """Return all that was written."""
        return os.pread(self.fd, os.fstat(self.fd).st_size, 0)
