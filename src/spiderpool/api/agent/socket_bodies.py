"""
The bodies of the agent's socket API, and the answers of the framework under the original.

Other programs speak this wire, the original's CNI executable among them: names, required fields and
error forms are theirs.

Source: docs/reference/agent-api.md#socket.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from spiderpool.errors import SpiderpoolError

REQUIRED: Final = 602  # go-openapi's code for an absent required value

STATELESS_FORBIDDEN: Final = 521
STATIC_FORBIDDEN: Final = 522


class FrameworkError(Exception):
    """A request that does not reach an operation; answered with an object `{"code", "message"}`."""

    def __init__(self, status: int, message: str, code: int | None = None) -> None:
        """
        Keep what is answered.

        Args:
            status: HTTP status.
            message: the text.
            code: the code in the body, when it is not the status.
        """
        super().__init__(message)
        self.status = status
        self.body = {"code": status if code is None else code, "message": message}


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """
    A request body. Absent and null are one.

    Which fields must be there is checked after decoding.
    """


class IpamAddArgs(Body, frozen=True, kw_only=True):
    """`POST /v1/ipam/ip`."""

    container_id: str | None = msgspec.field(default=None, name="containerID")
    if_name: str | None = msgspec.field(default=None, name="ifName")
    net_namespace: str | None = msgspec.field(default=None, name="netNamespace")
    pod_name: str | None = msgspec.field(default=None, name="podName")
    pod_namespace: str | None = msgspec.field(default=None, name="podNamespace")
    pod_uid: str | None = msgspec.field(default=None, name="podUID")
    default_ipv4_ippool: tuple[str, ...] | None = msgspec.field(
        default=None, name="defaultIPv4IPPool"
    )
    default_ipv6_ippool: tuple[str, ...] | None = msgspec.field(
        default=None, name="defaultIPv6IPPool"
    )
    clean_gateway: bool | None = msgspec.field(default=None, name="cleanGateway")
    match_master_subnet: bool | None = msgspec.field(default=None, name="matchMasterSubnet")


class IpamDelArgs(Body, frozen=True, kw_only=True):
    """`DELETE /v1/ipam/ip`."""

    container_id: str | None = msgspec.field(default=None, name="containerID")
    if_name: str | None = msgspec.field(default=None, name="ifName")
    net_namespace: str | None = msgspec.field(default=None, name="netNamespace")
    pod_name: str | None = msgspec.field(default=None, name="podName")
    pod_namespace: str | None = msgspec.field(default=None, name="podNamespace")
    pod_uid: str | None = msgspec.field(default=None, name="podUID")


class IpamBatchDelArgs(Body, frozen=True, kw_only=True):
    """`DELETE /v1/ipam/ips`."""

    container_id: str | None = msgspec.field(default=None, name="containerID")
    net_namespace: str | None = msgspec.field(default=None, name="netNamespace")
    pod_name: str | None = msgspec.field(default=None, name="podName")
    pod_namespace: str | None = msgspec.field(default=None, name="podNamespace")
    pod_uid: str | None = msgspec.field(default=None, name="podUID")
    is_release_conflict_ips: bool | None = msgspec.field(default=None, name="isReleaseConflictIPs")


class CoordinatorConfigArgs(Body, frozen=True, kw_only=True):
    """`GET /v1/coordinator/config`."""

    pod_name: str | None = msgspec.field(default=None, name="podName")
    pod_namespace: str | None = msgspec.field(default=None, name="podNamespace")


class EndpointRoute(msgspec.Struct, frozen=True, rename={"if_name": "ifName"}):
    """A route of `GET /v1/workloadendpoint`; `ifName` is always null there."""

    dst: str
    gw: str
    if_name: None = None


class EndpointInterface(msgspec.Struct, frozen=True, kw_only=True):
    """
    One NIC of `GET /v1/workloadendpoint`.

    Empty texts are left out, so they are UNSET here, but `routes` is null when there are none.
    """

    interface: str
    ipv4: str | msgspec.UnsetType = msgspec.UNSET
    ipv6: str | msgspec.UnsetType = msgspec.UNSET
    ipv4_pool: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="ipv4Pool")
    ipv6_pool: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="ipv6Pool")
    ipv4_gateway: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="ipv4Gateway")
    ipv6_gateway: str | msgspec.UnsetType = msgspec.field(default=msgspec.UNSET, name="ipv6Gateway")
    routes: tuple[EndpointRoute, ...] | None = None


class WorkloadEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `GET /v1/workloadendpoint`."""

    pod_namespace: str = msgspec.field(name="podNamespace")
    pod_name: str = msgspec.field(name="podName")
    pod_uid: str = msgspec.field(name="podUID")
    node: str
    interfaces: tuple[EndpointInterface, ...]


B = TypeVar("B", bound=Body)

_OPTIONAL: Final = frozenset(
    {
        "defaultIPv4IPPool",
        "defaultIPv6IPPool",
        "cleanGateway",
        "matchMasterSubnet",
        "isReleaseConflictIPs",
    }
)
# The network namespace is required of an ADD only.
_OPTIONAL_OF: Final[dict[type[Body], frozenset[str]]] = {
    IpamAddArgs: _OPTIONAL,
    IpamDelArgs: _OPTIONAL | {"netNamespace"},
    IpamBatchDelArgs: _OPTIONAL | {"netNamespace"},
    CoordinatorConfigArgs: frozenset(),
}
_REQUIRED_OF: Final = {
    kind: tuple(
        (field.name, field.encode_name)
        for field in msgspec.structs.fields(kind)
        if field.encode_name not in optional
    )
    for kind, optional in _OPTIONAL_OF.items()
}
_DECODERS: Final[dict[type[Body], msgspec.json.Decoder[Body]]] = {
    kind: msgspec.json.Decoder(kind) for kind in _OPTIONAL_OF
}


def read_body(kind: type[B], content_type: str, data: bytes) -> B:
    """Read a request body; `FrameworkError` says what the original's framework would."""
    if not data:
        raise FrameworkError(422, "body in body is required", REQUIRED)
    if content_type != "application/json":
        raise FrameworkError(
            415, f'unsupported media type "{content_type}", only [application/json] are allowed'
        )
    try:
        body = _DECODERS[kind].decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise FrameworkError(400, f'parsing body body from "" failed, because {error}') from None
    for attribute, name in _REQUIRED_OF[kind]:
        if getattr(body, attribute) is None:
            raise FrameworkError(422, f"{name} in body is required", REQUIRED)
    return body  # type: ignore[return-value]


def read_query(query: dict[str, str], *names: str) -> tuple[str, ...]:
    """Read required query parameters."""
    for name in names:
        if name not in query:
            raise FrameworkError(422, f"{name} in query is required", REQUIRED)
    return tuple(query[name] for name in names)


class ReleaseForbidden(SpiderpoolError):
    """A conflict clean-up that the configuration or the pod's kind forbids."""

    def __init__(self, message: str, status: int) -> None:
        """
        Keep the answer's HTTP status.

        Args:
            message: the sentence.
            status: 521 for stateless pods, 522 for static ones.
        """
        super().__init__(message)
        self.status = status
