"""
The lab, the product on it, and a story for each test.

A lab that runs is used as it is; otherwise one is started, with the product, and ended after the
last test unless SPIDERLAB_KEEP=1.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from spiderlab import Lab
from spiderlab.errors import LabError
from spiderlab.progress import Progress
from tests.lab import manifests
from tests.lab.endings import Endings
from tests.lab.kube import Kube
from tests.lab.retry import until_none
from tests.lab.story import Story, sweep_pools

RUN_LOCK = Path("/run/spiderlab-tests.lock")
REPOSITORY = Path(__file__).parents[2]
FIRST, LAST = (
    ("test_lab_itself",),
    ("test_crashes", "test_outages", "test_restored_store", "test_install"),
)  # the first wants no lab, the last leave a changed one

LAB_POOLS = ("ens192-v4", "ens224-v4", "ens192-v6", "ens224-v6")

_numbers = itertools.count(1)
_endings = Endings()
_lock = pytest.StashKey[TextIO]()
_failed = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that start, break or uninstall things to the ends."""
    items.sort(key=lambda item: _place(item.path))


def _place(path: Path) -> int:
    """Return a file's place in the order; other folders keep theirs."""
    if path.parent != Path(__file__).parent:
        return 0
    if path.stem in FIRST:
        return -1
    return 1 + LAST.index(path.stem) if path.stem in LAST else 0


def pytest_collection_finish(session: pytest.Session) -> None:
    """
    Wait for another run of lab tests to end.

    There is one lab a machine, and each run clears what it finds.
    """
    if (
        not any(item.path.parent == Path(__file__).parent for item in session.items)
        or session.config.option.collectonly
    ):
        return
    RUN_LOCK.touch()
    lock = RUN_LOCK.open()
    session.config.stash[_lock] = lock  # held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"another run of lab tests holds {RUN_LOCK}; waiting for its end", file=sys.stderr)  # noqa: T201
        fcntl.flock(lock, fcntl.LOCK_EX)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let all earlier stories end before a test, and its fixtures, that want nobody else."""
    if _is_still(item):
        _endings.join()


def _is_still(item: pytest.Item) -> bool:
    return item.get_closest_marker("still") is not None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember whether a test failed: its story is then swept away without a second complaint."""
    report = yield
    if (
        call.when == "call"
        and call.excinfo is not None
        and not call.excinfo.errisinstance(pytest.skip.Exception)
    ):
        item.stash[_failed] = True
    return report


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Return a lab with the product on it."""
    was_there = _runs()
    lab = Lab.up(progress=Progress(quiet=True))
    try:
        _install(lab)
        yield lab
    finally:
        if not was_there and os.environ.get("SPIDERLAB_KEEP") != "1":
            lab.down()


def _runs() -> bool:
    """Return whether a lab runs on this machine."""
    try:
        Lab.attach()
    except LabError:
        return False
    return True


def _install(lab: Lab) -> None:
    """Install the product unless a release of it is there."""
    if "spiderpool" in lab.helm("list", "--all-namespaces", "--deployed", "--short"):
        return
    done = subprocess.run(
        [REPOSITORY / "deploy/install.sh"], capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, (
        f"deploy/install.sh failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    )


@pytest.fixture(scope="session")
def kube(lab: Lab) -> Iterator[Kube]:
    """Return the API server, cleared of what earlier runs left."""
    kube = Kube(lab.kubeconfig)
    _sweep(kube)
    yield kube
    try:
        _endings.join()
    finally:
        kube.close()


def _sweep(kube: Kube) -> None:
    """Delete namespaces and pools of stories that were cut off."""
    for thing in kube.list("Namespace", labels=manifests.TEST_LABEL):
        kube.delete("Namespace", thing["metadata"]["name"])
    sweep_pools(kube)
    until_none(
        lambda: kube.list("SpiderIPPool", labels=manifests.TEST_LABEL),
        "old stories' pools are gone",
        within_s=90,
    )


@pytest.fixture(scope="module")
def free_underlays(kube: Kube) -> Iterator[None]:
    """
    Take the lab's own pools away while subnets are tried.

    A subnet must have all addresses of pools of its CIDR.
    """
    pools = [thing for name in LAB_POOLS if (thing := kube.get("SpiderIPPool", name))]
    kube.delete("Deployment", "demo", "default", propagationPolicy="Foreground")
    for pool in pools:
        kube.delete("SpiderIPPool", pool["metadata"]["name"])
    until_none(
        lambda: [n for n in LAB_POOLS if kube.get("SpiderIPPool", n)],
        "the lab's own pools are gone",
        within_s=60,
    )
    yield
    for pool in pools:
        kube.create(
            {
                "kind": "SpiderIPPool",
                "metadata": {"name": pool["metadata"]["name"]},
                "spec": pool["spec"],
            }
        )


@pytest.fixture
def story(request: pytest.FixtureRequest, kube: Kube, lab: Lab) -> Iterator[Story]:
    """
    Return a story.

    At its end kernel, records and status must agree, and nothing of it may be left.
    """
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower()).strip("-")
    story = Story(kube, lab, f"s{next(_numbers)}-{words[:12].strip('-')}-{os.getpid() % 1000}")
    yield story
    if request.node.stash.get(_failed, False):
        story.sweep()
        return
    try:
        story.assert_clean()
    except BaseException:
        story.sweep()
        raise
    _endings.begin(story)
    if _is_still(request.node):
        _endings.join()
