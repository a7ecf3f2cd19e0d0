"""`clean` against a real API server, which is of no use to other tests afterwards."""

from __future__ import annotations

import asyncio
import time

import pytest

from spiderpool.api.crd.group import FINALIZER
from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Namespace
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.webhook_configurations import ValidatingWebhookConfiguration
from spiderpool.controller.cleanup import CustomResourceDefinition
from spiderpool.errors import NotFound
from spiderpool.kube.client import KubeClient
from tests.apiserver.control_plane import ControlPlane
from tests.contract.controller.replica import InformerStore, environment, free_ports
from tests.contract.controller.test_command import run
from tests.unit.controller.conftest import make_record


async def test_clean_leaves_nothing(
    control_plane: ControlPlane, cluster: KubeClient, controller: InformerStore
) -> None:
    """`clean` removes webhooks, objects with finalizers and definitions, says each step, and can be run again."""
    await cluster.create(Namespace(metadata=ObjectMeta(name="ns")))
    spec = IPPoolSpec(subnet="10.28.0.0/16", ips=("10.28.0.1-10.28.0.9",))
    pool = await cluster.create(SpiderIPPool(metadata=ObjectMeta(name="old"), spec=spec))
    assert (FINALIZER,) == pool.metadata.finalizers
    for last in range(1, 40):
        await cluster.create(make_record(f"10.28.0.{last}", f"p{last}", f"u{last}", pool="old"))
    controller.kill()
    environ = environment(control_plane.kubeconfig, "one", free_ports(3))
    arguments = (
        "clean",
        "--validate",
        "spiderpool-controller",
        "--mutating",
        "spiderpool-controller",
    )
    kept = await run(*arguments, environ=environ)
    assert "workloads hold 39 addresses" in kept[1]
    assert 39 == len((await cluster.list_objects(SpiderIP)).items)
    forced = (*arguments, "--even-if-held")
    began = time.monotonic()
    first = await run(*forced, environ=environ)
    second = await run(*forced, environ=environ)

    assert (0, 0) == (first[0], second[0]), first[2] + second[2]
    assert time.monotonic() - began < 20
    said = first[1].splitlines()
    assert [
        "deleted MutatingWebhookConfiguration spiderpool-controller",
        "deleted ValidatingWebhookConfiguration spiderpool-controller",
    ] == kept[1].splitlines()[:2]
    assert {"deleted 39 spiderips", "deleted 1 spiderippools"} <= set(said)
    assert "deleted CustomResourceDefinition spiderippools.spiderpool.spidernet.io" in said
    assert (
        "ValidatingWebhookConfiguration spiderpool-controller is not there"
        in second[1].splitlines()
    )
    with pytest.raises(NotFound):
        await cluster.get(ValidatingWebhookConfiguration, "spiderpool-controller")
    async with asyncio.timeout(20):
        while (await cluster.list_objects(CustomResourceDefinition)).items:
            await asyncio.sleep(0.1)
