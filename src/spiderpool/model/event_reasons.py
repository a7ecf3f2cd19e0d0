"""
The reasons of all Events that agents and the controller write: published words.

docs/reference/events.md is made from this list.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

NORMAL: Final = "Normal"
WARNING: Final = "Warning"

POD: Final = "Pod"
POOL: Final = "SpiderIPPool"
APPLICATION: Final = "application"  # a Deployment, StatefulSet, …
POOL_AND_POD: Final = f"{POOL}, {POD}"
NETWORK: Final = "SpiderMultusConfig"
COORDINATOR: Final = "SpiderCoordinator"
NODE: Final = "Node"

AGENT: Final = "spiderpool-agent"
CONTROLLER: Final = "spiderpool-controller"


class EventReason(StrEnum):
    """
    One reason, as users search for it.

    Besides the word itself a reason has `about` (the kind of object that the Event is on),
    `component` (which writes it), `meaning`, `remedy` (what to do, empty for good news) and `type`
    (`Normal` or `Warning`).
    """

    about: str
    component: str
    meaning: str
    remedy: str

    def __new__(cls, word: str, about: str, component: str, meaning: str, remedy: str = "") -> Self:
        """Make one reason."""
        self = str.__new__(cls, word)
        self._value_ = word
        self.about, self.component = about, component
        self.meaning, self.remedy = meaning, remedy
        return self

    @property
    def type(self) -> str:
        """Whether something is wrong: there is something to do about it."""
        return WARNING if self.remedy else NORMAL

    NO_POOL = (
        "NoIPPoolAvailable",
        POD,
        AGENT,
        "The pod may use no pool. The message names every pool that was looked at, and why not.",
        "Change the pool or the pod; `spiderpoolctl explain` says the same at any time.",
    )
    EXHAUSTED = (
        "IPAddressesUsedOut",
        POD,
        AGENT,
        "The pools that the pod may use have no free address.",
        "Add addresses or a further pool, or end pods. The pod starts as soon as there is one.",
    )
    ADDRESS_HELD = (
        "IPAddressHeld",
        POD,
        AGENT,
        "The pod asks for an exact address that somebody else holds. The message says who.",
        "End the holder, or ask for another address.",
    )
    WRONG_INPUT = (
        "WrongInput",
        f"{POD}, {APPLICATION}",
        f"{AGENT}, {CONTROLLER}",
        "An annotation, or the configuration of a network, cannot be read or cannot be fulfilled.",
        "Change what the message names.",
    )
    POSTPONED = (
        "IPAllocationPostponed",
        POD,
        AGENT,
        "The address cannot be given now. The container runtime repeats the call.",
        "Wait; when it lasts, do what the message says.",
    )
    FAILED = (
        "IPAllocationFailed",
        POD,
        AGENT,
        "The address cannot be given, for a reason that has no word of its own.",
        "Read the message and the agent's log.",
    )
    ADDRESS_LOST = (
        "IPAddressLost",
        POD,
        AGENT,
        "A running pod uses an address that somebody else holds by now.",
        "Start the pod again.",
    )
    ROUTE_LEFT_OUT = (
        "RouteLeftOut",
        POD,
        AGENT,
        "The pod runs without a route that its annotation, or `policyRoutes`, asks for.",
        "Correct the route's next hop.",
    )
    ADDED_INTERFACE = (
        "AddedInterface",
        POD,
        AGENT,
        "Our own multi-network plugin attached networks to the pod.",
    )
    NO_NETWORK = (
        "NoNetworkFound",
        POD,
        AGENT,
        "A network of the pod's annotation does not exist.",
        "Make the NetworkAttachmentDefinition, or correct the annotation.",
    )
    FENCED = (
        "IPFenced",
        POOL,
        AGENT,
        "An interface without a living pod used an address of the pool; the agent took it off.",
        "Nothing, if a DEL was lost; look at the runtime when it happens again.",
    )
    MISUSED = (
        "IPMisused",
        POOL,
        AGENT,
        "Somebody has, or answers for, many addresses of the pool that are not his.",
        "Find what the message names: a pod with NET_ADMIN, or a router that answers for all.",
    )
    RECLAIMED = (
        "IPReclaimed",
        POOL_AND_POD,
        CONTROLLER,
        "An address was taken back from a holder that is gone. The message says why.",
        "Nothing; look at the runtime when it happens often: its DELs do not arrive.",
    )
    STILL_IN_USE = (
        "IPStillInUse",
        POOL_AND_POD,
        CONTROLLER,
        "The holder is gone, but an interface on its node still has the address, so it stays.",
        "End what the message names, such as a network namespace that was left.",
    )
    NODE_UNHEARD = (
        "NodeDoesNotAnswer",
        POOL_AND_POD,
        CONTROLLER,
        "The holder is gone, and its node cannot be asked whether the address is in use.",
        "Bring the node's agent back, or delete the Node object when the machine is gone.",
    )
    POOL_IN_USE = (
        "PoolInUse",
        POOL,
        CONTROLLER,
        "The pool is to be deleted and pods still hold addresses of it.",
        "End the pods that the message names.",
    )
    POOL_NEARLY_FULL = (
        "PoolNearlyFull",
        POOL,
        CONTROLLER,
        "Most addresses of the pool are held (`spiderpoolController.poolNearlyFullPercent`).",
        "Add addresses, or a further pool.",
    )
    POOL_USAGE_NORMAL = (
        "PoolUsageNormal",
        POOL,
        CONTROLLER,
        "The pool is not nearly full any more.",
    )
    NOT_IN_SUBNET = (
        "NotInSubnet",
        POOL,
        CONTROLLER,
        "The pool does not become part of the SpiderSubnet of its CIDR.",
        "Add the pool's addresses to the subnet, or take them out of the pool.",
    )
    IMPORT_WAITS = (
        "ImportWaits",
        POOL,
        CONTROLLER,
        "The pool is not taken over while agents of the original run.",
        "Remove the original's agents.",
    )
    IMPORT_REFUSED = (
        "ImportRefused",
        POOL,
        CONTROLLER,
        "What the original kept of the pool's allocations cannot be read.",
        "Correct the status or the spec that the message names.",
    )
    IMPORT_CONFLICT = (
        "ImportConflict",
        POOL,
        CONTROLLER,
        "Somebody else holds an address that the original had given.",
        "Start one of the two pods again.",
    )
    SUBNET_UNUSABLE = (
        "SubnetUnusable",
        APPLICATION,
        CONTROLLER,
        "The subnet that the application asks for cannot serve.",
        "Make or correct the SpiderSubnet.",
    )
    POOL_SIZE_LIMITED = (
        "PoolSizeLimited",
        APPLICATION,
        CONTROLLER,
        "The application asks for more addresses than an automatic pool may have.",
        "Ask for fewer, or raise the limit that the message names.",
    )
    SUBNET_EXHAUSTED = (
        "SubnetExhausted",
        APPLICATION,
        CONTROLLER,
        "The subnet has too few free addresses for the application's pool.",
        "Add addresses to the SpiderSubnet.",
    )
    NETWORK_NOT_WRITTEN = (
        "NetworkNotWritten",
        NETWORK,
        CONTROLLER,
        "The NetworkAttachmentDefinition belongs to another network, or cannot be made.",
        "Rename one of the two, or correct the spec.",
    )
    COORDINATOR_NOT_READY = (
        "CoordinatorNotReady",
        COORDINATOR,
        CONTROLLER,
        "The CIDRs of pods and Services are not known. No underlay pod starts meanwhile.",
        "Do what the message says; `podCIDRType` says where to look.",
    )
    CILIUM_NOT_READY = (
        "CiliumNotReady",
        COORDINATOR,
        CONTROLLER,
        "The same, where Cilium is asked.",
        "Do what the message says; `global.ciliumConfigMap` says where Cilium's settings are.",
    )
    CIDR_NOT_READABLE = (
        "CIDRNotReadable",
        COORDINATOR,
        CONTROLLER,
        "The CIDRs are known; something else that was looked at has none that can be read.",
        "Look at what the message names.",
    )
    KUBE_PROXY_DROPS = (
        "KubeProxyDropsInvalid",
        NODE,
        AGENT,
        "kube-proxy of the node drops packets of connections that it saw half of.",
        "Set `coordinator.tcpBeLiberal=true` and start kube-proxy again.",
    )
    KUBE_PROXY_WILL_DROP = (
        "KubeProxyWillDropInvalid",
        NODE,
        AGENT,
        "kube-proxy of the node will do so after its next start.",
        "Set `coordinator.tcpBeLiberal=true`.",
    )
