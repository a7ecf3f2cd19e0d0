"""
What is granted is used: for each right of the rendered chart, the line of the program that needs it.

That no right is missing is shown where programs run with these roles: `tests/contract/policies` for
the agent, `tests/lab` for all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache

import pytest

from tests.chart.rendering import ROOT, Rendered, render

EVERYTHING = {
    "multus": {"builtin": {"enabled": True}},
    "spiderpoolController": {"podResourceInject": {"enabled": True}},
}
OWN = (
    "spidercoordinators",
    "spiderendpoints",
    "spiderippools",
    "spiderips",
    "spidermultusconfigs",
    "spiderreservedips",
    "spidersubnets",
)

Right = tuple[str, str]
"""Resource and verb."""

Need = tuple[str, str]
"""File below src/spiderpool, and a text in it."""


def followed(resource: str, file: str, text: str) -> dict[Right, Need]:
    """Return what an informer needs."""
    return {(resource, "list"): (file, text), (resource, "watch"): (file, text)}


def each(resource: str, file: str, **texts: str) -> dict[Right, Need]:
    """Return the verbs that one file needs, each with its text."""
    return {(resource, verb): (file, text) for verb, text in texts.items()}


EVENTS = each(
    "events",
    "kube/events.py",
    create="cluster.create(event)",
    get="cluster.get(Event",
    patch="cluster.patch(",
)
OWNERS = "kube/readers/holder_owners.py"
MACHINES = each("virtualmachines", OWNERS, get="get_metadata(VirtualMachine,") | each(
    "virtualmachineinstances", OWNERS, get="get_metadata(VirtualMachineInstance,"
)
INFORMERS = "agent/informers.py"
AGENT = {
    **EVENTS,
    **MACHINES,
    **followed("spiderippools", INFORMERS, "Informer(cluster, SpiderIPPool"),
    **followed("spiderreservedips", INFORMERS, "Informer(cluster, SpiderReservedIP"),
    **followed("spidercoordinators", INFORMERS, "Informer(cluster, SpiderCoordinator"),
    **followed("namespaces", INFORMERS, "Informer(cluster, Namespace"),
    **followed("nodes", INFORMERS, "Informer(cluster, Node"),
    **followed("pods", INFORMERS, "Informer(cluster, Pod"),
    **followed(
        "spiderips", "agent/records/cooling_informers.py", "Informer(self._cluster, SpiderIP"
    ),
    **each("namespaces", "agent/ipam/facts.py", get="cluster.get(Namespace"),
    **each("nodes", "agent/main.py", get="cluster.get(Node"),
    **each("pods", "agent/ipam/release.py", get="cluster.get(Pod"),
    **each(
        "spiderips", "agent/records/claims.py", get="cluster.get(SpiderIP", create="create(fresh)"
    ),
    **each(
        "spiderips",
        "agent/records/releases.py",
        update="cluster.replace(",
        delete="cluster.delete(",
    ),
    **each(
        "spiderendpoints",
        "agent/reconcile/endpoints.py",
        get="cluster.get(SpiderEndpoint",
        list="list_objects(",
        create="cluster.create(wanted)",
        update="cluster.replace(merged)",
        delete="cluster.delete(",
    ),
    **each("replicasets", "kube/readers/top_owners.py", get='"ReplicaSet": ReplicaSet'),
    **each("jobs", "kube/readers/top_owners.py", get='"Job": Job'),
    **each("statefulsets", OWNERS, get="get(StatefulSet"),
    **each(
        "network-attachment-definitions",
        "agent/multus/network_lookup.py",
        get="get(NetworkAttachmentDefinition",
    ),
    **each("pods/status", "agent/multus/attachment.py", patch='subresource="status"'),
    **each("daemonsets", "agent/node/installation.py", get="get_metadata(DaemonSet"),
}

LISTED = "controller/subnets/applications.py"
CONTEXT = "controller/runtime/context.py"
COORDINATORS = "controller/networks/coordinators.py"
NETWORKS = "controller/networks/multusconfigs.py"
CERTIFICATES = "controller/webhooks/certificates.py"


def application(resource: str) -> dict[Right, Need]:
    """Return what following a kind of applications needs: all that are native are followed."""
    text = f'"{resource}", namespaced=True'
    return {
        (resource, verb): ("api/kubernetes/workloads.py", text) for verb in ("get", "list", "watch")
    }


CONTROLLER = {
    **EVENTS,
    **MACHINES,
    **followed("spiderippools", "controller/main.py", "Informer(cluster, SpiderIPPool"),
    **each(
        "spiderippools",
        "controller/subnets/automatic_pools.py",
        get="get_metadata(SpiderIPPool",
        create="cluster.create(build_pool",
        patch="cluster.patch(SpiderIPPool",
    ),
    **each("spiderippools", "controller/pools/deletion.py", delete="cluster.delete("),
    **each("spiderippools/status", "controller/pools/pool_status.py", patch='subresource="status"'),
    **followed("spidersubnets", "controller/main.py", "Informer(cluster, SpiderSubnet"),
    **each("spidersubnets", "controller/subnets/grant_ledger.py", get="get(SpiderSubnet"),
    **each(
        "spidersubnets", "controller/subnets/subnet_keeper.py", patch="cluster.patch(SpiderSubnet"
    ),
    **each(
        "spidersubnets/status", "controller/subnets/grant_ledger.py", patch='subresource="status"'
    ),
    **followed(
        "spiderreservedips", "controller/leader.py", "Informer(context.cluster, SpiderReservedIP"
    ),
    **followed("spiderips", CONTEXT, "Informer(self.cluster, SpiderIP"),
    **each(
        "spiderips",
        "controller/pools/imports.py",
        get="cluster.get(SpiderIP",
        create="cluster.create(",
    ),
    **each(
        "spiderips",
        "controller/reclaim/reclaimer.py",
        update="cluster.replace(",
        delete="cluster.delete(",
    ),
    **each(
        "spiderendpoints",
        "controller/reclaim/orphan_endpoints.py",
        get="cluster.get(SpiderEndpoint",
        list="list_objects(SpiderEndpoint",
        delete="cluster.delete(",
    ),
    **each("spiderendpoints", "controller/pools/imports.py", patch="cluster.patch("),
    **followed("pods", CONTEXT, "MetadataInformer(self.cluster, Pod"),
    **each("pods", "controller/reclaim/reclaimer.py", get="cluster.get(Pod"),
    **each("nodes", "controller/reclaim/reclaimer.py", get="cluster.get(Node"),
    **each("namespaces", "controller/webhooks/pod_injector.py", get="get_metadata(Namespace"),
    **application("deployments"),
    **application("replicasets"),
    **application("daemonsets"),
    **application("jobs"),
    **application("cronjobs"),
    **followed("statefulsets", CONTEXT, "MetadataInformer(self.cluster, StatefulSet"),
    **each("statefulsets", OWNERS, get="get(StatefulSet"),
    **followed("clonesets", LISTED, "MetadataInformer("),
    **each("clonesets", LISTED, get="get_metadata("),
    **each("clonesets/scale", LISTED, get="get_scale("),
    **each("statefulsets/scale", LISTED, get="get_scale("),
    **followed("spidercoordinators", COORDINATORS, "Informer(self._cluster, SpiderCoordinator"),
    **each("spidercoordinators", COORDINATORS, get="get(SpiderCoordinator"),
    **each("spidercoordinators/status", COORDINATORS, patch='subresource="status"'),
    **followed("configmaps", COORDINATORS, "Informer(self._cluster, ConfigMap"),
    **each("configmaps", COORDINATORS, get="get(ConfigMap"),
    **followed("servicecidrs", COORDINATORS, "class ServiceCIDR("),
    **followed("ippools", COORDINATORS, "class CalicoIPPool("),
    **followed("ciliumpodippools", COORDINATORS, "ciliumpodippools"),
    **followed("spidermultusconfigs", NETWORKS, "Informer(cluster, SpiderMultusConfig"),
    **each("spidermultusconfigs", NETWORKS, get="get_metadata"),
    # where owners may be named only by those who may change them (OwnerReferencesPermissionEnforcement)
    **each(
        "spidermultusconfigs/finalizers",
        "controller/networks/multusconfigs.py",
        update="owner_references=",
    ),
    **followed(
        "network-attachment-definitions", NETWORKS, "Informer(cluster, NetworkAttachmentDefinition"
    ),
    **each(
        "network-attachment-definitions",
        NETWORKS,
        get="cluster.get",
        create="cluster.create(wanted)",
        patch="cluster.patch(",
    ),
    **each(
        "leases", "kube/election.py", get="get(Lease", create="create(Lease", patch="patch(Lease"
    ),
    **each(
        "secrets", CERTIFICATES, get="get(Secret", create="cluster.create(", patch="cluster.patch("
    ),
    **each("mutatingwebhookconfigurations", CERTIFICATES, get="Mutating", patch="cluster.patch("),
    **each(
        "validatingwebhookconfigurations", CERTIFICATES, get="Validating", patch="cluster.patch("
    ),
}

CLEANUP = "controller/cleanup.py"
STEPS = "installer/steps.py"
REMOVAL = {
    **{
        (resource, verb): (CLEANUP, text)
        for resource in OWN
        for verb, text in (
            ("list", "list_metadata(kind)"),
            ("patch", "cluster.patch("),
            ("delete", "cluster.delete(kind, meta.name"),
        )
    },
    **each(
        "customresourcedefinitions",
        CLEANUP,
        list="list_objects(CustomResourceDefinition",
        delete="_delete(cluster, CustomResourceDefinition",
    ),
    **each("mutatingwebhookconfigurations", CLEANUP, delete="remains.mutating"),
    **each("validatingwebhookconfigurations", CLEANUP, delete="remains.validating"),
    **each("jobs", CLEANUP, delete="remains.init_job"),
    **each("secrets", CLEANUP, delete="remains.secret"),
    **each("daemonsets", STEPS, get="get_metadata(kind", delete="DaemonSet, agent"),
    **each("deployments", STEPS, get="get_metadata(kind", delete="Deployment, controller"),
    **each("leases", STEPS, delete="delete(Lease"),
}
DEFAULTS = "installer/default_network.py"
INIT = {
    **each("spiderippools", STEPS, create="create(default)"),
    **each("spidersubnets", STEPS, create="create(default)"),
    **each("spidercoordinators", DEFAULTS, create="create(made)"),
    **each("spidermultusconfigs", DEFAULTS, create="create(config)"),
    **each(
        "network-attachment-definitions", DEFAULTS, get="get_metadata(NetworkAttachmentDefinition"
    ),
    **each("endpointslices", STEPS, list="list_objects("),
}
DEFINITIONS = each(
    "customresourcedefinitions",
    STEPS,
    create="create(definition)",
    get="get(CustomResourceDefinition",
    patch="patch(CustomResourceDefinition",
)
NEEDS: Mapping[str, Mapping[Right, Need]] = {
    "spiderpool-agent": AGENT,
    "spiderpool-controller": CONTROLLER,
    "spiderpool-controller-cleanup": REMOVAL,
    "spiderpool-init": INIT,
    "spiderpool-init-crds": DEFINITIONS,
}


@cache
def source(file: str) -> str:
    """Return a program's text, on one line, without the breaks that a formatter makes."""
    text = re.sub(r"\s+", " ", (ROOT / "src/spiderpool" / file).read_text())
    return re.sub(r"(?<=\() ", "", text)


