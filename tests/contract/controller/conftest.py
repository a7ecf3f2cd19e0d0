"""A real API server whose admission asks a real controller."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from spiderlab.pki import issue, make_authority
from spiderpool.api.kubernetes.core import Namespace
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta, Resource
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
)
from spiderpool.errors import NotFound
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import connect
from tests.apiserver.control_plane import ControlPlane
from tests.contract.controller.replica import InformerStore

WEBHOOKS = "spiderpool-controller"
KINDS = {"spiderippools": "spiderippool", "spiderreservedips": "spiderreservedip"}


class Mutating(KubeObject, frozen=True, kw_only=True):
    """With its webhooks as a whole."""

    resource: ClassVar[Resource] = MutatingWebhookConfiguration.resource
    webhooks: list[dict[str, Any]]


class Validating(KubeObject, frozen=True, kw_only=True):
    """With its webhooks as a whole."""

    resource: ClassVar[Resource] = ValidatingWebhookConfiguration.resource
    webhooks: list[dict[str, Any]]


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return a real API server of the module's own: webhooks concern everybody on it."""
    with ControlPlane(Path(tmp_path_factory.mktemp("control-plane"))) as plane:
        yield plane


@pytest.fixture
async def cluster(control_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    """Return an administrator's door."""
    async with connect(str(control_plane.kubeconfig), user_agent="test") as client:
        yield client


Start = Callable[..., InformerStore]


@pytest.fixture
def start(control_plane: ControlPlane, tmp_path: Path) -> Iterator[Start]:
    """Start controllers; all end with the test."""
    with ExitStack() as stack:

        def begin(name: str = "one", **options: Any) -> InformerStore:
            options = {"certificate": None, **options}
            replica = InformerStore.start(name, control_plane.kubeconfig, tmp_path, **options)
            stack.callback(replica.kill)
            return replica

        yield begin


@pytest.fixture
async def controller(
    cluster: KubeClient, start: Start, tmp_path: Path
) -> AsyncIterator[InformerStore]:
    """Return a ready controller that the API server asks about every write."""
    authority = make_authority("webhooks")
    serving = issue(authority, "spiderpool-controller", serves=("127.0.0.1", "localhost"))
    cert, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    cert.write_bytes(serving.pem)
    key.write_bytes(serving.key_pem)
    replica = start(certificate=(cert, key))
    replica.wait_ready()
    await make_webhooks(cluster, replica, base64.b64encode(authority.pem).decode())
    yield replica
    for each in (MutatingWebhookConfiguration, ValidatingWebhookConfiguration):
        with suppress(NotFound):
            await cluster.delete(each, WEBHOOKS)


async def make_webhooks(cluster: KubeClient, replica: InformerStore, bundle: str = "") -> None:
    """Have the API server ask a controller, and trust it by these authorities."""
    for kind, verb in ((Mutating, "mutate"), (Validating, "validate")):
        hooks = [_webhook(verb, p, replica.webhook_port, bundle) for p in KINDS]
        await cluster.create(kind(metadata=ObjectMeta(name=WEBHOOKS), webhooks=hooks))


def _webhook(verb: str, plural: str, port: int, bundle: str) -> dict[str, Any]:
    """Write one webhook as the chart does, but by address."""
    kind = KINDS[plural]
    operations = ["CREATE", "UPDATE"] + ["DELETE"] * (
        verb == "validate" and plural == "spiderippools"
    )
    url = f"https://127.0.0.1:{port}/{verb}-spiderpool-spidernet-io-v2beta1-{kind}"
    return {
        "name": f"{kind}.spiderpool.spidernet.io",
        "admissionReviewVersions": ["v1"],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "clientConfig": {"url": url, **({"caBundle": bundle} if bundle else {})},
        "rules": [
            {
                "apiGroups": ["spiderpool.spidernet.io"],
                "apiVersions": ["v2beta1"],
                "operations": operations,
                "resources": [plural],
            }
        ],
    }


@pytest.fixture
async def namespace(cluster: KubeClient, request: pytest.FixtureRequest) -> str:
    """Return a namespace of the test's own."""
    name = request.node.name.replace("_", "-").partition("[")[0][:60].strip("-")
    await cluster.create(Namespace(metadata=ObjectMeta(name=name)))
    return name
