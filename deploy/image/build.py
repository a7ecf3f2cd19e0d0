"""
Build the container image, and print the archive's path.

A layer is made again only when what goes into it changes.

Four layers: a Debian root file system with Python, the CNI project's plugins, the Python packages
of the lock file, our own code and the CNI executable. Only the last one changes from day to day,
and it is small.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.image.archive import ARCHITECTURES, Image, Tree, digest_of, write_archive, write_layer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("CACHE", Path.home() / ".cache" / "spiderpool"))
IMAGES = CACHE / "images"
LAYERS = IMAGES / "layers"
CHART = ROOT / "deploy/chart/spiderpool/Chart.yaml"
PACKAGES = "usr/local/lib/python3.11/dist-packages"  # where Debian's Python looks by itself
SHIM = "usr/lib/spiderpool/cni"
ARCHITECTURE = ARCHITECTURES[platform.machine()]
PLUGINS = "usr/lib/spiderpool/plugins"
ENV = (
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONUNBUFFERED=1",
    "PYTHONDONTWRITEBYTECODE=1",
)

# Loads kubeconfig files; a pod's credentials are its service account's. It brings a second HTTP
# stack along.
NOT_IN_THE_IMAGE = frozenset({"lightkube"})

# Sources and types that packages ship for those who build or check them; nothing reads them at run
# time.
NOT_AT_RUN_TIME = ("*.c", "*.h", "*.pyx", "*.pxd", "*.pyi", "*.pxi", "py.typed")

# What an installer writes about itself: folders of this machine and times.
NOTES_OF_INSTALLERS = ("RECORD", "direct_url.json", "uv_cache.json", "INSTALLER", "REQUESTED")

KEPT_ARCHIVES = 3


@dataclass(frozen=True, slots=True)
class Project:
    """What the build takes from the project's files; `scripts` is command → `module:function`."""

    name: str
    version: str
    scripts: Mapping[str, str]


def main() -> int:
    """Build what is missing."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with (IMAGES / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        project = read_project()
        layers = [base_layer(), plugins_layer(), packages_layer(), product_layer(project)]
        print(archive(project, layers))  # noqa: T201  the answer of this command
    return 0


def read_project() -> Project:
    """Read the name, the version and the commands of the product."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load(CHART.read_text())
    return Project(table["name"], str(chart["appVersion"]), table["scripts"])


def base_layer() -> Path:
    """Make the root file system."""
    recipe = HERE / "rootfs.sh"

    def make(folder: Path) -> None:
        run([str(recipe), str(folder / "root")])

    return layer("base", key_of([recipe]), make, "")


def plugins_layer() -> Path:
    """Make the layer of the CNI project's plugins, for nodes that lack them."""
    module = HERE / "plugins"
    sources = [module / name for name in ("go.mod", "go.sum", "tools.go")]

    def make(folder: Path) -> None:
        out = folder / "root"
        out.mkdir()
        go_build([*plugin_packages()], out, module)

    return layer("plugins", key_of(sources), make, PLUGINS)


def plugin_packages() -> list[str]:
    """Return the Go packages of the CNI project's plugins; each ends with the plugin's name."""
    return re.findall(r'^\t_ "(.+)"$', (HERE / "plugins/tools.go").read_text(), flags=re.MULTILINE)


def packages_layer() -> Path:
    """Make the layer of Python packages that the product imports."""
    lock = locked_requirements((ROOT / "requirements.lock").read_text(), runtime_packages())

    def make(folder: Path) -> None:
        requirements = folder / "requirements.txt"
        requirements.write_text(lock)
        install(folder / "root", ["--require-hashes", "--no-deps", "-r", str(requirements)])

    return layer("packages", key_of([], lock), make, PACKAGES)


