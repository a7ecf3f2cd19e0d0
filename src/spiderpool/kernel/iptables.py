"""Reading iptables rules of this process's network namespace; both of its backends may be in use."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

LEGACY_TABLES: Final = {4: Path("/proc/net/ip_tables_names"), 6: Path("/proc/net/ip6_tables_names")}
PREFIXES: Final = {4: "iptables", 6: "ip6tables"}
WAIT_S: Final = 5.0
IPVS_SERVICES: Final = Path("/proc/net/ip_vs")
IPVS_HEADER_LINES: Final = 3


async def read_chain(chain: str, families: Iterable[int]) -> list[str]:
    """
    Give the lines of `iptables -S CHAIN` of the table `filter`, of all families and backends; none where there is no chain.

    The old backend is asked only when it has the table already: asking would make it.
    """
    lines: list[str] = []
    for family in families:
        for program in _programs(family):
            lines += await _run(program, "-w", "-t", "filter", "-S", chain)
    return lines


def has_ipvs_services() -> bool:
    """Whether the kernel balances Services itself."""
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
    return [path for name in names if (path := shutil.which(name))]


async def _run(*command: str) -> list[str]:
    """Give what a program prints; nothing when it fails, as for a chain that does not exist."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return []  # the node is out of processes: the next look tells more
    try:
        async with asyncio.timeout(WAIT_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return []
    return output.decode(errors="replace").splitlines() if process.returncode == 0 else []
