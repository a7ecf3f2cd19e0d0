"""
What tenants may write, by reader, and what such texts look like.

Half of them are close to what a reader takes, so that they reach its depths; the others are anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import msgspec
from hypothesis import strategies as st

from spiderpool.admission.multusconfigs import complete_config, validate_config
from spiderpool.api.crd.group import (
    ANNO_DEFAULT_NETWORK,
    ANNO_DEFAULT_ROUTE_NIC,
    ANNO_IP,
    ANNO_IPPOOL,
    ANNO_IPPOOL_IP_NUMBER,
    ANNO_IPPOOLS,
    ANNO_NETWORKS,
    ANNO_ROUTES,
    ANNO_SUBNET,
    ANNO_SUBNETS,
)
from spiderpool.api.crd.multusconfig import MultusConfigSpec, SpiderMultusConfig
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.cni.netconf import parse_definition, plugin_input
from spiderpool.cni.request import (
    CniRequest,
    ipam_config,
    parse_call,
    requested_version,
    wanted_ips,
)
from spiderpool.configuration.config import Features
from spiderpool.errors import SpiderpoolError
from spiderpool.ipam.patterns import compile_pattern, is_wildcard
from spiderpool.ipam.pod_request import Request, malformed, read_pod_request
from spiderpool.networks.allowed_plugins import check_plugin_types
from tests.fakes.objects import make_pod

FEATURES: Final = Features(
    enable_ipv4=True,
    enable_ipv6=True,
    enable_spider_subnet=True,
    enable_auto_pool_for_application=True,
)
KEYS: Final = (
    ANNO_SUBNETS,
    ANNO_SUBNET,
    ANNO_IPPOOL_IP_NUMBER,
    ANNO_IPPOOLS,
    ANNO_IPPOOL,
    ANNO_IP,
    ANNO_ROUTES,
    ANNO_DEFAULT_ROUTE_NIC,
    ANNO_NETWORKS,
    ANNO_DEFAULT_NETWORK,
)

# --- texts

_WORDS: Final = st.sampled_from(
    [
        "interface",
        "ipv4",
        "ipv6",
        "cleangateway",
        "dst",
        "gw",
        "name",
        "namespace",
        "ips",
        "mac",
        "portMappings",
        "bandwidth",
        "default-route",
        "cni-args",
        "deviceID",
        "hostPort",
        "ingressRate",
        "type",
        "ipam",
        "plugins",
        "cniVersion",
        "cniVersions",
        "capabilities",
        "delegate",
        "delegates",
        "runtimeConfig",
        "prevResult",
        "eth0",
        "net1",
        "blue-*",
        "[a-z]*",
        "****",
        "????",
        "\\*",
        "[!a",
        "[^",
        "]",
        "10.6.0.10",
        "10.6.0.10/16",
        "10.6.0.1-10.6.0.9",
        "10.0.0.0-10.255.255.255",
        "0.0.0.0/0",
        "fd00::1",
        "fd00::/64",
        "fd00::-fd00::ffff:ffff",
        "02:00:00:00:00:01",
        "macvlan",
        "spiderpool",
        "1.0.0",
        "+100000000",
        "0x10",
        "1e999",
        "NaN",
        "-1",
        "true",
        "null",
        "a/b@c",
        "a@b@c",
    ]
)
_ODD: Final = st.sampled_from(
    ["", "\0", "\u202e", "\ud800", "\u017f", "\u212a", "٣", "a\u0301", "\U0010ffff"]
)
TEXTS: Final = st.one_of(
    _WORDS, _ODD, st.text(max_size=40), st.lists(_WORDS, max_size=8).map(",".join)
)
_SCALARS: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(2**70), 2**70), st.floats(), TEXTS
)
DOCUMENTS: Final = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=6), st.dictionaries(st.one_of(_WORDS, TEXTS), inner, max_size=6)
    ),
    max_leaves=25,
)


def _blown_up(text: str, times: int) -> str:
    return (text or "*")[:200] * times


def dumped(document: Any) -> str:
    """Write a document as JSON, with whatever Python's writer leaves in it."""
    return json.dumps(document)


