"""What a lab runs of others: the default network, the meta plugin, the cluster's DNS."""

import ipaddress
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderlab import binaries, dns, images, kuberouter, nodeconfig, packages, state
from spiderlab.errors import LabError
from spiderlab.peers import QUICK, Cni, Meta, Peers
from spiderlab.state import Phase, State
from spiderlab.topology import SERVICE_NETWORK, parse_topology
from spiderlab.wiring import plan_node

REPOSITORY = Path(__file__).parents[3]
ROUTED = parse_topology(["a", "b"], peers=Peers(Cni.KUBE_ROUTER, Meta.MULTUS))


def test_a_lab_builds_what_it_runs_and_no_more() -> None:
    """The quick lab needs neither Multus nor kube-router, nor packages for them."""
    assert set(binaries.BASE) == set(binaries.sets_of(QUICK))
    assert {"multus"} == {s.name for s in binaries.sets_of(Peers(meta=Meta.MULTUS))} - {
        s.name for s in binaries.BASE
    }
    assert set(binaries.ALL) == set(binaries.sets_of(ROUTED.peers))
    assert "ipset" not in packages.PACKAGE_OF
    assert {} == QUICK.packages
    assert {"ipset": "ipset"} == ROUTED.peers.packages


def test_a_program_that_is_not_built_tells_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only some labs run has an option of its own."""
    monkeypatch.setenv("CACHE", "/nonexistent")
    monkeypatch.delenv("KUBE_BIN_DIR", raising=False)

    with pytest.raises(LabError, match=r"spiderlab binaries multus$"):
        binaries.program("multus")
    with pytest.raises(LabError, match=r"spiderlab binaries coredns$"):
        binaries.program("coredns")


def test_versions_are_those_of_the_modules() -> None:
    """What a set's name tells is what its go.mod asks for."""
    asked = {
        binaries.DNS: f"github.com/coredns/coredns {binaries.COREDNS}",
        binaries.MULTUS: f"multus-cni.v4 {binaries.MULTUS_VERSION}",
        binaries.KUBE_ROUTER: f"kube-router/v2 {binaries.KUBE_ROUTER_VERSION}",
    }
    for binary_set, text in asked.items():
        assert text in (binary_set.module / "go.mod").read_text()


def test_the_choice_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab's peers come back from its memory: a rebooted node starts the same programs."""
    monkeypatch.setattr("spiderlab.paths.RUN", tmp_path)
    monkeypatch.setattr("spiderlab.paths.STATE", tmp_path / "state.json")
    State(["a"], ipv6=True, peers=ROUTED.peers, phase=Phase.RUNNING).save()

    found = state.require()
    assert ROUTED.peers == found.peers == found.topology.peers


def test_another_network_makes_its_own_routes_and_masquerade() -> None:
    """Beside kube-router the lab writes no routes to pods and no rule; the default routes stay."""
    plan = plan_node(ROUTED, ROUTED.nodes[0])

    assert () == plan.iptables == plan.ip6tables
    assert [] == [line for line in plan.batch if "10.233." in line or "fd00:64" in line]
    assert {
        "route add default via 172.18.0.1 dev eth0",
        "route add default via fd00:18::1 dev eth0",
    } <= {*plan.batch}


def test_kube_routers_file_is_the_one_that_it_fills_in() -> None:
    """The program is told the file's name, and a bridge with host-local waits there for the blocks."""
    name, network = nodeconfig.cni_file(ROUTED, ROUTED.nodes[0])
    command = [str(word) for word in kuberouter.command(ROUTED, "a", Path("/p/kube-router"))]

    assert f"KUBE_ROUTER_CNI_CONF_FILE=/etc/cni/net.d/{name}" in command
    assert ["bridge", "portmap"] == [plugin["type"] for plugin in network["plugins"]]
    assert {"type": "host-local"} == network["plugins"][0]["ipam"]
    assert {"bridge", "portmap", "host-local"} <= set(binaries.CNI.programs)
    assert {
        "--service-cluster-ip-range=10.233.0.0/18",
        "--service-cluster-ip-range=fd00:233::/108",
        "--enable-ipv6=true",
    } <= {*command}


def test_kube_router_without_ipv6() -> None:
    """One family: one range, and the program is told so."""
    alone = parse_topology(["a"], ipv6=False, peers=Peers(cni=Cni.KUBE_ROUTER))
    command = [str(word) for word in kuberouter.command(alone, "a", Path("/p/kube-router"))]

    assert "--enable-ipv6=false" in command
    assert ["--service-cluster-ip-range=10.233.0.0/18"] == [w for w in command if "range" in w]


def test_pods_are_told_the_address_that_dns_has() -> None:
    """
    Kubelets name the Service's address and domain.

    The Service selects the pods of the Deployment.
    """
    things = {thing["kind"]: thing for _, thing in dns.objects(Path("/programs"))}
    kubelet = nodeconfig.render_kubelet(ROUTED.nodes[0])
    service, deployment = things["Service"], things["Deployment"]

    assert [service["spec"]["clusterIP"]] == kubelet["clusterDNS"] == ["10.233.0.10"]
    assert ipaddress.ip_address(service["spec"]["clusterIP"]) in SERVICE_NETWORK
    assert f"kubernetes {kubelet['clusterDomain']} " in things["ConfigMap"]["data"]["Corefile"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert f"dnsDomain: {kubelet['clusterDomain']}" in _cluster_configuration()


def _cluster_configuration() -> str:
    text: str = nodeconfig.render_kubeadm(ROUTED)["data"]["ClusterConfiguration"]
    return text


def test_every_object_is_at_its_own_path() -> None:
    """Server-side apply asks for the same name in path and object."""
    for path, thing in (*dns.objects(Path("/programs")), *kuberouter.objects()):
        assert path.rpartition("/")[2] == thing["metadata"]["name"]
        assert thing["metadata"].get("namespace", "") in path


def test_the_image_of_multus_is_as_the_chart_expects_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The chart's init container runs `/install_multus`, which copies from `/usr/src/multus-cni/bin`."""
    for name in binaries.MULTUS.programs:
        (tmp_path / name).write_bytes(name.encode())
    monkeypatch.setattr(binaries, "program", lambda name: tmp_path / name)

    images.make_multus(tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as archive:
        manifest = json.load(_member(archive, "manifest.json"))[0]
        with tarfile.open(fileobj=_member(archive, manifest["Layers"][0])) as layer:
            found = {member.name: member.mode for member in layer}
    assert {
        "install_multus": 0o755,
        "usr/src/multus-cni/bin/multus": 0o755,
        "usr/src/multus-cni/bin/passthru": 0o755,
    } == found
    assert [_image_of_the_values()] == manifest["RepoTags"]


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file is not None
    return file


def _image_of_the_values() -> str:
    values = yaml.safe_load((REPOSITORY / "deploy/lab/values-multus.yaml").read_text())
    image = values["multus"]["multusCNI"]["image"]
    return f"{image['registry']}/{image['repository']}:{image['tag']}"
