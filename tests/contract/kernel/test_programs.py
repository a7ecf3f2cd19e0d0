"""Programs and work inside other namespaces, on a real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop

from spiderpool.errors import NotFound, SpiderpoolError, TryAgain
from spiderpool.kernel import programs
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.programs import Outcome, run_program


@pytest.fixture
def here() -> Iterator[Namespaces]:
    """Our own namespaces, open."""
    with Namespaces.of_process(os.getpid(), "mnt", "net") as namespaces:
        yield namespaces


def script(folder: Path, text: str, name: str = "program") -> list[str]:
    """Write a program and give the folders to look for it."""
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)
    return ["/nowhere", str(folder)]


async def run(
    folders: list[str], here: Namespaces, stdin: bytes = b"", timeout_s: float = 10, **env: str
) -> Outcome:
    """Run the program of a test."""
    return await run_program("program", folders, env, stdin, here, timeout_s)


async def test_outcome(tmp_path: Path, here: Namespaces) -> None:
    """
    A program gets its input and environment and nothing else.

    Code and both outputs come back.
    """
    folders = script(tmp_path, "cat; echo $A$HOME; echo oops >&2; exit 3")

    assert Outcome(3, b"in1\n", b"oops\n") == await run(folders, here, b"in", A="1")


async def test_much_data(tmp_path: Path, here: Namespaces) -> None:
    """Input and output larger than any pipe pass, also when the program reads nothing."""
    data = b"x" * 3_000_000

    assert data == (await run(script(tmp_path, "cat"), here, data)).output
    assert b"done\n" == (await run(script(tmp_path, "echo done"), here, data)).output


async def test_grandchild_keeps_nobody_up(tmp_path: Path, here: Namespaces) -> None:
    """A program that leaves something running with its outputs has ended all the same."""
    began = time.monotonic()

    outcome = await run(script(tmp_path, "sleep 60 & echo $!"), here)

    assert time.monotonic() - began < 30
    os.kill(int(outcome.output), 9)


async def test_time_over(tmp_path: Path, here: Namespaces) -> None:
    """A program that does not end is killed with what it started."""
    folders = script(tmp_path, f"sleep 30 & echo $! > {tmp_path}/pid; sleep 30")

    with pytest.raises(TryAgain, match=r"did not end within 2 s"):
        await run(folders, here, timeout_s=2)

    assert await gone(int((tmp_path / "pid").read_text()))


async def test_cancelled(tmp_path: Path, here: Namespaces) -> None:
    """A caller that is cancelled, even twice, leaves no program behind."""
    folders = script(tmp_path, f"echo $$ > {tmp_path}/pid; sleep 30")
    task = asyncio.create_task(run(folders, here))
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
        await asyncio.sleep(0.01)

    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await collected()

    assert await gone(int((tmp_path / "pid").read_text()))


async def test_cancelled_at_birth(tmp_path: Path, here: Namespaces) -> None:
    """A caller that is cancelled at any early moment leaves no program behind."""
    folders = script(tmp_path, f"echo $$ >> {tmp_path}/pids; sleep 30")
    for pause in range(20):
        task = asyncio.create_task(run(folders, here))
        await asyncio.sleep(pause / 4000)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    await collected()

    pids = (tmp_path / "pids").read_text().split() if (tmp_path / "pids").exists() else []
    assert all([await gone(int(pid)) for pid in pids])


async def collected() -> None:
    """
    Wait for what goes on after its caller was cancelled twice.

    The collecting of the killed program.
    """
    await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)


async def gone(pid: int) -> bool:
    """Return whether a process ends, or is a zombie of somebody else's, within a moment."""
    for _ in range(100):
        if not lives(pid):
            return True
        await asyncio.sleep(0.02)
    return False


def lives(pid: int) -> bool:
    """Return whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_missing(tmp_path: Path, here: Namespaces) -> None:
    """A program that is in no folder, is a folder itself, or has a path for a name is not found."""
    (tmp_path / "program").mkdir()
    for name in ("program", "other", "../sh", ""):
        with pytest.raises(NotFound):
            await run_program(name, [str(tmp_path)], {}, b"", here, 5)


async def test_no_program(tmp_path: Path, here: Namespaces) -> None:
    """A file that the kernel does not execute is an error in words."""
    (tmp_path / "program").write_text("no program")
    with pytest.raises(SpiderpoolError, match="program program does not start: Permission denied"):
        await run([str(tmp_path)], here)


async def test_busy_file(tmp_path: Path, here: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executable that is being written is waited for; one that stays so is an error to retry."""
    monkeypatch.setattr(programs, "BUSY_PAUSE_S", 0.05)
    shutil.copy("/bin/true", tmp_path / "program")
    with (tmp_path / "program").open("ab"):
        with pytest.raises(TryAgain, match="still busy after 6 tries"):
            await run([str(tmp_path)], here)
        waiting = asyncio.create_task(run([str(tmp_path)], here))
        await asyncio.sleep(0.1)

    assert 0 == (await waiting).code


async def test_nothing_comes_along(tmp_path: Path, here: Namespaces) -> None:
    """A program leads its own session, ignores none of the signals that Python ignores, and has its input and outputs alone."""
    folders = script(
        tmp_path,
        "grep SigIgn /proc/$$/status; echo $$; cut -d' ' -f6 /proc/$$/stat; ls /proc/$$/fd",
    )
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        assert signal.SIG_IGN == signal.getsignal(signal.SIGPIPE)
        words = (await run(folders, here, PATH="/bin:/usr/bin")).output.decode().split()

    _, ignored, pid, session, *fds = words
    assert 0 == int(ignored, 16) & sum(
        1 << number - 1 for number in (signal.SIGPIPE, signal.SIGXFSZ)
    )
    assert pid == session
    assert {"0", "1", "2"} == set(fds) - {"10", "255"}  # where shells have their script


def test_under_uvloop(tmp_path: Path, here: Namespaces) -> None:
    """The agent's own event loop runs programs too."""
    folders = script(tmp_path, "cat")

    assert [b"a", b"b"] == [uvloop.run(run(folders, here, data)).output for data in (b"a", b"b")]


async def test_inside() -> None:
    """
    Work runs inside and comes back with its result or error.

    No thread is left, and this one has not moved.
    """
    mine = own()
    process = await asyncio.create_subprocess_exec("unshare", "--net", "sleep", "infinity")
    try:
        while of(process.pid) == mine:
            await asyncio.sleep(0.005)
        with Namespaces.of_process(process.pid, "net") as other:
            assert ["lo"] == [name for _, name in await other.run(socket.if_nameindex)]
            assert mine != await other.run(own)
            with pytest.raises(OSError, match="as asked"):
                await other.run(fail)
    finally:
        process.kill()
        await process.wait()

    assert mine == own()
    for thread in threading.enumerate():
        if thread.name == "namespace":
            thread.join(10)  # its answer comes a moment before its end
            assert not thread.is_alive()


def own() -> str:
    """Name this thread's network namespace."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def of(pid: int) -> str:
    """Name a process's network namespace."""
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def fail() -> None:
    """Do what fails."""
    raise OSError(errno.EIO, "as asked")


def test_no_namespace(tmp_path: Path) -> None:
    """A path that is missing, or a plain file as a lazy unmount leaves it, is no network namespace."""
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(NotFound, match=name):
            Namespaces.network(str(tmp_path / name))
    with pytest.raises(NotFound, match="4194305"):
        Namespaces.of_process(2**22 + 1, "net")
