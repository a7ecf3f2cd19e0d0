"""
Which pools a NIC may use, in which order, and why not the others.

Source: docs/reference/selection.md#filters, docs/reference/selection.md#order.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.addressing.sets import AddressSet
from spiderpool.api.crd.group import LABEL_OWNER_APP_NAME
from spiderpool.configuration.config import Features
from spiderpool.errors import AddressHeld, Exhausted, InvalidRequest, NoPool, TryAgain
from spiderpool.ipam.automatic_pool import application_labels
from spiderpool.ipam.filters import networks_of
from spiderpool.ipam.pod_request import NicRequest, PodRequest, Source
from spiderpool.ipam.selection import (
    Selection,
    explain,
    failure_of,
    require_pools,
    select_for_pod,
    select_pools,
)
from spiderpool.model.network_selection import parse_networks
from spiderpool.model.pool import Pool
from spiderpool.records.build import describe_holder
from tests.fakes.objects import (
    DEPLOYMENT,
    make_facts,
    make_namespace,
    make_node,
    make_pod,
    make_pod_request,
    make_pool,
    make_record,
)


def reason_against(pool: Pool, pod_request: NicRequest | None = None, **facts: Any) -> str | None:
    """Return the reason against the pool `blue`, None when it may be used."""
    selection = select_pools(pod_request or make_pod_request(), 4, make_facts(pool, **facts))
    return selection.refusals[0].sentence if selection.refusals else None


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({}, None),
        ({"deleted": True, "disable": True}, "blue: being deleted"),
        ({"disable": True}, "blue: disabled"),
        ({"subnet": "fd00::/64"}, "blue: has IPv6 addresses (IPv4 is asked for)"),
        (
            {"ips": ["10.6.0.9-10.6.0.1"]},
            'blue: cannot be read: "10.6.0.9-10.6.0.1" runs backwards: 10.6.0.9 is above 10.6.0.1;',
        ),
        ({"nodeName": ["node1"]}, None),
        ({"nodeName": ["node2"]}, "blue: restricted to node node2 (pod is on node1)"),
        (
            {"nodeName": ["node2", "node3"]},
            "blue: restricted to nodes node2, node3 (pod is on node1)",
        ),
        ({"nodeAffinity": {"matchLabels": {"zone": "a"}}}, None),
        (
            {"nodeAffinity": {"matchLabels": {"zone": "b"}}},
            "blue: restricted to zone=b by nodeAffinity (node node1 has zone=a)",
        ),
        ({"nodeName": ["node1"], "nodeAffinity": {"matchLabels": {"zone": "b"}}}, None),
        ({"namespaceName": ["ns"]}, None),
        ({"namespaceName": ["other"]}, "blue: restricted to namespace other (pod is in ns)"),
        ({"namespaceAffinity": {"matchLabels": {"team": "t"}}}, None),
        (
            {"namespaceAffinity": {"matchLabels": {"team": "u"}}},
            "blue: restricted to team=u by namespaceAffinity (namespace ns has team=t)",
        ),
        ({"namespaceName": ["ns"], "namespaceAffinity": {"matchLabels": {"team": "u"}}}, None),
        ({"podAffinity": {"matchLabels": {"app": "web"}}}, None),
        (
            {"podAffinity": {"matchLabels": {"app": "db"}}},
            "blue: restricted to app=db by podAffinity (pod ns/web-1 has app=web)",
        ),
        (
            {
                "podAffinity": {
                    "matchExpressions": [{"key": "app", "operator": "Is", "values": ["web"]}]
                }
            },
            'blue: malformed podAffinity: matchExpressions[0].operator "Is"',
        ),
        ({"multusName": ["kube-system/calico"]}, None),
        ({"multusName": ["calico"]}, None),
        (
            {"multusName": ["ns/macvlan"]},
            "blue: restricted to network ns/macvlan (eth0 is on kube-system/calico)",
        ),
    ],
)
def test_filters(spec: dict[str, Any], reason: str | None) -> None:
    """Each filter lets pass what it should, and refuses with a sentence that names the actual values."""
    found = reason_against(
        make_pool(**spec),
        pod=make_pod(labels={"app": "web"}),
        node=make_node(labels={"zone": "a"}),
        namespace=make_namespace(labels={"team": "t"}),
        default_network="calico",
        agent_namespace="kube-system",
    )

    assert reason == found or (reason is not None and (found or "").startswith(reason))


def test_eth0_without_a_meta_plugin() -> None:
    """On plain CNI a pool without multusName serves eth0; one with it does not."""
    assert reason_against(make_pool()) is None
    assert (
        reason_against(make_pool(multusName=["a/b"]))
        == "blue: restricted to network a/b (eth0 is on no known network)"
    )


def test_default_network_annotation() -> None:
    """The pod's own default network counts before the cluster's."""
    pod = make_pod(annotations={"v1.multus-cni.io/default-network": "macvlan"})
    pool = make_pool(multusName=["kube-system/macvlan"])

    assert (
        reason_against(pool, pod=pod, default_network="calico", agent_namespace="kube-system")
        is None
    )


def test_networks_of_other_nics() -> None:
    """
    A further NIC is on the network whose interface it is, by name or by order.

    On none, no pool serves it.
    """
    networks = parse_networks("a/n1@data,n2", "ns")
    facts: dict[str, Any] = {"networks": networks, "agent_namespace": "kube-system"}

    assert reason_against(make_pool(multusName=["a/n1"]), make_pod_request("data"), **facts) is None
    assert (
        reason_against(make_pool(multusName=["ns/n2"]), make_pod_request("net2"), **facts) is None
    )
    assert (
        reason_against(make_pool(multusName=["n2"]), make_pod_request("net2"), **facts)
        == "blue: restricted to network kube-system/n2 (net2 is on ns/n2)"
    )
    assert (
        reason_against(make_pool(), make_pod_request("net1"), **facts)
        == "blue: not usable on net1: annotation "
        "k8s.v1.cni.cncf.io/networks of the pod asks for no network with that interface"
    )


def test_automatic_pools() -> None:
    """An automatic pool serves its application on any network, and nobody else."""
    mine = {"matchLabels": application_labels(DEPLOYMENT, "ns")}
    theirs = {"matchLabels": {**mine["matchLabels"], "ipam.spidernet.io/app-name": "api"}}
    labels = {LABEL_OWNER_APP_NAME: "web"}

    assert reason_against(make_pool(labels=labels, podAffinity=mine, multusName=["a/b"])) is None
    assert (
        reason_against(make_pool(labels=labels, podAffinity=theirs))
        == "blue: automatic pool of Deployment api (pod belongs to Deployment web)"
    )


def test_application_labels() -> None:
    """
    The five labels by which an automatic pool names its application.

    Source: docs/reference/selection.md#filters.
    """
    assert application_labels(DEPLOYMENT, "ns") == {
        "ipam.spidernet.io/app-api-group": "apps",
        "ipam.spidernet.io/app-api-version": "v1",
        "ipam.spidernet.io/app-kind": "Deployment",
        "ipam.spidernet.io/app-namespace": "ns",
        "ipam.spidernet.io/app-name": "web",
    }


def test_master_subnet() -> None:
    """With match_master_subnet the physical NIC must have an address in the subnet, unless the pool names networks."""
    pod_request = make_pod_request(match_master_subnet=True)
    near, far = (ip_address("10.6.1.1"),), (ip_address("10.7.1.1"),)

    assert reason_against(make_pool(), pod_request, master_addresses=near) is None
    assert (
        reason_against(
            make_pool(multusName=["a/b"]), pod_request, master_addresses=far, default_network="a/b"
        )
        is None
    )
    assert (
        reason_against(make_pool(), pod_request, master_addresses=far)
        == "blue: restricted to masters in 10.6.0.0/16 by match_master_subnet (the master of eth0 has 10.7.1.1)"
    )
    assert (
        reason_against(make_pool(), pod_request, master_addresses=())
        == "blue: restricted to masters in 10.6.0.0/16 by match_master_subnet (the master of eth0 has no address)"
    )
    assert (
        reason_against(make_pool(), pod_request)
        == "blue: restricted to masters in 10.6.0.0/16 by match_master_subnet (eth0 has no master on the node)"
    )


def test_exact_addresses() -> None:
    """A pool without the address that is asked for is refused."""
    assert reason_against(make_pool(), make_pod_request(ips=(ip_address("10.6.0.10"),))) is None
    assert reason_against(make_pool(), make_pod_request(ips=(ip_address("fd00::1"),))) is None
    assert (
        reason_against(make_pool(), make_pod_request(ips=(ip_address("10.6.0.9"),)))
        == "blue: does not have 10.6.0.9, which is asked for"
    )
    small = make_pool(subnet="10.6.0.0/24", ips=["10.6.0.0-10.6.0.255"])
    assert (
        reason_against(small, make_pod_request(ips=(ip_address("10.6.0.255"),)))
        == "blue: does not give 10.6.0.255, which is asked for: it is the broadcast address of 10.6.0.0/24"
    )


def test_a_pool_of_nothing_but_edges() -> None:
    """The text of a pool that is never full and never gives says which of its addresses are no host's."""
    pool = make_pool(subnet="10.66.9.0/24", ips=["10.66.9.0", "10.66.9.255"])

    assert explain([select_pools(make_pod_request(), 4, make_facts(pool))]) == (
        f"all IP addresses used out: eth0 IPv4 ({Source.IPPOOL}): pool blue: 0 addresses "
        "(10.66.9.0 is the network address of 10.66.9.0/24)"
    )


