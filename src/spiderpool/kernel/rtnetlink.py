"""
The routing netlink in bytes: state is read in a few dumps, changes are sent as one batch.

The only codec of netlink in the project. A coordinator call reads some hundred objects and changes
thirty; a general library takes 7 to 30 times the CPU for each, and 8 MB in every agent (decision
0018).
Source: netlink(7), rtnetlink(7); numbers are those of the kernel's uapi headers `netlink.h`,
`rtnetlink.h`, `if_link.h`, `if_addr.h`, `neighbour.h`, `fib_rules.h`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from spiderpool.errors import SpiderpoolError, TryAgain

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCL, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
ANSWER_INTERRUPTED: Final = 0x10  # NLM_F_DUMP_INTR

NEW_LINK, DEL_LINK, GET_LINK = 16, 17, 18
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DEL_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
NEW_RULE, DEL_RULE, GET_RULE = 32, 33, 34
GET_NAMESPACE_ID: Final = 90
_ERROR, _DONE = 2, 3

_SOL_NETLINK: Final = 270
_WORDS: Final = 1  # NLMSGERR_ATTR_MSG
_CAP_ACK, _EXT_ACK, _STRICT_CHECK = 10, 11, 12
_HEADER: Final = struct.Struct("=IHHII")
_ATTRIBUTE: Final = struct.Struct("=HH")
_NUMBER: Final = struct.Struct("=I")
_SHORT: Final = struct.Struct("=H")
_ERROR_CODE: Final = struct.Struct("=i")
_TYPE_MASK: Final = 0x3FFF  # without "nested" and "network byte order"
_NESTED: Final = 0x8000
_BUFFER: Final = 1 << 17
_TIMEOUT_S: Final = 5.0
_DUMP_TRIES: Final = 10

MISSING: Final = frozenset(
    {errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO}
)
"""What the kernel says when there is nothing to remove."""


class Refusal(SpiderpoolError):
    """The kernel does not do what a message asks."""

    def __init__(self, code: int, words: str, position: int = 0) -> None:
        """
        Keep the reason.

        Args:
            code: a number of errno(3).
            words: the kernel's explanation, often empty.
            position: which message of a batch.
        """
        super().__init__(f"{os.strerror(code)}{f' ({words})' if words else ''}")
        self.code = code
        self.position = position


@dataclass(frozen=True, slots=True)
class Message:
    """
    One request: type, flags beside "request" and "acknowledge", and the body.

    `tolerated` are error numbers that are no errors here.
    """

    kind: int
    flags: int
    body: bytes
    tolerated: frozenset[int] = frozenset()


Keep = Callable[[bytes, int, int], bool]
"""
Tells whether a message matters.

