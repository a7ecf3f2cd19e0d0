"""The admission webhooks: AdmissionReviews built by hand, answers as the API server needs them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from msgspec.structs import replace

from spiderlab.pki import Issued, issue, make_authority
from spiderpool.api.crd.ippool import SpiderIPPool
from spiderpool.api.crd.spiderip import HolderKind, IPState, SpiderIP
from spiderpool.api.crd.subnet import SpiderSubnet, SubnetSpec, SubnetStatus
from spiderpool.api.kubernetes.core import NetworkAttachmentDefinition, Pod
from spiderpool.api.kubernetes.meta import ObjectMeta, OwnerReference
from spiderpool.configuration.config import Features
from spiderpool.controller.pools.legacy_agents import list_go_agents
from spiderpool.controller.runtime.listener import (
    Certificate,
    Listener,
    ask_clients,
    server_context,
)
from spiderpool.controller.runtime.subnet_lookup import SubnetLookup
from spiderpool.controller.webhooks import server
from spiderpool.controller.webhooks.conflicting_pools import STORED_WITHIN_S, OtherPools
from spiderpool.controller.webhooks.network_review import CoordinatorReviewer, MultusConfigReviewer
from spiderpool.controller.webhooks.pool_review import (
    PoolReviewer,
    ReservedReviewer,
    Reviewer,
)
from spiderpool.controller.webhooks.server import (
    AdmissionAnswer,
    AdmissionRequest,
    admission_app,
)
from spiderpool.controller.webhooks.subnet_review import SubnetReviewer
from spiderpool.errors import InvalidRequest, Unreachable
from spiderpool.kube.informer import Informer
from tests.fakes.cluster import FakeCluster
from tests.unit.controller.conftest import (
    FEATURES,
    NAMESPACE,
    Clock,
    Scene,
    make_pod,
    make_pool,
    make_record,
)
from tests.unit.controller.runtime.test_jsonpatch import apply, copy

Json = dict[str, Any]
PATHS = {
    "SpiderIPPool": "spiderippool",
    "SpiderReservedIP": "spiderreservedip",
    "SpiderSubnet": "spidersubnet",
    "SpiderCoordinator": "spidercoordinator",
    "SpiderMultusConfig": "spidermultusconfig",
}
GOING = "2026-01-01T00:00:00Z"
FINALIZER = "spiderpool.spidernet.io"


@dataclass(slots=True)
class Webhooks:
    """The webhook port, asked as the API server asks."""

    client: TestClient[web.Request, web.Application]
    cluster: FakeCluster
    clock: Clock
    pools: Informer[SpiderIPPool]

    async def ask(
        self,
        verb: str,
        operation: str,
        new: Json | None,
        old: Json | None = None,
        *,
        dry_run: bool = False,
    ) -> Json:
        """Send a review and give the response."""
        obj: Json = new or old or {}
        review = {
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {
                    "group": "spiderpool.spidernet.io",
                    "version": "v2beta1",
                    "kind": obj["kind"],
                },
                "resource": {
                    "group": "spiderpool.spidernet.io",
                    "version": "v2beta1",
                    "resource": "x",
                },
                "name": obj["metadata"]["name"],
                "operation": operation,
                "userInfo": {"username": "admin"},
                "object": new,
                "oldObject": old,
                "dryRun": dry_run,
                "options": {"apiVersion": "meta.k8s.io/v1", "kind": f"{operation.title()}Options"},
            },
        }
        path = f"/{verb}-spiderpool-spidernet-io-v2beta1-{PATHS[obj['kind']]}"
        async with self.client.post(path, json=review) as answer:
            assert 200 == answer.status
            reply = await answer.json()
        assert ("admission.k8s.io/v1", "AdmissionReview") == (reply["apiVersion"], reply["kind"])
        assert "705ab4f5-6393-11e8-b7cc-42010a800002" == reply["response"]["uid"]
        response: Json = reply["response"]
        return response

    async def complete(self, operation: str, new: Json, old: Json | None = None) -> Json:
        """Ask the mutating webhook and apply its patch."""
        response = await self.ask("mutate", operation, new, old)
        assert response["allowed"] is True
        if "patch" not in response:
            return new
        assert "JSONPatch" == response["patchType"]
        completed: Json = apply(copy(new), json.loads(base64.b64decode(response["patch"])))
        return completed

    async def refusals(
        self, operation: str, new: Json | None, old: Json | None = None
    ) -> list[str]:
        """Complete the object, ask the validating webhook, and give each refused field with its words."""
        completed = None if new is None else await self.complete(operation, new, old)
        response = await self.ask("validate", operation, completed, old)
        if response["allowed"]:
            assert "status" not in response
            return []
        status = response["status"]
        assert "Failure" == status["status"]
        if status["code"] == 422:
            assert "Invalid" == status["reason"]
            causes = [
                f"{cause['field']}: {cause['message']}" for cause in status["details"]["causes"]
            ]
            assert all(cause in status["message"] for cause in causes)
            return causes
        return [f"{status['code']} {status['reason']}: {status['message']}"]


@pytest.fixture
async def webhooks(scene: Scene) -> AsyncIterator[Webhooks]:
    """Return the webhooks of a cluster with both families on."""
    async with open_webhooks(scene, FEATURES) as found:
        yield found


class open_webhooks:  # noqa: N801 - reads as a function
    """Open the webhooks over a scene's cluster with certain features."""

    def __init__(self, scene: Scene, features: Features) -> None:
        self.scene = scene
        self.features = features

    async def __aenter__(self) -> Webhooks:
        cluster = self.scene.cluster
        self.pools = Informer(cluster, SpiderIPPool)
        await self.pools.start()
        other_pools = OtherPools(cluster, self.pools, clock=self.scene.clock)
        self.subnets = Informer(cluster, SpiderSubnet)
        await self.subnets.start()
        await self.subnets.synced()
        lookup = SubnetLookup(cluster, self.subnets) if self.features.enable_spider_subnet else None
        reviewers: list[Reviewer[Any]] = [
            PoolReviewer(
                cluster,
                other_pools,
                self.features,
                lambda: list_go_agents(cluster, NAMESPACE),
                lookup,
            ),
            ReservedReviewer(self.features),
            SubnetReviewer(cluster, other_pools, self.features),
            CoordinatorReviewer(),
            MultusConfigReviewer(cluster),
        ]
        self.client = TestClient(TestServer(admission_app(reviewers)))
        await self.client.start_server()
        return Webhooks(self.client, cluster, self.scene.clock, self.pools)

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        await self.pools.stop()
        await self.subnets.stop()


