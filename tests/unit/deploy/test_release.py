"""
What a release is made of.

Licences, parts of the image, the bill of materials, the chart's package.
"""

from __future__ import annotations

import io
import json
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cyclonedx.model.license import LicenseExpression

from deploy.image.archive import Image, Tree, write_archive, write_layer
from deploy.release import chart, licences, parts, sbom
from deploy.release.imagefiles import read_files
from deploy.release.licences import License
from deploy.release.parts import Part

BUILT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

RECORD = """\
Package: libfoo1
Source: foo (1.2-3)
Version: 1:1.2-3+b1
Architecture: amd64
Homepage: https://foo.example
"""

COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 Somebody
License: LGPL-2.1+

Files: tests/*
Copyright: 2021 Somebody
License: Expat or GPL-2

License: LGPL-2.1+
 Text.
"""

METADATA = "Metadata-Version: 2.4\nName: Prometheus_Client\nVersion: 0.26.0\nLicense-Expression: Apache-2.0 AND BSD-2-Clause\n"

FILES = {
    "usr/lib/os-release": b'NAME="Debian"\nID=debian\nVERSION_ID="12"\n',
    "var/lib/dpkg/status.d/libfoo1": RECORD.encode(),
    "usr/share/doc/libfoo1/copyright": COPYRIGHT.encode(),
    "usr/local/lib/python3.11/dist-packages/prometheus_client-0.26.0.dist-info/METADATA": METADATA.encode(),
}

BUILD_INFO = """\
 go1.26.8
\tpath\tspiderpool/shim
\tmod\tspiderpool/shim\t(devel)
\tdep\tgithub.com/containernetworking/cni\tv1.3.1\th1:gnHlU=
\tbuild\tCGO_ENABLED=0
"""
PLUGIN_INFO = """\
 go1.26.8
\tpath\tgithub.com/containernetworking/plugins/plugins/main/macvlan
\tmod\tgithub.com/containernetworking/plugins\tv1.9.1\th1:tq=
\tdep\tgithub.com/containernetworking/cni\tv1.3.1\th1:gnHlU=
"""


def said(found: list[License] | tuple[License, ...]) -> list[str]:
    """Name licences as the bill of materials does."""
    return [
        one.value if isinstance(one, LicenseExpression) else str(one.id or one.name)
        for one in found
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GPL-2+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"),
        ("GFDL-1.3+", "GFDL-1.3-or-later"),
        ("Expat", "MIT"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("MPL-1.1 or GPL-2+ or LGPL-2.1+", "MPL-1.1 OR GPL-2.0-or-later OR LGPL-2.1-or-later"),
        ("public-domain", "public-domain"),
    ],
)
def test_names_of_debian(name: str, expected: str) -> None:
    """Debian's short names become SPDX's; a name that SPDX does not have stays."""
    assert expected == licences.spdx_of_debian(name)


def test_a_copyright_for_people() -> None:
    """A file that no machine reads names the licences whose text it points to, and itself."""
    text = "On Debian systems see /usr/share/common-licenses/GPL-2, and /usr/share/common-licenses/LGPL-2.1."
    assert ["GPL-2, see /c", "LGPL-2.1, see /c"] == said(licences.of_debian(text, "/c"))
    assert ["see /c"] == said(licences.of_debian("Do what you like.", "/c"))


@pytest.mark.parametrize(
    ("expression", "names", "expected"),
    [
        ("MIT OR Apache-2.0", ["something"], ["MIT OR Apache-2.0"]),
        ("", ["Apache 2.0"], ["Apache-2.0"]),
        ("", ["", "License :: OSI Approved :: MIT License"], ["MIT"]),
        ("", ["Copyright somebody", ""], []),
    ],
)
def test_licences_of_python(expression: str, names: list[str], expected: list[str]) -> None:
    """The expression decides, else the first name that is known; an unknown one is none."""
    assert expected == said(licences.of_python(expression, names))


def test_packages_of_debian() -> None:
    """A package has its version with epoch, its source, and the licences of all its files."""
    (part,) = parts.debian_packages(FILES)

    expected = "pkg:deb/debian/libfoo1@1:1.2-3%2Bb1?arch=amd64&distro=debian-12&upstream=foo"
    assert expected == str(part.purl)
    assert ["LGPL-2.1-or-later", "MIT OR GPL-2.0-only"] == said(part.licences)
    assert "https://foo.example" == part.homepage


def test_packages_of_python() -> None:
    """A package has its normal name, the locked version and its licence."""
    (part,) = parts.python_packages(
        FILES, "prometheus-client==0.26.0 ; python_version >= '3' \\\n    --hash=sha256:dd\n"
    )

    assert "pkg:pypi/prometheus-client@0.26.0" == str(part.purl)
    assert ["Apache-2.0 AND BSD-2-Clause"] == said(part.licences)


def test_a_package_that_is_not_locked() -> None:
    """An image that was built from another lock file is no release."""
    with pytest.raises(
        ValueError, match=r"the image has prometheus-client 0.26.0, the lock file 0.25.0"
    ):
        parts.python_packages(FILES, "prometheus-client==0.25.0 \\\n")


def test_modules_of_go() -> None:
    """A program has the modules that it was linked from, and Go's own library."""
    texts = {
        "std": "… Neither the name of Google …",
        "github.com/containernetworking/cni": "Unknown words",
    }
    texts["github.com/containernetworking/plugins"] = "Unknown words"
    found = parts.go_modules([BUILD_INFO, PLUGIN_INFO], lambda path, _: texts[path])

    expected = [
        "pkg:golang/stdlib@1.26.8",
        "pkg:golang/github.com/containernetworking/cni@v1.3.1",
        "pkg:golang/github.com/containernetworking/plugins@v1.9.1",
    ]
    assert expected == [str(part.purl) for part in found]
    assert ["BSD-3-Clause"] == said(found[0].licences)
    assert expected[1:] == parts.without_licence(found)


def some_parts() -> list[Part]:
    """Return the parts of a small image."""
    return [
        *parts.debian_packages(FILES),
        *parts.python_packages(FILES, "prometheus-client==0.26.0\n"),
    ]


def test_bill_of_materials() -> None:
    """
    It names the image by its digest, each part by its purl with its licences.

    The same input gives the same text.
    """
    text = sbom.render("spiderpool", "0.1.0", "ab" * 32, BUILT, some_parts())
    bill = json.loads(text)

    assert ("CycloneDX", "1.6") == (bill["bomFormat"], bill["specVersion"])
    assert "2026-01-02T03:04:05+00:00" == bill["metadata"]["timestamp"]
    image = bill["metadata"]["component"]
    assert ("spiderpool", "0.1.0", "ab" * 32) == (
        image["name"],
        image["version"],
        image["hashes"][0]["content"],
    )
    by_name = {one["name"]: one for one in bill["components"]}
    assert [{"expression": "Apache-2.0 AND BSD-2-Clause"}] == [
        {"expression": one["expression"]} for one in by_name["prometheus-client"]["licenses"]
    ]
    assert {"LGPL-2.1-or-later", "MIT OR GPL-2.0-only"} == {
        one["license"].get("id") or one["license"]["name"] for one in by_name["libfoo1"]["licenses"]
    }
    (whole,) = [one for one in bill["dependencies"] if one["ref"] == image["bom-ref"]]
    assert {one["bom-ref"] for one in bill["components"]} == set(whole["dependsOn"])
    assert text == sbom.render("spiderpool", "0.1.0", "ab" * 32, BUILT, reversed_parts())


def reversed_parts() -> list[Part]:
    """Return the same parts in another order."""
    return some_parts()[::-1]


def test_a_wrong_bill_is_no_release() -> None:
    """What the standard's schema does not allow is not written."""
    with pytest.raises(ValueError, match="not CycloneDX"):
        sbom.render("spiderpool", "0.1.0", "not a digest", BUILT, [])


def test_files_of_an_image(tmp_path: Path) -> None:
    """
    Wanted files are read from all layers.

    A later layer's file takes the place of an earlier one's.
    """
    layers = []
    for number, files in enumerate(({"etc/a": "1", "etc/b": "1", "etc/c": "1"}, {"etc/b": "2"})):
        tree = tmp_path / f"tree{number}"
        for name, text in files.items():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text(text)
        layers.append(tmp_path / f"{number}.tar")
        write_layer(layers[-1], [Tree(tree)])
    write_archive(tmp_path / "image.tar", Image("spiderpool", "1", (), {}), layers)

    assert {"etc/a": b"1", "etc/b": b"2"} == read_files(
        tmp_path / "image.tar", lambda path: path != "etc/c"
    )


def helm_package(path: Path, names: list[str], time_s: int) -> Path:
    """Write a package as Helm does: in an order and at a time of its own."""
    with tarfile.open(path, "w:gz") as package:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(name), time_s, "somebody"
            package.addfile(info, io.BytesIO(name.encode()))
    return path


def test_a_chart_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    """Order, time and user of the one who packs are not in it; the content is."""
    first = helm_package(tmp_path / "1.tgz", ["spiderpool/Chart.yaml", "spiderpool/a"], 1)
    second = helm_package(tmp_path / "2.tgz", ["spiderpool/a", "spiderpool/Chart.yaml"], 2)
    for package in (first, second):
        chart.pack_again(package, package.with_suffix(".out"), 1_700_000_000)

    assert first.with_suffix(".out").read_bytes() == second.with_suffix(".out").read_bytes()
    with tarfile.open(first.with_suffix(".out")) as packed:
        found = {one.name: (one.mtime, one.uname, packed.extractfile(one)) for one in packed}
        content = {name: stream.read() for name, (_, _, stream) in found.items() if stream}
    assert {
        "spiderpool/Chart.yaml": b"spiderpool/Chart.yaml",
        "spiderpool/a": b"spiderpool/a",
    } == content
    assert {(1_700_000_000, "")} == {(time_s, user) for time_s, user, _ in found.values()}
