"""
The CNI calls that the start of a pod makes to the IPAM plugin, made up from the pod's networks.

Networks become calls by the same steps as on a node: the meta plugin's plan, a plugin's standard
input, and what the agent reads from a call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition
from spiderpool.cni.caseless_keys import lookup
from spiderpool.cni.netconf import NetworkConfig, parse_definition, plugin_document
from spiderpool.cni.request import CniArgs, CniRequest, parse_call
from spiderpool.cni.versions import OLDEST
from spiderpool.errors import InvalidRequest, SpiderpoolError
from spiderpool.ipam.filters import DEFAULT_NIC, NicNetwork, networks_of
from spiderpool.ipam.pod_request import Request
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.model.facts import Facts
from spiderpool.networks.delegates import Delegate, Network, delegate_env, plan_delegates
from spiderpool.networks.ipam_request import read_ipam_request

IPAM: Final = "spiderpool"
SANDBOX: Final = "explained"  # a container ID and a namespace, which a call must name
NETNS: Final = "/var/run/netns/explained"


@dataclass(frozen=True, slots=True)
class IpamCalls:
    """
    What the agent would be asked.

    `problems`: NICs whose call the agent would refuse, or all of them, each with the words of the
    refusal. `notes`: NICs whose addresses Spiderpool does not give.
    """

    requests: tuple[Request, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


async def calls_of(cluster: Cluster, facts: Facts) -> IpamCalls:
    """Read the networks of a pod, and return the calls that its start makes."""
    nics = tuple(networks_of(facts))
    networks = [await _read_network(cluster, each) for each in nics]
    try:
        delegates = plan_delegates(networks, DEFAULT_NIC, SANDBOX, {})
    except SpiderpoolError as error:
        return IpamCalls(problems=(error.message,))
    requests, problems, notes = [], [], []
    for nic, delegate in zip(nics, delegates, strict=True):
        note = _note(nic, delegate)
        if note is not None:
            notes.append(f"{nic.nic}: {note}")
            continue
        try:
            requests.append(_request_of(nic, delegate, facts))
        except SpiderpoolError as error:
            problems.append(f"{nic.nic}: {error.message}")
    return IpamCalls(tuple(requests), tuple(problems), tuple(notes))


def without_master_rule(calls: IpamCalls) -> IpamCalls:
    """
    Return calls without `match_master_subnet`, and a note for each NIC that has it.

    The rule judges by addresses of the node that no object of the cluster tells.
    """
    notes = tuple(
        f"{request.nic}: match_master_subnet: a pool without multusName is used only if the NIC's "
        "master has an address in its subnet; only the node knows these addresses"
        for request in calls.requests
        if request.match_master_subnet
    )
    requests = tuple(replace(request, match_master_subnet=False) for request in calls.requests)
    return replace(calls, requests=requests, notes=(*calls.notes, *notes))


async def _read_network(cluster: Cluster, nic: NicNetwork) -> Network:
    """Read a network; one that cannot be read has no plugins."""
    nothing = NetworkConfig(nic.name or "", OLDEST, (), listed=True, document={})
    if nic.name is None:
        return Network("", nothing)
    namespace, _, name = nic.name.partition("/")
    found = await if_exists(cluster.get(NetworkAttachmentDefinition, name, namespace))
    try:
        config = (
            parse_definition(found.spec.config, name, f"network {nic.name}") if found else nothing
        )
    except InvalidRequest:
        config = nothing
    return Network(nic.name, config, nic.selection)


def _note(nic: NicNetwork, delegate: Delegate) -> str | None:
    """Say why a NIC's addresses are not Spiderpool's; None if they are."""
    if nic.name is None:
        return None
    found = find_ipam(delegate.config.plugins)
    if found is None:
        return f"network {nic.name} has no definition with an IPAM that could be read"
    kind = lookup(found[1], "type")
    return (
        None
        if kind == IPAM
        else f"network {nic.name} gets its addresses from {kind}, not from Spiderpool"
    )


def _request_of(nic: NicNetwork, delegate: Delegate, facts: Facts) -> Request:
    """
    Read the request of one NIC's call, as the agent does.

    Raises `SpiderpoolError` as the agent would answer.
    """
    found = find_ipam(delegate.config.plugins)
    # no meta plugin is set up, so the node's configuration is not known: it names no pools
    if found is None:
        return Request(nic=nic.nic)
    metadata = facts.pod.metadata
    args = CniArgs(
        namespace=metadata.namespace,
        name=metadata.name,
        infra_container_id=SANDBOX,
        uid=metadata.uid,
    )
    env = delegate_env({"CNI_CONTAINERID": SANDBOX}, delegate, "ADD", "", args, NETNS)
    document = plugin_document(delegate.config, found[0], delegate.capability_args)
    return read_ipam_request(parse_call(CniRequest(IPAM, env, document)))


def find_ipam(plugins: Iterable[Mapping[str, Any]]) -> tuple[int, Mapping[str, Any]] | None:
    """Return position and `ipam` object of the first plugin that has one."""
    found = ((index, lookup(plugin, "ipam")) for index, plugin in enumerate(plugins))
    return next(((index, ipam) for index, ipam in found if isinstance(ipam, dict) and ipam), None)
