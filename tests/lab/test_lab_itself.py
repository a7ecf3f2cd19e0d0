"""
The lab without the product.

A Kubernetes that works, is sealed, survives what tests do to it, and leaves no trace.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from spiderlab import Lab, LabNode, images, machine, paths
from spiderlab import lab as story
from spiderlab.errors import LabError
from spiderlab.processes import run
from spiderlab.progress import Progress
from spiderlab.topology import HOST_LINK, NODE_NETWORK
from tests.lab.retry import until

COMMAND = Path(sys.executable).with_name("spiderlab")
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {app}}}}}
spec:
  nodeName: {node}
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: {image}
    imagePullPolicy: Never
    command: [sh, -c, "hostname > /tmp/index.html; exec httpd -f -v -p [::]:80 -h /tmp"]
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  ipFamilyPolicy: RequireDualStack
  selector: {app: web}
  ports: [{port: 80, nodePort: 30080}]
"""
AGENT = """
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      hostNetwork: true
      hostPID: true
      terminationGracePeriodSeconds: 0
      containers:
      - name: main
        image: busybox:1
        imagePullPolicy: IfNotPresent
        command: [sleep, infinity]
        securityContext: {privileged: true}
        volumeMounts:
        - {name: bin, mountPath: /opt/cni/bin}
        - {name: conf, mountPath: /etc/cni/net.d}
        - {name: cni, mountPath: /var/lib/cni}
        - {name: socket, mountPath: /var/run/spidernet}
        - {name: netns, mountPath: /var/run/netns, mountPropagation: Bidirectional}
      volumes:
      - {name: bin, hostPath: {path: /opt/cni/bin}}
      - {name: conf, hostPath: {path: /etc/cni/net.d}}
      - {name: cni, hostPath: {path: /var/lib/cni}}
      - {name: socket, hostPath: {path: /var/run/spidernet, type: DirectoryOrCreate}}
      - {name: netns, hostPath: {path: /var/run/netns}}
"""


@pytest.fixture(scope="module", autouse=True)
def nobody_elses_lab() -> Iterator[None]:
    """Leave a lab that somebody uses alone, and end the one of these tests."""
    if story.runs():
        pytest.skip("a lab runs, and these tests start and end labs; end it with: spiderlab down")
    yield
    story.down(Progress(quiet=True))


@pytest.fixture
def lab() -> Lab:
    """Return a lab of three nodes with nothing in it that another test made."""
    lab = Lab.up(progress=Progress(quiet=True))
    lab.kubectl(
        "delete", "daemonsets,services,pods", "--selector=app", "--now", "--ignore-not-found"
    )
    lab.kubectl("delete", "service", "web", "--ignore-not-found")
    return lab


def run_pods(lab: Lab, *names: str, app: str = "web", image: str = "busybox:1") -> None:
    """Run one pod on each node, or on the first ones, and wait until all are ready."""
    nodes = [node.name for node in lab.nodes][: len(names)]
    text = "---".join(
        POD.format(name=name, app=app, node=node, image=image)
        for name, node in zip(names, nodes, strict=True)
    )
    lab.kubectl("apply", "--filename=-", text=text)
    lab.kubectl(
        "wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names)
    )


def pod_ips(lab: Lab, name: str) -> list[str]:
    """Return a pod's addresses, IPv4 first."""
    pod = json.loads(lab.kubectl("get", "pod", name, "--output=json"))
    return [entry["ip"] for entry in pod["status"]["podIPs"]]


def url(ip: str, port: int = 80) -> str:
    """Return the address as a web browser wants it."""
    return f"http://[{ip}]:{port}/" if ":" in ip else f"http://{ip}:{port}/"


def fetch_from_client(lab: Lab, address: str) -> str:
    """Read a page from the host outside of the cluster."""
    return lab.in_client(
        ["busybox", "timeout", "5", "busybox", "wget", "-qO-", address]
    ).stdout.strip()


