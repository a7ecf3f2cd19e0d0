"""A node and pods made of real namespaces: what the meta plugin's tests stand on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import msgspec

from spiderpool.agent.multus.plugin import MetaPlugin
from spiderpool.agent.node.caller import Peer
from spiderpool.api.kubernetes.core import (
    NetworkAttachmentDefinition,
    NetworkAttachmentDefinitionSpec,
    Pod,
)
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cni.request import Call, CniRequest, parse_call
from spiderpool.model.event_reasons import EventReason
from spiderpool.networks.meta_config import NodePolicy
from tests.fakes.cluster import FakeCluster

_SERIAL = itertools.count()

# A plugin that keeps what it is given, and answers what the test laid out.
RECORDER = """#!/bin/sh
home={home}
call=$(mktemp -d $home/calls/XXXXXX)
began=$(date +%s%N)
env | grep ^CNI_ > $call/env
cat > $call/stdin
echo $began > $call/new && mv $call/new $call/time
for way in $CNI_COMMAND-$CNI_IFNAME $CNI_COMMAND; do
  [ -f $home/fail/$way ] && {{ cat $home/fail/$way; exit 1; }}
  [ -f $home/hang/$way ] && sleep 30
done
[ $CNI_COMMAND = ADD ] || exit 0
if [ -f $home/result/$CNI_IFNAME ]; then cat $home/result/$CNI_IFNAME; exit; fi
cat << END
{{"cniVersion": "1.0.0", "interfaces": [{{"name": "$CNI_IFNAME", "sandbox": "$CNI_NETNS"}}],
 "ips": [{{"address": "10.9.0.5/24", "interface": 0}}]}}
END
"""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call that a recorder got."""

    at_ns: int
    env: Mapping[str, str]
    stdin: dict[str, Any]

    @property
    def what(self) -> str:
        """Verb and interface."""
        return f"{self.env['CNI_COMMAND']} {self.env.get('CNI_IFNAME', '')}".strip()

    @property
    def args(self) -> list[tuple[str, str]]:
        """`CNI_ARGS` as pairs."""
        return [
            (key, value)
            for key, _, value in (pair.partition("=") for pair in self.env["CNI_ARGS"].split(";"))
        ]


@dataclass(slots=True)
class Reported:
    """Events that would have been written."""

    events: list[tuple[str, str, str]] = field(default_factory=list)

    def record(self, about: Pod, reason: EventReason, message: str, /) -> None:
        """Keep an Event."""
        self.events.append((about.metadata.name, reason, message))


@dataclass(slots=True)
class Node:
    """A network and mount namespace of its own, folders for CNI, an API server in memory, and the meta plugin."""

    home: Path
    pid: int
    cluster: FakeCluster
    reported: Reported
    plugin: MetaPlugin

    @property
    def peer(self) -> Peer:
        """The caller."""
        return Peer.of_process(self.pid)

    def config(self, **more: Any) -> dict[str, Any]:
        """Return the meta plugin's configuration."""
        return {
            "cniVersion": "1.0.0",
            "name": "multus-cni-network",
            "type": "spiderpool-multus",
            "clusterNetwork": "cluster",
            "confDir": str(self.home / "net.d"),
            "cniDir": str(self.home / "cache"),
            "binDir": str(self.home / "bin"),
            "multusNamespace": "spiderpool",
        } | more

    def call(
        self, command: str, container: str = "c1", netns: str = "", pod: str = "p1", **more: Any
    ) -> Call:
        """Make a call of the runtime."""
        uid = more.pop("uid", f"uid-{pod}")
        names = f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_UID={uid}"
        args = f"IgnoreUnknown=1;{names};K8S_POD_INFRA_CONTAINER_ID={container}"
        env = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": more.pop("args", args if pod else ""),
            "CNI_PATH": more.pop("path", "/nowhere"),
            "PATH": os.environ["PATH"],
        }
        return parse_call(CniRequest("spiderpool-multus", env, self.config(**more)))

    async def run(
        self, command: str, *, container: str = "c1", netns: str = "", pod: str = "p1", **more: Any
    ) -> str:
        """Make a call and serve it."""
        return await self.plugin(self.call(command, container, netns, pod, **more), self.peer)

    def define(
        self, name: str, config: Any, namespace: str = "default", **annotations: str
    ) -> None:
        """Create a NetworkAttachmentDefinition."""
        text = config if isinstance(config, str) else msgspec.json.encode(config).decode()
        self.cluster.seed(
            NetworkAttachmentDefinition(
                metadata=ObjectMeta(name=name, namespace=namespace, annotations=annotations),
                spec=NetworkAttachmentDefinitionSpec(config=text),
            )
        )

    def pod(
        self,
        networks: Any = "",
        name: str = "p1",
        uid: str = "",
        namespace: str = "default",
        **annotations: str,
    ) -> None:
        """Create a pod that asks for networks."""
        text = networks if isinstance(networks, str) else msgspec.json.encode(networks).decode()
        asked = {"k8s.v1.cni.cncf.io/networks": text} if text else {}
        meta = ObjectMeta(
            name=name,
            namespace=namespace,
            uid=uid or f"uid-{name}",
            annotations={**asked, **annotations},
        )
        self.cluster.seed(Pod(metadata=meta))

    async def status(self, name: str = "p1") -> Any:
        """Read the network status of a pod, None when there is none."""
        pod = await self.cluster.get(Pod, name, "default")
        text = pod.metadata.annotations.get("k8s.v1.cni.cncf.io/network-status")
        return None if text is None else msgspec.json.decode(text)

    def calls(self, *, network: str = "") -> list[Recorded]:
        """
        Return what the recorders got, in the order of time.

        One that has not read its input yet is not there.
        """
        found = [_read_call(file.parent) for file in (self.home / "calls").glob("*/time")]
        found.sort(key=lambda call: call.at_ns)
        return [call for call in found if not network or call.stdin["name"] == network]

    def forget_calls(self) -> None:
        """Forget what the recorders got."""
        for folder in (self.home / "calls").iterdir():
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    def fail(self, way: str, code: int = 100, message: str = "as the test wants") -> None:
        """Let recorders fail, by verb, or verb and interface."""
        (self.home / "fail" / way).write_text(
            msgspec.json.encode({"code": code, "msg": message}).decode()
        )

    def heal(self) -> None:
        """Let recorders work again."""
        for file in (self.home / "fail").iterdir():
            file.unlink()

    def answer(self, ifname: str, result: Any) -> None:
        """Let recorders answer ADD for an interface with this."""
        text = result if isinstance(result, str) else msgspec.json.encode(result).decode()
        (self.home / "result" / ifname).write_text(text)

    def cached(self) -> list[str]:
        """List the files that are kept about containers."""
        cache = self.home / "cache"
        return sorted(str(file.relative_to(cache)) for file in cache.rglob("*") if file.is_file())

    def in_node(self, *command: str) -> str:
        """Run a command in the node's namespaces."""
        return sh(
            "nsenter",
            f"--net=/proc/{self.pid}/ns/net",
            f"--mount=/proc/{self.pid}/ns/mnt",
            *command,
        )


