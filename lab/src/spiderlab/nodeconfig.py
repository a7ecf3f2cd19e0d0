"""
What a node reads.

Its first process's script, the configurations of containerd, kubelet, kube-proxy and CNI. Pure.
"""

import json
from pathlib import Path
from typing import Any

from spiderlab import cgroups, dns, kuberouter, paths
from spiderlab.peers import Cni, Peers
from spiderlab.topology import Node, Topology

PAUSE_IMAGE = "registry.local/pause:1"
CNI_FILE = "10-lab.conflist"
# Calico's name: what reads the node's CNI configuration takes the lab's for Calico
CNI_NETWORK = "k8s-pod-network"
CONTAINERD_SOCKET = "unix:///run/containerd/containerd.sock"
READY_FILE = "run/lab-node-ready"

MOUNTS = {
    "/var/lib/kubelet": "kubelet",
    "/var/lib/containerd": "containerd",
    "/var/lib/cni": "cni",
    "/etc/cni/net.d": "cni-config",
    "/opt/cni/bin": "cni-bin",
    "/var/log": "log",
}
"""Where a node has its own folder in place of the machine's, by its name on the node's disk."""


def render_init(node: Node) -> str:
    """
    The script of a node's first process.

    It runs inside new mount, PID, UTS and IPC namespaces and the node's network namespace.

    Order matters: the machine's named namespaces are let go, or a node that was rebooted would keep
    the others' old networks alive; and `/` becomes shared last, so that each mount has its own
    peers and a Bidirectional one of /var/run/netns, which containerd looks up textually and finds
    at `/`, passes.
    """
    disk = paths.node_data(node.name)
    binds = [f"mount --bind {disk / name} {target}" for target, name in MOUNTS.items()]
    return "\n".join([
        "set -eu",
        "mount --make-rprivate /",
        "while umount --recursive /run/netns 2>/dev/null; do :; done",
        "mount -t proc proc /proc",
        "mount -t tmpfs -o mode=755,size=256m tmpfs /run",
        "mkdir -p /run/lock /run/netns /run/cgroups",
        "mount --rbind /sys/fs/cgroup /run/cgroups",
        "mount -t sysfs sysfs /sys",
        "mount --move /run/cgroups /sys/fs/cgroup",
        "rmdir /run/cgroups",
        *binds,
        "mount --make-rshared /",
        f"hostname {node.name}",
        f"touch /{READY_FILE}",
        # With SIGCHLD ignored the kernel collects orphans by itself: all that a first process is
        # needed for.
        "trap '' CHLD",
        "exec sleep infinity",
        "",
    ])  # fmt: skip


def render_containerd() -> str:
    """All paths are the usual ones; the node's mount namespace makes them its own."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # runc may not lower oom_score_adj without CAP_SYS_RESOURCE and dies of the attempt.
  restrict_oom_score_adj = true
  max_concurrent_downloads = 10
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/opt/cni/bin"
    conf_dir = "/etc/cni/net.d"
    max_conf_num = 1
"""


