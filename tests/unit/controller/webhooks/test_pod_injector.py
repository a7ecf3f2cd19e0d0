"""The webhook of new pods, asked as the API server asks."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from spiderpool.api.crd.multusconfig import (
    CNIType,
    MasterConfig,
    MultusConfigSpec,
    SpiderMultusConfig,
)
from spiderpool.api.kubernetes.core import Namespace
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.controller.webhooks.pod_injector import PodInjector
from spiderpool.controller.webhooks.server import admission_app
from spiderpool.errors import Unreachable
from tests.fakes.cluster import FakeCluster

KEY = "cni.spidernet.io/network-resource-inject"
NETWORKS = "k8s.v1.cni.cncf.io/networks"


def seeded(annotations: dict[str, str] | None = None) -> FakeCluster:
    """Return a cluster with two networks of one label and one of another."""
    cluster = FakeCluster()
    cluster.seed(Namespace(metadata=ObjectMeta(name="ns", annotations=annotations or {})))
    for name, master, value in (
        ("b", "ens192", "rail"),
        ("a", "ens224", "rail"),
        ("c", "ens192", "other"),
    ):
        spec = MultusConfigSpec(cni_type=CNIType.MACVLAN, macvlan=MasterConfig(master=(master,)))
        cluster.seed(
            SpiderMultusConfig(
                metadata=ObjectMeta(name=name, namespace="nets", labels={KEY: value}), spec=spec
            )
        )
    return cluster


async def ask(cluster: FakeCluster, pod: Any) -> dict[str, Any]:
    """Send a review of a new pod and give the response."""
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u",
            "name": "p",
            "namespace": "ns",
            "operation": "CREATE",
            "object": pod,
            "oldObject": None,
        },
    }
    async with TestClient(TestServer(admission_app([], PodInjector(cluster, "nets")))) as client:
        answer = await client.post("/mutate--v1-pod", json=review)
        assert 200 == answer.status
        found: dict[str, Any] = (await answer.json())["response"]
        return found


def pod(annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """Write a new pod; its namespace is that of the request."""
    return {
        "metadata": {"generateName": "p-", "annotations": annotations or {}},
        "spec": {"containers": [{"name": "c"}]},
    }


async def test_networks_are_injected() -> None:
    """A pod that asks gets all networks of the label, in the order of their masters."""
    response = await ask(seeded(), pod({KEY: "rail"}))

    (operation,) = json.loads(base64.b64decode(response["patch"]))
    assert (True, "JSONPatch") == (response["allowed"], response["patchType"])
    assert {
        "op": "add",
        "path": "/metadata/annotations/k8s.v1.cni.cncf.io~1networks",
        "value": "nets/b,nets/a",
    } == operation


async def test_namespace_speaks_for_its_pods() -> None:
    """A pod that says nothing gets what its namespace says."""
    response = await ask(seeded({KEY: "other"}), pod())

    assert [{NETWORKS: "nets/c"}] == [
        operation["value"] for operation in json.loads(base64.b64decode(response["patch"]))
    ]


async def test_others_are_left_alone() -> None:
    """A pod for which nobody asks is let in as it is, and no network is read."""
    cluster = seeded()
    response = await ask(cluster, pod({"a": "b"}))

    assert {"uid": "u", "allowed": True} == response
    assert 0 == cluster.count("list")


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (pod({KEY: "none"}), 403, f"has the label {KEY}=none"),
        (pod({KEY: "a,b"}), 403, "which no label can have"),
        ({"metadata": {"annotations": 5}}, 400, "pod p cannot be read"),
    ],
)
async def test_refusals(asked: Any, code: int, words: str) -> None:
    """A pod whose networks do not exist is refused, and the words say what is missing."""
    response = await ask(seeded(), asked)

    assert (False, code) == (response["allowed"], response["status"]["code"])
    assert words in response["status"]["message"]


async def test_api_server_away() -> None:
    """What cannot be looked up now may be tried again."""
    cluster = seeded()
    cluster.faults.fail_next("list", SpiderMultusConfig, Unreachable("down"))
    response = await ask(cluster, pod({KEY: "rail"}))

    assert (503, "ServiceUnavailable") == (response["status"]["code"], response["status"]["reason"])


async def test_networks_of_others() -> None:
    """
    A network of a third namespace is never put into a pod, whatever its label.

    Anybody may set one.
    """
    cluster = seeded()
    spec = MultusConfigSpec(cni_type=CNIType.MACVLAN, macvlan=MasterConfig(master=("ens1",)))
    for namespace in ("ns", "tenant"):
        meta = ObjectMeta(name="x", namespace=namespace, labels={KEY: "mine"})
        cluster.seed(SpiderMultusConfig(metadata=meta, spec=spec))

    response = await ask(cluster, {"metadata": {"annotations": {KEY: "mine"}}})

    assert "ns/x" == json.loads(base64.b64decode(response["patch"]))[0]["value"]
    cluster.drop(SpiderMultusConfig, "x", "ns")
    response = await ask(cluster, {"metadata": {"annotations": {KEY: "mine"}}})
    assert (False, True) == (
        response["allowed"],
        "of namespace nets or ns has the label" in response["status"]["message"],
    )
