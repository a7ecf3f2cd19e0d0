"""`GET /v1/interfaces`: what is asked of the kernel, and what is answered."""

from __future__ import annotations

import asyncio

import msgspec

from spiderpool.agent.api.pod_interfaces import interface_routes
from spiderpool.agent.api.server import dispatcher, listen_on_port
from spiderpool.api.agent.interfaces import InUseInterface, InUseNamespace, NodeInterfaces
from spiderpool.model.pod import runtime_uids
from tests.fakes.objects import make_pod
from tests.unit.agent.api.test_ports import free_port, get

MIRROR = make_pod("etcd", uid="object", mirror="of-the-file")
NAMESPACE = InUseNamespace(
    path="/var/run/netns/cni-1",
    pod_uid="uid-1",
    containers=("a",),
    interfaces=(InUseInterface(nic="eth0", mac="0a:00:00:00:00:01", addresses=("10.6.0.10/16",)),),
)


def test_uids_of_pods_from_files() -> None:
    """
    Kubelet runs a pod that it reads from a file under the file's hash.

    The object has another UID.
    """
    assert {"uid-1": "uid-1", "of-the-file": "object"} == runtime_uids([make_pod(), MIRROR])


async def test_answer() -> None:
    """
    The node's name and its namespaces, in the form that the client reads.

    Those who ask together make one look.
    """
    looks: list[dict[str, str]] = []

    async def look(pods: dict[str, str]) -> tuple[InUseNamespace, ...]:
        looks.append(pods)
        await asyncio.sleep(0.05)
        return (NAMESPACE,)

    port = free_port()
    runner = await listen_on_port(
        dispatcher(interface_routes("node1", lambda: [make_pod()], look)), port
    )
    answers = await asyncio.gather(*(get(port, "/v1/interfaces") for _ in range(3)))
    await runner.cleanup()

    expected = NodeInterfaces(node="node1", namespaces=(NAMESPACE,))
    assert [(200, expected)] * 3 == [
        (status, msgspec.json.decode(text, type=NodeInterfaces)) for status, text in answers
    ]
    assert [{"uid-1": "uid-1"}] == looks
