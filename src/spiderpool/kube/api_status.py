"""
What an answer of the API server that is not a success means, in the errors of this project.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec

from spiderpool import errors

TEXT_LIMIT = 256  # enough for a proxy's first sentence; its HTML page helps nobody
DEFAULT_RETRY_AFTER_S = 1.0  # as client-go waits when the header is missing

_CLASSES: dict[int, type[errors.SpiderpoolError]] = {
    401: errors.Forbidden,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
}


class StatusCause(msgspec.Struct, frozen=True):
    """One cause in the details of a Status."""

    reason: str = ""
    field: str = ""


class StatusDetails(msgspec.Struct, rename="camel", frozen=True):
    """Details of a Status, as far as they decide something here."""

    retry_after_seconds: int = 0
    causes: tuple[StatusCause, ...] | None = None


class Status(msgspec.Struct, rename="camel", frozen=True):
    """The `metav1.Status` object that the API server puts into the body of a refusal."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: StatusDetails | None = None


_STATUS = msgspec.json.Decoder(Status)


def read_refusal(
    subject: str, code: int, body: bytes, headers: Mapping[str, str], *, write: bool
) -> errors.SpiderpoolError:
    """
    Turn a refusal into the error to raise.

    Args:
        subject: what was asked for, such as `create spiderips 10.6.0.9`.
        code: the HTTP status, 400 and above.
        body: the body; a Status, or whatever a proxy in between had to say.
        headers: those of the answer, in any case-insensitive mapping.
        write: whether the request may have changed something.
    """
    status = read_status(body)
    words = status.message or f"HTTP {code}"
    if code == HTTPStatus.UNAUTHORIZED:
        words = f"{words}: the API server does not accept these credentials"
    return _error(f"{subject}: {words}", code, status, headers, write=write)


def read_status_event(subject: str, body: bytes) -> errors.SpiderpoolError:
    """Turn the object of a watch event of type ERROR into the error to raise."""
    status = read_status(body)
    return _error(f"{subject}: {status.message}", status.code, status, {}, write=False)


def read_status(body: bytes) -> Status:
    """Read a Status; a body that is none becomes its message, cut to `TEXT_LIMIT` characters."""
    try:
        return _STATUS.decode(body)
    except msgspec.DecodeError:
        return Status(message=body.decode(errors="replace")[:TEXT_LIMIT].strip())


def _error(
    message: str, code: int, status: Status, headers: Mapping[str, str], *, write: bool
) -> errors.SpiderpoolError:
    if code == HTTPStatus.TOO_MANY_REQUESTS:
        return errors.TooManyRequests(message, retry_after_s=_retry_after_s(status, headers))
    return _class(code, status, write=write)(message)


def _class(code: int, status: Status, *, write: bool) -> type[errors.SpiderpoolError]:
    if code == HTTPStatus.CONFLICT and status.reason == "AlreadyExists":
        return errors.AlreadyExists
    if code == HTTPStatus.UNPROCESSABLE_ENTITY and any(
        c.field == "metadata.uid" for c in _causes(status)
    ):
        # a patch on condition of a UID met another object: to the API server an attempt to edit it
        return errors.Conflict
    if code == HTTPStatus.FORBIDDEN and _refuses_the_object(status):
        return errors.Rejected
    if code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return _CLASSES.get(code, errors.Rejected)
    return (
        errors.UnknownOutcome if write and _may_be_committed(code, status) else errors.Unreachable
    )


def _refuses_the_object(status: Status) -> bool:
    """
    Return whether a 403 speaks of the object and not of the credentials.

    Webhooks and a namespace that ends answer so too.
    """
    return "admission webhook" in status.message or any(
        c.reason == "NamespaceTerminating" for c in _causes(status)
    )


def _causes(status: Status) -> tuple[StatusCause, ...]:
    return (status.details and status.details.causes) or ()


def _may_be_committed(code: int, status: Status) -> bool:
    """
    Return whether a 5xx leaves a write's outcome open.

    etcd's own time-outs arrive as 500, the API server's as 504, a proxy's as 502 or 504; 503 and a
    webhook that could not be called come before the write.
    """
    return code != HTTPStatus.SERVICE_UNAVAILABLE and "failed calling webhook" not in status.message


def _retry_after_s(status: Status, headers: Mapping[str, str]) -> float:
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    asked = status.details.retry_after_seconds if status.details else 0
    return float(asked) or DEFAULT_RETRY_AFTER_S
