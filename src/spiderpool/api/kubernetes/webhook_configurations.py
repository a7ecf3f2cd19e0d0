"""The API server's admission webhooks and Secrets, as far as this project reads them."""

from __future__ import annotations

from typing import Any, ClassVar

from spiderpool.api.kubernetes.meta import Kube, KubeObject, Resource


class WebhookClientConfig(Kube, frozen=True, kw_only=True):
    """How a webhook is reached: by a `service`; `ca_bundle` is base64 of PEM."""

    service: dict[str, Any] = {}
    ca_bundle: str = ""


class Webhook(Kube, frozen=True, kw_only=True):
    """One webhook."""

    name: str = ""
    client_config: WebhookClientConfig = WebhookClientConfig()


class WebhookConfiguration(KubeObject, frozen=True, kw_only=True):
    """Where the API server asks about objects."""

    webhooks: tuple[Webhook, ...] = ()


class MutatingWebhookConfiguration(WebhookConfiguration, frozen=True, kw_only=True):
    """Where the API server asks what to fill in."""

    resource: ClassVar[Resource] = Resource(
        "admissionregistration.k8s.io",
        "v1",
        "MutatingWebhookConfiguration",
        "mutatingwebhookconfigurations",
    )


class ValidatingWebhookConfiguration(WebhookConfiguration, frozen=True, kw_only=True):
    """Where the API server asks what to refuse."""

    resource: ClassVar[Resource] = Resource(
        "admissionregistration.k8s.io",
        "v1",
        "ValidatingWebhookConfiguration",
        "validatingwebhookconfigurations",
    )


class Secret(KubeObject, frozen=True, kw_only=True):
    """A Secret; values of `data` are base64."""

    resource: ClassVar[Resource] = Resource("", "v1", "Secret", "secrets", namespaced=True)

    type: str = ""
    data: dict[str, str] = {}
