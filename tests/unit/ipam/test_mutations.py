"""
Slips of the hand in annotations.

Whatever was written, nothing breaks, and what cannot be read is told in a sentence.
"""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spiderpool.api.kubernetes.core import Namespace
from spiderpool.api.kubernetes.meta import ObjectMeta
from spiderpool.errors import InvalidRequest, SpiderpoolError
from spiderpool.ipam.pod_request import Request, malformed, read_pod_request
from spiderpool.ipam.selection import select_for_pod
from spiderpool.ipam.subnet_request import read_automatic_request
from tests.fakes.mutations import NAMESPACE_POOLS, VALID, slips
from tests.fakes.objects import FEATURES, make_facts, make_pod, make_pool

POOLS = (
    make_pool("blue"),
    make_pool("red", "10.7.0.0/16", ips=["10.7.0.10"]),
    make_pool("six", "fd00::/64"),
)


def read(key: str, text: str) -> str | None:
    """
    Read one annotation by all parsers that an ADD and the controller have for it.

    Gives what they complain of.
    """
    of_pod = {} if key == NAMESPACE_POOLS else {key: text}
    pod = make_pod(annotations=of_pod)
    namespace = Namespace(
        metadata=ObjectMeta(name="ns", annotations={key: text} if key == NAMESPACE_POOLS else {})
    )
    complaints = list(malformed(of_pod, "ns"))
    try:
        read_automatic_request(of_pod)
        pod_request = read_pod_request(pod, namespace, Request(nic="eth0"), FEATURES, position=0)
    except InvalidRequest as error:
        return error.message
    # there is no such pool, or none for this pod: that is another matter
    with suppress(SpiderpoolError):
        select_for_pod(pod_request, make_facts(*POOLS, pod=pod))
    return complaints[0] if complaints else None


@pytest.mark.parametrize(("key", "text"), VALID)
def test_the_originals_are_right(key: str, text: str) -> None:
    """What the slips begin with can be read."""
    assert read(key, text) is None


@settings(max_examples=2000)
@given(st.sampled_from(VALID), st.integers(0, 2**32))
def test_slips(valid: tuple[str, str], seed: int) -> None:
    """Each either can be read, or is refused with a sentence that names the annotation."""
    key, text = valid
    complaint = read(key, slips(text, Random(seed)))  # noqa: S311 - slips, no secrets

    assert complaint is None or (
        key in complaint
        and len(complaint) > len(key) + 20
        and [complaint] == complaint.splitlines()
    )


@settings(max_examples=500)
@given(st.sampled_from([key for key, _ in VALID]), st.text(max_size=40))
def test_nonsense(key: str, text: str) -> None:
    """The same of texts that nobody would write."""
    complaint = read(key, text)

    assert complaint is None or (key in complaint and len(complaint) > len(key) + 20)
