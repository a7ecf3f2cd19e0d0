"""The chart, rendered by Helm as a user would, and taken apart."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from spiderlab import binaries

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/chart/spiderpool"
NAMESPACE = "kube-system"

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

    def container(self, kind: str, name: str) -> Thing:
        """Return the first container of an object's pods."""
        container: Thing = self.pod(kind, name)["spec"]["containers"][0]
        return container

    def rules(self, kind: str, name: str) -> set[tuple[str, str, str]]:
        """Return what a role allows, one (group, resource, verb) each."""
        rules = self.one(kind, name)["rules"]
        return {
            (g, r, v)
            for rule in rules
            for g in rule["apiGroups"]
            for r in rule["resources"]
            for v in rule["verbs"]
        }


def render(
    values: Mapping[str, Any] | None = None, *, made_up_certificate: bool = True
) -> Rendered:
    """
    Render the chart with these values.

    A certificate that nobody looks at is not made each time, that is slow.
    """
    given = dict(values or {})
    if made_up_certificate:
        tls = {
            "method": "provided",
            "provided": {"tlsCert": "Y2VydA==", "tlsKey": "a2V5", "tlsCa": "Y2E="},
        }
        given["spiderpoolController"] = {"tls": tls, **given.get("spiderpoolController", {})}
    return _render(json.dumps(given, sort_keys=True))


@cache
def _render(values: str) -> Rendered:
    done = helm(
        "template",
        "spiderpool",
        str(CHART),
        "--kube-version",
        "1.29.0",
        "--namespace",
        NAMESPACE,
        values=values,
    )
    assert done.returncode == 0, done.stderr
    return Rendered(tuple(thing for thing in yaml.safe_load_all(done.stdout) if thing))


def refusal(values: Mapping[str, Any]) -> str:
    """Return Helm's words for values that it refuses."""
    command = ("template", "spiderpool", str(CHART), "--kube-version", "1.29.0")
    done = helm(*command, values=json.dumps(values))
    assert done.returncode != 0, "these values were accepted"
    return done.stderr


def helm(*words: str, values: str) -> subprocess.CompletedProcess[str]:
    """Run the lab's Helm; where it is not built, the error says how to build it."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
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
