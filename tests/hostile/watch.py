"""How long a node's agent lets a question wait, while something is done to it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any, Final, Self

from spiderlab.lab import LabNode

# Also a node's agent that nobody attacks shares two cores with all others of the lab.
LONGEST_S: Final = 0.2

# Asks again and again on one connection; when its input ends it tells what it saw.
PROGRAM: Final = """
import http.client, json, select, sys, time
longest, count = 0.0, 0
ask = http.client.HTTPConnection("127.0.0.1", 5710, timeout=30)
while not select.select([sys.stdin], [], [], 0.01)[0]:
    began = time.monotonic()
    ask.request("GET", "/v1/runtime/liveness")
    ask.getresponse().read()
    longest, count = max(longest, time.monotonic() - began), count + 1
print(json.dumps({"longest": longest, "count": count}))
"""


class Stalls:
    """Asks an agent for its liveness every 10 ms; a context manager."""

    def __init__(self, node: LabNode) -> None:
        """Keep which node's."""
        self._node = node
        self.seen: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Begin to ask."""
        python = shutil.which("python3") or "python3"
        self._asking = subprocess.Popen(  # noqa: S603 - our words
            [*self._node.enter(), python, "-ISc", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *reason: object) -> None:
        """End, and read what was seen."""
        output, _ = self._asking.communicate("", timeout=40)
        del reason
        self.seen = json.loads(output) if output else {}

    def assert_bounded(self) -> None:
        """Assert that no question waited for long."""
        assert self.seen.get("count", 0) > 10, "the agent was not asked"
        assert self.seen["longest"] < LONGEST_S, self.seen
