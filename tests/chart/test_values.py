"""Value files: this project's, those of an old installation, and files with mistakes."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.chart.values import TYPES, Value, read_keys
from spiderpool.agent.settings import read_settings as read_agent_settings
from spiderpool.configuration.config import parse_config
from spiderpool.controller.settings import read_settings as read_controller_settings
from spiderpool.installer.default_pools import read_defaults
from tests.chart.rendering import (
    CHART,
    KUBERNETES,
    NAMESPACE,
    ORIGINAL,
    VALUES,
    VALUES_DIR,
    Rendered,
    Thing,
    env_of,
    helm,
    notes,
    refusal,
    render,
    render_file,
    render_text,
    template,
    words_of,
)

FILES = [*VALUES, ORIGINAL]
files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


@files
def test_lint(path: Path) -> None:
    """Helm's own check finds nothing, however strict."""
    done = helm("lint", str(CHART), "--strict", "--kube-version", "1.34.0", values=path.read_text())
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("path", "kubernetes"),
    [
        *zip(FILES, itertools.cycle(KUBERNETES)),
        *itertools.product((VALUES_DIR / "defaults.yaml", ORIGINAL), KUBERNETES),
    ],
    ids=lambda item: item.stem if isinstance(item, Path) else item,
)
def test_file(path: Path, kubernetes: str) -> None:
    """
    A file's objects fit together, and the programs take what the chart gives them.

    Objects have names of their own, pods have what they mount and an account, selectors find their pods.
    """
    things = render_file(path, f"--kube-version={kubernetes}")
    names = Counter(
        (t["kind"], t["metadata"].get("namespace"), t["metadata"]["name"]) for t in things.things
    )
    assert [] == [name for name, times in names.items() if times > 1]
    assert [] == [problem for pod in things.pods() for problem in _loose_ends(pod["spec"])]
    assert [] == _unknown_accounts(things, path)
    for kind in ("DaemonSet", "Deployment"):
        for name in things.names(kind):
            wanted = things.one(kind, name)["spec"]["selector"]["matchLabels"]
            assert wanted.items() <= things.pod(kind, name)["metadata"]["labels"].items()
    _check_marks(things)
    _check_programs(things)


def _loose_ends(spec: Thing) -> list[str]:
    """Name mounts without a volume, volumes and containers that are there twice, and containers without an image."""
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    volumes = [volume["name"] for volume in spec.get("volumes", [])]
    mounts = {
        mount["name"] for container in containers for mount in container.get("volumeMounts", [])
    }
    counts = (Counter(volumes), Counter(c["name"] for c in containers))
    twice = [name for counted in counts for name, times in counted.items() if times > 1]
    bare = [
        c["name"]
        for c in containers
        if not re.fullmatch(r"[\w./-]+(:[\w.-]+|@sha256:\w+)", c["image"])
    ]
    return sorted(mounts - set(volumes)) + twice + bare


def _unknown_accounts(things: Rendered, path: Path) -> list[str]:
    """Name service accounts of pods that are neither made nor said to be there."""
    given = yaml.safe_load(path.read_text()) or {}
    there = {
        part.get("serviceAccount", {}).get("name")
        for part in given.values()
        if isinstance(part, dict)
    }
    used = {pod["spec"]["serviceAccountName"] for pod in things.pods()}
    return sorted(used - set(things.names("ServiceAccount")) - there)


def _check_marks(things: Rendered) -> None:
    """Labels and annotations are texts without templates, and each object says that it is the release's."""
    own = [t for t in things.things if t["metadata"].get("labels", {}).get("helm.sh/chart")]
    assert len(own) > 20
    for meta in [t["metadata"] for t in own] + [pod["metadata"] for pod in things.pods()]:
        texts = {**meta["labels"], **meta.get("annotations", {})}
        assert {} == {
            key: text for key, text in texts.items() if not isinstance(text, str) or "{{" in text
        }
        assert "spiderpool" == meta["labels"]["app.kubernetes.io/instance"]


def _check_programs(things: Rendered) -> None:
    """Agent, controller and jobs read their configuration and their environment."""
    (conf,) = [
        t for t in things.things if t["kind"] == "ConfigMap" and "clusterNetwork" in t["data"]
    ]
    parse_config(conf["data"]["conf.yml"])
    (agent,) = things.names("DaemonSet")
    (controller,) = things.names("Deployment")
    read_agent_settings(env_of(things.container("DaemonSet", agent)))
    read_controller_settings(env_of(things.container("Deployment", controller)))
    (init,) = [name for name in things.names("Job") if not name.endswith(("-crds", "-cleanup"))]
    read_defaults(env_of(things.container("Job", init)))


