"""Network configurations: text to plugins' input."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.cni.netconf import (
    ConfFile,
    NetworkConfig,
    candidate_files,
    find_by_name,
    first_network,
    parse_definition,
    parse_file,
    plugin_input,
    with_cni_args,
    with_device,
    with_plugin_files,
)
from spiderpool.errors import InvalidRequest, SpiderpoolError


def definition(document: Any, name: str = "nad") -> NetworkConfig:
    """Read a definition."""
    return parse_definition(msgspec.json.encode(document).decode(), name, "network default/nad")


def given_to(config: NetworkConfig, index: int = 0, **more: Any) -> Any:
    """Return what a plugin reads."""
    return msgspec.json.decode(
        plugin_input(config, index, more.get("capability_args", {}), more.get("prev_result"))
    )


@pytest.mark.parametrize(
    ("document", "name", "types", "listed"),
    [
        ({"type": "a"}, "nad", ["a"], False),
        ({"type": "a", "name": "own"}, "own", ["a"], False),
        ({"Type": "a", "Name": ""}, "nad", ["a"], False),
        ({"plugins": [{"type": "a"}, {"type": "b"}]}, "nad", ["a", "b"], True),
        ({"type": "a", "plugins": [{"type": "b"}]}, "nad", ["a"], False),
        ({"type": "", "plugins": [{"type": "b"}]}, "nad", ["b"], True),
    ],
)
def test_forms(document: dict[str, Any], name: str, types: list[str], listed: bool) -> None:
    """
    A non-empty type makes a single plugin, else there is a list.

    A missing name is the definition's.
    """
    config = definition(document)

    assert (name, listed) == (config.name, config.listed)
    assert types == [plugin.get("type") or plugin.get("Type") for plugin in config.plugins]
    assert name == given_to(config)["name"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"a"', "{}", '{"plugins":[]}', '{"plugins":[{}]}', '{"plugins":[{"type":"a"},{"name":"b"}]}', '{"plugins":[1]}',
     '{"type":"a","name":"not a name"}', '{"type":"a","cniVersion":"3.0.0"}'],
)  # fmt: skip
def test_refused(text: str) -> None:
    """What no plugin can be called with is refused with the network's name."""
    with pytest.raises(SpiderpoolError, match="network default/nad"):
        parse_definition(text, "nad", "network default/nad")


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        ({"type": "../macvlan"}, '"type" is "../macvlan"; write the name of a plugin'),
        ({"ipam": "spiderpool"}, "\"ipam\" is 'spiderpool'; it must be an object"),
        ({"capabilities": ["ips"]}, "\"capabilities\" is ['ips']; it must be an object"),
        ({"capabilities": {"ips": "yes"}}, "capability 'ips' is 'yes'; it must be true or false"),
        ({"args": []}, '"args" is []; it must be an object'),
    ],
)
def test_values_of_a_wrong_shape(plugin: dict[str, Any], words: str) -> None:
    """What would fail in the plugin, or never reach it, is told before it is called."""
    for document in ({"type": "a", **plugin}, {"plugins": [{"type": "a", **plugin}]}):
        with pytest.raises(InvalidRequest) as refusal:
            parse_definition(json.dumps(document), "net", "network ns/net")
        assert words in refusal.value.message


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=5),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_never_crashes(document: Any) -> None:
    """Any JSON is read or refused."""
    with contextlib.suppress(SpiderpoolError):
        assert isinstance(
            definition({"type": document, "plugins": document, "cniVersion": document}),
            NetworkConfig,
        )


@pytest.mark.parametrize(
    ("document", "version"),
    [
        ({"type": "a"}, "0.1.0"),
        ({"type": "a", "cniVersion": "0.3.1"}, "0.3.1"),
        ({"type": "a", "cniVersion": "0.3.1", "cniVersions": ["1.0.0"]}, "0.3.1"),
        ({"plugins": [{"type": "a"}]}, "0.1.0"),
        (
            {
                "plugins": [{"type": "a"}],
                "cniVersion": "0.4.0",
                "cniVersions": ["1.0.0", "1.1.0", "9.9.9"],
            },
            "1.1.0",
        ),
    ],
)
def test_version(document: dict[str, Any], version: str) -> None:
    """
    A list may offer several versions.

    A missing one is the oldest, for every verb.

    Source: docs/reference/meta-plugin.md#networkattachmentdefinition.
    """
    config = definition(document)

    assert version == config.version
    assert version == given_to(config)["cniVersion"]
    assert version == config.document["cniVersion"]


def test_input_of_a_list() -> None:
    """Each plugin keeps its own keys and gets name, version, the earlier result, and the capabilities that it asks for."""
    first = {"type": "a", "capabilities": {"mac": True, "ips": False}, "unknown": {"x": 1}}
    config = definition(
        {
            "cniVersion": "1.0.0",
            "name": "l",
            "plugins": [first, {"type": "b", "capabilities": {"ips": True}}],
        }
    )
    values = {"mac": "m", "ips": ["i"]}

    assert {**first, "name": "l", "cniVersion": "1.0.0", "runtimeConfig": {"mac": "m"}} == given_to(
        config, 0, capability_args=values
    )
    assert {
        "type": "b",
        "capabilities": {"ips": True},
        "name": "l",
        "cniVersion": "1.0.0",
        "runtimeConfig": {"ips": ["i"]},
        "prevResult": {"r": 1},
    } == given_to(config, 1, capability_args=values, prev_result={"r": 1})


