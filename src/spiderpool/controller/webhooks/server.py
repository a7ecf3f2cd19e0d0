"""
The admission webhooks on port 5722: AdmissionReview in, AdmissionReview out.

What is allowed is decided by `admission.pools`; here are the protocol, the facts that a decision
needs, and the words. A mutating webhook never refuses: what it cannot read is left to
the validating one.

Source: docs/reference/admission.md.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from spiderpool.admission.field_errors import render_errors
from spiderpool.api.crd.group import GROUP, VERSION
from spiderpool.api.kubernetes.meta import Kube, KubeObject
from spiderpool.controller.runtime.jsonpatch import diff
from spiderpool.controller.webhooks.pool_review import Change, Opinion, Reviewer
from spiderpool.errors import SpiderpoolError

T = TypeVar("T", bound=KubeObject)

NULL: Final = msgspec.Raw(b"null")
HEALTH_PATH: Final = "/webhook-health-check"
POD_PATH: Final = "/mutate--v1-pod"
ADVICE_PATH: Final = "/warn-annotations"
# an object is at most 1.5 MiB in etcd, and a review carries two of them
LARGEST_REVIEW: Final = 4 * 2**20
# Reviews at a time; others wait unread. So many of the largest are a quarter of the memory that the
# chart gives.
AT_A_TIME: Final = 64
# the API server sends a review whole, and waits at most 30 s for its answer
READ_S: Final = 10.0

log = structlog.get_logger("spiderpool.controller")


class AdmissionRequest(Kube, frozen=True, kw_only=True):
    """What the API server asks, as far as we read it."""

    uid: str
    name: str = ""
    namespace: str = ""
    operation: str = ""
    dry_run: bool | None = None
    object: msgspec.Raw = NULL
    old_object: msgspec.Raw = NULL


class AdmissionReview(Kube, frozen=True, kw_only=True):
    """The envelope of a change."""

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
    """The answer; patch and status are left out where there is none."""

    uid: str
    allowed: bool
    patch_type: str | msgspec.UnsetType = msgspec.UNSET
    patch: str | msgspec.UnsetType = msgspec.UNSET
    status: Status | msgspec.UnsetType = msgspec.UNSET
    warnings: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class AdmissionReply(Kube, omit_defaults=False, frozen=True, kw_only=True):
    """The envelope of an answer."""

    api_version: str
    kind: str
    response: AdmissionAnswer


Answer = Callable[[AdmissionRequest], Awaitable[AdmissionAnswer]]


def admission_app(
    reviewers: Iterable[Reviewer[Any]],
    pods: Answer | None = None,
    advice: Answer | None = None,
    *,
    clients_shown: bool = False,
) -> web.Application:
    """
    Build the application of the webhook port.

    Args:
        reviewers: of our own kinds.
        pods: answers for new pods.
        advice: answers for whatever has the annotations of pods.
        clients_shown: whether to answer only those who show a certificate that is trusted.
    """
    middlewares: list[Middleware] = [_bounded(asyncio.Semaphore(AT_A_TIME))]
    if clients_shown:
        middlewares.insert(0, _known_clients)
    app = web.Application(client_max_size=LARGEST_REVIEW, middlewares=middlewares)
    app.router.add_get(HEALTH_PATH, _healthy)
    for reviewer in reviewers:
        name = f"{GROUP.replace('.', '-')}-{VERSION}-{reviewer.kind.resource.kind.lower()}"
        app.router.add_post(f"/mutate-{name}", _handler(partial(_mutate, reviewer)))
        app.router.add_post(f"/validate-{name}", _handler(partial(_validate, reviewer)))
    if pods is not None:
        app.router.add_post(POD_PATH, _handler(pods))
    if advice is not None:
        app.router.add_post(ADVICE_PATH, _handler(advice))
    return app


def patched(request: AdmissionRequest, operations: list[dict[str, Any]]) -> AdmissionAnswer:
    """Allow an object with changes, which may be none."""
    if not operations:
        return AdmissionAnswer(uid=request.uid, allowed=True)
    patch = base64.b64encode(msgspec.json.encode(operations)).decode()
    return AdmissionAnswer(uid=request.uid, allowed=True, patch_type="JSONPatch", patch=patch)


def _handler(answer: Answer) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Wrap a webhook's answer in its envelope."""

    async def handle(http: web.Request) -> web.Response:
        try:
            review = msgspec.json.decode(await http.read(), type=AdmissionReview)
        except msgspec.DecodeError as error:
            return web.Response(status=400, text=f"not an AdmissionReview: {error}")
        reply = AdmissionReply(
            api_version=review.api_version, kind=review.kind, response=await answer(review.request)
        )
        return web.Response(body=msgspec.json.encode(reply), content_type="application/json")

    return handle


