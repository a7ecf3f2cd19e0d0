"""
The SpiderCoordinator and the default network that the installation makes.

Source: docs/reference/configuration.md#jobs. Unlike there, a network that exists already is not
replaced by an empty one (decision 0014).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, TypeVar

import msgspec

from spiderpool.admission.coordinators import complete_coordinator, validate_coordinator
from spiderpool.api.crd.coordinator import (
    CoordinatorMode,
    CoordinatorSpec,
    PodCIDRType,
    SpiderCoordinator,
)
from spiderpool.api.crd.ippool import Route
from spiderpool.api.crd.multusconfig import (
    ANNO_CR_NAME,
    CNIType,
    MultusConfigSpec,
    SpiderMultusConfig,
)
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition, PartialObject
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cni.netconf import SUFFIXES, first_network
from spiderpool.configuration.environment import Environment, read_flag, read_number
from spiderpool.errors import InvalidRequest
from spiderpool.installer.steps import Say, create_once
from spiderpool.kernel.directories import read_texts
from spiderpool.kube.cluster import Cluster, if_exists
from spiderpool.networks.definition import definition_name

PREFIX: Final = "SPIDERPOOL_INIT_DEFAULT_COORDINATOR_"
CNI_DIR: Final = "SPIDERPOOL_INIT_DEFAULT_CNI_DIR"
CNI_NAME: Final = "SPIDERPOOL_INIT_DEFAULT_CNI_NAME"
CNI_NAMESPACE: Final = "SPIDERPOOL_INIT_DEFAULT_CNI_NAMESPACE"
# what people call it, and what its configuration is called
CALICO: Final = ("calico", "k8s-pod-network")
NO_NETWORK: Final = "default"

T = TypeVar("T")


def read_coordinator(environ: Environment) -> SpiderCoordinator | None:
    """Read the coordinator; None when it has no name. `InvalidRequest` names the variable."""
    name = environ.get(f"{PREFIX}NAME", "")
    if not name:
        return None
    spec = CoordinatorSpec(
        mode=_read(environ, "MODE", CoordinatorMode) or CoordinatorMode.AUTO,
        pod_cidr_type=_read(environ, "POD_CIDR_TYPE", PodCIDRType) or PodCIDRType.AUTO,
        tune_pod_routes=read_flag(environ, f"{PREFIX}TUNE_POD_ROUTES", default=True),
        hijack_cidr=_read_json(environ, "HIJACK_CIDR", tuple[str, ...]) or (),
        policy_routes=_read_json(environ, "POLICY_ROUTES", tuple[Route, ...]) or (),
        veth_link_address=environ.get(f"{PREFIX}VETH_LINK_ADDRESS", ""),
        veth_mtu=read_number(environ, f"{PREFIX}VETH_MTU", 1500, least=1),
        pod_default_route_nic=environ.get(f"{PREFIX}POD_DEFAULT_ROUTE_NIC", ""),
        pod_mac_prefix=environ.get(f"{PREFIX}POD_MAC_PREFIX", ""),
    )
    made = SpiderCoordinator(metadata=ObjectMeta(name=name), spec=spec)
    for error in validate_coordinator(complete_coordinator(made)):
        raise InvalidRequest(
            f"the values of the chart's coordinator make no SpiderCoordinator: {error.text}"
        )
    return made


def read_cni_dir(environ: Environment) -> Path:
    """Read where the CNI configurations of the job's node are."""
    return Path(environ.get(CNI_DIR) or "/etc/cni/net.d")


def make_default_network(environ: Environment, found: str) -> SpiderMultusConfig:
    """
    Return the network that stands for the cluster's own CNI.

    It is empty, which means the node's configuration of that name.

    Args:
        environ: may name it, as `name` or `namespace/name`.
        found: name of the first CNI configuration on the job's node, empty when there is none.
    """
    namespace, _, wanted = environ.get(CNI_NAME, "").rpartition("/")
    calico = not wanted and found == CALICO[1]
    name = wanted or (CALICO[0] if calico else found) or NO_NETWORK
    return SpiderMultusConfig(
        metadata=ObjectMeta(
            name=name,
            namespace=namespace
            or environ.get(CNI_NAMESPACE, "")
            or environ.get("SPIDERPOOL_NAMESPACE", ""),
            annotations={ANNO_CR_NAME: CALICO[1]} if calico else {},
        ),
        spec=MultusConfigSpec(cni_type=CNIType.CUSTOM, enable_coordinator=False),
    )


async def create_coordinator(cluster: Cluster, made: SpiderCoordinator, say: Say) -> None:
    """Create the coordinator; one of that name that is there already stays as it is."""
    await create_once(cluster.create(made), f"coordinator {made.metadata.name}", say)


async def create_default_network(cluster: Cluster, environ: Environment, say: Say) -> None:
    """Create the network that stands for the cluster's own CNI, unless the name exists."""
    config = make_default_network(environ, find_cni(read_cni_dir(environ)))
    words, definition = (
        f"{config.metadata.namespace}/{config.metadata.name}",
        definition_name(config),
    )
    found = await if_exists(
        cluster.get_metadata(NetworkAttachmentDefinition, definition, config.metadata.namespace)
    )
    if found is not None and (keeper := _keeper(found, config.metadata.name)):
        say(
            f"network-attachment-definition {config.metadata.namespace}/{definition} is {keeper}; "
            "it stays as it is"
        )
        return
    await create_once(cluster.create(config), f"network {words}", say)


def _keeper(definition: PartialObject, name: str) -> str:
    """
    Return who else keeps a definition, empty when it is the network of that name.

    A former installation may have made a network of another name for the same definition: the
    chart's value `defaultCniCRName` was another one then.
    """
    kind = SpiderMultusConfig.resource.kind
    owners = [ref.name for ref in definition.metadata.owner_references if ref.kind == kind]
    if not owners:
        return "somebody's own"
    return "" if name in owners else f"kept by SpiderMultusConfig {owners[0]}"


def find_cni(folder: Path) -> str:
    """
    Name the network of the first CNI configuration of a node.

    Empty when there is none, or the folder is not there.
    """
    try:
        network = first_network(read_texts(folder, SUFFIXES))
    except OSError:
        return ""
    return network.name if network is not None else ""


def _read(environ: Environment, name: str, kind: type[T]) -> T | None:
    """Read one of a closed set of words; None when it is not said."""
    text = environ.get(PREFIX + name, "")
    try:
        return msgspec.convert(text, kind) if text else None
    except msgspec.ValidationError:
        words = ", ".join(map(str, kind))  # type: ignore[call-overload]
        raise InvalidRequest(f"{PREFIX}{name} has {text!r}; it must be one of {words}") from None


def _read_json(environ: Environment, name: str, kind: type[T]) -> T | None:
    """Read a JSON list; None when it is not said."""
    text = environ.get(PREFIX + name, "")
    try:
        return msgspec.json.decode(text, type=kind) if text else None
    except msgspec.DecodeError as error:
        raise InvalidRequest(
            f"{PREFIX}{name} has {text!r}; it must be a JSON list: {error}"
        ) from None
