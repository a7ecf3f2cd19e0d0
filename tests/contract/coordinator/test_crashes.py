"""
An agent that is killed in the middle of an ADD: the next ADD completes it, DEL cleans it.

And many pods at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from spiderpool.agent.coordinator import mangle_rules
from spiderpool.agent.coordinator.plugin import CoordinatorPlugin
from spiderpool.kernel.programs import run_program
from spiderpool.kernel.rtnetlink import RouteSocket
from tests.contract.coordinator.stage import PodNics, Stage, dual, stage

CIDRS = ("10.6.168.172/16", "fd00:6::172/64")


def killed_at(
    ground: Stage, pod: PodNics, given: Any, number: int, *, after: bool, nic: str
) -> bool:
    """
    Run an ADD in a process of its own that is killed at the number-th step.

    Whether it ended before that.
    """
    child = os.fork()
    if child == 0:
        add_and_be_killed(ground, pod, given, number, after=after, nic=nic)
    _, status = os.waitpid(child, 0)
    # a program that the killed one had started goes on; kubelet comes back much later
    while not pod.netns.is_empty():
        time.sleep(0.005)
    return os.WIFEXITED(status)


def add_and_be_killed(
    ground: Stage, pod: PodNics, given: Any, number: int, *, after: bool, nic: str
) -> NoReturn:
    """Run an ADD in this process, kill it at the number-th step, and end it if it comes to its end."""
    try:
        steps = itertools.count(1)

        def step() -> None:
            if next(steps) == number:
                os.kill(os.getpid(), signal.SIGKILL)

        real_send, real_run = RouteSocket._send, run_program

        def send(self: RouteSocket, *args: Any, **keys: Any) -> None:
            if not after:
                step()
            real_send(self, *args, **keys)
            if after:
                step()

        async def run(*args: Any, **keys: Any) -> Any:
            if not after:
                step()
            outcome = await real_run(*args, **keys)
            if after:
                step()
            return outcome

        RouteSocket._send = send  # type: ignore[method-assign]
        vars(mangle_rules)["run_program"] = run
        ground.plugin = CoordinatorPlugin(ground.configs)  # threads do not come along
        asyncio.run(ground.run("ADD", pod, nic, given))
    finally:
        os._exit(0)


def killed_everywhere(ground: Stage, pod: PodNics, nic: str, given: Any, *, after: bool) -> int:
    """
    Kill an ADD of a NIC at each step in turn: a second ADD completes every other one, a DEL leads to the beginning.

    Returns:
        The first step that there is not.
    """
    before = ground.everything(pod)
    asyncio.run(ground.run("ADD", pod, nic, given))
    whole = ground.everything(pod)
    asyncio.run(ground.run("DEL", pod, nic, given))
    assert before == ground.everything(pod)

    for number in itertools.count(1):
        if killed_at(ground, pod, given, number, after=after, nic=nic):
            return number
        if number % 2:
            asyncio.run(ground.run("ADD", pod, nic, given))
            assert whole == ground.everything(pod)
        asyncio.run(ground.run("DEL", pod, nic, given))
        assert before == ground.everything(pod)
    raise AssertionError("unreachable")


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_any_two_sends(tmp_path: Path, after: bool) -> None:
    """
    Killed before or after each send and each program.

    A second ADD leads to the same end, a DEL to the beginning.
    """
    with stage(tmp_path) as ground:
        dual(ground)
        asyncio.run(ground.warm_up("10.6.0.99/16", "fd00:6::99/64"))
        with ground.pod() as pod:
            given = pod.macvlan("eth0", "ens192", *CIDRS)
            assert killed_everywhere(ground, pod, "eth0", given, after=after) > 15
        asyncio.run(ground.plugin.settle())


@pytest.mark.parametrize("overlay", [False, True])
def test_killed_at_the_second_nic(tmp_path: Path, overlay: bool) -> None:
    """The same for a NIC beside the first one, the first being Calico's or macvlan too, and the default route going to it."""
    with stage(tmp_path) as ground:
        ground.configs.document["podDefaultRouteNIC"] = "net1"
        asyncio.run(ground.warm_up("10.6.0.99/16"))
        with ground.pod() as pod:
            if overlay:
                pod.calico("10.233.100.2/32")
            else:
                asyncio.run(
                    ground.run("ADD", pod, "eth0", pod.macvlan("eth0", "ens192", "10.6.168.172/16"))
                )
            given = pod.macvlan("net1", "ens224", "10.7.168.173/16")
            assert killed_everywhere(ground, pod, "net1", given, after=True) > 10
        asyncio.run(ground.plugin.settle())


async def test_twenty_pods(ground: Stage) -> None:
    """
    Twenty pods added at once and removed at once.

    Every one is whole in between, and the node is as before after it.
    """
    await ground.warm_up("10.6.0.99/16")
    before = ground.everything()
    with contextlib.ExitStack() as stack:
        pods = [stack.enter_context(ground.pod(f"{number:011d}")) for number in range(20)]
        given = [
            pod.macvlan("eth0", "ens192", f"10.6.1.{number + 1}/16")
            for number, pod in enumerate(pods)
        ]

        await asyncio.gather(
            *(
                ground.run("ADD", pod, "eth0", result)
                for pod, result in zip(pods, given, strict=True)
            )
        )
        assert 20 == len(ground.node_routes())
        for pod, result in zip(pods, given, strict=True):
            assert await ground.run("CHECK", pod, "eth0", result) is None
        await asyncio.gather(
            *(
                ground.run("DEL", pod, "eth0", result)
                for pod, result in zip(pods, given, strict=True)
            )
        )

        assert before == ground.everything()