def fetch_from_pod(lab: Lab, pod: str, address: str) -> str:
    """
    Read a page from inside a pod.

    Nothing while nobody answers, or kubelet cannot reach containerd yet.
    """
    try:
        return lab.kubectl("exec", pod, "--", "timeout", "5", "wget", "-qO-", address).strip()
    except LabError:
        return ""


def wait_page(lab: Lab, pod: str, address: str, *names: str) -> None:
    """
    Wait until a pod reads one of these names from an address.

    A container that runs may not listen yet.
    """
    until(
        lambda: fetch_from_pod(lab, pod, address) in names,
        f"{pod} reads {' or '.join(names)} from {address}",
    )


def ready(lab: Lab, node: str) -> bool:
    """Tell whether a node is Ready, and whether its lease says so of now."""
    return lab.api.ready_nodes().get(node, False)


def succeed(node: LabNode, command: Sequence[str]) -> str:
    """Run a command on a node; it must end well."""
    done = node.exec(command)
    assert done.returncode == 0, f"{node.name}: {' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout


# --- a Kubernetes that works
# ----------------------------------------------------------------------------------------------


def test_three_nodes_have_addresses_of_both_families(lab: Lab) -> None:
    """Every node is Ready, with its addresses of the node network as InternalIPs."""
    nodes = json.loads(lab.kubectl("get", "nodes", "--output=json"))["items"]

    found = {
        node["metadata"]["name"]: [
            a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"
        ]
        for node in nodes
    }
    assert {
        "node1": ["172.18.0.11", "fd00:18::11"],
        "node2": ["172.18.0.12", "fd00:18::12"],
        "node3": ["172.18.0.13", "fd00:18::13"],
    } == found
    assert dict.fromkeys(found, True) == lab.api.ready_nodes()


def test_kubeadm_config_tells_the_networks(lab: Lab) -> None:
    """The ConfigMap that kubeadm would leave names pod and Service networks."""
    config = lab.kubectl(
        "get",
        "configmap",
        "kubeadm-config",
        "-nkube-system",
        "--output=jsonpath={.data.ClusterConfiguration}",
    )

    assert "podSubnet: 10.233.64.0/18,fd00:64::/56" in config
    assert "serviceSubnet: 10.233.0.0/18,fd00:233::/108" in config


def test_pods_and_services_are_reached_across_nodes(lab: Lab) -> None:
    """
    A pod reaches pods of all nodes and their Service in both families.

    The outside reaches its NodePort on every node.
    """
    run_pods(lab, "a", "b", "c")
    lab.kubectl("apply", "--filename=-", text=SERVICE)
    service = json.loads(lab.kubectl("get", "service", "web", "--output=json"))["spec"][
        "clusterIPs"
    ]

    for name in ("a", "b", "c"):
        for ip in pod_ips(lab, name):
            wait_page(lab, "a", url(ip), name)
    for ip in service:
        wait_page(lab, "a", url(ip), "a", "b", "c")
    for node in lab.nodes:
        for ip in (str(node.facts.ip), str(node.facts.ip6)):
            until(
                lambda ip=ip: fetch_from_client(lab, url(ip, 30080)) in {"a", "b", "c"},
                f"NodePort at {ip} answers",
            )
    until(lambda: "response:200" in lab.kubectl("logs", "b"), "the server's log shows the requests")


def test_pods_find_services_by_name(lab: Lab) -> None:
    """The cluster's DNS gives a Service's addresses, whole name or short, and nothing for a stranger's."""
    run_pods(lab, "a", "b")
    lab.kubectl("apply", "--filename=-", text=SERVICE)
    service = json.loads(lab.kubectl("get", "service", "web", "--output=json"))["spec"][
        "clusterIPs"
    ]
    ask = ("exec", "a", "--", "nslookup")

    until(lambda: fetch_from_pod(lab, "a", "http://web/") in {"a", "b"}, "a page by the short name")
    answer = lab.kubectl(*ask, "web.default.svc.cluster.local")

    found = [line.split()[-1] for line in answer.splitlines() if line.startswith("Address: ")]
    assert sorted(service) == sorted(found)
    stranger = lab.kubectl(*ask[:3], "sh", "-c", "nslookup www.example.com. || true")
    assert "SERVFAIL" in stranger


