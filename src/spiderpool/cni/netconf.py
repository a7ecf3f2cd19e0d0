"""
CNI network configurations: from a definition or a file to the standard input of one plugin.

Which network a pod gets is not decided here, and files come as text.
Source: CNI specification 1.1.0, sections 1 and 3;
docs/reference/meta-plugin.md#networkattachmentdefinition,
docs/reference/meta-plugin.md#what-a-plugin-gets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from spiderpool.cni.caseless_keys import lookup, replaced
from spiderpool.cni.request import valid_network_name
from spiderpool.cni.versions import ALL, FIRST_WITH_CHECK, FIRST_WITH_GC, OLDEST, at_least, highest
from spiderpool.errors import IncompatibleVersion, InvalidRequest, SpiderpoolError
from spiderpool.model.limits import CONFIG_BYTES, PLUGINS, check_count, check_depth, check_text

LIST_SUFFIX = ".conflist"
SUFFIXES = (".conf", ".json", LIST_SUFFIX)
# A directory may hold the configuration that calls this very code: taking it would never end.
META_PLUGINS = frozenset({"spiderpool-multus", "multus", "multus-shim"})


@dataclass(frozen=True, slots=True)
class ConfFile:
    """One file of a configuration directory."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """
    One network's configuration: one plugin, or a list of them.

    `version` is chosen once and holds for every later call of the attachment: ADD and DEL must look
    alike to a plugin. `plugins` are whole objects, unknown keys kept. `document` is all of it with
    name and version set.
    """

    name: str
    version: str
    plugins: tuple[Mapping[str, Any], ...]
    listed: bool
    document: Mapping[str, Any]

    @property
    def checkable(self) -> bool:
        """Return whether the protocol knows CHECK."""
        return at_least(self.version, FIRST_WITH_CHECK)

    @property
    def collectable(self) -> bool:
        """Return whether the protocol knows GC and STATUS."""
        return at_least(self.version, FIRST_WITH_GC)

    def switched_off(self, key: str) -> bool:
        """Return whether a list says `disableCheck` or `disableGC`, as a boolean or as text."""
        value = lookup(self.document, key) if self.listed else False
        return value is True or (isinstance(value, str) and value.lower() == "true")


def parse_definition(text: str, name: str, where: str) -> NetworkConfig:
    """
    Read the `spec.config` of a NetworkAttachmentDefinition that has one.

    Args:
        text: the JSON; a non-empty `type` makes it a single plugin, else `plugins` makes it a list.
        name: the definition's name, for a configuration without one.
        where: whose configuration it is, for messages.
    """
    document = _read_object(text, where)
    if not lookup(document, "name"):
        document = replaced(document, "name", name)
    return read_config(document, where)


def parse_file(file: ConfFile, where: str) -> NetworkConfig:
    """Read a configuration file: its suffix, not its content, says whether it is a list."""
    return read_config(
        _read_object(file.text, where), where, listed=file.name.endswith(LIST_SUFFIX)
    )


def read_config(
    document: Mapping[str, Any], where: str, *, listed: bool | None = None
) -> NetworkConfig:
    """
    Check a configuration.

    Raises:
        InvalidRequest: no name, no plugin, or a plugin without `type`.
        IncompatibleVersion: a protocol version that we do not speak.
    """
    name = lookup(document, "name")
    if not isinstance(name, str) or not valid_network_name(name):
        raise InvalidRequest(
            f"{where}: name is {name!r}, write letters, digits, '_', '.', '-', the first a letter "
            "or digit"
        )
    if listed is None:
        listed = not lookup(document, "type")
    plugins = _read_plugins(document, where) if listed else (_read_plugin(document, where),)
    version = _choose_version(document, where, listed=listed)
    return NetworkConfig(name, version, plugins, listed, replaced(document, "cniVersion", version))


def candidate_files(names: Iterable[str]) -> list[str]:
    """Return the configuration files of a directory in the order in which they are looked at."""
    return sorted((name for name in names if name.endswith(SUFFIXES)), key=str.encode)


def first_network(texts: Mapping[str, str]) -> NetworkConfig | None:
    """
    Return the first network of a directory that is not a meta plugin's.

    Files that cannot be read are passed over.

    Args:
        texts: the files' texts by their names.
    """
    for name in candidate_files(texts):
        with suppress(SpiderpoolError):
            config = parse_file(ConfFile(name, texts[name]), name)
            if not _is_meta(config):
                return config
    return None


def find_by_name(files: Sequence[ConfFile], name: str, directory: str) -> NetworkConfig:
    """
    Return the first network of a name among configuration files; an empty name takes the first.

    A file that cannot be read is passed over, and named when nothing is found: it must not break
    unrelated networks.
    """
    broken = []
    for file in files:
        try:
            config = parse_file(file, f"{directory}/{file.name}")
        except SpiderpoolError as error:
            broken.append(error.message)
            continue
        if name == config.name or (not name and not _is_meta(config)):
            return config
    what = f"named {name}" if name else "of a network"
    words = f"no CNI configuration {what} in {directory} ({len(files)} files)"
    raise InvalidRequest("; ".join([words, *broken]))


def with_plugin_files(
    config: NetworkConfig, files: Sequence[ConfFile], directory: str
) -> NetworkConfig:
    """Append the plugins of a list's directory, unless the list has `loadOnlyInlinedPlugins`."""
    if not config.listed or config.switched_off("loadOnlyInlinedPlugins"):
        return config
    extra = tuple(
        _read_plugin(_read_object(file.text, f"{directory}/{file.name}"), file.name)
        for file in files
    )
    return _with_plugins(config, (*config.plugins, *extra))


