"""
The installation.

What Helm brings, what an upgrade changes, that an uninstall leaves nothing, and that it can come
back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderlab import Lab, binaries
from spiderlab.lab import LabNode
from spiderlab.peers import Meta
from tests.lab import manifests
from tests.lab.kube import KINDS, Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, IPPOOLS, NETWORKS
from tests.lab.retry import until, until_none
from tests.lab.story import Pod, Story, is_running, kubelet_says
from tests.lab.test_node_settings import report, sysctl

pytestmark = pytest.mark.still

RELEASE_NAMESPACE = "kube-system"
REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "deploy/chart/spiderpool"
ORIGINAL = REPOSITORY / "deploy/chart/spiderpool-v1.2.1-values.yaml"
CRDS = (
    "spidercoordinators",
    "spiderendpoints",
    "spiderippools",
    "spiderips",
    "spidermultusconfigs",
    "spiderreservedips",
)
EXECUTABLES = ("spiderpool", "coordinator", "ifacer")
# What each meta plugin has on a node: its configuration, then what else there is of it.
META_FILES = {
    Meta.BUILTIN: ("/etc/cni/net.d/00-spiderpool.conflist", "/opt/cni/bin/spiderpool-multus"),
    Meta.MULTUS: (
        "/etc/cni/net.d/00-multus.conf",
        "/etc/cni/net.d/multus.d",
        "/opt/cni/bin/multus",
        "/opt/cni/bin/passthru",
    ),
}
INSTALLED_KINDS = (
    "ServiceAccount", "Secret", "ConfigMap", "Service", "Deployment", "DaemonSet", "Job", "Pod", "Lease", "PodDisruptionBudget",
    "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "FlowSchema", "PriorityLevelConfiguration",
    "CustomResourceDefinition", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
)  # fmt: skip


def test_crds_are_established(kube: Kube) -> None:
    """All kinds are served, with the short names of the reference."""
    things = {
        thing["spec"]["names"]["plural"]: thing for thing in kube.list("CustomResourceDefinition")
    }

    for plural in (*CRDS, "network-attachment-definitions"):
        conditions = {
            condition["type"]: condition["status"]
            for condition in things[plural]["status"]["conditions"]
        }
        assert ("True", "True") == (conditions["Established"], conditions["NamesAccepted"])
    shorts = {short for plural in CRDS for short in things[plural]["spec"]["names"]["shortNames"]}
    assert {"sp", "sr", "se", "sip", "scc", "smc"} <= shorts


def test_agents_on_all_nodes(kube: Kube, lab: Lab) -> None:
    """Every node has a ready agent, its executables and the configuration of the meta plugin, first in the order of names."""
    agents = _pods(kube, "spiderpool-agent")
    assert sorted(node.name for node in lab.nodes) == sorted(
        agent["spec"]["nodeName"] for agent in agents
    )
    for node in lab.nodes:
        # /var/run is an absolute link, out of the node
        assert node.path("/run/spidernet/spiderpool.sock").is_socket()
        assert all(os.access(node.path(f"/opt/cni/bin/{name}"), os.X_OK) for name in EXECUTABLES)
        assert [lab.peers.meta] == _meta_plugins_on(node)


def _meta_plugins_on(node: LabNode) -> list[Meta]:
    """Return the meta plugins of which a node has all files; runtimes take the first configuration."""
    found = []
    for meta, files in META_FILES.items():
        there = [file for file in files if node.path(file).exists()]
        if there:
            assert len(files) == len(there), f"{node.name} has only {there} of {meta}"
            found.append(meta)
    first = min(path.name for path in node.path("/etc/cni/net.d").glob("*.conf*"))
    assert not found or first in {META_FILES[meta][0].rpartition("/")[2] for meta in found}
    return found


def test_two_controllers_one_leader(kube: Kube) -> None:
    """Two controllers run on two nodes, and one of them holds the lease."""
    pods = _controllers(kube)

    assert 2 == len({pod["spec"]["nodeName"] for pod in pods})
    lease = kube.need("Lease", "spiderpool-controller-leases", RELEASE_NAMESPACE)
    assert lease["spec"]["holderIdentity"] in {pod["metadata"]["name"] for pod in pods}
    assert ["spiderpool-controller"] == [
        container["name"] for container in pods[0]["spec"]["containers"]
    ]


def _pods(kube: Kube, component: str) -> list[Thing]:
    """Return the pods of a component that run, those that are about to end among them."""
    pods = kube.list("Pod", RELEASE_NAMESPACE, labels=f"app.kubernetes.io/component={component}")
    return [pod for pod in pods if pod["status"]["phase"] == "Running"]


def _controllers(kube: Kube) -> list[Thing]:
    """Wait until there are two controllers, both ready and none about to end, and give them."""

    def settled() -> list[Thing]:
        pods = _pods(kube, "spiderpool-controller")
        return pods if len(pods) == 2 and all(map(is_running, pods)) else []

    return until(settled, "two controllers are ready, and no other is left", within_s=60)


def test_webhooks_and_api_share(kube: Kube) -> None:
    """
    Webhooks of the controller's name fail closed and look at no status.

    Both service accounts have a flow schema.
    """
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        webhooks = {
            hook["name"]: hook for hook in kube.need(kind, "spiderpool-controller")["webhooks"]
        }
        for name in ("spiderippool", "spiderreservedip"):
            hook = webhooks[f"{name}.spiderpool.spidernet.io"]
            assert ("Fail", "None") == (hook["failurePolicy"], hook["sideEffects"])
            assert [[f"{name}s"]] == [rule["resources"] for rule in hook["rules"]]
    names = {
        subject["serviceAccount"]["name"]
        for schema in kube.list("FlowSchema")
        for rule in schema["spec"].get("rules", [])
        for subject in rule["subjects"]
        if subject["kind"] == "ServiceAccount"
    }
    assert {"spiderpool-agent", "spiderpool-controller"} <= names


@pytest.mark.parametrize("account", ["spiderpool-agent", "spiderpool-controller"])
def test_rights_are_few(kube: Kube, account: str) -> None:
    """
    Neither service account may read secrets, make pods, change nodes or grant rights.

    Both may read pools.
    """
    forbidden = (("get", "", "secrets"), ("create", "", "pods"), ("delete", "", "pods"), ("patch", "", "nodes"),
                 ("create", "rbac.authorization.k8s.io", "clusterroles"), ("delete", "apps", "deployments"))  # fmt: skip

    assert [] == [
        f"{verb} {what}"
        for verb, group, what in forbidden
        if _may(kube, account, verb, group, what)
    ]
    assert _may(kube, account, "list", "spiderpool.spidernet.io", "spiderippools")


def _may(kube: Kube, account: str, verb: str, group: str, resource: str) -> bool:
    """Return whether a service account may do something in the release's namespace."""
    what = {"namespace": RELEASE_NAMESPACE, "verb": verb, "group": group, "resource": resource}
    user = f"system:serviceaccount:{RELEASE_NAMESPACE}:{account}"
    spec = {
        "user": user,
        "groups": ["system:serviceaccounts", "system:authenticated"],
        "resourceAttributes": what,
    }
    review = kube.create({"kind": "SubjectAccessReview", "metadata": {}, "spec": spec})
    return review["status"]["allowed"]


