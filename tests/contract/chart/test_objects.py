"""The chart's objects, validated by a real API server: strictly, and without being stored."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from spiderlab import binaries
from tests.apiserver.control_plane import ControlPlane
from tests.chart.rendering import NAMESPACE, ORIGINAL, VALUES, Thing, render_file

# Kinds of operators that the API server does not have.
FOREIGN = {
    ("cert-manager.io/v1", "Certificate"),
    ("grafana.integreatly.org/v1beta1", "GrafanaDashboard"),
    ("monitoring.coreos.com/v1", "PrometheusRule"),
    ("monitoring.coreos.com/v1", "ServiceMonitor"),
}


# The chart's tests have no real certificate.
NO_CERTIFICATE = "Warning: tls: failed to find any PEM data in certificate input\n"


class Validator:
    """An API server that is asked whether it would take objects."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane

    def refusals(self, things: list[Thing]) -> str:
        """Return what the API server finds wrong with objects: unknown fields, wrong values."""
        # Without optimism: each object is validated as one that is new.
        words = ("create", "--dry-run=server", "--validate=strict", "--output=name")
        said = self.kubectl(*words, things=things).stderr
        return "".join(line for line in said.splitlines(keepends=True) if line != NO_CERTIFICATE)

    def kubectl(self, *words: str, things: list[Thing]) -> subprocess.CompletedProcess[str]:
        """Run kubectl with objects on its standard input."""
        command = [
            str(binaries.program("kubectl")),
            f"--kubeconfig={self._plane.kubeconfig}",
            *words,
            "-f-",
        ]
        text = yaml.safe_dump_all(things)
        return subprocess.run(command, input=text, capture_output=True, text=True, check=False)  # noqa: S603  our own program


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Validator]:
    """Return a validator with the namespaces that the value files name."""
    with ControlPlane(tmp_path_factory.mktemp("chart")) as plane:
        found = Validator(plane)
        monitoring = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "monitoring"}}
        done = found.kubectl("create", things=[monitoring])
        assert done.returncode == 0, done.stderr
        yield found


@pytest.mark.xdist_group("chart")
@pytest.mark.parametrize("path", [*VALUES, ORIGINAL], ids=lambda path: path.stem)
def test_objects(path: Path, validator: Validator) -> None:
    """The API server takes every object of a release as it is, with no field that it does not know."""
    things = render_file(path).things
    known = [thing for thing in things if (thing["apiVersion"], thing["kind"]) not in FOREIGN]
    assert len(known) > 20
    assert "" == validator.refusals(known)


def test_refusals(validator: Validator) -> None:
    """A field that nobody knows and a value that cannot be are found."""
    thing: Thing = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "x", "namespace": NAMESPACE, "labels": {"a": "not a label!"}},
        "secret": [],
    }
    assert 'unknown field "secret"' in validator.refusals([thing])
    del thing["secret"]
    assert "metadata.labels: Invalid value" in validator.refusals([thing])
