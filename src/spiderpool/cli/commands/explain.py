"""
`spiderpoolctl explain`.

Why a pod has these addresses and not others, by the same decisions as the agent's.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS, LABEL_KEY
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import Application, SpiderIP
from spiderpool.api.kubernetes.core import (
    Namespace,
    NetworkAttachmentDefinition,
    Node,
    Pod,
    StatefulSet,
)
from spiderpool.audit.explanation import Explanation, ask_all, explain_pod
from spiderpool.audit.usage import Usage, count_usage
from spiderpool.cli import session
from spiderpool.cli.agents import Installation, read_installation
from spiderpool.cli.manifest import read_pod
from spiderpool.cli.session import Output, OutputOption
from spiderpool.cni.keys import lookup
from spiderpool.errors import InvalidRequest, NotFound
from spiderpool.ipam.automatic_pool import App
from spiderpool.ipam.filters import DEFAULT_NIC
from spiderpool.ipam.fixed_addresses import needs_position
from spiderpool.ipam.pod_request import Request
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.kube.pool_records import list_pool_records
from spiderpool.kube.top_owners import TopOwners
from spiderpool.model.claim import Claimant
from spiderpool.model.facts import Facts
from spiderpool.model.network_selection import nic_name, parse_default_network, parse_networks
from spiderpool.model.pool import Pool
from spiderpool.model.reserved import Reserved, read_reserved
from spiderpool.model.statefulset import position_of

IPAM: Final = "spiderpool"
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
        told = await tell(client, *found)
        if output is Output.JSON:
            session.print_json(told)
        else:
            show(told)
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


async def tell(cluster: Cluster, pod: Pod, owner: Application) -> Explanation:
    """Read what an ADD of this pod would look at, decide, and say so."""
    installation = await read_installation(cluster)
    reserved = read_reserved((await cluster.list_objects(SpiderReservedIP)).items)
    facts = await _facts(cluster, pod, owner, installation, reserved)
    calls = await calls_of(cluster, facts)
    asked = ask_all(facts, calls.requests)
    usages = await asyncio.gather(
        *(_usage(cluster, facts.pools[name], facts) for name in asked.pools)
    )
    return explain_pod(
        facts,
        asked,
        await _held(cluster, facts),
        {usage.pool: usage for usage in usages},
        (*calls.notes, *reserved.unreadable),
    )


async def _facts(
    cluster: Cluster, pod: Pod, owner: Application, installation: Installation, reserved: Reserved
) -> Facts:
    """Read the facts; a node or namespace that does not exist has no labels."""
    listing = await cluster.list_objects(SpiderIPPool)
    pools = {pool.metadata.name: Pool.parse(pool) for pool in listing.items}
    application = App(owner, pod.metadata.namespace).label_key
    return Facts(
        pod=pod,
        owner=owner,
        features=installation.config.features,
        node=await _find(cluster, Node, pod.spec.node_name, ""),
        namespace=await _find(cluster, Namespace, pod.metadata.namespace, ""),
        pools=pools,
        automatic=tuple(
            pool for pool in pools.values() if pool.place and pool.place.application == application
        ),
        reserved=reserved.by_family,
        networks=parse_networks(
            pod.metadata.annotations.get(ANNO_NETWORKS, ""), pod.metadata.namespace
        ),
        default_network=installation.default_network,
        agent_namespace=installation.namespace,
        position=await _position_of(cluster, pod, owner),
    )


async def _position_of(cluster: Cluster, pod: Pod, owner: Application) -> int | None:
    """Return a pod's place among the ordinals of its StatefulSet, for lists of exact addresses."""
    if not needs_position(pod, owner):
        return None
    if not pod.metadata.uid:
        return 0  # a manifest's first pod
    statefulset = await _find(cluster, StatefulSet, owner.name, pod.metadata.namespace)
    return None if statefulset is None else position_of(pod.metadata.name, statefulset)


async def _find(cluster: Cluster, kind: type[Any], name: str, namespace: str) -> Any:
    """Read an object, None when it does not exist or has no name."""
    return await if_exists(cluster.get(kind, name, namespace)) if name else None


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


