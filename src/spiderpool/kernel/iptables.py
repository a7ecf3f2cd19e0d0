"""
Reading iptables rules of this process's network namespace.

Both of its backends may be in use.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from spiderpool.errors import SpiderpoolError, TryAgain
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.programs import run_program

LEGACY_TABLES: Final = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}
PREFIXES: Final = {4: "iptables", 6: "ip6tables"}
WAIT_S: Final = 5.0
# iptables(8): also other errors of the rules; 2 to 4 are wrong words, another version, and a lack
# of resources.
NO_CHAIN: Final = 1
HERE: Final = Namespaces(())
IPVS_SERVICES: Final = Path("/proc/net/ip_vs")
IPVS_HEADER_LINES: Final = 3


async def read_chain(chain: str, families: Iterable[int]) -> list[str]:
    """
    Return the lines of `iptables -S CHAIN` of the table `filter`, of all families and backends.

    Empty where there is no such chain. The legacy backend is asked only when it has the table
    already: asking would make it.

    Raises:
        TryAgain: a program does not start, does not end within `WAIT_S`, or cannot read the
            kernel's rules, and no other program finds the chain. On a node that has rules in one
            backend only, the other one may fail always.
    """
    lines: list[str] = []
    failure: TryAgain | None = None
    for family in families:
        for program in _programs(family):
            try:
                lines += await _run(program, "-w", "-t", "filter", "-S", chain)
            except TryAgain as error:
                failure = failure or error
    if failure is not None and not lines:
        raise failure
    return lines


def has_ipvs_services() -> bool:
    """Return whether the kernel balances Services itself."""
    try:
        return len(IPVS_SERVICES.read_text().splitlines()) > IPVS_HEADER_LINES
    except OSError:
        return False


def _programs(family: int) -> list[str]:
    prefix = PREFIXES[family]
    names = [f"{prefix}-nft"]
    try:
        if "filter" in LEGACY_TABLES[family].read_text().split():
            names.append(f"{prefix}-legacy")
    except OSError:
        pass  # no old backend in this kernel
    return [name for name in names if shutil.which(name)]


async def _run(name: str, *arguments: str) -> list[str]:
    """Return the lines that a program prints; none for a chain that does not exist."""
    try:
        outcome = await run_program(
            name, os.get_exec_path(), os.environ, b"", HERE, WAIT_S, arguments
        )
    except SpiderpoolError as error:
        raise TryAgain(error.message) from error
    if outcome.code not in (0, NO_CHAIN):
        raise TryAgain(
            f"{name} ended with {outcome.code}: {outcome.errors.decode(errors='replace').strip()}"
        )
    return outcome.output.decode(errors="replace").splitlines() if outcome.code == 0 else []
