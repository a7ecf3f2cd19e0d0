"""
The coordinator: joins a pod's NIC with its node, checks it, and takes it apart.

Facts, plan, operations: what is there is read once, what must be is decided by `wiring`, only the
difference is carried out. A failed ADD takes back what it did.

Source: docs/reference/coordinator.md; decision 0013.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import structlog

from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.concurrency.keyed_lock import KeyedLock
from spiderpool.agent.concurrency.shield import shielded
from spiderpool.agent.coordinator.mangle_rules import MangleRules
from spiderpool.agent.node.caller import Peer, PodCall, host_of, read_pod
from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.request import Call
from spiderpool.cni.result import Result, parse_result, render
from spiderpool.datapath.coordinator_merge import default_nic, read_coordinator
from spiderpool.datapath.coordinator_plan import plan_attachment
from spiderpool.datapath.coordinator_settings import CoordinatorSettings, Mode
from spiderpool.datapath.diff import Operation, Put, diff, undone
from spiderpool.datapath.layout import VETH, host_end_name
from spiderpool.datapath.plan_types import Kind, Plan, Setting, VethPair, View
from spiderpool.datapath.removal import plan_removal
from spiderpool.errors import (
    BadEnvironment,
    CheckFailed,
    InvalidRequest,
    NotFound,
    SpiderpoolError,
    Unsupported,
)
from spiderpool.kernel import pod_network as kernel
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.neighbour_probe import announce
from spiderpool.kernel.pod_network import PodNetwork, describe
from spiderpool.kernel.rtnetlink import RouteSocket
from spiderpool.model.netns_contents import Rule

# Netlink work at a time. It holds Python's lock most of the time, so more threads only keep the
# event loop from its turns.
WORKERS: Final = 2
# Calls at work at a time, with their programs: enough to keep two processors busy. More end no
# sooner, and the event loop would have to wait for a processor behind all of them.
AT_WORK: Final = 3

R = TypeVar("R")
log = structlog.get_logger(__name__)


class Configs(Protocol):
    """Where the cluster's settings for a pod come from."""

    async def document_of(self, call: PodCall) -> Mapping[str, Any]:
        """Return them in the form of `GET /v1/coordinator/config`."""
        ...


@dataclass(slots=True)
class Done:
    """What one ADD has done so far, for the way back."""

    pair: VethPair | None = None
    pod: list[Operation] = field(default_factory=list)
    node: list[Operation] = field(default_factory=list)
    mangle_rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Begun:
    """An ADD before its last step: `last` are the operations that tell that all is done."""

    view: View
    plan: Plan
    last: tuple[Operation, ...]


