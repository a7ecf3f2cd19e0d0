"""Kernel settings and kube-proxy's rules, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spiderpool.agent.node.sysctl import NodeSettings
from spiderpool.datapath.invalid_packets import CHAIN, Fate, ProbeResult, chain_rules, judge_invalid
from spiderpool.datapath.kernel_settings import wanted_settings
from spiderpool.kernel.iptables import read_chain
from spiderpool.kernel.namespaces import Namespaces

FILTER = "net.ipv4.conf.all.rp_filter"
NAME = "test-settings"
# As kube-proxy makes it: Kubernetes, pkg/proxy/iptables/proxier.go.
RULES = """\
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
COMMIT
"""


@pytest.fixture
def inside() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Return a way to do something in a fresh network namespace."""
    subprocess.run(["ip", "netns", "add", NAME], check=True)  # noqa: S603, S607
    try:
        with Namespaces.network(f"/run/netns/{NAME}") as namespace:

            def run(work: Callable[[], Any]) -> Any:
                result: list[Any] = []

                def enter() -> None:
                    namespace.enter()
                    result.append(work())

                thread = threading.Thread(target=enter)
                thread.start()
                thread.join()
                return result[0]

            yield run
    finally:
        subprocess.run(["ip", "netns", "del", NAME], check=True)  # noqa: S603, S607


def test_settings(inside: Callable[[Callable[[], Any]], Any], tmp_path: Path) -> None:
    """
    What a namespace has is changed, is on record, and comes back.

    What it has not (limits of the machine) is left out.
    """
    settings = NodeSettings(tmp_path / "record.json")
    before = inside(
        lambda: (
            Path("/proc/sys/net/ipv4/conf/all/rp_filter").write_text("2"),
            settings.read(FILTER),
        )[1]
    )
    wanted = wanted_settings((4, 6), tune=True, be_liberal=True)
    inside(lambda: settings.hold(wanted))
    held = inside(lambda: {key: settings.read(key) for key in wanted})
    inside(settings.undo)

    assert "2" == before
    assert {key: value for key, value in wanted.items() if held[key] is not None} == {
        key: value for key, value in held.items() if value is not None
    }
    assert "0" == held[FILTER]
    assert "2" == inside(lambda: settings.read(FILTER))


def test_rule_of_kube_proxy(inside: Callable[[Callable[[], Any]], Any]) -> None:
    """The rule is found where it is, in both families, and not where it is not."""

    def look() -> tuple[str, ...]:
        return chain_rules(asyncio.run(read_chain(CHAIN, (4, 6))))

    assert () == inside(look)
    subprocess.run(  # noqa: S603
        ["ip", "netns", "exec", NAME, "iptables-nft-restore"],  # noqa: S607
        input=RULES.encode(),
        check=True,
    )
    found = inside(look)

    assert Fate.DROPPED is judge_invalid(ProbeResult(found, liberal=False)).fate
    assert 3 == len(found)
