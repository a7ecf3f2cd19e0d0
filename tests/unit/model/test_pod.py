"""What a pod tells: life, top owner, and the identity of its claims."""

from __future__ import annotations

from typing import Any

import pytest

from spiderpool.api.crd.spiderip import Application, HolderKind
from spiderpool.api.kubernetes.meta import OwnerReference
from spiderpool.configuration.config import Features
from spiderpool.model.claim import Claimant, ClaimKey
from spiderpool.model.label_values import label_value
from spiderpool.model.owners import application, is_final, next_owner, top_owner
from spiderpool.model.pod import is_alive, is_mirror, is_run_as, is_static, runtime_uids
from tests.fakes.objects import (
    DEPLOYMENT,
    FEATURES,
    MACHINE,
    STATEFULSET,
    make_facts,
    make_pod,
    make_record,
)

FINAL = ("Succeeded", "Failed")
RESTARTS = ("Always", "OnFailure", "Never")
REASONS = (
    "DeadlineExceeded",
    "Evicted",
    "NodeShutdown",
    "Terminated",
    "Preempting",
    "OutOfcpu",
    "NodeAffinity",
)


@pytest.mark.parametrize(
    ("state", "alive"),
    [
        ({"phase": "Running"}, True),
        ({"phase": "Pending"}, True),
        ({"phase": "Running", "deleted": True}, False),
        ({"phase": "Unknown"}, True),
        ({"phase": ""}, True),
        *(({"phase": phase, "restart": restart}, False) for phase in FINAL for restart in RESTARTS),
        *(
            ({"phase": "Failed", "restart": "Always", "reason": reason}, False)
            for reason in REASONS
        ),
    ],
)
def test_life(state: dict[str, Any], alive: bool) -> None:
    """A pod lives until it is deleted or its phase is final, whatever its restart policy and the reason of its end."""
    assert alive == is_alive(make_pod(**state))


def test_mirror_pods() -> None:
    """A mirror pod is its node's, and says so where nobody else can: other annotations are anybody's."""
    mirror = make_pod(mirror="of-the-file")
    assert is_mirror(mirror)
    assert is_run_as(mirror, "of-the-file")

    claimed = {"kubernetes.io/config.source": "file", "kubernetes.io/config.hash": "of-another"}
    for pod in (
        make_pod(),
        make_pod(annotations=claimed, owner=("Node", "node1")),
        make_pod(annotations={"kubernetes.io/config.mirror": "of-the-file"}),
        make_pod(mirror="of-the-file", owner=("ReplicaSet", "node1")),
        make_pod(mirror="of-the-file", owner=("Node", "other")),
    ):
        assert not is_mirror(pod)
        assert not is_run_as(pod, "of-another")
        assert not is_run_as(pod, "of-the-file")
        assert is_run_as(pod, pod.metadata.uid)


def test_uid_of_another_pod() -> None:
    """A mirror pod that names another pod's UID does not take its namespaces over."""
    victim = make_pod("victim", uid="uid-v")
    thief = make_pod("thief", uid="uid-t", mirror="uid-v")

    for pods in ((victim, thief), (thief, victim)):
        assert "uid-v" == runtime_uids(pods)["uid-v"]


def ref(api_version: str, kind: str, *, controller: bool = True) -> OwnerReference:
    """Make a reference to an owner."""
    return OwnerReference(
        api_version=api_version,
        kind=kind,
        name=kind.lower(),
        uid=f"{kind}-uid",
        controller=controller,
    )


DEPLOYED = ref("apps/v1", "Deployment")
REPLICA_SET = ref("apps/v1", "ReplicaSet")
CRON = ref("batch/v1", "CronJob")
JOB = ref("batch/v1", "Job")
ROLLOUT = ref("argoproj.io/v1alpha1", "Rollout")


@pytest.mark.parametrize(
    ("first", "parents", "expected"),
    [
        (REPLICA_SET, [DEPLOYED], DEPLOYED),
        (REPLICA_SET, [], REPLICA_SET),
        (REPLICA_SET, [ROLLOUT], REPLICA_SET),
        (REPLICA_SET, [ref("apps/v1", "Deployment", controller=False)], REPLICA_SET),
        (JOB, [CRON], CRON),
        (JOB, [DEPLOYED], JOB),
        (ROLLOUT, [DEPLOYED], ROLLOUT),
    ],
)
def test_top_owner(
    first: OwnerReference, parents: list[OwnerReference], expected: OwnerReference
) -> None:
    """
    Only Kubernetes' own managers stand above ReplicaSets and Jobs.

    Source: docs/reference/allocation.md#application-of-a-pod.
    """
    assert expected == top_owner(first, parents)


