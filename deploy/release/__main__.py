"""
Write a release into a folder: `python -m deploy.release IMAGE_ARCHIVE OUT`.

The image's archive, the chart's package, the bill of materials of the image and the checksums of
all. SOURCE_DATE_EPOCH is the time that all of them carry, seconds since 1970. The folder appears
whole, or stays as it was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from deploy.image.archive import digest_of
from deploy.image.build import (
    ARCHITECTURE,
    CACHE,
    CHART,
    PLUGINS,
    ROOT,
    SHIM,
    Project,
    go_program,
    read_project,
)
from deploy.release import chart, parts, sbom
from deploy.release.imagefiles import read_files
from deploy.release.parts import Part
from spiderlab import binaries


def main() -> None:
    """Write the release."""
    archive, out = Path(sys.argv[1]), Path(sys.argv[2]).absolute()
    time_s = int(os.environ["SOURCE_DATE_EPOCH"])
    project = read_project()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        folder = Path(scratch) / "release"
        folder.mkdir()
        write(folder, archive, project, time_s)
        shutil.rmtree(out, ignore_errors=True)
        folder.rename(out)
    print((out / "SHA256SUMS").read_text(), end="")  # noqa: T201  the answer of this command


def write(folder: Path, archive: Path, project: Project, time_s: int) -> None:
    """Write all files of a release."""
    name = f"{project.name}-{project.version}"
    shutil.copyfile(archive, folder / f"{name}-image-linux-{ARCHITECTURE}.tar")
    write_chart(folder / f"{name}.tgz", time_s)
    found = read_parts(archive)
    built = datetime.fromtimestamp(time_s, UTC)
    bill = sbom.render(project.name, project.version, digest_of(archive), built, found)
    (folder / f"{name}.cdx.json").write_text(bill)
    sums = [f"{digest_of(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))


def write_chart(out: Path, time_s: int) -> None:
    """Let Helm check and pack the chart."""
    with tempfile.TemporaryDirectory() as scratch:
        run([str(binaries.program("helm")), "package", str(CHART.parent), "--destination", scratch])
        (package,) = Path(scratch).glob("*.tgz")
        chart.pack_again(package, out, time_s)


def read_parts(archive: Path) -> list[Part]:
    """Read from the image itself what it is made of; a part without a licence ends the release."""
    files = read_files(archive, lambda path: parts.is_wanted(path) or is_go_program(path))
    lock = (ROOT / "requirements.lock").read_text()
    go = go_program()
    found = [
        *parts.debian_packages(files),
        *parts.python_packages(files, lock),
        *parts.go_modules(
            [
                read_build_info(go, content)
                for path, content in files.items()
                if is_go_program(path)
            ],
            partial(read_licence, go),
        ),
    ]
    if unclear := parts.without_licence(found):
        raise SystemExit(
            f"release: nothing says the licence of {', '.join(unclear)}; name it in "
            "deploy/release/licences.py"
        )
    return found


def is_go_program(path: str) -> bool:
    """Return whether a path of the image is one of the programs that are built with Go."""
    return path == SHIM or path.startswith(f"{PLUGINS}/")


def read_build_info(go: str, program: bytes) -> str:
    """Ask Go what a program was built from."""
    with tempfile.TemporaryDirectory() as scratch:
        (path := Path(scratch) / "program").write_bytes(program)
        return run([go, "version", "-m", str(path)]).partition(":")[2]


def read_licence(go: str, path: str, version: str) -> str:
    """Read the licence of a Go module that was built here; of Go itself by the path `std`."""
    folder = (
        Path(run([go, "env", "GOROOT"]).strip())
        if path == "std"
        else CACHE / f"go/mod/{path}@{version}"
    )
    names = ("license", "license.md", "license.txt")
    found = sorted(file for file in folder.iterdir() if file.name.lower() in names)
    return "\n".join(file.read_text() for file in found)


def run(command: list[str]) -> str:
    """Run a command and return what it prints; what goes wrong ends the release."""
    done = subprocess.run(  # noqa: S603  our own commands
        command, cwd=ROOT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(
            f"release: {' '.join(command[:3])} …: exit {done.returncode}\n{done.stderr[-4000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    main()