def pool_json(name: str = "blue", *, meta: Json | None = None, **spec: Any) -> Json:
    """Write a pool as a user does."""
    return {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderIPPool",
        "metadata": {"name": name, **(meta or {})},
        "spec": {"subnet": "10.6.0.0/16", "ips": ["10.6.0.10-10.6.0.19"], **spec},
    }


def stored_json(name: str = "blue", *, meta: Json | None = None, **spec: Any) -> Json:
    """Write a pool as the API server stores it."""
    label = spec.get("subnet", "10.6.0.0/16").translate(str.maketrans(".:/", "---"))
    known = {
        "uid": f"uid-{name}",
        "generation": 1,
        "finalizers": [FINALIZER],
        "labels": {"ipam.spidernet.io/ippool-cidr": label},
        "annotations": {"ipam.spidernet.io/imported": "true"},
    }
    return pool_json(name, meta={**known, **(meta or {})}, **{"ipVersion": 4, **spec})


def reserved_json(*ips: str, meta: Json | None = None, **spec: Any) -> Json:
    """Write a reservation."""
    return {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderReservedIP",
        "metadata": {"name": "r", **(meta or {})},
        "spec": {"ips": list(ips), **spec},
    }


# Mutation, see docs/reference/admission.md


async def test_pool_is_completed(webhooks: Webhooks) -> None:
    """
    A new pool gets finalizer, family, label and mark, and its ranges are merged and sorted.

    Source: docs/reference/admission.md#spiderippool.
    """
    new = pool_json(
        ips=["10.6.0.20", "10.6.0.12-10.6.0.19", "10.6.0.10-10.6.0.13"],
        excludeIPs=["10.6.0.15", "10.6.0.14"],
    )
    completed = await webhooks.complete("CREATE", new)

    assert (
        stored_json(ips=["10.6.0.10-10.6.0.20"], excludeIPs=["10.6.0.14-10.6.0.15"])["spec"]
        == completed["spec"]
    )
    assert {
        "name": "blue",
        "finalizers": [FINALIZER],
        "labels": {"ipam.spidernet.io/ippool-cidr": "10-6-0-0-16"},
        "annotations": {"ipam.spidernet.io/imported": "true"},
    } == completed["metadata"]


async def test_label_of_an_ipv6_pool(webhooks: Webhooks) -> None:
    """
    The label's value is the subnet with `.`, `:` and `/` replaced.

    Source: docs/reference/objects.md#labels-and-annotations.
    """
    new = pool_json(subnet="fc00:f853:ccd:e793::/64", ips=[])
    completed = await webhooks.complete("CREATE", new)

    assert (
        "fc00-f853-ccd-e793---64"
        == completed["metadata"]["labels"]["ipam.spidernet.io/ippool-cidr"]
    )
    assert 6 == completed["spec"]["ipVersion"]


async def test_patch_touches_nothing_else(webhooks: Webhooks) -> None:
    """Keys that this product does not know, and others' labels and finalizers, survive the patch."""
    meta = {
        "labels": {"team": "a"},
        "finalizers": ["example.com/x"],
        "managedFields": [{"manager": "kubectl"}],
    }
    new = pool_json(meta=meta, vlan=100)
    completed = await webhooks.complete("CREATE", new)

    assert {"team": "a", "ipam.spidernet.io/ippool-cidr": "10-6-0-0-16"} == completed["metadata"][
        "labels"
    ]
    assert ["example.com/x", FINALIZER] == completed["metadata"]["finalizers"]
    assert [{"manager": "kubectl"}] == completed["metadata"]["managedFields"]
    assert 100 == completed["spec"]["vlan"]


async def test_complete_pool_needs_no_patch(webhooks: Webhooks) -> None:
    """An object that lacks nothing is answered without a patch; a single range is left as it is."""
    response = await webhooks.ask("mutate", "UPDATE", stored_json(), stored_json())

    assert {"uid": response["uid"], "allowed": True} == response


async def test_terminating_pool_is_left_alone(webhooks: Webhooks) -> None:
    """
    A pool that is being deleted does not get its finalizer back.

    Source: docs/reference/admission.md#spiderippool.
    """
    old = stored_json(meta={"deletionTimestamp": GOING})
    new = stored_json(meta={"deletionTimestamp": GOING, "finalizers": []})

    assert "patch" not in await webhooks.ask("mutate", "UPDATE", new, old)


async def test_unreadable_object_is_left_to_the_validator(webhooks: Webhooks) -> None:
    """
    The mutating webhook never refuses.

    Source: docs/reference/admission.md.
    """
    response = await webhooks.ask("mutate", "CREATE", pool_json(ips="10.6.0.10"))

    assert {"uid": response["uid"], "allowed": True} == response


async def test_new_pool_is_not_marked_while_a_go_agent_runs(webhooks: Webhooks) -> None:
    """As long as Go Spiderpool may write into a pool's status, it is not marked as imported."""
    webhooks.cluster.seed(
        make_pod(
            "old", namespace=NAMESPACE, labels={"app.kubernetes.io/component": "spiderpool-agent"}
        )
    )
    completed = await webhooks.complete("CREATE", pool_json())
    assert "annotations" not in completed["metadata"]
    assert [FINALIZER] == completed["metadata"]["finalizers"]

    webhooks.cluster.drop(Pod, "old", NAMESPACE)
    completed = await webhooks.complete("CREATE", pool_json())
    assert {"ipam.spidernet.io/imported": "true"} == completed["metadata"]["annotations"]


async def test_update_does_not_mark(webhooks: Webhooks) -> None:
    """Only a new pool is marked: what an old one has in its status may wait for its import."""
    old = stored_json(meta={"annotations": {}})
    completed = await webhooks.complete("UPDATE", old, old)

    assert {} == completed["metadata"]["annotations"]


async def test_reservation_is_completed(webhooks: Webhooks) -> None:
    """
    The family comes from the first item, and several items are merged.

    Source: docs/reference/admission.md#spiderreservedip.
    """
    completed = await webhooks.complete(
        "CREATE", reserved_json("10.6.0.11", "10.6.0.10", "10.6.0.12")
    )

    assert {"ipVersion": 4, "ips": ["10.6.0.10-10.6.0.12"]} == completed["spec"]


# Validation of pools: every row of docs/reference/admission.md#spiderippool


