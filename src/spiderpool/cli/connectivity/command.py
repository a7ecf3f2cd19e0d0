"""The command: what to try where, and what to print."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import typer

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition, Node
from spiderpool.cli.agents import AgentPod, list_agents
from spiderpool.cli.connectivity.manifests import Probe, Recipe, plan_probes
from spiderpool.cli.connectivity.runner import Trial
from spiderpool.cli.connectivity.workloads import Scene, families_of, read_networks
from spiderpool.cli.session import Output, OutputOption, print_json, run
from spiderpool.connectivity.matrix import (
    FAMILIES,
    Kind,
    Result,
    exit_code,
    plan_cases,
    plan_placements,
)
from spiderpool.connectivity.table import Names, render_report, to_json
from spiderpool.errors import InvalidRequest, NotFound
from spiderpool.kube.client import KubeClient

COULD_NOT_RUN: Final = 2
NO_NETWORK: Final = "none"
NODES: Final = 2  # as many as show both cases: the same node, and another one
# what the names of default networks stand for
PRODUCTS: Final = {
    "k8s-pod-network": "Calico",
    "cilium": "Cilium",
    "kube-router": "kube-router",
}


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for."""

    nodes: tuple[str, ...]
    families: tuple[int, ...]
    namespace: str
    image: str
    network: str
    pools: tuple[str, ...]
    timeout_s: float
    keep: bool
    output: Output


def connectivity(
    nodes: Annotated[
        str,
        typer.Option(
            help="Nodes by comma: the first one asks, each of them answers. "
            "Default: two that are ready."
        ),
    ] = "",
    ipv4: Annotated[
        bool, typer.Option("--ipv4", help="Only IPv4 (default: every family that the pods have).")
    ] = False,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="Only IPv6.")] = False,
    namespace: Annotated[
        str, typer.Option(help="Namespace to make, and to delete again.")
    ] = "spiderpool-connectivity",
    image: Annotated[
        str, typer.Option(help="Image with Python 3 for the pods. Default: the agents' own.")
    ] = "",
    network: Annotated[
        str,
        typer.Option(
            help="NAMESPACE/NAME of the underlay's network, with IPAM of Spiderpool and "
            "coordinator. Default: the only one there is; 'none' tries overlay pods alone."
        ),
    ] = "",
    pool: Annotated[
        list[str] | None,
        typer.Option(
            help="Pool for the underlay's addresses; repeatable. Default: what Spiderpool chooses."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.5, help="Seconds for one transfer.")] = 5.0,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the pods for a look of your own.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """
    Test the connections between overlay, underlay and multi-NIC pods and their Services.

    Exit code: 0 all cases pass, 1 some fail, 2 the test could not run.
    """
    options = Options(
        nodes=tuple(filter(None, nodes.split(","))),
        families=tuple(
            family for family, wanted in zip(FAMILIES, (ipv4, ipv6), strict=True) if wanted
        )
        or FAMILIES,
        namespace=namespace,
        image=image,
        network=network,
        pools=tuple(pool or ()),
        timeout_s=timeout,
        keep=keep,
        output=output,
    )
    try:
        run(lambda client: story(client, options), failure=COULD_NOT_RUN)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say("stopped before its end")
        raise typer.Exit(COULD_NOT_RUN) from None


async def story(client: KubeClient, options: Options) -> int:
    """Place the pods, try, print, take the pods away."""
    agents = {agent.spec.node_name: agent for agent in await list_agents(client)}
    if not agents:
        raise NotFound("no agent of Spiderpool runs; is it installed?")
    nodes = options.nodes or await choose_nodes(client, agents)
    placements = plan_placements(nodes)
    network = options.network or await choose_network(client)
    kinds = tuple(Kind) if network != NO_NETWORK else (Kind.OVERLAY,)
    recipe = await read_recipe(client, options, network, next(iter(agents.values())))
    scene = Scene(client, recipe, plan_probes(nodes, kinds), say)
    async with built(scene, keep=options.keep):
        addresses = await scene.addresses()
        cases = tuple(
            plan_cases(
                placements, _families(options, families_of(addresses.values())), kinds, addresses
            )
        )
        say(f"{len(cases)} transfers")
        results = await Trial(client, scene, agents, addresses, options.timeout_s).run(cases)
        names = await read_names(client, scene, network)
    show(results, names, options.output)
    return exit_code(results)


def _families(options: Options, there: Sequence[int]) -> tuple[int, ...]:
    """Return the families that are asked for and there."""
    return tuple(family for family in options.families if family in there)


