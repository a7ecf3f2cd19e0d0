"""
Filters: why a pod's NIC may not use a pool.

Where the original has words of its own for a reason, tools that read its messages look for them:
they come first (`Reason.fragment`).

Source: docs/reference/selection.md#filters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import ANNO_DEFAULT_NETWORK, ANNO_NETWORKS, PREFIX
from spiderpool.api.kubernetes.meta import LabelSelector
from spiderpool.ipam.automatic_pool import application_labels
from spiderpool.ipam.pod_request import NicRequest
from spiderpool.model.facts import Facts
from spiderpool.model.label_selectors import matches, render_selector, selector_problems
from spiderpool.model.network_selection import NetworkSelection, nic_name, parse_default_network
from spiderpool.model.pod import full_name
from spiderpool.model.pool import Pool

DEFAULT_NIC: Final = "eth0"  # the name that runtimes give to the NIC of the default network


@dataclass(frozen=True, slots=True)
class Reason:
    """
    Why a pool may not be used.

    `sentence` is said of the pool and does not name it. `fragment`: the original's words, empty
    when it has none.
    """

    sentence: str
    fragment: str = ""


def reason_against(pool: Pool, nic_request: NicRequest, family: int, facts: Facts) -> Reason | None:
    """
    Return the first reason against a pool, None when there is none.

    Args:
        pool: the pool.
        nic_request: what the NIC asks for.
        family: 4 or 6.
        facts: the pod, its node and its namespace.
    """
    reason = (
        _state(pool, family) or _node(pool, facts) or _namespace(pool, facts) or _pod(pool, facts)
    )
    # an automatic pool that belongs to the pod's application is for all its networks
    if reason is None and not (pool.auto and pool.pod_affinity is not None):
        reason = _network(pool, nic_request.nic, facts) or _master(pool, nic_request, facts)
    return reason or _wanted(pool, nic_request, family)


def _state(pool: Pool, family: int) -> Reason | None:
    """Judge the pool by itself."""
    if pool.terminating:
        return Reason("being deleted")
    if pool.disabled:
        return Reason("disabled")
    if pool.broken is not None:
        return Reason(f"cannot be read: {pool.broken}")
    if pool.family != family:
        return Reason(f"has IPv{pool.family} addresses (IPv{family} is asked for)")
    return None


def _node(pool: Pool, facts: Facts) -> Reason | None:
    """Judge by the pod's node: names first, labels only where there are no names."""
    node = facts.pod.spec.node_name
    if pool.node_names:
        if node in pool.node_names:
            return None
        return Reason(
            f"restricted to {_list('node', pool.node_names)} (pod is on {node or 'none'})",
            f"unmatched Node name of IPPool {pool.name}",
        )
    labels = facts.node.metadata.labels if facts.node else {}
    return _affinity("nodeAffinity", pool.node_affinity, labels, f"node {node}")


def _namespace(pool: Pool, facts: Facts) -> Reason | None:
    """Judge by the pod's namespace: names first, labels only where there are no names."""
    name = facts.pod.metadata.namespace
    if pool.namespace_names:
        if name in pool.namespace_names:
            return None
        return Reason(
            f"restricted to {_list('namespace', pool.namespace_names)} (pod is in {name})",
            f"unmatched Namespace name of IPPool {pool.name}",
        )
    labels = facts.namespace.metadata.labels if facts.namespace else {}
    return _affinity("namespaceAffinity", pool.namespace_affinity, labels, f"namespace {name}")


def _pod(pool: Pool, facts: Facts) -> Reason | None:
    """Judge by the pod's labels; an automatic pool by the pod's application."""
    if not pool.auto or pool.pod_affinity is None:
        return _affinity(
            "podAffinity",
            pool.pod_affinity,
            facts.pod.metadata.labels,
            f"pod {full_name(facts.pod)}",
        )
    wanted = application_labels(facts.owner, facts.pod.metadata.namespace)
    if all(pool.pod_affinity.match_labels.get(key) == value for key, value in wanted.items()):
        return None
    theirs = pool.pod_affinity.match_labels
    kind, name = theirs.get(PREFIX + "app-kind", "?"), theirs.get(PREFIX + "app-name", "?")
    return Reason(
        f"automatic pool of {kind} {name} (pod belongs to {facts.owner.kind} {facts.owner.name})"
    )