# --- which calls there are
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Calls:
    """
    The CNI calls that a pod's start makes to us.

    `notes` name NICs whose addresses are not ours to give.
    """

    requests: tuple[Request, ...]
    notes: tuple[str, ...]


async def calls_of(cluster: Cluster, facts: Facts) -> Calls:
    """Find the networks of a pod, and in their configurations the IPAM and its default pools."""
    requests, notes = [], []
    for nic, network in networks_of(facts):
        ipam = await _ipam_of(cluster, network) if network else {}
        if ipam is None:
            notes.append(
                f"{nic}: network {network} has no definition with an IPAM that could be read"
            )
        elif ipam and ipam.get("type") != IPAM:
            notes.append(
                f"{nic}: network {network} gets its addresses from {ipam.get('type')}, not from Spiderpool"
            )
        else:
            requests.append(request_of(nic, ipam))
    return Calls(tuple(requests), tuple(notes))


def networks_of(facts: Facts) -> tuple[tuple[str, str | None], ...]:
    """
    Give each NIC with the network that it is on.

    None for the cluster's own where no meta plugin is.
    """
    chosen = facts.pod.metadata.annotations.get(ANNO_DEFAULT_NETWORK)
    if chosen is not None:
        default: str | None = parse_default_network(chosen, facts.agent_namespace).full_name
    else:
        default = facts.default_network
        if default and "/" not in default:
            default = f"{facts.agent_namespace}/{default}"
    further = (
        (nic_name(facts.networks, index), network.full_name)
        for index, network in enumerate(facts.networks, 1)
    )
    return ((DEFAULT_NIC, default), *further)


def request_of(nic: str, ipam: dict[str, Any]) -> Request:
    """Make the call of one NIC from its network's `ipam` object."""
    names = {family: lookup(ipam, f"default_ipv{family}_ippool") or [] for family in (4, 6)}
    wrong = next((value for value in names.values() if not isinstance(value, list)), None)
    if wrong is not None:
        raise InvalidRequest(
            f"{nic}: the network's IPAM names its default pools as {wrong!r}; it must be a list of names"
        )
    return Request(
        nic=nic,
        default_ipv4=tuple(map(str, names[4])),
        default_ipv6=tuple(map(str, names[6])),
        clean_gateway=bool(lookup(ipam, "clean_gateway")),
    )


async def _ipam_of(cluster: Cluster, network: str) -> dict[str, Any] | None:
    """
    Read the `ipam` object of a network's definition.

    None when there is none that can be read.
    """
    namespace, _, name = network.partition("/")
    found = await _find(cluster, NetworkAttachmentDefinition, name, namespace)
    try:
        document = json.loads(found.spec.config) if found else None
    except ValueError:
        return None
    return read_ipam(document)


def read_ipam(document: Any) -> dict[str, Any] | None:
    """Find the `ipam` object in a configuration or in a list of plugins."""
    if not isinstance(document, dict):
        return None
    listed = lookup(document, "plugins")
    plugins = listed if isinstance(listed, list) else [document]
    found = (lookup(plugin, "ipam") for plugin in plugins if isinstance(plugin, dict))
    return next((ipam for ipam in found if isinstance(ipam, dict)), None)


# --- words
# ------------------------------------------------------------------------------------------------------------------


def show(told: Explanation) -> None:
    """Print an explanation."""
    fixed = ", its addresses are fixed" if told.static else ""
    session.print_line(f"pod {told.pod}: {told.owner}{fixed}, node {told.node or '(none yet)'}")
    for slot in told.slots:
        source = f" ({slot.source})" if slot.source else ""
        session.print_line(f"{slot.nic} IPv{slot.family}{source}: {slot.answer}")
        for number, usage in enumerate(slot.pools, 1):
            session.print_line(f"    {number}. {usage.pool}: {usage.words}")
        for reason in slot.refused:
            session.print_line(f"    not {reason}")
    for problem in told.problems:
        session.print_line(f"cannot start: {problem}")
    for note in told.notes:
        session.print_line(note)
