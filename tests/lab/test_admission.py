"""
What the webhooks refuse, through the real API server: reason, field and words, each rule once.

And what they fill in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.lab import manifests
from tests.lab.kube import Kube, Refused, Thing
from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL, pool
from tests.lab.story import Story

NET, NET6 = "10.6.0.0/16", "fd00:6::/64"
FREE = "10.6.190.10-10.6.190.19"  # no story hands these out; what is refused takes nothing
ROUTE = {"dst": "10.99.0.0/16", "gw": "10.6.0.1"}


@dataclass(frozen=True)
class Wrong:
    """
    A pool that must be refused.

    Its spec, the field that the refusal names, and a part of its words.
    """

    where: str
    words: str
    spec: dict[str, Any] = field(default_factory=dict)
    subnet: str = NET
    ips: tuple[str, ...] = (FREE,)


POOLS = {
    "version unknown": Wrong("spec.ipVersion", "5", {"ipVersion": 5}),
    "version of the other family": Wrong("spec.subnet", NET, {"ipVersion": 6}),
    "subnet no CIDR": Wrong("spec.subnet", "10.6.0.0", subnet="10.6.0.0"),
    "subnet not canonical": Wrong("spec.subnet", "10.6.1.0/16", subnet="10.6.1.0/16"),
    "subnet overlaps": Wrong("spec.subnet", "10.6.190.0/24", subnet="10.6.190.0/24"),
    "range malformed": Wrong("spec.ips[0]", "10.6.190.x", ips=("10.6.190.x",)),
    "range outside": Wrong("spec.ips[0]", "10.5.0.1", ips=("10.5.0.1",)),
    "range as CIDR": Wrong("spec.ips[0]", "10.6.190.0/24", ips=("10.6.190.0/24",)),
    "range reversed": Wrong(
        "spec.ips[0]", "10.6.190.19-10.6.190.10", ips=("10.6.190.19-10.6.190.10",)
    ),
    "range with blanks": Wrong(
        "spec.ips[0]", "10.6.190.10 - 10.6.190.19", ips=("10.6.190.10 - 10.6.190.19",)
    ),
    "excluded range malformed": Wrong(
        "spec.excludeIPs[0]", "nonsense", {"excludeIPs": ["nonsense"]}
    ),
    "gateway no address": Wrong("spec.gateway", "nonsense", {"gateway": "nonsense"}),
    "gateway outside": Wrong("spec.gateway", "10.7.0.1", {"gateway": "10.7.0.1"}),
    "gateway among the addresses": Wrong("spec.ips[0]", "10.6.190.12", {"gateway": "10.6.190.12"}),
    "route to everywhere": Wrong(
        "spec.routes[0].dst", "0.0.0.0/0", {"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]}
    ),
    "route twice": Wrong("spec.routes[1].dst", ROUTE["dst"], {"routes": [ROUTE, ROUTE]}),
    "route to nowhere": Wrong(
        "spec.routes[0].dst", "nonsense", {"routes": [{"dst": "nonsense", "gw": "10.6.0.1"}]}
    ),
    "route of the other family": Wrong(
        "spec.routes[0].dst",
        "fd00:99::/64",
        {"routes": [{"dst": "fd00:99::/64", "gw": "10.6.0.1"}]},
    ),
    "route's gateway outside": Wrong(
        "spec.routes[0].gw", "10.7.0.1", {"routes": [{**ROUTE, "gw": "10.7.0.1"}]}
    ),
    "podAffinity empty": Wrong("spec.podAffinity", "", {"podAffinity": {}}),
    "podAffinity malformed": Wrong(
        "spec.podAffinity", "bad key!", {"podAffinity": {"matchLabels": {"bad key!": "x"}}}
    ),
    "nodeAffinity malformed": Wrong(
        "spec.nodeAffinity", "bad key!", {"nodeAffinity": {"matchLabels": {"bad key!": "x"}}}
    ),
    "namespaceAffinity malformed": Wrong(
        "spec.namespaceAffinity",
        "Nonsense",
        {"namespaceAffinity": {"matchExpressions": [{"key": "a", "operator": "Nonsense"}]}},
    ),
}


@pytest.fixture(scope="module")
def ground(kube: Kube) -> Iterator[None]:
    """Make a pool that others can meet: it owns 10.6.191.10 to .19 of the underlay."""
    names = ("admission-ground", "admission-ground6")
    for thing in (
        pool(names[0], NET, ["10.6.191.10-10.6.191.19"]),
        pool(names[1], NET6, ["fd00:6::bf:10-fd00:6::bf:19"]),
    ):
        kube.create(thing)
    yield
    for name in names:
        kube.delete("SpiderIPPool", name)


def refused(kube: Kube, thing: Thing) -> Refused:
    """Create something that must be refused, and give the refusal."""
    with pytest.raises(Refused) as refusal:
        kube.create(thing)
    return refusal.value


@pytest.mark.parametrize("wrong", POOLS.values(), ids=POOLS)
@pytest.mark.usefixtures("ground")
def test_wrong_pool(kube: Kube, wrong: Wrong) -> None:
    """A pool that breaks a rule is refused: Invalid, with the field and what is wrong about it."""
    refusal = refused(kube, pool("admission-wrong", wrong.subnet, wrong.ips, **wrong.spec))

    assert (422, "Invalid") == (refusal.code, refusal.reason)
    assert any(
        name == wrong.where or name.startswith(f"{wrong.where}.") for name in refusal.fields
    ), refusal
    assert wrong.words in refusal.message


@pytest.mark.usefixtures("ground")
def test_addresses_of_another_pool(kube: Kube) -> None:
    """Addresses that another pool of the subnet has are refused with that pool's name."""
    refusal = refused(kube, pool("admission-wrong", NET, ["10.6.191.19-10.6.191.25"]))

    assert (422, "Invalid", ["spec.ips"]) == (refusal.code, refusal.reason, refusal.fields)
    assert "Forbidden" in refusal.message
    assert "admission-ground" in refusal.message
    assert "10.6.191.19" in refusal.message


