"""The agents' pods: where they can be asked, and how they are configured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Final, TypeVar

import msgspec

from spiderpool.api.kubernetes.core import ConfigMap, Pod
from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource
from spiderpool.configuration.config import Config, parse_config
from spiderpool.errors import NotFound, Undecodable
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster

A = TypeVar("A", bound=msgspec.Struct)

LABEL: Final = "spiderpool.spidernet.io/one-object-per-address"  # our chart sets it on our agents
PORT_NAME: Final = "health"
PORT: Final = 5710  # where the pod does not name it (docs/reference/agent-api.md#health-port)
DEFAULT_NETWORK: Final = "MULTUS_CLUSTER_NETWORK"
CONFIG_VOLUME: Final = "config-path"
CONFIG_KEY: Final = "conf.yml"


class ContainerPort(Kube, frozen=True, kw_only=True):
    """A port that a container names."""

    name: str = ""
    container_port: int = 0


class EnvVar(Kube, frozen=True, kw_only=True):
    """A variable with its value."""

    name: str
    value: str = ""


class Container(Kube, frozen=True, kw_only=True):
    """A container, as far as it tells of the agent."""

    name: str = ""
    image: str = ""
    image_pull_policy: str = ""
    ports: tuple[ContainerPort, ...] = ()
    env: tuple[EnvVar, ...] = ()


class ConfigMapSource(Kube, frozen=True, kw_only=True):
    """Which ConfigMap a volume shows."""

    name: str = ""


class Volume(Kube, frozen=True, kw_only=True):
    """A volume."""

    name: str
    config_map: ConfigMapSource | None = None


class AgentSpec(Kube, frozen=True, kw_only=True):
    """An agent's pod."""

    node_name: str = ""
    containers: tuple[Container, ...] = ()
    volumes: tuple[Volume, ...] = ()


class AgentStatus(Kube, frozen=True, kw_only=True):
    """How far it is."""

    phase: str = ""


class AgentPod(KubeObject, frozen=True, kw_only=True):
    """The pod of an agent, with the fields of `Pod` that nobody else reads."""

    resource: ClassVar[Resource] = Pod.resource

    spec: AgentSpec = AgentSpec()
    status: AgentStatus = AgentStatus()

    @property
    def port(self) -> int:
        """Where it answers HTTP."""
        ports = (
            port
            for container in self.spec.containers
            for port in container.ports
            if port.name == PORT_NAME
        )
        return next((port.container_port for port in ports), PORT)

    def variable(self, name: str) -> str:
        """Return a variable of its environment, empty when it has none of that name."""
        variables = (
            each
            for container in self.spec.containers
            for each in container.env
            if each.name == name
        )
        return next((each.value for each in variables), "")


class Installation(msgspec.Struct, frozen=True):
    """
    How the product is installed.

    Its namespace, its configuration, the cluster's default network (None without one).
    """

    namespace: str
    config: Config
    default_network: str | None


async def list_agents(cluster: Cluster) -> tuple[AgentPod, ...]:
    """Return the agents that run, by node."""
    listing = await cluster.list_objects(AgentPod, labels=f"{LABEL}=true")
    running = [
        agent
        for agent in listing.items
        if agent.status.phase == "Running" and not agent.metadata.deletion_timestamp
    ]
    return tuple(sorted(running, key=lambda agent: agent.spec.node_name))


def asking(client: KubeClient, path: str, answer: type[A]) -> Callable[[AgentPod], Awaitable[A]]:
    """
    Return how to ask agents through the API server, which checks the right `get` of `pods/proxy`.

    Args:
        client: the way to the API server.
        path: what agents are asked for on their health port.
        answer: what they answer with; anything else raises `Undecodable`.
    """

    async def ask(agent: AgentPod) -> A:
        data = await client.read_from_pod(
            agent.metadata.name, agent.metadata.namespace, agent.port, path
        )
        try:
            return msgspec.json.decode(data, type=answer)
        except msgspec.DecodeError as error:
            raise Undecodable(
                f"agent {agent.metadata.name} answers {path} with something else: {error}"
            ) from error

    return ask


async def read_installation(cluster: Cluster) -> Installation:
    """Read how the agents are configured; raises `NotFound` when there are none."""
    agents = await list_agents(cluster)
    if not agents:
        raise NotFound(
            f"no agent runs (no pod has the label {LABEL}=true), so their configuration is not "
            "known"
        )
    agent = agents[0]
    names = (
        v.config_map.name
        for v in agent.spec.volumes
        if v.name == CONFIG_VOLUME and v.config_map is not None
    )
    found = await cluster.get(ConfigMap, next(names, "spiderpool-conf"), agent.metadata.namespace)
    config = parse_config(found.data.get(CONFIG_KEY, ""))
    return Installation(agent.metadata.namespace, config, agent.variable(DEFAULT_NETWORK) or None)
