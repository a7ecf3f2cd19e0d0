"""Programs that the distribution has: installed when missing, their services never started."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spiderlab.errors import LabError
from spiderlab.peers import Peers
from spiderlab.progress import Progress

PACKAGE_OF = {
    "etcd": "etcd-server",
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "nsenter": "util-linux",
    "unshare": "util-linux",
}
BUSYBOX = Path("/bin/busybox")
ELF_INTERPRETER = 3
"""The kind of program header that names a dynamic loader (ELF-64 specification, PT_INTERP)."""

POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICES = (
    "#!/bin/sh\n# made by spiderlab for one apt-get; remove it where no spiderlab runs\nexit 101\n"
)


def missing(peers: Peers) -> list[str]:
    """Packages to install."""
    wanted = PACKAGE_OF | peers.packages
    names = {package for program, package in wanted.items() if shutil.which(program) is None}
    if not is_static_busybox(BUSYBOX):
        names.add("busybox-static")
    return sorted(names)


def is_static_busybox(path: Path) -> bool:
    """
    Return whether there is a busybox that runs in an image of its own.

    One that names no dynamic loader.
    """
    if not path.exists():
        return False
    program = path.read_bytes()
    table, size, count = (
        int.from_bytes(program[at : at + width], "little")
        for at, width in ((0x20, 8), (0x36, 2), (0x38, 2))
    )
    kinds = {
        int.from_bytes(program[at : at + 4], "little")
        for at in range(table, table + size * count, size)
    }
    return ELF_INTERPRETER not in kinds


def ensure(peers: Peers, progress: Progress) -> None:
    """Install what is missing."""
    names = missing(peers)
    if not names:
        return
    if shutil.which("apt-get") is None:
        raise LabError(f"install these first (the names are Debian's): {' '.join(names)}")
    with progress.stage(f"install {' '.join(names)}"), _no_services():
        _apt("update", "-qq")
        _apt("install", "-qq", "-y", "--no-install-recommends", *names)


def _apt(*words: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"apt-get {words[0]}: exit {done.returncode}: {done.stderr.strip()[-1000:]}")


@contextmanager
def _no_services() -> Iterator[None]:
    """
    Keep packages from starting what they bring.

    The lab runs its own containerd and etcd, on its own disks.
    """
    if POLICY.exists() and POLICY.read_text() != NO_SERVICES:
        yield
        return
    POLICY.write_text(NO_SERVICES)
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()
