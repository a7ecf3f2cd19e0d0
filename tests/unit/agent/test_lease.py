"""ADD: what a pod gets, and what it gets again."""

from __future__ import annotations

from tests.unit.agent.world import World, ips


async def test_a_pod_gets_one_address_of_the_default_pool(world: World) -> None:
    """An ADD creates one record and answers with its address, prefix length, pool and routes."""
    world.pool(gateway="10.6.0.1")
    pod = world.pod()
    async with world.agent() as agent:
        answer = await agent.add(pod)

    assert answer.ips is not None
    (ip,) = answer.ips
    assert world.held() == {ip.address.removesuffix("/16"): "web-1"}
    assert (ip.version, ip.nic, ip.ip_pool, ip.gateway) == (4, "eth0", "blue", "10.6.0.1")
    assert ips(answer)


async def test_a_repeated_add_gets_the_same_address(world: World) -> None:
    """A second ADD of the same sandbox writes nothing and answers the same."""
    world.pool()
    pod = world.pod()
    async with world.agent() as agent:
        first = await agent.add(pod)
        writes = world.cluster.count("create")
        second = await agent.add(pod)

    assert first == second
    assert writes == world.cluster.count("create")
