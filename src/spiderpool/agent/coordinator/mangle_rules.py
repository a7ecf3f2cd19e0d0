"""
The mangle rules in a pod's namespace, set by the node's own iptables.

An ADD starts at most one process for each family.

Source: docs/reference/coordinator.md#way-back-by-veth0.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import structlog

from spiderpool.datapath.mangle_rules import (
    RESTORE,
    RULES,
    SAVE,
    missing_rules,
    present_rules,
    restore_input,
)
from spiderpool.errors import NotFound, SpiderpoolError
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.programs import Outcome, run_program

FOLDERS: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin")
_TIMEOUT_S: Final = 20.0
# waits for another iptables: the lock file is the node's, not the pod's
_RESTORE: Final = ("--noflush", "--wait=10")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MangleRules:
    """The mangle rules of one pod; `inside` is the pod's network with the node's files."""

    inside: Namespaces

    async def make(self, families: Iterable[int], *, fresh: bool) -> None:
        """
        Append what is missing.

        Args:
            families: 4, 6.
            fresh: the pod has none yet, so nobody needs to ask.
        """
        await self._each(self._make(family, fresh=fresh) for family in families)

    async def remove(self, families: Iterable[int]) -> None:
        """Remove what is there; a node without iptables has nothing to remove."""
        await self._each(self._remove(family) for family in families)

    async def missing(self, families: Iterable[int]) -> tuple[str, ...]:
        """Return the rules that are not there, with their family."""
        found: list[str] = []
        for family in families:
            found += [
                f"IPv{family} mangle rule {rule}"
                for rule in missing_rules(await self._saved(family))
            ]
        return tuple(found)

    async def _each(self, works: Iterable[object]) -> None:
        results = await asyncio.gather(*works, return_exceptions=True)  # type: ignore[call-overload]
        for error in results:
            if isinstance(error, BaseException):
                raise error

    async def _make(self, family: int, *, fresh: bool) -> None:
        rules = RULES if fresh else missing_rules(await self._saved(family))
        if rules:
            await self._run(RESTORE[family], restore_input(rules), *_RESTORE)

    async def _remove(self, family: int) -> None:
        try:
            await self._run(RESTORE[family], restore_input(RULES, remove=True), *_RESTORE)
        except NotFound as error:
            log.info("mangle rules stay", reason=error.message)
        except SpiderpoolError:
            # All or nothing: one of them is missing.
            rules = present_rules(await self._saved(family))
            if rules:
                await self._run(RESTORE[family], restore_input(rules, remove=True), *_RESTORE)

    async def _saved(self, family: int) -> str:
        return (await self._run(SAVE[family], "", "-t", "mangle")).output.decode(errors="replace")

    async def _run(self, program: str, text: str, *arguments: str) -> Outcome:
        env = {"PATH": ":".join(FOLDERS)}
        outcome = await run_program(
            program, FOLDERS, env, text.encode(), self.inside, _TIMEOUT_S, arguments
        )
        if outcome.code:
            words = outcome.errors.decode(errors="replace").strip()
            raise SpiderpoolError(f"{program} ended with code {outcome.code}: {words}")
        return outcome