def product_layer(project: Project) -> Path:
    """Make the layer of our own code: the wheel, its commands, the CNI executable."""
    metadata = [ROOT / name for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE")]
    sources = [*files(ROOT / "src", "*"), *metadata, CHART, *shim_sources()]

    def make(folder: Path) -> None:
        root = folder / "root"
        run([python(), "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT)
        install(root / PACKAGES, ["--no-deps", *map(str, folder.glob("*.whl"))])
        for name, entry in project.scripts.items():
            write_command(root / "usr/local/bin" / name, entry)
        build_shim(root / SHIM, project.version)

    return layer("product", key_of(sources), make, "")


def archive(project: Project, layers: list[Path]) -> Path:
    """Join the layers, unless this very image is there."""
    out = (
        IMAGES
        / f"spiderpool-{key_of([], *(path.name for path in layers), str(ENV), project.version)}.tar"
    )
    if not out.exists():
        with stage("image"):
            labels = {
                "org.opencontainers.image.title": "spiderpool",
                "org.opencontainers.image.version": project.version,
            }
            write_archive(out, Image(project.name, project.version, ENV, labels), layers)
    out.touch()
    forget_old(IMAGES.glob("spiderpool-*.tar"))
    return out


def layer(name: str, key: str, make: Callable[[Path], None], target: str) -> Path:
    """
    Return the layer of that key, made by `make` in a folder of its own when it is not there.

    Args:
        name: which layer.
        key: a hash of all that goes into it.
        make: fills `root` in the folder that it gets.
        target: where `root` goes in the image.
    """
    out = LAYERS / f"{name}-{key}.tar"
    if not out.exists():
        with stage(name), tempfile.TemporaryDirectory(dir=IMAGES, prefix=".build-") as folder:
            make(Path(folder))
            write_layer(out, [Tree(Path(folder) / "root", target)])
    out.touch()
    forget_old(LAYERS.glob(f"{name}-*.tar"))
    return out


def forget_old(paths: Iterator[Path]) -> None:
    """Keep the youngest few."""
    for path in sorted(paths, key=lambda p: p.stat().st_mtime, reverse=True)[KEPT_ARCHIVES:]:
        path.unlink()


def runtime_packages() -> frozenset[str]:
    """Follow what the installed distributions require, from ours on."""
    from packaging.requirements import Requirement  # noqa: PLC0415  a build tool's package

    found: set[str] = set()
    todo = ["spiderpool"]
    while todo:
        name = normal(todo.pop())
        if name in found or name in NOT_IN_THE_IMAGE:
            continue
        found.add(name)
        wanted = map(Requirement, importlib.metadata.requires(name) or [])
        todo += [r.name for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return frozenset(found - {"spiderpool"})


def locked_requirements(lock: str, names: frozenset[str]) -> str:
    """Cut the lock file down to these packages, hashes and all."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return "".join(
        entry
        for entry in entries
        if entry and normal(re.split(r"[=\[ ]", entry, maxsplit=1)[0]) in names
    )


def normal(name: str) -> str:
    """Write a package name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def install(folder: Path, what: list[str]) -> None:
    """
    Install packages into a folder, compiled.

    The bytecode is trusted, so that dates do not matter.
    """
    run(
        [
            "uv",
            "pip",
            "install",
            "-q",
            "--python",
            python(),
            "--link-mode",
            "copy",
            "--target",
            str(folder),
            *what,
        ]
    )
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for name in NOTES_OF_INSTALLERS:
        for path in folder.glob(f"*.dist-info/{name}"):
            path.unlink()
    for pattern in NOT_AT_RUN_TIME:
        for path in folder.rglob(pattern):
            path.unlink()
    (folder / ".lock").unlink(missing_ok=True)
    compiled = [
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(folder),
        "-p",
        f"/{PACKAGES}",
    ]
    run([python(), *compiled, str(folder)])


def write_command(path: Path, entry: str) -> None:
    """Write the script that starts an entry point, `module:function`."""
    module, function = entry.split(":")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/usr/bin/python3\nimport sys\n\n"
        f"from {module} import {function}\n\nsys.exit({function}())\n"
    )
    path.chmod(0o755)


def shim_sources() -> list[Path]:
    """Name what the CNI executable is built from."""
    return [*files(ROOT / "shim", "*.go"), ROOT / "shim/go.mod", ROOT / "shim/go.sum"]


def build_shim(out: Path, version: str) -> None:
    """Build the CNI executable."""
    go_build(["."], out, ROOT / "shim", f"-X main.release={version}")


def go_build(packages: list[str], out: Path, module: Path, linked: str = "") -> None:
    """
    Build Go programs without C, so that they run on any node.

    Args:
        packages: of the module, or of those that it requires.
        out: the program, or a folder for several.
        module: the folder of go.mod.
        linked: further words for the linker.
    """
    go = {
        "CGO_ENABLED": "0",
        "GOFLAGS": "-buildvcs=false -modcacherw -mod=readonly",
        "GOCACHE": f"{CACHE}/go/build",
        "GOMODCACHE": f"{CACHE}/go/mod",
    }
    flags = ["-trimpath", "-ldflags", f"-s -w {linked}".strip(), "-o", str(out)]
    run([go_program(), "build", *flags, *packages], cwd=module, env={**os.environ, **go})


def go_program() -> str:
    """Return the Go to build with; the lab's tool finds one, or installs it into the cache."""
    command = [str(Path(python()).with_name("spiderlab")), "go", "shim"]
    found = subprocess.run(  # noqa: S603  the lab's tool
        command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    if found.returncode:
        raise SystemExit("image: there is no Go to build the CNI executable with, see above")
    return found.stdout.strip()


def files(folder: Path, pattern: str) -> list[Path]:
    """Name the files below a folder, without Python's own."""
    found = (p for p in folder.rglob(pattern) if p.is_file() and "__pycache__" not in p.parts)
    return sorted(found)


def key_of(paths: list[Path], *texts: str) -> str:
    """Hash files and texts into a short name; what builds counts as well."""
    whole = hashlib.sha256()
    for text in texts:
        whole.update(text.encode() + b"\0")
    for path in [Path(__file__), HERE / "archive.py", *paths]:
        whole.update(f"{path.relative_to(ROOT)}\0{digest_of(path)}\0".encode())
    return whole.hexdigest()[:12]


def python() -> str:
    """Name the interpreter of the project's environment."""
    return sys.executable


def run(command: list[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """Run a command; only what goes wrong is worth showing."""
    done = subprocess.run(  # noqa: S603  our own recipes
        command,
        cwd=cwd,
        env=env,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise SystemExit(
            f"image: {' '.join(command[:4])} …: exit {done.returncode}\n{done.stdout[-4000:]}"
        )


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say what is being made and how long it took."""
    start = time.monotonic()
    print(f"image: making {name} …", file=sys.stderr)  # noqa: T201
    yield
    print(f"image: {name} made in {time.monotonic() - start:.1f} s", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
