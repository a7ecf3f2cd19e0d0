"""Definitions of networks, over a cluster in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.multusconfig import (
    CNIType,
    IpoibConfig,
    MultusConfigSpec,
    SpiderMultusConfig,
)
from spiderpool.api.kubernetes.core import (
    NetworkAttachmentDefinition,
    NetworkAttachmentDefinitionSpec,
)
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.controller.networks.multusconfigs import GOING_S, MultusConfigs
from tests.unit.controller.conftest import Scene, settle

CONFIG = '{"cniVersion":"0.3.1","name":"net","plugins":[{"type":"ipoib","master":"ibs5f0","ipam":{"type":"spiderpool"}}]}'
OTHERS = NetworkAttachmentDefinitionSpec(config='{"type":"bridge"}')


def network(
    name: str = "net",
    uid: str = "u1",
    annotations: dict[str, str] | None = None,
    master: str = "ibs5f0",
) -> SpiderMultusConfig:
    """Make a network that needs no coordinator."""
    spec = MultusConfigSpec(
        cni_type=CNIType.IPOIB, enable_coordinator=False, ipoib=IpoibConfig(master=master)
    )
    return SpiderMultusConfig(
        metadata=ObjectMeta(name=name, namespace="ns", uid=uid, annotations=annotations or {}),
        spec=spec,
    )


def owner(name: str = "net", uid: str = "u1") -> OwnerReference:
    """Point at a network as a definition of its own does."""
    return OwnerReference(
        api_version="spiderpool.spidernet.io/v2beta1",
        kind="SpiderMultusConfig",
        name=name,
        uid=uid,
        controller=True,
        block_owner_deletion=True,
    )


def definition(
    name: str = "net", *owners: OwnerReference, **meta: object
) -> NetworkAttachmentDefinition:
    """Make a definition that says something else."""
    metadata = ObjectMeta(name=name, namespace="ns", owner_references=owners, **meta)  # type: ignore[arg-type]
    return NetworkAttachmentDefinition(metadata=metadata, spec=OTHERS)


@dataclass(slots=True)
class Keeper:
    """A running keeper of definitions."""

    scene: Scene
    configs: MultusConfigs

    async def run(self, seconds: float = 0) -> None:
        """Let time pass and the keeper work."""
        await self.scene.pass_time(seconds)
        await self.configs.queue.run_due()
        await settle()

    def one(self, name: str = "net") -> NetworkAttachmentDefinition:
        """Return the definition of that name."""
        return next(
            found
            for found in self.scene.cluster.all(NetworkAttachmentDefinition)
            if found.metadata.name == name
        )


@asynccontextmanager
async def keeping(scene: Scene) -> AsyncIterator[Keeper]:
    """Keep definitions while the block runs."""
    configs = MultusConfigs(scene.cluster, scene.told, clock=scene.clock)
    await configs.start()
    try:
        keeper = Keeper(scene, configs)
        await keeper.run()
        yield keeper
    finally:
        await configs.stop()


async def test_made(scene: Scene) -> None:
    """A network gets a definition that belongs to it and has its annotations."""
    scene.cluster.seed(network(annotations={"a": "b"}))
    async with keeping(scene) as keeper:
        found = keeper.one()

    assert CONFIG == found.spec.config
    assert ({"a": "b"}, (owner(),)) == (found.metadata.annotations, found.metadata.owner_references)


async def test_followed(scene: Scene) -> None:
    """
    A changed network changes its definition, annotations that it lost included.

    Labels of others stay.
    """
    scene.cluster.seed(network(annotations={"a": "b"}))
    async with keeping(scene) as keeper:
        before = keeper.one()
        scene.cluster.seed(
            replace(before, metadata=replace(before.metadata, labels={"mine": "yes"}))
        )
        scene.cluster.seed(network(annotations={"c": "d"}, master="ibs6f0"))
        await keeper.run()
        found = keeper.one()

    assert "ibs6f0" in found.spec.config
    assert ({"c": "d"}, {"mine": "yes"}) == (found.metadata.annotations, found.metadata.labels)


async def test_nothing_to_do(scene: Scene) -> None:
    """A definition that is right is not written again, with or without annotations."""
    scene.cluster.seed(network())
    async with keeping(scene) as keeper:
        await keeper.run(60)
        await keeper.run(60)

    assert (1, 0) == (scene.cluster.count("create"), scene.cluster.count("patch"))


async def test_put_right(scene: Scene) -> None:
    """A definition that somebody changed, or deleted, is put right without waiting for the next round."""
    scene.cluster.seed(network())
    async with keeping(scene) as keeper:
        found = keeper.one()
        scene.cluster.seed(replace(found, spec=OTHERS))
        await keeper.run()
        assert CONFIG == keeper.one().spec.config
        scene.cluster.drop(NetworkAttachmentDefinition, "net", "ns")
        await keeper.run()
        assert CONFIG == keeper.one().spec.config


async def test_taken_over(scene: Scene) -> None:
    """A definition that nobody owns becomes the network's own."""
    scene.cluster.seed(definition(annotations={"old": "1"}))
    scene.cluster.seed(network())
    async with keeping(scene) as keeper:
        found = keeper.one()

    assert (CONFIG, (owner(),), {}) == (
        found.spec.config,
        found.metadata.owner_references,
        found.metadata.annotations,
    )