def test_older_kubernetes() -> None:
    """An older Kubernetes is refused, with what is needed."""
    assert "requires kubeVersion: >=1.29" in template("{}", "--kube-version=1.28.9").stderr


# --- the original's values -----------------------------------------------------------------------


def test_switches_that_are_refused() -> None:
    """What cannot be on ends the installation, all of it at once, with what to do instead."""
    said = refusal(
        {
            "sriov": {"install": True},
            "rdma": {"rdmaSharedDevicePlugin": {"install": True}},
            "spiderpoolAgent": {"networkResourcePlugin": {"enabled": True}},
            "iaasNetworkProvider": {"serverUrl": "http://cloud.example"},
        }
    )
    for path in (
        "sriov.install",
        "rdma.rdmaSharedDevicePlugin.install",
        "spiderpoolAgent.networkResourcePlugin.enabled",
        "iaasNetworkProvider.serverUrl",
    ):
        assert re.search(
            rf"^\* {re.escape(path)}: .*leave it (off|empty)", said, flags=re.MULTILINE
        ), said


NO_EFFECT = [value for value in read_keys().values() if value.no_effect]


def test_values_without_effect() -> None:
    """Values without effect are accepted, change no object, and NOTES.txt says of each what follows."""
    given: dict[str, Any] = {}
    for value in NO_EFFECT:
        put(given, value.path, _another(value.default))
    said = [re.fullmatch(r"\* (.*): no effect\. (.*)", line) for line in notes(given).splitlines()]
    told = {path: found[2] for found in said if found for path in found[1].split(", ")}

    assert {".".join(value.path): value.no_effect for value in NO_EFFECT} == told
    assert _without_settings(render()) == _without_settings(render(given))


def _without_settings(things: Rendered) -> list[Thing]:
    """Return the objects of a release without those that only hand settings on."""
    return [t for t in things.things if t["kind"] not in {"ConfigMap", "DaemonSet", "Deployment"}]


