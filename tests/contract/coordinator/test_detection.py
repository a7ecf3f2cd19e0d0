"""
Addresses in use, gateways that are silent, announcements.

What an ADD of `spiderpool` finds on a real wire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from spiderpool.agent.ipam.plugin import IpamPlugin
from spiderpool.api.crd.spiderip import IPState, SpiderIP
from spiderpool.cni.request import CniRequest, parse_call
from spiderpool.errors import Exhausted, TryAgain, WireConflict
from tests.contract.coordinator.stage import PodNics, Stage
from tests.unit.agent.simulation import CONFIG, Simulation, new_simulation

PREFIX = {4: "10.6.0.0/16", 6: "fd00:6::/64"}
TAKEN = {4: "10.6.9.1", 6: "fd00:6::901"}
FREE = {4: "10.6.9.2", 6: "fd00:6::902"}
GATEWAY = {4: "10.6.0.1", 6: "fd00:6::1"}
NOBODY = {4: "10.6.0.77", 6: "fd00:6::77"}
BOTH = pytest.mark.parametrize("family", [4, 6])


class Scene:
    """An agent whose pods are on the stage."""

    def __init__(self, ground: Stage, simulation: Simulation, plugin: IpamPlugin) -> None:
        """Join them."""
        self.ground, self.simulation, self.plugin = ground, simulation, plugin

    async def add(self, pod: PodNics, name: str = "web-1", ifname: str = "eth0") -> Any:
        """Let the macvlan plugin ask for the addresses of a NIC that it has just made."""
        env = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": pod.container,
            "CNI_NETNS": pod.netns.path,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": f"IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}",
            "CNI_PATH": "/nowhere",
        }
        config = {
            "cniVersion": "1.0.0",
            "name": "under",
            "type": "macvlan",
            "ipam": {"type": "spiderpool"},
        }
        call = parse_call(CniRequest("spiderpool", env, config))
        return msgspec.json.decode(await self.plugin(call, self.ground.node.peer))

    def states(self) -> dict[str, tuple[IPState, str | None]]:
        """Return state and foreign MAC of all records."""
        records = self.simulation.cluster.all(SpiderIP)
        return {record.spec.ip: (record.spec.state, record.spec.conflict_mac) for record in records}


@asynccontextmanager
async def scene(
    ground: Stage, folder: Path, *, conflict: bool = True, gateway: bool = False
) -> AsyncIterator[Scene]:
    """Run an agent with these switches."""
    simulation = new_simulation(folder)
    config = replace(
        CONFIG, enable_ip_conflict_detection=conflict, enable_gateway_detection=gateway
    )
    async with simulation.agent(config=config) as agent:
        yield Scene(ground, simulation, IpamPlugin(agent.app.ipam, agent.app.detector))


@BOTH
async def test_address_in_use(ground: Stage, tmp_path: Path, family: int) -> None:
    """
    An address that somebody answers for is set aside with his MAC, and the error names both.

    Another one is given.
    """
    with ground.pod("occupant") as occupant, ground.pod() as pod:
        occupant.macvlan(
            "eth0", "ens192", f"{TAKEN[family]}/{PREFIX[family].partition('/')[2]}", gateways=False
        )
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path) as here:
            here.simulation.pool("p", PREFIX[family], ips=[TAKEN[family]])
            here.simulation.pod()

            with pytest.raises(
                Exhausted, match=f"{TAKEN[family]} is located at {occupant.mac('eth0')}"
            ):
                await here.add(pod)
            assert {TAKEN[family]: (IPState.QUARANTINED, occupant.mac("eth0"))} == here.states()
            here.simulation.pool("q", PREFIX[family], ips=[FREE[family]])
            result = await here.add(pod)

            assert [FREE[family]] == [ip["address"].partition("/")[0] for ip in result["ips"]]
            assert IPState.HELD is here.states()[FREE[family]][0]


@BOTH
async def test_another_address_in_the_same_call(ground: Stage, tmp_path: Path, family: int) -> None:
    """Of a pool with addresses in use, a pod gets one that is free, in the same ADD."""
    with ground.pod("occupant") as occupant, ground.pod() as pod:
        occupant.macvlan(
            "eth0", "ens192", f"{TAKEN[family]}/{PREFIX[family].partition('/')[2]}", gateways=False
        )
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path) as here:
            here.simulation.pool("p", PREFIX[family], ips=[TAKEN[family], FREE[family]])
            here.simulation.pod()

            result = await here.add(pod)

            assert [FREE[family]] == [ip["address"].partition("/")[0] for ip in result["ips"]]
            assert {FREE[family]} == set(here.simulation.held())


async def test_static_address_in_use(ground: Stage, tmp_path: Path) -> None:
    """
    A pod with a fixed address is not given another one.

    It fails, and its address is not set aside.
    """
    with ground.pod("occupant") as occupant, ground.pod() as pod:
        occupant.macvlan("eth0", "ens192", f"{TAKEN[4]}/16", gateways=False)
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path) as here:
            here.simulation.pool("p", PREFIX[4], ips=[TAKEN[4]])
            here.simulation.pod("db-0", stateful=True)

            with pytest.raises(
                WireConflict, match=f"pod's interface eth0 with an conflicting ip {TAKEN[4]}"
            ):
                await here.add(pod, "db-0")

            assert {} == here.states()


@pytest.mark.parametrize("pool", [False, None])
async def test_switched_off(ground: Stage, tmp_path: Path, pool: bool | None) -> None:
    """
    Neither asked by the pool nor by the cluster, nobody looks.

    The pool's word goes before the cluster's.
    """
    with ground.pod("occupant") as occupant, ground.pod() as pod:
        occupant.macvlan("eth0", "ens192", f"{TAKEN[4]}/16", gateways=False)
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path, conflict=pool is False) as here:
            here.simulation.pool(
                "p",
                PREFIX[4],
                ips=[TAKEN[4]],
                **({} if pool is None else {"enableIPConflictDetection": pool}),
            )
            here.simulation.pod()

            await here.add(pod)

            assert {TAKEN[4]} == set(here.simulation.held())


@BOTH
async def test_gateway(ground: Stage, tmp_path: Path, family: int) -> None:
    """
    A gateway that answers is fine.

    One that nobody has ends the ADD, and its address is free again.
    """
    with ground.pod() as pod:
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path, gateway=True) as here:
            here.simulation.pool("p", PREFIX[family], ips=[FREE[family]], gateway=NOBODY[family])
            here.simulation.pod()
            with pytest.raises(TryAgain, match=f"gateway {NOBODY[family]} is unreachable"):
                await here.add(pod)
            assert {} == here.simulation.held()

            here.simulation.pool("p", PREFIX[family], ips=[FREE[family]], gateway=GATEWAY[family])
            await here.add(pod)
            assert {FREE[family]} == set(here.simulation.held())


@BOTH
async def test_announcement(ground: Stage, tmp_path: Path, family: int) -> None:
    """
    A neighbour that remembers the former owner of an address learns the new one's MAC.

    Other NICs' addresses are not announced.
    """
    with ground.pod() as pod:
        pod.macvlan("eth0", "ens192")
        async with scene(ground, tmp_path, conflict=False) as here:
            here.simulation.pool("p", PREFIX[family], ips=[FREE[family]])
            here.simulation.pod()
            old = ("lladdr", "02:00:00:00:00:09", "dev", "brens192", "nud", "stale")
            for ip in (FREE[family], TAKEN[family]):
                ground.switch.ip("neigh", "add", ip, *old)

            await here.add(pod)

            assert pod.mac("eth0") in ground.switch.ip("neigh", "show", FREE[family])
            assert "02:00:00:00:00:09" in ground.switch.ip("neigh", "show", TAKEN[family])
