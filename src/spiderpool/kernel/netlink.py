"""
Requests to the kernel's routing netlink, on a socket of the calling thread's network namespace.

pyroute2 knows how messages look; the socket is ours, because its own opens its socket in another
thread, thus in another namespace.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, nlmsg

from spiderpool.errors import SpiderpoolError

_HEADER: Final = struct.Struct("IHHII")
_BUFFER: Final = 1 << 16
_TIMEOUT_S: Final = 5.0


class KernelRefusal(SpiderpoolError):
    """The kernel does not do what a request asks."""

    def __init__(self, code: int) -> None:
        """
        Keep the reason.

        Args:
            code: a number of errno(3).
        """
        super().__init__(os.strerror(code))
        self.code = code


class Netlink:
    """A routing socket. Blocks, so use it in a thread (`Namespaces.run`); a context manager."""

    def __init__(self) -> None:
        """Open the socket in the network namespace of this thread."""
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def dump(self, kind: int, message: nlmsg) -> Iterator[Any]:
        """
        Read all objects of a kind.

        Args:
            kind: message type, `RTM_GETROUTE` and so on.
            message: the filter, also the form in which answers are decoded.
        """
        self._send(kind, NLM_F_REQUEST | NLM_F_DUMP, message)
        while True:
            for answer, data in self._receive():
                if answer == NLMSG_DONE:
                    return
                decoded = type(message)(data)
                decoded.decode()
                yield decoded

    def change(self, kind: int, flags: int, message: nlmsg) -> None:
        """Ask for a change and wait until it is done. Raises `KernelRefusal`."""
        self._send(kind, NLM_F_REQUEST | NLM_F_ACK | flags, message)
        for _ in self._receive():
            return

    def _send(self, kind: int, flags: int, message: nlmsg) -> None:
        self._sequence += 1
        message["header"] = {
            "type": kind,
            "flags": flags,
            "sequence_number": self._sequence,
            "pid": 0,
        }
        message.encode()
        self._socket.send(message.data)

    def _receive(self) -> Iterator[tuple[int, bytes]]:
        data = self._socket.recv(_BUFFER)
        offset = 0
        while offset < len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, offset)
            part = data[offset : offset + length]
            offset += (length + 3) & ~3
            if sequence != self._sequence:
                continue
            if kind == NLMSG_ERROR:
                _raise_refusal(part)
            yield kind, part


def _raise_refusal(part: bytes) -> None:
    """An error message with number 0 is an acknowledgement."""
    (code,) = struct.unpack_from("i", part, _HEADER.size)
    if code:
        raise KernelRefusal(-code)


def is_missing(error: KernelRefusal) -> bool:
    """Return whether what was to be removed is gone already."""
    return error.code in {errno.ESRCH, errno.ENOENT, errno.ENODEV}
