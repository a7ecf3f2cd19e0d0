"""The routing socket, with a kernel in memory: what it answers is laid out before it is asked."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from spiderpool.errors import TryAgain
from spiderpool.kernel.rtnetlink import GET_LINK, NEW_LINK, Message, Refusal, RouteSocket

ERROR, DONE = 2, 3  # netlink(7)
MULTI, INTERRUPTED = 0x2, 0x10  # NLM_F_MULTI, NLM_F_DUMP_INTR
WORDS = 1  # NLMSGERR_ATTR_MSG
SUCCESS = struct.pack("=i", 0)
A, B = b"aaaa", b"bbbb"


class Kernel:
    """The other end of a routing socket."""

    def __init__(self) -> None:
        """Join two sockets that keep messages apart, as netlink does."""
        self.end, opened = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end.setblocking(False)
        opened.settimeout(0.05)  # every answer is there before it is waited for
        self.socket = RouteSocket(opened)

    def answer(self, *messages: bytes) -> None:
        """Send one datagram of messages."""
        self.end.send(b"".join(messages))

    def requests(self) -> int:
        """Count the datagrams that were sent, and take them away."""
        count = 0
        try:
            while self.end.recv(1 << 16):
                count += 1
        except BlockingIOError:
            return count
        raise AssertionError("the socket was closed")


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel that has answered nothing yet."""
    made = Kernel()
    with made.socket, made.end:
        yield made


def message(kind: int, sequence: int, body: bytes, flags: int = MULTI) -> bytes:
    """Make a message with a body of a multiple of four bytes."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def words(text: bytes) -> bytes:
    """Make the attribute in which the kernel explains a refusal."""
    padded = text + bytes(-len(text) % 4)
    return struct.pack("=HH", 4 + len(text), WORDS) + padded


def test_dump(kernel: Kernel) -> None:
    """A dump is all answers to it, in several datagrams; answers to others are passed over."""
    kernel.answer(message(NEW_LINK, 1, A), message(NEW_LINK, 7, b"late"))
    kernel.answer(message(NEW_LINK, 1, B))
    kernel.answer(message(DONE, 1, SUCCESS))

    assert [A, B] == kernel.socket.dump(GET_LINK, b"")


def test_dump_keeps_what_matters(kernel: Kernel) -> None:
    """What does not matter is left out before anybody decodes it."""
    kernel.answer(message(NEW_LINK, 1, A), message(NEW_LINK, 1, B), message(DONE, 1, SUCCESS))

    assert [B] == kernel.socket.dump(GET_LINK, b"", lambda data, start, end: data[start:end] == B)


@pytest.mark.parametrize("marked", [NEW_LINK, DONE])
def test_interrupted_dump(kernel: Kernel, marked: int) -> None:
    """
    A dump that something changed under is repeated.

    B was there all the time, and the first answer lacks it.
    """
    flags = {kind: MULTI | (INTERRUPTED if kind == marked else 0) for kind in (NEW_LINK, DONE)}
    kernel.answer(message(NEW_LINK, 1, A, flags[NEW_LINK]))
    kernel.answer(message(DONE, 1, SUCCESS, flags[DONE]))
    kernel.answer(message(NEW_LINK, 2, A), message(NEW_LINK, 2, B))
    kernel.answer(message(DONE, 2, SUCCESS))

    assert [A, B] == kernel.socket.dump(GET_LINK, b"")
    assert 2 == kernel.requests()


def test_dump_that_is_always_interrupted(kernel: Kernel) -> None:
    """After ten tries the caller is told to come again; what was read is not taken for all."""
    for sequence in range(1, 30):
        kernel.answer(
            message(NEW_LINK, sequence, A), message(DONE, sequence, SUCCESS, MULTI | INTERRUPTED)
        )

    with pytest.raises(TryAgain, match="changed during each of 10 reads"):
        kernel.socket.dump(GET_LINK, b"")

    assert 10 == kernel.requests()


def test_dump_that_fails_at_its_end(kernel: Kernel) -> None:
    """An error in the last message means that the answers before it are not all."""
    kernel.answer(message(NEW_LINK, 1, A))
    kernel.answer(
        message(DONE, 1, struct.pack("=i", -errno.ENOENT) + words(b"FIB table does not exist\0"))
    )

    with pytest.raises(
        Refusal, match=r"No such file or directory \(FIB table does not exist\)"
    ) as caught:
        kernel.socket.dump(GET_LINK, b"")

    assert errno.ENOENT == caught.value.code


def test_dump_that_is_refused(kernel: Kernel) -> None:
    """A refusal has the number, the header of the request, then the words."""
    header = bytes(16)
    kernel.answer(
        message(ERROR, 1, struct.pack("=i", -errno.EINVAL) + header + words(b"Invalid header\0"))
    )

    with pytest.raises(Refusal, match=r"Invalid argument \(Invalid header\)"):
        kernel.socket.dump(GET_LINK, b"")


def test_get(kernel: Kernel) -> None:
    """The answer to an earlier request, which came too late, is not taken for this one's."""
    kernel.answer(message(NEW_LINK, 0, A))
    kernel.answer(message(NEW_LINK, 1, B))

    assert B == kernel.socket.get(GET_LINK, b"")


def test_no_answer(kernel: Kernel) -> None:
    """A kernel that does not answer is asked again by the caller."""
    with pytest.raises(TryAgain, match="did not answer"):
        kernel.socket.get(GET_LINK, b"")


def test_batch(kernel: Kernel) -> None:
    """
    All of a batch is sent at once.

    The first refusal that is not tolerated is told when all are answered.
    """
    codes = (0, errno.EEXIST, errno.EPERM, errno.EBUSY)
    for sequence, code in enumerate(codes, 1):
        kernel.answer(message(ERROR, sequence, struct.pack("=i", -code) + bytes(16), 0))
    there = frozenset({errno.EEXIST})

    with pytest.raises(Refusal) as caught:
        kernel.socket.change([Message(NEW_LINK, 0, A, there) for _ in codes])

    assert (errno.EPERM, 2) == (caught.value.code, caught.value.position)
    assert 1 == kernel.requests()
