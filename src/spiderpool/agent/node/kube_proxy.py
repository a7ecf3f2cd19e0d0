"""
Watching what becomes of INVALID packets on this node.

What it means is decided by `datapath.invalid_packets`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

import structlog

from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.api.kubernetes.core import Node
from spiderpool.datapath.invalid_packets import (
    CHAIN,
    Fate,
    ProbeResult,
    Verdict,
    chain_rules,
    judge_invalid,
)
from spiderpool.datapath.kernel_settings import TCP_BE_LIBERAL
from spiderpool.errors import TryAgain
from spiderpool.kernel.iptables import has_ipvs_services, read_chain
from spiderpool.model.event_reasons import EventReason

LOOK_AGAIN_S: Final = 60.0
TELL_AGAIN_S: Final = 1800.0  # API servers keep Events for an hour
REASONS: Final = {
    Fate.DROPPED: EventReason.KUBE_PROXY_DROPS,
    Fate.DROPPED_SOON: EventReason.KUBE_PROXY_WILL_DROP,
}

log = structlog.get_logger(__name__)

Look = Callable[[], Awaitable[ProbeResult]]
WriteEvent = Callable[[Node, EventReason, str], None]


class KubeProxyWatch:
    """
    Looks once a minute.

    A verdict that changed for the worse is an Event on the node, each one is in the metrics.
    """

    def __init__(
        self,
        look: Look,
        node: Callable[[], Node | None],
        write_event: WriteEvent,
        note: Callable[[Verdict, ProbeResult], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            look: finds out what the node has; raises TryAgain when it cannot now.
            node: gives the node's object, if it is known.
            write_event: writes an Event.
            note: takes each verdict for the metrics.
            clock: monotonic seconds.
        """
        self._look = look
        self._node = node
        self._write_event = write_event
        self._note = note
        self._clock = clock
        self.verdict: Verdict | None = None
        self.trouble = "not looked at yet"  # why there is no verdict
        self._told: Fate | None = None
        self._told_at = 0.0

    async def run(self) -> None:
        """Look again and again; ends only by cancellation."""
        while True:
            await self.look_once()
            await asyncio.sleep(LOOK_AGAIN_S)

    async def look_once(self) -> None:
        """Look, and tell what is new; a look that fails changes nothing."""
        try:
            findings = await self._look()
        except TryAgain as error:
            self.trouble = f"kube-proxy's rules cannot be read: {error.message}"
            log.warning(self.trouble)
            return
        verdict = self.verdict = judge_invalid(findings)
        self._note(verdict, findings)
        self._say(verdict)

    def _say(self, verdict: Verdict) -> None:
        """
        Log and tell a verdict that is new.

        What stays bad is told again before its Event is forgotten.
        """
        node, bad = self._node(), verdict.fate in REASONS
        old = verdict.fate is self._told and not (
            bad and self._clock() - self._told_at > TELL_AGAIN_S
        )
        if old or (bad and node is None):
            return
        log.info("packets of ctstate INVALID", fate=str(verdict.fate), reason=verdict.sentence)
        if node is not None and bad:
            self._write_event(node, REASONS[verdict.fate], verdict.sentence)
        self._told, self._told_at = verdict.fate, self._clock()


def looking(settings: NodeSettings, families: Iterable[int]) -> Look:
    """Make the look into this node's kernel."""
    families = tuple(families)

    async def look() -> ProbeResult:
        liberal = settings.read(TCP_BE_LIBERAL)
        return ProbeResult(
            rules=chain_rules(await read_chain(CHAIN, families)),
            liberal=None if liberal is None else liberal == "1",
            ipvs=has_ipvs_services(),
        )

    return look
