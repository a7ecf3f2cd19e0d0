"""The webhooks' certificates at work, over a cluster in memory."""

from __future__ import annotations

import asyncio
import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    Secret,
    ValidatingWebhookConfiguration,
    Webhook,
    WebhookClientConfig,
    WebhookConfiguration,
)
from spiderpool.controller.webhooks.authority import Terms
from spiderpool.controller.webhooks.certificates import Certificates
from spiderpool.errors import Forbidden, Unreachable
from tests.fakes.cluster import FakeCluster

HOST = "spiderpool-controller.kube-system.svc"
MINUTE = timedelta(minutes=1)
# OpenSSL's X509_V_FLAG_NO_CHECK_TIME: lives are looked at in test_authority, by a clock of our own
NO_CHECK_TIME = 0x200000
TERMS = Terms((HOST,), (), authority_life=60 * MINUTE, server_life=20 * MINUTE)
KINDS = (MutatingWebhookConfiguration, ValidatingWebhookConfiguration)


class Clock:
    """A time of our own: certificates are believed by the machine's."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell it."""
        return self.now


@pytest.fixture
def cluster() -> FakeCluster:
    """Return a cluster with the webhooks as the chart makes them."""
    cluster = FakeCluster()
    for kind in KINDS:
        hooks = (hook("a.spiderpool.spidernet.io"), hook("b.spiderpool.spidernet.io"))
        cluster.seed(kind(metadata=ObjectMeta(name="spiderpool-controller"), webhooks=hooks))
    return cluster


def hook(name: str) -> Webhook:
    """Make a webhook as the chart does, without a CA."""
    client = WebhookClientConfig(service={"name": "spiderpool-controller"})
    return Webhook(name=name, client_config=client)


def replica(cluster: FakeCluster, clock: Clock) -> Certificates:
    """Make a replica's certificates."""
    return Certificates(
        cluster,
        TERMS,
        namespace="kube-system",
        secret="certs",  # noqa: S106 - the name of a Secret
        webhooks="spiderpool-controller",
        now=clock,
    )


def trusts(cluster: FakeCluster) -> set[str]:
    """Return what the webhooks say is to be trusted, as PEM."""
    configurations: list[WebhookConfiguration] = []
    for kind in KINDS:
        configurations += cluster.all(kind)
    return {
        base64.b64decode(each.client_config.ca_bundle).decode()
        for configuration in configurations
        for each in configuration.webhooks
    }


def meets(cluster: FakeCluster, server_side: ssl.SSLContext) -> bool:
    """Return whether the API server, which trusts what its webhooks say, accepts what a replica shows."""
    (trusted,) = trusts(cluster)
    client_side = ssl.create_default_context(cadata=trusted)
    client_side.verify_flags |= NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=HOST)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    for step in (client, server, client, server):
        try:
            step.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return client.version() is not None


async def test_the_first_replica_makes_it(cluster: FakeCluster) -> None:
    """There is a Secret, all webhooks trust its authority, and what the replica shows is accepted; the second one takes it over."""
    clock = Clock()
    first = await replica(cluster, clock).context()
    (secret,) = cluster.all(Secret)
    second = await replica(cluster, clock).context()

    assert ("certs", "kube-system", "kubernetes.io/tls") == (
        secret.metadata.name,
        secret.metadata.namespace,
        secret.type,
    )
    assert (secret,) == cluster.all(Secret)
    assert meets(cluster, first)
    assert meets(cluster, second)


async def test_replicas_that_begin_at_once_agree(cluster: FakeCluster) -> None:
    """Three replicas start at the same time: one makes it, and all show it."""
    cluster.faults.latency_s = 0.01
    clock = Clock()
    shown = await asyncio.gather(*(replica(cluster, clock).context() for _ in range(3)))

    assert 1 == len(cluster.all(Secret))
    assert [True] * 3 == [meets(cluster, each) for each in shown]


async def test_nothing_is_refused_while_all_is_renewed(cluster: FakeCluster) -> None:
    """Over three lives of an authority two replicas, which look at different times, are accepted at every step."""
    clock = Clock()
    replicas = [replica(cluster, clock) for _ in range(2)]
    shown = [await each.context() for each in replicas]
    trusted, served = trusts(cluster), set[str]()
    for _ in range(180):
        for certificates, context in zip(replicas, shown, strict=True):
            clock.now += MINUTE / 2
            await certificates.refresh(context)
            assert [True, True] == [meets(cluster, each) for each in shown]
            trusted |= trusts(cluster)
            served |= {secret.data["tls.crt"] for secret in cluster.all(Secret)}
    assert len(trusted) >= 6
    assert len(served) >= 12


async def test_a_hand_that_took_the_trust_away(cluster: FakeCluster) -> None:
    """Whoever applies the webhooks without a CA, as an installation does, finds it written again."""
    clock = Clock()
    certificates = replica(cluster, clock)
    context = await certificates.context()
    for kind in KINDS:
        (found,) = cluster.all(kind)
        hooks = tuple(hook(each.name) for each in found.webhooks)
        cluster.seed(kind(metadata=found.metadata, webhooks=hooks))
    await certificates.refresh(context)

    assert meets(cluster, context)


async def test_an_api_server_that_is_away_is_waited_for(cluster: FakeCluster) -> None:
    """The start waits; later looks are repeated and what is shown stays; a refusal is told."""
    cluster.faults.fail_next("get", Secret, Unreachable("down"), times=3)
    certificates = replica(cluster, Clock())
    context = await certificates.context()
    assert meets(cluster, context)

    cluster.faults.fail_next("get", Secret, Unreachable("down"), times=2)
    following = asyncio.create_task(certificates.follow(context))
    await asyncio.sleep(120)
    assert not following.done()
    following.cancel()
    cluster.faults.fail_next("get", Secret, Forbidden("no role"))
    with pytest.raises(Forbidden):
        await replica(cluster, Clock()).context()
