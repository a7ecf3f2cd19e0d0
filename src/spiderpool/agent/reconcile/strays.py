"""
Addresses of pools in namespaces of this node where no pod lives, and that somebody else may have.

A fixed address goes to the next pod of its name at once, on whatever node; an address that rests,
or has no record, may be given to anybody. What the former pod left behind must not answer for it.

Source: docs/reference/release-and-reclaim.md#fencing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import structlog

from spiderpool.addressing.ranges import record_name
from spiderpool.addressing.sets import IPAddress
from spiderpool.agent.informers import Informers
from spiderpool.agent.reconcile.sightings import (
    Fence,
    Look,
    Sightings,
    has_address,
    is_gone,
    name_of,
)
from spiderpool.api.agent.interfaces import InUseNamespace
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import SpiderpoolError, TryAgain
from spiderpool.kube.cluster import Change, Cluster, if_exists
from spiderpool.model.pod import runtime_uids
from spiderpool.model.pool import Pool
from spiderpool.records.lost_records import only_home
from spiderpool.records.verdicts import Action, NamespaceUse, judge_stray

EVERY_S: Final = 60.0
GATHER_S: Final = 0.2
RETRY_S: Final = 5.0

log = structlog.get_logger(__name__)


class Strays:
    """Takes addresses off namespaces that outlived their pods."""

    def __init__(
        self,
        cluster: Cluster,
        informers: Informers,
        *,
        node: str,
        pools: Callable[[], Mapping[str, Pool]],
        look: Look,
        fence: Fence,
        on_fenced: Callable[[str, str], None],
    ) -> None:
        """
        Follow the records from now on.

        Args:
            cluster: the store.
            informers: this node's pods and records.
            node: name of this agent's node.
            pools: gives the pools as they are now.
            look: into the kernel.
            fence: takes addresses off namespaces.
            on_fenced: told of which pool each address was, and in which words.
        """
        self._cluster = cluster
        self._informers = informers
        self._node = node
        self._pools = pools
        self._look = look
        self._fence = fence
        self._on_fenced = on_fenced
        self._sightings = Sightings()
        self._news = asyncio.Event()
        informers.records.subscribe(self._follow)

    async def run(self) -> None:
        """Look from time to time, and when a record changes hands; ends by being cancelled."""
        while True:
            try:
                wait_s = await self._round()
            except (SpiderpoolError, OSError) as error:
                log.warning("namespaces cannot be compared with records now", reason=str(error))
                wait_s = RETRY_S
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
                    await asyncio.sleep(GATHER_S)
            self._news.clear()

    def _follow(self, _: Change, old: SpiderIP | None, new: SpiderIP | None) -> None:
        if old is not None and old.held and (new is None or new.spec.holder != old.spec.holder):
            self._news.set()

    async def _round(self) -> float:
        """Look at all namespaces where no pod lives; gives after which time to look again."""
        in_use = await self._look()
        living = runtime_uids(self._informers.pods)
        wait_s = EVERY_S * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load
        pools = tuple(self._pools().values())
        for each in in_use:
            # without processes nobody can say whose it was: an administrator's, perhaps
            if not each.pod_uid or not is_gone(each, living):
                continue
            for ip in sorted({ip for _, ip in each.pairs}, key=str):
                pool = only_home(ip, pools)
                if pool is not None:
                    wait_s = min(wait_s, await self._judge(each, ip, pool) or wait_s)
        return wait_s

    async def _judge(self, namespace: InUseNamespace, ip: IPAddress, pool: Pool) -> float:
        """Judge one address and act on it; gives after which time to look again, 0 = whenever."""
        seen = self._sightings.of(f"{namespace.inode} {ip}", [namespace], time.monotonic())
        use = NamespaceUse(name_of(namespace), gone=True, seen_s=seen[namespace.inode])
        record = await if_exists(self._cluster.get(SpiderIP, record_name(ip)))
        verdict = judge_stray(record, use, namespace.pod_uid)
        if verdict.action is not Action.FENCE:
            return verdict.patience_s
        await self._confirm(namespace)
        await self._fence(namespace, ip)
        after = [each for each in await self._look() if each.inode == namespace.inode]
        if any(has_address(each, ip) for each in after):
            raise TryAgain(f"{ip} cannot be taken off {use.where}")
        text = (
            f"{ip} was taken off {use.where} of node {self._node}: its pod is gone, "
            f"and {verdict.reason}"
        )
        log.warning("address fenced", ip=str(ip), namespace=use.where, reason=verdict.reason)
        self._on_fenced(pool.name, text)
        return 0.0

    async def _confirm(self, namespace: InUseNamespace) -> None:
        """
        Read live that nobody lives in a namespace.

        Raises:
            TryAgain: somebody does, the informer is late.
        """
        listing = await self._cluster.list_objects(Pod, fields=f"spec.nodeName={self._node}")
        if not is_gone(namespace, runtime_uids(listing.items)):
            raise TryAgain(f"pod UID {namespace.pod_uid} exists")
