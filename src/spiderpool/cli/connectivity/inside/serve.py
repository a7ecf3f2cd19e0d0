"""
Answer transfers: take some bytes, answer who asked and who answers in as many as agreed.

Runs as the text of a pod's command, so it needs nothing but Python. Arguments: port, bytes to take,
bytes to give.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
from typing import Final

TIMEOUT_S: Final = 30.0  # a connection that ends on the way must not keep a thread for ever


def listen(port: int) -> socket.socket:
    """Listen for both families, or for IPv4 alone where the kernel has no other."""
    try:
        server = socket.create_server(
            ("::", port), family=socket.AF_INET6, backlog=128, dualstack_ipv6=True
        )
    except (OSError, ValueError):
        # On all addresses: it is there to be reached.
        server = socket.create_server(("0.0.0.0", port), backlog=128)  # noqa: S104
    return server


def answer(connection: socket.socket, seen: str, take: int, give: int) -> None:
    """Serve one connection."""
    with connection:
        connection.settimeout(TIMEOUT_S)
        while take > 0:
            part = connection.recv(65536)
            if not part:
                return
            take -= len(part)
        words = json.dumps({"seen": seen.removeprefix("::ffff:"), "name": socket.gethostname()})
        connection.sendall(words.ljust(give).encode())


def serve(port: int, take: int, give: int) -> None:
    """Serve until the end."""
    with listen(port) as server:
        while True:
            connection, (seen, *_) = server.accept()
            threading.Thread(
                target=answer, args=(connection, seen, take, give), daemon=True
            ).start()


if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    serve(*map(int, sys.argv[1:4]))
