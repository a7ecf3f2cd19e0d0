"""The meta plugin's CHECK, STATUS and GC, with plugins that keep what they are given."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.cni.valid_attachments import KEYS
from spiderpool.errors import (
    CheckFailed,
    DelegateFailed,
    IncompatibleVersion,
    NotAvailable,
    TryAgain,
)
from tests.contract.meta.node import Node, PodNetns

NET = {"cniVersion": "1.1.0", "type": "recorder"}


async def test_check_reaches_all(host: Node, netns: PodNetns) -> None:
    """CHECK asks every network of the container with its last result, but not one that says `disableCheck`."""
    host.define("a", NET)
    host.define(
        "b", {"cniVersion": "1.0.0", "disableCheck": True, "plugins": [{"type": "recorder"}]}
    )
    host.pod("a,b")
    await host.run("ADD", netns=netns.path)
    host.forget_calls()

    await host.run("CHECK", netns=netns.path)

    assert ["CHECK eth0", "CHECK net1"] == [call.what for call in host.calls()]
    assert "net1" == host.calls()[1].stdin["prevResult"]["interfaces"][0]["name"]
    host.fail("CHECK-net1", 120, "route is gone")
    with pytest.raises(DelegateFailed, match="route is gone"):
        await host.run("CHECK", netns=netns.path)


async def test_check_of_an_old_network(host: Node, netns: PodNetns) -> None:
    """A network older than CHECK, and a container that nobody knows, fail CHECK."""
    host.define("a", {"cniVersion": "0.3.1", "type": "recorder"})
    host.pod("a")
    with pytest.raises(CheckFailed):
        await host.run("CHECK", netns=netns.path)
    await host.run("ADD", netns=netns.path)

    with pytest.raises(IncompatibleVersion):
        await host.run("CHECK", netns=netns.path)


def latest(host: Node, **more: Any) -> dict[str, Any]:
    """Let the cluster's network, and the call, know STATUS and GC."""
    host.define("cluster", {**NET, "name": "cluster"}, "spiderpool")
    return {"cniVersion": "1.1.0", **more}


async def test_status(host: Node) -> None:
    """
    STATUS asks the default network and passes its code on.

    An older network is taken to be well.
    """
    assert "" == await host.run("STATUS", cniVersion="1.1.0")
    assert [] == host.calls()

    config = latest(host)
    assert "" == await host.run("STATUS", **config)
    assert ["STATUS"] == [call.what for call in host.calls()]
    host.fail("STATUS", 51, "limited")
    with pytest.raises(DelegateFailed) as failure:
        await host.run("STATUS", **config)
    assert 51 == failure.value.cni_code


async def test_not_ready(host: Node, netns: PodNetns) -> None:
    """Without the readiness file STATUS says so at once with code 50, ADD waits and then may be tried again, DEL works."""
    host.pod()
    missing = str(host.home / "ready")
    with pytest.raises(NotAvailable) as failure:
        await host.run("STATUS", cniVersion="1.1.0", readinessindicatorfile=missing)
    assert 50 == failure.value.cni_code
    with pytest.raises(TryAgain, match="ready"):
        await host.run("ADD", netns=netns.path, readinessindicatorfile=missing)
    await host.run("DEL", netns=netns.path, ReadinessIndicatorFile=missing)

    (host.home / "ready").touch()
    await host.run("ADD", netns=netns.path, readinessindicatorfile=missing)


async def test_no_default_network(host: Node) -> None:
    """STATUS says 50 when the cluster's network cannot be found."""
    with pytest.raises(NotAvailable, match="nothing"):
        await host.run("STATUS", cniVersion="1.1.0", clusterNetwork="nothing")


async def test_collect(host: Node, netns: PodNetns) -> None:
    """GC undoes containers that the runtime does not list, and tells every known network who lives."""
    config = latest(host)
    host.define("a", {**NET, "name": "net-a"})
    host.define(
        "quiet", {"cniVersion": "1.1.0", "disableGC": True, "plugins": [{"type": "recorder"}]}
    )
    for container in ("c1", "c2"):
        host.pod("a,quiet", name=f"p-{container}")
        await host.run("ADD", container=container, pod=f"p-{container}", netns=netns.path, **config)
    host.forget_calls()

    alive = [{"containerID": "c1", "ifname": "eth0"}]
    await host.run("GC", container="", pod="", **config | {KEYS[0]: alive})

    calls = host.calls()
    assert ["DEL net2", "DEL net1", "DEL eth0", "GC", "GC"] == [call.what for call in calls]
    assert {"c2"} == {call.env["CNI_CONTAINERID"] for call in calls[:3]}
    assert ("K8S_POD_NAME", "p-c2") in calls[0].args
    told = {call.stdin["name"]: call.stdin for call in calls[3:]}
    assert {"cluster", "net-a"} == set(told)
    for key in KEYS:
        assert [{"containerID": "c1", "ifname": "net1"}] == told["net-a"][key]
    assert [
        "c1",
        "results/cluster-c1-eth0",
        "results/net-a-c1-net1",
        "results/quiet-c1-net2",
    ] == host.cached()


async def test_collect_goes_on(host: Node, netns: PodNetns) -> None:
    """GC tries everything and reports all that failed; with nothing kept it does nothing."""
    config = latest(host)
    await host.run("GC", container="", pod="", **config | {KEYS[1]: []})
    host.forget_calls()
    for container in ("c1", "c2"):
        host.pod(name=f"p-{container}")
        await host.run("ADD", container=container, pod=f"p-{container}", netns=netns.path, **config)
    host.fail("DEL", 100, "stuck")
    host.fail("GC", 100, "not now")

    with pytest.raises(DelegateFailed) as failure:
        await host.run("GC", container="", pod="", **config | {KEYS[0]: []})

    assert ["stuck", "stuck", "not now"] == [
        part.rsplit(": ", 1)[1] for part in failure.value.message.split(" / ")
    ]