def test_metrics(kube: Kube, lab: Lab) -> None:
    """Agent and controller show their counters under the documented names."""
    node = lab.node(_pods(kube, "spiderpool-controller")[0]["spec"]["nodeName"])
    agent, controller = (_metrics(node, port) for port in (5711, 5721))

    for name in (
        "ipam_allocation_counts_total",
        "ipam_allocation_failure_counts_total",
        "ipam_release_counts_total",
    ):
        assert f"spiderpool_{name}" in agent
    for name in ("ip_gc_counts_total", "total_ippool_counts"):
        assert f"spiderpool_{name}" in controller


def _metrics(node: LabNode, port: int) -> str:
    """Read a metrics page on a node."""
    program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics', timeout=5).read().decode())"
    done = node.exec([shutil.which("python3") or "python3", "-ISc", program])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_no_write_is_lost_while_controllers_are_replaced(kube: Kube, lab: Lab) -> None:
    """Webhooks fail closed, and still no write to a pool fails while one controller after the other is made again."""
    thing = manifests.pool("replaced", "10.6.0.0/16", ["10.6.190.200"])
    old = {pod["metadata"]["uid"] for pod in _controllers(kube)}
    lab.kubectl("-n", RELEASE_NAMESPACE, "rollout", "restart", "deployment/spiderpool-controller")

    deadline, written = time.monotonic() + 120, 0
    while old & (
        now := {pod["metadata"]["uid"] for pod in _pods(kube, "spiderpool-controller")}
    ) or len(now) < len(old):
        assert time.monotonic() < deadline, "the controllers were not replaced within 120 s"
        kube.create(thing, dry_run=True)
        written += 1

    assert written > 20
    _controllers(kube)