def test_order_as_written() -> None:
    """
    Listed pools are tried as written.

    A wildcard stands for its pools by name, in its place.

    Source: docs/reference/selection.md#sources.
    """
    pools = [
        make_pool(name, podAffinity={"matchLabels": {"a": "b"}} if name == "x2" else None)
        for name in ("b", "x2", "x1", "a")
    ]
    pod_request = make_pod_request(patterns={4: ("b", "x*", "a")})
    selection = select_pools(pod_request, 4, make_facts(*pools, pod=make_pod(labels={"a": "b"})))

    assert ["b", "x1", "x2", "a"] == [pool.name for pool in selection.pools]


def test_wildcards_stay_in_their_family() -> None:
    """
    A wildcard matches pools of its family.

    One that matches none leaves the selection without pools.
    """
    facts = make_facts(make_pool("x4"), make_pool("x6", "fd00::/64"))

    assert {"x4"} == select_pools(make_pod_request(patterns={4: ("x*",)}), 4, facts).looked_at
    assert {"x6"} == select_pools(make_pod_request(patterns={6: ("x?",)}), 6, facts).looked_at
    assert not select_pools(make_pod_request(patterns={4: ("y*",)}), 4, facts).looked_at


def test_order_of_default_pools() -> None:
    """
    Default pools for somebody in particular come first, then by name.

    Source: docs/reference/selection.md#order.
    """
    affinity = {
        "matchLabels": {},
        "matchExpressions": [{"key": "none", "operator": "DoesNotExist"}],
    }
    pools = [
        make_pool("b", default=True),
        make_pool("a", default=True),
        make_pool("c-multus", default=True, multusName=["k/n"]),
        make_pool("d-ns", default=True, namespaceName=["ns"]),
        make_pool("e-node", default=True, nodeName=["node1"]),
        make_pool("f-pod", default=True, podAffinity=affinity),
        make_pool("g-node-ns", default=True, nodeName=["node1"], namespaceName=["ns"]),
        make_pool("z", default=False),
    ]
    pod_request = make_pod_request(patterns=None, source=Source.DEFAULT)
    selection = select_pools(pod_request, 4, make_facts(*pools, default_network="k/n"))

    assert ["f-pod", "g-node-ns", "e-node", "d-ns", "c-multus", "a", "b"] == [
        pool.name for pool in selection.pools
    ]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("blue", "green"), 'IPPool "green" does not exist'),
        (("blue", "blue"), "IPPool blue is listed twice for eth0 IPv4"),
        (("b*", "blue"), "IPPool blue is listed twice"),
        (("[b-",), 'IPPool "[b-" does not exist'),
        (("[b-]",), "is not a pattern"),
    ],
)
def test_wrong_names(names: tuple[str, ...], words: str) -> None:
    """A name that no pool has, a repetition and a malformed wildcard are wrong input."""
    with pytest.raises(InvalidRequest) as refusal:
        select_pools(make_pod_request(patterns={4: names}), 4, make_facts(make_pool()))

    assert refusal.value.message.startswith("wrong input: annotation ipam.spidernet.io/ippool: ")
    assert words in refusal.value.message


