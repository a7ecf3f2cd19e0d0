"""Certificates that the controller makes, believed by a real API server while they are renewed."""

from __future__ import annotations

import asyncio
import base64
import time
from contextlib import suppress

from spiderpool.api.crd.ippool import IPPoolSpec, SpiderIPPool
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    Secret,
    ValidatingWebhookConfiguration,
)
from spiderpool.errors import NotFound
from spiderpool.kube.client import KubeClient
from tests.contract.controller.conftest import WEBHOOKS, Start, make_webhooks
from tests.contract.controller.replica import NAMESPACE

SECRET = "made-by-the-controller"  # noqa: S105 - a name
AUTHORITY_S, SERVER_S, WATCH_S = 36, 12, 50


async def test_nothing_is_refused_while_certificates_are_renewed(
    cluster: KubeClient, start: Start
) -> None:
    """
    Pools are written every half second over more than one life of the authority.

    The webhooks fail closed, and began without a CA: nothing is refused, and both the authority and
    the server's certificate were renewed.
    """
    replica = start(
        certificate=None,
        SPIDERPOOL_TLS_SECRET_NAME=SECRET,
        SPIDERPOOL_WEBHOOK_CONFIGURATION_NAME=WEBHOOKS,
        SPIDERPOOL_TLS_IP_ADDRESSES="127.0.0.1",
        SPIDERPOOL_TLS_CA_LIFETIME=str(AUTHORITY_S),
        SPIDERPOOL_TLS_CERT_LIFETIME=str(SERVER_S),
    )
    replica.wait_ready()
    await make_webhooks(cluster, replica)
    await asyncio.sleep(2)
    trusted, served = set[str](), set[str]()
    try:
        end, number = time.monotonic() + WATCH_S, 0
        while time.monotonic() < end:
            number += 1
            spec = IPPoolSpec(subnet=f"10.{number % 250}.0.0/24", ips=(f"10.{number % 250}.0.9",))
            await cluster.create(SpiderIPPool(metadata=ObjectMeta(name="renewed"), spec=spec))
            with suppress(NotFound):
                await cluster.delete(SpiderIPPool, "renewed")
            while await _exists(cluster):
                await asyncio.sleep(0.05)
            secret = await cluster.get(Secret, SECRET, NAMESPACE)
            trusted.add(base64.b64decode(secret.data["ca.crt"]).decode())
            served.add(secret.data["tls.crt"])
            await asyncio.sleep(0.4)
    finally:
        for kind in (MutatingWebhookConfiguration, ValidatingWebhookConfiguration):
            await cluster.delete(kind, WEBHOOKS)
    assert len(trusted) >= 2
    assert len(served) >= 4
    assert number > WATCH_S / 2
    assert 0 == replica.terminate()


async def _exists(cluster: KubeClient) -> bool:
    try:
        await cluster.get(SpiderIPPool, "renewed")
    except NotFound:
        return False
    return True
