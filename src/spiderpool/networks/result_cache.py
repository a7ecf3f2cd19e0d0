"""
What is kept about a container between ADD and DEL, in Multus' own form.

So a running node can change from Multus to this plugin, and back.

Two kinds of text: the list of a container's delegates, and one result per attachment as libcni
caches it. Keys of ours stand beside Multus' (which ignores them); a list that Multus wrote is read
without them.
Source: docs/reference/meta-plugin.md#what-a-plugin-gets (result cache),
docs/reference/meta-plugin.md#failure-del-check-status-gc (delegates).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import msgspec

from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.netconf import NetworkConfig, read_config
from spiderpool.cni.request import CniArgs
from spiderpool.errors import SpiderpoolError, Undecodable
from spiderpool.networks.delegates import Delegate, automatic_ifname

RESULTS = "results"
_MARKS = {4: "IsFilterV4Gateway", 6: "IsFilterV6Gateway"}
_DAMAGE = (
    msgspec.DecodeError,
    msgspec.ValidationError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
)


class _ResultFile(msgspec.Struct, frozen=True, tag_field="kind", tag="cniCacheV1"):
    """The form of a cached result, libcni's keys."""

    containerId: str  # noqa: N815 - the file's own spelling
    ifName: str  # noqa: N815
    networkName: str  # noqa: N815
    result: dict[str, Any]
    netns: str = ""
    config: str = ""
    cniArgs: list[tuple[str, str]] | None = None  # noqa: N815
    capabilityArgs: dict[str, Any] | None = None  # noqa: N815


@dataclass(frozen=True, slots=True)
class CachedResult:
    """One attachment's last result, with the configuration that it was made from."""

    network: str
    container_id: str
    ifname: str
    netns: str
    config: Mapping[str, Any]
    args: tuple[tuple[str, str], ...]
    capability_args: Mapping[str, Any]
    result: Mapping[str, Any]


def result_file(network: str, container_id: str, ifname: str) -> str:
    """
    Return the path of a cached result below the cache directory, named as libcni does.

    Args:
        network: its name.
        container_id: of the pod's sandbox.
        ifname: name of the interface in the pod.
    """
    return f"{RESULTS}/{network}-{container_id}-{ifname}"


def render_delegates(delegates: Sequence[Delegate]) -> bytes:
    """Return the text that DEL needs, whatever happens to pods and definitions meanwhile."""
    return msgspec.json.encode([_render(delegate) for delegate in delegates])


def parse_delegates(
    text: bytes, ifname: str, runtime_config: Mapping[str, Any]
) -> tuple[Delegate, ...]:
    """
    Read a container's delegates.

    Args:
        text: the file's content.
        ifname: what the runtime calls the default network's interface.
        runtime_config: values for capabilities where the text has none (Multus does not keep them).

    Raises:
        Undecodable: damaged, or not what we or Multus write; an empty list is damage too.
    """
    try:
        items = msgspec.json.decode(text, type=list[dict[str, Any]])
        delegates = tuple(
            _parse(item, index, ifname, runtime_config) for index, item in enumerate(items)
        )
    except (*_DAMAGE, SpiderpoolError) as error:
        raise Undecodable(f"the list of delegates is damaged: {error}") from error
    if not delegates:
        raise Undecodable("the list of delegates is empty")
    return delegates


def render_result_file(cached: CachedResult) -> bytes:
    """Return the text of one cached result."""
    return msgspec.json.encode(
        _ResultFile(
            containerId=cached.container_id,
            config=base64.b64encode(msgspec.json.encode(cached.config)).decode(),
            ifName=cached.ifname,
            networkName=cached.network,
            netns=cached.netns,
            cniArgs=list(cached.args),
            capabilityArgs=dict(cached.capability_args),
            result=dict(cached.result),
        )
    )


def parse_result_file(text: bytes) -> CachedResult:
    """Read one cached result. Raises `Undecodable`."""
    try:
        item = msgspec.json.decode(text, type=_ResultFile)
        return CachedResult(
            network=item.networkName,
            container_id=item.containerId,
            ifname=item.ifName,
            netns=item.netns,
            config=msgspec.json.decode(base64.b64decode(item.config), type=dict[str, Any])
            if item.config
            else {},
            args=tuple(item.cniArgs or ()),
            capability_args=item.capabilityArgs or {},
            result=item.result,
        )
    except _DAMAGE as error:
        raise Undecodable(f"cached result is damaged: {error}") from error


