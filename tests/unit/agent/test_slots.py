"""How many plugins run at a time."""

from __future__ import annotations

import asyncio
from collections import Counter

from spiderpool.agent.multus.slots import Slots


class Plugins:
    """Plugins that run until they are told to end."""

    def __init__(self) -> None:
        self.slots = Slots()
        self.running: Counter[str] = Counter()
        self.most = 0
        self.end = asyncio.Event()

    async def run(self, command: str) -> None:
        """Run one, as soon as it has a slot."""
        async with self.slots.of(command):
            self.running[command] += 1
            self.most = max(self.most, self.running.total())
            await self.end.wait()
            self.running[command] -= 1


async def test_a_node_that_starts_all_of_its_pods() -> None:
    """Of 110 ADDs six run; DELs still have their turn, and eight are the most."""
    plugins = Plugins()
    adds = [asyncio.create_task(plugins.run("ADD")) for _ in range(110)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert {"ADD": 6} == plugins.running
    others = [asyncio.create_task(plugins.run(verb)) for verb in ("DEL", "GC", "CHECK", "DEL")]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert {"ADD": 6, "DEL": 1, "GC": 1} == plugins.running
    plugins.end.set()
    await asyncio.gather(*adds, *others)
    assert 8 == plugins.most
    assert 0 == plugins.running.total()


async def test_a_call_that_is_given_up_leaves_its_slot() -> None:
    """The runtime hangs up, before a plugin starts or while it runs: others go on."""
    plugins = Plugins()
    tasks = [asyncio.create_task(plugins.run("ADD")) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    plugins.running.clear()
    late = asyncio.create_task(plugins.run("ADD"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert {"ADD": 1} == plugins.running
    plugins.end.set()
    await late