class CoordinatorPlugin:
    """Serves the CNI calls of `coordinator`."""

    def __init__(
        self,
        configs: Configs,
        pod_locks: KeyedLock | None = None,
        counted: Callable[[str], AbstractContextManager[None]] = lambda _: nullcontext(),
        report: Callable[[PodCall, str], None] = lambda *_: None,
    ) -> None:
        """
        Begin without any container.

        Args:
            configs: the cluster's settings.
            pod_locks: locks by container; not those of the IPAM or the meta plugin, which
            wait for this one.
            counted: is around each call, and given its command.
            report: told what a pod does not get, for its user.
        """
        self._configs = configs
        self._counted = counted
        self._report = report
        self._pod_locks = pod_locks or KeyedLock()
        self._workers = ThreadPoolExecutor(WORKERS, "wiring")
        self._at_work = asyncio.Semaphore(AT_WORK)  # first come, first served

    async def __call__(self, call: Call, peer: Peer) -> str:
        """Serve one call; gives what the executable prints."""
        container = ("container", call.container_id)
        with self._counted(call.command), host_of(peer) as host:
            match call.command:
                case "ADD":
                    return await self._pod_locks.add(
                        container, call.container_id, self._adding(call, host)
                    )
                case "DEL":
                    await self._pod_locks.delete(
                        container, call.container_id, lambda: shielded(self._delete(call, host))
                    )
                case "CHECK":
                    async with self._pod_locks.of(container):
                        await self._check(call, host)
                case "STATUS" | "GC":
                    pass  # nothing is kept here: what it makes ends with the pod's namespace
                case _:
                    raise Unsupported(f"CNI_COMMAND {call.command} is not supported by coordinator")
        return ""

    async def settle(self) -> None:
        """End all ADDs, and wait until they have taken back what they made."""
        await self._pod_locks.settle()
        self._workers.shutdown(wait=False)

    # --- ADD

    def _adding(self, call: Call, host: Namespaces) -> Callable[[], Any]:
        """
        Return the story of an ADD on namespaces of its own.

        Cancelled, it still takes back what it made.
        """

        async def story() -> str:
            with host.copy() as own:
                return await self._add(call, own)

        return story

    async def _add(self, call: Call, host: Namespaces) -> str:
        result = read_previous(call)
        settings = await self._settings(call)
        if settings.mode is Mode.DISABLED:
            return render(result, call.cni_version)
        async with self._at_work:
            with closing(await self._open(call, host)) as network:
                plan = await self._wire(network, call, settings, host)
        for note in plan.notes:
            log.warning(
                "coordinator",
                pod=f"{call.args.namespace}/{call.args.name}",
                nic=call.ifname,
                note=note,
            )
        for text in plan.left_out:
            self._report(read_pod(call), text)
        return render(with_mac(result, call.ifname, plan), call.cni_version)

    async def _settings(self, call: Call) -> CoordinatorSettings:
        return read_coordinator(call.config, await self._configs.document_of(read_pod(call)))

    async def _open(self, call: Call, host: Namespaces) -> PodNetwork:
        """Open the doors; when nobody waits any more they are closed again."""
        opening = asyncio.ensure_future(host.run(lambda: kernel.open_pod_network(call.netns)))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_opened)
            raise
        except NotFound as error:
            raise BadEnvironment(f"CNI_NETNS: {error.message}") from error

    async def _wire(
        self, network: PodNetwork, call: Call, settings: CoordinatorSettings, host: Namespaces
    ) -> Plan:
        done = Done()
        mangle_rules = MangleRules(network.inside(host))
        try:
            begun = await self._work(lambda: begin(network, call, settings, done))
            families = tuple(
                sorted({item.family for op in begun.last if isinstance(item := op.item, Rule)})
            )
            if families:
                done.mangle_rules = families
                await mangle_rules.make(families, fresh=begun.plan.veth is not None)
                done.pod += begun.last
                await self._work(
                    lambda: kernel.change_pod(network, begun.last, begun.view.pod.links)
                )
            if begun.plan.announce:
                await network.pod_namespace.run(lambda: announce(call.ifname, begun.plan.announce))
        except BaseException:
            await shielded(self._undo(network, done, mangle_rules))
            raise
        return begun.plan

    async def _undo(self, network: PodNetwork, done: Done, mangle_rules: MangleRules) -> None:
        """
        Take back what was done.

        Each part on its own, so that one that fails does not spare the others.
        """
        steps: list[Callable[[], Awaitable[object]]] = [
            lambda: self._work(lambda: kernel.change_pod(network, undone(done.pod), ())),
            lambda: self._work(lambda: kernel.change_node(network, undone(done.node), ())),
            lambda: mangle_rules.remove(done.mangle_rules),
        ]
        if done.pair is not None:
            host = done.pair.host
            steps.append(lambda: self._work(lambda: kernel.remove_link(network.node, host)))
        for step in steps:
            try:
                await step()
            except SpiderpoolError as error:
                log.warning("part of a failed ADD stays", reason=error.message)

    # --- CHECK

    async def _check(self, call: Call, host: Namespaces) -> None:
        """Compare what is there with what an ADD would make now."""
        read_previous(call)
        settings = await self._settings(call)
        if settings.mode is Mode.DISABLED:
            return
        async with self._at_work:
            with closing(await self._open(call, host)) as network:
                missing = await self._work(lambda: find_missing(network, call, settings))
                families = missing.plan.mangle_rules
                wrong = [
                    *missing.words,
                    *(await MangleRules(network.inside(host)).missing(families)),
                ]
        if wrong:
            raise CheckFailed(
                f"interface {call.ifname}: {len(wrong)} missing or wrong: {'; '.join(wrong)}"
            )

    # --- DEL

    async def _delete(self, call: Call, host: Namespaces) -> None:
        """
        Take the NIC apart.

        Without the namespace all went with it but, for a moment, the pair's end on the node.
        """
        nic = default_nic(call.config)
        async with self._at_work:
            try:
                network = await self._open(call, host) if call.netns else None
            except (NotFound, BadEnvironment):
                network = None
            if network is None:
                await host.run(lambda: _remove_from_node(host_end_name(call.container_id)))
                return
            with closing(network):
                plan = await self._work(lambda: take_apart(network, call, nic))
                await MangleRules(network.inside(host)).remove(plan.mangle_rules)

    async def _work(self, work: Callable[[], R]) -> R:
        """Do netlink work in one of the few threads; it is never left half done."""
        return await shielded(_in(self._workers, work))


