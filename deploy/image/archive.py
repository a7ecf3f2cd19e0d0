"""
Container images as plain files: a layer from folders, an image archive from layers.

Without a container tool, without a registry.

The result is a "docker archive", which containerd, Docker and Podman import. Layers are not
compressed: nodes import them from a local disk, where unpacking would cost more than reading. The
same input gives the same bytes, so that a node that has a layer keeps it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# one fixed time for all images: the date of a build says nothing about its content
EPOCH = "2023-11-14T22:13:20Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # the names of the image specification


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder whose content goes below `target` in a layer; an empty target is the root."""

    source: Path
    target: str = ""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image is besides its layers."""

    name: str
    tag: str
    env: tuple[str, ...]
    labels: dict[str, str]


@contextlib.contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield a path to write to: it replaces `out` at the end, or is removed if anything fails."""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial")
    try:
        yield partial
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def write_layer(out: Path, trees: Sequence[Tree]) -> None:
    """Write the folders as one layer: sorted, owned by root, without times of this machine."""
    with replacing(out) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as layer:
        seen: set[str] = set()
        for tree in trees:
            _add_parents(layer, tree.target, seen)
            for path in sorted(tree.source.rglob("*")):
                name = str(Path(tree.target) / path.relative_to(tree.source))
                if name not in seen:
                    seen.add(name)
                    _add(layer, path, name)


def _add_parents(layer: tarfile.TarFile, target: str, seen: set[str]) -> None:
    """Name the folders above `target`, once each."""
    for parent in [*reversed(Path(target).parents), Path(target)]:
        name = str(parent)
        if name != "." and name not in seen:
            seen.add(name)
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            layer.addfile(info)


def _add(layer: tarfile.TarFile, path: Path, name: str) -> None:
    """Add one file, folder or link."""
    info = layer.gettarinfo(str(path), name)
    info.uid = info.gid = info.mtime = 0
    info.uname = info.gname = ""
    if info.isreg():
        with path.open("rb") as content:
            layer.addfile(info, content)
    else:
        layer.addfile(info)


def digest_of(path: Path) -> str:
    """Read the SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def render_config(image: Image, digests: Sequence[str]) -> dict[str, Any]:
    """
    Render the image's configuration.

    Source: OCI image specification 1.1, "Image Configuration".
    """
    return {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": EPOCH,
        "config": {"Env": list(image.env), "Labels": image.labels, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        "history": [{"created": EPOCH, "created_by": "spiderpool"} for _ in digests],
    }


def write_archive(out: Path, image: Image, layers: Sequence[Path]) -> None:
    """
    Write an archive that `ctr images import`, `docker load` and `podman load` read.

    Source: Docker image specification 1.2, "Combined Image JSON + Filesystem Changeset Format".
    """
    digests = [digest_of(layer) for layer in layers]
    config = _json(render_config(image, digests))
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    names = [f"{digest}/layer.tar" for digest in digests]
    manifest = _json(
        [{"Config": config_name, "RepoTags": [f"{image.name}:{image.tag}"], "Layers": names}]
    )
    with (
        replacing(out) as partial,
        tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive,
    ):
        for name, layer in zip(names, layers, strict=True):
            with layer.open("rb") as content:
                _add_bytes(archive, name, content, os.fstat(content.fileno()).st_size)
        _add_bytes(archive, config_name, io.BytesIO(config), len(config))
        _add_bytes(archive, "manifest.json", io.BytesIO(manifest), len(manifest))


def _json(value: object) -> bytes:
    """Render JSON, the same bytes for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _add_bytes(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    """Add a file of known size."""
    info = tarfile.TarInfo(name)
    info.size = size
    archive.addfile(info, content)
