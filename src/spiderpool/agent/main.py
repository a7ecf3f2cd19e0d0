"""
`spiderpool-agent`: reads environment and configuration and runs the agent.

Errors are one line and exit code 1.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
import uvloop

from spiderpool.agent.app import App, serving
from spiderpool.agent.build import build
from spiderpool.agent.metrics import Metrics
from spiderpool.agent.node.installation import (
    NodeInstaller,
    is_being_removed,
    node_policy,
    read_install_settings,
)
from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.agent.settings import Settings, read_settings
from spiderpool.api.kubernetes.core import Node
from spiderpool.configuration.config import Config
from spiderpool.datapath.kernel_settings import wanted_settings
from spiderpool.errors import NotFound, SpiderpoolError
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.connect import connect
from spiderpool.startup import configure_log, read_config, wait_for_api

# how long a thread may compute while the event loop waits; Python's own 5 ms add up with each
# thread
SWITCH_INTERVAL_S: Final = 0.001
CONNECTIONS: Final = 64  # more requests at a time only wait in the API server instead of here

log = structlog.get_logger(__name__)
cli = typer.Typer(add_completion=False, no_args_is_help=True, help="Spiderpool on one node.")


@cli.callback()
def about() -> None:
    """Spiderpool on one node: gives pods their addresses."""


@cli.command()
def daemon(
    config_path: Annotated[
        Path, typer.Option("--config-path", help="File conf.yml of the ConfigMap spiderpool-conf.")
    ],
) -> None:
    """Serve CNI calls on the unix socket until a signal comes."""
    try:
        settings = read_settings(os.environ)
        configure_log(settings.log_level)
        config = read_config(config_path)
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings, config))
    except SpiderpoolError as error:
        sys.stderr.write(f"spiderpool-agent: {' '.join(error.message.split())}\n")
        raise typer.Exit(1) from None


async def run(settings: Settings, config: Config) -> None:
    """Run the agent until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    installer = NodeInstaller(
        read_install_settings(os.environ), str(config.ipam_unix_socket_path), config.multus
    )
    metrics = Metrics(settings.version)
    async with connect(
        settings.kubeconfig,
        user_agent="spiderpool-agent",
        limit=CONNECTIONS,
        observe=metrics.api_call,
    ) as cluster:
        await require_access(cluster, settings)
        policy = node_policy(installer.settings, config.multus.allowed_plugins)
        app = build(settings, config, cluster, metrics, node=policy)
        app.node_settings.hold(
            wanted_settings(
                config.features.families,
                tune=config.tune_sysctl_config,
                be_liberal=config.tcp_be_liberal,
            )
        )
        installer.install_executables()
        await _serve(app, installer, stop)
        await _clean_node(cluster, settings, installer, app.node_settings)


async def _serve(app: App, installer: NodeInstaller, stop: asyncio.Event) -> None:
    """Serve until asked to stop."""
    async with serving(app):
        # What is there now stays: the collector need not look at it again. An ADD leaves little
        # garbage in cycles.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        app.supervisor.start("CNI configuration", installer.keep_configured)
        app.supervisor.start("kube-proxy", app.kube_proxy.run)
        await stop.wait()
        log.info("spiderpool-agent stops")


async def _clean_node(
    cluster: Cluster, settings: Settings, installer: NodeInstaller, node_settings: NodeSettings
) -> None:
    """Remove what was installed, and restore kernel settings, unless this is only a restart."""
    if not installer.settings.wanted:
        return
    try:
        removed = await is_being_removed(cluster, settings.namespace, settings.pod_name)
    except SpiderpoolError as error:
        log.warning(
            "it is not known whether this agent comes back, so the node is left as it is",
            reason=error.message,
        )
        return
    if removed:
        node_settings.undo()
        installer.remove_all()


async def require_access(cluster: Cluster, settings: Settings) -> None:
    """
    Make sure that the API server answers, and answers us.

    A node that is not registered yet is no obstacle.
    """

    async def read_node() -> None:
        try:
            await cluster.get(Node, settings.node)
        except NotFound:
            log.warning("the node is not registered yet", node=settings.node)

    await wait_for_api(read_node, program="agent", kubeconfig=settings.kubeconfig)


def main() -> None:
    """Run the command line."""
    cli()


if __name__ == "__main__":
    main()