SPECS = st.fixed_dictionaries(
    {},
    optional={
        "disable": st.booleans(),
        "deleted": st.booleans(),
        "nodeName": st.lists(st.sampled_from(["node1", "node2"]), max_size=1),
        "namespaceName": st.lists(st.sampled_from(["ns", "other"]), max_size=1),
        "subnet": st.sampled_from(["10.6.0.0/16", "fd00::/64"]),
        "ips": st.sampled_from([["10.6.0.1"], ["10.6.0.9-10.6.0.1"]]),
        "annotations": st.just({}),
        "status": st.just({"allocatedIPs": "{}"}),
    },
)


@given(st.lists(SPECS, max_size=6), st.permutations(range(6)))
def test_nothing_is_lost(specs: list[dict[str, Any]], order: list[int]) -> None:
    """Every pool that is named is either usable, in the order written, or refused with a reason that begins with its name."""
    pools = [make_pool(f"p{number}", **spec) for number, spec in enumerate(specs)]
    names = [f"p{number}" for number in order if number < len(pools)]
    selection = select_pools(make_pod_request(patterns={4: tuple(names)}), 4, make_facts(*pools))
    usable, refused = (
        [pool.name for pool in selection.pools],
        [refusal.pool for refusal in selection.refusals],
    )

    assert sorted(names) == sorted(usable + refused)
    assert usable == [name for name in names if name in usable]
    assert all(refusal.sentence.startswith(f"{refusal.pool}: ") for refusal in selection.refusals)


