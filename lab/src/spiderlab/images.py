"""Container images without a registry: busybox made here, others imported from archives."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from pathlib import Path

from spiderlab import binaries, packages
from spiderlab.nodeconfig import PAUSE_IMAGE
from spiderlab.processes import enter, run

BUSYBOX_IMAGE = "docker.io/library/busybox:1"
MULTUS_IMAGE = f"ghcr.io/k8snetworkplumbingwg/multus-cni:{binaries.MULTUS_VERSION}"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What images call this machine's processor."""


def make_busybox(target: Path) -> None:
    """Write a docker archive with busybox, named `busybox:1` and as the nodes' pause image."""
    applets = subprocess.run(
        [packages.BUSYBOX, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    layer = render_layer(packages.BUSYBOX.read_bytes(), applets)
    write_archive(target, layer, [BUSYBOX_IMAGE, PAUSE_IMAGE], ["sleep", "infinity"])


def make_multus(target: Path) -> None:
    """Write a docker archive with Multus' programs, each where its own image has it."""
    places = {
        "multus": "usr/src/multus-cni/bin/multus",
        "passthru-cni": "usr/src/multus-cni/bin/passthru",
        "install_multus": "install_multus",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, place in places.items():
            _add_file(layer, place, binaries.program(name).read_bytes(), 0o755)
    write_archive(target, buffer.getvalue(), [MULTUS_IMAGE], ["/usr/src/multus-cni/bin/multus"])


def render_layer(busybox: bytes, applets: list[str]) -> bytes:
    """A root file system of one program under many names, as an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for folder, mode in (
            ("bin", 0o755),
            ("etc", 0o755),
            ("root", 0o700),
            ("tmp", 0o1777),
            ("var", 0o755),
            ("www", 0o755),
        ):
            layer.addfile(_entry(folder, tarfile.DIRTYPE, mode))
        _add_file(layer, "bin/busybox", busybox, 0o755)
        for applet in applets:
            if applet != "busybox":  # it lists itself, and a link would replace the program
                link = _entry(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
                link.linkname = "busybox"
                layer.addfile(link)
        _add_file(
            layer,
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
            0o644,
        )
        _add_file(layer, "etc/group", b"root:x:0:\nnobody:x:65534:\n", 0o644)
    return buffer.getvalue()


def _entry(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = kind, mode
    return entry


def _add_file(archive: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = _entry(name, tarfile.REGTYPE, mode)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def write_archive(target: Path, layer: bytes, names: list[str], command: list[str]) -> None:
    """A docker archive of one layer."""
    config = json.dumps({
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": command, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "spiderlab"}],
    }).encode()  # fmt: skip
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": names, "Layers": ["layer.tar"]}]
    ).encode()
    with tarfile.open(target, "w") as archive:
        _add_file(archive, "layer.tar", layer, 0o644)
        _add_file(archive, config_name, config, 0o644)
        _add_file(archive, "manifest.json", manifest, 0o644)


def full_name(name: str) -> str:
    """
    A name as containerd keeps it.

    With registry and tag (`busybox` is `docker.io/library/busybox:latest`).
    """
    first, slash, _ = name.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    if not has_registry:
        name = f"docker.io/{name}" if slash else f"docker.io/library/{name}"
    has_tag = ":" in name.rpartition("/")[2] or "@" in name
    return name if has_tag else f"{name}:latest"


def load(init: int, archive: Path) -> None:
    """Import an archive with the names written in it."""
    run([*enter(init), "ctr", "--namespace=k8s.io", "images", "import", archive], timeout_s=600)


def load_as(init: int, archive: Path, name: str) -> None:
    """
    Import an archive under one name, whatever names are written in it.

    A docker archive that has this very name is given no other: containerd 1.6 would set the name
    twice and lose content.
    """
    if full_name(name) in names_in(archive):
        load(init, archive)
        return
    run(
        [
            *enter(init),
            "ctr",
            "--namespace=k8s.io",
            "images",
            "import",
            f"--index-name={full_name(name)}",
            archive,
        ],
        timeout_s=600,
    )


def names_in(archive: Path) -> set[str]:
    """The names that a docker archive gives its images; an OCI archive is not asked."""
    with tarfile.open(archive) as content:
        if "manifest.json" not in content.getnames():
            return set()
        manifest = content.extractfile("manifest.json")
        return (
            {full_name(tag) for image in json.load(manifest) for tag in image.get("RepoTags") or ()}
            if manifest
            else set()
        )