Cases = dict[str, tuple[dict[str, Any], list[str]]]

CREATES: Cases = {
    "family cannot be told": (
        {"subnet": "x", "ips": []},
        [
            "spec.ipVersion: Invalid value: cannot be told from the object; write 4 or 6",
            'spec.subnet: Invalid value: "x"',
        ],
    ),
    "family is not that of the subnet": (
        {"ipVersion": 6},
        ['spec.subnet: Invalid value: "10.6.0.0/16": is IPv4, but ipVersion is 6'],
    ),
    "subnet is not canonical": (
        {"subnet": "10.6.0.1/16"},
        [
            'spec.subnet: Invalid value: "10.6.0.1/16": "10.6.0.1/16" is not a network address: write 10.6.0.0/16'
        ],
    ),
    "subnet overlaps another pool's": (
        {"subnet": "10.7.0.0/17", "ips": []},
        [
            'spec.subnet: Invalid value: "10.7.0.0/17": overlaps subnet 10.7.0.0/16 of IPPool red, and is not the same'
        ],
    ),
    "item is malformed": (
        {"ips": ["10.6.0.x"]},
        [
            'spec.ips[0]: Invalid value: "10.6.0.x": "10.6.0.x" is not an IPv4 range: write one address (A) or a range (A-B)'
        ],
    ),
    "item has blanks": (
        {"ips": ["10.6.0.1 - 10.6.0.2"]},
        [
            'spec.ips[0]: Invalid value: "10.6.0.1 - 10.6.0.2": "10.6.0.1 - 10.6.0.2" is not an IPv4 range: write'
        ],
    ),
    "item is a CIDR": (
        {"ips": ["10.6.0.0/24"]},
        [
            'spec.ips[0]: Invalid value: "10.6.0.0/24": "10.6.0.0/24" is not an IPv4 range: write one address'
        ],
    ),
    "range is reversed": (
        {"ips": ["10.6.0.9-10.6.0.1"]},
        [
            'spec.ips[0]: Invalid value: "10.6.0.9-10.6.0.1": "10.6.0.9-10.6.0.1" runs backwards: 10.6.0.9 is above 10.6.0.1'
        ],
    ),
    "item is outside the subnet": (
        {"excludeIPs": ["10.8.0.1"]},
        ['spec.excludeIPs[0]: Invalid value: "10.8.0.1": is outside the subnet'],
    ),
    "addresses of another pool": (
        {"subnet": "10.7.0.0/16", "ips": ["10.7.0.19-10.7.0.30"]},
        [
            "spec.ips: Forbidden: has 1 address (10.7.0.19) of IPPool red; no two pools may share one"
        ],
    ),
    "gateway is outside the subnet": (
        {"gateway": "10.8.0.1"},
        ['spec.gateway: Invalid value: "10.8.0.1": is not an address of subnet 10.6.0.0/16'],
    ),
    "gateway is among the addresses": (
        {"gateway": "10.6.0.10"},
        [
            'spec.ips[0]: Invalid value: "10.6.0.10-10.6.0.19": contains the gateway 10.6.0.10; take it out or list it in'
        ],
    ),
    "route is the default route": (
        {"routes": [{"dst": "0.0.0.0/0", "gw": "10.6.0.1"}]},
        [
            'spec.routes[0].dst: Invalid value: "0.0.0.0/0": is the default route; that one follows from spec.gateway'
        ],
    ),
    "route is there twice": (
        {
            "routes": [
                {"dst": "10.9.0.0/16", "gw": "10.6.0.1"},
                {"dst": "10.9.0.0/16", "gw": "10.6.0.2"},
            ]
        },
        ['spec.routes[1].dst: Invalid value: "10.9.0.0/16": is listed twice'],
    ),
    "route of the other family": (
        {"routes": [{"dst": "fd00::/64", "gw": "10.6.0.1"}]},
        ['spec.routes[0].dst: Invalid value: "fd00::/64": is not an IPv4 CIDR'],
    ),
    "gateway of a route is outside the subnet": (
        {"routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]},
        ['spec.routes[0].gw: Invalid value: "10.8.0.1": is not an address of subnet 10.6.0.0/16'],
    ),
    "pod selector is empty": (
        {"podAffinity": {}},
        [
            'spec.podAffinity: Invalid value: "{}": is empty; write labels, or leave it out to allow every pod'
        ],
    ),
    "pod selector is malformed": (
        {"podAffinity": {"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]}},
        [
            'spec.podAffinity.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator'
        ],
    ),
    "namespace selector is malformed": (
        {"namespaceAffinity": {"matchLabels": {"a b": "c"}}},
        ['spec.namespaceAffinity.matchLabels.key: Invalid value: "a b": not a label key'],
    ),
    "node selector is malformed": (
        {"nodeAffinity": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
        [
            "spec.nodeAffinity.matchExpressions[0].values: Invalid value: must be specified when `operator` is 'In' or 'NotIn'"
        ],
    ),
    "nothing is wrong": ({}, []),
    "empty ips": ({"ips": []}, []),
    "gateway is excluded": ({"gateway": "10.6.0.10", "excludeIPs": ["10.6.0.10"]}, []),
    "the same subnet, other addresses": (
        {"subnet": "10.7.0.0/16", "ips": ["10.7.0.20-10.7.0.30"]},
        [],
    ),
    "the same addresses, excluded": (
        {
            "subnet": "10.7.0.0/16",
            "ips": ["10.7.0.10-10.7.0.30"],
            "excludeIPs": ["10.7.0.10-10.7.0.19"],
        },
        [],
    ),
    "ranges that overlap inside one pool": (
        {"ips": ["10.6.0.10-10.6.0.15", "10.6.0.12-10.6.0.19"]},
        [],
    ),
}


@pytest.mark.parametrize("case", CREATES)
async def test_create_of_a_pool(webhooks: Webhooks, case: str) -> None:
    """
    Each rule for new pools refuses with its field and its words.

    Source: docs/reference/admission.md#spiderippool.
    """
    webhooks.cluster.seed(
        make_pool("red", subnet="10.7.0.0/16", ips=("10.7.0.10-10.7.0.19",), gateway=None)
    )
    spec, expected = CREATES[case]
    found = await webhooks.refusals("CREATE", pool_json(**spec))

    assert len(expected) == len(found)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


UPDATES: Cases = {
    "subnet changed": (
        {"subnet": "10.6.0.0/17"},
        ["spec.subnet: Forbidden: is immutable: it is 10.6.0.0/16 and cannot become 10.6.0.0/17"],
    ),
    "family changed": (
        {"ipVersion": 6},
        ["spec.ipVersion: Forbidden: is immutable: it is 4 and cannot become 6", "spec.subnet"],
    ),
    "a held address taken out": (
        {"ips": ["10.6.0.11-10.6.0.19"]},
        ["spec.ips: Forbidden: lacks 1 address (10.6.0.10) that pods hold; delete the pods first"],
    ),
    "held addresses excluded": (
        {"excludeIPs": ["10.6.0.10-10.6.0.12"]},
        [
            "spec.ips: Forbidden: lacks 2 addresses (10.6.0.10-10.6.0.11) that pods hold; delete the pods first"
        ],
    ),
    "an unheld address taken out": ({"ips": ["10.6.0.10-10.6.0.11"]}, []),
    "addresses added": ({"ips": ["10.6.0.10-10.6.0.99"]}, []),
    "disabled": ({"disable": True}, []),
}


@pytest.mark.parametrize("case", UPDATES)
async def test_update_of_a_pool(webhooks: Webhooks, case: str) -> None:
    """
    Each rule for changes refuses with its field and its words.

    Held records are listed live.

    Source: docs/reference/admission.md#spiderippool.
    """
    webhooks.cluster.seed(make_pool("blue", gateway=None))
    webhooks.cluster.seed(make_record("10.6.0.10", "p", "u"))
    webhooks.cluster.seed(make_record("10.6.0.11", "q", "v"))
    webhooks.cluster.seed(make_record("10.6.0.15", "r", "w", state=IPState.COOLING))
    claim = make_record("10.6.0.16")
    own = replace(claim.spec.holder, kind=HolderKind.POOL)
    webhooks.cluster.seed(replace(claim, spec=replace(claim.spec, holder=own)))
    webhooks.cluster.seed(make_record("10.7.0.10", pool="red"))
    changes, expected = UPDATES[case]
    found = await webhooks.refusals("UPDATE", stored_json(**changes), stored_json())

    assert len(expected) == len(found)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


@pytest.mark.parametrize(("family", "subnet"), [(4, "10.6.0.0/16"), (6, "fd00::/64")])
async def test_disabled_family_is_forbidden(scene: Scene, family: int, subnet: str) -> None:
    """A pool of a family that the configuration switches off is refused."""
    features = Features(enable_ipv4=family == 6, enable_ipv6=family == 4)
    async with open_webhooks(scene, features) as webhooks:
        found = await webhooks.refusals("CREATE", pool_json(subnet=subnet, ips=[]))

    assert [f"spec.ipVersion: Forbidden: enableIPv{family} is false in the configuration"] == found


async def test_allocations_that_wait_for_their_import_count_as_held(webhooks: Webhooks) -> None:
    """A pool that is not taken over yet cannot lose the addresses that Go Spiderpool handed out."""
    old = stored_json(meta={"annotations": {}})
    old["status"] = {"allocatedIPs": '{"10.6.0.10":{"pod":"ns/p","podUid":"u"}}'}
    new = stored_json(meta={"annotations": {}}, ips=["10.6.0.11-10.6.0.19"])
    found = await webhooks.refusals("UPDATE", new, old)

    assert [
        "spec.ips: Forbidden: lacks 1 address (10.6.0.10) that pods hold; delete the pods first"
    ] == found


async def test_refusal_reads_like_the_api_server(webhooks: Webhooks) -> None:
    """Message, reason, code and details of a refusal are those of an Invalid error of the API machinery."""
    completed = await webhooks.complete("CREATE", pool_json(gateway="10.8.0.1", ips=["x"]))
    status = (await webhooks.ask("validate", "CREATE", completed))["status"]
    item = 'Invalid value: "x": "x" is not an IPv4 range: write one address (A) or a range (A-B), without blanks and not as CIDR'
    gateway = 'Invalid value: "10.8.0.1": is not an address of subnet 10.6.0.0/16'

    assert {
        "status": "Failure",
        "message": f'SpiderIPPool.spiderpool.spidernet.io "blue" is invalid: [spec.ips[0]: {item}, spec.gateway: {gateway}]',
        "reason": "Invalid",
        "code": 422,
        "details": {
            "name": "blue",
            "group": "spiderpool.spidernet.io",
            "kind": "SpiderIPPool",
            "causes": [
                {"reason": "FieldValueInvalid", "message": item, "field": "spec.ips[0]"},
                {"reason": "FieldValueInvalid", "message": gateway, "field": "spec.gateway"},
            ],
        },
    } == status


async def test_terminating_pool_cannot_be_changed(webhooks: Webhooks) -> None:
    """
    An update that keeps the finalizer of a pool that is being deleted is forbidden.

    The one that drops it is not.
    """
    old = stored_json(meta={"deletionTimestamp": GOING})
    kept = stored_json(meta={"deletionTimestamp": GOING}, disable=True)
    gone = stored_json(meta={"deletionTimestamp": GOING, "finalizers": []})
    text = (
        '403 Forbidden: spiderippools.spiderpool.spidernet.io "blue" is forbidden: IPPool blue is being deleted and cannot be '
        "changed; it goes when its last address is released"
    )

    assert [text] == await webhooks.refusals("UPDATE", kept, old)
    assert [] == await webhooks.refusals("UPDATE", gone, old)


async def test_terminating_pool_can_be_marked(webhooks: Webhooks) -> None:
    """The end of an import is the one change that a pool on its way out may still see, and only that."""
    meta = {"deletionTimestamp": GOING, "annotations": {}, "resourceVersion": "5"}
    marked = {**meta, "annotations": {"ipam.spidernet.io/imported": "true"}, "resourceVersion": "6"}
    old = stored_json(meta=meta)

    assert [] == await webhooks.refusals("UPDATE", stored_json(meta=marked), old)
    assert 1 == len(await webhooks.refusals("UPDATE", stored_json(meta=marked, disable=True), old))


async def test_pool_that_older_rules_let_in_can_be_labelled(webhooks: Webhooks) -> None:
    """A change that leaves the specification alone is not judged by it."""
    old = stored_json(ips=["10.6.0.9-10.6.0.1"])
    new = stored_json(meta={"labels": {"team": "a"}}, ips=["10.6.0.9-10.6.0.1"])

    assert [] == await webhooks.refusals("UPDATE", new, old)


@pytest.mark.parametrize(
    ("protect", "in_use", "refused"),
    [(False, True, False), (True, False, False), (True, True, True)],
)
async def test_delete_of_a_pool(scene: Scene, protect: bool, in_use: bool, refused: bool) -> None:
    """
    A pool in use is protected only when the configuration says so.

    Source: docs/reference/admission.md#spiderippool.
    """
    if in_use:
        scene.cluster.seed(make_record())
    features = replace(FEATURES, enable_validating_resources_deleted_webhook=protect)
    async with open_webhooks(scene, features) as webhooks:
        found = await webhooks.refusals("DELETE", None, stored_json())

    text = (
        '403 Forbidden: spiderippools.spiderpool.spidernet.io "blue" is forbidden: IPPool blue cannot be deleted: pods hold '
        "1 address (10.6.0.10) of it; delete the pods first"
    )
    assert ([text] if refused else []) == found


# Facts: live, and of the moment


async def test_late_informer_does_not_matter(webhooks: Webhooks) -> None:
    """
    A pool and a change that the informer has not seen yet are compared with.

    The API server has them.
    """
    webhooks.cluster.seed(make_pool("red", subnet="10.7.0.0/16", ips=("10.7.0.10",), gateway=None))
    await asyncio.sleep(0.01)
    await webhooks.pools.stop()
    webhooks.cluster.seed(make_pool("green", ips=("10.6.0.19",)))
    await webhooks.cluster.patch(SpiderIPPool, "red", {"spec": {"ips": ["10.7.0.50"]}})

    found = await webhooks.refusals("CREATE", pool_json())
    assert [
        "spec.ips: Forbidden: has 1 address (10.6.0.19) of IPPool green; no two pools may share one"
    ] == found
    found = await webhooks.refusals(
        "CREATE", pool_json(subnet="10.7.0.0/16", ips=["10.7.0.50-10.7.0.60"])
    )
    assert [
        "spec.ips: Forbidden: has 1 address (10.7.0.50) of IPPool red; no two pools may share one"
    ] == found


async def test_a_pool_that_is_gone_is_in_nobodys_way(webhooks: Webhooks) -> None:
    """The addresses of a deleted pool are free at once, also while the informer still has it."""
    webhooks.cluster.seed(make_pool("red"))
    await asyncio.sleep(0.01)
    await webhooks.pools.stop()
    webhooks.cluster.drop(SpiderIPPool, "red")

    assert [] == await webhooks.refusals("CREATE", pool_json())


@pytest.mark.parametrize(("ips", "lists"), [("10.6.0.10-10.6.0.29", 0), ("10.6.0.11-10.6.0.29", 1)])
async def test_who_holds_addresses_is_asked_when_some_leave(
    webhooks: Webhooks, ips: str, lists: int
) -> None:
    """A pool that only grows takes nothing from anybody: its records are not read."""
    webhooks.cluster.seed(make_pool("blue"))
    await asyncio.sleep(0.01)
    webhooks.cluster.calls.clear()

    assert [] == await webhooks.refusals(
        "UPDATE", stored_json("blue", ips=[ips]), stored_json("blue")
    )

    assert lists == webhooks.cluster.count("list", SpiderIP)


async def test_two_pools_at_the_same_time(webhooks: Webhooks) -> None:
    """Of two pools with a common address that are made at once, the second waits for the first to be stored."""
    first = await webhooks.complete("CREATE", pool_json("one"))
    second = await webhooks.complete("CREATE", pool_json("two", ips=["10.6.0.19-10.6.0.29"]))
    assert (await webhooks.ask("validate", "CREATE", first))["allowed"]
    waiting = asyncio.create_task(webhooks.ask("validate", "CREATE", second))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    webhooks.cluster.seed(make_pool("one"))
    answer = await waiting
    assert not answer["allowed"]
    assert "has 1 address (10.6.0.19) of IPPool one" in answer["status"]["message"]


async def test_pool_that_was_not_stored_holds_nobody_up(webhooks: Webhooks) -> None:
    """When a pool that was allowed never shows up (another webhook refused it), its addresses are free again soon."""
    one = await webhooks.complete("CREATE", pool_json("one"))
    two = await webhooks.complete("CREATE", pool_json("two"))
    assert (await webhooks.ask("validate", "CREATE", one))["allowed"]
    webhooks.clock.now += STORED_WITHIN_S

    assert (await webhooks.ask("validate", "CREATE", two))["allowed"]


async def test_dry_run_leaves_no_trace(webhooks: Webhooks) -> None:
    """A pool that was only tried holds nobody up."""
    one = await webhooks.complete("CREATE", pool_json("one"))
    two = await webhooks.complete("CREATE", pool_json("two"))
    assert (await webhooks.ask("validate", "CREATE", one, dry_run=True))["allowed"]

    assert (await webhooks.ask("validate", "CREATE", two))["allowed"]


async def test_two_changes_at_the_same_time(webhooks: Webhooks) -> None:
    """
    Two pools that grow into each other at once.

    The second waits until the first one's change is stored.
    """
    webhooks.cluster.seed(make_pool("one", gateway=None))
    webhooks.cluster.seed(make_pool("two", ips=("10.6.0.30",), gateway=None))
    meta = {"generation": 1}
    one = stored_json("one", meta=meta, ips=["10.6.0.10-10.6.0.25"])
    two = stored_json("two", meta=meta, ips=["10.6.0.25-10.6.0.30"])
    assert (await webhooks.ask("validate", "UPDATE", one, stored_json("one", meta=meta)))["allowed"]
    old = stored_json("two", meta=meta, ips=["10.6.0.30"])
    waiting = asyncio.create_task(webhooks.ask("validate", "UPDATE", two, old))
    await asyncio.sleep(0.05)
    assert not waiting.done()

    webhooks.cluster.seed(
        replace(
            make_pool("one", ips=("10.6.0.10-10.6.0.25",), gateway=None),
            metadata=ObjectMeta(name="one", uid="x", generation=2),
        )
    )
    assert "of IPPool one" in (await waiting)["status"]["message"]


async def test_without_the_api_server_nothing_is_let_through(webhooks: Webhooks) -> None:
    """When the facts cannot be read, the object is refused for now, with the reason."""
    new = await webhooks.complete("CREATE", pool_json())
    webhooks.cluster.faults.fail_next("list", SpiderIPPool, Unreachable("the API server is down"))
    status = (await webhooks.ask("validate", "CREATE", new))["status"]

    assert (503, "ServiceUnavailable") == (status["code"], status["reason"])
    assert (
        "SpiderIPPool.spiderpool.spidernet.io blue cannot be checked now: the API server is down; try again"
        == status["message"]
    )


# Reserved addresses: docs/reference/admission.md#spiderreservedip


RESERVATIONS = {
    "family cannot be told": (
        reserved_json(),
        None,
        ["spec.ipVersion: Invalid value: cannot be told from the object; write 4 or 6"],
    ),
    "item is malformed": (
        reserved_json("10.6.0.0/24"),
        None,
        ['spec.ips[0]: Invalid value: "10.6.0.0/24"'],
    ),
    "range is reversed": (
        reserved_json("10.6.0.9-10.6.0.1"),
        None,
        ['spec.ips[0]: Invalid value: "10.6.0.9-10.6.0.1": "10.6.0.9-10.6.0.1" runs backwards'],
    ),
    "item of the other family": (
        reserved_json("10.6.0.1", "fd00::1"),
        None,
        ['spec.ips[1]: Invalid value: "fd00::1": "fd00::1" is not an IPv4 range'],
    ),
    "family changed": (
        reserved_json("fd00::1", ipVersion=6),
        reserved_json("10.6.0.1", ipVersion=4),
        ["spec.ipVersion: Forbidden: is immutable: it is 4 and cannot become 6"],
    ),
    "terminating": (
        reserved_json(
            "10.6.0.2", ipVersion=4, meta={"deletionTimestamp": GOING, "finalizers": ["x/y"]}
        ),
        reserved_json(
            "10.6.0.1", ipVersion=4, meta={"deletionTimestamp": GOING, "finalizers": ["x/y"]}
        ),
        [
            '403 Forbidden: spiderreservedips.spiderpool.spidernet.io "r" is forbidden: ReservedIP r is being deleted'
        ],
    ),
    "nothing is wrong": (reserved_json("10.6.0.1-10.6.0.9"), None, []),
    "changed": (reserved_json("10.6.0.2", ipVersion=4), reserved_json("10.6.0.1", ipVersion=4), []),
    "addresses without family are empty": (reserved_json(ipVersion=4), None, []),
}


@pytest.mark.parametrize("case", RESERVATIONS)
async def test_reservation(webhooks: Webhooks, case: str) -> None:
    """
    Each rule for reserved addresses refuses with its field and its words.

    Source: docs/reference/admission.md#spiderreservedip.
    """
    new, old, expected = RESERVATIONS[case]
    found = await webhooks.refusals("CREATE" if old is None else "UPDATE", new, old)

    assert len(expected) == len(found)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True)), found


async def test_reservation_of_a_disabled_family(scene: Scene) -> None:
    """A reservation of a family that is switched off is refused."""
    async with open_webhooks(scene, Features(enable_ipv6=True)) as webhooks:
        found = await webhooks.refusals("CREATE", reserved_json("10.6.0.1"))

    assert ["spec.ipVersion: Forbidden: enableIPv4 is false in the configuration"] == found


async def test_reserving_a_held_address_is_allowed(webhooks: Webhooks) -> None:
    """
    A reservation evicts nobody and overlaps freely.

    Source: docs/reference/admission.md#spiderreservedip.
    """
    webhooks.cluster.seed(make_record())

    assert [] == await webhooks.refusals("CREATE", reserved_json("10.6.0.10"))
    assert 1 == len(webhooks.cluster.all(SpiderIP))


# The wire


async def test_health_path(webhooks: Webhooks) -> None:
    """The path that probes ask answers 200."""
    async with webhooks.client.get("/webhook-health-check") as answer:
        assert 200 == answer.status


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b'{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}']
)
async def test_body_that_is_no_review(webhooks: Webhooks, body: bytes) -> None:
    """Anything but an AdmissionReview is answered 400 with the reason."""
    path = "/validate-spiderpool-spidernet-io-v2beta1-spiderippool"
    async with webhooks.client.post(path, data=body) as answer:
        assert 400 == answer.status
        assert (await answer.text()).startswith("not an AdmissionReview: ")