def test_which_owners_need_a_second_look() -> None:
    """
    Parents are fetched for ReplicaSets and Jobs alone, by group.

    A ReplicaSet of others is final.
    """
    assert [False, False, True, True] == [
        is_final(owner) for owner in (REPLICA_SET, JOB, DEPLOYED, ref("x.io/v1", "ReplicaSet"))
    ]


def test_application() -> None:
    """The application is the controller; a pod without one is its own."""
    pod = make_pod()
    owners = [ref("v1", "ConfigMap", controller=False), ROLLOUT]

    assert ROLLOUT == next_owner(owners)
    assert next_owner(owners[:1]) is None
    assert Application(api_version="v1", kind="Pod", name="web-1", uid="uid-1") == application(
        pod, None
    )
    assert application(pod, ROLLOUT) == Application(
        api_version="argoproj.io/v1alpha1", kind="Rollout", name="rollout", uid="Rollout-uid"
    )


@pytest.mark.parametrize(
    ("owner", "features", "static"),
    [
        (STATEFULSET, FEATURES, True),
        (STATEFULSET, Features(), False),
        (MACHINE, FEATURES, True),
        (MACHINE, Features(), False),
        (DEPLOYMENT, FEATURES, False),
        (
            Application(api_version="apps.kruise.io/v1", kind="StatefulSet", name="x", uid="y"),
            FEATURES,
            False,
        ),
    ],
)
def test_static(owner: Application, features: Features, static: bool) -> None:
    """Only Kubernetes' own StatefulSets and virtual machines keep addresses, and only where that is switched on."""
    assert static == is_static(owner, features)


def test_identity_of_pods() -> None:
    """A stateless pod is its UID: the same name with another UID is another claimant."""
    first, renamed, again = (
        Claimant.of(make_pod(name, uid=uid), DEPLOYMENT, FEATURES)
        for name, uid in (("a", "1"), ("b", "1"), ("a", "2"))
    )

    assert first == renamed
    assert first != again
    assert first.label != again.label


def test_identity_of_static_pods() -> None:
    """A static pod is its name: another UID is the same claimant, another namespace is not."""
    first, again, other = (
        Claimant.of(make_pod("db-0", namespace, uid), STATEFULSET, FEATURES)
        for namespace, uid in (("ns", "1"), ("ns", "2"), ("n2", "1"))
    )

    assert first == again
    assert first.label == again.label
    assert first != other


def test_identity_of_machines() -> None:
    """A virtual machine is its own name, whatever its launcher pods are called, and no pod of that name is it."""
    first, moved = (
        Claimant.of(make_pod(name, uid=name), MACHINE, FEATURES)
        for name in ("virt-launcher-vm-abc", "virt-launcher-vm-def")
    )
    pod = Claimant.of(make_pod("vm"), STATEFULSET, FEATURES)

    assert first == moved
    assert first.kind is HolderKind.VIRTUAL_MACHINE
    assert first != pod


def test_keys_of_one_holder() -> None:
    """NICs and families have orders of their own and share the label by which one list finds them all."""
    claimant = Claimant.of(make_pod(), DEPLOYMENT, FEATURES)
    keys = [ClaimKey(claimant, nic, family) for nic in ("eth0", "net1") for family in (4, 6)]

    assert len({key.seed for key in keys}) == 4
    assert len({key.label for key in keys}) == 1
    assert len(keys[0].label) <= 63


@pytest.mark.parametrize("owner", [DEPLOYMENT, STATEFULSET, MACHINE])
def test_key_of_a_record(owner: Application) -> None:
    """The key that made a record can be read back from it."""
    facts = make_facts(owner=owner)
    record = make_record(facts=facts, nic="net1")

    assert ClaimKey(Claimant.of(facts.pod, owner, FEATURES), "net1", 4) == ClaimKey.of_record(
        record
    )


def test_label_values() -> None:
    """What may be a label value stays, what may not is hashed to one that may."""
    assert label_value("node-1.example") == "node-1.example"
    for text in ("x" * 64, "a/b", "-a", "ü"):
        assert len(label_value(text)) == 32
    assert label_value("a" * 64) != label_value("a" * 65)