def with_cni_args(config: NetworkConfig, cni_args: Mapping[str, Any] | None) -> NetworkConfig:
    """Merge an element's `cni-args` into `args.cni` of every plugin; its keys win, others stay."""
    if not cni_args:
        return config
    return _with_plugins(
        config, tuple(_merge_cni_args(plugin, cni_args) for plugin in config.plugins)
    )


def with_device(config: NetworkConfig, device_id: str) -> NetworkConfig:
    """Name a device in every plugin, under both keys that plugins read."""
    if not device_id:
        return config
    keys = ("deviceID", "pciBusID")
    plugins = config.plugins
    for key in keys:
        plugins = tuple(replaced(plugin, key, device_id) for plugin in plugins)
    return _with_plugins(config, plugins)


def plugin_input(
    config: NetworkConfig,
    index: int,
    capability_args: Mapping[str, Any],
    prev_result: Mapping[str, Any] | None = None,
) -> bytes:
    """
    Render what the index-th plugin of a network reads.

    Args:
        config: the network.
        index: position of the plugin.
        capability_args: values for `runtimeConfig`; a plugin gets those that its `capabilities` ask
        for.
        prev_result: of the plugin before (ADD), or of the whole ADD (CHECK, DEL).
    """
    return msgspec.json.encode(plugin_document(config, index, capability_args, prev_result))


def plugin_document(
    config: NetworkConfig,
    index: int,
    capability_args: Mapping[str, Any],
    prev_result: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what `plugin_input` renders."""
    plugin: dict[str, Any] = dict(config.plugins[index])
    plugin = replaced(plugin, "name", config.name)
    plugin = replaced(plugin, "cniVersion", config.version)
    asked = lookup(plugin, "capabilities")
    values = {
        key: value
        for key, value in capability_args.items()
        if isinstance(asked, dict) and asked.get(key) is True
    }
    if values:
        plugin = replaced(plugin, "runtimeConfig", values)
    if prev_result is not None:
        plugin = replaced(plugin, "prevResult", dict(prev_result))
    return plugin


def _read_object(text: str, where: str) -> dict[str, Any]:
    check_text(text, CONFIG_BYTES, f"{where}: configuration")
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"{where}: configuration is no JSON ({error})") from error
    check_depth(text, document, f"{where}: configuration")
    if not isinstance(document, dict):
        raise InvalidRequest(f"{where}: configuration is no JSON object")
    return document


def _read_plugins(document: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    plugins = lookup(document, "plugins")
    if not isinstance(plugins, list) or not plugins:
        raise InvalidRequest(
            f'{where}: configuration has neither "type" nor a list "plugins"; write one of them'
        )
    check_count(len(plugins), PLUGINS, f"{where}: plugins")
    return tuple(
        _read_plugin(plugin, f"{where}: plugin {index}") for index, plugin in enumerate(plugins)
    )


def _read_plugin(plugin: object, where: str) -> Mapping[str, Any]:
    kind = lookup(plugin, "type") if isinstance(plugin, dict) else None
    if not isinstance(plugin, dict) or not isinstance(kind, str) or not kind:
        raise InvalidRequest(f'{where} has no "type"; write the name of a CNI plugin')
    if "/" in kind:
        raise InvalidRequest(
            f'{where}: "type" is "{kind}"; write the name of a plugin, not its path'
        )
    for key in ("ipam", "capabilities", "args"):
        value = lookup(plugin, key)
        if value is not None and not isinstance(value, dict):
            raise InvalidRequest(f'{where}: "{key}" is {value!r}; it must be an object')
    for name, value in (lookup(plugin, "capabilities") or {}).items():
        if not isinstance(value, bool):
            raise InvalidRequest(
                f"{where}: capability {name!r} is {value!r}; it must be true or false"
            )
    return plugin


def _choose_version(document: Mapping[str, Any], where: str, *, listed: bool) -> str:
    """
    Return the newest version that a list offers and we speak.

    A missing one is the oldest, as the specification has it.
    """
    version = lookup(document, "cniVersion") or OLDEST
    offered = lookup(document, "cniVersions") if listed else None
    best = highest([*(offered if isinstance(offered, list) else []), version])
    if best is None:
        raise IncompatibleVersion(
            f"{where}: cniVersion is {version!r}, write one of {', '.join(ALL)}"
        )
    return best


def _is_meta(config: NetworkConfig) -> bool:
    return any(lookup(plugin, "type") in META_PLUGINS for plugin in config.plugins)


def _merge_cni_args(plugin: Mapping[str, Any], cni_args: Mapping[str, Any]) -> Mapping[str, Any]:
    args = plugin.get("args")
    args = args if isinstance(args, dict) else {}
    cni = args.get("cni")
    return {
        **plugin,
        "args": {**args, "cni": {**(cni if isinstance(cni, dict) else {}), **cni_args}},
    }


def _with_plugins(config: NetworkConfig, plugins: tuple[Mapping[str, Any], ...]) -> NetworkConfig:
    if config.listed:
        return replace(
            config, plugins=plugins, document=replaced(config.document, "plugins", list(plugins))
        )
    document = {**config.document, **plugins[0], "cniVersion": config.version, "name": config.name}
    return replace(config, plugins=plugins, document=document)
