"""The chart's roles and policies on a real API server, and agents with the tokens of their pods."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from spiderlab.binaries import program
from spiderpool.api.crd.endpoint import SpiderEndpoint
from spiderpool.api.crd.group import ANNO_NETWORK_STATUS
from spiderpool.api.crd.spiderip import SpiderIP
from spiderpool.api.kubernetes.core import Namespace, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import Forbidden
from spiderpool.kube.client import KubeClient
from spiderpool.kube.connect import connect
from spiderpool.kube.credentials import BearerToken
from spiderpool.kube.transport import Access
from tests.apiserver.control_plane import ControlPlane
from tests.chart.rendering import NAMESPACE, render
from tests.contract.policies.records import held, make_holder

AGENT, MULTUS = "spiderpool-agent", "agent-with-multus"
NODES = ("node1", "node2")
RELEASE = {"multus": {"builtin": {"enabled": True}}}
WITH_MULTUS = {"spiderpoolAgent": {"name": MULTUS}}
KINDS = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)


@dataclass(frozen=True, slots=True)
class Nodes:
    """
    An administrator's client, and one for the agent of each node.

    `refused`: how often an agent was refused something, by HTTP code.
    """

    admin: KubeClient
    agents: dict[str, KubeClient]
    refused: Counter[int] = field(default_factory=Counter)


class Kubectl:
    """kubectl, as an administrator."""

    def __init__(self, plane: ControlPlane) -> None:
        self._command = [str(program("kubectl")), f"--kubeconfig={plane.kubeconfig}"]

    def __call__(self, *words: str, given: str = "") -> str:
        """Run one command and return what it prints."""
        done = subprocess.run(  # noqa: S603 - the lab's kubectl
            [*self._command, *words], input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, account: str, pod: str = "") -> str:
        """Return a token of a service account, bound to a pod where one is named."""
        bound = ["--bound-object-kind=Pod", f"--bound-object-name={pod}"] if pod else []
        return self("create", "token", account, f"--namespace={NAMESPACE}", *bound).strip()


@pytest.fixture(scope="module")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Return a real API server of the module's own: policies concern everybody on it."""
    with ControlPlane(Path(tmp_path_factory.mktemp("control-plane"))) as plane:
        yield plane


@pytest.fixture(scope="module")
def tokens(control_plane: ControlPlane) -> dict[tuple[str, str], str]:
    """Install two releases' rights, and return tokens by account and node."""
    kubectl = Kubectl(control_plane)
    things = [
        thing
        for values in (RELEASE, WITH_MULTUS)
        for thing in render(values, "--kube-version=1.34.0").things
        if thing["kind"] in KINDS and "annotations" not in thing["metadata"]
    ]
    for node in NODES:
        things.append({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
        things += [_agent_pod(account, node) for account in (AGENT, MULTUS)]
    kubectl("apply", "--filename=-", given=yaml.safe_dump_all(things))
    found = {
        (account, node): kubectl.token(account, f"{account}-{node}")
        for account in (AGENT, MULTUS)
        for node in NODES
    }
    return found | {(AGENT, ""): kubectl.token(AGENT)}


def _agent_pod(account: str, node: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{account}-{node}", "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": account,
            "nodeName": node,
            "containers": [{"name": "agent", "image": "none"}],
        },
    }


@pytest.fixture
async def nodes(
    control_plane: ControlPlane, tokens: dict[tuple[str, str], str]
) -> AsyncIterator[Nodes]:
    """Return clients of the agents; the policies are in force."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(
            connect(str(control_plane.kubeconfig), user_agent="admin")
        )
        refused: Counter[int] = Counter()

        def observe(_verb: str, _resource: str, code: int, _seconds: float) -> None:
            if code in (403, 422):
                refused[code] += 1

        agents = {}
        # the administrator's own context would show his certificate
        tls = ssl.create_default_context(cafile=control_plane.authority)
        for (account, node), token in tokens.items():
            name = node if account == AGENT else f"{MULTUS}/{node}"
            access = Access(control_plane.server, lambda: tls, BearerToken(token))
            agents[name] = await stack.enter_async_context(
                KubeClient(access, user_agent=name, observe=observe)
            )
        await _in_force(agents)
        refused.clear()
        yield Nodes(admin, agents, refused)


async def _in_force(agents: dict[str, KubeClient]) -> None:
    """
    Wait until the API server enforces every policy.

    It learns of each policy and of each binding by a watch of its own, in any order.
    """
    record = held("10.255.255.1", make_holder("probe", "node1"))
    endpoint = SpiderEndpoint(metadata=ObjectMeta(name="probe", namespace=NAMESPACE))
    of_node2 = f"{AGENT}-node2"

    async def write(account: str, obj: SpiderIP | SpiderEndpoint) -> None:
        made = await agents[account].create(obj)
        await agents[account].delete(type(made), made.metadata.name, made.metadata.namespace)

    async def patch_status() -> None:
        body = {"metadata": {"annotations": {ANNO_NETWORK_STATUS: "[]"}}}
        await agents["node1"].patch(Pod, of_node2, body, namespace=NAMESPACE, subresource="status")

    async def replace_status() -> None:
        multus = agents[f"{MULTUS}/node1"]
        pod = await multus.get(Pod, of_node2, NAMESPACE)
        await multus.replace(pod, subresource="status")

    probes: list[Callable[[], Awaitable[None]]] = [
        lambda: write("", record),
        lambda: write(f"{MULTUS}/node2", record),
        lambda: write("", endpoint),
        lambda: write(f"{MULTUS}/node2", endpoint),
        patch_status,
        replace_status,
    ]
    async with asyncio.timeout(60):
        while probes:
            try:
                await probes[0]()
            except Forbidden as error:
                if "ValidatingAdmissionPolicy" in error.message:
                    probes.pop(0)
                    continue
            await asyncio.sleep(0.1)


@pytest.fixture
async def namespace(nodes: Nodes) -> str:
    """Return a namespace of the test's own."""
    name = f"t{uuid.uuid4().hex[:10]}"
    await nodes.admin.create(Namespace(metadata=ObjectMeta(name=name)))
    return name
