"""
What an image is made of.

Packages of Debian and of Python, and the Go modules of the CNI executables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.message import Message
from email.parser import Parser
from pathlib import PurePosixPath
from typing import Final

from debian.deb822 import Deb822
from packageurl import PackageURL

from deploy.image.build import normal
from deploy.release import licences
from deploy.release.licences import License

STATUS: Final = "var/lib/dpkg/status.d/"
OS_RELEASE: Final = "usr/lib/os-release"
CLASSIFIER: Final = "License :: "


@dataclass(frozen=True, slots=True)
class Part:
    """One package or module; `purl` says which it is in the whole world."""

    name: str
    version: str
    purl: PackageURL
    licences: tuple[License, ...]
    homepage: str = ""


def is_wanted(path: str) -> bool:
    """Return whether a file of the image says something about a part."""
    return (
        path == OS_RELEASE
        or path.startswith(STATUS)
        or (path.startswith("usr/share/doc/") and path.endswith("/copyright"))
        or path.endswith(".dist-info/METADATA")
    )


def debian_packages(files: Mapping[str, bytes]) -> list[Part]:
    """Read the packages of Debian from their records in the image."""
    system = dict(
        line.split("=", 1) for line in files[OS_RELEASE].decode().splitlines() if "=" in line
    )
    number = system["VERSION_ID"].strip('"')
    records = [Deb822(text) for path, text in sorted(files.items()) if path.startswith(STATUS)]
    return [_debian(record, f"{system['ID']}-{number}", files) for record in records]


def _debian(record: Deb822, distribution: str, files: Mapping[str, bytes]) -> Part:
    name, version = record["Package"], record["Version"]
    where = f"usr/share/doc/{name}/copyright"
    source = record.get("Source", "").partition(" ")[0]
    qualifiers = {"arch": record["Architecture"], "distro": distribution} | (
        {"upstream": source} if source else {}
    )
    found = licences.of_debian(files[where].decode(), f"/{where}")
    purl = PackageURL("deb", "debian", name, version, qualifiers)
    return Part(name, version, purl, tuple(found), record.get("Homepage", ""))


def python_packages(files: Mapping[str, bytes], lock: str) -> list[Part]:
    """
    Read the packages of Python from their metadata in the image.

    Raises:
        ValueError: a package is not the one that the lock file names.

    """
    locked = dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock, flags=re.MULTILINE))
    locked = {normal(name): version for name, version in locked.items()}
    found = [
        _python(Parser().parsestr(text.decode()))
        for path, text in sorted(files.items())
        if path.endswith("METADATA")
    ]
    for part in found:
        if part.name != "spiderpool" and locked.get(part.name) != part.version:
            raise ValueError(
                f"the image has {part.name} {part.version}, the lock file {locked.get(part.name)}"
            )
    return found


def _python(metadata: Message) -> Part:
    name, version = normal(metadata["Name"]), metadata["Version"]
    says = [
        metadata["License"] or "",
        *(c for c in metadata.get_all("Classifier", []) if c.startswith(CLASSIFIER)),
    ]
    found = licences.of_python(metadata["License-Expression"] or "", says)
    return Part(name, version, PackageURL("pypi", None, name, version), tuple(found))


def go_modules(build_infos: Iterable[str], text_of: Callable[[str, str], str]) -> list[Part]:
    """
    Read the modules that Go programs were built from, each once.

    Args:
        build_infos: what `go version -m PROGRAM` prints of each program.
        text_of: returns the text of a module's licence, by path and version; of Go itself by the
        path `std`.

    """
    modules: dict[tuple[str, str], None] = {}
    for info in build_infos:
        modules["std", info.split(maxsplit=1)[0].removeprefix("go")] = None
        # A program of another project is a module of its own; ours have no version.
        found = re.findall(r"^\t(?:mod|dep)\t(\S+)\t(v\S+)", info, flags=re.MULTILINE)
        modules |= dict.fromkeys(found)
    return [_go(path, version, text_of(path, version)) for path, version in modules]


def _go(path: str, version: str, text: str) -> Part:
    where = PurePosixPath(path)
    namespace = None if len(where.parts) == 1 else str(where.parent)
    name = "stdlib" if path == "std" else where.name
    return Part(
        path, version, PackageURL("golang", namespace, name, version), tuple(licences.of_text(text))
    )


def without_licence(parts: Iterable[Part]) -> list[str]:
    """Name the parts whose licence nobody says."""
    return [str(part.purl) for part in parts if not part.licences]
