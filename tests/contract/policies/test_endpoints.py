"""SpiderEndpoints: an agent describes the pods of its node."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import FINALIZER
from spiderpool.errors import Forbidden
from spiderpool.records.projections import kept_endpoint, merge_endpoint
from tests.contract.policies.conftest import Nodes
from tests.contract.policies.records import held, make_holder, new_ip, pod_on
from tests.fakes.objects import DEPLOYMENT

DIRECTIONS = pytest.mark.parametrize(("mine", "theirs"), [("node1", "node2"), ("node2", "node1")])
POLICY = "Policy 'spiderpool-agent-endpoints'"


def endpoint(namespace: str, node: str, name: str = "web-1") -> SpiderEndpoint:
    """Make the endpoint of a pod on a node, as its agent does."""
    pod = pod_on(node, name, namespace=namespace)
    record = held(new_ip(), make_holder(name, node, namespace=namespace))
    made = kept_endpoint([record], pod, DEPLOYMENT)
    assert made is not None
    return made


@pytest.mark.parametrize("mine", ["node1", "node2"])
async def test_an_agent_keeps_the_endpoints_of_its_pods(
    nodes: Nodes, namespace: str, mine: str
) -> None:
    """It makes one, changes it and deletes it."""
    agent = nodes.agents[mine]
    made = await agent.create(endpoint(namespace, mine, mine))
    changed = await agent.replace(merge_endpoint(made, endpoint(namespace, mine, mine)))
    assert changed.status != made.status
    await agent.delete(SpiderEndpoint, mine, namespace, uid=changed.metadata.uid)


@DIRECTIONS
async def test_a_pod_of_the_same_name_comes_back_here(
    nodes: Nodes, namespace: str, mine: str, theirs: str
) -> None:
    """The endpoint that the other node left becomes that of the pod here."""
    found = await nodes.admin.create(endpoint(namespace, theirs, mine))
    wanted = endpoint(namespace, mine, mine)
    written = await nodes.agents[mine].replace(merge_endpoint(found, wanted))
    assert wanted.status == written.status


@DIRECTIONS
async def test_an_agent_may_not_describe_pods_of_the_other_node(
    nodes: Nodes, namespace: str, mine: str, theirs: str
) -> None:
    """Neither make, nor change, nor delete their endpoints."""
    agent, name = nodes.agents[mine], mine
    with pytest.raises(Forbidden, match=POLICY):
        await agent.create(endpoint(namespace, theirs, name))
    found = await nodes.admin.create(endpoint(namespace, theirs, name))
    for wanted in (
        merge_endpoint(found, endpoint(namespace, theirs, name)),
        replace(
            found,
            status=replace(found.status, current=replace(found.status.current, node=mine)),  # type: ignore[type-var,union-attr]
        ),
    ):
        with pytest.raises(Forbidden, match=POLICY):
            await agent.replace(wanted)
    with pytest.raises(Forbidden, match=POLICY):
        await agent.delete(SpiderEndpoint, name, namespace)
    assert found == await nodes.admin.get(SpiderEndpoint, name, namespace)


async def test_an_agent_sets_no_finalizer(nodes: Nodes, namespace: str) -> None:
    """A namespace would hang on it; one that is there may be taken off."""
    made = endpoint(namespace, "node1")
    bad = replace(made, metadata=replace(made.metadata, finalizers=(FINALIZER,)))
    with pytest.raises(Forbidden, match=POLICY):
        await nodes.agents["node1"].create(bad)
    found = await nodes.admin.create(bad)
    written = await nodes.agents["node1"].replace(merge_endpoint(found, made))
    assert () == written.metadata.finalizers


async def test_a_token_that_names_no_node_describes_nothing(nodes: Nodes, namespace: str) -> None:
    """A token of the account that is bound to no pod is good for no node."""
    with pytest.raises(Forbidden, match="names no node"):
        await nodes.agents[""].create(endpoint(namespace, "node1"))
