"""`spiderpool-controller clean`, over a cluster in memory."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.api.kubernetes.core import Job, Pod
from spiderpool.api.kubernetes.meta import KubeObject, ObjectMeta
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    ValidatingWebhookConfiguration,
)
from spiderpool.controller.cleanup import CustomResourceDefinition, Remains, clean
from spiderpool.errors import Unreachable
from tests.unit.controller.conftest import Scene, make_pod, make_pool, make_record

CAREFUL = Remains(
    validating="webhooks", mutating="webhooks", namespace="spiderpool", init_job="spiderpool-init"
)
REMAINS = replace(CAREFUL, even_if_held=True)


def definition(
    kind: type[KubeObject], group: str = "spiderpool.spidernet.io"
) -> CustomResourceDefinition:
    """Make the definition of a kind."""
    resource = kind.resource
    return CustomResourceDefinition(
        metadata=ObjectMeta(name=f"{resource.plural}.{group}"),
        spec={
            "group": group,
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "names": {"kind": resource.kind, "plural": resource.plural},
            "versions": [{"name": "v1", "storage": False}, {"name": "v2beta1", "storage": True}],
        },
    )


async def test_what_another_product_has_in_our_group_stays(full: Scene) -> None:
    """Its definition is not ours to delete, nor are its objects; the others go all the same."""
    full.cluster.seed(definition(Pod, "spiderpool.spidernet.io"))
    said: list[str] = []

    await clean(full.cluster, REMAINS, said.append)

    left = [found.metadata.name for found in full.cluster.all(CustomResourceDefinition)]
    assert ["pods.example.com", "pods.spiderpool.spidernet.io"] == sorted(left)


@pytest.fixture
def full(scene: Scene) -> Scene:
    """Return a cluster with everything of ours in it, and with other people's things."""
    for kind in (SpiderIPPool, SpiderIP, SpiderEndpoint):
        scene.cluster.seed(definition(kind))
    scene.cluster.seed(definition(Pod, "example.com"))
    scene.cluster.seed(MutatingWebhookConfiguration(metadata=ObjectMeta(name="webhooks")))
    scene.cluster.seed(ValidatingWebhookConfiguration(metadata=ObjectMeta(name="webhooks")))
    scene.cluster.seed(ValidatingWebhookConfiguration(metadata=ObjectMeta(name="others")))
    scene.cluster.seed(Job(metadata=ObjectMeta(name="spiderpool-init", namespace="spiderpool")))
    scene.cluster.seed(make_pool())
    scene.cluster.seed(make_pod())
    for last in range(10, 50):
        scene.cluster.seed(make_record(f"10.6.0.{last}"))
    meta = ObjectMeta(name="p", namespace="ns", finalizers=("spiderpool.spidernet.io",))
    scene.cluster.seed(SpiderEndpoint(metadata=meta))
    return scene


def left(scene: Scene) -> dict[str, int]:
    """Count what is there."""
    kinds: tuple[type[KubeObject], ...] = (
        SpiderIPPool,
        SpiderIP,
        SpiderEndpoint,
        MutatingWebhookConfiguration,
        Job,
    )
    return {
        kind.resource.kind: len(scene.cluster.all(kind))
        for kind in kinds
        if scene.cluster.all(kind)
    }


async def test_everything_of_ours_goes(full: Scene) -> None:
    """
    Webhooks, objects with finalizers, definitions and the init job go, each step is said.

    Others' things stay.
    """
    said: list[str] = []
    await clean(full.cluster, REMAINS, said.append)

    assert {} == left(full)
    assert ["others"] == [
        found.metadata.name for found in full.cluster.all(ValidatingWebhookConfiguration)
    ]
    assert ["pods.example.com"] == [
        found.metadata.name for found in full.cluster.all(CustomResourceDefinition)
    ]
    assert 1 == len(full.cluster.all(Pod))
    assert [
        "deleted MutatingWebhookConfiguration webhooks",
        "deleted ValidatingWebhookConfiguration webhooks",
        "deleted 1 spiderendpoints",
        "deleted 1 spiderippools",
        "deleted 40 spiderips",
        "deleted CustomResourceDefinition spiderendpoints.spiderpool.spidernet.io",
        "deleted CustomResourceDefinition spiderippools.spiderpool.spidernet.io",
        "deleted CustomResourceDefinition spiderips.spiderpool.spidernet.io",
        "deleted Job spiderpool-init",
    ] == said


async def test_second_run_finds_nothing(full: Scene) -> None:
    """It can be run again, and says what is not there."""
    await clean(full.cluster, REMAINS, lambda _: None)
    said: list[str] = []
    await clean(full.cluster, REMAINS, said.append)

    assert [
        "MutatingWebhookConfiguration webhooks is not there",
        "ValidatingWebhookConfiguration webhooks is not there",
        "Job spiderpool-init is not there",
    ] == said


@pytest.mark.parametrize("step", range(1, 49))
async def test_run_that_was_cut_off_is_completed_by_the_next(full: Scene, step: int) -> None:
    """Whatever write a run ends before, the next one removes the rest."""
    writes = 0

    def end(_: object) -> None:
        nonlocal writes
        writes += 1
        if writes == step:
            raise Unreachable("the API server is gone")

    full.cluster.on_write(end)
    with pytest.raises(Unreachable):
        await clean(full.cluster, REMAINS, lambda _: None)
    await clean(full.cluster, REMAINS, lambda _: None)

    assert {} == left(full)


async def test_names_that_are_not_given_are_not_touched(full: Scene) -> None:
    """Without the names of webhook configurations none is deleted."""
    await clean(
        full.cluster,
        replace(REMAINS, validating="", mutating=""),
        lambda _: None,
    )

    assert {"MutatingWebhookConfiguration": 1} == left(full)


async def test_objects_stay_while_an_address_is_held(full: Scene) -> None:
    """
    While workloads hold addresses, only webhooks and job go, and the reason is said.

    The next installation finds every record.
    """
    said: list[str] = []
    await clean(full.cluster, CAREFUL, said.append)

    assert {"SpiderIPPool": 1, "SpiderIP": 40, "SpiderEndpoint": 1} == left(full)
    assert 4 == len(full.cluster.all(CustomResourceDefinition))
    assert () == full.cluster.all(MutatingWebhookConfiguration)
    (reason,) = [line for line in said if line.startswith("workloads hold 40 addresses")]
    assert "10.6.0.10 (ns/p)" in reason
    assert "spiderpoolController.cleanup.evenIfHeld=true" in reason


async def test_objects_go_when_no_address_is_held(full: Scene) -> None:
    """Addresses that cool down or that the controller itself keeps hold nothing up."""
    for record in full.cluster.all(SpiderIP)[1:]:
        await full.cluster.delete(SpiderIP, record.metadata.name)
    (record,) = full.cluster.all(SpiderIP)
    cooling = msgspec.structs.replace(record.spec, state=IPState.COOLING)
    await full.cluster.replace(msgspec.structs.replace(record, spec=cooling))

    await clean(full.cluster, CAREFUL, lambda _: None)
    assert {} == left(full)
