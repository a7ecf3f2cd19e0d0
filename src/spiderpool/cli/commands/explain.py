"""
`spiderpoolctl explain`.

Why a pod has these addresses and not others, by the same decisions as the agent's.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import typer

from spiderpool.api.crd.group import LABEL_KEY
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.audit.pod_explanation import Explanation, ask_all, explain_pod
from spiderpool.audit.usage import Usage, count_usage
from spiderpool.cli import session
from spiderpool.cli.agents import read_installation
from spiderpool.cli.expected_ipam_calls import calls_of, without_master_rule
from spiderpool.cli.manifest import read_pod
from spiderpool.cli.session import Output, OutputOption
from spiderpool.errors import InvalidRequest, NotFound
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.readers.fact_reader import Installed, LiveReader, ManifestReader, gather_facts
from spiderpool.kube.readers.pool_records import list_pool_records
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.claim import Claimant
from spiderpool.model.facts import Facts
from spiderpool.model.pool import Pool
from spiderpool.model.reserved import read_reserved

STDIN: Final = "-"


def explain(
    pod: Annotated[str, typer.Argument(metavar="POD", help="[NAMESPACE/]NAME of a pod.")] = "",
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="Where none is named.")
    ] = "default",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Explain a pod that does not exist: the manifest's.")
    ] = False,
    filename: Annotated[
        str,
        typer.Option(
            "--filename", "-f", help="Manifest of a pod or workload; - is standard input."
        ),
    ] = "",
    node: Annotated[
        str, typer.Option("--node", help="Node on which the manifest's pod is thought to be.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Say why a pod has its addresses, which pools it may use, and why not the others."""

    async def work(client: KubeClient) -> int:
        check_options(pod, filename, dry_run=dry_run)
        if dry_run:
            found = read_pod(_text(filename), namespace, node)
        else:
            found = await find_pod(client, pod, namespace)
        explanation = await explain_live(client, *found)
        if output is Output.JSON:
            session.print_json(explanation)
        else:
            show(explanation)
        return 0

    session.run(work)


def check_options(pod: str, filename: str, *, dry_run: bool) -> None:
    """Refuse options that do not go together."""
    if dry_run and (pod or not filename):
        raise InvalidRequest(
            "--dry-run explains the pod of a manifest: give --filename, and no POD"
        )
    if filename and not dry_run:
        raise InvalidRequest("--filename explains a pod that does not exist: add --dry-run")
    if not dry_run and not pod:
        raise InvalidRequest("name a pod, as NAMESPACE/NAME, or give --dry-run and --filename")


def _text(filename: str) -> str:
    """Read the manifest."""
    try:
        return sys.stdin.read() if filename == STDIN else Path(filename).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"manifest {filename}: {getattr(error, 'strerror', None) or error}"
        ) from None


async def find_pod(cluster: Cluster, name: str, namespace: str) -> tuple[Pod, Application]:
    """Read a pod and what it belongs to."""
    left, slash, right = name.partition("/")
    where, what = (left, right) if slash else (namespace, name)
    try:
        pod = await cluster.get(Pod, what, where)
    except NotFound:
        raise NotFound(f"pod {where}/{what} does not exist") from None
    if pod.spec.host_network:
        raise InvalidRequest(
            f"pod {where}/{what} uses its node's network; it has no address of its own"
        )
    return pod, await TopOwners(cluster).of(pod)


async def explain_live(cluster: Cluster, pod: Pod, owner: Application) -> Explanation:
    """Read what an ADD of this pod would look at, decide, and say so."""
    installation = await read_installation(cluster)
    reader = LiveReader(cluster) if pod.metadata.uid else ManifestReader(cluster)
    installed = Installed(
        installation.config.features, installation.namespace, installation.default_network
    )
    facts = await gather_facts(reader, installed, pod, owner)
    calls = without_master_rule(await calls_of(cluster, facts))
    asked = ask_all(facts, calls.requests)
    usages = await asyncio.gather(
        *(_usage(cluster, facts.pools[name], facts) for name in asked.pools)
    )
    reserving = await cluster.list_objects(SpiderReservedIP)
    return explain_pod(
        facts,
        replace(asked, problems=(*calls.problems, *asked.problems)),
        await _held(cluster, facts),
        {usage.pool: usage for usage in usages},
        (*calls.notes, *read_reserved(reserving.items).unreadable),
    )


async def _held(cluster: Cluster, facts: Facts) -> tuple[SpiderIP, ...]:
    """Read the pod's records."""
    claimant = Claimant.of(facts.pod, facts.owner, facts.features)
    if not (claimant.static or claimant.uid):
        return ()  # it does not exist
    listing = await cluster.list_objects(SpiderIP, labels=f"{LABEL_KEY}={claimant.label}")
    return listing.items


async def _usage(cluster: Cluster, pool: Pool, facts: Facts) -> Usage:
    """Count the addresses of one pool."""
    records = await list_pool_records(cluster, pool.name)
    return count_usage(pool, records, facts.reserved_of(pool.family))


# --- words


def show(explanation: Explanation) -> None:
    """Print an explanation."""
    fixed = ", its addresses are fixed" if explanation.static else ""
    session.print_line(
        f"pod {explanation.pod}: {explanation.owner}{fixed}, node "
        f"{explanation.node or '(none yet)'}"
    )
    for slot in explanation.slots:
        source = f" ({slot.source})" if slot.source else ""
        session.print_line(f"{slot.nic} IPv{slot.family}{source}: {slot.answer}")
        for number, usage in enumerate(slot.pools, 1):
            session.print_line(f"    {number}. {usage.pool}: {usage.words}")
        for reason in slot.refused:
            session.print_line(f"    skipped {reason}")
    for problem in explanation.problems:
        session.print_line(f"cannot start: {problem}")
    for note in explanation.notes:
        session.print_line(note)