def put(tree: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    """Put a value into a tree."""
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value


def _another(default: object) -> object:
    """Return a value of the same type that is not the default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int):
        return default + 1
    if isinstance(default, list):
        return [*default, {"key": "other"}]
    return {**default, "other": "one"} if isinstance(default, dict) else "other"


EFFECTIVE = [value for value in read_keys().values() if not (value.no_effect or value.refuse)]


def everything() -> dict[str, Any]:
    """Return the values of a release in which everything is on, so that each value shows what it does."""
    values = yaml.safe_load(EVERYTHING)
    plain: dict[str, Any] = json.loads(json.dumps(values))  # without the aliases of YAML
    return plain


EVERYTHING = """
ipam: {spiderSubnet: {autoPool: {enable: true}}}
multus: {multusCNI: {defaultCniCRName: calico}}
coordinator: {enabled: true}
clusterDefaultPool:
  installIPv4IPPool: true
  installIPv6IPPool: true
  ipv4Subnet: 10.20.0.0/16
  ipv6Subnet: fd00:20::/64
spiderpoolAgent: &all
  prometheus: {enabled: true, serviceMonitor: {install: true}, prometheusRule: {install: true}}
spiderpoolController: *all
grafanaDashboard: {install: true}
"""
SWITCHES = [v for v in EFFECTIVE if v.schema.get("type") == "boolean" or "enum" in v.schema]
CERTIFICATE = {
    ("spiderpoolController", "tls", "auto")
}  # what is inside a certificate: test_chart.py
NEW = "--kube-version=1.34.0"
OPERATORS = (NEW, "--api-versions=grafana.integreatly.org/v1beta1")
ISSUED = {"method": "certmanager", "certmanager": {"issuerName": "x"}}
TLS = ("spiderpoolController", "tls")


@pytest.mark.parametrize("value", SWITCHES, ids=lambda value: ".".join(value.path))
def test_every_switch_does_something(value: Value) -> None:
    """Each switch changes what is installed."""
    base = everything()
    if value.path[:2] == ("ipam", value.path[-1]) and "IPv" in value.path[-1]:
        del base["clusterDefaultPool"]  # its pools need both families
    if value.path[:3] == (*TLS, "certmanager"):
        put(base, TLS, json.loads(json.dumps(ISSUED)))
    if value.path[-2:] == ("serviceAccount", "create"):
        put(base, (*value.path[:-1], "name"), "given")
    before = _objects(base)
    put(base, value.path, _switched(value, base))
    if value.path == (*TLS, "method"):
        put(base, TLS, ISSUED)
    assert before != _objects(base)


def _objects(values: Mapping[str, Any]) -> tuple[Thing, ...]:
    """Render with all operators in the cluster."""
    return render_text(json.dumps(values), OPERATORS)


def _switched(value: Value, base: Mapping[str, Any]) -> object:
    """Return another setting of a switch than the one in `base`."""
    now: Any = base
    for name in value.path:
        now = now.get(name, {}) if isinstance(now, dict) else {}
    now = value.default if now == {} else now
    if "enum" in value.schema:
        return next(item for item in value.schema["enum"] if item != now)
    return not now


def test_every_value_reaches_the_release() -> None:
    """Each value that is no switch is found again in some object, for one kind of certificate at least."""
    marks = {v.path: _mark(number, v) for number, v in enumerate(EFFECTIVE) if v not in SWITCHES}
    base = everything()
    for path, (given, _) in marks.items():
        put(base, path, given)
    tls = base["spiderpoolController"]["tls"]
    tls["method"] = "certmanager"
    texts = json.dumps(_objects(base))
    tls["method"] = "provided"
    del base["global"]["imageRegistryOverride"]
    for image in _images(base):
        del image["digest"]
    texts += json.dumps(_objects(base))
    lost = {path for path, (_, text) in marks.items() if text not in texts}
    assert CERTIFICATE == {path[:3] for path in lost}


def _images(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return all images of a file: a digest goes before a tag."""
    parts = [values[name] for name in ("spiderpoolAgent", "spiderpoolController", "spiderpoolInit")]
    return [part["image"] for part in [*parts, values["multus"]["multusCNI"]]]


def _mark(number: int, value: Value) -> tuple[object, str]:
    """Return a setting that no other value has, and the text by which it is found."""
    number += 20000
    word = f"mark-{number}"
    kinds = {
        "count": (number, str(number)),
        "count-or-percent": (f"{number}%", f"{number}%"),
        "text": (word, word),
        "path": (f"/{word}/x", f"/{word}"),
        "percent": (77, "77"),
        "days": (number, str(number)),
        "days-or-duration": (f"{number}h", f"{number}h"),
        "duration": (f"{number}s", f"{number}s"),
        "cidr": (f"10.{number % 250}.0.0/16", f"10.{number % 250}.0.0/16"),
        "address": (f"10.250.{number % 250}.1", f"10.250.{number % 250}.1"),
        "ranges": ([f"10.251.{number % 250}.1"], f"10.251.{number % 250}.1"),
        "texts": ([word], word),
        "strings": ({word: "x"}, word),
        "objects": ([{"name": word}], word),
        "secrets": ([word], word),
        "items": ([{"apiGroup": word, "kind": "A", "resource": "as"}], word),
        "slash": (f"{word}/x", word),
    }
    return kinds[_kind(value)]


def _kind(value: Value) -> str:
    """Return how a value is marked, by its schema."""
    same = {
        "name": "text",
        "optional-name": "text",
        "positive": "count",
        "port": "count",
        "object": "strings",
    }
    found = next((kind for kind, schema in TYPES.items() if schema == value.schema), None)
    if found is None:
        return "items" if value.schema["type"] == "array" else "slash"
    return same.get(found, found)


def test_notes_of_the_original_file() -> None:
    """With the original's own file NOTES.txt tells of its images and of plugins, and of nothing else."""
    told = [
        line
        for line in notes(yaml.safe_load(ORIGINAL.read_text()), NEW).splitlines()
        if line.startswith("* ")
    ]
    assert [
        "* Multus comes",
        "* spiderpoolAgent.image names",
        "* spiderpoolController.image names",
        "* spiderpoolInit.image names",
        (
            "* plugins.installIpoibCNI, plugins.installOvsCNI, plugins.installRdmaCNI, plugins.installSriovCNI, "
            "plugins.installibSriovCNI: no effect."
        ),
    ] == [told_of(line) for line in told]


def told_of(line: str) -> str:
    """Cut a line of NOTES.txt after what it is about."""
    found = re.match(r"\* (\w+ comes|[\w.]+ names|.*?: no effect\.)", line)
    assert found, line
    return found[0]


def test_notes_of_a_plain_installation() -> None:
    """NOTES.txt tells the next three commands, for the release's namespace and names."""
    said = notes({"spiderpoolAgent": {"name": "underlay"}})
    commands = [line.strip() for line in said.splitlines() if line.strip().startswith("kubectl")]
    assert [
        f"kubectl -n {NAMESPACE} rollout status daemonset/underlay",
        "kubectl get spidercoordinator default -o jsonpath='{.status.phase}'",
        "kubectl get spiderips",
    ] == commands


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"spiderpoolAgent": {"prometheus": {"serviceMonitor": {"install": True}}}},
            "spiderpoolAgent.prometheus.serviceMonitor.install: no effect. It needs spiderpoolAgent.prometheus.enabled.",
        ),
        (
            {"spiderpoolController": {"prometheus": {"prometheusRule": {"install": True}}}},
            "spiderpoolController.prometheus.prometheusRule.install: no effect.",
        ),
        ({"grafanaDashboard": {"install": True}}, "The dashboard is a ConfigMap only"),
        ({"multus": {"builtin": {"enabled": True}}}, "Multus is not installed"),
        ({"multus": {"multusCNI": {"uninstall": True}}}, "Multus is taken off the nodes"),
    ],
)
def test_notes_of_switches_that_wait_for_another(values: dict[str, Any], sentence: str) -> None:
    """A switch that does nothing without another one is told."""
    assert sentence in notes(values)


