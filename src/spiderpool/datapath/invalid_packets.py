"""
Whether a node drops answers of underlay pods that take another way than the requests. Pure.

A pod with an underlay address talks to a pod of the cluster's own network on another node: the
answer goes straight to its underlay interface, so its own node sees half of the connection only,
and conntrack calls the rest INVALID. kube-proxy in mode iptables drops such packets, unless
`nf_conntrack_tcp_be_liberal` was 1 when it started (Kubernetes 1.29 and later). In modes ipvs and
nftables it has no such rule, and in the latter no chain of iptables at all.
Source: docs/reference/packet-paths.md#half-seen-connections; Kubernetes, "Virtual IPs and Service
Proxies".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

CHAIN: Final = "KUBE-FORWARD"
FIX: Final = (
    "set the chart's coordinator.tcpBeLiberal=true (net.netfilter.nf_conntrack_tcp_be_liberal=1) "
    "and restart kube-proxy"
)


class Fate(enum.StrEnum):
    """What becomes of packets that conntrack calls INVALID."""

    DROPPED = "Dropped"  # the rule is there
    DROPPED_SOON = "DroppedAfterRestart"  # kube-proxy would add the rule when it starts again
    FORWARDED = "Forwarded"


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """
    What a node has.

    `rules` are those of kube-proxy's chain, one text a line, of both families. `liberal`: the
    kernel's setting, None where it has none. `ipvs`: whether Services are IPVS's, whose kube-proxy
    has no such rule.
    """

    rules: tuple[str, ...] = ()
    liberal: bool | None = None
    ipvs: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The fate, and why."""

    fate: Fate
    sentence: str


def judge_invalid(findings: ProbeResult) -> Verdict:
    """Decide what becomes of INVALID packets on a node."""
    if any(_drops(rule) for rule in findings.rules):
        if findings.liberal:
            why = (
                "nf_conntrack_tcp_be_liberal is 1 and kube-proxy still drops packets of ctstate "
                "INVALID: restart kube-proxy"
            )
        else:
            why = (
                "kube-proxy drops packets of ctstate INVALID, so underlay pods here cannot reach "
                f"cluster pods elsewhere; {FIX}"
            )
        return Verdict(Fate.DROPPED, why)
    if findings.rules and findings.liberal is False and not findings.ipvs:
        why = f"kube-proxy will drop packets of ctstate INVALID after its next start; {FIX}"
        return Verdict(Fate.DROPPED_SOON, why)
    if not findings.rules:
        why = (
            f"kube-proxy has no chain {CHAIN} of iptables here (it has another mode, or does not "
            "run), so it drops no packets"
        )
        return Verdict(Fate.FORWARDED, f"{why} of ctstate INVALID")
    return Verdict(Fate.FORWARDED, "no rule of kube-proxy drops packets of ctstate INVALID")


def chain_rules(lines: Iterable[str]) -> tuple[str, ...]:
    """Keep kube-proxy's chain and its rules of what `iptables -S` prints."""
    return tuple(line for line in lines if line.split()[1:2] == [CHAIN])


def _drops(rule: str) -> bool:
    """
    Return whether a rule drops INVALID packets.

    Newer kube-proxies count them on the way (`-m nfacct`).
    """
    words = rule.split()
    return f" {' '.join(words)} ".find(" --ctstate INVALID ") >= 0 and words[-2:] == ["-j", "DROP"]