@pytest.mark.usefixtures("ground")
def test_name_taken(kube: Kube) -> None:
    """A second pool of a name is refused as existing."""
    refusal = refused(kube, pool("admission-ground", NET, [FREE]))

    assert (409, "AlreadyExists") == (refusal.code, refusal.reason)


@pytest.mark.parametrize(
    ("change", "name"),
    [({"subnet": "10.8.0.0/16"}, "spec.subnet"), ({"ipVersion": 6}, "spec.ipVersion")],
    ids=["subnet", "ipVersion"],
)
@pytest.mark.usefixtures("ground")
def test_what_never_changes(kube: Kube, change: Thing, name: str) -> None:
    """Subnet and family of a pool cannot be changed."""
    with pytest.raises(Refused) as refusal:
        kube.patch("SpiderIPPool", "admission-ground", {"spec": change})

    assert (422, "Invalid") == (refusal.value.code, refusal.value.reason)
    assert name in refusal.value.fields


@pytest.mark.usefixtures("ground")
def test_wrong_update(kube: Kube) -> None:
    """An update is judged as a creation is."""
    with pytest.raises(Refused) as refusal:
        kube.patch(
            "SpiderIPPool", "admission-ground", {"spec": {"ips": ["10.6.191.19-10.6.191.10"]}}
        )

    assert (422, "Invalid") == (refusal.value.code, refusal.value.reason)
    assert "10.6.191.19-10.6.191.10" in refusal.value.message


def test_terminating_pool_cannot_be_edited(story: Story) -> None:
    """A pool that is being deleted takes no further edit: Forbidden."""
    name = story.pool("p")
    pod = story.pod("pod", {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [name]}})
    story.kube.delete("SpiderIPPool", name)

    with pytest.raises(Refused) as refusal:
        story.kube.patch("SpiderIPPool", name, {"spec": {"disable": True}})

    assert (403, "Forbidden") == (refusal.value.code, refusal.value.reason)
    assert name in refusal.value.message
    story.delete(pod)


def test_what_is_filled_in(story: Story) -> None:
    """A pool's ranges are merged and sorted, its family is derived, a finalizer and the label of its subnet are set."""
    name = story.pool_of(
        "p", NET, ["10.6.192.30", "10.6.192.12-10.6.192.14", "10.6.192.15", "10.6.192.12"]
    )

    thing = story.kube.need("SpiderIPPool", name)

    assert ["10.6.192.12-10.6.192.15", "10.6.192.30"] == thing["spec"]["ips"]
    assert 4 == thing["spec"]["ipVersion"]
    assert "10-6-0-0-16" == thing["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"]
    assert ["spiderpool.spidernet.io"] == thing["metadata"]["finalizers"]


