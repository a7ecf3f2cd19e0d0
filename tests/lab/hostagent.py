"""
A Node object without a kubelet, and `spiderpool-agent daemon` on this machine that serves it.

The test plays kubelet and container runtime: it asks over the agent's socket, by hand, as the
reference says. The agents of the lab's own nodes are not touched.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.lab import manifests
from tests.lab.kube import Kube, Refused, Thing, path_of
from tests.lab.networks import IPAddress
from tests.lab.retry import until
from tests.lab.story import Pod, Story

NAMESPACE: Final = "kube-system"
ACCOUNT: Final = "spiderpool-agent"
PROGRAM: Final = Path(sys.executable).with_name("spiderpool-agent")
LEASE_S: Final = 40
BEAT_S: Final = 3.0  # well below the lab's 15 s after which a silent node counts as lost
NEEDS: Final = "host-agent"  # label and value of the Node objects: what selects them

CONFIG: Final[Mapping[str, object]] = {
    "enableIPv4": True,
    "enableIPv6": True,
    "enableStatefulSet": True,
    "enableSpiderSubnet": False,
    "tuneSysctlConfig": False,
}

CNI_CONFIG: Final = {
    "cniVersion": "1.0.0",
    "name": "lan",
    "type": "macvlan",
    "ipam": {"type": "spiderpool"},
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over the socket: HTTP status, and the body as JSON, None when it is empty."""

    status: int
    body: Any

    @property
    def pairs(self) -> set[tuple[str, IPAddress]]:
        """The pairs of NIC and address of an ADD that succeeded."""
        assert self.status == 200, self
        return {(item["nic"], ip_interface(item["address"]).ip) for item in self.body["ips"]}


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox of a pod, as the runtime would have made it."""

    pod: Pod
    container: str = field(default_factory=lambda: uuid.uuid4().hex * 2)

    @property
    def args(self) -> dict[str, str]:
        """The body of ADD and DEL."""
        return {
            "containerID": self.container,
            "ifName": "eth0",
            "netNamespace": f"/var/run/netns/cni-{self.container[:8]}",
            "podNamespace": self.pod.namespace,
            "podName": self.pod.name,
            "podUID": self.pod.uid,
        }

    def env(self, command: str) -> dict[str, str]:
        """Return the environment of a CNI call."""
        args = {
            "K8S_POD_NAMESPACE": self.pod.namespace,
            "K8S_POD_NAME": self.pod.name,
            "K8S_POD_UID": self.pod.uid,
        }
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.container,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": self.args["netNamespace"],
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in args.items()),
        }


class _OverSocket(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def ask(
    path: Path,
    method: str,
    target: str,
    body: object = None,
    *,
    content_type: str = "application/json",
    timeout_s: float = 100,
) -> Answer:
    """
    Ask over a unix socket; bytes go as they are, everything else as JSON.

    Raises OSError, HTTPException as they come.
    """
    payload = (
        body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    )
    connection = _OverSocket(path, timeout_s)
    try:
        connection.request(
            method, target, payload, {"Content-Type": content_type} if payload is not None else {}
        )
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    return Answer(answer.status, json.loads(text) if text else None)


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


def write_kubeconfig(kube: Kube, node: str, target: Path, server: str = "") -> Path:
    """
    Write a kubeconfig with the identity of a node's agent: the token names the node, as kubelet's do.

    `server` is another way to the API server.
    """
    config = yaml.safe_load(kube.kubeconfig.read_text())
    request = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {
            "expirationSeconds": 7200,
            "boundObjectRef": {"kind": "Node", "apiVersion": "v1", "name": node},
        },
    }
    answer = kube._call("POST", f"{path_of('ServiceAccount', NAMESPACE, ACCOUNT)}/token", request)
    config["users"] = [
        {"name": config["users"][0]["name"], "user": {"token": answer["status"]["token"]}}
    ]
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    target.touch(mode=0o600)
    target.write_text(yaml.safe_dump(config))
    return target


class HostAgent:
    """One `spiderpool-agent daemon`, which can be killed and started again."""

    def __init__(self, node: str, kubeconfig: Path, folder: Path) -> None:
        """Write its configuration; nothing runs yet."""
        self.node, self.socket = node, folder / f"{node}.sock"
        self._log = folder / f"{node}.log"
        self._config = folder / f"{node}.yml"
        self._config.write_text(yaml.safe_dump({**CONFIG, "ipamUnixSocketPath": str(self.socket)}))
        self._environment = environment(node, kubeconfig)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it serves."""
        assert not self.runs
        self.socket.unlink(
            missing_ok=True
        )  # what one that was killed left would only answer "refused"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "daemon", "--config-path", self._config],
                env=self._environment,
                stdout=log,
                stderr=log,
            )
        until(
            self._serves,
            f"the agent of {self.node} serves",
            seen=lambda: self._log.read_text()[-2000:],
        )

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it, in good order or not: a test that wants to see that uses `stop`."""
        if self.runs:
            self.kill()
            self.wait_dead()

    def kill(self) -> None:
        """Kill it with -9."""
        if self._process is not None:
            self._process.kill()

    def wait_dead(self) -> None:
        """Wait for the end of one that was killed."""
        assert self._process is not None
        assert self._process.wait(timeout=30) == -9
        self._process = None

    def stop(self) -> None:
        """End it in good order."""
        if self._process is not None:
            self._process.terminate()
            assert self._process.wait(timeout=30) == 0, self._log.read_text()[-2000:]
            self._process = None

    @property
    def runs(self) -> bool:
        """Return whether its process lives."""
        return self._process is not None and self._process.poll() is None

    def ask(self, method: str, target: str, body: object = None) -> Answer | None:
        """Ask it; None when it died instead of answering."""
        try:
            return ask(self.socket, method, target, body)
        except (ConnectionError, FileNotFoundError, HTTPException):
            return None

    def add(self, sandbox: Sandbox) -> Answer | None:
        """Make an ADD for a sandbox."""
        return self.ask("POST", "/v1/ipam/ip", sandbox.args)

    def delete(self, sandbox: Sandbox) -> Answer | None:
        """Make a DEL for a sandbox."""
        return self.ask("DELETE", "/v1/ipam/ip", sandbox.args)

    def add_by_cni(self, sandbox: Sandbox) -> Answer | None:
        """
        Make an ADD as our own executable hands it over.

        The answer has an exit code and what the runtime reads.
        """
        return self.ask(
            "POST",
            "/v1/cni",
            {"plugin": "spiderpool", "env": sandbox.env("ADD"), "config": CNI_CONFIG},
        )

    def collect(self, config: Mapping[str, object]) -> Answer | None:
        """Make a GC call, which no runtime of the lab makes."""
        env = {"CNI_COMMAND": "GC", "CNI_PATH": "/opt/cni/bin"}
        return self.ask(
            "POST",
            "/v1/cni",
            {"plugin": "spiderpool", "env": env, "config": {**CNI_CONFIG, **config}},
        )

    def status(self) -> Answer | None:
        """Make a STATUS call."""
        env = {"CNI_COMMAND": "STATUS", "CNI_PATH": "/opt/cni/bin"}
        return self.ask(
            "POST",
            "/v1/cni",
            {"plugin": "spiderpool", "env": env, "config": {**CNI_CONFIG, "cniVersion": "1.1.0"}},
        )

    def _serves(self) -> bool:
        assert self.runs, f"the agent of {self.node} ended: {self._log.read_text()[-2000:]}"
        return (answer := self.ask("GET", "/v1/ipam/healthy")) is not None and answer.status == 200


def environment(node: str, kubeconfig: Path) -> dict[str, str]:
    """
    Return the environment of an agent on this machine.

    Source: docs/reference/configuration.md#agent.
    """
    return {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "SPIDERPOOL_POD_NAMESPACE": NAMESPACE,
        "SPIDERPOOL_POD_NAME": f"agent-{node}",
        "SPIDERPOOL_NODE_NAME": node,
        "SPIDERPOOL_HEALTH_PORT": str(free_port()),
        "SPIDERPOOL_METRIC_HTTP_PORT": str(free_port()),
    }


class PaperNode:
    """
    A Node object that stays Ready although no kubelet stands behind it.

    Leaving it removes it and its pods.
    """

    def __init__(self, kubeconfig: Path, name: str) -> None:
        """Name it."""
        self.name = name
        self._kube = Kube(kubeconfig, timeout_s=5)  # of its own: the beat runs beside the test
        self._stop = threading.Event()
        self._beat = threading.Thread(
            target=self._keep_beating, name=f"beat of {name}", daemon=True
        )

    def __enter__(self) -> Self:
        """Make it, and begin to renew its lease."""
        # Without the label kubernetes.io/os no DaemonSet of the lab wants a pod there.
        labels = {"kubernetes.io/hostname": self.name, NEEDS: NEEDS}
        taints = [{"key": NEEDS, "value": NEEDS, "effect": "NoSchedule"}]
        node = {
            "kind": "Node",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {"taints": taints},
        }
        lease = {
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": _lease(self.name),
        }
        for thing in (node, lease):
            with suppress(Refused):  # of a run that was cut off
                self._kube.create(thing)
        self._renew()
        self._beat.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove it, and all pods that are bound to it."""
        self._stop.set()
        self._beat.join()
        clear_node(self._kube, self.name)
        self._kube.delete("Node", self.name)
        self._kube.delete("Lease", self.name, "kube-node-lease")
        self._kube.close()

    def fall_silent(self) -> None:
        """Beat no more: the node is lost some time later."""
        self._stop.set()

    def _keep_beating(self) -> None:
        while not self._stop.wait(BEAT_S):
            # the API server is away; a later beat makes it good
            with suppress(OSError, HTTPException, Refused):
                self._renew()

    def _renew(self) -> None:
        self._kube.patch("Lease", self.name, {"spec": _lease(self.name)}, "kube-node-lease")
        resources = {"cpu": "64", "memory": "64Gi", "pods": "500"}
        status = {"conditions": [_ready()], "allocatable": resources, "capacity": resources}
        self._kube.patch("Node", self.name, {"status": status}, subresource="status")


