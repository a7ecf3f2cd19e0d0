"""
A CNI call as the executable hands it over: environment and configuration, read and checked.

Nothing here looks at what a plugin does with the call.
Source: CNI specification 1.1.0, section 2; docs/reference/cni.md#ipam-configuration,
docs/reference/meta-plugin.md#networks-of-a-pod, docs/reference/cni.md#executables.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface
from typing import Any

import msgspec

from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.versions import OLDEST, has_verb, spoken_by
from spiderpool.errors import BadEnvironment, IncompatibleVersion, InvalidRequest, Undecodable
from spiderpool.model.limits import (
    ARGS_BYTES,
    EXACT_IPS,
    check_count,
    check_patterns,
    check_text,
)
from spiderpool.model.link_names import NO_IFNAME, valid_ifname

DEFAULT_SOCKET = "/var/run/spidernet/spiderpool.sock"

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")

_NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": ("CNI_PATH",),
    "STATUS": (),
}
_UNNAMED = frozenset({"STATUS"})  # verbs that do not need the network's name

_KNOWN_ARGS = frozenset(
    {
        "IgnoreUnknown",
        "IP",
        "K8S_POD_NAMESPACE",
        "K8S_POD_NAME",
        "K8S_POD_INFRA_CONTAINER_ID",
        "K8S_POD_UID",
    }
)
_YES_NO = {"1": True, "true": True, "0": False, "false": False, "": False}


class CniRequest(msgspec.Struct, frozen=True):
    """The body of `POST /v1/cni`: what the runtime gave our executable."""

    plugin: str
    env: dict[str, str]
    config: Any


@dataclass(frozen=True, slots=True)
class CniArgs:
    """`CNI_ARGS`, read. `pairs` are all of them in their order, unknown ones too."""

    namespace: str = ""
    name: str = ""
    infra_container_id: str = ""
    uid: str = ""
    ips: tuple[IPv4Address | IPv6Address, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Call:
    """One checked CNI call. `netns` may be empty on DEL; `env` is what the executable passed on."""

    plugin: str
    command: str
    container_id: str
    netns: str
    ifname: str
    args: CniArgs
    path: str
    cni_version: str
    config: dict[str, Any]
    env: Mapping[str, str]

    @property
    def network(self) -> str:
        """The CNI network name."""
        return str(lookup(self.config, "name") or "")


@dataclass(frozen=True, slots=True)
class IpamConfig:
    """
    The `ipam` object of a configuration with `"type": "spiderpool"`.

    None = the key is absent.
    """

    default_ipv4_ippool: tuple[str, ...] | None = None
    default_ipv6_ippool: tuple[str, ...] | None = None
    clean_gateway: bool = False
    match_master_subnet: bool = False
    ipam_unix_socket_path: str = DEFAULT_SOCKET
    log_level: str = "debug"


def parse_call(request: CniRequest) -> Call:
    """
    Check a call: variables, version, names.

    Raises:
        BadEnvironment: a variable is missing (all missing ones are named) or malformed.
        Undecodable: the configuration is not a JSON object.
        IncompatibleVersion: a protocol version that the plugin does not speak, or a verb newer than
        it.
        InvalidRequest: the network has no usable name.
    """
    command = _read_command(request.env)
    if not isinstance(request.config, dict):
        raise Undecodable(f"network configuration is {_kind(request.config)}, write a JSON object")
    version = _read_version(request.plugin, command, request.config)
    if command not in _UNNAMED:
        _check_network_name(lookup(request.config, "name"))
    return Call(
        plugin=request.plugin,
        command=command,
        container_id=_read_container_id(request.env.get("CNI_CONTAINERID", "")),
        netns=request.env.get("CNI_NETNS", ""),
        ifname=_read_ifname(request.env.get("CNI_IFNAME", "")),
        args=parse_args(request.env.get("CNI_ARGS", "")),
        path=request.env.get("CNI_PATH", ""),
        cni_version=version,
        config=request.config,
        env=request.env,
    )


def requested_version(request: CniRequest) -> str:
    """
    Return the version to render an error in.

    The requested one when we speak it, else the plugin's oldest.
    """
    version = lookup(request.config, "cniVersion") if isinstance(request.config, dict) else None
    spoken = spoken_by(request.plugin)
    return version if version in spoken else spoken[0]


def parse_args(text: str) -> CniArgs:
    """
    Read `CNI_ARGS`; a value may hold `=`, an empty pair (as a trailing `;` leaves) is skipped.

    Raises:
        BadEnvironment: a pair without `=`, an address that is none, or a key that nobody knows
            while `IgnoreUnknown` is not set.
    """
    check_text(text, ARGS_BYTES, "CNI_ARGS")
    pairs = tuple(_read_pair(item) for item in text.split(";") if item.strip())
    values = {key: value for key, value in pairs if value}
    if not _read_yes_no("IgnoreUnknown", values.get("IgnoreUnknown", "")):
        unknown = [key for key, _ in pairs if key not in _KNOWN_ARGS]
        if unknown:
            raise BadEnvironment(
                f"CNI_ARGS has unknown keys {', '.join(unknown)}; remove them or add "
                "IgnoreUnknown=1"
            )
    check_count(values.get("IP", "").count(",") + 1, EXACT_IPS, "CNI_ARGS IP")
    return CniArgs(
        namespace=values.get("K8S_POD_NAMESPACE", ""),
        name=values.get("K8S_POD_NAME", ""),
        infra_container_id=values.get("K8S_POD_INFRA_CONTAINER_ID", ""),
        uid=values.get("K8S_POD_UID", ""),
        ips=tuple(
            _read_address("CNI_ARGS IP", item)
            for item in values.get("IP", "").split(",")
            if item.strip()
        ),
        pairs=pairs,
    )


def valid_network_name(name: str) -> bool:
    """Return whether a text may name a CNI network (it becomes a part of file names)."""
    return _NAME.fullmatch(name) is not None


def ipam_config(call: Call) -> IpamConfig:
    """
    Read the `ipam` object.

    Raises:
        InvalidRequest: there is none, or a value has another type than the original gives it: key,
        value and what to write.
    """
    ipam = lookup(call.config, "ipam")
    if not isinstance(ipam, dict):
        raise InvalidRequest(
            f'network {call.network}: ipam is {_kind(ipam)}, write an object with "type": '
            '"spiderpool"'
        )
    level = _typed(ipam, "log_level", str) or "debug"
    if level.lower() not in {"debug", "info", "warn", "error", "fatal", "panic"}:
        raise InvalidRequest(
            f"ipam.log_level is {level!r}, write debug, info, warn, error, fatal or panic"
        )
    for key in ("log_file_max_size", "log_file_max_age", "log_file_max_count"):
        # accepted and checked for old configurations: the log is the agent's
        _typed(ipam, key, int)
    _typed(ipam, "log_file_path", str)
    pools = {key: _names(ipam, key) for key in ("default_ipv4_ippool", "default_ipv6_ippool")}
    for key, names in pools.items():
        check_patterns(names or (), f"ipam.{key}")
    return IpamConfig(
        default_ipv4_ippool=pools["default_ipv4_ippool"],
        default_ipv6_ippool=pools["default_ipv6_ippool"],
        clean_gateway=_typed(ipam, "clean_gateway", bool) or False,
        match_master_subnet=_typed(ipam, "match_master_subnet", bool) or False,
        ipam_unix_socket_path=_typed(ipam, "ipam_unix_socket_path", str) or DEFAULT_SOCKET,
        log_level=level.lower(),
    )


def wanted_ips(call: Call) -> tuple[IPv4Address | IPv6Address, ...]:
    """
    Return the exact addresses that a call asks for.

    The `ips` capability wins over `args.cni.ips`, which wins over `IP` of `CNI_ARGS`.
    Source: CNI conventions, "ips" (the same order as the `static` plugin).
    """
    for place in (("runtimeConfig",), ("args", "cni")):
        document: Any = call.config
        for key in place:
            document = lookup(document, key) if isinstance(document, dict) else None
        ips = _names(document, "ips", ".".join(place)) if isinstance(document, dict) else None
        if ips:
            check_count(len(ips), EXACT_IPS, f"{'.'.join(place)}.ips")
            return tuple(_read_address(f"{'.'.join(place)}.ips", item) for item in ips)
    return call.args.ips


def _read_command(env: Mapping[str, str]) -> str:
    command = env.get("CNI_COMMAND", "")
    if command not in _NEEDED:
        if not command:
            raise BadEnvironment("required env variables [CNI_COMMAND] missing")
        raise BadEnvironment(f"CNI_COMMAND is {command!r}, expected one of {', '.join(_NEEDED)}")
    missing = [name for name in _NEEDED[command] if not env.get(name)]
    if missing:
        raise BadEnvironment(f"required env variables [{','.join(missing)}] missing")
    return command


def _read_version(plugin: str, command: str, config: Mapping[str, Any]) -> str:
    version = lookup(config, "cniVersion")
    if version is not None and not isinstance(version, str):
        raise Undecodable(
            f"cniVersion is {_kind(version)}, write a string such as {spoken_by(plugin)[-1]!r}"
        )
    spoken = spoken_by(plugin)
    if (version or OLDEST) not in spoken:
        raise IncompatibleVersion(
            f"incompatible CNI versions; config is {version or OLDEST!r}, {plugin} supports "
            f"{', '.join(spoken)}"
        )
    if not has_verb(version or OLDEST, command):
        raise IncompatibleVersion(
            f"config version {version or OLDEST!r} does not know {command}; raise cniVersion"
        )
    return version or OLDEST


def _check_network_name(name: object) -> None:
    if not name:
        raise InvalidRequest("network configuration has no name; write one")
    if not isinstance(name, str) or not valid_network_name(name):
        raise InvalidRequest(
            f"network name is {name!r}, write letters, digits, '_', '.', '-', the first a letter "
            "or digit"
        )


def _read_container_id(text: str) -> str:
    if text and not valid_network_name(text):
        raise BadEnvironment(
            f"CNI_CONTAINERID is {text!r}, expected letters, digits, '_', '.', '-', the first a "
            "letter or digit"
        )
    return text


def _read_ifname(text: str) -> str:
    if text and not valid_ifname(text):
        raise BadEnvironment(f"CNI_IFNAME is {text!r}, which {NO_IFNAME}")
    return text


def _read_pair(item: str) -> tuple[str, str]:
    key, sign, value = item.partition("=")
    if not sign or not key.strip():
        raise BadEnvironment(f"CNI_ARGS has the pair {item!r}, expected KEY=VALUE")
    return key.strip(), value


def _read_yes_no(key: str, text: str) -> bool:
    answer = _YES_NO.get(text.lower())
    if answer is None:
        raise BadEnvironment(f"CNI_ARGS {key} is {text!r}, expected 1, true, 0 or false")
    return answer


def _read_address(where: str, text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_interface(text.strip()).ip
    except ValueError as error:
        raise BadEnvironment(
            f"{where} has {text!r}, expected an address such as 10.6.0.10 or 10.6.0.10/16"
        ) from error


def _typed(document: Mapping[str, Any], key: str, kind: type[Any], where: str = "ipam") -> Any:
    value = lookup(document, key)
    if value is None or type(value) is kind:
        return value
    wanted = {str: "a string", int: "a number without quotes", bool: "true or false"}[kind]
    raise InvalidRequest(f"{where}.{key} is {_kind(value)}, write {wanted}")


def _names(document: Mapping[str, Any], key: str, where: str = "ipam") -> tuple[str, ...] | None:
    value = lookup(document, key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidRequest(f"{where}.{key} is {_kind(value)}, write a list of strings")
    return tuple(value)


def _kind(value: object) -> str:
    """Name a JSON value for a message: its text when short, and its kind."""
    if value is None:
        return "absent"
    text = msgspec.json.encode(value).decode()
    names = {
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        list: "list",
        dict: "object",
    }
    limit = 60
    return (
        f"the {names.get(type(value), 'value')} "
        f"{text if len(text) <= limit else text[:limit] + '…'}"
    )
