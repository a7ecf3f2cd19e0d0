"""
`spiderpoolctl check`: do all sources agree? Exit code 0 only then.

1 for differences, 2 when a source could not be read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from spiderpool.audit.comparison import Difference, compare, lasting
from spiderpool.audit.snapshot import Snapshot
from spiderpool.cli import session
from spiderpool.cli.session import Output, OutputOption
from spiderpool.cli.snapshot_reader import (
    Fetch,
    Reading,
    Unread,
    asking_for_interfaces,
    read_snapshot,
)
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster

AGREE: Final = 0
DIFFER: Final = 1
INCOMPLETE: Final = 2

# Without these nothing can be compared; what else is missing leaves a part.
NEEDED: Final = frozenset({"pods", "spiderips", "spiderippools", "spiderendpoints"})

Sleep = Callable[[float], Awaitable[None]]


class Report(msgspec.Struct, frozen=True, rename="camel"):
    """What a check found. The counts are those of the last reading."""

    differences: tuple[Difference, ...]
    unread: tuple[Unread, ...]
    pods: int
    addresses: int
    pools: int
    endpoints: int
    nodes: int

    @property
    def exit_code(self) -> int:
        """What the command ends with."""
        if self.unread:
            return INCOMPLETE
        return DIFFER if self.differences else AGREE


def check(output: OutputOption = Output.TABLE) -> None:
    """Compare living pods, SpiderIPs, endpoints, pool status and the interfaces' addresses."""

    async def work(client: KubeClient) -> int:
        report = await audit(client, asking_for_interfaces(client))
        if output is Output.JSON:
            session.print_json(report)
        else:
            show(report)
        return report.exit_code

    session.run(work, failure=INCOMPLETE)


async def audit(cluster: Cluster, ask: Fetch, sleep: Sleep = asyncio.sleep) -> Report:
    """
    Read and compare.

    What differs must differ in a second reading too, once what is derived had its time.
    """
    reading = await read_snapshot(cluster, ask)
    differences = _compared(reading)
    if differences:
        await sleep(reading.snapshot.lag_s)
        reading = await read_snapshot(cluster, ask)
        differences = lasting(differences, _compared(reading))
    return report_of(reading, differences)


def report_of(reading: Reading, differences: tuple[Difference, ...]) -> Report:
    """Join what was found with what was read."""
    snapshot: Snapshot = reading.snapshot
    return Report(
        differences=differences,
        unread=reading.unread,
        pods=len(snapshot.pods),
        addresses=len(snapshot.held),
        pools=len(snapshot.pools),
        endpoints=len(snapshot.endpoints),
        nodes=len(snapshot.interfaces),
    )


def _compared(reading: Reading) -> tuple[Difference, ...]:
    """Compare, unless a source is missing without which everything would differ."""
    return () if NEEDED & {unread.part for unread in reading.unread} else compare(reading.snapshot)


def show(report: Report) -> None:
    """Print differences, each with its cause and its fix, and what was read."""
    for difference in report.differences:
        session.print_line(f"{difference.kind} {difference.subject}: {difference.text}")
        session.print_line(f"    cause: {difference.cause}")
        session.print_line(f"    fix:   {difference.remedy}")
    for unread in report.unread:
        session.print_line(f"not read: {unread.part}: {unread.reason}")
    session.print_line(summary(report))


def summary(report: Report) -> str:
    """Say in one line what was compared, and with which result."""
    read = (
        f"{report.pods} pods, {report.addresses} held addresses, {report.endpoints} endpoints, "
        f"{report.pools} pools, the interfaces of {report.nodes} nodes"
    )
    if report.unread:
        return (
            f"incomplete: {len(report.unread)} not read; {len(report.differences)} differences in "
            f"the rest ({read})"
        )
    if report.differences:
        return f"{len(report.differences)} differences ({read})"
    return f"all agree ({read})"