def _network(pool: Pool, nic: str, facts: Facts) -> Reason | None:
    """Judge by the network that the NIC is on (NetworkAttachmentDefinition)."""
    network = _network_of(nic, facts)
    if network is None and nic != DEFAULT_NIC:
        return Reason(
            f"not usable on {nic}: annotation {ANNO_NETWORKS} of the pod asks for no network with "
            "that interface"
        )
    names = tuple(
        name if "/" in name else f"{facts.agent_namespace}/{name}" for name in pool.multus_names
    )
    if not names or network in names:
        return None
    return Reason(
        f"restricted to {_list('network', names)} ({nic} is on {network or 'no known network'})",
        f"the spec.multusName [{' '.join(names)}] in the IPPool {pool.name} used by the Pod "
        f"interface {nic} is not matched",
    )


@dataclass(frozen=True, slots=True)
class NicNetwork:
    """
    A NIC and the network that it is on.

    `name`: `namespace/name`; None for the cluster's own network where no meta plugin is set up.
    `selection`: what the pod's annotations ask for; None where the pod says nothing.
    """

    nic: str
    name: str | None
    selection: NetworkSelection | None = None


def networks_of(facts: Facts) -> Iterator[NicNetwork]:
    """Return the NICs of a pod with their networks, the default NIC first."""
    chosen = facts.pod.metadata.annotations.get(ANNO_DEFAULT_NETWORK)
    if chosen is not None:
        selection = parse_default_network(chosen, facts.agent_namespace)
        yield NicNetwork(DEFAULT_NIC, selection.full_name, selection)
    else:
        default = facts.default_network
        yield NicNetwork(
            DEFAULT_NIC,
            f"{facts.agent_namespace}/{default}" if default and "/" not in default else default,
        )
    for index, network in enumerate(facts.networks, 1):
        yield NicNetwork(nic_name(facts.networks, index), network.full_name, network)


def _network_of(nic: str, facts: Facts) -> str | None:
    """Return `namespace/name` of the network that a NIC is on, None when unknown."""
    return next((found.name for found in networks_of(facts) if found.nic == nic), None)


def _master(pool: Pool, nic_request: NicRequest, facts: Facts) -> Reason | None:
    """
    Judge by the addresses of the master interface.

    Only if the plugin asks for that and the pool names no network.
    """
    if not nic_request.match_master_subnet or pool.multus_names:
        return None
    masters = facts.master_addresses
    if masters is None:
        what = f"{nic_request.nic} has no master on the node"
    elif any(ip in AddressSet.network(pool.subnet) for ip in masters):
        return None
    else:
        shown = ", ".join(map(str, masters)) or "no address"
        what = f"the master of {nic_request.nic} has {shown}"
    return Reason(f"restricted to masters in {pool.subnet} by match_master_subnet ({what})")


def _wanted(pool: Pool, nic_request: NicRequest, family: int) -> Reason | None:
    """Judge by the exact addresses that the user asks for."""
    ips = nic_request.ips_of(family)
    if not ips or any(ip in pool.usable for ip in ips):
        return None
    for ip in ips:
        if why := pool.why_withheld(ip):
            return Reason(f"does not give {ip}, which is asked for: it {why}")
    return Reason(f"does not have {' or '.join(map(str, ips))}, which is asked for")


def _affinity(
    field: str, selector: LabelSelector | None, labels: Mapping[str, str], who: str
) -> Reason | None:
    """Judge labels by one selector of the pool."""
    if selector is None:
        return None
    problem = next(selector_problems(selector), None)
    if problem is not None:
        path, value, why = problem
        return Reason(f'malformed {field}: {path} "{value}": {why}')
    if matches(selector, labels):
        return None
    return Reason(
        f"restricted to {render_selector(selector)} by {field} ({who} has {_labels(labels)})"
    )


def _labels(labels: Mapping[str, str]) -> str:
    """Show labels."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"


def _list(noun: str, names: tuple[str, ...]) -> str:
    """Show names after their noun, in its number."""
    return f"{noun}{'s' if len(names) > 1 else ''} {', '.join(names)}"
