"""
The command `spiderpool-controller`.

`daemon` runs it, `clean` takes the product out of a cluster.
"""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Final

import structlog
import typer
import uvloop

from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.subnet import SpiderSubnet
from spiderpool.configuration.config import Config
from spiderpool.controller.cleanup import Remains, clean
from spiderpool.controller.health import Probe, Probes, all_of, health_app, webhook_probe
from spiderpool.controller.leader import COMPONENT, Leader
from spiderpool.controller.metrics import Metrics, metrics_app
from spiderpool.controller.pools.legacy_agents import list_go_agents
from spiderpool.controller.runtime.listener import (
    Certificate,
    Listener,
    ask_clients,
    follow_certificate,
    server_context,
)
from spiderpool.controller.runtime.subnet_lookup import SubnetLookup
from spiderpool.controller.settings import CertificateSettings, Settings, read_settings
from spiderpool.controller.webhooks.annotation_advice import advise
from spiderpool.controller.webhooks.authority import Terms
from spiderpool.controller.webhooks.certificates import LOOK_S, Certificates
from spiderpool.controller.webhooks.conflicting_pools import OtherPools
from spiderpool.controller.webhooks.network_review import CoordinatorReviewer, MultusConfigReviewer
from spiderpool.controller.webhooks.pod_injector import PodInjector
from spiderpool.controller.webhooks.pool_review import PoolReviewer, ReservedReviewer, Reviewer
from spiderpool.controller.webhooks.server import admission_app
from spiderpool.controller.webhooks.subnet_review import SubnetReviewer
from spiderpool.errors import InvalidRequest, SpiderpoolError
from spiderpool.kube.client import KubeClient
from spiderpool.kube.cluster import Cluster
from spiderpool.kube.connect import connect
from spiderpool.kube.election import Election, Times
from spiderpool.kube.informer import SHORT_CHECK_S, Informer
from spiderpool.startup import configure_log, read_config, wait_for_api

LEASE: Final = "spiderpool-controller-leases"
# of the webhooks: the API server keeps connections, and a webhook that cannot be asked refuses
FAREWELL_S: Final = 2.0

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
log = structlog.get_logger("spiderpool.controller")


@app.command("daemon")
def daemon(
    config_path: Annotated[Path, typer.Option(help="conf.yml, as the ConfigMap has it")],
    tls_server_cert: Annotated[
        Path | None, typer.Option(help="certificate of the webhook server")
    ] = None,
    tls_server_key: Annotated[Path | None, typer.Option(help="its key")] = None,
) -> None:
    """Run the controller; without a certificate it runs without webhooks."""
    _run(_daemon(config_path, tls_server_cert, tls_server_key))


@app.command("clean")
def clean_up(
    validate: Annotated[str, typer.Option(help="name of the ValidatingWebhookConfiguration")] = "",
    mutating: Annotated[str, typer.Option(help="name of the MutatingWebhookConfiguration")] = "",
    even_if_held: Annotated[
        bool, typer.Option("--even-if-held", help="delete objects though workloads hold addresses")
    ] = False,
) -> None:
    """Delete webhooks and init job and, if no address is held, all objects and definitions."""
    remains = Remains(
        validating=validate,
        mutating=mutating,
        namespace=os.environ.get("SPIDERPOOL_POD_NAMESPACE") or "default",
        init_job=os.environ.get("SPIDERPOOL_INIT_JOB_NAME") or "spiderpool-init",
        even_if_held=even_if_held,
        secret=os.environ.get("SPIDERPOOL_TLS_SECRET_NAME") or "",
    )
    _run(_clean(remains))


def main() -> None:
    """Run the command line."""
    app()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """
    Run to the end.

    What the user must put right is one line on standard error and exit code 1.
    """
    try:
        uvloop.run(work)
    except SpiderpoolError as error:
        sys.stderr.write(f"{COMPONENT}: {error.message}\n")
        raise typer.Exit(1) from None


async def _clean(remains: Remains) -> None:
    """Connect and clean."""
    async with connect(user_agent=COMPONENT) as cluster:
        await clean(cluster, remains, typer.echo)


async def _daemon(config_path: Path, cert: Path | None, key: Path | None) -> None:
    """Read what the user wrote, then serve until a signal ends us."""
    settings = read_settings(os.environ)
    configure_log(settings.log_level)
    config = read_config(config_path)
    certificate = read_certificate(cert, key)
    if certificate is not None and settings.certificates is not None:
        raise InvalidRequest(
            "SPIDERPOOL_TLS_SECRET_NAME has the controller make its certificate, "
            "and --tls-server-cert names another one: give one of the two"
        )
    work = asyncio.create_task(Daemon(settings, config, certificate).serve())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    try:
        await work
    except asyncio.CancelledError:
        log.info("ended by a signal")
    except ExceptionGroup as group:
        raise _first(group) from group