@contextlib.asynccontextmanager
async def built(scene: Scene, *, keep: bool) -> AsyncIterator[None]:
    """
    Build a scene, and remove it whatever happens, Ctrl-C included.

    A second Ctrl-C ends at once.
    """
    with interruptible():
        try:
            await scene.build()
            yield
        finally:
            if keep:
                say(
                    "the pods stay; delete them with: kubectl delete namespace "
                    f"{scene.recipe.namespace}"
                )
            else:
                say(f"deleting namespace {scene.recipe.namespace}")
                await scene.remove()


@contextlib.contextmanager
def interruptible() -> Any:
    """Let SIGTERM cancel the story, as SIGINT does by itself."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    if task is None:
        yield
        return
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def choose_nodes(client: KubeClient, agents: dict[str, AgentPod]) -> tuple[str, ...]:
    """Take nodes that are ready and have an agent."""
    listing = await client.list_objects(Node)
    ready = sorted(
        node.metadata.name for node in listing.items if node.ready and node.metadata.name in agents
    )
    if not ready:
        raise NotFound("no node is ready and has an agent of Spiderpool")
    return tuple(ready[:NODES])


async def choose_network(client: KubeClient) -> str:
    """
    Take the only network of the underlay.

    Raises `InvalidRequest` where there are several or none.
    """
    listing = await client.list_objects(NetworkAttachmentDefinition)
    names = sorted("/".join(item.key) for item in listing.items if is_underlay(item.spec.config))
    if len(names) != 1:
        found = f"several: {', '.join(names)}" if names else "none"
        raise InvalidRequest(
            f"networks with IPAM of Spiderpool and coordinator: {found}; choose by --network "
            "('none': overlay only)"
        )
    return names[0]


def is_underlay(config: str) -> bool:
    """Return whether a network's configuration has our IPAM and the coordinator."""
    plugins = read_plugins(config)
    return any(
        (plugin.get("ipam") or {}).get("type") == "spiderpool" for plugin in plugins
    ) and any(plugin.get("type") == "coordinator" for plugin in plugins)


def read_plugins(config: str) -> list[dict[str, Any]]:
    """Return the plugins of a CNI configuration or list; none of a text that is no such thing."""
    try:
        value = json.loads(config)
    except ValueError:
        return []
    if not isinstance(value, dict):
        return []
    plugins = value.get("plugins", [value])
    return (
        [plugin for plugin in plugins if isinstance(plugin, dict)]
        if isinstance(plugins, list)
        else []
    )


async def read_recipe(
    client: KubeClient, options: Options, network: str, agent: AgentPod
) -> Recipe:
    """Collect what all pods have in common."""
    pools: dict[int, tuple[str, ...]] = {}
    for name in options.pools:
        found = await client.get(SpiderIPPool, name)
        family = found.spec.ip_version or (6 if ":" in found.spec.subnet else 4)
        pools[family] = (*pools.get(family, ()), name)
    own = agent.spec.containers[0]
    return Recipe(
        namespace=options.namespace,
        image=options.image or own.image,
        pull_policy="IfNotPresent" if options.image else own.image_pull_policy,
        network=network,
        pools=pools or None,
    )


async def read_names(client: KubeClient, scene: Scene, network: str) -> Names:
    """
    Find what the cluster's CNIs are called.

    The overlay by its network's name, the underlay by its plugin.
    """
    pods = await scene.pods()
    overlay: Probe = next(probe for probe in scene.probes if probe.kind is Kind.OVERLAY)
    networks = read_networks(pods[overlay.name])
    name = networks[0].name.rpartition("/")[2] if networks else ""
    words = Names(overlay=PRODUCTS.get(name, name.capitalize() or "Overlay"))
    if network == NO_NETWORK:
        return words
    space, _, short = network.rpartition("/")
    plugins = read_plugins(
        (await client.get(NetworkAttachmentDefinition, short, space)).spec.config
    )
    mine = [plugin.get("type", "") for plugin in plugins if plugin.get("ipam")]
    return Names(words.overlay, mine[0].capitalize() if mine else words.underlay)


def show(results: Sequence[Result], names: Names, output: Output) -> None:
    """Print the outcome."""
    if output is Output.JSON:
        print_json(to_json(results))
    else:
        sys.stdout.write(render_report(results, names) + "\n")


def say(text: str) -> None:
    """Report progress, out of the way of the result."""
    sys.stderr.write(f"connectivity: {text}\n")
