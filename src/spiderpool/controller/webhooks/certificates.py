"""
The webhooks' certificates at work: kept in a Secret, told to the API server, shown to callers.

Every replica does the same; writes are conditional, so the first replica does it for all. The
trust is written into the webhooks before a certificate that needs it is shown.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.api.kubernetes.webhook_configurations import (
    MutatingWebhookConfiguration,
    Secret,
    ValidatingWebhookConfiguration,
    WebhookConfiguration,
)
from spiderpool.controller.webhooks.authority import SERVER, TRUSTED, Data, Terms, renewed
from spiderpool.errors import AlreadyExists, Conflict, SpiderpoolError, TryAgain, UnknownOutcome
from spiderpool.kube.backoff import Backoff
from spiderpool.kube.cluster import Cluster, PatchType, if_exists

LOOK_S: Final = 20.0  # a third of the time in which a new authority is trusted before it signs
TYPE: Final = "kubernetes.io/tls"

log = structlog.get_logger("spiderpool.controller")


class Certificates:
    """Keeps the certificates of this release's webhooks fresh."""

    def __init__(
        self,
        cluster: Cluster,
        terms: Terms,
        *,
        namespace: str,
        secret: str,
        webhooks: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        look_s: float = LOOK_S,
    ) -> None:
        """
        Keep the arguments; nothing runs yet.

        Args:
            cluster: the store.
            terms: what certificates are to be.
            namespace: of the Secret.
            secret: its name.
            webhooks: name of both webhook configurations.
            now: the time.
            look_s: how often the Secret is looked at.
        """
        self._cluster = cluster
        self._terms = terms
        self._namespace = namespace
        self._secret = secret
        self._webhooks = webhooks
        self._now = now
        self._look_s = look_s
        self._shown: tuple[bytes, ...] = ()

    async def context(self) -> ssl.SSLContext:
        """Make a TLS context for a server, once there is a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        backoff = Backoff()
        while True:
            try:
                await self.refresh(context)
            except TryAgain as error:
                await asyncio.sleep(backoff.next_s(error))
            else:
                return context

    async def follow(self, context: ssl.SSLContext) -> None:
        """Look again and again; ends by being cancelled."""
        while True:
            await asyncio.sleep(self._look_s)
            try:
                await self.refresh(context)
            except SpiderpoolError as error:
                log.warning("TLS certificates cannot be looked at now", reason=error.message)
            except Exception:  # webhooks must not end with it
                log.exception("TLS certificates cannot be looked at now")

    async def refresh(self, context: ssl.SSLContext) -> None:
        """Take the next step with the Secret, have the API server trust it, and show it."""
        data = await self._take_step()
        for kind in (MutatingWebhookConfiguration, ValidatingWebhookConfiguration):
            await self._publish(kind, base64.b64encode(data[TRUSTED]).decode())
        shown = tuple(data[key] for key in SERVER)
        if shown != self._shown:
            load(context, *shown)
            self._shown = shown
            log.info("TLS certificate in use", secret=self._secret)

    async def _take_step(self) -> Data:
        """Return what the Secret holds after the next step, by this or another replica."""
        secret = await if_exists(self._cluster.get(Secret, self._secret, self._namespace))
        data = {} if secret is None else _decoded(secret)
        wanted = renewed(data, self._terms, self._now())
        if wanted is None:
            return data
        try:
            await self._write(secret, wanted)
        except (AlreadyExists, Conflict, UnknownOutcome) as error:
            raise TryAgain(f"Secret {self._secret} changes: {error.message}") from error
        log.info("TLS certificates renewed", secret=self._secret)
        return wanted

    async def _write(self, secret: Secret | None, data: Data) -> None:
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        if secret is None:
            meta = ObjectMeta(name=self._secret, namespace=self._namespace)
            await self._cluster.create(Secret(metadata=meta, type=TYPE, data=encoded))
            return
        gone: dict[str, str | None] = dict.fromkeys(set(secret.data) - set(encoded))
        condition = {
            "uid": secret.metadata.uid,
            "resourceVersion": secret.metadata.resource_version,
        }
        await self._cluster.patch(
            Secret,
            self._secret,
            {"metadata": condition, "data": {**gone, **encoded}},
            namespace=self._namespace,
        )

    async def _publish(self, kind: type[WebhookConfiguration], trusted: str) -> None:
        """Have the API server trust the authorities; who installs leaves that to us."""
        found = await if_exists(self._cluster.get(kind, self._webhooks))
        patch: list[Mapping[str, Any]] = []
        for number, hook in enumerate(() if found is None else found.webhooks):
            if hook.client_config.ca_bundle != trusted:
                place = f"/webhooks/{number}"
                patch += [
                    {"op": "test", "path": f"{place}/name", "value": hook.name},
                    {"op": "add", "path": f"{place}/clientConfig/caBundle", "value": trusted},
                ]
        if patch:
            await self._cluster.patch(kind, self._webhooks, patch, patch_type=PatchType.JSON)


def load(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Show a certificate from now on; OpenSSL reads files only, so it gets one in memory."""
    fd = os.memfd_create("tls")
    try:
        os.write(fd, certificate + b"\n" + key)
        path = f"/proc/self/fd/{fd}"
        context.load_cert_chain(path, path)
    finally:
        os.close(fd)


def _decoded(secret: Secret) -> dict[str, bytes]:
    """Return the values; what is no base64 is as good as absent."""
    found = {}
    for key, value in secret.data.items():
        try:
            found[key] = base64.b64decode(value, validate=True)
        except ValueError:
            found[key] = b""
    return found
