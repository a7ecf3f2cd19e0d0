"""The meta plugin's ADD and DEL, with plugins that keep what they are given."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import msgspec
import pytest

from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition, Pod
from spiderpool.errors import (
    BadEnvironment,
    Conflict,
    DelegateFailed,
    InvalidRequest,
    NotFound,
    SpiderpoolError,
    TryAgain,
    Unreachable,
)
from tests.contract.meta.node import Node, PodNetns, pod_netns
from tests.fakes.objects import make_pod

NET = {"cniVersion": "1.0.0", "type": "recorder"}


async def test_order_and_input_of_delegates(host: Node, netns: PodNetns) -> None:
    """
    ADD runs the default network first, then those of the pod in its order.

    DEL runs them backwards with the same input.
    """
    host.define("a", {**NET, "capabilities": {"mac": True, "portMappings": True}})
    host.define(
        "b",
        {
            "cniVersion": "1.0.0",
            "plugins": [{"type": "recorder", "x-own": [1]}, {"type": "second"}],
        },
        "other",
    )
    ports = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]
    element = {"name": "a", "interface": "in0", "mac": "02:00:00:00:00:01", "portMappings": ports}
    host.pod([element, {"name": "b", "namespace": "other"}])

    await host.run("ADD", netns=netns.path)

    added = host.calls()
    assert ["ADD eth0", "ADD in0", "ADD net2", "ADD net2"] == [call.what for call in added]
    assert {"mac": "02:00:00:00:00:01", "portMappings": ports} == added[1].stdin["runtimeConfig"]
    assert ["recorder", "second"] == [call.stdin["type"] for call in added[2:]]
    assert [1] == added[2].stdin["x-own"]
    assert "prevResult" not in added[2].stdin
    assert "net2" == added[3].stdin["prevResult"]["interfaces"][0]["name"]

    host.forget_calls()
    host.cluster.drop(NetworkAttachmentDefinition, "a", "default")
    host.cluster.drop(Pod, "p1", "default")
    host.cluster.faults.down = True
    await host.run("DEL", netns=netns.path)

    deleted = host.calls()
    assert ["DEL net2", "DEL net2", "DEL in0", "DEL eth0"] == [call.what for call in deleted]
    assert [without(call.stdin, "prevResult") for call in added] == [
        without(call.stdin, "prevResult")
        for call in (deleted[3], deleted[2], deleted[1], deleted[0])
    ]
    assert "in0" == deleted[2].stdin["prevResult"]["interfaces"][0]["name"]
    assert [] == host.cached()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    """Copy an object without one key."""
    return {name: value for name, value in document.items() if name != key}


async def test_arguments_of_delegates(host: Node, netns: PodNetns) -> None:
    """
    A delegate sees the pod's keys and foreign ones exactly once, a value may hold '='.

    MAC and IP come on ADD only.
    """
    host.define("a", NET)
    host.pod([{"name": "a", "mac": "02:00:00:00:00:01", "ips": ["10.6.0.9/16", "fd00::9"]}])
    args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p1;K8S_POD_INFRA_CONTAINER_ID=;K8S_POD_UID=uid-p1;X=a=b"

    await host.run("ADD", netns=netns.path, args=args)
    await host.run("DEL", netns=netns.path, args=args)

    pod = [
        ("IgnoreUnknown", "true"),
        ("K8S_POD_NAMESPACE", "default"),
        ("K8S_POD_NAME", "p1"),
        ("K8S_POD_INFRA_CONTAINER_ID", ""),
        ("K8S_POD_UID", "uid-p1"),
        ("X", "a=b"),
    ]
    asked = [("MAC", "02:00:00:00:00:01"), ("IP", "10.6.0.9/16,fd00::9")]
    assert [pod, pod + asked, pod, pod] == [call.args for call in host.calls()]
    assert f"{host.home}/bin:/nowhere" == host.calls()[0].env["CNI_PATH"]


async def test_second_fails(host: Node, netns: PodNetns) -> None:
    """When a network fails, it and those before it are deleted again, and its own code and words are passed on."""
    for name in ("a", "b", "c"):
        host.define(name, NET)
    host.pod("a,b,c")
    host.fail("ADD-net2", 11, "no address yet")

    with pytest.raises(DelegateFailed, match="no address yet") as failure:
        await host.run("ADD", netns=netns.path)

    assert 11 == failure.value.cni_code
    assert failure.value.message.startswith(
        '[default/p1/uid-p1:default/b]: error adding container to network "b": '
    )
    assert ["ADD eth0", "ADD net1", "ADD net2", "DEL net2", "DEL net1", "DEL eth0"] == [
        call.what for call in host.calls()
    ]
    assert await host.status() is None
    assert ["c1"] == host.cached()


async def test_status_cannot_be_written(host: Node, netns: PodNetns) -> None:
    """When the pod was replaced meanwhile, its networks are taken back and the runtime may try again."""
    host.pod()
    host.cluster.faults.fail_next(
        "patch", Pod, Conflict("the UID in the precondition is another one")
    )

    with pytest.raises(TryAgain, match="replaced"):
        await host.run("ADD", netns=netns.path)

    assert ["ADD eth0", "DEL eth0"] == [call.what for call in host.calls()]


async def test_pod_vanishes_before_the_status(host: Node, netns: PodNetns) -> None:
    """A pod that is gone when its status is written is no failure."""
    host.pod()
    host.cluster.faults.fail_next("patch", Pod, NotFound('pods "p1" not found'))

    assert "eth0" in await host.run("ADD", netns=netns.path)


async def test_pod_gone(host: Node, netns: PodNetns) -> None:
    """
    ADD for a pod that does not exist attaches nothing and gives the placeholder.

    Source: docs/reference/meta-plugin.md#networks-of-a-pod.
    """
    result = msgspec.json.decode(await host.run("ADD", netns=netns.path))

    assert {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": netns.path}],
        "ips": [{"interface": 0, "address": "0.0.0.0/32", "gateway": "0.0.0.0"}],  # noqa: S104
        "dns": {},
    } == result
    assert [] == host.calls()
    assert [] == host.cached()


async def test_other_uid(host: Node, netns: PodNetns) -> None:
    """ADD for a pod that was replaced is refused; a static pod's UID differs by nature."""
    host.pod()
    with pytest.raises(TryAgain, match="has UID uid-p1, the call is for old"):
        await host.run("ADD", netns=netns.path, uid="old")
    assert [] == host.calls()

    host.pod(name="claims", **{"kubernetes.io/config.source": "file"})
    with pytest.raises(TryAgain, match="has UID uid-claims, the call is for old"):
        await host.run("ADD", netns=netns.path, pod="claims", uid="old")
    host.cluster.seed(make_pod("static", "default", "api", mirror="of-the-file"))
    await host.run("ADD", netns=netns.path, pod="static", uid="of-the-file")
    assert "spiderpool/cluster" == (await host.status("static"))[0]["name"]