def test_default_network_is_as_un_encapsulated_calico(lab: Lab) -> None:
    """A pod has a /32, the gateway that proxy ARP answers for, a host end without an address and one host route."""
    run_pods(lab, "a")
    ip = pod_ips(lab, "a")[0]
    node = lab.nodes[0]

    routes = [line.strip() for line in lab.kubectl("exec", "a", "--", "ip", "route").splitlines()]
    host_route = succeed(node, ["ip", "-json", "route", "show", f"{ip}/32"])
    link = json.loads(host_route)[0]["dev"]
    shown = json.loads(succeed(node, ["ip", "-json", "-4", "address", "show", "dev", link]))
    mac = json.loads(succeed(node, ["ip", "-json", "link", "show", "dev", link]))[0]["address"]
    assert ["default via 169.254.1.1 dev eth0", "169.254.1.1 dev eth0 scope link"] == routes
    assert f"inet {ip}/32" in lab.kubectl("exec", "a", "--", "ip", "address")
    assert link.startswith("cali")
    assert [] == [entry for entry in shown if entry.get("addr_info")]
    assert mac == "ee:ee:ee:ee:ee:ee"


def test_an_agent_sees_its_own_node_and_new_namespaces(lab: Lab) -> None:
    """A privileged DaemonSet shares its node's folders and processes, and sees namespaces made after it started."""
    lab.kubectl("apply", "--filename=-", text=AGENT)
    lab.kubectl("rollout", "status", "daemonset/agent", "--timeout=60s")
    agents = json.loads(lab.kubectl("get", "pods", "--selector=app=agent", "--output=json"))[
        "items"
    ]
    by_node = {agent["spec"]["nodeName"]: agent["metadata"]["name"] for agent in agents}
    run_pods(lab, "late", app="late")
    for node in lab.nodes:
        lab.kubectl(
            "exec",
            by_node[node.name],
            "--",
            "sh",
            "-c",
            f"echo {node.name} > /var/run/spidernet/whose",
        )

    for node in lab.nodes:
        assert f"{node.name}\n" == node.path("/run/spidernet/whose").read_text()
        assert (
            "macvlan" in lab.kubectl("exec", by_node[node.name], "--", "ls", "/opt/cni/bin").split()
        )
    assert not Path("/run/spidernet/whose").exists()
    seen = "for n in /var/run/netns/*; do nsenter --net=$n ip -4 address show eth0; done"
    assert pod_ips(lab, "late")[0] in lab.kubectl("exec", by_node["node1"], "--", "sh", "-c", seen)
    assert "kubelet" in lab.kubectl("exec", by_node["node2"], "--", "ps")
    assert "kubelet-node3" not in lab.kubectl("exec", by_node["node2"], "--", "ps")


def test_macvlan_reaches_the_underlay_gateway(lab: Lab) -> None:
    """A macvlan interface on ens192 with a fixed address reaches the gateway, another node, and the outside."""
    node = lab.nodes[1]
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.6.200.9/16", "gateway": "10.6.0.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    config = json.dumps(
        {"cniVersion": "1.0.0", "name": "hand", "type": "macvlan", "master": "ens192", "ipam": ipam}
    )
    call = "CNI_CONTAINERID=hand CNI_NETNS=/run/netns/hand CNI_IFNAME=net1 CNI_PATH=/opt/cni/bin /opt/cni/bin/macvlan"
    succeed(node, ["ip", "netns", "add", "hand"])
    try:
        succeed(node, ["sh", "-c", f"echo '{config}' | CNI_COMMAND=ADD {call}"])

        for target in ("10.6.0.1", "10.6.168.71", "10.9.0.2"):
            succeed(node, ["ip", "netns", "exec", "hand", "busybox", "ping", "-c1", "-W2", target])
    finally:
        succeed(node, ["ip", "netns", "delete", "hand"])


