"""Names of the API group: group, version, finalizer, and the keys of annotations and labels."""

from __future__ import annotations

from typing import Final

from spiderpool.api.kubernetes.meta import Resource

GROUP: Final = "spiderpool.spidernet.io"
VERSION: Final = "v2beta1"
FINALIZER: Final = GROUP  # the same text as the group (docs/reference/objects.md)

PREFIX: Final = "ipam.spidernet.io/"

ANNO_SUBNETS: Final = PREFIX + "subnets"
ANNO_SUBNET: Final = PREFIX + "subnet"
ANNO_IPPOOL_IP_NUMBER: Final = PREFIX + "ippool-ip-number"
ANNO_IPPOOL_RECLAIM: Final = PREFIX + "ippool-reclaim"
ANNO_IPPOOLS: Final = PREFIX + "ippools"
ANNO_IPPOOL: Final = PREFIX + "ippool"
ANNO_IP: Final = PREFIX + "ip"  # exact addresses; ours, see `ipam.exact_addresses`
ANNO_ROUTES: Final = PREFIX + "routes"
ANNO_DEFAULT_ROUTE_NIC: Final = PREFIX + "default-route-nic"
ANNO_NS_DEFAULT_IPV4: Final = PREFIX + "default-ipv4-ippool"
ANNO_NS_DEFAULT_IPV6: Final = PREFIX + "default-ipv6-ippool"
ANNO_DEFAULT_NETWORK: Final = "v1.multus-cni.io/default-network"
ANNO_NETWORKS: Final = "k8s.v1.cni.cncf.io/networks"
ANNO_NETWORK_STATUS: Final = "k8s.v1.cni.cncf.io/network-status"

# Set on a pool when the allocations that Go Spiderpool left in its status exist as SpiderIPs, or
# when there never were any (docs/reference/takeover.md).
ANNO_IMPORTED: Final = PREFIX + "imported"

# On a SpiderIP: the controller's question whether its node still has the address, and the agent's
# answer that it does. Whatever changes the holder takes both off.
# (docs/reference/release-and-reclaim.md#the-nodes-answer)
ANNO_SUSPECT: Final = PREFIX + "suspect"
ANNO_IN_USE: Final = PREFIX + "still-in-use"

# A mark on a field's type for `api.crd.schema`: the defaults below it are left out.
WITHOUT_DEFAULTS: Final = "without-defaults"

LABEL_IPPOOL_CIDR: Final = PREFIX + "ippool-cidr"
LABEL_SUBNET_CIDR: Final = PREFIX + "subnet-cidr"
LABEL_OWNER_SUBNET: Final = PREFIX + "owner-spider-subnet"
# Labels of an automatic pool: whose it is. A pool that has the name is an automatic one
# (docs/reference/objects.md#labels-and-annotations).
LABEL_OWNER_APP_GV: Final = PREFIX + "owner-application-gv"
LABEL_OWNER_APP_KIND: Final = PREFIX + "owner-application-kind"
LABEL_OWNER_APP_NAMESPACE: Final = PREFIX + "owner-application-namespace"
LABEL_OWNER_APP_NAME: Final = PREFIX + "owner-application-name"
LABEL_OWNER_APP_UID: Final = PREFIX + "owner-application-uid"
LABEL_INTERFACE: Final = PREFIX + "interface"
LABEL_IP_VERSION: Final = PREFIX + "ip-version"
LABEL_IPPOOL_RECLAIM: Final = PREFIX + "ippool-reclaim"

# Labels of a SpiderIP, for selection only; values over 63 characters are hashed (Kubernetes label
# value limit).
LABEL_POOL: Final = PREFIX + "ippool"
LABEL_NODE: Final = PREFIX + "node"
LABEL_KEY: Final = PREFIX + "holder-key"
LABEL_OWNER: Final = PREFIX + "owner"
# on records that nobody holds: so a watch sees these alone
LABEL_STATE: Final = PREFIX + "ip-state"


def spiderpool_resource(kind: str, plural: str, *, namespaced: bool = False) -> Resource:
    """Name a resource of this group."""
    return Resource(group=GROUP, version=VERSION, kind=kind, plural=plural, namespaced=namespaced)