@pytest.mark.timeout(400)
def test_upgrade(story: Story, tmp_path: Path) -> None:
    """
    An upgrade brings CRDs and settings up to date.

    A running pod keeps its address, and its pool cannot be deleted.
    """
    pool = story.pool("p")
    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}})
    before = pod.inside.underlay()
    column = {"name": "ADDED", "type": "string", "jsonPath": ".spec.state", "priority": 10}
    new = _chart_with_column(tmp_path / "chart", column)
    guarded = "spiderpoolController.enableValidatingResourcesDeletedWebhook=true"

    _upgrade(story.kube, story.lab, new, guarded)
    assert "ADDED" in _columns(story.kube)
    with pytest.raises(Refused) as refused:
        story.kube.delete("SpiderIPPool", pool)
    assert (403, "Forbidden") == (refused.value.code, refused.value.reason), refused.value
    assert pool in refused.value.message
    assert before == pod.inside.underlay() == story.sips_of(pod)

    _upgrade(story.kube, story.lab, CHART, guarded.replace("true", "false"))
    assert "ADDED" not in _columns(story.kube)


def _chart_with_column(chart: Path, column: dict[str, Any]) -> Path:
    """Return a copy of the chart whose CRD of addresses has one more column."""
    shutil.copytree(CHART, chart)
    path = next(
        file
        for file in (chart / "crds").glob("*.yaml")
        if "spiderips" in file.read_text().split("scope:")[0]
    )
    crd = yaml.safe_load(path.read_text())
    crd["spec"]["versions"][0]["additionalPrinterColumns"].append(column)
    path.write_text(yaml.safe_dump(crd))
    return chart


def _upgrade(kube: Kube, lab: Lab, chart: Path, setting: str) -> None:
    """
    Upgrade with all values kept but one.

    Helm waits until all but one of the controllers are new, we for the last too.
    """
    words = ["--reuse-values", "--set", setting, "--wait", "--timeout", "180s"]
    lab.helm("upgrade", "spiderpool", str(chart), "-n", RELEASE_NAMESPACE, *words, timeout_s=200)
    lab.kubectl(
        "-n",
        RELEASE_NAMESPACE,
        "rollout",
        "status",
        "deployment/spiderpool-controller",
        "--timeout=120s",
    )
    _controllers(kube)


def _columns(kube: Kube) -> list[str]:
    """Return the columns of addresses."""
    crd = kube.need("CustomResourceDefinition", "spiderips.spiderpool.spidernet.io")
    return [column["name"] for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]]


