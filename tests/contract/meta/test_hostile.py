"""
Networks and pods of a hostile tenant.

Nothing of its choice runs, and every pod can be taken down.
"""

from __future__ import annotations

import base64
import time
from typing import Any

import msgspec
import pytest

from spiderpool.agent.multus.plugin_absences import Absences
from spiderpool.api.kubernetes.core import Pod
from spiderpool.errors import DelegateFailed, InvalidRequest, SpiderpoolError
from tests.contract.meta.node import Node, PodNetns

NET = {"cniVersion": "1.0.0", "type": "recorder"}


def evil(host: Node, name: str = "evil") -> Any:
    """Lay out a program that must never run; the result is a file that it would make."""
    folder, mark = host.home / "tenant", host.home / "executed"
    folder.mkdir()
    program = folder / name
    program.write_text(f"#!/bin/sh\ntouch {mark}\n")
    program.chmod(0o755)
    return folder, mark


@pytest.mark.parametrize("place", ["type", "ipam", "spelling"])
async def test_meta_plugin_as_a_network(host: Node, netns: PodNetns, place: str) -> None:
    """A network that is a meta plugin is refused before anything runs, wherever the type stands."""
    folder, mark = evil(host)
    inner = {"binDir": str(folder), "delegates": [{"name": "x", "type": "evil"}]}
    host.define(
        "a",
        {
            "type": {**NET, **inner, "type": "spiderpool-multus"},
            "ipam": {**NET, **inner, "ipam": {"type": "spiderpool-multus"}},
            "spelling": {**NET, **inner, "TYPE": "multus"},
        }[place],
    )
    host.pod("a")

    with pytest.raises(InvalidRequest, match="is a meta plugin"):
        await host.run("ADD", netns=netns.path)

    assert [] == host.calls()
    assert not mark.exists()


@pytest.mark.parametrize("command", ["ADD", "DEL", "STATUS", "GC"])
async def test_folders_of_a_call(host: Node, netns: PodNetns, command: str) -> None:
    """Whatever folders a configuration names, programs come from the agent's, and nothing is kept elsewhere."""
    folder, mark = evil(host, "recorder")
    host.pod("")
    other = {"binDir": str(folder), "cniDir": str(host.home / "else"), "confDir": str(folder)}
    versions: Any = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}

    await host.run("ADD", netns=netns.path)
    if command == "ADD":
        await host.run("DEL", netns=netns.path)
    await host.run(command, netns=netns.path, **other, **versions)

    assert not mark.exists()
    assert not (host.home / "else").exists()


async def test_call_from_below(host: Node, netns: PodNetns) -> None:
    """
    A meta plugin that is called from below a plugin is refused at once.

    DEL and GC have nothing to do.
    """
    host.pod("")
    began = time.monotonic()
    for command in ("ADD", "CHECK", "STATUS"):
        call = host.call(command, netns=netns.path, cniVersion="1.1.0")
        call.env["CNI_CALLED_BY"] = "spiderpool-multus"  # type: ignore[index]
        with pytest.raises(InvalidRequest, match="called by a plugin that it called itself"):
            await host.plugin(call, host.peer)
    for command in ("DEL", "GC"):
        call = host.call(command, netns=netns.path, cniVersion="1.1.0")
        call.env["CNI_CALLED_BY"] = "spiderpool-multus"  # type: ignore[index]
        assert "" == await host.plugin(call, host.peer)

    assert time.monotonic() - began < 5
    assert [] == host.calls()


async def test_plugins_are_told_who_calls(host: Node, netns: PodNetns) -> None:
    """Every plugin gets the mark by which a call from below is known, also for verbs of no container."""
    host.define("cluster", {"cniVersion": "1.1.0", "type": "recorder"}, "spiderpool")
    host.pod("")
    await host.run("ADD", netns=netns.path)
    await host.run("STATUS", cniVersion="1.1.0")

    assert ["spiderpool-multus"] * 2 == [call.env.get("CNI_CALLED_BY") for call in host.calls()]


@pytest.mark.parametrize(
    ("interface", "kind"), [("a\0", "recorder"), ("all", "recorder"), ("", "rec\0order")]
)
async def test_names_at_the_door(host: Node, netns: PodNetns, interface: str, kind: str) -> None:
    """An interface or plugin of an impossible name is refused before anything runs, and DEL succeeds."""
    host.define("a", {**NET, "type": kind})
    host.pod([{"name": "a", "interface": interface}])

    with pytest.raises(InvalidRequest):
        await host.run("ADD", netns=netns.path)
    assert [] == host.calls()
    await host.run("DEL", netns=netns.path)

    assert ["DEL eth0"] == [call.what for call in host.calls()]
    assert [] == host.cached()