def cached_result(
    delegate: Delegate, container_id: str, netns: str, args: CniArgs, result: Mapping[str, Any]
) -> CachedResult:
    """
    Return what is kept of one delegate's ADD.

    Args:
        delegate: the network.
        container_id: of the pod's sandbox.
        netns: path of the pod's network namespace.
        args: of the call.
        result: what the plugin answered.
    """
    return CachedResult(
        network=delegate.config.name,
        container_id=container_id,
        ifname=delegate.ifname,
        netns=netns,
        config=delegate.config.document,
        args=args.pairs,
        capability_args=delegate.capability_args,
        result=result,
    )


def _render(delegate: Delegate) -> dict[str, Any]:
    config = delegate.config
    document = dict(config.document)
    optional = {
        "ifnameRequest": delegate.requested_ifname,
        "macRequest": delegate.mac,
        "infinibandGUIDRequest": delegate.infiniband_guid,
        "ipRequest": list(delegate.ips),
        "deviceID": delegate.device_id,
        "resourceName": delegate.resource_name,
    }
    item: dict[str, Any] = {
        "Conf": {} if config.listed else document,
        "ConfList": document if config.listed else {},
        "Name": delegate.name,
        **{key: value for key, value in optional.items() if value},
        **{key: family in delegate.lose for family, key in _MARKS.items()},
        "Bytes": base64.b64encode(msgspec.json.encode(document)).decode(),
        "capabilityArgs": dict(delegate.capability_args),
    }
    if delegate.gateways is not None:
        item["default-route"] = [str(gateway) for gateway in delegate.gateways]
    return item


def _parse(
    item: Mapping[str, Any], index: int, ifname: str, runtime_config: Mapping[str, Any]
) -> Delegate:
    gateways = item.get("default-route")
    requested = item.get("ifnameRequest") or ""
    return Delegate(
        name=item.get("Name") or "",
        config=_parse_config(item),
        ifname=requested or automatic_ifname(index, ifname),
        requested_ifname=requested,
        ips=tuple(item.get("ipRequest") or ()),
        mac=item.get("macRequest") or "",
        infiniband_guid=item.get("infinibandGUIDRequest") or "",
        gateways=None if gateways is None else tuple(ip_address(gateway) for gateway in gateways),
        lose=frozenset(family for family, key in _MARKS.items() if item.get(key)),
        device_id=item.get("deviceID") or "",
        resource_name=item.get("resourceName") or "",
        capability_args=_parse_capability_args(item, index, runtime_config),
    )


def _parse_config(item: Mapping[str, Any]) -> NetworkConfig:
    """
    Read the configuration from its own bytes.

    Where these are lost, from the decoded copy beside them.
    """
    whole = item.get("ConfList") or {}
    listed = bool(lookup(whole, "plugins"))
    encoded = item.get("Bytes")
    document = (
        msgspec.json.decode(base64.b64decode(encoded))
        if encoded
        else (whole if listed else item["Conf"])
    )
    # A delegate of Multus' own kind without a name is called by that of its copy.
    name = lookup(document, "name") or lookup(whole if listed else item.get("Conf") or {}, "name")
    return read_config({**document, "name": name}, "cached delegate", listed=listed)


def _parse_capability_args(
    item: Mapping[str, Any], index: int, runtime_config: Mapping[str, Any]
) -> dict[str, Any]:
    kept = item.get("capabilityArgs")
    if isinstance(kept, dict):
        return kept
    if index == 0:
        return dict(runtime_config)
    requests = {
        "mac": "macRequest",
        "ips": "ipRequest",
        "infinibandGUID": "infinibandGUIDRequest",
        "deviceID": "deviceID",
    }
    supplied = {key: value for key, value in runtime_config.items() if key != "portMappings"}
    return supplied | {key: item[request] for key, request in requests.items() if item.get(request)}