async def test_object_that_cannot_be_read_is_refused(webhooks: Webhooks) -> None:
    """The validating webhook refuses an object of a wrong form, naming where it is wrong."""
    status = (await webhooks.ask("validate", "CREATE", pool_json(ips="10.6.0.10")))["status"]

    assert 422 == status["code"]
    assert "$.spec.ips" in status["message"]


def coordinator_json(**spec: Any) -> Json:
    """Write a coordinator as a user does."""
    return {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderCoordinator",
        "metadata": {"name": "default"},
        "spec": {"podCIDRType": "auto", **spec},
    }


def network_json(annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """Write a network as a user does."""
    return {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderMultusConfig",
        "metadata": {"name": "net", "namespace": "ns", "annotations": annotations or {}},
        "spec": {"cniType": "macvlan", "macvlan": {"master": ["ens192"]}, **spec},
    }


async def test_coordinator_is_filled_in(webhooks: Webhooks) -> None:
    """A coordinator gets its defaults and our finalizer, and fields that this version does not know stay."""
    completed = await webhooks.complete(
        "CREATE", coordinator_json(hijackCIDR=["10.6.0.1"], future=1)
    )
    expected = {
        "mode": "auto",
        "podCIDRType": "auto",
        "hijackCIDR": ["10.6.0.1/32"],
        "tunePodRoutes": True,
        "hostRuleTable": 500,
        "podRPFilter": 0,
        "txQueueLen": 0,
        "vethLinkAddress": "",
        "vethMTU": 1500,
        "future": 1,
    }

    assert expected == completed["spec"]
    assert [FINALIZER] == completed["metadata"]["finalizers"]


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"podMACPrefix": "01:1b"}, "spec.podMACPrefix"),
        ({"podCIDRType": None}, "spec.podCIDRType"),
    ],
)
async def test_wrong_coordinator(webhooks: Webhooks, spec: Json, field: str) -> None:
    """A wrong coordinator is refused, and the words name the field; deleting it is allowed."""
    (text,) = await webhooks.refusals("CREATE", coordinator_json(**spec))

    assert field in text
    assert [] == await webhooks.refusals("DELETE", None, coordinator_json(**spec))