def render_kubelet(node: Node) -> dict[str, Any]:
    """KubeletConfiguration."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(paths.PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": CONTAINERD_SOCKET,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroups.root_of(node.name),
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": False,
        "nodeLeaseDurationSeconds": 20,
        "nodeStatusUpdateFrequency": "5s",
        "maxPods": 250,
        # Images come from no registry: one that is deleted stays away.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {},
        "serializeImagePulls": False,
        "kubeAPIQPS": 100,
        "kubeAPIBurst": 200,
        "eventRecordQPS": 50,
        "resolvConf": "",
        "clusterDNS": [str(dns.ADDRESS)],
        "clusterDomain": dns.DOMAIN,
        "oomScoreAdj": 0,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "enableServer": True,
        "readOnlyPort": 0,
    }


def render_kube_proxy(topology: Topology, node: Node) -> dict[str, Any]:
    """
    KubeProxyConfiguration.

    Sources outside the pod networks are masqueraded on their way to a Service.
    """
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "hostnameOverride": node.name,
        "clientConnection": {
            "kubeconfig": str(paths.kubeconfig("kube-proxy")),
            "qps": 100,
            "burst": 200,
        },
        "clusterCIDR": topology.pod_networks,
        "detectLocalMode": "ClusterCIDR",
        # The table's size is the whole machine's and cannot be set from a namespace.
        "conntrack": {"maxPerCore": 0, "min": 0},
        "iptables": {"minSyncPeriod": "0s", "syncPeriod": "30s"},
        "oomScoreAdj": 0,
    }


def render_cni(topology: Topology, node: Node) -> dict[str, Any]:
    """The default network: the lab's stand-in for Calico, addresses from host-local, host ports."""
    # The gateway lies outside of the block: host-local then keeps no address back, and the first
    # pod gets `.1`.
    ranges = [[{"subnet": str(node.pods), "gateway": "169.254.1.1"}]]
    if topology.ipv6:
        ranges.append([{"subnet": str(node.pods6), "gateway": "fe80::ecee:eeff:feee:eeee"}])
    return {
        "cniVersion": "1.0.0",
        "name": CNI_NETWORK,
        "plugins": [
            {"type": "lab-calico", "mtu": 1500, "ipam": {"type": "host-local", "ranges": ranges}},
            {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
        ],
    }


def network_name(peers: Peers) -> str:
    """Return the name of the default network."""
    return kuberouter.CNI_NETWORK if peers.cni is Cni.KUBE_ROUTER else CNI_NETWORK


def cni_file(topology: Topology, node: Node) -> tuple[str, dict[str, Any]]:
    """Name and content of the default network's configuration."""
    if topology.peers.cni is Cni.KUBE_ROUTER:
        return kuberouter.CNI_FILE, kuberouter.render_cni()
    return CNI_FILE, render_cni(topology, node)


def render_kubeadm(topology: Topology) -> dict[str, Any]:
    """The ConfigMap that kubeadm leaves in a cluster, as far as others read it."""
    configuration = "\n".join([
        "apiServer: {}",
        "apiVersion: kubeadm.k8s.io/v1beta4",
        f"controlPlaneEndpoint: {topology.control_plane.ip}:6443",
        "kind: ClusterConfiguration",
        "kubernetesVersion: v1.34.4",
        "networking:",
        f"  dnsDomain: {dns.DOMAIN}",
        f"  podSubnet: {topology.pod_networks}",
        f"  serviceSubnet: {topology.service_networks}",
        "",
    ])  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kubeadm-config", "namespace": "kube-system"},
        "data": {"ClusterConfiguration": configuration},
    }


def kubelet_command(topology: Topology, node: Node, programs: Path) -> list[str | Path]:
    """The kubelet's command line; all else is in its configuration."""
    addresses = f"{node.ip},{node.ip6}" if topology.ipv6 else str(node.ip)
    return [
        programs / "kubelet",
        f"--config={paths.node_data(node.name) / 'kubelet.json'}",
        f"--kubeconfig={paths.kubeconfig(f'kubelet-{node.name}')}",
        f"--hostname-override={node.name}",
        f"--node-ip={addresses}",
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
    ]


def write_all(topology: Topology, node: Node) -> None:
    """Lay out a node's disk, all but its CNI plugins."""
    disk = paths.node_data(node.name)
    for name in MOUNTS.values():
        (disk / name).mkdir(parents=True, exist_ok=True)
    (disk / "init.sh").write_text(render_init(node))
    (disk / "containerd.toml").write_text(render_containerd())
    (disk / "kubelet.json").write_text(json.dumps(render_kubelet(node), indent=1))
    (disk / "kube-proxy.json").write_text(json.dumps(render_kube_proxy(topology, node), indent=1))
    name, network = cni_file(topology, node)
    (disk / "cni-config" / name).write_text(json.dumps(network, indent=1))
