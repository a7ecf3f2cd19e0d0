"""How reconcilers speak to users: one Event on an object, with a reason and a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spiderpool.api.meta import KubeObject

# The object, the reason (one word) and the message; repetitions are counted by whoever writes the Event.
Tell = Callable[[KubeObject, str, str], Awaitable[None]]