def pod_request_of(*nics: NicRequest) -> PodRequest:
    """Make a request whose first NIC is the caller's."""
    return PodRequest(nics[0].nic, nics, ())


def test_a_request_of_several_nics() -> None:
    """
    Every NIC and family is selected for, IPv4 first.

    What names no pool is skipped on other NICs.
    """
    facts = make_facts(
        make_pool(), make_pool("six", "fd00::/64"), networks=parse_networks("n1,n2,n3", "ns")
    )
    pod_request = pod_request_of(
        make_pod_request(patterns={6: ("six",), 4: ("blue",)}),
        make_pod_request("net1", patterns={}),
        make_pod_request("net2", patterns={4: ("zz*",)}),
        make_pod_request("net3", patterns={4: ("b*",)}),
    )

    assert [("eth0", 4), ("eth0", 6), ("net3", 4)] == [
        (chosen.nic, chosen.family) for chosen in select_for_pod(pod_request, facts)
    ]


@pytest.mark.parametrize(
    ("patterns", "features", "words"),
    [
        (
            {4: ("zz*",)},
            Features(enable_ipv4=True),
            "no IPPool available: eth0 (annotation ipam.spidernet.io/ippool): no IPv4 pool matches zz*",
        ),
        ({}, Features(enable_ipv6=True), "names no IPv6 pool for eth0"),
        (
            None,
            Features(enable_ipv4=True, enable_ipv6=True),
            "no IPv4 or IPv6 pool has default: true",
        ),
        (None, Features(), "neither IPv4 nor IPv6 is enabled"),
    ],
)
def test_a_request_for_nothing(
    patterns: dict[int, tuple[str, ...]] | None, features: Features, words: str
) -> None:
    """A caller whose request names no pool at all is told so."""
    with pytest.raises(NoPool) as refusal:
        select_for_pod(
            pod_request_of(make_pod_request(patterns=patterns)),
            make_facts(make_pool(), features=features),
        )

    assert refusal.value.message.startswith("no IPPool available: eth0 ")
    assert words in refusal.value.message


def chosen(*pools: Pool, **pod_request: Any) -> Selection:
    """Select among all of some pools."""
    return select_pools(
        make_pod_request(patterns={4: tuple(pool.name for pool in pools)}, **pod_request),
        4,
        make_facts(*pools),
    )


