"""A caller at the agent's socket that writes every byte itself, as a program of others would."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return msgspec.json.decode(self.body)


async def ask(
    socket: Path,
    method: str,
    path: str,
    body: object = None,
    *,
    raw: bytes | None = None,
    content_type: str = "application/json",
) -> Answer:
    """
    Make one request, by hand.

    Args:
        socket: where the agent listens.
        method: of HTTP.
        path: with the query, if any.
        body: rendered as JSON; None = no body.
        raw: the body as it is, instead.
        content_type: empty = no such header.
    """
    reader, writer = await asyncio.open_unix_connection(socket)
    data = raw if raw is not None else b"" if body is None else msgspec.json.encode(body)
    head = f"{method} {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Length: {len(data)}\r\n"
    if content_type and data:
        head += f"Content-Type: {content_type}\r\n"
    writer.write(head.encode() + b"\r\n" + data)
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    top, _, rest = answer.partition(b"\r\n\r\n")
    status, *lines = top.decode().split("\r\n")
    headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines)}
    return Answer(int(status.split()[1]), headers, rest)
