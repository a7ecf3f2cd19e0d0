"""Image archives: the same bytes for the same input, in the forms that container runtimes read."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from deploy.image.archive import Image, Tree, digest_of, replacing, write_archive, write_layer

IMAGE = Image("spiderpool", "1.2.3", ("PATH=/usr/bin",), {"a": "b"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Make a folder with a file, a program, a link, a hard link and an empty folder."""
    root = tmp_path / "tree"
    (root / "usr/bin").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "usr/bin/tool").write_text("#!/bin/sh\n")
    (root / "usr/bin/tool").chmod(0o755)
    (root / "usr/bin/same").symlink_to("tool")
    (root / "readme").write_text("text")
    os.link(root / "readme", root / "readme-again")
    return root


def members(layer: Path) -> dict[str, tarfile.TarInfo]:
    """Read what a layer holds."""
    with tarfile.open(layer) as content:
        return {member.name: member for member in content}


def test_layer_keeps_files(tree: Path, tmp_path: Path) -> None:
    """Files, modes, links and empty folders arrive; owners and times of this machine do not."""
    write_layer(tmp_path / "layer.tar", [Tree(tree)])
    found = members(tmp_path / "layer.tar")
    assert [
        "empty",
        "readme",
        "readme-again",
        "usr",
        "usr/bin",
        "usr/bin/same",
        "usr/bin/tool",
    ] == sorted(found)
    assert (0o755, "tool", True) == (
        found["usr/bin/tool"].mode,
        found["usr/bin/same"].linkname,
        found["empty"].isdir(),
    )
    assert ("readme", True) == (found["readme-again"].linkname, found["readme-again"].islnk())
    assert {(0, 0, 0, "", "")} == {
        (m.uid, m.gid, m.mtime, m.uname, m.gname) for m in found.values()
    }


def test_layer_is_the_same_each_time(tree: Path, tmp_path: Path) -> None:
    """Another time on a file, and another order on the disk, change nothing."""
    write_layer(tmp_path / "one.tar", [Tree(tree)])
    (tree / "usr/bin/tool").rename(tree / "moved")
    (tree / "moved").rename(tree / "usr/bin/tool")
    os.utime(tree / "usr/bin/tool", (1, 1))
    write_layer(tmp_path / "two.tar", [Tree(tree)])
    assert digest_of(tmp_path / "one.tar") == digest_of(tmp_path / "two.tar")


def test_layer_below_a_folder(tree: Path, tmp_path: Path) -> None:
    """A tree that goes below a folder brings the folders above it, readable for all."""
    write_layer(tmp_path / "layer.tar", [Tree(tree, "usr/local/lib")])
    found = members(tmp_path / "layer.tar")
    assert {"usr", "usr/local", "usr/local/lib"} <= set(found)
    assert {0o755} == {found[name].mode for name in ("usr", "usr/local", "usr/local/lib")}
    assert "usr/local/lib/readme" in found
    assert "readme" not in found


def test_archive(tree: Path, tmp_path: Path) -> None:
    """The archive's manifest names the image, its configuration by digest, and its layers in order."""
    layers = [tmp_path / "a.tar", tmp_path / "b.tar"]
    write_layer(layers[0], [Tree(tree)])
    write_layer(layers[1], [Tree(tree, "opt")])
    write_archive(tmp_path / "image.tar", IMAGE, layers)

    with tarfile.open(tmp_path / "image.tar") as content:
        read = {member.name: content.extractfile(member).read() for member in content}  # type: ignore[union-attr]
    (manifest,) = json.loads(read["manifest.json"])
    config: dict[str, Any] = json.loads(read[manifest["Config"]])
    assert ["spiderpool:1.2.3"] == manifest["RepoTags"]
    assert manifest["Config"] == hashlib.sha256(read[manifest["Config"]]).hexdigest() + ".json"
    digests = [hashlib.sha256(read[name]).hexdigest() for name in manifest["Layers"]]
    assert [digest_of(layer) for layer in layers] == digests
    assert [f"sha256:{digest}" for digest in digests] == config["rootfs"]["diff_ids"]
    assert (["PATH=/usr/bin"], "linux") == (config["config"]["Env"], config["os"])


def test_archive_is_the_same_each_time(tree: Path, tmp_path: Path) -> None:
    """The same layers make the same archive."""
    write_layer(tmp_path / "a.tar", [Tree(tree)])
    for name in ("one.tar", "two.tar"):
        write_archive(tmp_path / name, IMAGE, [tmp_path / "a.tar"])
    assert digest_of(tmp_path / "one.tar") == digest_of(tmp_path / "two.tar")


def test_nothing_half_written(tmp_path: Path) -> None:
    """A build that fails leaves neither a broken file nor a remainder, and the old file stays."""
    out = tmp_path / "image.tar"
    out.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        _write_until_the_disk_is_full(out)
    assert ["image.tar"] == [path.name for path in tmp_path.iterdir()]
    assert "old" == out.read_text()


def _write_until_the_disk_is_full(out: Path) -> None:
    with replacing(out) as partial:
        partial.write_text("half")
        raise OSError("disk full")
