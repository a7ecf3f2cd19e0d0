"""
What becomes of packets that conntrack calls INVALID.

Rules as kube-proxy writes them.

Source: docs/reference/packet-paths.md#half-seen-connections.
"""

from __future__ import annotations

import pytest

from spiderpool.datapath.invalid_packets import Fate, ProbeResult, chain_rules, judge_invalid

CHAIN = "-N KUBE-FORWARD"
DROP = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
COUNTED = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP"
ACCEPT = '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT'
ESTABLISHED = (
    '-A KUBE-FORWARD -m comment --comment "x" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'
)


@pytest.mark.parametrize(
    ("findings", "fate", "words"),
    [
        (ProbeResult((CHAIN, DROP, ACCEPT), liberal=False), Fate.DROPPED, "restart kube-proxy"),
        (
            ProbeResult((CHAIN, COUNTED, ACCEPT), liberal=False),
            Fate.DROPPED,
            "coordinator.tcpBeLiberal=true",
        ),
        (
            ProbeResult((CHAIN, DROP, ACCEPT), liberal=True),
            Fate.DROPPED,
            "still drops packets of ctstate INVALID: restart kube-proxy",
        ),
        (ProbeResult((CHAIN, ACCEPT, ESTABLISHED), liberal=True), Fate.FORWARDED, "no rule"),
        (
            ProbeResult((CHAIN, ACCEPT, ESTABLISHED), liberal=False),
            Fate.DROPPED_SOON,
            "after its next start",
        ),
        (ProbeResult((CHAIN, ACCEPT), liberal=False, ipvs=True), Fate.FORWARDED, "no rule"),
        (ProbeResult((CHAIN, ACCEPT), liberal=None), Fate.FORWARDED, "no rule"),
        (
            ProbeResult((), liberal=False),
            Fate.FORWARDED,
            "kube-proxy has no chain KUBE-FORWARD of iptables here",
        ),
    ],
)
def test_fate(findings: ProbeResult, fate: Fate, words: str) -> None:
    """
    The rule drops; without it the kernel's setting decides what its next start brings.

    Ipvs and nftables have no rule.
    """
    verdict = judge_invalid(findings)

    assert fate is verdict.fate
    assert words in verdict.sentence


def test_rules_of_the_chain() -> None:
    """Rules of other chains, which may jump to it, are none of its own."""
    lines = [
        CHAIN,
        "-A FORWARD -j KUBE-FORWARD",
        DROP,
        "-A KUBE-FIREWALL -m conntrack --ctstate INVALID -j DROP",
    ]

    assert (CHAIN, DROP) == chain_rules(lines)
