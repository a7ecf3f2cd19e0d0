"""The controller as a process of its own, against a real API server."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "enableIPv4: true\nenableIPv6: true\nenableStatefulSet: true\n"
READY_S = 30.0
NAMESPACE = "default"
PROGRAM = str(Path(sys.executable).parent / "spiderpool-controller")


@dataclass(slots=True)
class InformerStore:
    """One running controller; ends by its process id."""

    name: str
    folder: Path
    health_port: int
    webhook_port: int
    metric_port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        name: str,
        kubeconfig: Path,
        folder: Path,
        certificate: tuple[Path, Path] | None,
        **environ: str,
    ) -> InformerStore:
        """Start a controller; with a certificate it serves webhooks."""
        config = folder / "conf.yml"
        config.write_text(CONFIG)
        ports = free_ports(3)
        command = [PROGRAM, "daemon", "--config-path", str(config)]
        if certificate is not None:
            command += [
                "--tls-server-cert",
                str(certificate[0]),
                "--tls-server-key",
                str(certificate[1]),
            ]
        with (folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program
                ["setpriv", "--pdeathsig", "KILL", *command],  # noqa: S607 - wherever the system has it
                env=environment(kubeconfig, name, ports, **environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return cls(name, folder, *ports, process)

    def wait_ready(self) -> None:
        """Wait until readiness answers 200."""
        deadline = time.monotonic() + READY_S
        while self.probe("readiness")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"{self.name} is not ready: {self.probe('readiness')}\n{self.log()}"
                )
            time.sleep(0.1)

    def probe(self, what: str) -> tuple[int, str]:
        """Ask one of kubelet's probes."""
        return fetch(f"http://127.0.0.1:{self.health_port}/v1/runtime/{what}")

    def metrics(self) -> str:
        """Scrape the metrics."""
        return fetch(f"http://127.0.0.1:{self.metric_port}/metrics")[1]

    def log(self) -> str:
        """Return what the process wrote."""
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what the process wrote, line by line; every line is a JSON object."""
        return [json.loads(line) for line in self.log().splitlines()]

    def terminate(self) -> int:
        """End it in peace and give its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=15)

    def kill(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def environment(
    kubeconfig: Path, name: str, ports: tuple[int, int, int], **more: str
) -> dict[str, str]:
    """Write the environment of a controller outside a pod."""
    return {
        "PATH": os.environ["PATH"],
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_POD_NAMESPACE": NAMESPACE,
        "SPIDERPOOL_POD_NAME": name,
        "SPIDERPOOL_HEALTH_PORT": str(ports[0]),
        "SPIDERPOOL_WEBHOOK_PORT": str(ports[1]),
        "SPIDERPOOL_METRIC_HTTP_PORT": str(ports[2]),
        "SPIDERPOOL_ENABLED_METRIC": "true",
        "SPIDERPOOL_ENABLED_DEBUG_METRIC": "true",
        **more,
    }


def fetch(url: str) -> tuple[int, str]:
    """Get a page; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - http on loopback
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


def free_ports(count: int) -> tuple[int, int, int]:
    """Find ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        first, second, third = (each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()
    return first, second, third
