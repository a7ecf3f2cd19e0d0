"""
The meta plugin's own configuration, with Multus' keys.

Source: docs/reference/meta-plugin.md#configuration-of-the-meta-plugin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spiderpool.cni.caseless_keys import lookup
from spiderpool.errors import InvalidRequest, Unsupported

_KINDS = {str: "a string", bool: "true or false", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class NodePolicy:
    """
    What the node's agent knows by itself, whatever the configuration of a call says.

    From `bin_dir` programs are executed as root, and below `cni_dir` files are written: a call may
    carry the configuration of anybody who can make a network. `allowed_plugins` empty = all that
    are in `bin_dir`, but meta plugins.
    """

    bin_dir: str
    conf_dir: str
    cni_dir: str
    allowed_plugins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class MetaConfig:
    """
    Which networks pods get.

    `cluster_network` wins over `delegates`. `allowed_namespaces`: from where pods of other
    namespaces may take networks when `namespace_isolation` is on. `runtime_config`: what the
    runtime supplies because of our `capabilities`.
    """

    node: NodePolicy
    cluster_network: str = ""
    delegates: tuple[Mapping[str, Any], ...] = ()
    default_networks: tuple[str, ...] = ()
    namespace: str = "kube-system"
    system_namespaces: frozenset[str] = frozenset({"kube-system"})
    namespace_isolation: bool = False
    allowed_namespaces: frozenset[str] = frozenset({"default"})
    readiness_file: str = ""
    retry_delete_on_error: bool = False
    runtime_config: Mapping[str, Any] = field(default_factory=dict)


def parse_meta_config(document: Mapping[str, Any], node: NodePolicy) -> MetaConfig:
    """
    Read the configuration; letter case of keys does not matter, unknown keys are ignored.

    Args:
        document: the configuration of a call.
        node: what counts instead of its `binDir`, `confDir` and `cniDir`.

    Raises:
        InvalidRequest: a value of another type, or neither `clusterNetwork` nor `delegates`.
        Unsupported: a key of Multus that we know and do not have.
    """
    default = MetaConfig(node)
    if _typed(document, "auxiliaryCNIChainName", str):
        raise Unsupported(
            "auxiliaryCNIChainName is not supported; remove it and write the plugins into the "
            "network's own list"
        )
    config = MetaConfig(
        node=node,
        cluster_network=_typed(document, "clusterNetwork", str) or "",
        delegates=_objects(document, "delegates"),
        default_networks=_strings(document, "defaultNetworks"),
        namespace=_typed(document, "multusNamespace", str) or default.namespace,
        system_namespaces=_system_namespaces(document, default),
        namespace_isolation=_typed(document, "namespaceIsolation", bool) or False,
        allowed_namespaces=_allowed_namespaces(document, default),
        readiness_file=_typed(document, "readinessindicatorfile", str) or "",
        retry_delete_on_error=_typed(document, "retryDeleteOnError", bool) or False,
        runtime_config=_typed(document, "runtimeConfig", dict) or {},
    )
    if not config.cluster_network and not config.delegates:
        raise InvalidRequest(
            "the configuration has neither clusterNetwork nor delegates; write the default "
            "network's name"
        )
    return config


def other_folders(document: Mapping[str, Any], node: NodePolicy) -> dict[str, str]:
    """Return the folders of a configuration that are not those of the node's agent, by key."""
    own = {"binDir": node.bin_dir, "confDir": node.conf_dir, "cniDir": node.cni_dir}
    said = {key: lookup(document, key) for key in own}
    return {
        key: str(folder)
        for key, folder in said.items()
        if folder and str(folder).rstrip("/") != own[key].rstrip("/")
    }


def _typed(document: Mapping[str, Any], key: str, kind: type) -> Any:
    value = lookup(document, key)
    if value is not None and type(value) is not kind:
        raise InvalidRequest(f"{key} is {value!r}, write {_KINDS[kind]}")
    return value


def _strings(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = _typed(document, key, list) or []
    if not all(isinstance(value, str) and value for value in values):
        raise InvalidRequest(f"{key} is {values!r}, write a list of names")
    return tuple(values)


def _objects(document: Mapping[str, Any], key: str) -> tuple[Mapping[str, Any], ...]:
    values = _typed(document, key, list) or []
    if not all(isinstance(value, dict) for value in values):
        raise InvalidRequest(f"{key} is {values!r}, write a list of CNI configurations")
    return tuple(values)


def _system_namespaces(document: Mapping[str, Any], default: MetaConfig) -> frozenset[str]:
    if lookup(document, "systemNamespaces") is None:
        return default.system_namespaces
    return frozenset(_strings(document, "systemNamespaces"))


def _allowed_namespaces(document: Mapping[str, Any], default: MetaConfig) -> frozenset[str]:
    text = _typed(document, "globalNamespaces", str)
    names = frozenset(name.strip() for name in (text or "").split(",") if name.strip())
    return names or default.allowed_namespaces