def _lease(holder: str) -> Thing:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {"holderIdentity": holder, "leaseDurationSeconds": LEASE_S, "renewTime": now}


def _ready() -> Thing:
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "type": "Ready",
        "status": "True",
        "reason": "Test",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }


def spec_for(node: str = "", selector: Mapping[str, str] | None = None) -> Thing:
    """Return the spec of a pod for a node of paper; nothing evicts it."""
    return manifests.pod_spec(node or None, selector) | {"tolerations": [{"operator": "Exists"}]}


def paper_pod(story: Story, node: str, name: str, annotations: Mapping[str, Any]) -> Pod:
    """Make a pod that is bound to a node of paper."""
    return Pod(
        story.kube,
        story.kube.create(manifests.pod(name, story.namespace, annotations, {}, spec_for(node))),
    )


def vanish(*pods: Pod) -> None:
    """Remove pod objects at once: nobody is there who would confirm that they ended."""
    for pod in pods:
        pod._kube.delete("Pod", pod.name, pod.namespace, gracePeriodSeconds=0)


def clear_node(kube: Kube, node: str) -> None:
    """Remove all pod objects that are bound to a node of paper."""
    vanish(*(Pod(kube, thing) for thing in kube.list("Pod", fields=f"spec.nodeName={node}")))