async def test_old_coordinator_can_be_labelled(webhooks: Webhooks) -> None:
    """A coordinator that older rules let in may change in everything but its specification."""
    old = coordinator_json(podMACPrefix="01:1b")
    new = copy(old)
    new["metadata"]["labels"] = {"a": "b"}

    assert [] == await webhooks.refusals("UPDATE", new, old)
    new["spec"]["vethMTU"] = 1400
    assert ["spec.podMACPrefix"] == [
        text.partition(":")[0] for text in await webhooks.refusals("UPDATE", new, old)
    ]


async def test_network_is_filled_in(webhooks: Webhooks) -> None:
    """A network gets its defaults, and its annotations for injection as labels."""
    completed = await webhooks.complete(
        "CREATE", network_json({"cni.spidernet.io/network-resource-inject": "rail"})
    )

    assert (True, False) == (
        completed["spec"]["enableCoordinator"],
        completed["spec"]["disableIPAM"],
    )
    assert "coordinator" not in completed["spec"]
    assert {"cni.spidernet.io/network-resource-inject": "rail"} == completed["metadata"]["labels"]


async def test_network_without_specification(webhooks: Webhooks) -> None:
    """A network of which nothing is said is a custom one, and the patch makes the object whole."""
    new = {key: value for key, value in network_json().items() if key != "spec"}
    completed = await webhooks.complete("CREATE", new)

    assert ("custom", False) == (
        completed["spec"]["cniType"],
        completed["spec"]["enableCoordinator"],
    )
    assert [] == await webhooks.refusals("CREATE", new)