async def test_of_a_network_that_is_gone(scene: Scene) -> None:
    """A definition whose network was deleted, and made again under a new UID, changes its owner."""
    scene.cluster.seed(definition("net", owner("gone", "u0")))
    scene.cluster.seed(network(uid="u2"))
    async with keeping(scene) as keeper:
        assert (owner(uid="u2"),) == keeper.one().metadata.owner_references


async def test_of_another_network(scene: Scene) -> None:
    """A definition of another living network stays as it is, and an Event says whose it is."""
    scene.cluster.seed(network("other", "u9"))
    scene.cluster.seed(definition("shared", owner("other", "u9")))
    scene.cluster.seed(network(annotations={"multus.spidernet.io/cr-name": "shared"}))
    async with keeping(scene) as keeper:
        assert (owner("other", "u9"),) == keeper.one("shared").metadata.owner_references

    text = "network-attachment-definition shared is managed by SpiderMultusConfig other"
    assert [("net", "NetworkNotWritten", text)] == scene.told.events


async def test_on_its_way_out(scene: Scene) -> None:
    """A definition that is being deleted is waited for, and made again when it is gone."""
    scene.cluster.seed(
        definition("net", finalizers=("x",), deletion_timestamp="2026-01-01T00:00:00Z")
    )
    scene.cluster.seed(network())
    async with keeping(scene) as keeper:
        assert OTHERS == keeper.one().spec
        scene.cluster.drop(NetworkAttachmentDefinition, "net", "ns")
        await keeper.run(GOING_S)
        assert CONFIG == keeper.one().spec.config


async def test_wrong_network(scene: Scene) -> None:
    """A network that makes no configuration is told so by an Event, and is not tried again until it changes."""
    wrong = network()
    scene.cluster.seed(replace(wrong, spec=replace(wrong.spec, ipoib=None)))
    async with keeping(scene) as keeper:
        await keeper.run(600)
        assert () == scene.cluster.all(NetworkAttachmentDefinition)
        assert [
            ("net", "NetworkNotWritten", "cniType is ipoib, and its settings are missing")
        ] == scene.told.events
        scene.cluster.seed(network())
        await keeper.run()
        assert CONFIG == keeper.one().spec.config


@pytest.mark.parametrize("going", [True, False])
async def test_network_that_goes(scene: Scene, going: bool) -> None:
    """A network that is gone or going gets no definition."""
    if going:
        found = network()
        meta = replace(found.metadata, deletion_timestamp="2026-01-01T00:00:00Z", finalizers=("x",))
        scene.cluster.seed(replace(found, metadata=meta))
    async with keeping(scene) as keeper:
        keeper.configs.queue.add("ns/net")
        await keeper.run()

    assert () == scene.cluster.all(NetworkAttachmentDefinition)
