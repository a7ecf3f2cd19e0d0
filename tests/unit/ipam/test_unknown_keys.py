"""Keys in the JSON of annotations that nobody reads."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiderpool.ipam.unknown_keys import KNOWN, unknown_keys

IPPOOLS = "ipam.spidernet.io/ippools"
NETWORKS = "k8s.v1.cni.cncf.io/networks"


@pytest.mark.parametrize("annotation", KNOWN)
def test_known(annotation: str) -> None:
    """All keys that are read pass, in whatever case, in an object or in a list."""
    item = {name.upper(): None for name in KNOWN[annotation]}

    assert [] == list(unknown_keys({annotation: json.dumps(item)}))
    assert [] == list(unknown_keys({annotation: json.dumps([item, item])}))


def test_unknown() -> None:
    """Each annotation has one sentence, with the keys and what is known."""
    told = list(
        unknown_keys(
            {
                NETWORKS: json.dumps([{"name": "a", "ip": "10.6.0.9"}, {"name": "b", "gw": []}]),
                IPPOOLS: json.dumps([{"interface": "eth0", "ipv4": ["a"], "vlan": 5}]),
                "other": '{"x": 1}',
            }
        )
    )

    assert [
        f"annotation {IPPOOLS}: vlan is ignored; known are interface, ipv4, ipv6, cleangateway",
        f"annotation {NETWORKS}: gw, ip is ignored; known are name, ",
    ] == [told[0], told[1][: len(told[1].partition("name, ")[0]) + len("name, ")]]


@given(st.sampled_from(sorted(KNOWN)), st.text(max_size=30))
def test_any_text(annotation: str, text: str) -> None:
    """No text breaks the reader; what is no JSON has another sentence."""
    assert all(annotation in words for words in unknown_keys({annotation: text}))
