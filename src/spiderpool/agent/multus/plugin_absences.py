"""How long plugins that a DEL needs have been missing on this node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# An installer of plugins, after a reboot or for a new version, is done within minutes.
BEARABLE_S: Final = 300.0


class Absences:
    """Remembers since when; a restart of the agent begins again."""

    def __init__(
        self, bearable_s: float = BEARABLE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Begin with none.

        Args:
            bearable_s: for how long DELs of a container fail because of it.
            clock: seconds.
        """
        self._bearable_s = bearable_s
        self._clock = clock
        self._since: dict[tuple[str, str], float] = {}

    def is_over(self, container_id: str, plugin: str) -> bool:
        """Note that a container's DEL misses a plugin; return whether it waited long enough."""
        now = self._clock()
        return now - self._since.setdefault((container_id, plugin), now) >= self._bearable_s

    def forget(self, container_id: str) -> None:
        """Forget a container: it is detached."""
        for key in [key for key in self._since if key[0] == container_id]:
            del self._since[key]