_ADDRESSES: Final = st.builds(
    lambda count, step: [f"10.{n % 200}.{n * step % 250}.{n % 250 + 1}" for n in range(count)],
    st.sampled_from([8, 64, 512, 5000]),
    st.integers(1, 7),
)
_COUNTS: Final = st.sampled_from([8, 32, 64, 400])
LARGE: Final = st.one_of(
    _ADDRESSES.map(",".join),
    _ADDRESSES.map(lambda ips: dumped({"interface": "net1", "ipv4": ips})),
    st.builds(
        lambda ips, each: dumped(
            [{"name": f"n{at}", "ips": ips[at : at + each]} for at in range(0, len(ips), each)]
        ),
        _ADDRESSES,
        st.sampled_from([2, 8, 16]),
    ),
    st.builds(
        lambda names, nics: dumped(
            [{"interface": f"e{n}", "ipv4": ["*?" * 50 + "!"] * names} for n in range(nics)]
        ),
        _COUNTS,
        st.sampled_from([1, 8, 32]),
    ),
    _COUNTS.map(
        lambda n: dumped([{"dst": f"10.{i % 250}.0.0/16", "gw": "10.6.0.1"} for i in range(n)])
    ),
    st.builds(
        lambda filler, count: f'{{"type":"macvlan","delegates":[{",".join([filler] * count)}]}}',
        st.sampled_from(["[]", '{"type":"a"}', '{"ipam":{"type":"a"}}', '"a"']),
        st.sampled_from([100, 1400, 8000]),
    ),
    st.sampled_from([100, 2000, 9000]).map(
        lambda n: "{" + ",".join(f'"Type{i}":{i}' for i in range(n)) + ',"type":"macvlan"}'
    ),
)
"""Texts that are as large as limits let them be, and larger."""

VALUES: Final = st.one_of(
    LARGE,
    DOCUMENTS.map(dumped),
    TEXTS,
    st.builds(_blown_up, TEXTS, st.sampled_from([10, 300, 5000])),
    st.builds(
        lambda depth, mark: mark * depth,
        st.sampled_from([20, 900, 30000]),
        st.sampled_from("[{*?!"),
    ),
    st.builds(
        lambda item, count: dumped([item] * count), DOCUMENTS, st.sampled_from([2, 33, 1000])
    ),
    st.builds(lambda text, at: dumped(text)[:at], DOCUMENTS, st.integers(0, 60)),
).map(lambda text: text.encode(errors="ignore").decode())
"""
One text of a tenant.

Lone surrogates come as escapes only: the API server's JSON and the agent's have no others.
"""

# --- readers


def read_annotations(values: list[str]) -> None:
    """Read all annotations of a pod, as webhooks and an ADD do."""
    annotations = {key: value for key, value in zip(KEYS, values, strict=False) if value}
    for _ in malformed(annotations, "ns"):
        pass
    for left_out in ((), (ANNO_SUBNETS, ANNO_SUBNET)):
        chosen = {key: text for key, text in annotations.items() if key not in left_out}
        with suppress(SpiderpoolError):
            asked = read_pod_request(
                make_pod(annotations=chosen), None, Request(nic="eth0"), FEATURES, 0
            )
            for nic in asked.nics:
                for names in (nic.patterns or {}).values():
                    _match(names)


def _match(names: tuple[str, ...]) -> None:
    for name in filter(is_wildcard, names):
        with suppress(SpiderpoolError):
            compile_pattern(name).fullmatch("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-pool-of-a-tenant" * 5)


def read_definition(text: str) -> None:
    """Read a NetworkAttachmentDefinition, and render what its plugins get."""
    config = parse_definition(text, "net", "network ns/net")
    check_plugin_types(config.plugins, "network ns/net", ("macvlan", "spiderpool"))
    for index in range(len(config.plugins)):
        plugin_input(config, index, {"mac": "02:00:00:00:00:01"}, {})


def read_network(values: list[str]) -> None:
    """Check a SpiderMultusConfig with any texts in it, as the webhook does."""
    custom, chained, name = (*values, "", "", "")[:3]
    for spec in (
        {"cniType": "custom", "customCNI": custom},
        {"cniType": "macvlan", "macvlan": {"master": [name]}, "chainCNIJsonData": [chained]},
        {"cniType": "ovs", "ovs": {"bridge": name}},
    ):
        meta = ObjectMeta(
            name="n", namespace="ns", annotations={"multus.spidernet.io/cr-name": name}
        )
        config = SpiderMultusConfig(metadata=meta, spec=msgspec.convert(spec, MultusConfigSpec))
        validate_config(None, complete_config(config), ("macvlan", "spiderpool", "coordinator"))


def read_call(values: list[str]) -> None:
    """Read a CNI call whose arguments and configuration are a tenant's, and render its error."""
    args, config, ifname = (*values, "", "", "")[:3]
    document: Any = config
    with suppress(msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        document = msgspec.json.decode(config)
    env = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/x",
        "CNI_IFNAME": ifname,
        "CNI_ARGS": args,
    }
    request = CniRequest("spiderpool", env, document)
    requested_version(request)
    call = parse_call(request)
    for read in (ipam_config, wanted_ips):
        with suppress(SpiderpoolError):
            read(call)


READERS: Final[dict[str, tuple[Callable[[Any], None], st.SearchStrategy[Any]]]] = {
    "annotations": (read_annotations, st.lists(VALUES, min_size=len(KEYS), max_size=len(KEYS))),
    "definition": (read_definition, VALUES),
    "SpiderMultusConfig": (read_network, st.lists(VALUES, min_size=3, max_size=3)),
    "CNI call": (read_call, st.lists(VALUES, min_size=3, max_size=3)),
}
