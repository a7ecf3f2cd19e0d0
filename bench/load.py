"""
Calls to agents over their unix sockets, as the CNI executable makes them.

HTTP/1.1, one connection for each call, never retried.

Written on bare streams, so that the load takes as little as possible of the processors that it
shares with what it measures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from spiderpool.api.kubernetes.core import Pod


@dataclass(frozen=True, slots=True)
class Answer:
    """One call: how long it took, whether it succeeded, what came back."""

    seconds: float
    ok: bool
    body: bytes

    @property
    def addresses(self) -> list[str]:
        """The addresses of an ADD's answer, without prefix length."""
        return (
            [ip["address"].split("/")[0] for ip in msgspec.json.decode(self.body)["ips"]]
            if self.ok
            else []
        )


async def call(socket: str, method: str, path: str, body: bytes) -> Answer:
    """Make one call and time it from connect to the end of the answer."""
    begin = time.perf_counter()
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
        writer.write(
            b"%s %s HTTP/1.1\r\nHost: \r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (method.encode(), path.encode(), len(body), body)
        )
        answer = await reader.read()
        writer.close()
    except OSError as error:
        return Answer(time.perf_counter() - begin, ok=False, body=str(error).encode())
    head, _, rest = answer.partition(b"\r\n\r\n")
    return Answer(time.perf_counter() - begin, ok=head.startswith(b"HTTP/1.1 200"), body=rest)


def request_of(pod: Pod, *, nic: str = "eth0") -> bytes:
    """
    Write the body of ADD and of DEL for a pod.

    Source: docs/reference/agent-api.md#socket.
    """
    return msgspec.json.encode(
        {
            "containerID": f"c{pod.metadata.uid.replace('-', '')}",
            "ifName": nic,
            "netNamespace": f"/var/run/netns/{pod.metadata.name}",
            "podNamespace": pod.metadata.namespace,
            "podName": pod.metadata.name,
            "podUID": pod.metadata.uid,
        }
    )


async def burst(
    sockets: dict[str, str], pods: Iterable[Pod], method: str, *, width: int = 25
) -> tuple[float, list[Answer]]:
    """
    Call the agent of each pod's node, `width` calls in flight an agent.

    Args:
        sockets: node name to socket path.
        pods: bound to those nodes.
        method: POST for ADD, DELETE for DEL.
    Returns:
        Seconds from the first call to the last answer, and all answers.
    """
    bodies: dict[str, list[bytes]] = {node: [] for node in sockets}
    for pod in pods:
        bodies[pod.spec.node_name].append(request_of(pod))
    answers: list[Answer] = []

    async def worker(node: str) -> None:
        while bodies[node]:
            answers.append(await call(sockets[node], method, "/v1/ipam/ip", bodies[node].pop()))

    begin = time.perf_counter()
    await asyncio.gather(*(worker(node) for node in sockets for _ in range(width)))
    return time.perf_counter() - begin, answers


def percentile(values: list[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered)) - 1))]
