"""
A node, a switch and pods made of real namespaces.

What main plugins and Calico would make is made by `ip`.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.agent.node.caller import PodCall
from spiderpool.cni.request import Call, CniRequest, parse_call
from tests.contract.meta.node import Node, PodNetns, node, pod_netns, sh

GATEWAYS = {"ens192": ("10.6.0.1/16", "fd00:6::1/64"), "ens224": ("10.7.0.1/16", "fd00:7::1/64")}
NODE = {
    "ens192": ("10.6.168.121/16", "fd00:6::121/64"),
    "ens224": ("10.7.168.71/16", "fd00:7::71/64"),
}
HIJACK = {
    "overlayPodCIDR": ["10.233.64.0/18"],
    "serviceCIDR": ["10.233.0.0/18"],
    "hijackCIDR": ["169.254.0.0/16"],
}
_SERIAL = itertools.count()


@dataclass
class FixedConfigs:
    """The cluster's settings, as a test wants them."""

    document: dict[str, Any] = field(
        default_factory=lambda: {"mode": "auto", "tunePodRoutes": True, **HIJACK}
    )

    async def document_of(self, call: PodCall) -> dict[str, Any]:
        """Return them."""
        del call
        return self.document


@dataclass
class PodNics:
    """One pod: its namespace and what was made in it."""

    node: Node
    netns: PodNetns
    container: str

    def macvlan(self, name: str, master: str, *cidrs: str, gateways: bool = True) -> dict[str, Any]:
        """Make a NIC as the macvlan plugin does, and give its result."""
        temporary = f"m{next(_SERIAL)}"
        self.node.in_node(
            "ip",
            "link",
            "add",
            temporary,
            "link",
            master,
            "netns",
            self.netns.path,
            "type",
            "macvlan",
            "mode",
            "bridge",
        )
        self.netns.ip("link", "set", temporary, "name", name, "up")
        for cidr in cidrs:
            self.netns.ip("addr", "add", cidr, "dev", name, *(["nodad"] if ":" in cidr else []))
            gateway = GATEWAYS[master][":" in cidr].partition("/")[0]
            if gateways:
                family = "-6" if ":" in cidr else "-4"
                self.netns.ip(family, "route", "append", "default", "via", gateway, "dev", name)
        return self.result(name, *cidrs)

    def calico(self, cidr: str) -> dict[str, Any]:
        """Make eth0 as Calico does."""
        self.node.in_node(
            "ip",
            "link",
            "add",
            self.cali,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            self.netns.path,
        )
        self.node.in_node("ip", "link", "set", self.cali, "up", "address", "ee:ee:ee:ee:ee:ee")
        self.node.in_node("sysctl", "-qw", f"net.ipv4.conf.{self.cali}.proxy_arp=1")
        self.netns.ip("link", "set", "eth0", "up")
        self.netns.ip("addr", "add", cidr, "dev", "eth0")
        self.netns.ip("route", "add", "169.254.1.1", "dev", "eth0", "scope", "link")
        self.netns.ip("route", "add", "default", "via", "169.254.1.1", "dev", "eth0")
        self.node.in_node("ip", "route", "add", cidr, "dev", self.cali, "scope", "link")
        return self.result("eth0", cidr)

    @property
    def cali(self) -> str:
        """Name of the node's end of Calico's pair."""
        return f"cali{self.container[:11]}"

    @property
    def veth(self) -> str:
        """Name of the node's end of the coordinator's pair."""
        return f"veth{self.container[:11]}"

    def result(self, name: str, *cidrs: str) -> dict[str, Any]:
        """Return a main plugin's result."""
        mac = msgspec.json.decode(self.netns.ip("-j", "link", "show", name))[0]["address"]
        return {
            "cniVersion": "1.0.0",
            "interfaces": [{"name": name, "mac": mac, "sandbox": self.netns.path}],
            "ips": [{"address": cidr, "interface": 0} for cidr in cidrs],
        }

    def routes(self, table: int | str = "main", family: int = 4) -> set[str]:
        """Show a table of the pod."""
        command = [
            "nsenter",
            f"--net={self.netns.path}",
            "ip",
            f"-{family}",
            "route",
            "show",
            "table",
            str(table),
        ]
        # A table that was never used is an error to `ip`, and empty to us.
        done = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
        return shown(done.stdout, family)

    def fill_tables(self, first: int, last: int) -> None:
        """Let somebody else use these tables of the pod."""
        lines = "".join(
            f"route add 10.50.0.0/16 dev eth0 table {table}\n" for table in range(first, last + 1)
        )
        command = ["nsenter", f"--net={self.netns.path}", "ip", "-batch", "-"]
        subprocess.run(command, check=True, capture_output=True, text=True, input=lines)  # noqa: S603

    def rules(self, family: int = 4) -> set[str]:
        """Show the pod's rules."""
        return shown(self.netns.ip(f"-{family}", "rule").replace("from all ", ""))

    def neighbours(self) -> set[str]:
        """Show the pod's permanent neighbours."""
        return shown(self.netns.ip("neigh", "show", "nud", "permanent"))

    def mangle(self, program: str = "iptables") -> list[str]:
        """Show the pod's mangle rules."""
        text = sh("nsenter", f"--net={self.netns.path}", program, "-t", "mangle", "-S")
        return [line for line in text.splitlines() if line.startswith("-A")]

    def mac(self, name: str) -> str:
        """Return the MAC of a link of the pod."""
        return str(msgspec.json.decode(self.netns.ip("-j", "link", "show", name))[0]["address"])


