"""
What the API server itself can do.

Creations of real SpiderIPs from four processes, with the agents' identity and client.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import subprocess
import sys
import time
import uuid

import uvloop

from bench.stage import NODES, RAW_POOL, in_flight
from spiderpool.api.crd.group import LABEL_KEY, LABEL_NODE, LABEL_POOL
from spiderpool.api.crd.spiderip import Application, Holder, SpiderIP, SpiderIPSpec
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import NotFound
from spiderpool.kube.connect import connect

PROCESSES = 4
WIDTHS = (10, 25, 100)  # in flight over all processes together
CREATIONS = 2000


def record(number: int) -> SpiderIP:
    """Return a SpiderIP as an agent would, in a network of RFC 2544 that no pool of the lab has."""
    ip = str(ipaddress.ip_address("198.18.0.0") + number)
    uid = str(uuid.UUID(int=number))
    owner = Application(api_version="apps/v1", kind="Deployment", name="raw", uid=uid)
    holder = Holder(
        namespace="bench",
        name=f"raw-{number}",
        uid=uid,
        nic="eth0",
        node=NODES[0],
        container_id="c" + uid,
        owner=owner,
    )
    return SpiderIP(
        api_version=SpiderIP.resource.api_version,
        kind=SpiderIP.resource.kind,
        metadata=ObjectMeta(
            name=ip, labels={LABEL_POOL: RAW_POOL, LABEL_NODE: NODES[0], LABEL_KEY: uid}
        ),
        spec=SpiderIPSpec(
            ip=ip, pool=RAW_POOL, family=4, prefix_length=15, holder=holder, gateway="198.18.0.1"
        ),
    )


async def create_share(kubeconfig: str, first: int, count: int, width: int) -> None:
    """
    One process's share.

    Say when ready, wait for the word, create, print the time taken, then remove.
    """
    async with connect(kubeconfig) as client:
        records = [record(first + i) for i in range(count)]
        # opens the connection
        await client.list_metadata(
            SpiderIP, labels=f"{LABEL_POOL}={RAW_POOL}", resource_version="0"
        )
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        begin = time.time()
        await in_flight(records, client.create, width)
        print(json.dumps([begin, time.time()]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

        async def remove(ip: SpiderIP) -> None:
            with contextlib.suppress(NotFound):
                await client.delete(SpiderIP, ip.metadata.name)

        await in_flight(records, remove, width)


def rate(kubeconfig: str, width: int) -> float:
    """Measure creations a second with `width` in flight, from the first start to the last end."""
    count = CREATIONS // PROCESSES
    command = [sys.executable, "-m", "bench.raw", kubeconfig]
    workers = [
        subprocess.Popen(
            [*command, str(i * count), str(count), str(max(1, width // PROCESSES))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(PROCESSES)
    ]
    spans: list[tuple[float, float]] = []
    for step in ("ready", "spans"):
        for worker in workers:
            line = worker.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise RuntimeError(
                    "a process of the raw measurement ended early; its words are above"
                )
            if step == "spans":
                spans.append(json.loads(line))
        for worker in workers:
            worker.stdin.write("go\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
    for worker in workers:
        worker.wait()
    return CREATIONS / (max(end for _, end in spans) - min(begin for begin, _ in spans))


def best_rate(kubeconfig: str) -> float:
    """Return the best of the widths."""
    return max(rate(kubeconfig, width) for width in WIDTHS)


if __name__ == "__main__":
    uvloop.run(create_share(sys.argv[1], *map(int, sys.argv[2:5])))
