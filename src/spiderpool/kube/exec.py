"""
Running a command in a container, as `kubectl exec` does it.

The messages of a WebSocket begin with the number of their stream.

Source: Kubernetes, KEP-4006 and the package remotecommand: sub-protocol `v4.channel.k8s.io` (`v5`
only adds closing streams).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

import aiohttp
import msgspec

from spiderpool.errors import SpiderpoolError, TryAgain, Undecodable, Unreachable

PROTOCOLS: Final = ("v5.channel.k8s.io", "v4.channel.k8s.io")
OUTPUT, ERRORS, STATUS = 1, 2, 3
LARGEST: Final = 1 << 24  # bytes of one message; the API server cuts output into far smaller ones


@dataclass(frozen=True, slots=True)
class Executed:
    """How a command ended."""

    code: int
    output: bytes
    errors: bytes


class ExecCause(msgspec.Struct, frozen=True):
    """One cause of a failure."""

    reason: str = ""
    message: str = ""


class ExecDetails(msgspec.Struct, frozen=True):
    """Details of a failure."""

    causes: tuple[ExecCause, ...] | None = None


class ExecStatus(msgspec.Struct, frozen=True):
    """The Status that ends an exec: success, an exit code, or what the runtime said instead."""

    status: str = ""
    message: str = ""
    reason: str = ""
    details: ExecDetails | None = None


def exec_query(container: str, command: Sequence[str]) -> str:
    """Render the request's parameters."""
    return urlencode(
        [
            ("container", container),
            ("stdout", "true"),
            ("stderr", "true"),
            *(("command", word) for word in command),
        ]
    )


async def collect(
    socket: aiohttp.ClientWebSocketResponse, subject: str, timeout_s: float
) -> Executed:
    """
    Read an exec to its end.

    Args:
        socket: the open WebSocket.
        subject: what is run where, for messages.
        timeout_s: how long it may take.
    Raises:
        TryAgain: it did not end in time.
        Unreachable: the connection was cut.
        SpiderpoolError: the runtime could not start it.
    """
    streams = {OUTPUT: bytearray(), ERRORS: bytearray(), STATUS: bytearray()}
    try:
        async with asyncio.timeout(timeout_s):
            async for message in socket:
                if (
                    message.type is aiohttp.WSMsgType.BINARY
                    and message.data
                    and message.data[0] in streams
                ):
                    streams[message.data[0]] += message.data[1:]
    except TimeoutError:
        raise TryAgain(f"{subject} did not end within {timeout_s:g} s") from None
    if not streams[STATUS]:
        raise Unreachable(f"{subject}: the connection was cut before its end")
    return Executed(
        read_exit_code(subject, bytes(streams[STATUS])),
        bytes(streams[OUTPUT]),
        bytes(streams[ERRORS]),
    )


def read_exit_code(subject: str, data: bytes) -> int:
    """
    Read the closing Status.

    Raises `SpiderpoolError` when there is no exit code because nothing ran.
    """
    try:
        status = msgspec.json.decode(data, type=ExecStatus)
    except msgspec.DecodeError as error:
        raise Undecodable(f"{subject}: closing status: {error}") from error
    if status.status == "Success":
        return 0
    causes = (status.details and status.details.causes) or ()
    code = next((cause.message for cause in causes if cause.reason == "ExitCode"), "")
    if status.reason == "NonZeroExitCode" and code.isdigit():
        return int(code)
    raise SpiderpoolError(f"{subject}: {status.message}")
