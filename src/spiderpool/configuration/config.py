"""
The configuration file `conf.yml` of agent and controller.

Source: docs/reference/configuration.md#confyml.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
import yaml

from spiderpool.errors import InvalidRequest

TYPES: Final = {
    "bool": "true or false",
    "int": "a whole number",
    "str": "a text",
    "array": "a list",
    "object": "a mapping of keys to values",
}


class Section(msgspec.Struct, rename="camel", frozen=True, kw_only=True):
    """A mapping of the file; keys that are not known here are ignored, as the original does."""


class Features(Section, frozen=True, kw_only=True):
    """What the cluster's administrator switched on; everything is off when its key is absent."""

    enable_ipv4: bool = msgspec.field(default=False, name="enableIPv4")
    enable_ipv6: bool = msgspec.field(default=False, name="enableIPv6")
    enable_stateful_set: bool = False
    enable_kubevirt_static_ip: bool = msgspec.field(default=False, name="enableKubevirtStaticIP")
    enable_spider_subnet: bool = False
    enable_auto_pool_for_application: bool = False
    enable_ip_conflict_detection: bool = msgspec.field(
        default=False, name="enableIPConflictDetection"
    )
    enable_gateway_detection: bool = False
    enable_clean_outdated_endpoint: bool = False
    enable_validating_resources_deleted_webhook: bool = False

    @property
    def families(self) -> tuple[int, ...]:
        """The enabled address families, IPv4 first."""
        return (4,) * self.enable_ipv4 + (6,) * self.enable_ipv6


class PodResourceInject(Section, frozen=True, kw_only=True):
    """Which pods get network resources injected."""

    enabled: bool = False
    namespaces_exclude: tuple[str, ...] = ()
    namespaces_include: tuple[str, ...] = ()


class AutoPoolLimits(Section, frozen=True, kw_only=True):
    """How large an automatic pool may become: see `spiderpool.ipam.pool_size.SizeLimits`."""

    ip_number: int = 1024
    per_replica: int = 3
    extra: int = 64


class MultusSettings(Section, frozen=True, kw_only=True):
    """
    What pods may choose as networks.

    `allowed_plugins`: the CNI plugins that their networks may name; empty = all but meta plugins.
    `global_namespaces`: from where pods of every namespace may take networks when
    `namespace_isolation` is on.
    """

    allowed_plugins: tuple[str, ...] = ()
    namespace_isolation: bool = False
    global_namespaces: tuple[str, ...] = ()


class ThirdPartyKind(Section, frozen=True, kw_only=True):
    """
    A kind of controllers besides Kubernetes' own whose objects the controller may read.

    `resource` is its plural.
    """

    api_group: str
    kind: str
    resource: str


class Config(Features, frozen=True, kw_only=True):
    """The whole file; it is its own `features`."""

    ipam_unix_socket_path: str = "/var/run/spidernet/spiderpool.sock"
    cluster_subnet_auto_pool_default_redundant_ip_number: int | None = msgspec.field(
        default=None, name="clusterSubnetAutoPoolDefaultRedundantIPNumber"
    )
    cluster_subnet_default_flexible_ip_number: int = msgspec.field(
        default=0, name="clusterSubnetDefaultFlexibleIPNumber"
    )
    auto_pool_limits: AutoPoolLimits = AutoPoolLimits()
    auto_pool_third_party_controllers: tuple[ThirdPartyKind, ...] = ()
    tune_sysctl_config: bool = False
    tcp_be_liberal: bool = False
    pod_resource_inject: PodResourceInject = PodResourceInject()
    multus: MultusSettings = MultusSettings()

    @property
    def features(self) -> Features:
        """The switches."""
        return self

    @property
    def redundant_addresses(self) -> int:
        """Addresses of an automatic pool on top of the replicas; of two keys the first counts."""
        told = self.cluster_subnet_auto_pool_default_redundant_ip_number
        return self.cluster_subnet_default_flexible_ip_number if told is None else told


def parse_config(text: str) -> Config:
    """
    Read the file's text.

    What is not as it must be is refused with the key, what it has and what it must be.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(
            f"the configuration is not YAML: {' '.join(str(error).split())}"
        ) from None
    try:
        return _read(document)
    except UnicodeEncodeError:
        raise InvalidRequest(
            "the configuration has an escape that is no character (half of a surrogate pair)"
        ) from None


def _read(document: object) -> Config:
    try:
        return msgspec.convert({} if document is None else document, Config)
    except msgspec.ValidationError as error:
        raise InvalidRequest(_explain(document, str(error))) from None


def _explain(document: object, problem: str) -> str:
    """Turn the decoder's message (``Expected `bool` … at `$.enableIPv4` ``) into ours."""
    expected, path = re.search("Expected `([a-z]+)", problem), re.search(r"at `\$\.?(.*)`", problem)
    must = TYPES.get(expected[1], expected[1]) if expected else problem
    key = path[1] if path else ""
    if not key:
        return f"the configuration is {_shown(document)}; it must be {must}"
    return f"configuration key {key} is {_shown(_value_at(document, key))}; it must be {must}"


def _value_at(document: Any, path: str) -> object:
    """
    Follow a decoder's path (`podResourceInject.namespacesExclude[2]`.

    List items may be shown as `[...]`).
    """
    for part in re.findall(r"[^.\[\]]+|\.\.\.", path):
        if isinstance(document, list):
            return document
        document = document[part]
    return document


def _shown(value: object) -> str:
    """Show a value as the file's reader would write it."""
    return msgspec.json.encode(value, enc_hook=str).decode()
