"""
Try transfers, all at once, and print how far each came as JSON.

Runs in a pod by its text, so it needs nothing but Python. Argument: JSON with `targets` (pairs of
address and port), `give` and `take` (bytes), `timeout_s` (seconds for one transfer).
"""

from __future__ import annotations

import json
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

AGAIN_S: Final = 0.3  # a refusal may mean that kube-proxy has not heard of the endpoint yet


class Failed(Exception):
    """A transfer ended early."""


def transfer(address: str, port: int, give: int, take: int, timeout_s: float) -> dict[str, Any]:
    """Try one target; a refused connection is tried again while time is left."""
    deadline = time.monotonic() + timeout_s
    while True:
        report = _attempt(address, port, give, take, deadline)
        if "refused" not in report["words"] or time.monotonic() + AGAIN_S > deadline:
            return report
        time.sleep(AGAIN_S)


def _attempt(address: str, port: int, give: int, take: int, deadline: float) -> dict[str, Any]:
    report: dict[str, Any] = {
        "stage": "connect",
        "client": "",
        "clientPort": 0,
        "seen": "",
        "name": "",
        "words": "",
    }
    with socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM
    ) as connection:
        try:
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            try:
                connection.connect((address, port))
            finally:
                report["client"], report["clientPort"] = connection.getsockname()[:2]
            report["stage"] = "transfer"
            connection.sendall(b"x" * give)
            report |= _receive(connection, take, deadline)
            report["stage"] = "done"
        except (OSError, Failed) as error:
            report["words"] = str(error) or type(error).__name__
    return report


def _receive(connection: socket.socket, take: int, deadline: float) -> dict[str, Any]:
    """Read the whole answer; its text says who gave it and how we were seen."""
    data = b""
    while len(data) < take:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        part = connection.recv(65536)
        if not part:
            raise Failed(f"the other end hung up after {len(data)} of {take} bytes")
        data += part
    try:
        answer = json.loads(data)
    except ValueError:
        raise Failed("somebody else answers there") from None
    return {"seen": answer["seen"], "name": answer["name"]}


def main(text: str) -> None:
    """Try all targets and print their reports, in order."""
    asked = json.loads(text)
    targets = asked["targets"]
    with ThreadPoolExecutor(len(targets)) as pool:
        waiting = [
            pool.submit(transfer, address, port, asked["give"], asked["take"], asked["timeout_s"])
            for address, port in targets
        ]
        sys.stdout.write(json.dumps([each.result() for each in waiting]))


if __name__ == "__main__":
    main(sys.argv[1])