async def test_slow_api_server(host: Node, netns: PodNetns) -> None:
    """An API server that does not answer for a moment is asked again."""
    host.pod()
    host.cluster.faults.fail_next("get", Pod, Unreachable("connection refused"), times=2)

    assert "eth0" in await host.run("ADD", netns=netns.path)


async def test_second_add(host: Node, netns: PodNetns) -> None:
    """A second ADD for a living container is refused, and its network stays."""
    host.pod()
    await host.run("ADD", netns=netns.path)
    kept = host.cached()
    netns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "other")
    host.forget_calls()

    with pytest.raises(BadEnvironment, match="eth0 is in the container already"):
        await host.run("ADD", netns=netns.path)

    assert [] == host.calls()
    assert kept == host.cached()


@pytest.mark.parametrize("networks", ["a@net2,b", "a@x,b@x", "a@eth0"])
async def test_names_collide(host: Node, netns: PodNetns, networks: str) -> None:
    """Two networks with one interface name are refused before anything is attached."""
    host.define("a", NET)
    host.define("b", NET)
    host.pod(networks)

    with pytest.raises(InvalidRequest, match="would both be interface"):
        await host.run("ADD", netns=netns.path)

    assert [] == host.calls()
    assert [] == host.cached()


@pytest.mark.parametrize(
    "networks",
    ["a,", "ns/", "@x", "a@b@c", "a/b/c", "a@my if", '{"name":"a"}', '["a"]', "[null]", "[{}]"],
)
async def test_malformed_selection(host: Node, netns: PodNetns, networks: str) -> None:
    """A malformed annotation fails ADD before anything is attached, with an Event on the pod."""
    host.define("a", NET)
    host.pod(networks)

    with pytest.raises(InvalidRequest, match="wrong input: annotation") as refusal:
        await host.run("ADD", netns=netns.path)

    assert [("p1", "WrongInput", refusal.value.message)] == list(host.reported.events)
    assert [] == host.calls()


