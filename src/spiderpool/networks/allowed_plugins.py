"""
Which CNI plugins a network may name: whatever stands there is executed as root on the node.

Meta plugins are never a network: they would run plugins of their own choice, from folders of their
own choice. Pure.
Source: docs/reference/meta-plugin.md#plugins-that-a-network-may-name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from spiderpool.cni.netconf import META_PLUGINS
from spiderpool.errors import InvalidRequest

# A plain file name: no path, no end mark inside, no option.
PLUGIN_TYPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
# Keys under which plugins of the CNI project name the plugins that they run themselves.
_WITHIN: Final = frozenset({"ipam", "delegate", "delegates", "plugins"})


def can_run(plugin_type: str) -> bool:
    """Return whether a type may be looked for in the folders of plugins at all."""
    return PLUGIN_TYPE.fullmatch(plugin_type) is not None and plugin_type not in META_PLUGINS


def check_plugin_types(
    plugins: Sequence[Mapping[str, Any]], where: str, allowed: Collection[str] = ()
) -> None:
    """
    Refuse a network that names a plugin which it may not.

    Args:
        plugins: the network's plugins, as written.
        where: whose they are, for messages.
        allowed: the plugins that may be named, IPAM plugins too; empty = all but meta plugins.

    Raises:
        InvalidRequest: with the plugin and what to change.
    """
    for plugin in plugins:
        # Go's decoder takes the last of several spellings of a key, whatever their case: every
        # spelling counts. A plugin may pass any part of its configuration on, so that a meta
        # plugin is refused at any depth.
        for name in _texts_named("type", plugin):
            if name in META_PLUGINS:
                raise InvalidRequest(
                    f"{where}: plugin {name} is a meta plugin; name the plugin that makes the "
                    "interface"
                )
        for name in _executed(plugin):
            _check_type(name, where, allowed)


def _check_type(name: str, where: str, allowed: Collection[str]) -> None:
    if not PLUGIN_TYPE.fullmatch(name):
        raise InvalidRequest(
            f"{where}: plugin {name!r} is no name of a CNI plugin: at most 63 letters, digits, "
            "'.', '_' and '-', the first a letter or digit"
        )
    if allowed and name not in allowed:
        raise InvalidRequest(
            f"{where}: plugin {name} is not allowed; allowed are {', '.join(sorted(allowed))} "
            "(chart value multus.allowedPlugins)"
        )


def _executed(plugin: Mapping[str, Any]) -> Iterator[str]:
    """Walk the types that a plugin's configuration has executed: its own, IPAM's, delegates'."""
    waiting: list[Mapping[str, Any]] = [plugin]
    while waiting:
        document = waiting.pop()
        for key, value in document.items():
            folded = key.casefold()
            if folded == "type" and isinstance(value, str) and value:
                yield value
            elif folded in _WITHIN:
                items = value if isinstance(value, list) else [value]
                waiting += [item for item in items if isinstance(item, dict)]


def _texts_named(key: str, document: Mapping[str, Any]) -> Iterator[str]:
    """Walk the texts under a key, at any depth, whatever its letter case."""
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            waiting += value.values()
            yield from (
                text
                for name, text in value.items()
                if isinstance(text, str) and name.casefold() == key
            )
