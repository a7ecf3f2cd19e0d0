"""
What the chart installs, against the reference and against our own readers of its output.

Source: docs/reference/configuration.md, docs/reference/admission.md.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from deploy.release.chart import pack_again
from spiderlab import binaries
from spiderpool.agent.settings import read_settings as read_agent_settings
from spiderpool.configuration.config import parse_config
from spiderpool.controller.settings import read_settings as read_controller_settings
from spiderpool.installer.default_pools import read_defaults
from tests.chart.rendering import (
    CHART,
    NAMESPACE,
    ROOT,
    VALUES_DIR,
    Rendered,
    env_of,
    helm,
    notes,
    refusal,
    render,
    template,
)

OWN = {path.stem.partition("_")[2] for path in (ROOT / "deploy/crds").glob("*.yaml")}
AGENT, CONTROLLER, INIT = "spiderpool-agent", "spiderpool-controller", "spiderpool-init"
GROUP = "spiderpool.spidernet.io"
WARNS = f"annotations.{GROUP}"
NOTHING: dict[str, Any] = {}
THEIRS = {"repository": "spidernet-io/spiderpool/spiderpool-agent"}
CNI_PLUGINS = (
    "macvlan", "ipvlan", "vlan", "bridge", "ptp", "host-device", "tuning", "sbr", "bandwidth", "portmap", "loopback",
    "static", "host-local", "dhcp",
)  # fmt: skip
LAB = yaml.safe_load((ROOT / "deploy/lab/values.yaml").read_text())
POOLS = {
    "installIPv4IPPool": True,
    "installIPv6IPPool": True,
    "ipv4Subnet": "10.6.0.0/16",
    "ipv4IPRanges": ["10.6.168.10-10.6.168.20"],
    "ipv4Gateway": "10.6.0.1",
    "ipv6Subnet": "fd00:6::/64",
}


def test_lint() -> None:
    """Helm finds nothing to say against it, with its own values and with the lab's."""
    for values in (NOTHING, LAB):
        done = helm(
            "lint", str(CHART), "--strict", "--kube-version", "1.29.0", values=json.dumps(values)
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_of_a_release_is_the_chart(tmp_path: Path) -> None:
    """What a release packs, and packs again, installs the same objects as the folder does."""
    command = [str(binaries.program("helm")), "package", str(CHART), "--destination", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603  the lab's Helm
    (package,) = tmp_path.glob("*.tgz")
    pack_again(package, tmp_path / "again.tgz", 1_700_000_000)
    provided = {"tlsCert": "Y2VydA==", "tlsKey": "a2V5", "tlsCa": "Y2E="}
    values = json.dumps(
        {"spiderpoolController": {"tls": {"method": "provided", "provided": provided}}}
    )

    expected = template(values)
    assert "kind: DaemonSet" in expected.stdout
    assert expected.stdout == template(values, chart=tmp_path / "again.tgz").stdout


def test_components() -> None:
    """There is one DaemonSet, one Deployment and the jobs, named as the reference names them."""
    things = render()
    assert [AGENT] == things.names("DaemonSet")
    assert [CONTROLLER] == things.names("Deployment")
    assert [CONTROLLER + "-cleanup", INIT, INIT + "-crds"] == things.names("Job")
    assert CONTROLLER == things.container("Deployment", CONTROLLER)["name"]
    assert ["/usr/local/bin/spiderpool-agent", "daemon", "--config-path"] == _command(
        things, "DaemonSet", AGENT
    )[:3]
    assert ["/usr/local/bin/spiderpool-controller", "daemon", "--config-path"] == _command(
        things, "Deployment", CONTROLLER
    )[:3]


def _command(things: Rendered, kind: str, name: str) -> list[str]:
    container = things.container(kind, name)
    return [*container["command"], *container["args"]]


def test_nothing_without_a_crd() -> None:
    """
    No object of our own group is part of the release.

    Those that have a CRD are the init job's to make.
    """
    things = render({"clusterDefaultPool": POOLS})
    assert [] == [t["kind"] for t in things.things if t["apiVersion"].startswith(GROUP)]


def test_configuration_defaults() -> None:
    """
    The configuration of a plain installation is the documented one, and our reader takes it.

    Source: docs/reference/configuration.md#confyml.
    """
    conf = yaml.safe_load(render().one("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    assert {
        "ipamUnixSocketPath": "/var/run/spidernet/spiderpool.sock",
        "enableIPv4": True,
        "enableIPv6": True,
        "enableStatefulSet": True,
        "enableKubevirtStaticIP": True,
        "enableSpiderSubnet": True,
        "enableAutoPoolForApplication": True,
        "clusterSubnetAutoPoolDefaultRedundantIPNumber": 1,
        "clusterSubnetDefaultFlexibleIPNumber": 1,
        "autoPoolThirdPartyControllers": [
            {"apiGroup": "apps.kruise.io", "kind": "CloneSet", "resource": "clonesets"},
            {"apiGroup": "apps.kruise.io", "kind": "StatefulSet", "resource": "statefulsets"},
        ],
        "enableIPConflictDetection": False,
        "enableGatewayDetection": False,
        "enableCleanOutdatedEndpoint": False,
        "enableValidatingResourcesDeletedWebhook": False,
        "tuneSysctlConfig": True,
        "tcpBeLiberal": False,
        "podResourceInject": {
            "enabled": False,
            "namespacesExclude": ["kube-system", "spiderpool", "metallb-system", "istio-system"],
            "namespacesInclude": [],
        },
        "autoPoolLimits": {"ipNumber": 1024, "perReplica": 3, "extra": 64},
        "multus": {"allowedPlugins": [], "namespaceIsolation": False, "globalNamespaces": []},
        "iaasNetworkProvider": {"serverUrl": "", "httpRequestTimeout": "50s"},
    } == conf


@pytest.mark.parametrize(
    ("values", "key", "expected"),
    [
        ({"ipam": {"enableIPv6": False}}, "enable_ipv6", False),
        ({"ipam": {"enableStatefulSet": False}}, "enable_stateful_set", False),
        ({"ipam": {"spiderSubnet": {"enable": False}}}, "enable_spider_subnet", False),
        ({"ipam": {"spiderSubnet": {"enable": False}}}, "enable_auto_pool_for_application", False),
        ({"ipam": {"enableGatewayDetection": True}}, "enable_gateway_detection", True),
        ({"ipam": {"enableIPConflictDetection": True}}, "enable_ip_conflict_detection", True),
        (
            {"spiderpoolController": {"enableValidatingResourcesDeletedWebhook": True}},
            "enable_validating_resources_deleted_webhook",
            True,
        ),
        ({"spiderpoolAgent": {"tuneSysctlConfig": False}}, "tune_sysctl_config", False),
        ({}, "tune_sysctl_config", True),
        ({}, "tcp_be_liberal", False),
        ({"coordinator": {"tcpBeLiberal": True}}, "tcp_be_liberal", True),
        (
            {"global": {"ipamUNIXSocketHostPath": "/run/sp/a.sock"}},
            "ipam_unix_socket_path",
            "/run/sp/a.sock",
        ),
    ],
)
def test_configuration_switches(values: dict[str, Any], key: str, expected: object) -> None:
    """Each value that is a switch of the configuration reaches what agent and controller read."""
    config = parse_config(render(values).one("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    assert expected == getattr(config, key)


def test_configuration_restarts() -> None:
    """Another configuration makes other pods, for agent and controller read it once."""
    before, after = render(), render({"ipam": {"enableIPv6": False}})
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        sums = [
            things.pod(kind, name)["metadata"]["annotations"]["checksum/config"]
            for things in (before, after)
        ]
        assert sums[0] != sums[1]


def test_agent_on_its_node() -> None:
    """The agent sees the host's network and processes, its folders at the same paths, and every node whatever its taints."""
    spec = render().pod("DaemonSet", AGENT)["spec"]
    assert (True, True, "system-node-critical") == (
        spec["hostNetwork"],
        spec["hostPID"],
        spec["priorityClassName"],
    )
    assert [{"operator": "Exists"}] == spec["tolerations"]
    hosts = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in spec["volumes"]
        if "hostPath" in volume
    }
    assert {volume["hostPath"]["type"] for volume in spec["volumes"] if "hostPath" in volume} == {
        "DirectoryOrCreate"
    }
    mounts = {mount["name"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    assert {name: mounts[name]["mountPath"] for name in hosts} == hosts
    assert {
        "/opt/cni/bin",
        "/etc/cni/net.d",
        "/var/lib/cni",
        "/var/log/spidernet",
        "/var/run/spidernet",
        "/var/run/netns",
    } == set(hosts.values())
    assert "Bidirectional" == mounts["netns"]["mountPropagation"]


def test_agent_folders_follow_values() -> None:
    """Other folders on the nodes are mounted at their paths, and the agent is told."""
    things = render(
        {
            "global": {
                "cniBinHostPath": "/usr/libexec/cni",
                "ipamUNIXSocketHostPath": "/run/sp/a.sock",
            }
        }
    )
    spec = things.pod("DaemonSet", AGENT)["spec"]
    hosts = {volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    assert {"/usr/libexec/cni", "/run/sp"} <= hosts
    assert "/usr/libexec/cni" == env_of(spec["containers"][0])["SPIDERPOOL_CNI_BIN_DIR"]


def test_agent_label() -> None:
    """Agents carry the label that tells the controller that none of the predecessor's agents runs."""
    labels = render().pod("DaemonSet", AGENT)["metadata"]["labels"]
    assert "true" == labels[f"{GROUP}/one-object-per-address"]
    assert AGENT == labels["app.kubernetes.io/component"]


def test_agent_environment() -> None:
    """The agent gets the variables of the reference, and its own reader takes them."""
    env = env_of(
        render({"multus": {"multusCNI": {"defaultCniCRName": "calico"}}}).container(
            "DaemonSet", AGENT
        )
    )
    assert {
        "SPIDERPOOL_POD_NAMESPACE": "<metadata.namespace>",
        "SPIDERPOOL_POD_NAME": "<metadata.name>",
        "SPIDERPOOL_NODE_NAME": "<spec.nodeName>",
        "SPIDERPOOL_LOG_LEVEL": "info",
        "SPIDERPOOL_ENABLED_METRIC": "false",
        "SPIDERPOOL_ENABLED_DEBUG_METRIC": "false",
        "SPIDERPOOL_ENABLED_RDMA_METRIC": "false",
        "SPIDERPOOL_HEALTH_PORT": "5710",
        "SPIDERPOOL_METRIC_HTTP_PORT": "5711",
        "SPIDERPOOL_GOPS_LISTEN_PORT": "5712",
        "SPIDERPOOL_GC_IP_ENABLED": "true",
        "SPIDERPOOL_INSTALL_CNI": "true",
        "SPIDERPOOL_CNI_PLUGINS": "vlan",
        "SPIDERPOOL_BUILTIN_MULTUS": "false",
        "SPIDERPOOL_INSTALL_MULTUS": "true",
        "SPIDERPOOL_MULTUS_LOG_LEVEL": "debug",
        "SPIDERPOOL_MULTUS_LOG_FILE": "/var/log/multus.log",
        "SPIDERPOOL_CNI_BIN_DIR": "/opt/cni/bin",
        "SPIDERPOOL_CNI_CONF_DIR": "/etc/cni/net.d",
        "SPIDERPOOL_DEFAULT_CNI": "calico",
        "SPIDERPOOL_MULTUS_NAMESPACE": NAMESPACE,
        "MULTUS_CLUSTER_NETWORK": f"{NAMESPACE}/calico",
    } == env
    settings = read_agent_settings(env)
    assert (5710, 5711, f"{NAMESPACE}/calico") == (
        settings.health_port,
        settings.metric_port,
        settings.default_network,
    )


def test_no_default_network() -> None:
    """Without a name for it there is no default network of the cluster, and pools with multusName know that."""
    env = env_of(render().container("DaemonSet", AGENT))
    assert read_agent_settings(env).default_network is None


def test_controller_environment() -> None:
    """
    The controller gets the documented variables, and its own reader takes them.

    Source: docs/reference/configuration.md#reclaim, docs/reference/configuration.md#controller.
    """
    gc = {
        "enabled": False,
        "gcAll": {"intervalInSecond": 60},
        "gcDeletingTimeOutPodDelay": 7,
        "statelessPod": {"zombieOnReadyNode": False, "enableGcRunningPodOnEmptyPodStatusIPs": True},
    }
    env = env_of(render({"ipam": {"gc": gc}}).container("Deployment", CONTROLLER))
    settings = read_controller_settings(env)
    assert (5720, 5721, 5722) == (settings.health_port, settings.metric_port, settings.webhook_port)
    reclaim = settings.reclaim
    assert (False, 60, 7) == (reclaim.enabled, reclaim.scan_s, reclaim.rules.additional_s)
    switches = (reclaim.rules.on_ready_node, reclaim.rules.on_lost_node, reclaim.rules.blank)
    assert (False, True, True) == switches
    assert CONTROLLER == env["SPIDERPOOL_CONTROLLER_DEPLOYMENT_NAME"]


def test_extra_environment() -> None:
    """Variables without a value of their own are set by extraEnv."""
    extra = [{"name": "SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS", "value": "100"}]
    things = render(
        {"spiderpoolAgent": {"extraEnv": extra}, "spiderpoolController": {"extraEnv": extra}}
    )
    for kind, name in (("DaemonSet", AGENT), ("Deployment", CONTROLLER)):
        assert "100" == env_of(things.container(kind, name))["SPIDERPOOL_IPPOOL_MAX_ALLOCATED_IPS"]


@pytest.mark.parametrize(
    ("kind", "name", "port", "startups"),
    [("DaemonSet", AGENT, 5710, 60), ("Deployment", CONTROLLER, 5720, 30)],
)
def test_probes(kind: str, name: str, port: int, startups: int) -> None:
    """
    Probes ask as often as documented, on the loopback of the enabled family.

    Source: docs/reference/agent-api.md#health-port.
    """
    for values, host in (({}, "127.0.0.1"), ({"ipam": {"enableIPv4": False}}, "::1")):
        container = render(values).container(kind, name)
        for probe, path, times, period in (
            ("startupProbe", "startup", startups, 2),
            ("livenessProbe", "liveness", 6, 10),
            ("readinessProbe", "readiness", 3, 10),
        ):
            found = container[probe]
            assert {"host": host, "path": f"/v1/runtime/{path}", "port": port} == found["httpGet"]
            assert (times, period) == (found["failureThreshold"], found["periodSeconds"])


def test_replicas_on_different_nodes() -> None:
    """Controllers on the host's network never share a node, and can be replaced without one more node."""
    deployment = render({"spiderpoolController": {"replicas": 2}}).one("Deployment", CONTROLLER)[
        "spec"
    ]
    (term,) = deployment["template"]["spec"]["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert ("kubernetes.io/hostname", deployment["selector"]) == (
        term["topologyKey"],
        term["labelSelector"],
    )
    assert {"maxSurge": 0, "maxUnavailable": 1} == deployment["strategy"]["rollingUpdate"]


def test_controller_on_the_pod_network() -> None:
    """A controller with an address of its own is probed there, and needs no node for itself."""
    spec = render({"spiderpoolController": {"hostnetwork": False}}).pod("Deployment", CONTROLLER)[
        "spec"
    ]
    assert (False, "ClusterFirst") == (spec["hostNetwork"], spec["dnsPolicy"])
    assert "host" not in spec["containers"][0]["readinessProbe"]["httpGet"]
    assert ["preferredDuringSchedulingIgnoredDuringExecution"] == list(
        spec["affinity"]["podAntiAffinity"]
    )


@pytest.mark.parametrize(
    ("replicas", "least", "expected"),
    [
        (1, 1, {"maxUnavailable": 1}),
        (2, 1, {"minAvailable": 1}),
        (2, "50%", {"minAvailable": "50%"}),
    ],
)
def test_disruption_budget(replicas: int, least: int | str, expected: dict[str, Any]) -> None:
    """A budget protects replicas; it lets one go at least, or a node could never be drained."""
    values = {"replicas": replicas, "podDisruptionBudget": {"minAvailable": least}}
    spec = render({"spiderpoolController": values}).one("PodDisruptionBudget", CONTROLLER)["spec"]
    assert expected == {key: spec[key] for key in spec if key != "selector"}
    off = render({"spiderpoolController": {"podDisruptionBudget": {"enabled": False}}})
    assert [] == off.names("PodDisruptionBudget")


@pytest.mark.parametrize(
    ("kind", "verb", "pool_operations", "reserved_operations"),
    [
        ("MutatingWebhookConfiguration", "mutate", ["CREATE", "UPDATE"], ["CREATE", "UPDATE"]),
        (
            "ValidatingWebhookConfiguration",
            "validate",
            ["CREATE", "UPDATE", "DELETE"],
            ["CREATE", "UPDATE"],
        ),
    ],
)
def test_webhooks(
    kind: str, verb: str, pool_operations: list[str], reserved_operations: list[str]
) -> None:
    """Webhooks are named, routed and limited as section 5 says, and none looks at `/status`."""
    webhooks = {hook["name"]: hook for hook in render().one(kind, CONTROLLER)["webhooks"]}
    webhooks.pop(WARNS, None)
    operations_of = {
        "spiderippool": pool_operations,
        "spidersubnet": pool_operations,
        "spiderreservedip": reserved_operations,
        "spidercoordinator": ["CREATE", "UPDATE"],
        "spidermultusconfig": ["CREATE", "UPDATE"],
    }
    assert {f"{name}.{GROUP}" for name in operations_of} == set(webhooks)
    for name, operations in operations_of.items():
        hook = webhooks[f"{name}.{GROUP}"]
        assert ("Fail", "None") == (hook["failurePolicy"], hook["sideEffects"])
        service = hook["clientConfig"]["service"]
        path = f"/{verb}-spiderpool-spidernet-io-v2beta1-{name}"
        assert {"name": CONTROLLER, "namespace": NAMESPACE, "port": 5722, "path": path} == service
        (rule,) = hook["rules"]
        scope = "Namespaced" if name == "spidermultusconfig" else "Cluster"
        assert ([f"{name}s"], operations, scope) == (
            rule["resources"],
            rule["operations"],
            rule["scope"],
        )
        assert "objectSelector" not in hook
        assert "namespaceSelector" not in hook


def test_webhook_that_warns() -> None:
    """
    A user who applies pods' annotations is warned.

    Nothing waits for the controller, and what controllers make passes by.
    """
    (hook,) = (
        each
        for each in render().one("ValidatingWebhookConfiguration", CONTROLLER)["webhooks"]
        if each["name"] == WARNS
    )
    assert ("Ignore", 2, "None") == (
        hook["failurePolicy"],
        hook["timeoutSeconds"],
        hook["sideEffects"],
    )
    assert "/warn-annotations" == hook["clientConfig"]["service"]["path"]
    kinds = {resource for rule in hook["rules"] for resource in rule["resources"]}
    assert {
        "pods",
        "deployments",
        "statefulsets",
        "daemonsets",
        "replicasets",
        "jobs",
        "cronjobs",
    } == kinds
    names = ["nobody-else-made-it", "it-is-new-or-changed", "it-has-annotations-of-ours"]
    assert names == [each["name"] for each in hook["matchConditions"]]
    off = render({"spiderpoolController": {"annotationWarnings": False}})
    assert WARNS not in [
        each["name"] for each in off.one("ValidatingWebhookConfiguration", CONTROLLER)["webhooks"]
    ]


def test_no_webhook_of_pods_by_default() -> None:
    """Pods are nobody's business unless it is switched on."""
    assert (
        "podResourceInject:\n  enabled: false"
        in render().one("ConfigMap", "spiderpool-conf")["data"]["conf.yml"]
    )


def test_webhook_of_pods() -> None:
    """
    New pods of the namespaces that are meant are asked about, never those of the release's own.

    Source: docs/reference/networks.md#pod-injection.
    """
    values = {
        "podResourceInject": {
            "enabled": True,
            "namespacesExclude": ["a"],
            "namespacesInclude": ["b", "c"],
        }
    }
    things = render({"spiderpoolController": values})
    (hook,) = (
        hook
        for hook in things.one("MutatingWebhookConfiguration", CONTROLLER)["webhooks"]
        if hook["name"] == "pods.spiderpool.spidernet.io"
    )
    key = "kubernetes.io/metadata.name"
    assert [
        {"key": key, "operator": "NotIn", "values": ["a", NAMESPACE]},
        {"key": key, "operator": "In", "values": ["b", "c"]},
    ] == hook["namespaceSelector"]["matchExpressions"]
    assert ("/mutate--v1-pod", "Fail") == (
        hook["clientConfig"]["service"]["path"],
        hook["failurePolicy"],
    )
    (rule,) = hook["rules"]
    assert (["CREATE"], ["pods"]) == (rule["operations"], rule["resources"])
    assert parse_config(
        things.one("ConfigMap", "spiderpool-conf")["data"]["conf.yml"]
    ).pod_resource_inject.enabled


def test_certificate_of_the_controller() -> None:
    """
    By default the controller makes the certificate, with the names of its Service, and tells the API server.

    It may read and write that one Secret, and its own webhooks. No Secret, volume or CA is in the
    chart.
    """
    things = render()
    assert [] == things.names("Secret") + things.names("Certificate")
    for kind in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"):
        hooks = things.one(kind, CONTROLLER)["webhooks"]
        assert [] == [hook for hook in hooks if "caBundle" in hook["clientConfig"]]
    container = things.container("Deployment", CONTROLLER)
    assert not [arg for arg in container["args"] if arg.startswith("--tls")]
    assert "tls" not in [mount["name"] for mount in container["volumeMounts"]]
    settings = read_controller_settings(env_of(container)).certificates
    assert settings is not None
    assert (CONTROLLER, "spiderpool-controller-server-certs") == (
        settings.webhooks,
        settings.secret,
    )
    host = f"{CONTROLLER}.{NAMESPACE}.svc"
    assert {"localhost", host, f"{host}.cluster.local"} <= set(settings.names)
    assert ["127.0.0.1", "::1"] == [str(ip) for ip in settings.ips]
    days = (settings.authority_life_s / 86400, settings.server_life_s / 86400)
    assert (3650, 365) == days
    secrets = {rule for rule in things.rules("Role", CONTROLLER) if rule[1] == "secrets"}
    assert {("", "secrets", verb) for verb in ("create", "get", "patch")} == secrets


def test_two_renderings_are_the_same() -> None:
    """`helm template` has no cluster to look into, as with Argo CD: whoever renders twice gets the same."""
    texts = [template("{}").stdout for _ in range(2)]
    assert "kind: Deployment" in texts[0]
    assert texts[0] == texts[1]


def test_certificate_given() -> None:
    """A certificate of the user's own is used as it is."""
    given = {"tlsCert": "Y2VydA==", "tlsKey": "a2V5", "tlsCa": "Y2E="}
    things = render({"spiderpoolController": {"tls": {"method": "provided", "provided": given}}})
    data = things.one("Secret", "spiderpool-controller-server-certs")["data"]
    assert {"ca.crt": "Y2E=", "tls.crt": "Y2VydA==", "tls.key": "a2V5"} == data
    hooks = things.one("MutatingWebhookConfiguration", CONTROLLER)["webhooks"]
    assert {"Y2E="} == {hook["clientConfig"]["caBundle"] for hook in hooks}


def test_certificate_by_cert_manager() -> None:
    """With cert-manager there is a Certificate instead of a Secret, and it fills in the webhooks' CA."""
    things = render(
        {
            "spiderpoolController": {
                "tls": {"method": "certmanager", "certmanager": {"issuerName": "corp"}}
            }
        }
    )
    assert [] == things.names("Secret")
    certificate = things.one("Certificate", "spiderpool-controller-server-certs")["spec"]
    assert "spiderpool-controller-server-certs" == certificate["secretName"]
    assert f"{CONTROLLER}.{NAMESPACE}.svc" in certificate["dnsNames"]
    webhook = things.one("ValidatingWebhookConfiguration", CONTROLLER)
    expected = f"{NAMESPACE}/spiderpool-controller-server-certs"
    assert expected == webhook["metadata"]["annotations"]["cert-manager.io/inject-ca-from"]
    assert "caBundle" not in webhook["webhooks"][0]["clientConfig"]


def test_agents_rights() -> None:
    """Agents write records, endpoints and events; they only read what everybody shares."""
    rules = render({"multus": {"builtin": {"enabled": True}}}).rules("ClusterRole", AGENT)
    reading = {"get", "list", "watch"}
    written = {resource for _, resource, verb in rules if verb not in reading}
    assert {"spiderips", "spiderendpoints", "events", "pods/status"} == written
    assert {"patch"} == {verb for _, resource, verb in rules if resource == "pods/status"}
    assert {"list", "watch"} == {verb for _, resource, verb in rules if resource == "spiderippools"}


def test_agents_rights_without_meta_plugin() -> None:
    """Where Spiderpool is no meta plugin, agents touch no pod and read no network."""
    rules = render({"multus": {"multusCNI": {"install": False}}}).rules("ClusterRole", AGENT)
    assert set() == {resource for _, resource, _ in rules} & {
        "pods/status",
        "network-attachment-definitions",
    }


def test_controllers_rights() -> None:
    """
    The controller writes no pod and no node; leases and one Secret only in its own namespace.

    Of webhooks it writes its own.
    """
    things = render()
    rules = things.rules("ClusterRole", CONTROLLER)
    written = {resource for _, resource, verb in rules if verb not in {"get", "list", "watch"}}
    networks = {
        "spidercoordinators/status",
        "network-attachment-definitions",
        "spidermultusconfigs/finalizers",
    }
    ours = {
        "spiderippools",
        "spiderippools/status",
        "spidersubnets",
        "spidersubnets/status",
        "spiderips",
        "spiderendpoints",
    }
    webhooks = {"mutatingwebhookconfigurations", "validatingwebhookconfigurations"}
    assert ours | networks | webhooks | {"events"} == written
    named = [
        rule["resourceNames"]
        for rule in things.one("ClusterRole", CONTROLLER)["rules"]
        if webhooks & set(rule["resources"])
    ]
    assert [[CONTROLLER]] == named
    own = things.one("Role", CONTROLLER)["rules"]
    assert {"spiderpool-controller-leases", "spiderpool-controller-server-certs"} == {
        name for rule in own for name in rule.get("resourceNames", ())
    }


@pytest.mark.parametrize("values", [{}, LAB, {"multus": {"builtin": {"enabled": True}}}])
def test_no_wildcard_rights(values: dict[str, Any]) -> None:
    """No role says `*`."""
    things = render(values)
    for kind in ("ClusterRole", "Role"):
        for name in things.names(kind):
            assert not [rule for rule in things.rules(kind, name) if "*" in rule]


def test_roles_are_bound() -> None:
    """Each role is bound to an account that some pod uses."""
    things = render()
    accounts = {
        things.pod(kind, name)["spec"]["serviceAccountName"]
        for kind in ("DaemonSet", "Deployment", "Job")
        for name in things.names(kind)
    }
    assert accounts == set(things.names("ServiceAccount"))
    for kind in ("ClusterRole", "Role"):
        for name in things.names(kind):
            binding = things.one(f"{kind}Binding", name)
            assert {"kind": kind, "name": name} == {
                key: binding["roleRef"][key] for key in ("kind", "name")
            }
            assert {s["name"] for s in binding["subjects"]} <= accounts


def test_shares_of_the_api_server() -> None:
    """
    Agents and controller have a priority level each, and what an ADD waits for is a flow of its own.

    Of each level every request of its account is; all can be left out. Source: Kubernetes, "API
    Priority and Fairness": a lower precedence is tried first, `exempt` and `system` levels aside.
    """
    things = render()
    assert [AGENT, CONTROLLER] == things.names("PriorityLevelConfiguration")
    assert [AGENT, AGENT + "-addresses", CONTROLLER] == things.names("FlowSchema")
    flows = {}
    for name in things.names("FlowSchema"):
        spec = things.one("FlowSchema", name)["spec"]
        (rule,) = spec["rules"]
        (subject,) = rule["subjects"]
        (resources,) = rule["resourceRules"]
        assert NAMESPACE == subject["serviceAccount"]["namespace"]
        assert spec["matchingPrecedence"] < 900  # that of kube-system's service accounts
        flows[name] = (
            subject["serviceAccount"]["name"],
            spec["priorityLevelConfiguration"]["name"],
            spec["matchingPrecedence"],
            resources["resources"],
        )
    assert {
        AGENT + "-addresses": (AGENT, AGENT, 840, ["spiderips"]),
        AGENT: (AGENT, AGENT, 850, ["*"]),
        CONTROLLER: (CONTROLLER, CONTROLLER, 850, ["*"]),
    } == flows
    for name, shares in ((AGENT, 30), (CONTROLLER, 10)):
        limited = things.one("PriorityLevelConfiguration", name)["spec"]["limited"]
        assert shares == limited["nominalConcurrencyShares"]
    nothing = render({"apiPriority": {"enabled": False}})
    assert [] == nothing.names("FlowSchema") + nothing.names("PriorityLevelConfiguration")


def test_definitions() -> None:
    """The job that brings CRDs up to date, before install and upgrade, has the very files of deploy/crds."""
    things = render()
    files = {
        path.name: yaml.safe_load(path.read_text())
        for path in (ROOT / "deploy/crds").glob("*.yaml")
    }
    data = things.one("ConfigMap", f"{INIT}-crds")["data"]
    assert files == {name: yaml.safe_load(text) for name, text in data.items()}
    assert (
        "pre-install,pre-upgrade"
        == things.one("Job", f"{INIT}-crds")["metadata"]["annotations"]["helm.sh/hook"]
    )
    assert ["/usr/local/bin/spiderpool-init", "crds", "/crds"] == things.container(
        "Job", f"{INIT}-crds"
    )["command"]


@pytest.mark.parametrize(
    "multus", [{}, {"builtin": {"enabled": True}}, {"multusCNI": {"install": False}}]
)
def test_network_definition(multus: dict[str, Any]) -> None:
    """The definition of networks comes in every mode, and only where the cluster has none."""
    things = render({"multus": multus})
    (text,) = things.one("ConfigMap", f"{INIT}-crds-if-absent")["data"].values()
    crd = yaml.safe_load(text)
    assert "network-attachment-definitions.k8s.cni.cncf.io" == crd["metadata"]["name"]
    assert ["--if-absent", "/crds-if-absent"] == things.container("Job", f"{INIT}-crds")["args"]


def test_controllers_rights_without_networks() -> None:
    """Where networks and coordinator are switched off, the controller reads and writes nothing for them."""
    rules = render(
        {"multus": {"enableMultusConfig": False}, "coordinator": {"enabled": False}}
    ).rules("ClusterRole", CONTROLLER)
    assert {"get"} == {
        verb for _, resource, verb in rules if resource == "network-attachment-definitions"
    }
    assert set() == {resource for _, resource, _ in rules} & {
        "spidercoordinators",
        "spidermultusconfigs",
        "configmaps",
    }


def test_coordinator() -> None:
    """
    The init job makes the coordinator that the values describe, with the reference's defaults.

    Source: docs/reference/configuration.md#jobs.
    """
    made = read_defaults(env_of(render().container("Job", INIT))).coordinator
    assert made is not None
    expected = {
        "mode": "auto",
        "podCIDRType": "auto",
        "tunePodRoutes": True,
        "hijackCIDR": ["169.254.0.0/16"],
        "vethLinkAddress": "",
        "vethMTU": 1500,
        "podDefaultRouteNIC": "",
        "podMACPrefix": "",
    }
    assert ("default", expected) == (
        made.metadata.name,
        msgspec.json.decode(msgspec.json.encode(made.spec)),
    )


def test_coordinator_of_the_values() -> None:
    """Each value of the chart's coordinator reaches the object."""
    values = {
        "name": "other",
        "mode": "overlay",
        "podCIDRType": "cluster",
        "tunePodRoutes": False,
        "hijackCIDR": [],
        "policyRoutes": [{"dst": "10.1.0.0/16", "gw": "10.6.0.1"}],
        "podDefaultRouteNIC": "net1",
        "podMACPrefix": "0a:1b",
        "vethLinkAddress": "169.254.100.1",
        "vethMTU": 1400,
    }
    made = read_defaults(env_of(render({"coordinator": values}).container("Job", INIT))).coordinator
    assert made is not None
    spec = msgspec.json.decode(msgspec.json.encode(made.spec))
    assert values == {"name": made.metadata.name, "hijackCIDR": [], **spec}


def test_no_coordinator() -> None:
    """Without the coordinator none is made, and the controller does not look at the node's CNI."""
    things = render({"coordinator": {"enabled": False}})
    assert read_defaults(env_of(things.container("Job", INIT))).coordinator is None
    assert "/etc/cni/net.d" not in {
        mount["mountPath"] for mount in things.container("Deployment", CONTROLLER)["volumeMounts"]
    }


def test_default_pools() -> None:
    """The init job, after installation and upgrade, makes the pools that the values describe."""
    things = render({"clusterDefaultPool": POOLS})
    assert (
        "post-install,post-upgrade"
        == things.one("Job", INIT)["metadata"]["annotations"]["helm.sh/hook"]
    )
    defaults = read_defaults(env_of(things.container("Job", INIT)))
    assert (NAMESPACE, CONTROLLER, AGENT) == (
        defaults.namespace,
        defaults.controller,
        defaults.agent,
    )
    v4, v6 = defaults.pools
    assert ("default-v4-ippool", "10.6.0.0/16", ("10.6.168.10-10.6.168.20",), "10.6.0.1", True) == (
        v4.metadata.name,
        v4.spec.subnet,
        v4.spec.ips,
        v4.spec.gateway,
        v4.spec.default,
    )
    assert ("default-v6-ippool", "fd00:6::/64", (), None) == (
        v6.metadata.name,
        v6.spec.subnet,
        v6.spec.ips,
        v6.spec.gateway,
    )
    assert () == read_defaults(env_of(render().container("Job", INIT))).pools


def test_removal() -> None:
    """
    Before a release is removed agents and controllers end, then objects go.

    The job can be left out.
    """
    job = render().one("Job", f"{CONTROLLER}-cleanup")
    assert "pre-delete" == job["metadata"]["annotations"]["helm.sh/hook"]
    spec = job["spec"]["template"]["spec"]
    assert [["/usr/local/bin/spiderpool-init", "remove"]] == [
        c["command"] for c in spec["initContainers"]
    ]
    (objects,) = spec["containers"]
    expected = [
        "/usr/local/bin/spiderpool-controller",
        "clean",
        "--validate",
        CONTROLLER,
        "--mutating",
        CONTROLLER,
    ]
    assert expected == [*objects["command"], *objects["args"]]
    forced = render({"spiderpoolController": {"cleanup": {"evenIfHeld": True}}})
    assert "--even-if-held" == forced.container("Job", f"{CONTROLLER}-cleanup")["args"][-1]


def test_removal_that_keeps_the_objects() -> None:
    """Without clean-up the nodes are still cleaned, and nothing is deleted that holds an address."""
    things = render({"spiderpoolController": {"cleanup": {"enable": False}}})
    spec = things.pod("Job", f"{CONTROLLER}-cleanup")["spec"]
    assert "initContainers" not in spec
    assert [["/usr/local/bin/spiderpool-init", "remove"]] == [
        c["command"] for c in spec["containers"]
    ]
    assert set() == things.rules("ClusterRole", f"{CONTROLLER}-cleanup")


def test_removals_rights() -> None:
    """A removal may remove what is ours and nothing else."""
    things = render()
    cluster = {
        (g, r) for g, r, v in things.rules("ClusterRole", f"{CONTROLLER}-cleanup") if v == "delete"
    }
    assert {
        *((GROUP, name) for name in OWN),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
    } == cluster
    names = [rule["resourceNames"] for rule in things.one("Role", f"{CONTROLLER}-cleanup")["rules"]]
    assert [
        [AGENT],
        [CONTROLLER],
        ["spiderpool-controller-leases"],
        [INIT],
        ["spiderpool-controller-server-certs"],
    ] == names


@pytest.mark.parametrize(
    ("multus", "installed"),
    [
        ({}, "true"),
        ({"builtin": {"enabled": True}}, "false"),
        ({"multusCNI": {"install": False}}, "false"),
        ({"multusCNI": {"uninstall": True}}, "false"),
    ],
)
def test_multus(multus: dict[str, Any], installed: str) -> None:
    """Multus is installed by default; our own meta plugin takes its place, and it can be taken off the nodes."""
    container = render({"multus": multus}).container("DaemonSet", AGENT)
    assert installed == env_of(container)["SPIDERPOOL_INSTALL_MULTUS"]
    spec = render({"multus": multus}).pod("DaemonSet", AGENT)["spec"]
    expected = ["install-multus-binary"] if installed == "true" else []
    assert expected == [container["name"] for container in spec.get("initContainers", [])]


def test_options_of_multus() -> None:
    """What is said of Multus reaches the container that brings it and the agent that configures it."""
    things = render(yaml.safe_load((VALUES_DIR / "multus-options.yaml").read_text()))
    spec = things.pod("DaemonSet", AGENT)["spec"]
    (brings,) = spec["initContainers"]
    assert ("quay.io/k8snetworkplumbingwg/multus-cni:v4.2.3", "Always") == (
        brings["image"],
        brings["imagePullPolicy"],
    )
    assert ["HTTPS_PROXY"] == [item["name"] for item in brings["env"]]
    assert "/scratch" in {mount["mountPath"] for mount in brings["volumeMounts"]}
    assert {"privileged": True, "readOnlyRootFilesystem": True} == brings["securityContext"]
    env = env_of(spec["containers"][0])
    assert ("verbose", "") == (
        env["SPIDERPOOL_MULTUS_LOG_LEVEL"],
        env["SPIDERPOOL_MULTUS_LOG_FILE"],
    )


@pytest.mark.parametrize(
    ("plugins", "expected"),
    [
        ({}, {"vlan"}),
        ({"installVlanCNI": False}, {""}),
        ({"installCNI": True, "installVlanCNI": False}, set(CNI_PLUGINS)),
    ],
)
def test_plugins(plugins: dict[str, bool], expected: set[str]) -> None:
    """The agent is told which plugins to put on its node."""
    container = render({"plugins": plugins}).container("DaemonSet", AGENT)
    assert expected == set(env_of(container)["SPIDERPOOL_CNI_PLUGINS"].split(","))


def test_network_name_for_multus() -> None:
    """The configuration names the cluster's network; the name is empty where none is set."""
    assert "" == render().one("ConfigMap", "spiderpool-conf")["data"]["clusterNetwork"]
    named = render({"multus": {"multusCNI": {"defaultCniCRName": "calico"}}})
    assert "calico" == named.one("ConfigMap", "spiderpool-conf")["data"]["clusterNetwork"]


@pytest.mark.parametrize(
    ("image", "override", "expected"),
    [
        ({}, "", "spiderpool:0.1.0"),
        ({"tag": "dev", "registry": "r.example"}, "", "r.example/spiderpool:dev"),
        ({"registry": "r.example", "repository": "net/sp"}, "o.example", "o.example/net/sp:0.1.0"),
        ({"digest": "sha256:00", "tag": "dev"}, "", "spiderpool@sha256:00"),
        ({"registry": "ghcr.io", **THEIRS}, "", "spiderpool:0.1.0"),
        (
            {"registry": "mirror.example", "tag": "v1.2.1", **THEIRS},
            "",
            "mirror.example/spiderpool:0.1.0",
        ),
        (THEIRS, "o.example", "o.example/spiderpool:0.1.0"),
    ],
)
def test_image(image: dict[str, str], override: str, expected: str) -> None:
    """
    An image is named by registry, repository and tag, or by its digest.

    One value changes the registry of all. The original's image cannot run what this chart starts:
    its name stands for ours.
    """
    values = {"global": {"imageRegistryOverride": override}, "spiderpoolAgent": {"image": image}}
    assert expected == render(values).container("DaemonSet", AGENT)["image"]


def test_metrics() -> None:
    """Metrics ports and Services are there only when asked for, and ServiceMonitors scrape as the reference says."""
    assert [CONTROLLER] == render().names("Service")
    prometheus = {"enabled": True, "serviceMonitor": {"install": True}}
    things = render(
        {
            "spiderpoolAgent": {"prometheus": prometheus},
            "spiderpoolController": {"prometheus": prometheus},
        }
    )
    ports = {
        name: [p["port"] for p in things.one("Service", name)["spec"]["ports"]]
        for name in (AGENT, CONTROLLER)
    }
    assert {AGENT: [5711], CONTROLLER: [5722, 5721]} == ports
    intervals = {
        n: things.one("ServiceMonitor", n)["spec"]["endpoints"][0]["interval"]
        for n in (AGENT, CONTROLLER)
    }
    assert {AGENT: "5s", CONTROLLER: "10s"} == intervals


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ipam": {"enableIPv4": "yes"}}, "at '/ipam/enableIPv4': got string, want boolean"),
        (
            {"spiderpoolController": {"replicas": "two"}},
            "at '/spiderpoolController/replicas': got string, want integer",
        ),
        (
            {"spiderpoolController": {"tls": {"method": "magic"}}},
            "must be one of 'auto', 'provided', 'certmanager'",
        ),
        ({"spiderpoolAgent": {"httpPort": 70000}}, "at '/spiderpoolAgent/httpPort': maximum"),
        (
            {"clusterDefaultPool": {"ipv4IPRanges": "10.6.0.1"}},
            "at '/clusterDefaultPool/ipv4IPRanges': got string, want array",
        ),
        ({"global": {"cniBinHostPath": "opt"}}, "at '/global/cniBinHostPath'"),
        ({"ipam": {"enableIPv4": False, "enableIPv6": False}}, "enable at least one"),
        (
            {"clusterDefaultPool": {"installIPv4IPPool": True}},
            "needs clusterDefaultPool.ipv4Subnet",
        ),
        (
            {"ipam": {"enableIPv6": False}, "clusterDefaultPool": POOLS},
            "installIPv6IPPool needs ipam.enableIPv6",
        ),
        (
            {"spiderpoolController": {"tls": {"method": "provided"}}},
            "set tls.provided.tlsCert, tlsKey and tlsCa",
        ),
        (
            {"spiderpoolController": {"tls": {"method": "certmanager"}}},
            "set tls.certmanager.issuerName",
        ),
    ],
)
def test_refused_values(values: dict[str, Any], words: str) -> None:
    """A wrong value is refused with its place and what it must be."""
    assert words in refusal(values)


def test_third_party_controllers() -> None:
    """
    A kind in the list may be read by the controller, its scale subresource included.

    Without automatic pools none may.
    """
    listed = [{"apiGroup": "argoproj.io", "kind": "Rollout", "resource": "rollouts"}]
    on = render({"ipam": {"spiderSubnet": {"autoPool": {"thirdPartyControllers": listed}}}})
    off = render(
        {"ipam": {"spiderSubnet": {"autoPool": {"enable": False, "thirdPartyControllers": listed}}}}
    )
    rights = {("argoproj.io", "rollouts", verb) for verb in ("get", "list", "watch")}
    rights.add(("argoproj.io", "rollouts/scale", "get"))

    def rights_of(things: Rendered) -> set[tuple[str, str, str]]:
        return {r for r in things.rules("ClusterRole", CONTROLLER) if r[0] == "argoproj.io"}

    assert rights == rights_of(on)
    assert set() == rights_of(off)
    conf = parse_config(on.one("ConfigMap", "spiderpool-conf")["data"]["conf.yml"])
    assert [("argoproj.io", "Rollout", "rollouts")] == [
        (kind.api_group, kind.kind, kind.resource)
        for kind in conf.auto_pool_third_party_controllers
    ]


@pytest.mark.parametrize(
    ("enable", "names"), [(True, ["default-v4-subnet", "default-v6-subnet"]), (False, [])]
)
def test_default_subnets(enable: bool, names: list[str]) -> None:
    """
    The installation makes subnets for its default pools where subnets are on.

    Source: docs/reference/configuration.md#jobs.
    """
    things = render({"clusterDefaultPool": POOLS, "ipam": {"spiderSubnet": {"enable": enable}}})
    defaults = read_defaults(env_of(things.container("Job", INIT)))

    assert names == [subnet.metadata.name for subnet in defaults.subnets]


def test_policies_of_nodes() -> None:
    """From Kubernetes 1.30 on the API server tells agents apart; before it cannot, and NOTES.txt says so."""
    names = [f"{AGENT}-{what}" for what in ("addresses", "endpoints", "pods")]
    for version, expected in (("1.29.9", []), ("1.30.0-gke.1", names), ("1.34.4", names)):
        things = render({}, f"--kube-version={version}")
        assert expected == things.names("ValidatingAdmissionPolicy")
        assert expected == things.names("ValidatingAdmissionPolicyBinding")
        told = "Kubernetes v1.29.9 does not tell which node a token is from"
        assert (not expected) == (told in notes({}, f"--kube-version={version}"))
    off = {"spiderpoolAgent": {"nodePolicies": False}}
    assert [] == render(off, "--kube-version=1.34.4").names("ValidatingAdmissionPolicy")


def test_policies_speak_of_the_agents_account() -> None:
    """Another name of the service account is the one that policies look for, and nobody else's writes are theirs."""
    values = {"spiderpoolAgent": {"serviceAccount": {"name": "mine"}}}
    things = render(values, "--kube-version=1.34.4")
    expected = f'request.userInfo.username == "system:serviceaccount:{NAMESPACE}:mine"'
    for name in things.names("ValidatingAdmissionPolicy"):
        spec = things.one("ValidatingAdmissionPolicy", name)["spec"]
        assert [expected] == [each["expression"] for each in spec["matchConditions"]]
        assert "Fail" == spec["failurePolicy"]
        binding = things.one("ValidatingAdmissionPolicyBinding", name)["spec"]
        assert {"policyName": name, "validationActions": ["Deny"]} == binding


def test_programs_are_confined() -> None:
    """All but the agents: no capabilities, no writing of the root file system, no way to more rights."""
    things = render()
    for kind, name in (("Deployment", CONTROLLER), *(("Job", job) for job in things.names("Job"))):
        spec = things.pod(kind, name)["spec"]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            context = container["securityContext"]
            assert {"drop": ["ALL"]} == context["capabilities"]
            assert {"type": "RuntimeDefault"} == context["seccompProfile"]
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]
            # CNI configurations may be readable for root alone
            reads = (
                any("hostPath" in volume for volume in spec["volumes"])
                if "volumes" in spec
                else False
            )
            assert reads == (context["runAsUser"] == 0)
            assert reads == (not context["runAsNonRoot"])


@pytest.mark.parametrize(
    "coordinator",
    [{"podCIDRType": "calico"}, {"podCIDRType": "none"}, {"enabled": False}],
)
def test_a_controller_that_reads_no_file_of_its_node(coordinator: dict[str, Any]) -> None:
    """Where it need not guess the pod network, it is not root and has no folder of the node."""
    things = render({"coordinator": coordinator})
    spec = things.pod("Deployment", CONTROLLER)["spec"]
    assert [] == [volume["name"] for volume in spec["volumes"] if "hostPath" in volume]
    assert ["config-path"] == [mount["name"] for mount in spec["containers"][0]["volumeMounts"]]
    context = spec["containers"][0]["securityContext"]
    assert (True, 65532) == (context["runAsNonRoot"], context["runAsUser"])


def test_another_security_context() -> None:
    """Who names one gets that one."""
    own = {"runAsUser": 1}
    things = render(
        {
            "spiderpoolController": {"securityContext": own},
            "spiderpoolInit": {"securityContext": own},
        }
    )
    assert own == things.container("Deployment", CONTROLLER)["securityContext"]
    for name in things.names("Job"):
        assert own == things.container("Job", name)["securityContext"]


def test_client_authority_of_the_webhooks() -> None:
    """The controller is given the authority as a file; without one it asks nobody for a certificate."""
    variable, file = "SPIDERPOOL_WEBHOOK_CLIENT_CA", "webhook-client-ca.crt"
    plain = render()
    assert variable not in env_of(plain.container("Deployment", CONTROLLER))
    assert file not in plain.one("ConfigMap", "spiderpool-conf")["data"]
    things = render({"spiderpoolController": {"tls": {"clientCA": "PEM\n"}}})
    assert "PEM\n" == things.one("ConfigMap", "spiderpool-conf")["data"][file]
    container = things.container("Deployment", CONTROLLER)
    assert f"/tmp/spiderpool/config-map/{file}" == env_of(container)[variable]
    volume = things.pod("Deployment", CONTROLLER)["spec"]["volumes"][0]
    assert {"conf.yml", file} == {item["path"] for item in volume["configMap"]["items"]}