async def test_no_such_network(host: Node, netns: PodNetns) -> None:
    """A network that does not exist fails ADD, with an Event on the pod."""
    host.pod("missing")

    with pytest.raises(
        SpiderpoolError,
        match="network default/missing: there is no such NetworkAttachmentDefinition",
    ):
        await host.run("ADD", netns=netns.path)

    assert [("p1", "NoNetworkFound")] == [event[:2] for event in host.reported.events]
    assert [] == host.calls()


async def test_delete_goes_on(host: Node, netns: PodNetns) -> None:
    """DEL deletes every network although one fails, says so, and a retry is no silent success."""
    host.define("a", NET)
    host.define("b", NET)
    host.pod("a,b")
    await host.run("ADD", netns=netns.path)
    host.forget_calls()
    host.fail("DEL-net1", 7, "stuck")

    for _ in range(2):
        with pytest.raises(
            DelegateFailed, match="network default/a, interface net1: plugin recorder: stuck"
        ) as failure:
            await host.run("DEL", netns=netns.path)
        assert 7 == failure.value.cni_code

    assert ["DEL net2", "DEL net1", "DEL eth0"] * 2 == [call.what for call in host.calls()]
    host.heal()
    await host.run("DEL", netns=netns.path)
    assert [] == host.cached()


async def test_delete_of_what_never_was(host: Node, netns: PodNetns) -> None:
    """
    A network whose ADD fails for good does not keep its pod from going: DEL tries all its plugins and succeeds.

    Unless the plugin says "try again later".
    """
    host.define(
        "a", {"cniVersion": "1.0.0", "plugins": [{"type": "recorder"}, {"type": "not-installed"}]}
    )
    host.define("b", NET)
    host.pod("b,a")
    host.fail("ADD-net1", 7, "wrong config")
    host.fail("DEL-net1", 7, "wrong config")
    with pytest.raises(DelegateFailed, match="wrong config"):
        await host.run("ADD", netns=netns.path)
    host.forget_calls()

    await host.run("DEL", netns=netns.path)

    assert ["DEL net2", "DEL net1", "DEL eth0"] == [call.what for call in host.calls()]
    assert [] == host.cached()

    with pytest.raises(DelegateFailed):
        await host.run("ADD", netns=netns.path)
    host.fail("DEL-net1", 11, "agent is away")
    with pytest.raises(DelegateFailed, match="agent is away"):
        await host.run("DEL", netns=netns.path)


@pytest.mark.parametrize("damage", [b"", b"[]", b'[{"Conf":{"na', b"{}", b"[1]"])
async def test_damaged_cache(host: Node, netns: PodNetns, damage: bytes) -> None:
    """A damaged list of delegates is rebuilt from what is kept of each, with the API server away and the pod gone."""
    host.define("a", {**NET, "x-own": 1})
    host.pod("a")
    await host.run("ADD", netns=netns.path)
    (host.home / "cache" / "c1").write_bytes(damage)
    host.forget_calls()
    host.cluster.faults.down = True

    await host.run("DEL", netns=netns.path)

    assert ["DEL net1", "DEL eth0"] == [call.what for call in host.calls()]
    assert 1 == host.calls(network="a")[0].stdin["x-own"]
    assert [] == host.cached()