# --- unknown names -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"ipam": {"enableIPV4": True}},
            "ipam.enableIPV4 is not a value of this chart; did you mean ipam.enableIPv4?",
        ),
        ({"global": {"tuneSysctlConfig": True}}, "did you mean spiderpoolAgent.tuneSysctlConfig?"),
        ({"spiderpoolAgent": {"toleration": []}}, "did you mean spiderpoolAgent.tolerations?"),
        (
            {"multus": {"multusCni": {}}},
            "multus.multusCni is not a value of this chart; did you mean multus.multusCNI?",
        ),
        ({"spiderpoolcontroller": {}}, "did you mean spiderpoolController?"),
        ({"zzz": 1}, "zzz is not a value of this chart (docs/reference/chart-values.md has all)"),
        ({"spiderpoolController": {"prometheus": {"interval": "5s"}}}, "serviceMonitor.interval?"),
    ],
)
def test_unknown_names(values: dict[str, Any], sentence: str) -> None:
    """A name that is not known is refused, with the nearest one that is."""
    assert sentence in refusal(values)


def test_names_of_other_charts(tmp_path: Path) -> None:
    """As part of another chart it leaves that chart's `global` alone, and still refuses unknown names of its own."""
    parent = tmp_path / "parent"
    (parent / "charts").mkdir(parents=True)
    (parent / "charts/spiderpool").symlink_to(CHART)
    (parent / "Chart.yaml").write_text("apiVersion: v2\nname: parent\nversion: 1.0.0\n")

    done = template('{"global": {"storageClass": "fast"}}', chart=parent)
    assert done.returncode == 0, done.stderr
    done = template('{"spiderpool": {"ipam": {"enableIPV4": true}}}', chart=parent)
    assert "did you mean ipam.enableIPv4?" in done.stderr


# --- values of an older release ------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["defaults", "calico-overlay", "grafana-operator", "old-cluster", "extras"]
)
def test_reused_values(name: str, tmp_path: Path) -> None:
    """
    `helm upgrade --reuse-values` brings all values of the former chart and none of this one's: they render as well.

    Values that the former chart did not have get their defaults.
    """
    path = VALUES_DIR / f"{name}.yaml"
    chart = tmp_path / "spiderpool"
    chart.mkdir()
    for item in CHART.iterdir():
        (chart / item.name).symlink_to(item)
    (chart / "values.yaml").unlink()
    (chart / "values.yaml").write_text(ORIGINAL.read_text())

    reused = template(path.read_text(), *words_of(path), chart=chart)
    assert reused.returncode == 0, reused.stderr
    plain = _kinds(render_file(path).things)
    del plain["PodDisruptionBudget"]  # off in the original's values
    assert plain == _kinds(t for t in yaml.safe_load_all(reused.stdout) if t)


def _kinds(things: Any) -> Counter[str]:
    """Count objects by kind."""
    return Counter(t["kind"] for t in things)


def test_missing_values_get_their_defaults(tmp_path: Path) -> None:
    """Without values.yaml the chart renders as with it: each default is known to the templates too."""
    chart = tmp_path / "spiderpool"
    chart.mkdir()
    for item in CHART.iterdir():
        if item.name != "values.yaml":
            (chart / item.name).symlink_to(item)
    # Mappings of free content have no default then: a null takes their default away, and stays so.
    free = {
        value.path: value.default
        for value in EFFECTIVE
        if "object" in value.schema.get("type", "") and value.default
    }
    given: dict[str, Any] = {}
    for path, default in free.items():
        node = given
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = default
    done = template(json.dumps(given), "--set=spiderpoolController.tls.method=certmanager",
                    "--set=spiderpoolController.tls.certmanager.issuerName=x", chart=chart)  # fmt: skip
    assert done.returncode == 0, done.stderr
    tls = {"method": "certmanager", "certmanager": {"issuerName": "x"}}
    plain = render({"spiderpoolController": {"tls": tls}})
    assert list(plain.things) == [t for t in yaml.safe_load_all(done.stdout) if t]