async def test_delegate_that_raises_anything(
    host: Node, netns: PodNetns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    DEL of one network never keeps the others, whatever is raised.

    It fails, and can be repeated.
    """
    host.define("a", NET)
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    host.forget_calls()

    def broken(*_: object) -> bytes:
        message = "embedded null byte"
        raise ValueError(message)

    with monkeypatch.context() as patched:
        patched.setattr(
            "spiderpool.agent.multus.delegate_calls.plugin_input",
            lambda config, *_: broken() if config.name == "a" else b'{"name":"cluster"}',
        )
        with pytest.raises(SpiderpoolError, match="ValueError: embedded null byte"):
            await host.run("DEL", netns=netns.path)
    assert ["DEL eth0"] == [call.what for call in host.calls()]

    await host.run("DEL", netns=netns.path)
    assert [] == host.cached()


async def test_damaged_result_does_not_block(host: Node, netns: PodNetns) -> None:
    """Where the list is lost, a kept result that is no configuration is passed over, the others are not."""
    host.define("a", NET)
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    (host.home / "cache" / "c1").unlink()
    file = next((host.home / "cache" / "results").glob("a-*"))
    file.write_text(file.read_text().replace('"config":"', '"config":"e30=","x":"'))
    host.cluster.drop(Pod, "p1", "default")
    host.forget_calls()

    await host.run("DEL", netns=netns.path)

    assert ["DEL eth0"] == [call.what for call in host.calls()]


async def test_executable_is_gone(host: Node, netns: PodNetns) -> None:
    """
    A plugin that is gone blocks DEL for a time, then it is passed over.

    The others have their turn before.
    """
    now = 0.0
    host.plugin._absences = Absences(bearable_s=300, clock=lambda: now)
    host.define("a", {**NET, "type": "second"})
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    (host.home / "bin" / "second").unlink()
    host.forget_calls()

    for now in (0.0, 299.0):  # noqa: B007 - the clock reads it
        with pytest.raises(DelegateFailed, match="program second is in none of"):
            await host.run("DEL", netns=netns.path)
    assert ["DEL eth0"] * 2 == [call.what for call in host.calls()]
    now = 300.0
    await host.run("DEL", netns=netns.path)

    assert [] == host.cached()


async def test_allowed_plugins(host: Node, netns: PodNetns) -> None:
    """
    With a list, networks of pods may name its plugins only.

    The default network is the administrator's.
    """
    host.plugin._node = type(host.plugin._node)(
        str(host.home / "bin"), "", str(host.home / "cache"), frozenset({"second"})
    )
    host.define("a", NET)
    host.define("b", {**NET, "type": "second"})
    host.pod("b", "p1")
    host.pod("a", "p2")

    await host.run("ADD", netns=netns.path)
    assert ["recorder", "second"] == [call.stdin["type"] for call in host.calls()]
    await host.run("DEL", netns=netns.path)
    with pytest.raises(InvalidRequest, match="plugin recorder is not allowed; allowed are second"):
        await host.run("ADD", netns=netns.path, pod="p2", container="c2")


async def test_default_network_of_another_namespace(host: Node, netns: PodNetns) -> None:
    """With isolation the annotation of the default network takes no other namespace's, but the plugin's own."""
    for namespace in ("other", "spiderpool", "default"):
        host.define("a", NET, namespace)
    key = "v1.multus-cni.io/default-network"
    for namespace, name in (("other", "p1"), ("spiderpool", "p2"), ("default", "p3")):
        host.pod("", name, **{key: f"{namespace}/a"})

    isolated: Any = {"namespaceIsolation": True}
    with pytest.raises(InvalidRequest, match="network other/a is in another namespace"):
        await host.run("ADD", netns=netns.path, **isolated)
    for name in ("p2", "p3"):
        await host.run("ADD", netns=netns.path, pod=name, container=name, **isolated)
        await host.run("DEL", netns=netns.path, pod=name, container=name, **isolated)

    await host.run("ADD", netns=netns.path)


@pytest.mark.parametrize("length", [129, 200])
async def test_name_that_no_file_can_have(host: Node, netns: PodNetns, length: int) -> None:
    """A network whose name would be too long for the file of its result is refused, and DEL succeeds."""
    host.define("a", {**NET, "name": "n" * length})
    host.pod("a")

    with pytest.raises(InvalidRequest, match=f"its CNI name has {length} bytes; 128 is the most"):
        await host.run("ADD", netns=netns.path)
    await host.run("DEL", netns=netns.path)

    assert [] == host.cached()


async def test_name_of_former_days(host: Node, netns: PodNetns) -> None:
    """A network with such a name that an earlier version attached can be detached."""
    host.define("a", NET)
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    kept = host.home / "cache" / "c1"
    items = msgspec.json.decode(kept.read_bytes())
    config = msgspec.json.encode({**NET, "name": "n" * 250})
    items[1] |= {"Conf": msgspec.json.decode(config), "Bytes": base64.b64encode(config).decode()}
    kept.write_bytes(msgspec.json.encode(items))
    for file in (host.home / "cache" / "results").glob("a-*"):
        file.unlink()
    host.forget_calls()

    await host.run("DEL", netns=netns.path)

    assert ["DEL net1", "DEL eth0"] == [call.what for call in host.calls()]
    assert [] == host.cached()


async def test_device_that_no_file_can_name(host: Node, netns: PodNetns) -> None:
    """A device with a NUL in its name costs nothing but the information about it."""
    host.define("a", NET)
    host.pod([{"name": "a", "deviceID": "a\0"}])

    await host.run("ADD", netns=netns.path)
    await host.run("DEL", netns=netns.path)

    assert [] == host.cached()


async def test_executable_that_is_none(host: Node, netns: PodNetns) -> None:
    """A file that no kernel executes blocks DEL no longer than one that is gone."""
    now = 0.0
    host.plugin._absences = Absences(bearable_s=300, clock=lambda: now)
    host.define("a", {**NET, "type": "second"})
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    (host.home / "bin" / "second").write_bytes(b"\x7fELF but broken")

    with pytest.raises(DelegateFailed, match="program second does not start"):
        await host.run("DEL", netns=netns.path)
    now = 300.0
    await host.run("DEL", netns=netns.path)

    assert [] == host.cached()
