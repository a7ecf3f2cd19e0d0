"""Watching what becomes of INVALID packets."""

from __future__ import annotations

from spiderpool.agent.node.kube_proxy import KubeProxyWatch
from spiderpool.api.kubernetes.core import Node
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.datapath.invalid_packets import Fate, ProbeResult, Verdict
from spiderpool.errors import TryAgain

DROP = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
DROPPING = ProbeResult((DROP,), liberal=False)
GOOD = ProbeResult(("-N KUBE-FORWARD",), liberal=True)


class Kernel:
    """Findings that a test sets, and what was told of them."""

    def __init__(self) -> None:
        self.findings: ProbeResult | None = DROPPING
        self.node: Node | None = Node(metadata=ObjectMeta(name="node1"))
        self.events: list[tuple[str, str]] = []
        self.noted: list[Fate] = []
        self.now = 0.0

    async def look(self) -> ProbeResult:
        """Return what the node has, if it can be read."""
        if self.findings is None:
            raise TryAgain("iptables-nft ended with 4")
        return self.findings

    def watch(self) -> KubeProxyWatch:
        """Make a watch."""
        return KubeProxyWatch(
            self.look, lambda: self.node, self._tell, self._note, clock=lambda: self.now
        )

    def _tell(self, node: Node, reason: str, _message: str) -> None:
        self.events.append((node.metadata.name, reason))

    def _note(self, verdict: Verdict, _findings: ProbeResult) -> None:
        self.noted.append(verdict.fate)


async def test_told_when_it_changes() -> None:
    """
    A node that drops is told once, and again when it drops again.

    Every look is in the metrics.
    """
    kernel = Kernel()
    watch = kernel.watch()
    for findings in (DROPPING, DROPPING, GOOD, DROPPING):
        kernel.findings = findings
        await watch.look_once()

    assert [("node1", "KubeProxyDropsInvalid")] * 2 == kernel.events
    assert [Fate.DROPPED, Fate.DROPPED, Fate.FORWARDED, Fate.DROPPED] == kernel.noted


async def test_node_that_is_not_known_yet() -> None:
    """The Event waits until there is an object to write it on."""
    kernel = Kernel()
    watch, node = kernel.watch(), kernel.node
    kernel.node = None
    await watch.look_once()
    assert [] == kernel.events
    kernel.node = node
    await watch.look_once()

    assert [("node1", "KubeProxyDropsInvalid")] == kernel.events


async def test_told_again_before_it_is_forgotten() -> None:
    """
    An API server forgets Events after an hour.

    What stays bad is told every half hour, what is good once.
    """
    kernel = Kernel()
    watch = kernel.watch()
    for _ in range(120):
        await watch.look_once()
        kernel.now += 60

    assert 4 == len(kernel.events)


async def test_rules_that_cannot_be_read() -> None:
    """A look that fails is no look: what was known stays, and nothing is told of it."""
    kernel = Kernel()
    watch = kernel.watch()
    kernel.findings = None
    await watch.look_once()
    assert (None, "kube-proxy's rules cannot be read: iptables-nft ended with 4") == (
        watch.verdict,
        watch.trouble,
    )
    for findings in (DROPPING, None, DROPPING):
        kernel.findings = findings
        await watch.look_once()

    assert watch.verdict is not None
    assert Fate.DROPPED is watch.verdict.fate
    assert [("node1", "KubeProxyDropsInvalid")] == kernel.events
    assert [Fate.DROPPED] * 2 == kernel.noted
