"""Images made without a registry."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from spiderlab.images import full_name, render_layer, write_archive
from spiderlab.packages import is_static_busybox


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("someone/tool", "docker.io/someone/tool:latest"),
        ("registry.local/spiderpool:dev", "registry.local/spiderpool:dev"),
        ("registry.local:5000/spiderpool", "registry.local:5000/spiderpool:latest"),
        ("localhost/a", "localhost/a:latest"),
        ("registry.local/a@sha256:00", "registry.local/a@sha256:00"),
    ],
)
def test_a_short_name_is_the_one_that_kubelet_asks_for(name: str, full: str) -> None:
    """Registry and tag are filled in as the image reference's grammar has it."""
    assert full == full_name(name)


def test_busybox_is_not_replaced_by_a_link_to_itself() -> None:
    """The applet list contains busybox; it stays the program."""
    with tarfile.open(fileobj=io.BytesIO(render_layer(b"ELF", ["busybox", "sh"]))) as layer:
        program = layer.extractfile("bin/busybox")

        assert program is not None
        assert program.read() == b"ELF"
        assert layer.getmember("bin/sh").linkname == "busybox"
        assert 1 == layer.getnames().count("bin/busybox")


def test_an_archive_names_its_layer_by_content(tmp_path: Path) -> None:
    """The configuration holds the layer's digest, and the manifest the names."""
    write_archive(tmp_path / "image.tar", b"layer", ["a:1", "b:1"], ["sleep"])

    with tarfile.open(tmp_path / "image.tar") as archive:
        read = {
            member.name: file.read() for member in archive if (file := archive.extractfile(member))
        }
    manifest = json.loads(read["manifest.json"])[0]
    config = json.loads(read[manifest["Config"]])
    assert ["a:1", "b:1"] == manifest["RepoTags"]
    assert [f"sha256:{hashlib.sha256(read[manifest['Layers'][0]]).hexdigest()}"] == config[
        "rootfs"
    ]["diff_ids"]


def elf(*kinds: int) -> bytes:
    """Return the head of a 64-bit program with these program headers."""
    size = 56
    head = bytearray(64)
    head[0x20:0x28] = (64).to_bytes(8, "little")
    head[0x36:0x38] = size.to_bytes(2, "little")
    head[0x38:0x3A] = len(kinds).to_bytes(2, "little")
    return bytes(head) + b"".join(kind.to_bytes(4, "little") + bytes(size - 4) for kind in kinds)


def test_a_program_with_a_loader_is_not_static(tmp_path: Path) -> None:
    """A program header of kind 3 names a dynamic loader, which an image of one program does not have."""
    (tmp_path / "static").write_bytes(elf(1, 1))
    (tmp_path / "dynamic").write_bytes(elf(6, 3, 1))

    assert is_static_busybox(tmp_path / "static")
    assert not is_static_busybox(tmp_path / "dynamic")
    assert not is_static_busybox(tmp_path / "missing")