async def test_no_cache(host: Node, netns: PodNetns) -> None:
    """
    Without any record DEL asks the pod.

    A pod whose networks cannot be found gets DEL of the default network.
    """
    host.define("a", NET)
    host.pod("a")
    await host.run("DEL", netns=netns.path)
    assert ["DEL net1", "DEL eth0"] == [call.what for call in host.calls()]

    host.forget_calls()
    host.cluster.drop(NetworkAttachmentDefinition, "a", "default")
    await host.run("DEL", netns=netns.path)
    assert ["DEL eth0"] == [call.what for call in host.calls()]


async def test_unknown_container(host: Node) -> None:
    """DEL of a container that nobody knows succeeds and does nothing, also without API server and network namespace."""
    host.cluster.faults.down = True

    assert "" == await host.run("DEL")
    assert [] == host.calls()


async def test_cache_of_multus(host: Node, netns: PodNetns) -> None:
    """
    DEL uses the list that Multus left.

    Source: docs/reference/meta-plugin.md#failure-del-check-status-gc.
    """
    first = {"cniVersion": "0.3.1", "name": "calico", "plugins": [{"type": "recorder", "k": 1}]}
    second = {"cniVersion": "0.3.1", "name": "mac", "type": "recorder"}
    items = [
        {
            "Conf": {"cniVersion": "0.3.1", "name": "", "ipam": {}, "dns": {}},
            "ConfList": {
                "cniVersion": "0.3.1",
                "name": "calico",
                "plugins": [{"type": "recorder"}],
            },
            "Name": "calico",
            "IsFilterV4Gateway": False,
            "IsFilterV6Gateway": False,
            "Bytes": encoded(first),
        },
        {
            "Conf": {"cniVersion": "0.3.1", "name": "mac", "type": "recorder"},
            "ConfList": {},
            "Name": "default/mac",
            "macRequest": "02:00:00:00:00:01",
            "IsFilterV4Gateway": False,
            "IsFilterV6Gateway": False,
            "Bytes": encoded(second),
        },
    ]
    (host.home / "cache" / "c1").write_bytes(msgspec.json.encode(items))

    await host.run("DEL", netns=netns.path)

    assert [("DEL net1", "mac"), ("DEL eth0", "calico")] == [
        (call.what, call.stdin["name"]) for call in host.calls()
    ]
    assert 1 == host.calls()[1].stdin["k"]
    assert [] == host.cached()


def encoded(document: dict[str, Any]) -> str:
    """Return the form in which Go keeps bytes in JSON."""
    return msgspec.to_builtins(msgspec.json.encode(document))


async def test_default_network_annotation(host: Node, netns: PodNetns) -> None:
    """
    A pod may choose its default network.

    Without namespace it is that of the meta plugin, and it may not be renamed.
    """
    host.define("blue", NET, "spiderpool")
    key = "v1.multus-cni.io/default-network"
    host.pod(**{key: "blue"})
    await host.run("ADD", netns=netns.path)
    assert [("ADD eth0", "blue")] == [(call.what, call.stdin["name"]) for call in host.calls()]
    assert [("spiderpool/blue", True)] == [
        (entry["name"], entry["default"]) for entry in await host.status()
    ]

    for wrong in ("", "blue,blue", "[]", "blue@eth7"):
        host.pod(name="p2", **{key: wrong})
        with pytest.raises(InvalidRequest):
            await host.run("ADD", netns=netns.path, container="c2", pod="p2")


async def test_files(host: Node, netns: PodNetns) -> None:
    """
    A network without definition, or with an empty one, is the file of that name.

    A broken file harms no other.
    """
    (host.home / "net.d" / "00-broken.conf").write_text("{")
    (host.home / "net.d" / "05-notes.txt").write_text("{")
    plugins = [{"type": "recorder", "first": True}, {"type": "second"}]
    text = msgspec.json.encode({"cniVersion": "0.4.0", "name": "from-file", "plugins": plugins})
    (host.home / "net.d" / "10-x.conflist").write_bytes(text)
    host.define("from-file", "", "default")
    host.pod("from-file")

    await host.run("ADD", netns=netns.path, clusterNetwork="from-file")

    assert ["ADD eth0", "ADD eth0", "ADD net1", "ADD net1"] == [call.what for call in host.calls()]
    assert ["from-file", "default/from-file"] == [entry["name"] for entry in await host.status()]


