"""Default routes of one interface, on a real kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from spiderpool.errors import SpiderpoolError
from spiderpool.kernel.default_routes import move_default_routes, restore_default_routes
from spiderpool.kernel.namespaces import Namespaces
from spiderpool.kernel.read_links import interface_names
from tests.contract.meta.node import DefaultRoute, PodNetns, pod_netns

G4, G6 = ip_address("10.1.0.1"), ip_address("fd00:1::1")


@pytest.fixture
def pod() -> Iterator[PodNetns]:
    """A namespace with two linked interfaces, each with addresses of both families."""
    with pod_netns() as made:
        made.ip("link", "add", "nic1", "type", "veth", "peer", "name", "nic2")
        for number, link in enumerate(("nic1", "nic2"), 1):
            made.ip("link", "set", link, "up")
            made.ip("addr", "add", f"10.{number}.0.5/24", "dev", link)
            made.ip("addr", "add", f"fd00:{number}::5/64", "dev", link, "nodad")
        yield made


async def inside(pod: PodNetns, work):  # type: ignore[no-untyped-def]
    """Do something in the pod."""
    with Namespaces.network(pod.path) as namespace:
        return await namespace.run(work)


async def test_move(pod: PodNetns) -> None:
    """One interface's default routes go and come; other routes, tables and interfaces stay."""
    pod.ip("route", "add", "default", "via", "10.1.0.9", "dev", "nic1")
    pod.ip("route", "add", "default", "via", "10.1.0.8", "dev", "nic1", "metric", "7")
    pod.ip("route", "add", "default", "via", "10.2.0.9", "dev", "nic2", "metric", "9")
    pod.ip("route", "add", "default", "via", "10.1.0.9", "dev", "nic1", "table", "100")
    pod.ip("route", "add", "10.50.0.0/16", "via", "10.1.0.9", "dev", "nic1")
    pod.ip("-6", "route", "add", "default", "via", "fd00:1::9", "dev", "nic1")
    assert {"nic1", "nic2", "lo"} == await inside(pod, interface_names)

    assert await inside(pod, lambda: move_default_routes("nic1", {4, 6}, [G4, G6]))

    assert [DefaultRoute(4, G4), DefaultRoute(6, G6, 1024)] == pod.defaults("nic1")
    assert [DefaultRoute(4, ip_address("10.2.0.9"), 9)] == pod.defaults("nic2")
    assert "default via 10.1.0.9" in pod.ip("route", "show", "table", "100")
    assert "10.50.0.0/16 via 10.1.0.9" in pod.ip("route")


async def test_one_family(pod: PodNetns) -> None:
    """Only the families that are asked for go."""
    pod.ip("route", "add", "default", "dev", "nic1")
    pod.ip("-6", "route", "add", "default", "via", "fd00:1::9", "dev", "nic1")

    await inside(pod, lambda: move_default_routes("nic1", {4}, []))

    assert [6] == [route.family for route in pod.defaults("nic1")]


async def test_several_next_hops(pod: PodNetns) -> None:
    """Of a default route over several next hops only the interface's own goes, in both families."""
    for family, prefix in (("-4", "10.{}.0.9"), ("-6", "fd00:{}::9")):
        hops = [f"nexthop via {prefix.format(nic)} dev nic{nic}" for nic in (1, 2)]
        hops.append(f"nexthop via {prefix.format(2)[:-1]}8 dev nic2")
        pod.ip(family, "route", "add", "default", *" ".join(hops).split())

    removed = await inside(pod, lambda: move_default_routes("nic1", {4, 6}, []))

    assert {"10.1.0.9", "fd00:1::9"} == {str(route.gateway) for route in removed}
    for family, prefix in (("-4", "10.2.0."), ("-6", "fd00:2::")):
        shown = pod.ip(family, "route", "show", "default")
        assert [f"{prefix}{last}" in shown for last in (8, 9)] == [True, True]
        assert "nic1" not in shown
    await inside(pod, lambda: move_default_routes("nic2", {4, 6}, []))
    assert "" == pod.ip("route", "show", "default") + pod.ip("-6", "route", "show", "default")


async def test_restore(pod: PodNetns) -> None:
    """What was removed comes back where its family has no default route any more, the first interface's only."""
    pod.ip("route", "add", "default", "via", "10.1.0.9", "dev", "nic1", "metric", "7")
    pod.ip("-6", "route", "add", "default", "via", "fd00:1::9", "dev", "nic1")
    pod.ip("-6", "route", "append", "default", "via", "fd00:2::9", "dev", "nic2", "metric", "9")
    removed = [
        route
        for nic in ("nic1", "nic2")
        for route in await inside(pod, lambda nic=nic: move_default_routes(nic, {4, 6}, []))
    ]
    pod.ip("route", "add", "default", "via", "10.2.0.9", "dev", "nic2")

    back = await inside(pod, lambda: restore_default_routes(removed))

    assert [("nic1", "fd00:1::9")] == [(route.dev, str(route.gateway)) for route in back]
    assert [DefaultRoute(6, ip_address("fd00:1::9"), 1024)] == pod.defaults("nic1")
    assert [DefaultRoute(4, ip_address("10.2.0.9"))] == pod.defaults("nic2")


async def test_no_such_interface(pod: PodNetns) -> None:
    """Without such an interface nobody's routes are touched."""
    pod.ip("route", "add", "default", "via", "10.1.0.9", "dev", "nic1")

    assert not await inside(pod, lambda: move_default_routes("net1", {4, 6}, [G4]))

    assert 1 == len(pod.defaults("nic1"))


async def test_impossible_gateway(pod: PodNetns) -> None:
    """A gateway that cannot be reached is told with interface, gateway and the kernel's words."""
    with pytest.raises(
        SpiderpoolError,
        match=r"default route of nic1 via 192\.0\.2\.1 cannot be added: Network is unreachable",
    ):
        await inside(pod, lambda: move_default_routes("nic1", set(), [ip_address("192.0.2.1")]))
    pod.ip("route", "add", "default", "via", "10.2.0.9", "dev", "nic2")
    with pytest.raises(SpiderpoolError, match="another interface has the pod's default route"):
        await inside(pod, lambda: move_default_routes("nic1", set(), [G4]))


async def test_a_gateway_that_is_there(pod: PodNetns) -> None:
    """A default route that is there as wanted is no error."""
    pod.ip("route", "add", "default", "via", str(G4), "dev", "nic1")

    await inside(pod, lambda: move_default_routes("nic1", set(), [G4]))

    assert [DefaultRoute(4, G4)] == pod.defaults("nic1")