async def _in(workers: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    return await asyncio.get_running_loop().run_in_executor(workers, work)


def _close_opened(opening: asyncio.Future[PodNetwork]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


# --- in a worker's thread


def begin(network: PodNetwork, call: Call, settings: CoordinatorSettings, done: Done) -> Begun:
    """Look, decide, and do all but the last step; `done` tells what was begun."""
    view = kernel.look(
        network,
        call.ifname,
        call.container_id,
        settings.default_nic,
        VETH,
        host_table=settings.host_table,
    )
    plan = plan_attachment(view, settings)
    pod, node = diff(view.pod.items, plan.pod), diff(view.node.items, plan.node)
    last = tuple(operation for operation in pod if _is_last(operation))
    if plan.veth is not None:
        done.pair = plan.veth
        kernel.make_pair(network, plan.veth)
    done.pod = [operation for operation in pod if operation not in last]
    kernel.change_pod(network, done.pod, view.pod.links)
    done.node = list(node)
    kernel.change_node(network, node, view.node.links)
    return Begun(view, plan, last)


def _is_last(operation: Operation) -> bool:
    """
    Return whether an operation has to wait for the mangle rules.

    The rule that is there tells that they are.
    """
    return (
        isinstance(operation, Put)
        and isinstance(operation.item, Rule)
        and operation.item.mark is not None
    )


@dataclass(frozen=True, slots=True)
class Missing:
    """What CHECK found."""

    plan: Plan
    words: tuple[str, ...]


def find_missing(network: PodNetwork, call: Call, settings: CoordinatorSettings) -> Missing:
    """Compare what is there with the plan."""
    view = kernel.look(
        network,
        call.ifname,
        call.container_id,
        settings.default_nic,
        VETH,
        host_table=settings.host_table,
    )
    plan = plan_attachment(view, settings)
    words = [] if plan.veth is None else [f"veth pair {plan.veth.host} with {plan.veth.pod}"]
    words += wrong_mtus(view, settings)
    for place, operations in (
        ("pod", diff(view.pod.items, plan.pod)),
        ("node", diff(view.node.items, plan.node)),
    ):
        words += [f"{describe(operation.item)} ({place})" for operation in operations]
    return Missing(plan, tuple(words))


def wrong_mtus(view: View, settings: CoordinatorSettings) -> list[str]:
    """Name the ends of the coordinator's pair whose MTU is not as an ADD would make it."""
    pair = view.pod.link(VETH)
    if pair is None:
        return []
    ends = [("pod", pair), *([] if view.host_end is None else [("node", view.host_end)])]
    return [
        f"MTU {settings.veth_mtu} of {end.name} ({place}), which has {end.mtu}"
        for place, end in ends
        if end.mtu != settings.veth_mtu
    ]


def take_apart(network: PodNetwork, call: Call, nic: str) -> Plan:
    """Look, decide, and remove what belongs to the NIC."""
    view = kernel.look(
        network, call.ifname, call.container_id, nic, VETH, told=told_addresses(call)
    )
    plan = plan_removal(view, CoordinatorSettings(default_nic=nic), told_addresses(call))
    kernel.change_node(network, diff(view.node.items, plan.node), view.node.links)
    kernel.change_pod(network, diff(view.pod.items, plan.pod), view.pod.links)
    if call.ifname == nic:
        # By the name that ADD gave it, whatever the pod says: nothing else on the node is ours.
        kernel.remove_link(network.node, host_end_name(call.container_id))
    return plan


def _remove_from_node(name: str) -> None:
    with RouteSocket() as node:
        kernel.remove_link(node, name)


# --- results


def read_previous(call: Call) -> Result:
    """Return the result of the plugin before. Raises `InvalidRequest` when there is none."""
    previous = lookup(call.config, "prevResult")
    if not isinstance(previous, Mapping):
        raise InvalidRequest(
            "coordinator: prevResult is missing; chain coordinator after the plugin that makes the "
            "interface"
        )
    return parse_result(previous)


def told_addresses(call: Call) -> tuple[IPAddress, ...]:
    """Return the NIC's addresses by ADD's result, which DEL has where the runtime kept it."""
    previous = lookup(call.config, "prevResult")
    try:
        return (
            tuple(ip.address.ip for ip in parse_result(previous).ips)
            if isinstance(previous, Mapping)
            else ()
        )
    except SpiderpoolError:
        return ()


def with_mac(result: Result, ifname: str, plan: Plan) -> Result:
    """Return the result with the MAC that the NIC has now."""
    macs = [
        item.value
        for item in plan.pod.present
        if isinstance(item, Setting) and item.place == (Kind.MAC, ifname)
    ]
    interfaces = tuple(
        replace(interface, mac=macs[0])
        if macs and interface.name == ifname and interface.sandbox
        else interface
        for interface in result.interfaces
    )
    return replace(result, interfaces=interfaces)
