"""
A pod as its kernel has it: interfaces, routes, and what it reaches.

Found by the pod's UID in /proc, not by the API server: it also answers while that one is down.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Final

from tests.lab.networks import IPAddress, is_underlay


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table, as far as a test looks at it."""

    dst: str
    nic: str
    gateway: str = ""


ASK_NAME: Final = r"""
import socket, sys
with socket.create_connection((sys.argv[1], 80), 2) as connection:
    connection.sendall(b"GET /name HTTP/1.0\r\n\r\n")
    answer = b"".join(iter(lambda: connection.recv(4096), b""))
print(answer.decode().rpartition("\r\n\r\n")[2])
"""


class Inside:
    """The network namespace of a pod."""

    def __init__(self, uid: str) -> None:
        """Find a process of the pod."""
        processes = processes_of(uid)
        assert processes, f"no process of pod {uid} runs on this machine"
        self._enter = ["nsenter", f"--net=/proc/{processes[0]}/ns/net", "--"]

    def run(self, *command: str, timeout_s: float = 20) -> subprocess.CompletedProcess[str]:
        """Run a program of the machine in the pod's network; the caller looks at the exit code."""
        return subprocess.run(
            [*self._enter, *command], capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def addresses(self) -> dict[str, list[str]]:
        """Give each NIC's addresses with prefix length, link-local and loopback ones left out, IPv4 first."""
        shown = json.loads(self._need("ip", "-j", "address", "show"))
        return {
            link["ifname"]: [
                f"{info['local']}/{info['prefixlen']}"
                for info in link["addr_info"]
                if info["scope"] == "global"
            ]
            for link in shown
            if link["ifname"] != "lo"
        }

    def mac(self, nic: str) -> str:
        """Return a NIC's hardware address."""
        return json.loads(self._need("ip", "-j", "link", "show", "dev", nic))[0]["address"]

    def underlay(self) -> set[tuple[str, IPAddress]]:
        """Return the pairs of NIC and underlay address."""
        pairs = {
            (nic, ip_interface(text).ip)
            for nic, texts in self.addresses().items()
            for text in texts
        }
        return {(nic, ip) for nic, ip in pairs if is_underlay(ip)}

    def routes(self, family: int) -> list[Route]:
        """Return the main table, the kernel's own connected and link-local routes left out."""
        shown = json.loads(self._need("ip", f"-{family}", "-j", "route", "show", "table", "main"))
        return [
            Route(route["dst"], route["dev"], route.get("gateway", ""))
            for route in shown
            if route.get("protocol") != "kernel"
        ]

    def pings(self, address: IPAddress | str) -> bool:
        """Return whether an echo request is answered within a second."""
        return self.run("busybox", "ping", "-c", "1", "-W", "1", str(address)).returncode == 0

    def reads(self, address: IPAddress | str) -> str:
        """
        Return what the web server at an address says its name is.

        Nothing when it does not answer.
        """
        return self.run(*fetch(address)).stdout.strip()

    def _need(self, *command: str) -> str:
        """Run a program that must succeed, and give what it printed."""
        done = self.run(*command)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout


def fetch(address: IPAddress | str) -> list[str]:
    """
    Return the command that asks a pod for its name over TCP (the machine's static busybox cannot.

    Its wget crashes).
    """
    return [sys.executable, "-ISc", ASK_NAME, str(address)]


def processes_of(uid: str) -> list[int]:
    """Return the processes of a pod by its UID, which is part of their control group's path."""
    mark = f"pod{uid}"
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "cgroup").read_text()
            except OSError:
                continue  # it ended meanwhile
            if mark in text:
                found.append(int(entry.name))
    return sorted(found)