What was received, and where in it the body of the message begins and ends.
"""


class RouteSocket:
    """
    A routing socket of the network namespace in which it was made.

    Any thread may use it after that, one at a time. `sent` counts the sends. A context manager.
    """

    def __init__(self, opened: socket.socket | None = None) -> None:
        """
        Open the socket.

        Args:
            opened: an open socket that carries routing messages, to be used and closed instead.
        """
        self._socket = _open() if opened is None else opened
        self._sequence = 0
        self.sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def dump(self, kind: int, body: bytes, keep: Keep | None = None) -> list[bytes]:
        """
        Read all objects of a kind.

        Args:
            kind: type of the request.
            body: header of the kind, which filters.
            keep: which answers matter, all when it is left out: a node has thousands of objects,
            and decoding costs.
        Returns:
            The bodies of the answers: all objects that existed throughout. A dump that the kernel
            marks as interrupted may lack some of them, so it is thrown away and repeated.

        Raises:
            TryAgain: objects of the kind changed during every try.
            Refusal: the kernel does not give them.
        """
        for _ in range(_DUMP_TRIES):
            found, interrupted = self._dump(kind, body, keep)
            if not interrupted:
                return found
        raise TryAgain(
            f"links, addresses or routes changed during each of {_DUMP_TRIES} reads, so none of "
            "them is complete"
        )

    def dump_routes(self, body: bytes, keep: Keep | None = None) -> list[bytes]:
        """Read routes as `dump` does; a table that nobody has made yet has none."""
        try:
            return self.dump(GET_ROUTE, body, keep)
        except Refusal as error:
            if error.code in MISSING:
                return []
            raise

    def get(self, kind: int, body: bytes) -> bytes:
        """Read one object. Raises `Refusal`."""
        self._send([Message(kind, 0, body)], acknowledge=False)
        while True:
            for answer, sequence, part in self._receive():
                if sequence != self._sequence:
                    continue  # of an earlier request, whose answer came too late
                if answer == _ERROR:
                    raise _refusal(part, 0, 0)
                return part

    def change(self, messages: Sequence[Message]) -> None:
        """
        Send changes as one batch, and wait until all are done.

        A refused change does not stop the others.

        Raises:
            Refusal: the first that is refused for a reason not in its `tolerated`.
        """
        if not messages:
            return
        first = self._sequence + 1
        self._send(messages, acknowledge=True)
        waiting = len(messages)
        refused: Refusal | None = None
        while waiting:
            for answer, sequence, part in self._receive():
                position = sequence - first
                if answer != _ERROR or not 0 <= position < len(messages):
                    continue
                waiting -= 1
                code = -_ERROR_CODE.unpack_from(part)[0]
                if code and code not in messages[position].tolerated and refused is None:
                    refused = _refusal(part, code, position)
        if refused is not None:
            raise refused

    def _dump(self, kind: int, body: bytes, keep: Keep | None) -> tuple[list[bytes], bool]:
        self._send([Message(kind, DUMP, body)], acknowledge=False)
        found: list[bytes] = []
        interrupted = False
        while True:
            data = self._receive_bytes()
            for answer, flags, sequence, start, end in _messages(data):
                if sequence != self._sequence:
                    continue  # of an earlier request, whose answer came too late
                interrupted |= bool(flags & ANSWER_INTERRUPTED)
                if answer == _DONE:
                    _raise_if_failed(data[start:end])
                    return found, interrupted
                if answer == _ERROR:
                    raise _refusal(data[start:end], 0, 0)
                if keep is None or keep(data, start, end):
                    found.append(data[start:end])

    def _send(self, messages: Sequence[Message], *, acknowledge: bool) -> None:
        data = bytearray()
        for message in messages:
            self._sequence += 1
            flags = REQUEST | message.flags | (ACK if acknowledge else 0)
            data += _HEADER.pack(
                _HEADER.size + len(message.body), message.kind, flags, self._sequence, 0
            )
            data += message.body
            data += bytes(-len(data) % 4)
        self.sent += 1
        self._socket.send(data)

    def _receive(self) -> list[tuple[int, int, bytes]]:
        data = self._receive_bytes()
        return [
            (kind, sequence, data[start:end]) for kind, _, sequence, start, end in _messages(data)
        ]

    def _receive_bytes(self) -> bytes:
        try:
            return self._socket.recv(_BUFFER)
        except TimeoutError:
            raise TryAgain(
                f"the kernel did not answer a routing request within {_TIMEOUT_S:g} s"
            ) from None


def _open() -> socket.socket:
    """Open a routing socket in the network namespace of this thread."""
    try:
        with contextlib.ExitStack() as undo:
            opened = undo.enter_context(
                socket.socket(
                    socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
                )
            )
            opened.settimeout(_TIMEOUT_S)
            # Refusals come without a copy of the request, and with a text. Without strict checks
            # the kernel ignores filters of most dumps, and answers with everything.
            for option in (_CAP_ACK, _EXT_ACK, _STRICT_CHECK):  # the last one since Linux 4.20
                opened.setsockopt(_SOL_NETLINK, option, 1)
            opened.bind((0, 0))
            undo.pop_all()
    except OSError as error:
        raise SpiderpoolError(
            f"a routing socket (Linux 4.20 or later) cannot be opened: {error.strerror}"
        ) from error
    return opened


def containing(texts: Iterable[bytes]) -> Keep:
    """Keep messages that have one of these byte strings anywhere."""
    wanted = tuple(texts)

    def keep(data: bytes, start: int, end: int) -> bool:
        # Called for thousands of messages, and `any` takes twice the time.
        for text in wanted:  # noqa: SIM110
            if data.find(text, start, end) >= 0:
                return True
        return False

    return keep


def _messages(data: bytes) -> Iterable[tuple[int, int, int, int, int]]:
    """Walk the messages of a datagram: type, flags, sequence, where the body begins and ends."""
    offset, size = 0, _HEADER.size
    while offset + size <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        yield kind, flags, sequence, offset + size, offset + length
        offset += (length + 3) & ~3


def _raise_if_failed(part: bytes) -> None:
    """
    Raise `Refusal` when the last message of a dump has an error: what came before it is not all.

    Source: Linux, net/netlink/af_netlink.c, netlink_dump_done: the number first, then attributes.
    """
    code = -_ERROR_CODE.unpack_from(part)[0] if len(part) >= _ERROR_CODE.size else 0
    if code > 0:
        words = attributes(part, _ERROR_CODE.size).get(_WORDS, b"")
        raise Refusal(code, read_text(words))


def _refusal(part: bytes, code: int, position: int) -> Refusal:
    """Read an error message: the number, the header of the request, and with luck words."""
    code = code or -_ERROR_CODE.unpack_from(part)[0]
    words = attributes(part, _ERROR_CODE.size + _HEADER.size).get(_WORDS, b"")
    return Refusal(code, read_text(words), position)


# --- attributes


def attributes(data: bytes, offset: int) -> dict[int, bytes]:
    """Read the attributes of a message behind its header."""
    found: dict[int, bytes] = {}
    end = len(data)
    size = _ATTRIBUTE.size
    while offset + size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < size:
            break
        found[kind & _TYPE_MASK] = data[offset + size : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """Render one attribute."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def number(kind: int, value: int) -> bytes:
    """Render an attribute that is a number of 32 bits."""
    return attribute(kind, _NUMBER.pack(value))


def short_number(kind: int, value: int) -> bytes:
    """Render an attribute that is a number of 16 bits."""
    return attribute(kind, _SHORT.pack(value))


def small_number(kind: int, value: int) -> bytes:
    """Render an attribute that is a number of 8 bits."""
    return attribute(kind, bytes([value]))


def text(kind: int, value: str) -> bytes:
    """Render an attribute that is a text."""
    return attribute(kind, value.encode() + b"\0")


def nested(kind: int, *parts: bytes) -> bytes:
    """Render an attribute that holds others."""
    return attribute(kind | _NESTED, b"".join(parts))


def read_number(value: bytes | None) -> int | None:
    """Read a number of 32 bits."""
    return None if value is None else int(_NUMBER.unpack_from(value)[0])


def read_short_number(value: bytes | None) -> int | None:
    """Read a number of 16 bits."""
    return None if value is None else int(_SHORT.unpack_from(value)[0])


def read_text(value: bytes | None) -> str:
    """Read a text."""
    return "" if value is None else value.rstrip(b"\0").decode(errors="replace")