async def test_wrong_network(webhooks: Webhooks) -> None:
    """A wrong network is refused with all its faults."""
    new = network_json(
        {"multus.spidernet.io/cni-version": "9"},
        macvlan={"master": ["a", "b"]},
        ipoib={"master": "c"},
    )
    fields = [text.partition(":")[0] for text in await webhooks.refusals("CREATE", new)]

    assert ["metadata.annotations", "spec.ipoibConfig", "spec.macvlanConfig"] == fields


async def test_network_whose_definition_is_anothers(webhooks: Webhooks) -> None:
    """
    A network is refused while its definition belongs to another one.

    Nobody's definition, and its own, are fine.
    """
    owner = OwnerReference(
        api_version="spiderpool.spidernet.io/v2beta1",
        kind="SpiderMultusConfig",
        name="other",
        uid="u",
    )
    webhooks.cluster.seed(
        NetworkAttachmentDefinition(
            metadata=ObjectMeta(name="shared", namespace="ns", owner_references=(owner,))
        )
    )
    webhooks.cluster.seed(
        NetworkAttachmentDefinition(metadata=ObjectMeta(name="net", namespace="ns"))
    )
    words = (
        "the net-attach-def ns/shared already exists and is managed by SpiderMultusConfig ns/other."
    )
    (text,) = await webhooks.refusals(
        "CREATE", network_json({"multus.spidernet.io/cr-name": "shared"})
    )

    assert words in text
    assert [] == await webhooks.refusals("CREATE", network_json())
    own = network_json({"multus.spidernet.io/cr-name": "shared"})
    own["metadata"]["name"] = "other"
    assert [] == await webhooks.refusals("CREATE", own)


