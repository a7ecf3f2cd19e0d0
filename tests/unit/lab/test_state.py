"""The lab's memory."""

import os
from pathlib import Path

import pytest

from spiderlab import paths, state
from spiderlab.errors import LabError
from spiderlab.state import Phase, Started, State, start_ticks


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the memory of these tests apart from a lab that runs."""
    monkeypatch.setattr(paths, "RUN", tmp_path / "run")
    monkeypatch.setattr(paths, "STATE", tmp_path / "run" / "state.json")
    monkeypatch.setattr(paths, "LOCK", tmp_path / "lock")


def test_what_is_written_is_read() -> None:
    """A lab's memory comes back as it was, phases and processes included."""
    written = State(
        ["a", "b"],
        ipv6=False,
        phase=Phase.RUNNING,
        processes={"a": Started(7, 8)},
        kernel={"vm/x": "0"},
    )
    written.folders, written.netns_mount = ["/opt/cni"], True

    written.save()

    assert written == state.load()
    assert ["a", "b"] == [node.name for node in written.topology.nodes]


def test_without_a_lab_there_is_no_memory() -> None:
    """No file: no lab; commands that need one say what to do."""
    assert state.load() is None
    with pytest.raises(LabError, match="spiderlab up"):
        state.require()


def test_a_lab_that_starts_is_not_one_that_runs() -> None:
    """Commands that need a lab refuse one that is not up yet."""
    State(["a"], ipv6=True).save()

    with pytest.raises(LabError, match="no lab runs here"):
        state.require()


def test_a_process_is_known_by_number_and_start_time() -> None:
    """A number that somebody else got later is not the lab's process."""
    ticks = start_ticks(os.getpid())

    assert ticks is not None
    assert Started(os.getpid(), ticks).alive
    assert not Started(os.getpid(), ticks + 1).alive
    assert start_ticks(2**22 + 1) is None  # above the kernel's largest process number


def test_the_lock_is_taken_once_and_vanishes_with_the_lab() -> None:
    """A second command waits in vain while the first works, and no lock file is left where no lab is."""
    with state.locked():
        with pytest.raises(LabError, match="try again later"), state.locked(wait_s=0):
            pass
        assert paths.LOCK.exists()
    assert not paths.LOCK.exists()


def test_the_lock_file_stays_with_a_lab() -> None:
    """While a lab's memory exists its lock file does too."""
    with state.locked():
        State(["a"], ipv6=True).save()
    assert paths.LOCK.exists()
