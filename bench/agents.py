"""Agents as processes on this machine, one for each bench node, against the lab's API server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load import call

FIRST_PORT = 15710

CONFIG = """\
ipamUnixSocketPath: {socket}
enableIPv4: true
enableIPv6: true
enableStatefulSet: true
enableSpiderSubnet: false
tuneSysctlConfig: false
"""


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """One running agent."""

    node: str
    socket: str
    metrics_port: int
    process: subprocess.Popen[bytes]

    def counters(self) -> dict[str, float]:
        """Read the agent's counters of its calls to the API server, keyed by `verb resource`."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10
        ) as page:
            text = page.read().decode()
        found: dict[str, float] = {}
        for labels, value in re.findall(
            r"^spiderpool_api_requests_total\{([^}]*)\} (\S+)$", text, re.MULTILINE
        ):
            fields = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            key = f"{fields['verb']} {fields['resource']}"
            found[key] = found.get(key, 0.0) + float(value)
        return found

    def peak_rss_mb(self) -> float:
        """Read the highest resident memory so far, MB."""
        return self._memory_mb("VmHWM")

    def rss_mb(self) -> float:
        """Read the resident memory now, MB."""
        return self._memory_mb("VmRSS")

    def _memory_mb(self, field: str) -> float:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


@contextlib.contextmanager
def running(kubeconfigs: Mapping[str, Path], folder: Path) -> Iterator[dict[str, AgentProcess]]:
    """Start an agent for each node with its kubeconfig, and end them all at the end."""
    with contextlib.ExitStack() as stack:
        agents = {
            node: _start(node, number, kubeconfig, folder)
            for number, (node, kubeconfig) in enumerate(kubeconfigs.items())
        }
        for agent in agents.values():
            stack.callback(_stop, agent.process)
        yield agents


def _start(node: str, number: int, kubeconfig: Path, folder: Path) -> AgentProcess:
    socket = folder / f"{node}.sock"
    config = folder / f"{node}.yml"
    config.write_text(CONFIG.format(socket=socket))
    health, metrics = FIRST_PORT + 10 * number, FIRST_PORT + 10 * number + 1
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_POD_NAMESPACE": "kube-system",
        "SPIDERPOOL_POD_NAME": f"agent-{node}",
        "SPIDERPOOL_NODE_NAME": node,
        "SPIDERPOOL_HEALTH_PORT": str(health),
        "SPIDERPOOL_METRIC_HTTP_PORT": str(metrics),
        "SPIDERPOOL_ENABLED_METRIC": "true",
        "SPIDERPOOL_LOG_LEVEL": "warn",
    }
    with (folder / f"{node}.log").open("wb") as log:
        program = str(Path(sys.executable).parent / "spiderpool-agent")
        process = subprocess.Popen(  # setpriv: it ends with this process, however that ends
            ["setpriv", "--pdeathsig", "KILL", program, "daemon", "--config-path", str(config)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return AgentProcess(node, str(socket), metrics, process)


async def wait_ready(agents: dict[str, AgentProcess], *, timeout_s: float = 60) -> None:
    """Wait until each agent says on its socket that it is healthy."""
    async with asyncio.timeout(timeout_s):
        for agent in agents.values():
            while not (
                Path(agent.socket).exists()
                and (await call(agent.socket, "GET", "/v1/ipam/healthy", b"")).ok
            ):
                if agent.process.poll() is not None:
                    raise RuntimeError(
                        f"the agent of {agent.node} ended with {agent.process.returncode}"
                    )
                await asyncio.sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
