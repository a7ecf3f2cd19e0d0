"""
The birth of a program without Python's lock.

`subprocess` keeps that lock from the fork to the program's exec: on a busy node tens of
milliseconds in which no thread, and so no event loop, has its lock (decision 0013). ctypes lets go
of it.
Source: posix_spawn(3), posix_spawn_file_actions_adddup2(3), posix_spawnattr_setflags(3); numbers
are those of `spawn.h`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_SET_SIGNALS, _NEW_SESSION = 0x04, 0x80  # POSIX_SPAWN_SETSIGDEF, POSIX_SPAWN_SETSID
_IGNORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # by Python; a program expects the defaults
_ROOM: Final = 1024  # bytes, more than any of the C library's types below has

_libc = ctypes.CDLL(None)


@dataclass(slots=True)
class Process:
    """
    A child of this process.

    `code` is its exit code, or minus the signal that ended it, once it was `collected`.
    """

    pid: int
    code: int = 0
    collected: bool = False

    def has_ended(self) -> bool:
        """Collect the child when it has ended; whether it has."""
        if not self.collected:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.collected = pid == self.pid
            self.code = os.waitstatus_to_exitcode(status) if self.collected else 0
        return self.collected


def spawn(command: Sequence[str], env: Mapping[str, str], files: Sequence[int]) -> Process:
    """
    Start a program in the namespaces of this thread, as the leader of a session of its own.

    Args:
        command: the path, then the arguments.
        env: all of its environment.
        files: descriptors above 2 that become its 0, 1, 2; it gets no others.

    Raises:
        OSError: it does not start.
    """
    pid = ctypes.c_int()
    with contextlib.ExitStack() as stack:
        actions, attributes, signals = (ctypes.create_string_buffer(_ROOM) for _ in range(3))
        _check(_libc.posix_spawn_file_actions_init(actions))
        stack.callback(_libc.posix_spawn_file_actions_destroy, actions)
        _check(_libc.posix_spawnattr_init(attributes))
        stack.callback(_libc.posix_spawnattr_destroy, attributes)
        for number, fd in enumerate(files):
            _check(_libc.posix_spawn_file_actions_adddup2(actions, fd, number))
        # glibc 2.34; all that Python opens closes by itself
        if hasattr(_libc, "posix_spawn_file_actions_addclosefrom_np"):
            _check(_libc.posix_spawn_file_actions_addclosefrom_np(actions, len(files)))
        _libc.sigemptyset(signals)
        for ignored in _IGNORED:
            _libc.sigaddset(signals, int(ignored))
        _check(_libc.posix_spawnattr_setsigdefault(attributes, signals))
        _check(
            _libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SET_SIGNALS | _NEW_SESSION))
        )
        words = [f"{name}={value}" for name, value in env.items()]
        path = os.fsencode(command[0])
        _check(
            _libc.posix_spawn(
                ctypes.byref(pid), path, actions, attributes, _texts(command), _texts(words)
            )
        )
    return Process(pid.value)


def _texts(words: Sequence[str]) -> ctypes.Array[ctypes.c_char_p]:
    """Return texts as C does: an array that ends with NULL."""
    return (ctypes.c_char_p * (len(words) + 1))(*map(os.fsencode, words), None)


def _check(code: int) -> None:
    """Raise what a function of posix_spawn's family gives back."""
    if code:
        raise OSError(code, os.strerror(code))
