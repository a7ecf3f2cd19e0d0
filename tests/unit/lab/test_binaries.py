"""Which programs are built, and when a build is due."""

from dataclasses import replace
from pathlib import Path

import pytest

from spiderlab import binaries
from spiderlab.errors import LabError


def test_a_stamp_changes_with_all_that_goes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sources, pins, packages and versions are in the hash; tests and other files are not."""
    monkeypatch.setattr(binaries, "SOURCES", tmp_path)
    module = tmp_path / "cni"
    module.mkdir()
    (module / "go.mod").write_text("module a")
    one = binaries.BinarySet("cni", "plugins", ("a/cmd/b",))
    first = binaries.stamp(one)

    (module / "notes.txt").write_text("hello")
    (module / "main_test.go").write_text("package main")
    assert first == binaries.stamp(one)
    stamps = {
        first,
        binaries.stamp(replace(one, packages=("a/cmd/c",))),
        binaries.stamp(replace(one, variables=("v=1",))),
    }
    for name, text in (("go.mod", "module b"), ("go.sum", "x"), ("main.go", "package main")):
        (module / name).write_text(text)
        stamps.add(binaries.stamp(one))
    assert 6 == len(stamps)


def test_given_programs_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KUBE_BIN_DIR is used as it is, and what it lacks is named."""
    monkeypatch.setenv("KUBE_BIN_DIR", str(tmp_path))
    for name in binaries.KUBE.programs:
        (tmp_path / name).touch(mode=0o755)

    assert tmp_path / "kubelet" == binaries.program("kubelet")
    (tmp_path / "kubelet").unlink()
    with pytest.raises(LabError, match="lacks kubelet"):
        binaries._check_given(tmp_path)


def test_an_unknown_program_is_answered_with_the_known_ones() -> None:
    """Asking for a program of somebody else tells which there are."""
    with pytest.raises(
        LabError, match=r"docker is none of the lab's programs: kube-apiserver, .*helm"
    ):
        binaries.program("docker")


def test_every_set_is_pinned_and_names_its_programs() -> None:
    """Each set has go.mod and go.sum, and its go.mod asks for the version that the set's name tells."""
    for binary_set in binaries.ALL:
        assert (binary_set.module / "go.sum").stat().st_size > 0
    assert (
        f"k8s.io/kubernetes {binaries.KUBERNETES}" in (binaries.KUBE.module / "go.mod").read_text()
    )
    assert f"helm.sh/helm/v3 {binaries.HELM}" in (binaries.HELM_SET.module / "go.mod").read_text()
    assert {"lab-calico", "macvlan", "host-local"} <= set(binaries.CNI.programs)


def test_sets_by_name() -> None:
    """No name stands for what every lab runs; a wrong one is answered with those that there are."""
    assert list(binaries.BASE) == binaries.named([])
    assert [binaries.HELM_SET] == binaries.named(["helm"])
    with pytest.raises(LabError, match="there is no set docker; there are kube, cni, helm"):
        binaries.named(["helm", "docker"])
