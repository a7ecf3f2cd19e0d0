"""What the cluster's programs are told."""

import re
from pathlib import Path

from spiderlab import cgroups, controlplane, machine, nodeconfig
from spiderlab.topology import parse_topology

BOTH = parse_topology(["a", "b"])
V4 = parse_topology(["a"], ipv6=False)


def test_kubelets_have_roots_of_their_own() -> None:
    """Two kubelets with one cgroup root remove each other's pods."""
    roots = {nodeconfig.render_kubelet(node)["cgroupRoot"] for node in BOTH.nodes}

    assert {"/spiderlab/a", "/spiderlab/b"} == roots


def test_the_default_network_gives_both_families_from_the_nodes_block() -> None:
    """
    One range a family.

    The gateway is outside of the block, so the block's first address is a pod's.
    """
    ranges = nodeconfig.render_cni(BOTH, BOTH.nodes[1])["plugins"][0]["ipam"]["ranges"]

    assert [{"subnet": "10.233.101.0/24", "gateway": "169.254.1.1"}] == ranges[0]
    assert "fd00:64:0:25::/64" == ranges[1][0]["subnet"]
    assert 1 == len(nodeconfig.render_cni(V4, V4.nodes[0])["plugins"][0]["ipam"]["ranges"])
    assert "k8s-pod-network" == nodeconfig.render_cni(BOTH, BOTH.nodes[0])["name"]


def test_kubeadm_config_is_found_by_the_documented_expressions() -> None:
    """
    The product finds the networks by these regular expressions.

    Source: docs/reference/coordinator.md#which-cidrs.
    """
    text = nodeconfig.render_kubeadm(BOTH)["data"]["ClusterConfiguration"]

    assert ["10.233.64.0/18,fd00:64::/56"] == re.findall(r"podSubnet:\s*(\S+)", text)
    assert ["10.233.0.0/18,fd00:233::/108"] == re.findall(r"serviceSubnet:\s*(\S+)", text)


def test_kube_proxy_tells_pods_by_the_cluster_network() -> None:
    """Sources outside of it, such as the underlay's, are masqueraded on the way to a Service."""
    config = nodeconfig.render_kube_proxy(BOTH, BOTH.nodes[0])

    assert ("iptables", "10.233.64.0/18,fd00:64::/56") == (config["mode"], config["clusterCIDR"])
    assert {"maxPerCore": 0, "min": 0} == config["conntrack"]


def test_a_nodes_root_becomes_shared_after_its_own_mounts() -> None:
    """
    Private first, then the node's folders, then shared.

    Otherwise each mount would have the machine's as its peer.
    """
    lines = nodeconfig.render_init(BOTH.nodes[0]).splitlines()

    assert lines.index("mount --make-rprivate /") < lines.index(
        "mount -t tmpfs -o mode=755,size=256m tmpfs /run"
    )
    binds = [number for number, line in enumerate(lines) if line.startswith("mount --bind")]
    assert len(nodeconfig.MOUNTS) == len(binds)
    assert max(binds) < lines.index("mount --make-rshared /")


def test_the_control_plane_listens_to_its_node_alone() -> None:
    """Etcd is not reachable from other nodes, and the API server is known by the first node's address."""
    programs = controlplane.commands(BOTH, Path("/programs"))

    urls = [word for word in programs["etcd"] if "urls=" in str(word)]
    assert urls
    assert all("http://127.0.0.1:" in str(word) for word in urls)
    assert "--advertise-address=172.18.0.11" in programs["kube-apiserver"]
    assert "--authorization-mode=Node,RBAC" in programs["kube-apiserver"]
    assert list(controlplane.COMPONENTS) == list(programs)


def test_hierarchies_are_read_from_the_mount_table() -> None:
    """Both kinds of control groups are found, and nothing else."""
    table = "proc /proc proc rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"

    found = [(str(path), kind) for path, kind in cgroups.parse_hierarchies(table)]

    assert [("/sys/fs/cgroup/pids", "cgroup"), ("/sys/fs/cgroup/unified", "cgroup2")] == found


def test_missing_folders_are_made_parents_first() -> None:
    """A mount point's missing parents come before it, and what exists is not listed."""
    assert ["/proc/none", "/proc/none/x", "/proc/none/x/y"] == machine.missing_folders(
        ["/proc/none/x/y", "/proc/none", "/proc"]
    )