# --- subnets
# --------------------------------------------------------------------------------------------------------------

SUBNETS_ON = msgspec.structs.replace(FEATURES, enable_spider_subnet=True)


def subnet_json(name: str = "s1", **spec: Any) -> Json:
    """Write a subnet as a user does."""
    return {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderSubnet",
        "metadata": {"name": name},
        "spec": {"subnet": "10.6.0.0/16", "ips": ["10.6.0.10-10.6.0.19"], **spec},
    }


def seed_subnet(scene: Scene, given: str | None = None) -> None:
    """Have subnet `s1`."""
    spec = SubnetSpec(
        ip_version=4, subnet="10.6.0.0/16", ips=("10.6.0.10-10.6.0.19",), gateway="10.6.0.1"
    )
    meta = ObjectMeta(name="s1", uid="s1-uid", generation=1)
    scene.cluster.seed(
        SpiderSubnet(metadata=meta, spec=spec, status=SubnetStatus(controlled_ippools=given))
    )


async def test_new_subnet_is_compared_with_what_exists(scene: Scene) -> None:
    """
    A subnet is checked against all pools and subnets that are there.

    What it leaves open is filled in.
    """
    scene.cluster.seed(make_pool("blue", ips=("10.6.0.30",)))
    async with open_webhooks(scene, SUBNETS_ON) as webhooks:
        completed = await webhooks.complete("CREATE", subnet_json())
        words = await webhooks.refusals("CREATE", subnet_json())
        seed_subnet(scene)
        twice = await webhooks.refusals("CREATE", subnet_json("s2", subnet="10.6.0.0/20", ips=[]))

    assert [FINALIZER] == completed["metadata"]["finalizers"]
    assert {"ipam.spidernet.io/subnet-cidr": "10-6-0-0-16"} == completed["metadata"]["labels"]
    assert [
        'spec.ips: Invalid value: "10.6.0.10-10.6.0.19": lacks 1 address (10.6.0.30) of IPPool blue, which has the same subnet'
    ] == words
    assert [
        'spec.subnet: Invalid value: "10.6.0.0/20": overlaps 10.6.0.0/16 of SpiderSubnet s1; no two subnets may'
    ] == twice[:1]


async def test_subnet_where_the_feature_is_off(webhooks: Webhooks) -> None:
    """
    Without the feature nobody would serve a subnet.

    Changing and deleting one that is there is still possible.
    """
    (words,) = await webhooks.refusals("CREATE", subnet_json())
    stored = subnet_json(ips=[])
    assert "403 Forbidden" in words
    assert "enableSpiderSubnet is false" in words
    assert [] == await webhooks.refusals("DELETE", None, stored)


async def test_subnet_keeps_what_pools_have(scene: Scene) -> None:
    """The status in the request decides what may leave a subnet."""
    given = '{"blue":{"ips":["10.6.0.10"]}}'
    old = {**subnet_json(), "status": {"controlledIPPools": given}}
    old["spec"]["ipVersion"] = 4
    new = copy(old)
    new["spec"]["ips"] = ["10.6.0.11-10.6.0.19"]
    async with open_webhooks(scene, SUBNETS_ON) as webhooks:
        words = await webhooks.refusals("UPDATE", new, old)

    assert [
        "spec.ips: Forbidden: lacks 1 address (10.6.0.10) given to IPPool blue; shrink or delete that pool first"
    ] == words