async def test_path(host: Node, netns: PodNetns) -> None:
    """
    The cluster's network may be a path.

    A file, or a folder of which the first file that is not ours counts.
    """
    folder = host.home / "net.d"
    ours = {"cniVersion": "1.0.0", "name": "m", "plugins": [{"type": "spiderpool-multus"}]}
    (folder / "00-spiderpool.conflist").write_bytes(msgspec.json.encode(ours))
    (folder / "10-x.conf").write_bytes(msgspec.json.encode({**NET, "name": "x"}))
    host.pod()

    for number, path in enumerate((str(folder), str(folder / "10-x.conf"))):
        await host.run("ADD", container=f"c{number}", netns=netns.path, clusterNetwork=path)

    assert ["x", "x"] == [call.stdin["name"] for call in host.calls()]


async def test_inline_delegates(host: Node, netns: PodNetns) -> None:
    """Without a cluster network the configuration's own delegates serve every pod, even without Kubernetes."""
    delegates = [
        {**NET, "name": "one"},
        {"cniVersion": "1.0.0", "name": "two", "plugins": [{"type": "second"}]},
    ]

    await host.run("ADD", netns=netns.path, clusterNetwork="", delegates=delegates, pod="")

    assert [("ADD eth0", "one"), ("ADD net1", "two")] == [
        (call.what, call.stdin["name"]) for call in host.calls()
    ]
    assert [] == host.cluster.calls


async def test_networks_of_every_pod(host: Node, netns: PodNetns) -> None:
    """`defaultNetworks` come after the default network; pods of system namespaces do without."""
    host.define("extra", NET, "spiderpool")
    host.pod()
    await host.run("ADD", netns=netns.path, defaultNetworks=["extra"])
    assert ["ADD eth0", "ADD net1"] == [call.what for call in host.calls()]

    host.forget_calls()
    host.pod(name="p2")
    more = {"defaultNetworks": ["extra"], "systemNamespaces": ["default"]}
    await host.run("ADD", container="c2", pod="p2", netns=netns.path, **more)
    assert ["ADD eth0"] == [call.what for call in host.calls()]


async def test_isolation(host: Node, netns: PodNetns) -> None:
    """With isolation a pod takes networks of its own namespace and of the allowed ones."""
    for namespace in ("default", "other", "common"):
        host.define("a", NET, namespace)
    host.pod("default/a,common/a")
    await host.run("ADD", netns=netns.path, namespaceIsolation=True, globalNamespaces="common , x")

    host.pod("other/a", name="p2")
    with pytest.raises(InvalidRequest, match="network other/a is in another namespace"):
        await host.run(
            "ADD", netns=netns.path, pod="p2", namespaceIsolation=True, globalNamespaces="common"
        )


async def test_result_in_the_version_of_the_call(host: Node, netns: PodNetns) -> None:
    """The default network's result is given in the version that was asked for, whatever the plugin speaks."""
    old = {"cniVersion": "0.2.0", "ip4": {"ip": "10.1.0.5/24", "gateway": "10.1.0.1"}}
    host.answer("eth0", old)
    host.pod()

    assert {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}],
        "dns": {},
    } == msgspec.json.decode(await host.run("ADD", netns=netns.path))
    assert await host.status() is None


