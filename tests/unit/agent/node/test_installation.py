"""The node's share of the installation."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from spiderpool.agent.node import installation
from spiderpool.agent.node.installation import (
    CONF_FILE,
    DaemonSet,
    NodeInstaller,
    find_default_network,
    is_being_removed,
    read_install_settings,
)
from spiderpool.api.kubernetes.core import Pod
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.configuration.config import MultusSettings
from spiderpool.errors import InvalidRequest, SpiderpoolError, Unreachable
from tests.fakes.cluster import FakeCluster

ALL = [".spiderpool-socket", "coordinator", "ifacer", "spiderpool", "spiderpool-multus"]


def installer(home: Path, **environ: str) -> NodeInstaller:
    """Make an installer for folders of a test."""
    (home / "shim").write_bytes(b"shim 1")
    base = {
        "SPIDERPOOL_INSTALL_CNI": "true",
        "SPIDERPOOL_BUILTIN_MULTUS": "true",
        "SPIDERPOOL_SHIM_PATH": str(home / "shim"),
        "SPIDERPOOL_CNI_BIN_DIR": str(home / "bin"),
        "SPIDERPOOL_CNI_CONF_DIR": str(home / "net.d"),
        "SPIDERPOOL_MULTUS_NAMESPACE": "release",
    }
    return NodeInstaller(read_install_settings({**base, **environ}), str(home / "x.sock"))


def files(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_off_by_default() -> None:
    """Outside a pod nothing is installed unless asked for; places are the usual ones."""
    settings = read_install_settings({})

    assert (False, False) == (settings.wanted, settings.meta_plugin)
    assert ("/usr/lib/spiderpool/cni", "/opt/cni/bin", "/etc/cni/net.d") == (
        str(settings.shim),
        str(settings.bin_dir),
        str(settings.conf_dir),
    )
    with pytest.raises(InvalidRequest, match="SPIDERPOOL_INSTALL_CNI"):
        read_install_settings({"SPIDERPOOL_INSTALL_CNI": "yes please"})


def test_executables(tmp_path: Path) -> None:
    """The executable is there under all its names, can be run, and is replaced when it changed."""
    mine = installer(tmp_path)
    mine.install_executables()

    assert ALL == files(tmp_path / "bin")
    assert {0o755} == {(tmp_path / "bin" / name).stat().st_mode & 0o777 for name in ALL[1:]}
    before = (tmp_path / "bin" / "spiderpool").stat().st_ino
    mine.install_executables()
    assert before == (tmp_path / "bin" / "spiderpool").stat().st_ino

    (tmp_path / "shim").write_bytes(b"shim 2")
    mine.install_executables()
    assert {b"shim 2"} == {(tmp_path / "bin" / name).read_bytes() for name in ALL[1:]}


def test_executables_know_the_socket(tmp_path: Path) -> None:
    """Where the agent does not listen at the usual place, a file beside the executables says so."""
    file = tmp_path / "bin" / ".spiderpool-socket"
    mine = installer(tmp_path)
    mine.install_executables()
    assert f"{tmp_path}/x.sock\n" == file.read_text()

    NodeInstaller(mine.settings).install_executables()
    assert not file.exists()


def test_without_meta_plugin(tmp_path: Path) -> None:
    """When the meta plugin was switched off its executable and configuration go."""
    installer(tmp_path).install_executables()
    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d" / CONF_FILE).write_text("{}")

    installer(tmp_path, SPIDERPOOL_BUILTIN_MULTUS="false").install_executables()

    assert ALL[:-1] == files(tmp_path / "bin")
    assert [] == files(tmp_path / "net.d")


def test_no_shim(tmp_path: Path) -> None:
    """An image without the executable is told in one sentence."""
    mine = installer(tmp_path)
    (tmp_path / "shim").unlink()

    with pytest.raises(InvalidRequest, match="SPIDERPOOL_SHIM_PATH"):
        mine.install_executables()


def test_nothing_when_not_wanted(tmp_path: Path) -> None:
    """An agent that installs nothing removes nothing."""
    installer(tmp_path).install_executables()
    other = installer(tmp_path, SPIDERPOOL_INSTALL_CNI="false")

    other.install_executables()
    other.remove_all()

    assert ALL == files(tmp_path / "bin")


async def configured(mine: NodeInstaller, home: Path) -> dict[str, object]:
    """Let the installer work until a configuration is there."""
    task = asyncio.create_task(mine.keep_configured())
    async with asyncio.timeout(1.5):
        while not (home / "net.d" / CONF_FILE).exists():
            await asyncio.sleep(0.01)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    document: dict[str, object] = msgspec.json.decode((home / "net.d" / CONF_FILE).read_bytes())
    return document


async def test_isolation(tmp_path: Path) -> None:
    """What the configuration says about namespaces is what Multus' keys say."""
    mine = replace(
        installer(tmp_path, SPIDERPOOL_DEFAULT_CNI="calico"),
        multus=MultusSettings(namespace_isolation=True, global_namespaces=("default", "shared")),
    )
    document = await configured(mine, tmp_path)

    plugin = document["plugins"][0]  # type: ignore[index]
    assert (True, "default,shared") == (plugin["namespaceIsolation"], plugin["globalNamespaces"])


