"""
`spiderpoolctl gc`: ends the differences of the audit that a program can end.

Leaks are given back, SpiderEndpoints are written as the records say, or deleted when they say
nothing. The verdict is that of the controller's reclaim, taken again from live objects before each
change.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
import typer

from spiderpool.addressing.ranges import parse_address
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.audit.comparison import LOST, Difference, Kind, compare, remembers
from spiderpool.audit.snapshot import Snapshot
from spiderpool.cli import session
from spiderpool.cli.commands.ip import give_back
from spiderpool.cli.session import Output, OutputOption
from spiderpool.cli.snapshot_reader import Reading, Unread, read_snapshot
from spiderpool.errors import InvalidRequest, NotFound, SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.records.projections import kept_endpoint, merge_endpoint

MENDABLE: Final = frozenset({Kind.LEAK, Kind.ENDPOINT})


class Outcome(enum.StrEnum):
    """What became of a step."""

    PLANNED = "planned"
    DONE = "done"
    FAILED = "failed"


class Step(msgspec.Struct, frozen=True, rename="camel"):
    """One difference to end."""

    kind: Kind
    subject: str
    text: str
    cause: str
    outcome: Outcome
    detail: str = ""


def gc(
    plan: Annotated[
        bool, typer.Option("--plan", help="Say what would be done; this is also the default.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it.")] = False,
    address: Annotated[str, typer.Option("--address", hidden=True)] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Release the addresses of holders that are gone, and bring SpiderEndpoints up to date."""

    async def work(client: KubeClient) -> int:
        check_options(plan=plan, apply=apply, address=address)
        reading = await read_snapshot(client, None)
        refuse_gaps(reading.unread)
        steps = await remedy(client, reading) if apply else planned(reading)
        if output is Output.JSON:
            session.print_json(steps)
        else:
            show(steps)
        return int(any(step.outcome is Outcome.FAILED for step in steps))

    session.run(work)


def check_options(*, plan: bool, apply: bool, address: str) -> None:
    """Refuse options that make no sense, with the reason."""
    if address:
        raise InvalidRequest(
            "--address: no controller is asked; this command works with your own rights at the API "
            "server"
        )
    if plan and apply:
        raise InvalidRequest("--plan and --apply exclude each other; --plan changes nothing")


def refuse_gaps(unread: tuple[Unread, ...]) -> None:
    """Refuse to judge by half of the facts."""
    if unread:
        missing = "; ".join(f"{each.part}: {each.reason}" for each in unread)
        raise InvalidRequest(f"nothing is done, since not all could be read: {missing}")


def show(steps: tuple[Step, ...]) -> None:
    """Print what is planned or done, and why."""
    for step in steps:
        session.print_line(f"{step.outcome}: {step.kind} {step.subject}: {step.text}")
        session.print_line(f"    why: {step.cause}")
        if step.detail:
            session.print_line(f"    {step.detail}")
    if not steps:
        session.print_line("nothing to do: every address has a holder, every endpoint is right")


def planned(reading: Reading) -> tuple[Step, ...]:
    """Return what would be done."""
    return tuple(_step(difference, Outcome.PLANNED) for difference in remediable(reading.snapshot))


def remediable(snapshot: Snapshot) -> tuple[Difference, ...]:
    """Return the differences that this command ends."""
    return tuple(difference for difference in compare(snapshot) if difference.kind in MENDABLE)


async def remedy(cluster: Cluster, reading: Reading) -> tuple[Step, ...]:
    """End one difference after the other; one that fails does not stop the next."""
    steps = []
    for difference in remediable(reading.snapshot):
        try:
            detail = await _remedy(cluster, difference, reading.snapshot)
        except SpiderpoolError as error:
            steps.append(_step(difference, Outcome.FAILED, error.message))
        else:
            steps.append(_step(difference, Outcome.DONE, detail))
    return tuple(steps)


async def _remedy(cluster: Cluster, difference: Difference, snapshot: Snapshot) -> str:
    if difference.kind is Kind.LEAK:
        return await give_back(
            cluster, parse_address(difference.subject), dry_run=False, force=False
        )
    namespace, _, name = difference.subject.partition("/")
    return await write_endpoint(cluster, name, namespace, snapshot)


def _step(difference: Difference, outcome: Outcome, detail: str = "") -> Step:
    return Step(
        difference.kind, difference.subject, difference.text, difference.cause, outcome, detail
    )


async def write_endpoint(cluster: Cluster, name: str, namespace: str, snapshot: Snapshot) -> str:
    """Make one endpoint say what the records say, conditional on the one that was read."""
    records = [
        r
        for r in snapshot.held
        if (r.spec.holder.namespace, r.spec.holder.name) == (namespace, name)
    ]
    found = next(
        (endpoint for endpoint in snapshot.endpoints if endpoint.key == (namespace, name)), None
    )
    pod = next((pod for record in records if (pod := snapshot.living(record)) is not None), None)
    if found is not None and remembers(found, records, snapshot):
        raise InvalidRequest(f"{LOST}; the endpoint is what they are made from, so it stays")
    wanted = None
    if pod is not None:
        records = [record for record in records if record.spec.holder.uid == pod.metadata.uid]
        wanted = kept_endpoint(
            records, pod, records[0].spec.holder.owner or await TopOwners(cluster).of(pod)
        )
    if wanted is None:
        return await _drop(cluster, found)
    if found is None:
        await cluster.create(wanted)
        return "endpoint written"
    await cluster.replace(merge_endpoint(found, wanted))
    return "endpoint corrected"


async def _drop(cluster: Cluster, found: SpiderEndpoint | None) -> str:
    """Delete an endpoint of somebody who holds nothing."""
    if found is None:
        return "nothing left to do"
    meta = found.metadata
    try:
        await cluster.delete(
            SpiderEndpoint,
            meta.name,
            meta.namespace,
            uid=meta.uid,
            resource_version=meta.resource_version,
        )
    except NotFound:
        return "gone already"
    return "endpoint deleted"
