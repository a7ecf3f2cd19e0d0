"""The node's share of the installation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec
import pytest

from spiderpool.agent.concurrency.supervisor import Supervisor
from spiderpool.agent.node import installation
from spiderpool.agent.node.installation import (
    CONF_FILE,
    FOREIGN_MULTUS,
    DaemonSet,
    MetaPlugin,
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
from tests.unit.agent.node.tokens import token_of

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
        "SPIDERPOOL_PLUGIN_DIR": str(home / "plugins"),
        "SPIDERPOOL_INSTALLED_FILES": str(home / "state/spiderpool/installed.json"),
        "SPIDERPOOL_SERVICE_ACCOUNT_DIR": str(home / "account"),
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "KUBERNETES_SERVICE_PORT": "443",
    }
    return NodeInstaller(read_install_settings({**base, **environ}), str(home / "x.sock"))


def files(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def test_off_by_default() -> None:
    """Outside a pod nothing is installed unless asked for; places are the usual ones."""
    settings = read_install_settings({})

    assert (False, MetaPlugin.NONE, ()) == (settings.wanted, settings.meta_plugin, settings.plugins)
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


BUILTIN = {"SPIDERPOOL_BUILTIN_MULTUS": "true"}
MULTUS = {"SPIDERPOOL_BUILTIN_MULTUS": "false", "SPIDERPOOL_INSTALL_MULTUS": "true"}
NEITHER = {"SPIDERPOOL_BUILTIN_MULTUS": "false", "SPIDERPOOL_INSTALL_MULTUS": "false"}


def node(home: Path) -> None:
    """Make a node with a CNI configuration, an agent's account and an image with plugins."""
    for folder in ("bin", "net.d", "account", "plugins"):
        (home / folder).mkdir()
    (home / "net.d/10-calico.conflist").write_text(
        '{"name": "k8s-pod-network", "plugins": [{"type": "calico", "ipam": {"type": "static"}}]}'
    )
    (home / "account/token").write_text(token_of("release", "spiderpool-agent"))
    (home / "account/ca.crt").write_text("the CA")
    for name in ("macvlan", "static", "loopback"):
        (home / "plugins" / name).write_text(f"{name} 1")


async def run_agent(home: Path, done: Callable[[], bool], **environ: str) -> NodeInstaller:
    """Let an agent start, as after an upgrade, and work until something is so; return it."""
    if environ.get("SPIDERPOOL_INSTALL_MULTUS") == "true":
        for name in ("multus", "passthru"):  # the init container's work
            (home / "bin" / name).write_text(f"{name} 1")
    mine = installer(home, **environ)
    mine.install_executables()
    task = asyncio.create_task(mine.keep_configured())
    async with asyncio.timeout(1.5):
        while not done():
            await asyncio.sleep(0.005)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return mine


def has_files(home: Path, expected: tuple[list[str], list[str]]) -> bool:
    """Return whether the node has these configurations and executables."""
    return expected == (files(home / "net.d"), files(home / "bin"))


SWITCHES = {
    "builtin": (BUILTIN, [CONF_FILE], ["spiderpool-multus"]),
    "multus": (MULTUS, ["00-multus.conf", "multus.d"], ["multus", "passthru"]),
    "neither": (NEITHER, [], []),
}


@pytest.mark.parametrize("first", SWITCHES)
@pytest.mark.parametrize("second", SWITCHES)
async def test_switching(tmp_path: Path, first: str, second: str) -> None:
    """
    From each way of joining networks to each other one, what the former put on the node goes.

    So does everything in the end, but for what others put there.
    """
    node(tmp_path)
    mine = installer(tmp_path)
    for mode in (first, second):
        environ, conf, executables = SWITCHES[mode]
        expected = (
            sorted([*conf, "10-calico.conflist"]),
            sorted([*executables, ".spiderpool-socket", "coordinator", "ifacer", "spiderpool"]),
        )
        mine = await run_agent(tmp_path, partial(has_files, tmp_path, expected), **environ)

    mine.remove_all()
    assert ["10-calico.conflist"] == files(tmp_path / "net.d")
    assert [] == files(tmp_path / "bin")
    assert [] == files(tmp_path / "state")


async def test_multus_of_somebody_else(tmp_path: Path) -> None:
    """Another installation of Multus keeps its files: neither written over nor removed, and the log says so."""
    node(tmp_path)
    theirs = tmp_path / "net.d/00-multus.conf"
    theirs.write_text(
        msgspec.json.encode(
            {"kubeconfig": str(tmp_path / "net.d/multus.d/multus.kubeconfig")}
        ).decode()
    )
    (tmp_path / "net.d/multus.d").mkdir()
    secret = tmp_path / "net.d/multus.d/multus.kubeconfig"
    secret.write_text(f'users: [{{}}]\n    token: "{token_of("kube-system", "multus")}"\n')
    before = (theirs.read_text(), secret.read_text())

    for environ in (MULTUS, NEITHER, BUILTIN):
        mine = await run_agent(tmp_path, lambda: True, **environ)
        for _ in range(2):
            mine._configure()
        assert (mine._configure() == FOREIGN_MULTUS) == (environ != NEITHER)
    mine.remove_all()
    assert before == (theirs.read_text(), secret.read_text())