def test_a_loaded_image_runs_under_the_name_given(lab: Lab, tmp_path: Path) -> None:
    """An archive is known by the name of `load-image`, on every node, without any registry."""
    layer = images.render_layer(
        Path("/bin/busybox").read_bytes(), ["sh", "httpd", "hostname", "cat"]
    )
    images.write_archive(tmp_path / "image.tar", layer, ["elsewhere.example/inner:1"], ["sh"])

    lab.load_image("registry.local/made-here:7", tmp_path / "image.tar")

    run_pods(lab, "a", "b", "c", image="registry.local/made-here:7")


# --- sealed
# ---------------------------------------------------------------------------------------------------------------


class Sniffer:
    """Every frame of one of the machine's interfaces while it is open."""

    def __init__(self, interface: str) -> None:
        """Start to listen."""
        every_protocol = 3
        self._socket = socket.socket(
            socket.AF_PACKET, socket.SOCK_RAW, socket.htons(every_protocol)
        )
        self._socket.bind((interface, 0))
        self._socket.setblocking(False)

    def lab_addresses(self) -> set[str]:
        """Stop, and give the lab's IPv4 addresses among senders and receivers."""
        found: set[str] = set()
        with self._socket:
            while True:
                try:
                    frame = self._socket.recv(65535)
                except BlockingIOError:
                    return found
                found.update(
                    a
                    for a in _ipv4_ends(frame)
                    if a.startswith(("10.6.", "10.7.", "10.9.", "10.233.", "172.18."))
                )


def _ipv4_ends(frame: bytes) -> list[str]:
    """Return sender and receiver of an Ethernet frame with IPv4 or ARP in it."""
    ends = {b"\x08\x00": (26, 30), b"\x08\x06": (28, 38)}.get(frame[12:14], ())
    return [socket.inet_ntoa(frame[at : at + 4]) for at in ends if len(frame) >= at + 4]


def uplinks() -> list[str]:
    """Return the machine's interfaces that are neither loopback nor the lab's."""
    links = json.loads(run(["ip", "-json", "link"]))
    return [
        link["ifname"]
        for link in links
        if link["ifname"] not in {"lo", HOST_LINK} and link["operstate"] == "UP"
    ]


def test_nothing_of_the_lab_leaves_by_the_machines_interfaces(lab: Lab) -> None:
    """
    What pods, nodes and the outside host send to foreign addresses dies in the router.

    The machine sees none of it.
    """
    run_pods(lab, "a")
    foreign = "198.51.100.1"  # of the network that RFC 5737 keeps for documents
    ping = ["busybox", "ping", "-c2", "-W1", foreign]
    sniffers = [Sniffer(name) for name in uplinks()]
    control = Sniffer(HOST_LINK)

    answers = [
        lab.nodes[0].exec(ping),
        lab.nodes[1].exec(ping),
        lab.in_client(ping),
        lab.in_router(ping),
    ]
    lab.kubectl("exec", "a", "--", "sh", "-c", f"ping -c2 -W1 {foreign} || true")

    assert [True] * 4 == [answer.returncode != 0 for answer in answers]
    assert {str(lab.topology.control_plane.ip)} == control.lab_addresses()
    assert set() == {address for sniffer in sniffers for address in sniffer.lab_addresses()}
    assert Path(f"/proc/sys/net/ipv4/conf/{HOST_LINK}/forwarding").read_text().strip() == "0"


# --- what tests do to it
# --------------------------------------------------------------------------------------------------


def test_pods_outlive_containerd(lab: Lab) -> None:
    """A restart of containerd ends no container."""
    run_pods(lab, "a")
    before = lab.kubectl(
        "get", "pod", "a", "--output=jsonpath={.status.containerStatuses[0].containerID}"
    )

    lab.nodes[0].restart_containerd()

    wait_page(lab, "a", url("127.0.0.1"), "a")
    assert before == lab.kubectl(
        "get", "pod", "a", "--output=jsonpath={.status.containerStatuses[0].containerID}"
    )


