"""The chart, rendered by Helm as a user would, and taken apart."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spiderlab import binaries

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/chart/spiderpool"
ORIGINAL = ROOT / "deploy/chart/spiderpool-v1.2.1-values.yaml"
VALUES_DIR = Path(__file__).parent / "values"
VALUES = sorted(VALUES_DIR.glob("*.yaml"))
NAMESPACE = "kube-system"
KUBERNETES = ("1.29.0", "1.30.0", "1.31.0", "1.32.0", "1.33.0", "1.34.0")

Thing = dict[str, Any]


@dataclass(frozen=True)
class Rendered:
    """All objects of a release."""

    things: tuple[Thing, ...]

    def one(self, kind: str, name: str) -> Thing:
        """Find the only object of that kind and name."""
        found = [t for t in self.things if t["kind"] == kind and t["metadata"]["name"] == name]
        assert len(found) == 1, f"{kind} {name}: {len(found)} of {sorted(self.names(kind))}"
        return found[0]

    def names(self, kind: str) -> list[str]:
        """Name all objects of a kind."""
        return sorted(t["metadata"]["name"] for t in self.things if t["kind"] == kind)

    def pod(self, kind: str, name: str) -> Thing:
        """Return the pod template of an object."""
        template: Thing = self.one(kind, name)["spec"]["template"]
        return template

    def pods(self) -> list[Thing]:
        """Return the pod templates of all objects that have one."""
        kinds = {"DaemonSet", "Deployment", "Job"}
        return [t["spec"]["template"] for t in self.things if t["kind"] in kinds]

    def container(self, kind: str, name: str) -> Thing:
        """Return the first container of an object's pods."""
        container: Thing = self.pod(kind, name)["spec"]["containers"][0]
        return container

    def rules(self, kind: str, name: str) -> set[tuple[str, str, str]]:
        """Return what a role allows, one (group, resource, verb) each."""
        rules = self.one(kind, name)["rules"]
        return {
            (group, resource, verb)
            for rule in rules
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }


def render(values: Mapping[str, Any] | None = None, *words: str) -> Rendered:
    """Render the chart with these values, and further words for Helm."""
    return Rendered(render_text(json.dumps(values or {}, sort_keys=True), words))


def render_file(path: Path, *words: str) -> Rendered:
    """Render the chart with the values of a file, as `helm template -f` does."""
    return Rendered(render_text(path.read_text(), (*words, *words_of(path))))


def words_of(path: Path) -> tuple[str, ...]:
    """Return what else Helm is to be told about a file's cluster: the kinds it serves."""
    apis = re.findall(r"^# api-versions: (.+)$", path.read_text(), flags=re.MULTILINE)
    return tuple(f"--api-versions={api}" for api in apis)


@cache
def render_text(values: str, words: tuple[str, ...]) -> tuple[Thing, ...]:
    """Return the objects that `helm template` makes of a file's text, with further words for Helm."""
    done = template(values, *words)
    assert done.returncode == 0, done.stderr
    return tuple(thing for thing in yaml.safe_load_all(done.stdout) if thing)


def refusal(values: Mapping[str, Any]) -> str:
    """Return Helm's words for values that it refuses."""
    done = template(json.dumps(values))
    assert done.returncode != 0, "these values were accepted"
    return done.stderr


def notes(values: Mapping[str, Any], *words: str) -> str:
    """Return what NOTES.txt says: `helm template` does not show it, but an object of the release may include it."""
    include = '{{ include "spiderpool/templates/NOTES.txt" . | b64enc }}'
    probe = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "notes"},
        "data": {"notes": include},
    }
    things = Rendered(render_text(json.dumps({**values, "extraObjects": [probe]}), words))
    return base64.b64decode(things.one("ConfigMap", "notes")["data"]["notes"]).decode()


def template(values: str, *words: str, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """Run `helm template`, for the oldest Kubernetes unless the words say another."""
    version = (
        ()
        if any(word.startswith("--kube-version") for word in words)
        else ("--kube-version=1.29.0",)
    )
    return helm(
        "template",
        "spiderpool",
        str(chart),
        "--namespace",
        NAMESPACE,
        *version,
        *words,
        values=values,
    )


def helm(*words: str, values: str) -> subprocess.CompletedProcess[str]:
    """Run the lab's Helm; where it is not built, the error says how to build it."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(values)
        file.flush()
        command = [str(binaries.program("helm")), *words, "--values", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603  the lab's Helm


def env_of(container: Thing) -> dict[str, str]:
    """Return a container's environment; what comes from the pod's own fields as `<field>`."""
    return {
        item["name"]: item["value"]
        if "value" in item
        else f"<{item['valueFrom']['fieldRef']['fieldPath']}>"
        for item in container["env"]
    }


def leaves(
    tree: Mapping[str, Any], path: tuple[str, ...] = ()
) -> Sequence[tuple[tuple[str, ...], object]]:
    """Return all values of a file with their paths."""
    found: list[tuple[tuple[str, ...], object]] = []
    for name, item in tree.items():
        here = (*path, name)
        found += leaves(item, here) if isinstance(item, dict) and item else [(here, item)]
    return found