async def test_configuration(tmp_path: Path) -> None:
    """
    The configuration names the default network that it was told, and where everything is.

    It is secret.
    """
    document = await configured(installer(tmp_path, SPIDERPOOL_DEFAULT_CNI="calico"), tmp_path)

    assert {
        "cniVersion": "1.0.0",
        "cniVersions": ["1.0.0", "1.1.0"],
        "name": "multus-cni-network",
        "plugins": [
            {
                "type": "spiderpool-multus",
                "capabilities": {"portMappings": True, "bandwidth": True},
                "clusterNetwork": "calico",
                "confDir": str(tmp_path / "net.d"),
                "cniDir": "/var/lib/cni/multus",
                "binDir": str(tmp_path / "bin"),
                "multusNamespace": "release",
                "namespaceIsolation": False,
                "globalNamespaces": "",
                "defaultNetworks": [],
                "systemNamespaces": [],
                "ipam_unix_socket_path": str(tmp_path / "x.sock"),
            }
        ],
    } == document
    assert 0o600 == (tmp_path / "net.d" / CONF_FILE).stat().st_mode & 0o777
    assert [CONF_FILE] == files(tmp_path / "net.d")


async def test_waits_for_the_default_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Without a default network it waits for somebody's configuration.

    A node that has none must stay without.
    """
    monkeypatch.setattr(installation, "_LOOK_AGAIN_S", 0.02)
    task = asyncio.create_task(installer(tmp_path).keep_configured())
    await asyncio.sleep(0.1)
    assert [] == files(tmp_path / "net.d")

    (tmp_path / "net.d").mkdir()
    (tmp_path / "net.d" / "10-flannel.conflist").write_text(
        '{"name":"cbr0","plugins":[{"type":"flannel"}]}'
    )
    async with asyncio.timeout(1.5):
        while CONF_FILE not in files(tmp_path / "net.d"):
            await asyncio.sleep(0.01)
    (tmp_path / "net.d" / CONF_FILE).unlink()
    async with asyncio.timeout(1.5):
        while CONF_FILE not in files(tmp_path / "net.d"):
            await asyncio.sleep(0.01)
    task.cancel()

    document = msgspec.json.decode((tmp_path / "net.d" / CONF_FILE).read_bytes())
    assert "cbr0" == document["plugins"][0]["clusterNetwork"]


def test_default_network(tmp_path: Path) -> None:
    """
    The first configuration that is nobody's meta plugin tells the default network.

    Broken ones are passed over.
    """
    assert "" == find_default_network(tmp_path / "missing")
    for name, text in {
        "00-multus.conf": '{"name":"multus-cni-network","type":"multus"}',
        CONF_FILE: '{"name":"multus-cni-network","plugins":[{"type":"spiderpool-multus"}]}',
        "05-broken.conf": "{",
        "06-notes.txt": '{"name":"x","type":"x"}',
        "20-b.conf": '{"name":"second","type":"ptp"}',
        "10-a.conflist": '{"name":"first","plugins":[{"type":"ptp"}]}',
    }.items():
        (tmp_path / name).write_text(text)

    assert "first" == find_default_network(tmp_path)


def test_removal(tmp_path: Path) -> None:
    """Removal takes what was installed and nothing else, also a second time."""
    mine = installer(tmp_path)
    mine.install_executables()
    (tmp_path / "bin" / "macvlan").touch()
    (tmp_path / "net.d").mkdir()
    for name in (CONF_FILE, "10-a.conflist"):
        (tmp_path / "net.d" / name).touch()
    (tmp_path / "x.sock").touch()

    for _ in range(2):
        mine.remove_all()

    assert not (tmp_path / "x.sock").exists()
    assert ["macvlan"] == files(tmp_path / "bin")
    assert ["10-a.conflist"] == files(tmp_path / "net.d")


def cluster_with(daemon_set: DaemonSet | None, owner_uid: str = "u1") -> FakeCluster:
    """An API server with an agent's pod and its DaemonSet."""
    cluster = FakeCluster()
    owner = OwnerReference(
        api_version="apps/v1", kind="DaemonSet", name="agent", uid=owner_uid, controller=True
    )
    cluster.seed(
        Pod(metadata=ObjectMeta(name="agent-1", namespace="ns", owner_references=(owner,)))
    )
    if daemon_set is not None:
        cluster.seed(daemon_set)
    return cluster


def daemon_set(**meta: str) -> DaemonSet:
    """A DaemonSet."""
    return DaemonSet(metadata=ObjectMeta(name="agent", namespace="ns", uid="u1", **meta))  # type: ignore[arg-type]


async def test_restart_or_end() -> None:
    """
    Only when the DaemonSet is being deleted, is gone or is another one, this is the end.

    A doubt is an error.
    """
    assert not await is_being_removed(cluster_with(daemon_set()), "ns", "agent-1")
    going = cluster_with(daemon_set(deletion_timestamp="2026-01-01T00:00:00Z"))
    assert await is_being_removed(going, "ns", "agent-1")
    assert await is_being_removed(cluster_with(None), "ns", "agent-1")
    assert await is_being_removed(cluster_with(daemon_set(), owner_uid="u0"), "ns", "agent-1")

    doubtful = cluster_with(daemon_set())
    doubtful.faults.fail_next("get", DaemonSet, Unreachable("down"))
    with pytest.raises(SpiderpoolError):
        await is_being_removed(doubtful, "ns", "agent-1")


async def test_pod_without_daemon_set() -> None:
    """An agent that no DaemonSet made removes nothing."""
    cluster = FakeCluster()
    cluster.seed(Pod(metadata=ObjectMeta(name="agent-1", namespace="ns")))

    assert not await is_being_removed(cluster, "ns", "agent-1")
