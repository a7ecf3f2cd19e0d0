"""The webhook that warns of annotations which cannot be read."""

from __future__ import annotations

import json
from random import Random
from typing import Any

import msgspec
import pytest

from spiderpool.controller.webhooks.annotation_advice import LONGEST, advise
from spiderpool.controller.webhooks.server import AdmissionRequest
from tests.fakes.mutations import IP, IPPOOL, NETWORKS, NUMBER, SUBNET, VALID, slips

Json = dict[str, Any]


def thing(kind: str, annotations: Json) -> Json:
    """Write an object whose pods have these annotations."""
    template = {"metadata": {"annotations": annotations}, "spec": {}}
    spec: Json = {"replicas": 1, "template": template}
    if kind == "CronJob":
        spec = {"jobTemplate": {"spec": {"template": template}}}
    own = annotations if kind == "Pod" else {}
    return {
        "kind": kind,
        "metadata": {"name": "web", "namespace": "ns", "annotations": own},
        "spec": {} if kind == "Pod" else spec,
    }


async def warnings(obj: Json | str) -> list[str]:
    """Ask the webhook, which allows everything, and give its warnings."""
    raw = obj if isinstance(obj, str) else json.dumps(obj)
    request = AdmissionRequest(
        uid="u", name="web", namespace="ns", operation="CREATE", object=msgspec.Raw(raw.encode())
    )
    answer = await advise(request)
    assert answer.allowed
    assert "status" not in msgspec.to_builtins(answer)
    told: list[str] = msgspec.to_builtins(answer).get("warnings", [])
    return told


@pytest.mark.parametrize(
    "kind", ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"]
)
async def test_every_kind(kind: str) -> None:
    """The annotations of the pods to be are read, wherever the kind has them."""
    (found,) = await warnings(thing(kind, {IP: "10.6.0.300"}))
    assert found.startswith(f"wrong input: annotation {IP}: ")
    assert "10.6.0.300" in found
    assert [] == await warnings(thing(kind, {IP: "10.6.0.10"}))


async def test_keys_that_nobody_reads() -> None:
    """A key that no ADD looks at is told, and nothing else is wrong with it."""
    (found,) = await warnings(thing("Pod", {IPPOOL: '{"ipv4": ["a"], "ip4": ["b"]}'}))
    assert f"annotation {IPPOOL}: ip4 is ignored; known are ipv4, ipv6" == found


async def test_each_annotation_has_its_sentence() -> None:
    """Several mistakes are told at once."""
    annotations = {IPPOOL: "{", NUMBER: "five", SUBNET: "[]", NETWORKS: "a/b/c", "other": "{"}
    told = await warnings(thing("Deployment", annotations))
    assert [NUMBER, IPPOOL, NETWORKS] == [
        text.split("annotation ")[1].split(":")[0] for text in told
    ]


@pytest.mark.parametrize(
    "obj",
    [
        "{",
        "[]",
        "null",
        '{"kind":"Pod","metadata":7}',
        '{"kind":"Deployment","spec":{"template":[]}}',
    ],
)
async def test_what_is_no_object(obj: str) -> None:
    """It is left to the API server."""
    assert [] == await warnings(obj)


async def test_a_warning_is_one_short_line() -> None:
    """As long as the API server lets it be, whatever the value is."""
    (told,) = await warnings(thing("Pod", {NUMBER: "very\n" * 200}))
    assert "\n" not in told
    assert LONGEST == len(told)


@pytest.mark.parametrize("seed", range(20))
async def test_slips(seed: int) -> None:
    """Whatever becomes of a valid annotation, it is allowed, with one sentence for each that cannot be read."""
    key, text = VALID[seed % len(VALID)]
    told = await warnings(thing("Deployment", {key: slips(text, Random(seed))}))  # noqa: S311 - slips, no secrets
    assert [True] * len(told) == [key in sentence for sentence in told]
    assert len(told) <= 1