def _install(*words: str) -> None:
    """Install as the lab does, with further words for Helm."""
    command = [str(REPOSITORY / "deploy/install.sh"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, (
        f"deploy/install.sh failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )


@pytest.fixture
def reinstalled(kube: Kube, lab: Lab) -> Iterator[None]:
    """Install again after the test, whatever became of it."""
    yield
    _install()
    story = Story(kube, lab, f"again-{os.getpid()}")
    pod = story.pod(
        "pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [story.pool("p")]}}
    )
    assert pod.inside.underlay() == story.sips_of(pod)
    story.assert_clean()
    story.close()


@pytest.mark.timeout(500)
@pytest.mark.usefixtures("reinstalled")
def test_uninstall(kube: Kube, lab: Lab) -> None:
    """
    An uninstall takes away everything but the records, while a pod holds an address.

    The pod goes on with its address, new pods start on the default network, and the next
    installation knows the address. One that is told so deletes the records too.
    """
    story = Story(kube, lab, f"uninstall-{os.getpid()}")
    pool, lan = story.pool("p"), story.macvlan("lan")
    pod = story.pod("pod", {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [pool]}})
    in_use = pod.inside.underlay()
    changed = {node.name: report(node)["settings"] for node in lab.nodes}

    said = _uninstall(lab)

    assert "workloads hold" in said
    assert "evenIfHeld=true" in said
    until(lambda: _leftovers(kube) == _definitions(kube), "only definitions are left", within_s=60)
    assert in_use == story.sips_of(pod) == pod.inside.underlay()
    _check_nodes(lab, changed)
    plain = story.pod("plain")
    assert set() == plain.inside.underlay()
    story.delete(plain)

    _install("--set", "spiderpoolController.cleanup.evenIfHeld=true")
    other = story.pod("other", {DEFAULT_NETWORK: lan, IPPOOL: {"ipv4": [pool]}})
    assert in_use == story.sips_of(pod) == pod.inside.underlay()
    assert not in_use & story.sips_of(other)
    changed = {node.name: report(node)["settings"] for node in lab.nodes}

    _uninstall(lab)

    until_none(lambda: _leftovers(kube), "no object of the release is left", within_s=60)
    _check_nodes(lab, changed)
    until_none(
        lambda: _definitions_of_networks(kube), "definitions went with their networks", within_s=60
    )
    assert in_use == pod.inside.underlay()
    story.delete(pod, other)
    until(lambda: story.ended(pod), "nothing of the old pod runs")
    kube.delete("Namespace", story.namespace)


def _uninstall(lab: Lab) -> str:
    """Uninstall, and return what Helm and the job said: the job's words are on standard error."""
    words = ("uninstall", "spiderpool", "-n", RELEASE_NAMESPACE, "--wait", "--timeout", "180s")
    done = subprocess.run(
        [str(binaries.program("helm")), f"--kubeconfig={lab.kubeconfig}", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def _definitions(kube: Kube) -> list[str]:
    """Return the definitions of our kinds, as leftovers are named."""
    return [name for name in _leftovers(kube) if name.startswith("CustomResourceDefinition/")]


def _check_nodes(lab: Lab, changed: Mapping[str, Any]) -> None:
    """Check that nothing of the product is on the nodes, and that their settings are as they were."""
    for node in lab.nodes:
        assert [] == _leftovers_on(node)
        back = {
            setting["key"]: setting["before"]
            for setting in changed[node.name]
            if not setting["kept"]
        }
        assert back == {key: sysctl(node, key) for key in back}


@pytest.fixture
def with_multus(lab: Lab) -> None:
    """In a lab whose nodes lack the image of Multus the test cannot be."""
    if lab.peers.meta is not Meta.MULTUS:
        pytest.skip("needs the image of Multus on the nodes: spiderlab up --meta multus")


@pytest.mark.timeout(500)
@pytest.mark.usefixtures("with_multus", "reinstalled")
def test_switching_the_meta_plugin(story: Story, lab: Lab) -> None:
    """
    From Multus to the builtin plugin, back, and to none at all: each node has the files of one at a time.

    Pods with two interfaces start under each, and those that the former one made end as they should.
    """
    pool, lan = story.pool("p"), story.macvlan("lan")

    def pod(name: str) -> Pod:
        chosen = [{"interface": "net1", "ipv4": [pool]}]
        found = story.pod(name, {NETWORKS: lan, IPPOOLS: chosen})
        assert found.inside.underlay() == story.sips_of(found) != set()
        return found

    old = pod("before")
    for number, setting, expected in (
        (1, "multus.builtin.enabled=true", [Meta.BUILTIN]),
        (2, "multus.builtin.enabled=false", [Meta.MULTUS]),
    ):
        _upgrade(story.kube, lab, CHART, setting)
        _until_nodes_have(lab, expected)
        new = pod(f"pod-{number}")
        story.delete(old)
        story.wait_gone(old)
        old = new

    _upgrade(story.kube, lab, CHART, "multus.multusCNI.log.logLevel=verbose")
    for node in lab.nodes:
        conf = node.path(META_FILES[Meta.MULTUS][0])
        until(lambda conf=conf: "verbose" in conf.read_text(), "the configuration was rewritten")

    _upgrade(story.kube, lab, CHART, "multus.multusCNI.uninstall=true")
    _until_nodes_have(lab, [])
    plain = story.pod("plain", {NETWORKS: lan})
    assert set() == plain.inside.underlay()
    story.delete(plain, old)


def _until_nodes_have(lab: Lab, expected: list[Meta]) -> None:
    """Wait until all nodes have the files of these meta plugins only."""

    def settled() -> bool:
        try:
            return all(expected == _meta_plugins_on(node) for node in lab.nodes)
        except AssertionError:
            return False  # one file goes after the other

    until(settled, f"each node has the files of {expected}", within_s=30)


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("with_multus", "reinstalled")
def test_old_values_file(story: Story, lab: Lab) -> None:
    """The original's own file of values installs, as it is: only Multus' version is the lab's."""
    files = ("-f", str(ORIGINAL), "--set", "multus.multusCNI.image.tag=v4.2.3")
    words = ("-n", RELEASE_NAMESPACE, *files, "--wait", "--timeout", "180s")
    said = lab.helm("upgrade", "spiderpool", str(CHART), *words, timeout_s=200)

    assert "plugins.installOvsCNI" in said
    pod = story.pod(
        "pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [story.pool("p")]}}
    )
    assert pod.inside.underlay() == story.sips_of(pod)


@pytest.mark.timeout(400)
@pytest.mark.usefixtures("reinstalled")
def test_plugins(story: Story, lab: Lab) -> None:
    """The CNI project's plugins come to nodes that lack them; the node's own stay as they are."""
    own = {
        (node.name, name): node.path(f"/opt/cni/bin/{name}").stat().st_mtime_ns
        for node in lab.nodes
        for name in ("macvlan", "loopback")
    }
    _upgrade(story.kube, lab, CHART, "plugins.installCNI=true")

    for node in lab.nodes:
        for name in ("ipvlan", "sbr", "bandwidth", "dhcp"):
            assert os.access(node.path(f"/opt/cni/bin/{name}"), os.X_OK)
    assert own == {key: _file(lab, *key).stat().st_mtime_ns for key in own}
    done = lab.nodes[0].exec(["/opt/cni/bin/sbr"])
    assert "CNI sbr plugin" in done.stderr


def test_missing_plugin(story: Story) -> None:
    """A pod whose network needs an executable that its node lacks waits, and an Event names both."""
    conf = {"cniVersion": "1.0.0", "name": "rail", "type": "sriov", "ipam": {"type": "spiderpool"}}
    story.kube.create(
        {
            "kind": "NetworkAttachmentDefinition",
            "metadata": {"name": "rail", "namespace": story.namespace},
            "spec": {"config": json.dumps(conf)},
        }
    )
    pod = story.pod("pod", {NETWORKS: f"{story.namespace}/rail"}, wait=False)

    until(lambda: kubelet_says(pod, "plugin", "sriov"), "an Event names the plugin", within_s=60)
    story.delete(pod)


def _file(lab: Lab, node: str, name: str) -> Path:
    """Return the path of an executable on a node."""
    return lab.node(node).path(f"/opt/cni/bin/{name}")


def _leftovers(kube: Kube) -> list[str]:
    """Return the objects that the release, its hooks or its programs made."""
    return [
        f"{kind}/{thing['metadata']['name']}"
        for kind in INSTALLED_KINDS
        for thing in kube.list(kind, RELEASE_NAMESPACE if KINDS[kind][2] else "")
        if "spider" in thing["metadata"]["name"]
    ]


def _definitions_of_networks(kube: Kube) -> list[str]:
    """Return the definitions that belong to a SpiderMultusConfig."""
    return [
        thing["metadata"]["name"]
        for thing in kube.list("NetworkAttachmentDefinition")
        if any(
            owner["kind"] == "SpiderMultusConfig"
            for owner in thing["metadata"].get("ownerReferences", [])
        )
    ]


def _leftovers_on(node: LabNode) -> list[str]:
    """Return the files of the product on a node; a socket's empty folder may stay."""
    files = [
        *(file for files in META_FILES.values() for file in files),
        "/run/spidernet/spiderpool.sock",
        "/run/spidernet/node-settings.json",
        "/var/lib/cni/spiderpool",
        *(f"/opt/cni/bin/{name}" for name in (*EXECUTABLES, "vlan")),
    ]
    return [file for file in files if node.path(file).exists()]
