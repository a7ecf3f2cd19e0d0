"""
Which rules of a node's filter table can drop a packet, read from `iptables-save -c`.

Several programs write there: kube-proxy, and whatever carries out NetworkPolicy (Calico's Felix,
kube-router). Chains are followed from FORWARD as the kernel does. A match that is not understood
here, such as a mark or a set, counts as possible: it narrows nothing down, and ends nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import ip_network
from typing import Final

from spiderpool.addressing.sets import IPAddress, IPNetwork

FORWARD: Final = "FORWARD"
KUBE_PROXY_CHAINS: Final = frozenset({FORWARD, "KUBE-FORWARD"})
"""Where kube-proxy has its rule against packets of state INVALID; other programs have their own."""
DEEPEST: Final = 16  # chains in chains; the kernel refuses loops, a text may have any

DROPS: Final = frozenset({"DROP", "REJECT"})
STATES: Final = frozenset({"--ctstate", "--state"})
_LINE: Final = re.compile(r"\[(\d+):\d+\] (-A (\S+) ?.*)")
_SILENT: Final = frozenset({"comment", "nfacct", "tcp", "udp", "conntrack", "state", "set"})
"""Modules that match nothing by being named: what matters are their own options."""
_ALWAYS: Final = frozenset({"--comment", "--nfacct-name", "--reject-with"})
"""Options with a value that restricts nothing."""


class State(StrEnum):
    """What conntrack says of a packet."""

    NEW = "NEW"
    INVALID = "INVALID"


@dataclass(frozen=True, slots=True)
class Passage:
    """
    A packet on its way through a node.

    Empty interfaces and a destination of None are not known: what asks for them may match.
    """

    source: IPAddress
    destination: IPAddress | None
    entered: str
    left: str
    state: State = State.NEW


@dataclass(frozen=True, slots=True)
class FilterRule:
    """One rule: its text without the counters, where it leads, and how many packets it had."""

    chain: str
    text: str
    target: str
    packets: int
    goto: bool = False
    options: tuple[tuple[str, str, bool], ...] = ()
    """Option, value, and whether a `!` stands in front."""

    @property
    def drops_invalid(self) -> bool:
        """Whether it is there for packets whose connection conntrack does not know."""
        return self.target in DROPS and any(
            name in STATES and State.INVALID in value.split(",") and not negated
            for name, value, negated in self.options
        )


Firewall = Mapping[str, Sequence[FilterRule]]
"""The rules of each chain, in their order."""


@dataclass(frozen=True, slots=True)
class Dropping:
    """A rule that drops the packet, or may: `sure` when all on the way to it is known to match."""

    rule: FilterRule
    sure: bool

    @property
    def of_kube_proxy(self) -> bool:
        """Whether the rule is kube-proxy's own."""
        return self.rule.chain in KUBE_PROXY_CHAINS


def read_firewall(text: str) -> Firewall:
    """Read what `iptables-save -c -t filter` prints."""
    chains: dict[str, list[FilterRule]] = {}
    for line in text.splitlines():
        found = _LINE.fullmatch(line.strip())
        if found:
            packets, rule, chain = found.groups()
            chains.setdefault(chain, []).append(_rule(chain, rule, int(packets)))
    return chains


def _rule(chain: str, text: str, packets: int) -> FilterRule:
    options = tuple(_options(_words(text)[2:]))
    jump = next(((name, value) for name, value, _ in options if name in {"-j", "-g"}), ("", ""))
    return FilterRule(chain, text, jump[1], packets, goto=jump[0] == "-g", options=options)


def _words(text: str) -> list[str]:
    """Split a rule; a comment with a lonely quote is no reason to know nothing."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _options(words: Sequence[str]) -> Iterator[tuple[str, str, bool]]:
    """Walk a rule's options with their values."""
    name, values, negated, ahead = "", list[str](), False, False
    for word in words:
        if word == "!":
            ahead = True
        elif word.startswith("-") and not _is_number(word):
            if name:
                yield name, " ".join(values), negated
            name, values, negated, ahead = word, [], ahead, False
        else:
            values.append(word)
            negated, ahead = negated or ahead, False
    if name:
        yield name, " ".join(values), negated


def _is_number(word: str) -> bool:
    return word.lstrip("-").isdigit()


# --- following


class _Match(Enum):
    NO = 0
    MAYBE = 1
    YES = 2


def droppings(firewall: Firewall, passage: Passage) -> list[Dropping]:
    """Return the rules that drop a forwarded packet or may drop it, in the order of the kernel."""
    found: list[Dropping] = []
    _follow(firewall, FORWARD, passage, found, sure=True, depth=0)
    return found


def _follow(
    firewall: Firewall,
    chain: str,
    passage: Passage,
    found: list[Dropping],
    *,
    sure: bool,
    depth: int,
) -> bool:
    """Pass one chain. Return whether the packet, once in it, certainly goes no further."""
    if depth > DEEPEST:
        return False
    for rule in firewall.get(chain, ()):
        match = _matches(rule, passage)
        if match is _Match.NO:
            continue
        certain = match is _Match.YES
        if rule.target in DROPS:
            found.append(Dropping(rule, sure and certain))
        ended = rule.target in DROPS or rule.target == "ACCEPT"
        if rule.target in firewall:
            ended = _follow(
                firewall, rule.target, passage, found, sure=sure and certain, depth=depth + 1
            )
        if certain and (ended or rule.goto or rule.target == "RETURN"):
            return ended
    return False


def _matches(rule: FilterRule, passage: Passage) -> _Match:
    """Take the weakest of what the options say."""
    answers = [_option(name, value, negated, passage) for name, value, negated in rule.options]
    return min(answers, key=lambda match: match.value, default=_Match.YES)


def _option(name: str, value: str, negated: bool, passage: Passage) -> _Match:
    if name in {"-j", "-g"} or name in _ALWAYS or (name == "-m" and value in _SILENT):
        return _Match.YES
    answer: bool | None = None
    if name in {"-s", "-d"}:
        address = passage.source if name == "-s" else passage.destination
        answer = None if address is None else _contains(value, address)
    elif name in {"-i", "-o"}:
        device = passage.entered if name == "-i" else passage.left
        answer = _is_device(value, device) if device else None
    elif name == "-p":
        answer = value in {"tcp", "all"}
    elif name in STATES:
        answer = passage.state.value in value.split(",")
    if answer is None:
        return _Match.MAYBE
    return _Match.YES if answer != negated else _Match.NO


def _contains(value: str, address: IPAddress) -> bool:
    network: IPNetwork = ip_network(value, strict=False)
    return network.version == address.version and address in network


def _is_device(pattern: str, device: str) -> bool:
    """Compare with an interface; `cali+` stands for all whose names begin so."""
    return device.startswith(pattern[:-1]) if pattern.endswith("+") else device == pattern
