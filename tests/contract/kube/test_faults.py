"""What goes wrong on the way: refusals, lost answers, an API server that is away."""

from __future__ import annotations

import msgspec
import pytest

from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import ConfigMap
from spiderpool.errors import AlreadyExists, NotFound, TooManyRequests, UnknownOutcome, Unreachable
from tests.apiserver.proxy import Fault
from tests.contract.kube.stage import RealStage, Stage, config_map, record


async def test_refusal_says_how_long_to_wait(stage: Stage) -> None:
    """429 gives the server's Retry-After; nothing was created, and nothing is retried."""
    wanted = record(stage)
    stage.fail_next("create", SpiderIP, Fault.REFUSE)
    with pytest.raises(TooManyRequests, match="please try again later") as caught:
        await stage.cluster.create(wanted)
    assert 2.0 == caught.value.retry_after_s
    with pytest.raises(NotFound):
        await stage.cluster.get(SpiderIP, wanted.metadata.name)


async def test_refused_list(stage: Stage) -> None:
    """Reads are refused in the same way."""
    stage.fail_next("list", SpiderIP, Fault.REFUSE)
    with pytest.raises(TooManyRequests):
        await stage.cluster.list_objects(SpiderIP)


async def test_create_that_was_committed_and_never_answered(stage: Stage) -> None:
    """
    The outcome is unknown.

    A read of the name finds the record, and a second creation meets it.
    """
    wanted = record(stage, uid="me")
    stage.fail_next("create", SpiderIP, Fault.CUT_AFTER)
    with pytest.raises(UnknownOutcome):
        await stage.cluster.create(wanted)
    assert "me" == (await stage.cluster.get(SpiderIP, wanted.metadata.name)).spec.holder.uid
    with pytest.raises(AlreadyExists):
        await stage.cluster.create(wanted)


async def test_create_that_never_arrived(stage: Stage) -> None:
    """The outcome is unknown as well; a read of the name finds nothing."""
    wanted = record(stage)
    stage.fail_next("create", SpiderIP, Fault.CUT_BEFORE)
    with pytest.raises(UnknownOutcome):
        await stage.cluster.create(wanted)
    with pytest.raises(NotFound):
        await stage.cluster.get(SpiderIP, wanted.metadata.name)


async def test_delete_that_was_committed_and_never_answered(stage: Stage) -> None:
    """The outcome is unknown, the object is gone, and the deletion was sent once."""
    created = await stage.cluster.create(record(stage))
    stage.fail_next("delete", SpiderIP, Fault.CUT_AFTER)
    with pytest.raises(UnknownOutcome):
        await stage.cluster.delete(SpiderIP, created.metadata.name, uid=created.metadata.uid)
    with pytest.raises(NotFound):
        await stage.cluster.get(SpiderIP, created.metadata.name)


async def test_changes_that_were_committed_and_never_answered(stage: Stage) -> None:
    """Patch and replace: unknown, and done."""
    first = await stage.cluster.create(config_map(stage, "a", v="1"))
    name = first.metadata.name
    stage.fail_next("patch", ConfigMap, Fault.CUT_AFTER)
    with pytest.raises(UnknownOutcome):
        await stage.cluster.patch(ConfigMap, name, {"data": {"v": "2"}}, namespace="default")
    second = await stage.cluster.get(ConfigMap, name, "default")
    assert {"v": "2"} == second.data
    stage.fail_next("replace", ConfigMap, Fault.CUT_AFTER)
    with pytest.raises(UnknownOutcome):
        await stage.cluster.replace(msgspec.structs.replace(second, data={"v": "3"}))
    assert {"v": "3"} == (await stage.cluster.get(ConfigMap, name, "default")).data


@pytest.mark.parametrize("verb", ["create", "replace", "patch", "delete"])
async def test_no_write_is_sent_twice(real: RealStage, verb: str) -> None:
    """A connection that ends under a write, new or kept, does not make the client send it again."""
    first = await real.cluster.create(config_map(real, "a"))
    name, seen = first.metadata.name, len(real.proxy.seen)
    writes = {
        "create": real.cluster.create(config_map(real, "b")),
        "replace": real.cluster.replace(msgspec.structs.replace(first, data={"v": "2"})),
        "patch": real.cluster.patch(ConfigMap, name, {"data": {"v": "2"}}, namespace="default"),
        "delete": real.cluster.delete(ConfigMap, name, "default"),
    }
    wanted = writes.pop(verb)
    for unused in writes.values():
        unused.close()
    real.fail_next(verb, ConfigMap, Fault.CUT_BEFORE)
    with pytest.raises(UnknownOutcome):
        await wanted
    assert [verb] == [request.verb for request in real.proxy.seen[seen:]]


async def test_api_server_that_is_away(stage: Stage) -> None:
    """Unreachable while it is away; everything is as before when it is back."""
    created = await stage.cluster.create(record(stage))
    await stage.down()
    try:
        with pytest.raises(Unreachable):
            await stage.other.get(SpiderIP, created.metadata.name)
        with pytest.raises(Unreachable):
            await stage.other.create(record(stage))
    finally:
        await stage.up()
    assert created == await stage.other.get(SpiderIP, created.metadata.name)