@pytest.mark.parametrize("index", [0, 1], ids=["the control plane's node", "another node"])
def test_a_node_comes_back_from_a_reboot(lab: Lab, index: int) -> None:
    """After a reboot the node is Ready, its pods are started again, its network and /run are new, its disk is not."""
    names = ("a", "b")[: index + 1]
    run_pods(lab, *names)
    node = lab.nodes[index]
    for folder in ("/run", "/var/lib/cni", "/var/lib/kubelet"):
        node.path(f"{folder}/left-by-a-test").touch()
    succeed(node, ["ip", "rule", "add", "pref", "1000", "from", "all", "lookup", "500"])

    node.reboot()

    until(lambda: ready(lab, node.name), f"{node.name} is Ready", within_s=60)
    count = [
        "get",
        "pod",
        names[-1],
        "--output=jsonpath={.status.containerStatuses[0].restartCount}",
    ]
    until(lambda: lab.kubectl(*count) == "1", "its pod was started again", within_s=60)
    lab.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{names[-1]}")
    wait_page(lab, names[-1], url(pod_ips(lab, names[-1])[0]), names[-1])
    assert not node.path("/run/left-by-a-test").exists()
    assert node.path("/var/lib/cni/left-by-a-test").exists()
    assert node.path("/var/lib/kubelet/left-by-a-test").exists()
    assert "1000:" not in succeed(node, ["ip", "rule"])
    assert [] == [name for name, started in lab.processes().items() if not started.alive]


def test_a_node_without_power_is_noticed(lab: Lab) -> None:
    """
    A stopped node is silent on its networks and NotReady within 30 s.

    Started again it is Ready.
    """
    node = lab.nodes[2]

    node.stop()

    assert lab.in_client(["busybox", "ping", "-c1", "-W1", "10.6.168.73"]).returncode != 0
    assert not node.alive
    until(lambda: not ready(lab, node.name), "the node is NotReady", within_s=30)
    node.start()
    until(lambda: ready(lab, node.name), "the node is Ready again", within_s=30)
    assert lab.in_client(["busybox", "ping", "-c1", "-W1", "10.6.168.73"]).returncode == 0


def test_the_api_server_stops_and_starts(lab: Lab) -> None:
    """While it is stopped nobody answers; started again it knows what it knew."""
    lab.kubectl(
        "apply", "--filename=-", text="{apiVersion: v1, kind: ConfigMap, metadata: {name: kept}}"
    )

    lab.stop_api_server()
    silent = not lab.api.ready()
    lab.start_api_server()

    assert silent
    assert "configmap/kept" == lab.kubectl("get", "configmap", "kept", "--output=name").strip()


def test_a_second_up_changes_nothing(lab: Lab) -> None:
    """`up` beside a lab that runs says so, prints the kubeconfig's path, and ends well, whatever nodes it was asked for."""
    before = paths.STATE.read_bytes()

    second = subprocess.run(
        [COMMAND, "up", "--nodes", "other"], capture_output=True, text=True, check=False
    )

    assert (0, f"{lab.kubeconfig}\n") == (second.returncode, second.stdout)
    assert "the lab runs already, with node1, node2, node3; nothing is changed" in second.stderr
    assert before == paths.STATE.read_bytes()


# --- no trace
# -------------------------------------------------------------------------------------------------------------


def traces() -> dict[str, object]:
    """All that a lab could leave, as the kernel tells it and not as the lab remembers it."""
    links = json.loads(run(["ip", "-json", "link"]))
    routes = run(["ip", "route"])
    folders = (
        "/run/netns",
        "/etc/cni",
        "/opt/cni",
        "/opt/containerd",
        "/var/lib/cni",
        "/var/lib/kubelet",
        "/var/lib/calico",
    )
    return {
        "namespaces": sorted(path.name for path in Path("/run/netns").glob("*")),
        "links": sorted(link["ifname"] for link in links),
        "routes": sorted(routes.splitlines()),
        "mounts": sorted(
            line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()
        ),
        "groups": sorted(str(path) for path in Path("/sys/fs/cgroup").rglob("*spiderlab*")),
        "processes": lab_processes(),
        "kernel": {key: Path("/proc/sys", key).read_text() for key in machine.KUBELET_WRITES},
        "folders": [folder for folder in folders if Path(folder).exists()],
        "files": [str(path) for path in (paths.RUN, paths.DATA, paths.LOCK) if path.exists()],
    }