def sh(*command: str) -> str:
    """Run a command that must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def _read_call(folder: Path) -> Recorded:
    """Read what a recorder kept of one call."""
    env = dict(line.split("=", 1) for line in (folder / "env").read_text().splitlines())
    return Recorded(
        int((folder / "time").read_text()),
        env,
        msgspec.json.decode((folder / "stdin").read_bytes()),
    )


def _plain(kind: str) -> dict[str, Any]:
    """Return a network of one plugin."""
    return {"cniVersion": "1.0.0", "name": kind, "type": kind}


@contextlib.contextmanager
def node(home: Path) -> Iterator[Node]:
    """Make a node; what was made goes at the end, and only that."""
    for folder in ("bin", "net.d", "cache", "calls", "fail", "hang", "result"):
        (home / folder).mkdir()
    for name in ("recorder", "second"):
        file = home / "bin" / name
        file.write_text(RECORDER.format(home=home))
        file.chmod(0o755)
    command = ["unshare", "--net", "--mount", "--propagation", "slave", "sleep", "infinity"]
    process = subprocess.Popen(command)  # noqa: S603
    try:
        _wait_for_namespaces(process.pid)
        cluster, reported = FakeCluster(), Reported()
        folders = NodePolicy(str(home / "bin"), str(home / "net.d"), str(home / "cache"))
        plugin = MetaPlugin(cluster, reported, folders, ready_s=0.5)
        made = Node(home, process.pid, cluster, reported, plugin)
        made.define("cluster", _plain("recorder") | {"name": "cluster"}, "spiderpool")
        made.in_node("ip", "link", "set", "lo", "up")
        yield made
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def _wait_for_namespaces(pid: int) -> None:
    """Wait until the process has left our namespaces: it exists a moment before that."""
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}/comm").read_text().strip() != "sleep":
        assert time.monotonic() < deadline
        time.sleep(0.005)


@dataclass(frozen=True, slots=True)
class DefaultRoute:
    """A default route."""

    family: int
    gateway: IPv4Address | IPv6Address | None
    priority: int = 0


@dataclass(frozen=True, slots=True)
class PodNetns:
    """The network namespace of a pod."""

    path: str

    def defaults(self, ifname: str) -> list[DefaultRoute]:
        """Return the default routes of an interface in the main table, as ip(8) shows them."""
        return [
            DefaultRoute(
                family,
                ip_address(route["gateway"]) if "gateway" in route else None,
                route.get("metric", 0),
            )
            for family in (4, 6)
            for route in json.loads(
                self.ip(f"-{family}", "-j", "route", "show", "default", "dev", ifname)
            )
        ]

    def ip(self, *arguments: str) -> str:
        """Run `ip` inside."""
        return sh("nsenter", f"--net={self.path}", "ip", *arguments)

    def is_empty(self) -> bool:
        """Return whether no process is inside."""
        return not sh("ip", "netns", "pids", Path(self.path).name).strip()


@contextlib.contextmanager
def pod_netns() -> Iterator[PodNetns]:
    """Make a network namespace with a name of its own."""
    name = f"sptest-{os.getpid()}-{next(_SERIAL)}"
    sh("ip", "netns", "add", name)
    try:
        made = PodNetns(f"/run/netns/{name}")
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        sh("ip", "netns", "delete", name)