def test_ipv6_pool_is_filled_in(story: Story) -> None:
    """An IPv6 pool has its family and its label, with each `:` and `/` replaced."""
    thing = story.kube.need("SpiderIPPool", story.pool("six", family=6))

    assert 6 == thing["spec"]["ipVersion"]
    assert "fd00-6---64" == thing["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"]


RESERVED = {
    "nothing": ("spec.ipVersion", {"ips": []}, ""),
    "malformed": ("spec.ips[0]", {"ips": ["nonsense"], "ipVersion": 4}, "nonsense"),
    "reversed": ("spec.ips[0]", {"ips": ["10.6.190.19-10.6.190.10"]}, "10.6.190.19-10.6.190.10"),
    "other family": ("spec.ips[1]", {"ips": ["10.6.190.10", "fd00:6::1"]}, "fd00:6::1"),
    "version unknown": ("spec.ipVersion", {"ips": ["10.6.190.10"], "ipVersion": 5}, "5"),
}


@pytest.mark.parametrize(("name", "spec", "words"), RESERVED.values(), ids=RESERVED)
def test_wrong_reservation(kube: Kube, name: str, spec: Thing, words: str) -> None:
    """
    A SpiderReservedIP that breaks a rule is refused.

    Invalid, with the field and what is wrong about it.
    """
    refusal = refused(
        kube, {"kind": "SpiderReservedIP", "metadata": {"name": "admission-wrong"}, "spec": spec}
    )

    assert (422, "Invalid") == (refusal.code, refusal.reason)
    assert name in refusal.fields
    assert words in refusal.message


def test_reservation_keeps_its_family(story: Story) -> None:
    """
    The family of a SpiderReservedIP is filled in and cannot be changed.

    Its addresses can, and are merged.
    """
    name = story.reserve("r", "10.6.190.12", "10.6.190.11", "10.6.190.11")
    assert {"ipVersion": 4, "ips": ["10.6.190.11-10.6.190.12"]} == story.kube.need(
        "SpiderReservedIP", name
    )["spec"]

    with pytest.raises(Refused) as refusal:
        story.kube.patch("SpiderReservedIP", name, {"spec": {"ipVersion": 6, "ips": ["fd00:6::1"]}})
    story.kube.patch("SpiderReservedIP", name, {"spec": {"ips": ["10.6.190.13"]}})

    assert (422, "Invalid") == (refusal.value.code, refusal.value.reason)
    assert "spec.ipVersion" in refusal.value.fields


def test_annotations_that_cannot_be_read(story: Story) -> None:
    """
    A user who applies a controller of pods is warned of them, of any kind.

    Nothing is refused, what is right is silent.
    """
    spec = manifests.pod_spec() | {"restartPolicy": "OnFailure"}
    wrong, right = ({"ipam.spidernet.io/ip": value} for value in ("10.6.0.300", "10.6.0.3"))

    for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"):
        told = {
            name: _warnings(story, _of_kind(kind, name, story.namespace, annotations, spec))
            for name, annotations in (("wrong", wrong), ("right", right))
        }
        assert [True] == [
            "annotation ipam.spidernet.io/ip" in text and "10.6.0.300" in text
            for text in told["wrong"]
        ], kind
        assert [] == told["right"], kind


def _warnings(story: Story, thing: Thing) -> list[str]:
    """Ask whether a thing would be let in, and give what is warned of."""
    story.kube.create(thing, dry_run=True)
    return [text for text in story.kube.warnings if "wrong input" in text]


def _of_kind(kind: str, name: str, namespace: str, annotations: Thing, spec: Thing) -> Thing:
    """Return a controller of pods that have these annotations."""
    restart = spec["restartPolicy"] if kind in ("Job", "CronJob") else "Always"
    thing = manifests.workload(
        kind, name, namespace, 1, annotations, spec | {"restartPolicy": restart}
    )
    template = thing["spec"]["template"]
    if kind == "CronJob":
        return {
            **thing,
            "spec": {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": template}}},
        }
    if kind == "Job":
        return {**thing, "spec": {"template": template}}
    if kind == "DaemonSet":
        del thing["spec"]["replicas"]
    return thing