def test_cni_args() -> None:
    """`cni-args` are merged into every plugin; existing keys are overwritten, others stay."""
    single = with_cni_args(
        definition({"type": "a", "args": {"cni": {"x": 1, "y": 2}, "other": 3}}), {"x": 9}
    )
    assert {"cni": {"x": 9, "y": 2}, "other": 3} == given_to(single)["args"]

    chain = with_cni_args(definition({"plugins": [{"type": "a"}, {"type": "b"}]}), {"x": 9})
    assert [{"cni": {"x": 9}}] * 2 == [given_to(chain, index)["args"] for index in (0, 1)]
    assert [plugin["args"] for plugin in chain.document["plugins"]] == [{"cni": {"x": 9}}] * 2


def test_device() -> None:
    """A device is named under both keys in every plugin."""
    chain = with_device(
        definition({"plugins": [{"type": "a", "deviceID": "old"}, {"type": "b"}]}), "0000:1"
    )

    assert [("0000:1", "0000:1")] * 2 == [
        (plugin["deviceID"], plugin["pciBusID"]) for plugin in chain.plugins
    ]


def file(name: str, document: Any) -> ConfFile:
    """Make a file."""
    return ConfFile(
        name, document if isinstance(document, str) else msgspec.json.encode(document).decode()
    )


def test_candidates() -> None:
    """Files are looked at in byte order, by suffix only."""
    names = ["b.conf", "a.conflist", "Z.json", "a.conf.bak", "x.yaml", "10-.conf", "é.conf"]

    assert ["10-.conf", "Z.json", "a.conflist", "b.conf", "é.conf"] == candidate_files(names)


def test_find_by_name() -> None:
    """
    The first file whose JSON name it is counts, whatever the file's name.

    Broken ones are passed over and told.
    """
    files = [
        file("00.conf", "{"),
        file("01.conf", {"name": "x"}),
        file("02.conflist", {"name": "y", "plugins": [{"type": "first"}]}),
        file("03.conf", {"name": "y", "type": "second"}),
    ]

    assert "first" == find_by_name(files, "y", "/d").plugins[0]["type"]
    with pytest.raises(InvalidRequest) as refusal:
        find_by_name(files, "z", "/d")
    assert "no CNI configuration named z in /d (4 files); /d/00.conf: " in refusal.value.message


def test_first_of_a_folder() -> None:
    """An empty name takes the first file that does not call a meta plugin: that would never end."""
    files = [
        file("00.conflist", {"name": "m", "plugins": [{"type": "spiderpool-multus"}]}),
        file("00-multus.conf", {"name": "m", "type": "multus"}),
        file("10.conf", {"name": "x", "type": "ptp"}),
    ]

    assert "x" == find_by_name(files, "", "/d").name


def test_suffix_decides() -> None:
    """A `.conflist` is read as a list, other files as a single plugin."""
    both = {"name": "n", "type": "a", "plugins": [{"type": "b"}]}

    assert "b" == parse_file(file("x.conflist", both), "x").plugins[0]["type"]
    assert "a" == parse_file(file("x.json", both), "x").plugins[0]["type"]


def test_plugin_files() -> None:
    """A list's own folder adds plugins, unless the list wants only its own."""
    extra = [file("1.conf", {"type": "b"})]
    config = definition({"plugins": [{"type": "a"}]})
    assert ["a", "b"] == [
        plugin["type"] for plugin in with_plugin_files(config, extra, "/d").plugins
    ]

    alone = definition({"plugins": [{"type": "a"}], "loadOnlyInlinedPlugins": True})
    assert ["a"] == [plugin["type"] for plugin in with_plugin_files(alone, extra, "/d").plugins]


@pytest.mark.parametrize(
    ("value", "off"), [(True, True), ("true", True), (False, False), ("no", False), (None, False)]
)
def test_switches(value: Any, off: bool) -> None:
    """`disableCheck` and `disableGC` are booleans, or text as some lists have it."""
    assert off is definition({"plugins": [{"type": "a"}], "disableGC": value}).switched_off(
        "disableGC"
    )


def test_first_network() -> None:
    """The first file that can be read and is no meta plugin's gives the node's own network."""
    texts = {
        "00-multus.conf": '{"name":"multus-cni-network","type":"multus"}',
        "01-broken.conf": "{",
        "10-calico.conflist": '{"name":"k8s-pod-network","plugins":[{"type":"calico"}]}',
        "20-other.conf": '{"name":"other","type":"bridge"}',
        "05-notes.txt": "no configuration",
    }
    found = first_network(texts)

    assert found is not None
    assert "k8s-pod-network" == found.name
    assert first_network({"01-broken.conf": "{"}) is None
