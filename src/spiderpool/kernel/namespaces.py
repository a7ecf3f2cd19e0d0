"""
Working inside other namespaces: a thread of its own enters, does one thing, and ends with it.

A thread that has entered a mount namespace can not come back, so no thread is used twice.
Source: setns(2), unshare(2): a mount namespace may be entered by a thread that shares its root and
working directory with nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar, runtime_checkable

from spiderpool.errors import NotFound, SpiderpoolError

R = TypeVar("R")

_CLONE_FS: Final = 0x200
_CLONE_NEWNS: Final = 0x20000
_CLONE_NEWNET: Final = 0x40000000
_NS_GET_NSTYPE: Final = 0xB703  # ioctl_ns(2)
_FLAGS: Final = {"mnt": _CLONE_NEWNS, "net": _CLONE_NEWNET}
_OWN: Final = {flag: Path(f"/proc/thread-self/ns/{kind}") for kind, flag in _FLAGS.items()}

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Namespaces:
    """
    One or more open namespaces.

    Usable as long as they are open, also when the files and processes that named them are gone.

    A context manager: leaving it closes them.
    """

    fds: tuple[tuple[int, int], ...]  # (file descriptor, flag of setns)

    @classmethod
    def of_process(cls, pid: int, *kinds: str) -> Self:
        """
        Open namespaces of a process.

        Args:
            pid: the process.
            kinds: `mnt`, `net`.

        Raises:
            NotFound: there is no such process any more.
        """
        with contextlib.ExitStack() as undo:
            fds = tuple((_open(f"/proc/{pid}/ns/{kind}", undo), _FLAGS[kind]) for kind in kinds)
            undo.pop_all()
        return cls(fds)

    @classmethod
    def network(cls, path: str) -> Self:
        """
        Open a network namespace by its file.

        Raises `NotFound`, also for a plain file, as a lazy unmount leaves it.
        """
        fd = _open(path)
        try:
            kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != _CLONE_NEWNET:
            os.close(fd)
            raise NotFound(f"namespace {path}: the file is there, but is no network namespace")
        return cls(((fd, _CLONE_NEWNET),))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def copy(self) -> Self:
        """Return the same namespaces, to be closed on their own."""
        return type(self)(tuple((os.dup(fd), flag) for fd, flag in self.fds))

    def close(self) -> None:
        """Let go of the namespaces; work that has begun in them goes on."""
        for fd, _ in self.fds:
            os.close(fd)

    async def run(self, work: Callable[[], R]) -> R:
        """
        Do something that blocks for a short time inside the namespaces.

        When the caller is cancelled the work ends by itself. A result that nobody takes is closed,
        if it can be: it may hold descriptors.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        # Copies of its own: the caller may be cancelled, and close, before the thread has entered.
        own = self.copy()

        def work_inside() -> None:
            try:
                with own:
                    own.enter()
                    result = work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
                _in_loop(loop, _settle, answer, None, error)
            else:
                if not _in_loop(loop, _settle, answer, result, None):
                    _discard(result)

        threading.Thread(target=work_inside, name="namespace", daemon=True).start()
        return await answer

    def enter(self) -> None:
        """
        Enter with this thread, for good.

        A namespace that the thread is in already needs no entering, and so no capability: an agent
        that runs on the host itself, or under a debugger, is where its callers are.
        """
        # A thread that shares root and working directory with others cannot enter a mount
        # namespace: EINVAL, setns(2).
        _check(_libc.unshare(_CLONE_FS), "unshare")
        for fd, flag in self.fds:
            if not os.path.samestat(os.fstat(fd), _OWN[flag].stat()):
                _check(_libc.setns(fd, flag), "setns")


def _open(path: str, undo: contextlib.ExitStack | None = None) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NotFound(f"namespace {path}: {error.strerror}") from error
    if undo is not None:
        undo.callback(os.close, fd)
    return fd


def _check(result: int, what: str) -> None:
    if result != 0:
        raise SpiderpoolError(
            f"{what}: {os.strerror(ctypes.get_errno())}; the agent needs CAP_SYS_ADMIN and "
            "CAP_SYS_CHROOT"
        )


def _in_loop(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: Any) -> bool:
    """Have the loop call a function. Return False if the loop has ended: nobody waits."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        return False
    return True


def _settle(answer: asyncio.Future[R], result: R, error: BaseException | None) -> None:
    """Pass on an outcome; the caller may have been cancelled meanwhile."""
    if answer.done():
        _discard(result)
    elif error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)


def _discard(result: object) -> None:
    """Close a result that nobody takes."""
    if isinstance(result, _Closable):
        result.close()


@runtime_checkable
class _Closable(Protocol):
    """A result that holds descriptors."""

    def close(self) -> None: ...
