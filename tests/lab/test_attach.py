"""
Pods with one and two NICs, each family and both.

What the kernel has, what the cluster shows, and who reaches whom.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from spiderlab import Lab
from tests.lab import manifests
from tests.lab.inside import Route, fetch
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOLS, NETWORKS
from tests.lab.networks import ENS192, ENS224, IPAddress, Underlay
from tests.lab.retry import until
from tests.lab.story import Pod, Story


@dataclass(frozen=True)
class Layout:
    """Which underlays a pod's NICs are on; without `eth0` that is the lab's default network."""

    nics: dict[str, Underlay]

    @property
    def first(self) -> str:
        """The NIC that has the default route of the underlay; net1 leaves eth0's alone."""
        return "eth0" if "eth0" in self.nics else ""


LAYOUTS = {
    "eth0": Layout({"eth0": ENS192}),
    "net1": Layout({"net1": ENS192}),
    "eth0+net1": Layout({"eth0": ENS192, "net1": ENS224}),
}
FAMILIES = {"v4": (4,), "v6": (6,), "dual": (4, 6)}


@pytest.mark.parametrize("families", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_nics(story: Story, lab: Lab, layout: Layout, families: tuple[int, ...]) -> None:
    """Two pods on two nodes have the pools' addresses, reach each other, the gateways and the world outside."""
    annotations = _annotations(story, layout, families)
    pods = [
        story.pod(name, annotations, node=node, wait=False)
        for name, node in (("a", "node1"), ("b", "node2"))
    ]
    story.wait_running(*pods)

    for pod in pods:
        assert story.sips_of(pod) == pod.inside.underlay()
        assert {(nic, family) for nic in layout.nics for family in families} == {
            (nic, ip.version) for nic, ip in pod.inside.underlay()
        }
        _assert_prefixes(pod, layout)
        _assert_routes(pod, layout, families)
        _assert_network_status(story, pod, layout)
    _assert_traffic(lab, pods[0], pods[1], layout, families)


def _annotations(story: Story, layout: Layout, families: tuple[int, ...]) -> dict[str, object]:
    """Make networks and pools, and give the annotations of a pod that uses them."""
    networks = {
        nic: story.macvlan(f"on-{underlay.master}", underlay)
        for nic, underlay in layout.nics.items()
    }
    items = [
        {"interface": nic, "cleangateway": nic != layout.first}
        | {
            f"ipv{family}": [story.pool(f"{nic}-v{family}", underlay, family)]
            for family in families
        }
        for nic, underlay in layout.nics.items()
    ]
    annotations: dict[str, object] = {IPPOOLS: items}
    if "eth0" in networks:
        annotations[DEFAULT_NETWORK] = networks["eth0"]
    if "net1" in networks:
        # without namespace: the pod's own
        annotations[NETWORKS] = networks["net1"].rpartition("/")[2]
    return annotations


def _assert_prefixes(pod: Pod, layout: Layout) -> None:
    """Assert that each address has the prefix length of its pool's subnet."""
    shown = pod.inside.addresses()
    for nic, underlay in layout.nics.items():
        for text in shown[nic]:
            family = 6 if ":" in text else 4
            assert text.endswith(f"/{underlay.network(family).prefixlen}")


def _assert_routes(pod: Pod, layout: Layout, families: tuple[int, ...]) -> None:
    """Assert that the default route is the first NIC's, and net1 brings none."""
    for family in families:
        defaults = [route for route in pod.inside.routes(family) if route.dst == "default"]
        if layout.first:
            assert defaults == [
                Route("default", layout.first, str(layout.nics[layout.first].gateway(family)))
            ]
        else:
            assert [route.nic for route in defaults] == ["eth0"]


def _assert_network_status(story: Story, pod: Pod, layout: Layout) -> None:
    """Assert that the annotation shows each NIC with its network, addresses, hardware address and gateways."""
    entries = {entry["interface"]: entry for entry in pod.network_status()}
    assert sorted(set(layout.nics) | {"eth0"}) == sorted(entries)
    for nic, entry in entries.items():
        underlay = layout.nics.get(nic)
        # The installation made a definition for the default network: then its name is
        # <namespace>/<name> (docs/reference/meta-plugin.md#network-status).
        assert entry["name"] == (
            f"{story.namespace}/on-{underlay.master}"
            if underlay
            else f"kube-system/{story.lab.default_network}"
        )
        uses = [text.partition("/")[0] for text in pod.inside.addresses()[nic]]
        assert sorted(entry["ips"]) == sorted(uses)
        assert entry["mac"] == pod.inside.mac(nic)
        assert entry.get("default", False) is (nic == "eth0")
        if underlay:
            versions = sorted({ip.version for held, ip in pod.inside.underlay() if held == nic})
            gateways = [str(underlay.gateway(family)) for family in versions]
            assert sorted(entry.get("gateway", [])) == sorted(
                gateways if nic == layout.first else []
            )


def _assert_traffic(lab: Lab, a: Pod, b: Pod, layout: Layout, families: tuple[int, ...]) -> None:
    """Assert that a reaches b on every network, each NIC its gateway, and the host outside the pods that it has a way to."""
    for family in families:
        for nic, underlay in layout.nics.items():
            _reads(a, b.address(nic, family), b.name)
            until(
                lambda u=underlay, f=family: a.inside.pings(u.gateway(f)),
                f"a reaches {underlay.gateway(family)}",
            )
    if layout.first:
        for family in families:
            command = fetch(b.address(layout.first, family))
            until(
                lambda c=command: lab.in_client(c).stdout.strip() == b.name,
                f"the client reaches b by IPv{family}",
            )
    else:
        _reads(a, b.address("eth0"), b.name)


def _reads(pod: Pod, address: IPAddress, name: str) -> None:
    """Assert that a pod reads a name from an address."""
    until(
        lambda: pod.inside.reads(address) == name, f"{pod} reads {name} from {address}", within_s=15
    )


def test_pod_restart_keeps_its_sandbox_and_addresses(story: Story) -> None:
    """
    A container that ends is started again in the same sandbox.

    The pod keeps addresses and records.
    """
    annotations = {
        DEFAULT_NETWORK: story.macvlan("lan"),
        IPPOOLS: [{"interface": "eth0", "ipv4": [story.pool("p")]}],
    }
    pod = story.pod("pod", annotations)
    before = pod.inside.underlay()

    # at once, kubectl exec would now and then die with the container
    later = "(sleep 1; kill -TERM 1) >/dev/null 2>&1 &"
    story.lab.kubectl("-n", story.namespace, "exec", pod.name, "--", "sh", "-c", later)
    until(lambda: _restarts(pod) == 1 and pod.runs(), "the container was restarted", within_s=40)

    assert before == pod.inside.underlay()
    assert before == story.sips_of(pod)


def _restarts(pod: Pod) -> int:
    """Count how often a pod's containers were started again."""
    statuses = (pod.thing or {}).get("status", {}).get("containerStatuses", [])
    return sum(status["restartCount"] for status in statuses)


def test_host_network_pod_gets_nothing(story: Story) -> None:
    """A pod in the node's own network asks for no address, whatever its annotations say."""
    manifest_pool = story.pool("p")

    spec = manifests.pod_spec("node1") | {"hostNetwork": True}
    spec["containers"][0]["command"] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait"]
    thing = story.kube.create(
        manifests.pod("host", story.namespace, {IPPOOLS: [{"ipv4": [manifest_pool]}]}, {}, spec)
    )
    pod = Pod(story.kube, thing)
    until(pod.runs, "the pod runs")

    assert [] == story.records()
    story.delete(pod)