def read_certificate(cert: Path | None, key: Path | None) -> Certificate | None:
    """Take both files of the certificate or none."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise InvalidRequest(
            "--tls-server-cert and --tls-server-key belong together: give both, or none"
        )
    return Certificate(cert, key)


def make_certificates(
    cluster: Cluster, settings: CertificateSettings, namespace: str
) -> Certificates:
    """Join what keeps the webhooks' certificates that the controller makes."""
    life = timedelta(seconds=settings.server_life_s)
    overlap = min(timedelta(seconds=3 * LOOK_S), life / 10)
    return Certificates(
        cluster,
        Terms(
            names=settings.names,
            ips=settings.ips,
            authority_life=timedelta(seconds=settings.authority_life_s),
            server_life=life,
            overlap=overlap,
        ),
        namespace=namespace,
        secret=settings.secret,
        webhooks=settings.webhooks,
        look_s=overlap.total_seconds() / 3,
    )


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """Take the first error out of a group of tasks that failed."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, ExceptionGroup) else inner


@dataclass(slots=True)
class Daemon:
    """
    One replica.

    Health and metrics always, webhooks when it has a certificate, the leader's work when it leads.
    """

    settings: Settings
    config: Config
    certificate: Certificate | None
    started: bool = False

    async def serve(self) -> None:
        """Serve until cancelled."""
        settings = self.settings
        async with AsyncExitStack() as stack:
            cluster = await stack.enter_async_context(
                connect(settings.kubeconfig, user_agent=COMPONENT)
            )
            # Our kinds may be installed at the same time.
            await wait_for_api(
                lambda: cluster.list_metadata(SpiderIPPool, resource_version="0"),
                program="controller",
                kubeconfig=settings.kubeconfig,
            )
            pools = Informer(cluster, SpiderIPPool, check_s=SHORT_CHECK_S)
            await pools.start()
            stack.push_async_callback(pools.stop)
            subnets = await self._follow_subnets(stack, cluster)
            election = self._election(cluster)
            metrics = Metrics(
                version("spiderpool"), pools, subnets or (), debug=settings.debug_metrics
            )
            leader = Leader(
                cluster, pools, settings, self.config, metrics, lambda: election.leading, subnets
            )
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            webhooks = await self._open_webhooks(stack, tasks, cluster, pools, subnets)
            probes = self._probes(webhooks, election, leader)
            await stack.enter_async_context(Listener(health_app(probes), settings.health_port))
            if settings.metrics:
                await stack.enter_async_context(
                    Listener(metrics_app(metrics), settings.metric_port)
                )
            await pools.synced()
            self.started = True
            log.info("started", identity=settings.pod_name, pools=len(pools))
            await election.run(leader.work)

    def _election(self, cluster: KubeClient) -> Election:
        """Keep the arguments; `run` takes part in the election."""
        chosen = self.settings.election
        times = Times(chosen.duration_s, chosen.renew_s, chosen.retry_s, chosen.gap_s)
        return Election(
            cluster, LEASE, self.settings.namespace, self.settings.pod_name, times=times
        )

    async def _follow_subnets(
        self, stack: AsyncExitStack, cluster: KubeClient
    ) -> Informer[SpiderSubnet] | None:
        """Begin to follow the subnets, unless that feature is off."""
        if not self.config.enable_spider_subnet:
            return None
        subnets = Informer(cluster, SpiderSubnet, check_s=SHORT_CHECK_S)
        await subnets.start()
        stack.push_async_callback(subnets.stop)
        return subnets

    async def _open_webhooks(
        self,
        stack: AsyncExitStack,
        tasks: asyncio.TaskGroup,
        cluster: KubeClient,
        pools: Informer[SpiderIPPool],
        subnets: Informer[SpiderSubnet] | None,
    ) -> Probe | None:
        """Open the webhook port and give the probe that watches it."""
        shown = await self._certificate(cluster)
        if shown is None:
            log.warning(
                "no certificate given, so this replica runs without webhooks: nothing checks pools "
                "before they are stored"
            )
            return None
        features, namespace = self.config.features, self.settings.namespace
        other_pools = OtherPools(cluster, pools)
        lookup = None if subnets is None else SubnetLookup(cluster, subnets)
        reviewers: list[Reviewer[Any]] = [
            PoolReviewer(
                cluster, other_pools, features, lambda: list_go_agents(cluster, namespace), lookup
            ),
            ReservedReviewer(features),
            SubnetReviewer(cluster, other_pools, features),
            CoordinatorReviewer(),
            MultusConfigReviewer(cluster, self.config.multus.allowed_plugins),
        ]
        tls, following = shown
        known = self.settings.client_ca
        if known is not None:
            ask_clients(tls, known)
        pods = PodInjector(cluster, namespace) if self.config.pod_resource_inject.enabled else None
        listener = Listener(
            admission_app(reviewers, pods, advise, clients_shown=known is not None),
            self.settings.webhook_port,
            tls,
            FAREWELL_S,
        )
        await stack.enter_async_context(listener)
        follower = tasks.create_task(following)
        stack.callback(follower.cancel)
        return webhook_probe(lambda: listener.port)

    async def _certificate(
        self, cluster: KubeClient
    ) -> tuple[ssl.SSLContext, Coroutine[Any, Any, None]] | None:
        """Return what shows a certificate, and what keeps that fresh; None when there is none."""
        if self.certificate is not None:
            tls = server_context(self.certificate)
            return tls, follow_certificate(self.certificate, tls)
        if self.settings.certificates is None:
            return None
        own = make_certificates(cluster, self.settings.certificates, self.settings.namespace)
        tls = await own.context()
        return tls, own.follow(tls)

    def _probes(self, webhooks: Probe | None, election: Election, leader: Leader) -> Probes:
        """
        Say what kubelet's probes ask.

        Source: docs/reference/agent-api.md#the-controllers-ports.
        """

        async def started() -> str | None:
            return None if self.started else "not started yet"

        async def led() -> str | None:
            return None if election.holder else "no leader is known yet"

        async def following() -> str | None:
            late = election.leading and not leader.following
            return (
                "this replica leads and does not know all pods and addresses yet" if late else None
            )

        own = [webhooks] if webhooks is not None else []
        return Probes(
            startup=started, readiness=all_of(started, *own, led, following), liveness=all_of(*own)
        )