def test_words_for_no_pool() -> None:
    """All pools that were looked at are named with their reasons, for every NIC that has none."""
    refused = chosen(make_pool(disable=True), make_pool("red", nodeName=["node2"]))
    usable = chosen(make_pool())
    expected = (
        "no IPPool available: eth0 IPv4 (annotation ipam.spidernet.io/ippool): "
        "blue: disabled; unmatched Node name of IPPool red: "
        "restricted to node node2 (pod is on node1)"
    )

    assert expected == explain([refused, usable])
    with pytest.raises(NoPool, match=r"^no IPPool available: .*blue: disabled"):
        require_pools([usable, refused])
    require_pools([usable])


def test_words_for_full_pools() -> None:
    """Full pools are named with their numbers, refused ones with their reasons."""
    full = chosen(
        make_pool(),
        make_pool("red", disable=True),
        make_pool("tiny", ips=["10.6.1.1"], excludeIPs=["10.6.1.1"]),
    )
    reserved = {4: AddressSet.of([ip_address("10.6.0.10"), ip_address("10.9.0.1")])}
    error = failure_of([full], {"blue": 9}, reserved)

    assert isinstance(error, Exhausted)
    assert error.message == (
        "all IP addresses used out: eth0 IPv4 (annotation ipam.spidernet.io/ippool): "
        "pool blue: 9 of 10 addresses held, 1 reserved, none free; "
        "pool tiny: 0 addresses (ips minus excludeIPs is empty); red: disabled"
    )
    assert "pool blue: 10 of 10 addresses held, none free" in explain([chosen(make_pool())])


def test_words_for_a_taken_address() -> None:
    """An exact address that is not free is named, with who has it, or why nobody gets it."""
    ten = ip_address("10.6.0.10")
    selection = chosen(make_pool(), ips=(ten,))
    holders = {ten: describe_holder(make_record("10.6.0.10"))}
    reserved = {4: AddressSet.of([ten])}

    held = failure_of([selection], holders=holders)
    assert isinstance(held, AddressHeld)
    assert (
        "10.6.0.10, which is asked for, is held by pod ns/web-1 (eth0, node node1)" in held.message
    )
    assert "10.6.0.10, which is asked for, is reserved by a SpiderReservedIP" in explain(
        [selection], reserved=reserved
    )
    assert "10.6.0.10, which is asked for, is not free at the moment" in explain([selection])


def test_pools_that_wait_to_be_taken_over() -> None:
    """
    A pool that is not taken over yet asks to try again.

    Another usable pool is used meanwhile.
    """
    waiting = make_pool("old", annotations={}, status={"allocatedIPs": "{}"})
    error = failure_of([chosen(waiting)])

    assert isinstance(error, TryAgain)
    assert "old: waits for the controller to import" in error.message
    assert ["blue"] == [pool.name for pool in chosen(waiting, make_pool()).pools]


def test_networks_of_a_pod() -> None:
    """
    The annotation for the default network wins over the installation's.

    Without either it is not known.
    """
    chosen = make_pod(annotations={"v1.multus-cni.io/default-network": "kube-system/other"})
    found = (
        make_facts(pod=chosen, default_network="spider/main"),
        make_facts(default_network="main", agent_namespace="spider"),
        make_facts(),
    )

    assert [[("eth0", "kube-system/other")], [("eth0", "spider/main")], [("eth0", None)]] == [
        [(each.nic, each.name) for each in networks_of(facts)] for facts in found
    ]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"nodeName": ["node2"]},
            "unmatched Node name of IPPool blue: restricted to node node2 (pod is on node1)",
        ),
        (
            {"namespaceName": ["other"]},
            "unmatched Namespace name of IPPool blue: restricted to namespace other (pod is in ns)",
        ),
        (
            {"multusName": ["a/b"]},
            "the spec.multusName [a/b] in the IPPool blue used by the Pod interface eth0 is not matched",
        ),
    ],
)
def test_words_of_the_original_come_first(spec: dict[str, Any], words: str) -> None:
    """Where the original has words for a refusal, errors and Events begin with them."""
    selection = select_pools(make_pod_request(), 4, make_facts(make_pool("blue", **spec)))

    assert selection.refusals[0].text.startswith(words)