@web.middleware
async def _known_clients(request: web.Request, handler: Handler) -> web.StreamResponse:
    """
    Refuse clients without a certificate. A wrong one does not get through the handshake.

    Health is nobody's secret, and this replica's own probe has no certificate.
    """
    tls = request.get_extra_info("ssl_object")
    if request.path != HEALTH_PATH and (tls is None or not tls.getpeercert()):
        return web.Response(status=403, text="a client certificate is needed")
    return await handler(request)


def _bounded(slots: asyncio.Semaphore) -> Middleware:
    """Make what serves so many reviews at a time, each read within a time."""

    @web.middleware
    async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == HEALTH_PATH:
            return await handler(request)
        async with slots:
            try:
                async with asyncio.timeout(READ_S):
                    await request.read()
            except TimeoutError:
                response = web.Response(status=408, text="the review did not come")
                response.force_close()
                return response
            return await handler(request)

    return serve


async def _healthy(_: web.Request) -> web.Response:
    """Answer that the server runs."""
    return web.Response()


async def _mutate(reviewer: Reviewer[T], request: AdmissionRequest) -> AdmissionAnswer:
    """Fill in an object; whatever goes wrong here is left to the validating webhook."""
    try:
        change = _read(reviewer, request)
        completed = await reviewer.complete(change)
    except (msgspec.DecodeError, SpiderpoolError) as error:
        log.warning(
            "object left as it is",
            kind=reviewer.kind.resource.kind,
            name=request.name,
            reason=str(error),
        )
        return AdmissionAnswer(uid=request.uid, allowed=True)
    return patched(
        request, list(diff(msgspec.to_builtins(change.new), msgspec.to_builtins(completed)))
    )


async def _validate(reviewer: Reviewer[T], request: AdmissionRequest) -> AdmissionAnswer:
    """Allow or refuse an object."""
    try:
        change = _read(reviewer, request)
        status = _render(reviewer, _name(request, change), await reviewer.judge(change))
    except msgspec.DecodeError as error:
        text = f'{_kind(reviewer)} "{request.name}" is invalid: {error}'
        status = Status(status="Failure", message=text, reason="Invalid", code=422)
    except SpiderpoolError as error:
        text = f"{_kind(reviewer)} {request.name} cannot be checked now: {error.message}; try again"
        status = Status(status="Failure", message=text, reason="ServiceUnavailable", code=503)
    if status is None:
        return AdmissionAnswer(uid=request.uid, allowed=True)
    log.info(
        "refused",
        kind=reviewer.kind.resource.kind,
        name=request.name,
        code=status.code,
        reason=status.message,
    )
    return AdmissionAnswer(uid=request.uid, allowed=False, status=status)


def _read(reviewer: Reviewer[T], request: AdmissionRequest) -> Change[T]:
    """
    Read the objects of a request.

    The API server sends `null` for the one that does not exist.
    """
    old, new = (
        msgspec.json.decode(raw, type=reviewer.kind | None)
        for raw in (request.old_object, request.object)
    )
    return Change(old=old, new=new, dry_run=bool(request.dry_run))


def _name(request: AdmissionRequest, change: Change[T]) -> str:
    """Name the object; a create may leave the name to the API server."""
    obj = change.new or change.old
    return request.name or (
        obj.metadata.name or obj.metadata.generate_name if obj is not None else ""
    )


def _kind(reviewer: Reviewer[T]) -> str:
    """Name the kind as the API server does in its messages."""
    return f"{reviewer.kind.resource.kind}.{reviewer.kind.resource.group}"


def _render(reviewer: Reviewer[T], name: str, opinion: Opinion) -> Status | None:
    """Write a refusal as the API server writes its own, None when there is none."""
    resource = reviewer.kind.resource
    if opinion.forbidden is not None:
        text = f'{resource.plural}.{resource.group} "{name}" is forbidden: {opinion.forbidden}'
        details = StatusDetails(name=name, group=resource.group, kind=resource.plural)
        return Status(status="Failure", message=text, reason="Forbidden", code=403, details=details)
    if not opinion.errors:
        return None
    causes = tuple(
        Cause(
            reason=error.kind,
            message=error.text.removeprefix(f"{error.field}: "),
            field=error.field,
        )
        for error in opinion.errors
    )
    details = StatusDetails(name=name, group=resource.group, kind=resource.kind, causes=causes)
    message = render_errors(resource, name, opinion.errors)
    return Status(status="Failure", message=message, reason="Invalid", code=422, details=details)
