"""Many pods, run by hand with `make soak`: pools without a spare address, emptied and filled again at once."""

from __future__ import annotations

import time

import pytest

from tests.lab.manifests import DEFAULT_NETWORK, IPPOOL
from tests.lab.story import Story

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

PODS = 100
ROUNDS = 3


def test_full_pool_comes_back(story: Story) -> None:
    """A Deployment of 100 pods in exactly 100 addresses is deleted and made anew, again and again, without manual help."""
    pool = story.pool("full", count=PODS)
    story.workload("Deployment", "many", PODS, {DEFAULT_NETWORK: story.macvlan("lan"), IPPOOL: {"ipv4": [pool]}})
    story.wait_replicas("many", PODS, within_s=600)

    for number in range(1, ROUNDS + 1):
        old = {pod.uid for pod in story.wait_replicas("many", PODS)}
        began = time.monotonic()
        story.kube.delete_all("Pod", story.namespace)
        pods = story.wait_replicas("many", PODS, within_s=600)
        print(f"round {number}: {PODS} pods in {PODS} addresses came back after {time.monotonic() - began:.0f} s")  # noqa: T201

        assert not old & {pod.uid for pod in pods}
        assert PODS == len({pod.address("eth0") for pod in pods})
