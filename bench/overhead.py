"""
Small latencies, one call after another.

The executable's own time, and pools of very different sizes.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import statistics
import subprocess
import time
from collections import deque
from pathlib import Path

from bench.agents import AgentProcess
from bench.load import call, request_of
from bench.stage import Stage
from spiderpool.agent.node.installation import SOCKET_FILE
from spiderpool.api.kubernetes.core import Pod

CALLS = 200


async def add_one_by_one(socket: str, pods: list[Pod]) -> list[float]:
    """ADD for each pod over the socket, one after another; milliseconds each."""
    times = []
    for pod in pods:
        answer = await call(socket, "POST", "/v1/ipam/ip", request_of(pod))
        if not answer.ok:
            raise RuntimeError(answer.body.decode())
        times.append(answer.seconds * 1000)
    return times


async def wire_once(socket: str, pod: Pod) -> float:
    """Make the call that the executable makes, without the executable; milliseconds."""
    environment, config = cni_call(pod, socket)
    body = json.dumps({"plugin": "spiderpool", "env": environment, "config": config}).encode()
    answer = await call(socket, "POST", "/v1/cni", body)
    if not answer.ok or json.loads(answer.body)["exitCode"] != 0:
        raise RuntimeError(answer.body.decode())
    return answer.seconds * 1000


def execute_once(socket: str, pod: Pod, executable: Path) -> float:
    """Run the executable as a main plugin would; milliseconds from start to end."""
    environment, config = cni_call(pod, socket)
    begin = time.perf_counter()
    # open files stay as they are: closing them one by one is this process's time, not the
    # executable's
    done = subprocess.run(
        [str(executable)],
        env={**environment, "PATH": os.environ["PATH"]},
        input=json.dumps(config).encode(),
        capture_output=True,
        close_fds=False,
        check=False,
    )
    elapsed = (time.perf_counter() - begin) * 1000
    if done.returncode != 0:
        raise RuntimeError(done.stdout.decode())
    return elapsed


def copy_for(socket: str, executable: Path) -> Path:
    """
    Copy the executable beside an agent's socket.

    Its configuration does not choose the socket.
    """
    folder = Path(socket).parent / "executable"
    folder.mkdir(exist_ok=True)
    (folder / SOCKET_FILE).write_text(socket)
    return Path(shutil.copy(executable, folder))


def cni_call(pod: Pod, socket: str) -> tuple[dict[str, str], dict[str, object]]:
    """
    Write environment and configuration of an ADD.

    A repeated one meets its own record, so that only the way is measured.
    """
    meta = pod.metadata
    arguments = f"IgnoreUnknown=1;K8S_POD_NAMESPACE={meta.namespace};K8S_POD_NAME={meta.name}"
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": f"c{pod.metadata.uid.replace('-', '')}",
        "CNI_NETNS": f"/var/run/netns/{pod.metadata.name}",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": f"{arguments};K8S_POD_UID={pod.metadata.uid}",
        "CNI_PATH": "/opt/cni/bin",
    }
    config: dict[str, object] = {
        "cniVersion": "1.0.0",
        "name": "bench",
        "type": "macvlan",
        "ipam": {"type": "spiderpool", "ipam_unix_socket_path": socket},
    }
    return environment, config


async def executable_overhead(
    stage: Stage, agent: AgentProcess, executable: Path
) -> dict[str, float]:
    """
    Compare the executable with a bare call of the same content, in turn, on an idle agent.

    P50 of both, ms.
    """
    await stage.make_pool("bench-exec", "198.21.0.0/16", "198.21.0.1-198.21.0.9")
    pod = (await stage.make_pods(1, "bench-exec", "bench-exec"))[0]
    await asyncio.sleep(1)
    await add_one_by_one(agent.socket, [pod])
    bare, whole = [], []
    own = copy_for(agent.socket, executable)
    for _ in range(CALLS):
        bare.append(await wire_once(agent.socket, pod))
        whole.append(await asyncio.to_thread(execute_once, agent.socket, pod, own))
    await stage.remove_pods()
    await stage.remove_pool("bench-exec")
    return {
        "agent_p50_ms": round(statistics.median(bare), 3),
        "executable_p50_ms": round(statistics.median(whole), 3),
        "added_ms": round(statistics.median(whole) - statistics.median(bare), 3),
    }


POOLS = {
    "bench-slash24": ("198.22.0.0/24", "198.22.0.1-198.22.0.254", 4),
    "bench-slash8": ("11.0.0.0/8", "11.0.0.1-11.255.255.254", 4),
    "bench-v6": ("fd00:198:22::/64", "fd00:198:22::1-fd00:198:22:0:ffff:ffff:ffff:ffff", 6),
}


async def pool_sizes(
    stage: Stage, agent: AgentProcess, *, pods_a_pool: int = 200
) -> list[dict[str, float | str]]:
    """
    Compare ADDs into pools of 2**8, 2**24 and 2**64 addresses: p50 as a ratio, and memory.

    The pools take turns with every single ADD, and the order of the turns goes round, so that
    whatever else the machine does meanwhile falls on all of them alike. The memory is that of the
    pool's first quarter of ADDs, made before.
    """
    pods: dict[str, list[Pod]] = {}
    grown: dict[str, float] = {}
    for name, (subnet, ips, family) in POOLS.items():
        pods[name] = await stage.make_pods(pods_a_pool, name, name, family=family)
        await asyncio.sleep(2)
        before = agent.rss_mb()
        await stage.make_pool(name, subnet, ips)
        await asyncio.sleep(2)
        await add_one_by_one(agent.socket, pods[name][: pods_a_pool // 4])
        grown[name] = agent.rss_mb() - before
    times: dict[str, list[float]] = {name: [] for name in POOLS}
    names = deque(POOLS)
    for number in range(pods_a_pool // 4, pods_a_pool):
        for name in names:
            times[name] += await add_one_by_one(agent.socket, [pods[name][number]])
        names.rotate()
    await stage.remove_pods()
    for pod in itertools.chain.from_iterable(pods.values()):
        await call(agent.socket, "DELETE", "/v1/ipam/ip", request_of(pod))
    p50 = {name: statistics.median(times[name]) for name in POOLS}
    for name in POOLS:
        await stage.remove_pool(name)
    return [
        {
            "pool": name,
            "p50_ms": p50[name],
            "ratio": p50[name] / p50["bench-slash24"],
            "memory_mb": grown[name],
        }
        for name in POOLS
    ]