@dataclass
class Stage:
    """All of it, and the coordinator that a test drives."""

    node: Node
    switch: PodNetns
    configs: FixedConfigs
    plugin: CoordinatorPlugin

    @contextlib.contextmanager
    def pod(self, container: str = "db6cd3880ab1234567890") -> Iterator[PodNics]:
        """Make a pod without a NIC."""
        with pod_netns() as made:
            yield PodNics(self.node, made, container)

    def call(
        self, command: str, pod: PodNics, ifname: str, previous: Any = None, **config: Any
    ) -> Call:
        """Make a call of the runtime."""
        document = {"cniVersion": "1.0.0", "name": "under", "type": "coordinator", **config}
        if previous is not None:
            document["prevResult"] = previous
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": pod.netns.path,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p1;K8S_POD_UID=u1",
            "CNI_PATH": "/nowhere",
        }
        return parse_call(CniRequest("coordinator", env, document))

    async def run(
        self, command: str, pod: PodNics, ifname: str, previous: Any = None, **config: Any
    ) -> Any:
        """Serve a call; gives the decoded output, None when there is none."""
        text = await self.plugin(
            self.call(command, pod, ifname, previous, **config), self.node.peer
        )
        return msgspec.json.decode(text) if text else None

    async def warm_up(self, *cidrs: str) -> None:
        """Add and remove a pod, so that the node has what all pods share."""
        with self.pod("warm") as warm:
            await self.run("ADD", warm, "eth0", warm.macvlan("eth0", "ens192", *cidrs))
            await self.run("DEL", warm, "eth0")

    def node_routes(self, table: int | str = 500, family: int = 4) -> set[str]:
        """Show a table of the node."""
        return shown(
            self.node.in_node("ip", f"-{family}", "route", "show", "table", str(table)), family
        )

    def node_rules(self, family: int = 4) -> set[str]:
        """Show the node's rules."""
        return shown(self.node.in_node("ip", f"-{family}", "rule").replace("from all ", ""))

    def node_neighbours(self) -> set[str]:
        """Show the node's permanent neighbours."""
        return shown(self.node.in_node("ip", "neigh", "show", "nud", "permanent"))

    def node_links(self) -> set[str]:
        """Name the node's links."""
        return {
            link["ifname"] for link in msgspec.json.decode(self.node.in_node("ip", "-j", "link"))
        }

    def node_mac(self, name: str) -> str:
        """Return the MAC of a link of the node."""
        return str(
            msgspec.json.decode(self.node.in_node("ip", "-j", "link", "show", name))[0]["address"]
        )

    def everything(self, pod: PodNics | None = None) -> tuple[set[str], ...]:
        """Show all that a call could leave; links of the pod by name."""
        found: list[set[str]] = [self.node_links(), self.node_neighbours()]
        for family in (4, 6):
            found += [self.node_routes("all", family), self.node_rules(family)]
        if pod is not None:
            found += [
                {link["ifname"] for link in msgspec.json.decode(pod.netns.ip("-j", "link"))},
                pod.neighbours(),
            ]
            for family in (4, 6):
                found += [pod.routes("all", family), pod.rules(family)]
            found += [set(pod.mangle()), set(pod.mangle("ip6tables"))]
        return tuple(found)


_HIDDEN = (" proto kernel", " proto static", " proto boot", " pref medium", " linkdown", " onlink")


def shown(text: str, family: int = 4) -> set[str]:
    """
    Read lines of `ip`.

    What the reference does not show, or the kernel makes by itself, is left out.
    """
    lines = set()
    for line in text.splitlines():
        shorter = line
        for words in _HIDDEN:
            shorter = shorter.replace(words, "")
        shorter = " ".join(shorter.split())
        by_itself = shorter.startswith(
            ("local ", "broadcast ", "multicast ", "anycast ", "fe80::", "ff00::")
        )
        if shorter and not by_itself and not (family == 6 and shorter.endswith("dev lo")):
            lines.add(shorter)
    return lines


def believe_every_gateway(patch: pytest.MonkeyPatch) -> None:
    """
    Let the plan contain routes that the kernel refuses.

    An ADD fails in the middle of its batch.
    """
    patch.setattr("spiderpool.datapath.coordinator_plan.gateway_refusal", lambda *_: None)


@contextlib.contextmanager
def stage(home: Path) -> Iterator[Stage]:
    """Make the stage; what was made goes at the end."""
    with node(home) as made, pod_netns() as switch:
        made.in_node("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0")
        for master, addresses in GATEWAYS.items():
            made.in_node(
                "ip",
                "link",
                "add",
                master,
                "type",
                "veth",
                "peer",
                "name",
                f"b{master}",
                "netns",
                switch.path,
            )
            made.in_node("ip", "link", "set", master, "up")
            switch.ip("link", "add", f"br{master}", "type", "bridge")
            switch.ip("link", "set", f"b{master}", "master", f"br{master}", "up")
            switch.ip("link", "set", f"br{master}", "up")
            for cidr in addresses:
                switch.ip(
                    "addr", "add", cidr, "dev", f"br{master}", *(["nodad"] if ":" in cidr else [])
                )
        for master, cidrs in NODE.items():
            made.in_node("ip", "addr", "add", cidrs[0], "dev", master)
        _wait_until_up(switch)
        configs = FixedConfigs()
        yield Stage(made, switch, configs, CoordinatorPlugin(configs))


def _wait_until_up(switch: PodNetns) -> None:
    """
    Wait until the switch passes frames on.

    The kernel notices that a new link is up a moment later.
    """
    deadline = time.monotonic() + 10
    while any(
        link["operstate"] != "UP"
        for link in msgspec.json.decode(switch.ip("-j", "link"))
        if link["ifname"] != "lo"
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def dual(ground: Stage) -> None:
    """Return the node IPv6 addresses too."""
    for master, cidrs in NODE.items():
        ground.node.in_node("ip", "addr", "add", cidrs[1], "dev", master, "nodad")
