"""kube-router as the lab's default network: its configuration, command line and rights. Pure.

It routes between nodes without encapsulation (routes by BGP among the nodes), masquerades what
leaves the pod network and carries out NetworkPolicy. kube-proxy does Services, as beside any other
network.
"""

from pathlib import Path
from typing import Any

from spiderlab import paths
from spiderlab.rbac import GROUP, Object, reader
from spiderlab.topology import Topology

USER = "kube-router"
CNI_FILE = "10-kuberouter.conflist"
CNI_NETWORK = "kube-router"
BRIDGE = "kube-bridge"


def render_cni() -> dict[str, Any]:
    """
    The network as it is before kube-router starts.

    The program writes the node's pod blocks into `ipam`.
    """
    return {
        "cniVersion": "1.0.0",
        "name": CNI_NETWORK,
        "plugins": [
            {
                "name": "kubernetes",
                "type": "bridge",
                "bridge": BRIDGE,
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipam": {"type": "host-local"},
            },
            {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
        ],
    }


def command(topology: Topology, node: str, program: Path) -> list[str | Path]:
    """The command line on one node: the network and NetworkPolicy, not Services."""
    ranges = [f"--service-cluster-ip-range={each}" for each in topology.service_networks.split(",")]
    return [
        "env",
        f"KUBE_ROUTER_CNI_CONF_FILE=/etc/cni/net.d/{CNI_FILE}",
        program,
        f"--kubeconfig={paths.kubeconfig(USER)}",
        f"--hostname-override={node}",
        "--run-router=true",
        "--run-firewall=true",
        "--run-service-proxy=false",
        "--enable-overlay=false",
        "--enable-pod-egress=true",
        f"--enable-ipv6={str(topology.ipv6).lower()}",
        *ranges,
        "--bgp-graceful-restart=true",
        "--health-port=0",
    ]


def objects() -> list[Object]:
    """Its rights: what it watches."""
    watched = {
        "": ["namespaces", "pods", "services", "nodes", "endpoints"],
        "networking.k8s.io": ["networkpolicies"],
        "discovery.k8s.io": ["endpointslices"],
    }
    return reader(USER, watched, {"apiGroup": GROUP, "kind": "User", "name": USER})