async def test_changed_values_of_multus(tmp_path: Path) -> None:
    """Another log level, another default network, another token: the files on the node follow."""
    node(tmp_path)
    conf, secret = tmp_path / "net.d/00-multus.conf", tmp_path / "net.d/multus.d/multus.kubeconfig"

    def has(file: Path, text: str) -> Callable[[], bool]:
        return lambda: file.exists() and text in file.read_text()

    await run_agent(tmp_path, has(conf, '"clusterNetwork": "k8s-pod-network"'), **MULTUS)
    assert "logLevel" not in conf.read_text()
    await run_agent(
        tmp_path,
        has(conf, '"logLevel": "verbose"'),
        SPIDERPOOL_DEFAULT_CNI="other",
        SPIDERPOOL_MULTUS_LOG_LEVEL="verbose",
        **MULTUS,
    )
    assert '"clusterNetwork": "other"' in conf.read_text()
    renewed = token_of("release", "spiderpool-agent", "renewed")
    (tmp_path / "account/token").write_text(renewed)
    await run_agent(tmp_path, has(secret, renewed), **MULTUS)
    assert 0o600 == secret.stat().st_mode & 0o777


def test_plugins(tmp_path: Path) -> None:
    """
    Plugins are installed where they are missing, and replaced when the image has newer ones.

    A file of somebody else's stays as it is. Removal takes ours, but not what the node's own
    networks call, nor `loopback`, which the runtime calls for every pod.
    """
    node(tmp_path)
    bin_dir = tmp_path / "bin"
    (bin_dir / "bridge").write_text("the distribution's")
    (tmp_path / "plugins/bridge").write_text("bridge 1")
    mine = installer(tmp_path, SPIDERPOOL_CNI_PLUGINS="macvlan,bridge,static,loopback")

    mine.install_executables()
    assert "macvlan 1" == (bin_dir / "macvlan").read_text()
    (tmp_path / "plugins/macvlan").write_text("macvlan 2")
    mine.install_executables()
    assert "macvlan 2" == (bin_dir / "macvlan").read_text()
    assert 0o755 == (bin_dir / "macvlan").stat().st_mode & 0o777
    assert "the distribution's" == (bin_dir / "bridge").read_text()

    mine.remove_all()
    assert ["bridge", "loopback", "static"] == files(bin_dir)


def test_plugin_that_was_replaced(tmp_path: Path) -> None:
    """A plugin of ours in whose place somebody put another one is not ours any more."""
    node(tmp_path)
    mine = installer(tmp_path, SPIDERPOOL_CNI_PLUGINS="macvlan")
    mine.install_executables()
    (tmp_path / "bin/macvlan").write_text("the distribution's")

    mine.install_executables()
    mine.remove_all()
    assert "the distribution's" == (tmp_path / "bin/macvlan").read_text()


def test_plugin_that_is_not_in_the_image(tmp_path: Path) -> None:
    """A plugin that the image lacks is told."""
    node(tmp_path)
    with pytest.raises(InvalidRequest, match=r"plugins/ovs: No such file"):
        installer(tmp_path, SPIDERPOOL_CNI_PLUGINS="ovs").install_executables()


def test_record_that_cannot_be_read(tmp_path: Path) -> None:
    """Without its record nothing is known to be ours, so nothing of doubt is removed."""
    node(tmp_path)
    mine = installer(tmp_path, SPIDERPOOL_CNI_PLUGINS="macvlan")
    mine.install_executables()
    (tmp_path / "state/spiderpool/installed.json").write_text("{")
    mine.remove_all()
    assert ["macvlan"] == files(tmp_path / "bin")


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


@pytest.mark.parametrize(
    "environ", [{"SPIDERPOOL_INSTALL_CNI": "false"}, {"SPIDERPOOL_BUILTIN_MULTUS": "false"}]
)
async def test_nothing_to_configure_is_no_failure(tmp_path: Path, environ: dict[str, str]) -> None:
    """An agent without a meta plugin of its own lives: the liveness probe has nothing to say."""
    restarts: list[str] = []
    supervisor = Supervisor(restarts.append)
    supervisor.start("CNI configuration", installer(tmp_path, **environ).keep_configured)

    await asyncio.sleep(3600)

    assert ("", []) == (supervisor.trouble, restarts)
    await supervisor.stop()