@pytest.mark.parametrize(
    "result",
    [
        {},
        {"cniVersion": "1.0.0", "interfaces": []},
        {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mtu": 1400}],
            "ips": [{"address": "10.1.0.5/24"}],
        },
        {
            "cniVersion": "0.3.1",
            "ips": [{"version": "4", "address": "10.1.0.5/24"}],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    ],
)
async def test_odd_results(host: Node, netns: PodNetns, result: dict[str, Any]) -> None:
    """A secondary network with an unusual result does not fail ADD."""
    host.define("a", NET)
    host.answer("net1", result)
    host.pod("a")

    await host.run("ADD", netns=netns.path)

    assert "spiderpool/cluster" == (await host.status())[0]["name"]


async def test_no_result(host: Node, netns: PodNetns) -> None:
    """A plugin that succeeds without a result has failed; a plugin that is not there is named."""
    host.define("a", NET)
    host.answer("net1", "oops")
    host.pod("a")
    with pytest.raises(DelegateFailed, match="its result is no JSON object: oops"):
        await host.run("ADD", netns=netns.path)

    host.define("gone", {**NET, "type": "gone"})
    host.pod("gone", name="p2")
    with pytest.raises(DelegateFailed, match="program gone is in none of"):
        await host.run("ADD", netns=netns.path, pod="p2")


async def test_caller_hangs_up(host: Node, netns: PodNetns) -> None:
    """When the caller goes away during ADD, the running plugin is killed and all is deleted, though nobody waits."""
    host.define("a", NET)
    host.pod("a")
    (host.home / "hang" / "ADD-net1").touch()

    adding = asyncio.create_task(host.run("ADD", netns=netns.path))
    await until(lambda: len(host.calls()) == 2)
    adding.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await adding
    await host.plugin.settle()

    assert ["ADD eth0", "ADD net1", "DEL net1", "DEL eth0"] == [call.what for call in host.calls()]


async def test_delete_ends_add(host: Node, netns: PodNetns) -> None:
    """A DEL of the same container ends a running ADD, waits until it is undone, and deletes."""
    host.pod()
    (host.home / "hang" / "ADD-eth0").touch()
    adding = asyncio.create_task(host.run("ADD", netns=netns.path))
    await until(lambda: len(host.calls()) == 1)

    await host.run("DEL", netns=netns.path)

    with pytest.raises(TryAgain):
        await adding
    assert ["ADD eth0", "DEL eth0", "DEL eth0"] == [call.what for call in host.calls()]
    assert [] == host.cached()


async def until(condition: Any) -> None:
    """Wait for something that happens soon."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.02)


async def test_callers_view(host: Node, netns: PodNetns) -> None:
    """
    Plugins run, and files are kept, where the caller lives.

    Its mounts and its network are theirs.
    """
    host.in_node("mount", "-t", "tmpfs", "none", str(host.home / "cache"))
    script = f"#!/bin/sh\ncat /proc/self/mountinfo > {host.home}/mounts\nls /sys/class/net > {host.home}/links\nexit 0\n"
    (host.home / "bin" / "spy").write_text(script)
    (host.home / "bin" / "spy").chmod(0o755)
    host.in_node("ip", "link", "add", "only-here", "type", "veth", "peer", "name", "peer-here")
    host.in_node("mount", "-t", "sysfs", "none", "/sys")
    host.pod()

    with pytest.raises(DelegateFailed):
        await host.run(
            "ADD",
            netns=netns.path,
            clusterNetwork="",
            delegates=[{**NET, "type": "spy", "name": "spy"}],
        )

    assert f" {host.home}/cache " in (host.home / "mounts").read_text()
    assert "only-here" in (host.home / "links").read_text()
    assert [] == host.cached()
    assert "c1" in host.in_node("ls", str(host.home / "cache"))


async def test_no_more_plugins_at_a_time_than_the_agent_can_bear(host: Node) -> None:
    """Twenty pods at once: never more than six ADDs run, and all get their networks."""
    count = host.home / "count"
    count.mkdir()
    plugin = host.home / "bin" / "counter"
    plugin.write_text(
        "#!/bin/sh\n"
        f"touch {count}/run-$$; ls {count} | grep -c run- > {count}/most-$$; sleep 0.1\n"
        f"rm {count}/run-$$\n"
        '[ $CNI_COMMAND = ADD ] && echo \'{"cniVersion": "1.0.0"}\'\n'
        "exit 0\n"
    )
    plugin.chmod(0o755)
    host.define("counted", {**NET, "type": "counter"})
    pods = [f"p{number}" for number in range(20)]
    with contextlib.ExitStack() as stack:
        adds = []
        for pod in pods:
            host.pod("counted", pod)
            netns = stack.enter_context(pod_netns())
            adds.append(host.run("ADD", container=pod, pod=pod, netns=netns.path))
        await asyncio.gather(*adds)
    seen = [int(file.read_text()) for file in count.glob("most-*")]
    assert len(pods) == len(seen)
    assert 2 <= max(seen) <= 6