async def test_pool_becomes_part_of_its_subnet(scene: Scene) -> None:
    """A new pool of the CIDR is adopted, and refused when the subnet lacks an address of it or gave it away."""
    seed_subnet(scene, '{"auto":{"ips":["10.6.0.10"],"application":"apps_v1_Deployment_ns_web"}}')
    async with open_webhooks(scene, SUBNETS_ON) as webhooks:
        pool = await webhooks.complete("CREATE", pool_json(ips=["10.6.0.11"]))
        fine = await webhooks.refusals("CREATE", pool_json(ips=["10.6.0.11"]))
        outside = await webhooks.refusals("CREATE", pool_json(ips=["10.6.0.20"]))
        given = await webhooks.refusals("CREATE", pool_json(ips=["10.6.0.10"]))

    assert "s1-uid" == pool["metadata"]["ownerReferences"][0]["uid"]
    assert "10.6.0.1" == pool["spec"]["gateway"]
    assert [] == fine
    assert "that SpiderSubnet s1 does not have" in outside[0]
    assert "that SpiderSubnet s1 gives to automatic pool auto" in given[0]


async def test_orphan_that_does_not_fit_can_be_labelled(scene: Scene) -> None:
    """
    A pool from before the subnet, with other addresses, is not adopted when its labels change.

    The change is fine.
    """
    seed_subnet(scene)
    old = stored_json(ips=["10.6.0.90"])
    new = copy(old)
    new["metadata"]["labels"] = {**old["metadata"].get("labels", {}), "team": "a"}
    async with open_webhooks(scene, SUBNETS_ON) as webhooks:
        completed = await webhooks.complete("UPDATE", new, old)
        assert [] == await webhooks.refusals("UPDATE", new, old)

    assert "ownerReferences" not in completed["metadata"]


async def test_automatic_pool_is_not_edited(scene: Scene) -> None:
    """A user who changes the addresses of an automatic pool is told what to change instead."""
    seed_subnet(scene, '{"auto":{"ips":["10.6.0.10"],"application":"apps_v1_Deployment_ns_web"}}')
    owner = {
        "apiVersion": "spiderpool.spidernet.io/v2beta1",
        "kind": "SpiderSubnet",
        "name": "s1",
        "uid": "s1-uid",
        "controller": True,
    }
    meta = {
        "labels": {"ipam.spidernet.io/owner-application-name": "web"},
        "ownerReferences": [owner],
    }
    old = stored_json("auto", meta=meta, ips=["10.6.0.10"])
    new = copy(old)
    new["spec"]["ips"] = ["10.6.0.10-10.6.0.11"]
    async with open_webhooks(scene, SUBNETS_ON) as webhooks:
        (words,) = await webhooks.refusals("UPDATE", new, old)

    assert "of an automatic pool follow the application's size" in words


async def test_a_review_that_is_too_large_is_not_read() -> None:
    """Above 4 MiB the answer is 413; what the API server can send is smaller."""
    path = "/warn-annotations"
    async with TestClient(TestServer(admission_app([], advice=_allow))) as client:
        assert 400 == (await client.post(path, data=io.BytesIO(b"x" * (4 * 2**20 - 1)))).status
        assert 413 == (await client.post(path, data=io.BytesIO(b"x" * (4 * 2**20 + 1)))).status


async def _allow(request: AdmissionRequest) -> AdmissionAnswer:
    return AdmissionAnswer(uid=request.uid, allowed=True)


def _review(uid: str) -> Json:
    return {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": uid},
    }


async def test_so_many_reviews_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further ones wait; health is answered all the while."""
    monkeypatch.setattr(server, "AT_A_TIME", 2)
    running: list[str] = []
    end = asyncio.Event()

    async def slow(request: AdmissionRequest) -> AdmissionAnswer:
        running.append(request.uid)
        await end.wait()
        return await _allow(request)

    async with TestClient(TestServer(admission_app([], advice=slow))) as client:
        posts = [
            asyncio.create_task(client.post("/warn-annotations", json=_review(str(number))))
            for number in range(5)
        ]
        while len(running) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert 2 == len(running)
        assert 200 == (await client.get("/webhook-health-check")).status
        end.set()
        assert [200] * 5 == [answer.status for answer in await asyncio.gather(*posts)]


async def test_a_review_that_does_not_come_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Who sends a body for ever is sent away, and the next one is served."""
    monkeypatch.setattr(server, "AT_A_TIME", 1)
    monkeypatch.setattr(server, "READ_S", 0.1)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.02)

    async with TestClient(TestServer(admission_app([], advice=_allow))) as client:
        slow = asyncio.create_task(client.post("/warn-annotations", data=endless()))
        await asyncio.sleep(0.02)
        answer = await client.post("/warn-annotations", json=_review("1"))
        assert 200 == answer.status
        assert 408 == (await slow).status


async def test_only_who_shows_a_certificate_is_answered(tmp_path: Path) -> None:
    """With a client CA: nobody without, nobody of another authority; health is open."""
    ours, other = make_authority("ours"), make_authority("other")
    serving = issue(ours, "webhook", serves=("127.0.0.1",))
    cert, key, known = tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt"
    cert.write_bytes(serving.pem)
    key.write_bytes(serving.key_pem)
    known.write_bytes(ours.pem)
    tls = server_context(Certificate(cert, key))
    ask_clients(tls, known)
    app = admission_app([], advice=_allow, clients_shown=True)
    async with Listener(app, 0, tls) as served:

        async def ask(authority: Issued | None, path: str) -> int:
            trust = ssl.create_default_context(cadata=ours.pem.decode())
            if authority is not None:
                client = issue(authority, "kube-apiserver")
                pem = tmp_path / "client.pem"
                pem.write_bytes(client.pem + client.key_pem)
                trust.load_cert_chain(pem)
            url = f"https://127.0.0.1:{served.port}{path}"
            async with aiohttp.ClientSession() as session:
                if path == "/warn-annotations":
                    async with session.post(url, ssl=trust, json=_review("1")) as answer:
                        return answer.status
                async with session.get(url, ssl=trust) as answer:
                    return answer.status

        assert 200 == await ask(ours, "/warn-annotations")
        assert 403 == await ask(None, "/warn-annotations")
        assert 200 == await ask(None, "/webhook-health-check")
        with pytest.raises(aiohttp.ClientError):
            await ask(other, "/warn-annotations")


def test_a_client_ca_that_is_none(tmp_path: Path) -> None:
    """A file that holds no certificate is named."""
    known = tmp_path / "ca.crt"
    known.write_text("none")
    with pytest.raises(InvalidRequest, match=re.escape(str(known))):
        ask_clients(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), known)
