"""`spiderpoolctl ip …`: who holds an address, giving one back, writing a record by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import msgspec
import typer

from spiderpool.addressing.ranges import parse_address, record_name
from spiderpool.addressing.sets import IPAddress
from spiderpool.api.crd.group import LABEL_KEY
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.reservedip import SpiderReservedIP
from spiderpool.api.crd.spiderip import HolderKind, SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.audit.usage import Usage, count_usage
from spiderpool.cli import session
from spiderpool.cli.agents import read_installation
from spiderpool.cli.session import Output, OutputOption
from spiderpool.configuration.config import Features
from spiderpool.errors import AlreadyExists, Conflict, InvalidRequest, NotFound
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.compare_and_swap import compare_and_swap
from spiderpool.kube.readers.holder_owners import read_owners
from spiderpool.kube.readers.pool_records import list_pool_records
from spiderpool.kube.readers.top_owners import TopOwners
from spiderpool.model.claim import ClaimKey
from spiderpool.model.pod import full_name, is_alive, is_static
from spiderpool.model.pool import Pool
from spiderpool.model.reserved import read_reserved
from spiderpool.records.build import pod_holder, pool_record, record_of
from spiderpool.records.verdicts import Action, Verdict, judge_leak

app = typer.Typer(
    no_args_is_help=True,
    help="Addresses: who holds them, giving them back, recording them by hand.",
)

HEADERS = ("ADDRESS", "POOL", "STATE", "HOLDER", "NIC", "NODE", "STATIC", "SINCE")


class Line(msgspec.Struct, frozen=True, rename="camel"):
    """One record as it is printed."""

    ip: str
    pool: str
    state: str
    holder: str
    uid: str
    nic: str
    node: str
    container_id: str = msgspec.field(name="containerID")
    static: bool
    since: str


class Shown(msgspec.Struct, frozen=True, rename="camel"):
    """
    What `ip show` found.

    `note` tells of an address that has no record. `pool` is given when a pool was asked for; then
    `warnings` names what its numbers do not count.
    """

    addresses: tuple[Line, ...]
    note: str = ""
    pool: Usage | None = None
    warnings: tuple[str, ...] = ()


@app.command("show")
def show(
    ip: Annotated[
        str, typer.Option("--ip", help="Only this address; also tells why nobody holds it.")
    ] = "",
    pod: Annotated[
        str, typer.Option("--pod", help="Only addresses of this pod: NAMESPACE/NAME.")
    ] = "",
    pool: Annotated[
        str, typer.Option("--pool", help="Only addresses of this pool, and how many are free.")
    ] = "",
    output: OutputOption = Output.TABLE,
) -> None:
    """Show who holds which address."""

    async def work(client: KubeClient) -> int:
        shown = await find(client, ip, pod, pool)
        if output is Output.JSON:
            session.print_json(shown)
            return 0
        rows = [
            (
                one.ip,
                one.pool,
                one.state,
                one.holder,
                one.nic,
                one.node,
                "yes" if one.static else "no",
                one.since,
            )
            for one in shown.addresses
        ]
        session.print_table(HEADERS, rows, empty=shown.note or "no address is held")
        if shown.pool is not None:
            session.print_line(f"pool {shown.pool.pool}: {shown.pool.words}")
        for warning in shown.warnings:
            session.print_line(warning)
        return 0

    session.run(work)


@app.command("release")
def release(
    ip: Annotated[str, typer.Option("--ip", help="The address.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Also when its holder lives.")
    ] = False,
) -> None:
    """Release an address whose holder is gone; `--force` also one whose holder lives."""

    async def work(client: KubeClient) -> int:
        session.print_line(await give_back(client, parse_address(ip), dry_run=dry_run, force=force))
        return 0

    session.run(work)


@app.command("set")
def set_(
    ip: Annotated[str, typer.Option("--ip", help="The address that the pod has.")],
    pod: Annotated[str, typer.Option("--pod", help="Name of the pod.")],
    namespace: Annotated[str, typer.Option("--namespace", help="Its namespace.")],
    containerid: Annotated[
        str, typer.Option("--containerid", help="Its sandbox, as the runtime names it.")
    ],
    node: Annotated[str, typer.Option("--node", help="Its node.")],
    interface: Annotated[
        str, typer.Option("--interface", help="The interface that has the address.")
    ],
) -> None:
    """
    Record that a living pod has an address.

    One that it has and that nobody holds, or its own with another sandbox.
    """

    async def work(client: KubeClient) -> int:
        claim = ByHand(parse_address(ip), pod, namespace, containerid, node, interface)
        session.print_line(
            await record(client, claim, (await read_installation(client)).config.features)
        )
        return 0

    session.run(work)


# --- show


async def find(cluster: Cluster, ip: str = "", pod: str = "", pool: str = "") -> Shown:
    """Find records by address, pod or pool; all three narrow it down."""
    if ip:
        return await _find_address(cluster, parse_address(ip), pod, pool)
    listed = (
        await list_pool_records(cluster, pool)
        if pool
        else (await cluster.list_objects(SpiderIP)).items
    )
    found = [record for record in listed if _is_asked_for(record, pod, pool)]
    usage: Usage | None = None
    warnings: tuple[str, ...] = ()
    if pool:
        parsed = Pool.parse(await cluster.get(SpiderIPPool, pool))
        reserved = read_reserved((await cluster.list_objects(SpiderReservedIP)).items)
        usage, warnings = (
            count_usage(parsed, found, reserved.by_family[parsed.family]),
            reserved.unreadable,
        )
    return Shown(
        tuple(line(record) for record in _by_address(found)), pool=usage, warnings=warnings
    )


async def _find_address(cluster: Cluster, ip: IPAddress, pod: str, pool: str) -> Shown:
    """Find the record of one address, or say what the address is without one."""
    try:
        found = await cluster.get(SpiderIP, record_name(ip))
    except NotFound:
        pools = [Pool.parse(each) for each in (await cluster.list_objects(SpiderIPPool)).items]
        return Shown(
            (), note=describe(ip, pools, (await cluster.list_objects(SpiderReservedIP)).items)
        )
    if not _is_asked_for(found, pod, pool):
        return Shown(
            (),
            note=(
                f"not what you asked for: {ip} is {found.spec.state} by {who(found)}, pool "
                f"{found.spec.pool}"
            ),
        )
    return Shown((line(found),))


def describe(ip: IPAddress, pools: Iterable[Pool], reserving: Iterable[SpiderReservedIP]) -> str:
    """Say what an address is that has no record."""
    home = next((pool for pool in pools if pool.family == ip.version and ip in pool.total), None)
    if home is None:
        return f"{ip} is in no pool"
    if why := home.why_withheld(ip):
        return f"{ip} {why}, so it is given to no pod"
    for each in reserving:
        if ip in read_reserved([each]).by_family[ip.version]:
            return (
                f"{ip} is free in pool {home.name} and reserved by SpiderReservedIP "
                f"{each.metadata.name}: no pod gets it"
            )
    return f"{ip} is free in pool {home.name}{', which is disabled' if home.disabled else ''}"


def line(record: SpiderIP) -> Line:
    """Write a record as it is printed."""
    spec, holder = record.spec, record.spec.holder
    return Line(
        ip=spec.ip,
        pool=spec.pool,
        state=spec.state,
        holder=who(record),
        uid=holder.uid,
        nic=holder.nic,
        node=holder.node,
        container_id=holder.container_id,
        static=spec.static,
        since=spec.state_since or record.metadata.creation_timestamp or "",
    )


def who(record: SpiderIP) -> str:
    """Name the holder of a record."""
    holder = record.spec.holder
    if holder.kind is HolderKind.POOL:
        return f"controller (pool {holder.name})"
    return f"{holder.namespace}/{holder.name}" + (
        " (VM)" if holder.kind is HolderKind.VIRTUAL_MACHINE else ""
    )


def _is_asked_for(record: SpiderIP, pod: str, pool: str) -> bool:
    """Return whether a record is one of those that the user wants to see."""
    holder = record.spec.holder
    return (not pod or pod == f"{holder.namespace}/{holder.name}") and (
        not pool or pool == record.spec.pool
    )


def _by_address(records: list[SpiderIP]) -> list[SpiderIP]:
    return sorted(records, key=lambda record: (record.spec.family, record.spec.address))


# --- release


async def give_back(cluster: Cluster, ip: IPAddress, *, dry_run: bool, force: bool) -> str:
    """
    Release one address, on condition of the record that was judged.

    A record that changes meanwhile is judged again.

    Returns:
        What was done, or would be.
    Raises:
        NotFound: nobody has it.
        InvalidRequest: its holder lives, and this is not forced.
        TryAgain: somebody changes it again and again.
    """

    async def read() -> SpiderIP:
        try:
            return await cluster.get(SpiderIP, record_name(ip))
        except NotFound:
            raise NotFound(f"{ip} has no record: nobody holds it") from None

    async def write(found: SpiderIP) -> str:
        return await _give_back(cluster, found, dry_run=dry_run, force=force)

    # Another writer may be the controller, when it notes its suspicion.
    return await compare_and_swap(await read(), write, read, subject=str(ip), lost=(Conflict,))


async def _give_back(cluster: Cluster, found: SpiderIP, *, dry_run: bool, force: bool) -> str:
    """Judge and delete one record."""
    verdict = await judge(cluster, found)
    if verdict.action is not Action.RELEASE and not force:
        raise InvalidRequest(
            f"{found.spec.ip} stays with {who(found)}: {verdict.reason}; "
            "--force releases it all the same"
        )
    told = f"{found.spec.ip} of {who(found)}, pool {found.spec.pool} ({verdict.reason})"
    if dry_run:
        return f"would release {told}"
    meta = found.metadata
    await cluster.delete(SpiderIP, meta.name, uid=meta.uid, resource_version=meta.resource_version)
    lives = verdict.action is not Action.RELEASE
    again = (
        "; while its pod lives, the node's agent may record it again: delete the pod"
        if lives
        else ""
    )
    return f"released {told}{again}"


async def judge(cluster: Cluster, found: SpiderIP) -> Verdict:
    """
    Judge a record from live objects, as the controller's reclaim does.

    What nobody holds may always go.
    """
    if not found.held:
        return Verdict(Action.RELEASE, f"the address is {found.spec.state}")
    holder = found.spec.holder
    try:
        pod = (
            await cluster.get(Pod, holder.name, holder.namespace)
            if holder.kind is HolderKind.POD
            else None
        )
    except NotFound:
        pod = None
    verdict = judge_leak(found, pod, await read_owners(cluster, found))
    if verdict.action is Action.RELEASE and pod is not None and pod.metadata.uid == holder.uid:
        return Verdict(
            Action.KEEP, f"{verdict.reason}: its node gives the address back once it is taken down"
        )
    return verdict


# --- set


@dataclass(frozen=True, slots=True)
class ByHand:
    """What the user says about an address."""

    ip: IPAddress
    pod: str
    namespace: str
    container_id: str
    node: str
    nic: str


async def record(cluster: Cluster, claim: ByHand, features: Features) -> str:
    """
    Record an address for a living pod.

    Raises:
        InvalidRequest: the pod is not what the user says, or no pool has the address.
        AlreadyExists: somebody else holds it.
    """
    pod = await _living_pod(cluster, claim)
    pools = [Pool.parse(pool) for pool in (await cluster.list_objects(SpiderIPPool)).items]
    pool = next(
        (pool for pool in pools if pool.family == claim.ip.version and claim.ip in pool.total), None
    )
    if pool is None:
        raise InvalidRequest(f"{claim.ip} is in no pool; add it to one, then record it")
    owner = await TopOwners(cluster).of(pod)
    holder = pod_holder(pod, owner, features, claim.nic, container_id=claim.container_id)
    wanted = pool_record(pool, claim.ip, holder, static=is_static(owner, features))
    await _refuse_second(cluster, wanted)
    try:
        await cluster.create(wanted)
    except AlreadyExists:
        return await _correct(cluster, claim, wanted, pod)
    return f"recorded {claim.ip} of pool {pool.name} for pod {full_name(pod)} on {claim.nic}"


async def _living_pod(cluster: Cluster, claim: ByHand) -> Pod:
    """Read the pod, which must live on the node that the user names."""
    name = f"pod {claim.namespace}/{claim.pod}"
    try:
        pod = await cluster.get(Pod, claim.pod, claim.namespace)
    except NotFound:
        raise InvalidRequest(
            f"{name} does not exist; an address is recorded for a living pod only"
        ) from None
    if not is_alive(pod):
        raise InvalidRequest(f"{name} has ended; an address is recorded for a living pod only")
    if pod.spec.host_network:
        raise InvalidRequest(f"{name} uses its node's network; it has no address of its own")
    if pod.spec.node_name != claim.node:
        raise InvalidRequest(
            f"{name} is on node {pod.spec.node_name or '(none)'}, not on {claim.node}; correct "
            "--node"
        )
    return pod


async def _refuse_second(cluster: Cluster, wanted: SpiderIP) -> None:
    """Refuse a second address for a claim that has one."""
    key = ClaimKey.of_record(wanted)
    for found in (await cluster.list_objects(SpiderIP, labels=f"{LABEL_KEY}={key.label}")).items:
        if found.held and ClaimKey.of_record(found) == key and found.spec.ip != wanted.spec.ip:
            raise InvalidRequest(
                f"{who(found)} holds {found.spec.ip} on {key.nic} already; release that first"
            )


async def _correct(cluster: Cluster, claim: ByHand, wanted: SpiderIP, pod: Pod) -> str:
    """Correct the record that exists, if it is the pod's own or nobody's."""
    found = await cluster.get(SpiderIP, record_name(claim.ip))
    if found.held and found.spec.holder.uid != pod.metadata.uid:
        raise AlreadyExists(
            f"{claim.ip} is held by {who(found)} from pool {found.spec.pool}; release it first"
        )
    spec = msgspec.structs.replace(
        wanted.spec,
        pool=found.spec.pool,  # never changes
        prefix_length=found.spec.prefix_length,
        routes=found.spec.routes,
        gateway=found.spec.gateway,
        clean_gateway=found.spec.clean_gateway,
    )
    await cluster.replace(record_of(spec, found.metadata))
    return (
        f"corrected the record of {claim.ip}: pod {full_name(pod)}, {claim.nic}, sandbox "
        f"{claim.container_id}"
    )