def lab_processes() -> list[str]:
    """Return the command lines of living processes that are a cluster's."""
    keepers = {"containerd", "containerd-shim-runc-v2", "unshare", "nsenter"}
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if Path(words[0]).name in keepers or any(
            word.endswith(f"={paths.DATA}") or f"{paths.DATA}/" in word for word in words
        ):
            found.append(" ".join(words)[:80])
    return sorted(found)


@pytest.fixture
def untouched() -> dict[str, object]:
    """Return the machine as it is without a lab."""
    story.down(Progress(quiet=True))
    return traces()


def test_down_leaves_nothing(untouched: dict[str, object]) -> None:
    """After a lab with pods was ended the machine is as before; a second `down` ends well."""
    lab = Lab.up(progress=Progress(quiet=True))
    run_pods(lab, "a", "b", "c")

    assert traces()["processes"]
    lab.down()

    assert untouched == traces()
    assert subprocess.run([COMMAND, "down"], capture_output=True, check=False).returncode == 0
    assert untouched == traces()


@pytest.mark.parametrize("moment_s", [0.05, 0.2, 0.5, 0.9, 2.0, 4.0])
def test_down_clears_an_up_that_was_killed(untouched: dict[str, object], moment_s: float) -> None:
    """Whenever `up` is killed, `down` finds all that it had made."""
    starting = subprocess.Popen(
        [COMMAND, "up"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(paths.STATE.exists, "the lab starts", within_s=60)
    time.sleep(moment_s)

    starting.send_signal(signal.SIGKILL)
    starting.wait()
    assert untouched != traces()
    subprocess.run([COMMAND, "down"], capture_output=True, check=True)

    assert untouched == traces()


def test_up_clears_a_lab_that_was_killed(untouched: dict[str, object]) -> None:
    """A start after one that was cut off begins from nothing and succeeds."""
    starting = subprocess.Popen(
        [COMMAND, "up"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: Path("/run/netns/sl-node2").exists(), "the second node is made", within_s=60)
    starting.send_signal(signal.SIGKILL)
    starting.wait()

    lab = Lab.up(["only"], progress=Progress(quiet=True))

    assert {"only": True} == lab.api.ready_nodes()
    assert not Path("/run/netns/sl-node2").exists()
    lab.down()
    assert untouched == traces()


def test_down_clears_a_lab_whose_programs_were_killed(untouched: dict[str, object]) -> None:
    """Shims, pods and namespaces that lost their keeper are ended too, a program's loss of each kind on a node of its own."""
    lab = Lab.up(progress=Progress(quiet=True))
    run_pods(lab, "a", "b", "c")

    for victim in ("etcd", "kubelet-node1", "containerd-node2", "node3"):
        os.kill(lab.processes()[victim].pid, signal.SIGKILL)
    lab.down()

    assert untouched == traces()


def test_ipv4_alone_has_no_ipv6_address(untouched: dict[str, object]) -> None:
    """With --no-ipv6 neither pods nor node links have an IPv6 address."""
    lab = Lab.up(["solo"], ipv6=False, progress=Progress(quiet=True))
    run_pods(lab, "a")

    addresses = succeed(
        lab.nodes[0], ["ip", "-6", "-oneline", "address", "show", "scope", "global"]
    )
    assert addresses == ""
    assert [str(NODE_NETWORK.address(0).ip)] == [
        address["address"]
        for address in json.loads(lab.kubectl("get", "node", "solo", "--output=json"))["status"][
            "addresses"
        ]
        if address["type"] == "InternalIP"
    ]
    assert 1 == len(pod_ips(lab, "a"))
    lab.down()
    assert untouched == traces()
