"""
The admission webhooks on port 5722: AdmissionReview in, AdmissionReview out.

What is allowed is decided by `ipam.validation`; here are the protocol, the facts that a decision needs, and the words.
A mutating webhook never refuses (reference ipam.md 5): what it cannot read is left to the validating one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import structlog
from aiohttp import web

from spiderpool.api.group import GROUP, VERSION
from spiderpool.api.meta import Kube, KubeObject
from spiderpool.errors import SpiderpoolError

CREATE: Final = "CREATE"
UPDATE: Final = "UPDATE"
DELETE: Final = "DELETE"

log = structlog.get_logger("spiderpool.controller")


class AdmissionRequest(Kube, frozen=True, kw_only=True):
    """What the API server asks, as far as we read it."""

    uid: str
    name: str = ""
    operation: str = ""
    dry_run: bool | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")
    old_object: msgspec.Raw = msgspec.Raw(b"null")


class AdmissionReview(Kube, frozen=True, kw_only=True):
    """The envelope of a question."""

    api_version: str
    kind: str
    request: AdmissionRequest


class Cause(Kube, frozen=True, kw_only=True):
    """One field error, for programs."""

    reason: str
    message: str
    field: str


class StatusDetails(Kube, frozen=True, kw_only=True):
    """Which object, and every field error."""

    name: str = ""
    group: str = ""
    kind: str = ""
    causes: tuple[Cause, ...] = ()


class Status(Kube, frozen=True, kw_only=True):
    """Why an object is refused: `metav1.Status`."""

    status: str = ""
    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


class AdmissionAnswer(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """The answer; without patch and status these keys are left out."""

    uid: str
    allowed: bool
    patch_type: str | msgspec.UnsetType = msgspec.UNSET
    patch: str | msgspec.UnsetType = msgspec.UNSET
    status: Status | msgspec.UnsetType = msgspec.UNSET
