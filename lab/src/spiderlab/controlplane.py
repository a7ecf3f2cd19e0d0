"""etcd, API server, controller manager and scheduler: their command lines. Pure.

They run inside the first node's namespaces: kube-proxy there makes Service addresses reachable,
which webhooks need.
"""

from pathlib import Path

from spiderlab import paths
from spiderlab.topology import API_PORT, Topology

ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
)
COMPONENTS = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)

Command = list[str | Path]


def commands(topology: Topology, programs: Path) -> dict[str, Command]:
    """Each component's command line, in the order to start them."""
    return {
        ETCD: etcd(),
        API_SERVER: api_server(topology, programs),
        CONTROLLER_MANAGER: controller_manager(topology, programs),
        SCHEDULER: scheduler(programs),
    }


def etcd() -> Command:
    """
    No fsync.

    A lab that loses power is made again, and commits cost what they cost on a fast disk.
    """
    return [
        "etcd",
        "--name=lab",
        f"--data-dir={paths.ETCD}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=lab=http://127.0.0.1:2380",
        "--unsafe-no-fsync",
        "--quota-backend-bytes=4294967296",
        "--snapshot-count=50000",
        "--log-level=warn",
    ]


def api_server(topology: Topology, programs: Path) -> Command:
    """Authorization as kubeadm sets it; pods leave a lost node after 10 s instead of 5 minutes."""
    pki = paths.PKI
    return [
        programs / "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={topology.control_plane.ip}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={topology.service_networks}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-account.key'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--default-not-ready-toleration-seconds=10",
        "--default-unreachable-toleration-seconds=10",
        "--shutdown-delay-duration=0s",
        "--profiling=false",
    ]


def controller_manager(topology: Topology, programs: Path) -> Command:
    """
    Notices a lost node after 15 s.

    Its client is not the one that limits a test with thousands of pods.
    """
    config = paths.kubeconfig(CONTROLLER_MANAGER)
    return [
        programs / "kube-controller-manager",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--root-ca-file={paths.PKI / 'ca.crt'}",
        f"--service-account-private-key-file={paths.PKI / 'service-account.key'}",
        f"--cluster-signing-cert-file={paths.PKI / 'ca.crt'}",
        f"--cluster-signing-key-file={paths.PKI / 'ca.key'}",
        f"--cluster-cidr={topology.pod_networks}",
        f"--service-cluster-ip-range={topology.service_networks}",
        "--allocate-node-cidrs=false",
        "--use-service-account-credentials=true",
        "--controllers=*",
        "--node-monitor-grace-period=15s",
        "--node-monitor-period=2s",
        "--node-eviction-rate=1",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--concurrent-gc-syncs=40",
        f"--flex-volume-plugin-dir={paths.DATA / 'volume-plugins'}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]


def scheduler(programs: Path) -> Command:
    """One scheduler without election."""
    config = paths.kubeconfig(SCHEDULER)
    return [
        programs / "kube-scheduler",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--kube-api-qps=300",
        "--kube-api-burst=600",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    ]
