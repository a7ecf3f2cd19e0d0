"""Which plugins a network may name."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.errors import InvalidRequest
from spiderpool.networks.allowed_plugins import can_run, check_plugin_types

MACVLAN: dict[str, Any] = {"type": "macvlan", "ipam": {"type": "spiderpool"}}


@pytest.mark.parametrize("name", ["spiderpool-multus", "multus", "multus-shim"])
@pytest.mark.parametrize(
    "place",
    [
        lambda name: {"type": name, "binDir": "/tmp/evil", "delegates": [{"type": "evil"}]},
        lambda name: {"type": "macvlan", "ipam": {"type": name}},
        # Go's decoder takes the last spelling of a key
        lambda name: {"type": "macvlan", "Type": name},
        lambda name: {"type": "macvlan", "IPAM": {"type": "spiderpool", "TYPE": name}},
        lambda name: {"type": "flannel", "delegate": {"type": name}},
        lambda name: {"type": "other", "x": [{"y": {"type": name}}]},
    ],
)
def test_meta_plugins(name: str, place: Any) -> None:
    """A meta plugin is refused wherever a plugin might pass it on."""
    with pytest.raises(InvalidRequest, match=f"network a/b: plugin {name} is a meta plugin"):
        check_plugin_types([MACVLAN, place(name)], "network a/b")


@pytest.mark.parametrize("name", ["a\0", "../evil", "/bin/sh", "a b", "-c", ".", "x" * 64, "ü"])
def test_names(name: str) -> None:
    """A type is a plain name of a file; the IPAM plugin's too."""
    for plugin in ({"type": name}, {"type": "macvlan", "ipam": {"type": name}}):
        with pytest.raises(InvalidRequest, match="is no name of a CNI plugin"):
            check_plugin_types([plugin], "network a/b")
    assert not can_run(name)


def test_list() -> None:
    """
    With a list only its plugins may be named, IPAM's and delegates' too.

    What is data does not count.
    """
    allowed = {"macvlan", "spiderpool"}
    check_plugin_types([{**MACVLAN, "options": {"type": "data"}}], "network a/b", allowed)

    for plugin in (
        {"type": "bridge"},
        {"type": "macvlan", "ipam": {"type": "dhcp"}},
        {"type": "macvlan", "delegate": {"type": "host-device"}},
        {"type": "macvlan", "delegates": [{"type": "macvlan", "ipam": {"type": "dhcp"}}]},
    ):
        with pytest.raises(
            InvalidRequest, match=r"allowed are macvlan, spiderpool .*allowedPlugins"
        ):
            check_plugin_types([plugin], "network a/b", allowed)


def test_without_list() -> None:
    """Without a list every plain name passes: what the node has decides."""
    check_plugin_types([MACVLAN, {"type": "ib-sriov"}, {"type": "my.plugin_2"}], "network a/b")

    assert can_run("ib-sriov")
    assert not can_run("spiderpool-multus")