def granted(things: Rendered, name: str) -> Iterator[Right]:
    """Yield all rights of an account, cluster-wide or in the release's namespace."""
    for kind in ("ClusterRole", "Role"):
        if name in things.names(kind):
            for _, resource, verb in things.rules(kind, name):
                yield resource, verb


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_granted_is_used(name: str) -> None:
    """Each right has a line of the program that needs it, and the other way round."""
    assert set(granted(render(EVERYTHING), name)) == set(NEEDS[name])


@pytest.mark.parametrize("name", NEEDS)
def test_needs_are_in_the_programs(name: str) -> None:
    """The lines are there; a right whose last use goes is to be taken out of the chart."""
    missing = [
        (*right, file, text)
        for right, (file, text) in NEEDS[name].items()
        if text not in source(file)
    ]
    assert [] == missing


def test_every_account_is_looked_at() -> None:
    """No role is without a list of its needs."""
    things = render(EVERYTHING)
    assert set(NEEDS) == {*things.names("ClusterRole"), *things.names("Role")}


def test_hooks_name_their_definitions() -> None:
    """Jobs change and delete definitions of ours only, and objects of no other kind of our group."""
    things = render(EVERYTHING)
    names = {f"{resource}.spiderpool.spidernet.io" for resource in OWN}
    foreign = "network-attachment-definitions.k8s.cni.cncf.io"
    for role, verbs, expected in (
        ("spiderpool-init-crds", {"patch"}, names),
        ("spiderpool-init-crds", {"get"}, names | {foreign}),
        ("spiderpool-controller-cleanup", {"delete"}, names),
    ):
        rules = [
            rule
            for rule in things.one("ClusterRole", role)["rules"]
            if "customresourcedefinitions" in rule["resources"] and verbs & set(rule["verbs"])
        ]
        assert all(rule["resourceNames"] for rule in rules)
        assert expected == {name for rule in rules for name in rule["resourceNames"]}
