"""Names of licences, as Debian and Python packages write them, in SPDX's form."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import Final, cast

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.spdx import fixup_id
from debian.copyright import Copyright, NotMachineReadableError
from debian.copyright import License as DebianLicense

License = DisjunctiveLicense | LicenseExpression

# Debian's short names (machine-readable copyright files 1.0, section 7.1) that SPDX writes in
# another way.
DEBIAN: Final = {
    "apache-2": "Apache-2.0",
    "artistic": "Artistic-1.0-Perl",
    "expat": "MIT",
    "mpl-2": "MPL-2.0",
}
GNU: Final = re.compile(r"(A?GPL|LGPL|GFDL)-(\d)(?:\.(\d))?(\+?)", re.IGNORECASE)

# What packages of Python wrote before licence expressions (PEP 639).
PYTHON: Final = {
    "apache 2.0": "Apache-2.0",
    "isc license": "ISC",
    "mit license": "MIT",
    "license :: osi approved :: mit license": "MIT",
}

# A sentence that none of the licences after it has, for Go modules, which say theirs by its text
# alone. Words are compared without the space between them.
TEXTS: Final = {
    "Apache-2.0": "Apache License Version 2.0",
    "BSD-3-Clause": "Neither the name of",
    "BSD-2-Clause": "Redistribution and use in source and binary forms",
    "MIT": "Permission is hereby granted, free of charge",
}

_factory = LicenseFactory()
# It tells that it corrects an address of the standard; the file is Debian's and nobody here can
# change it.
logging.getLogger("debian.copyright").setLevel(logging.ERROR)


def spdx_of_debian(name: str) -> str:
    """
    Return Debian's names of licences, joined by `or` and `and`, in SPDX's form.

    Unknown ones stay as they are.
    """
    for word in ("or", "and"):
        left, found, right = name.partition(f" {word} ")
        if found:
            return f"{spdx_of_debian(left)} {word.upper()} {spdx_of_debian(right)}"
    gnu = GNU.fullmatch(name)
    if gnu:
        family, major, minor, later = gnu.groups()
        return f"{family.upper()}-{major}.{minor or 0}-{'or-later' if later else 'only'}"
    return DEBIAN.get(name.lower()) or fixup_id(name) or name


def of_debian(text: str, where: str) -> list[License]:
    """
    Return the licences of a package of Debian.

    Args:
        text: its file `copyright`.
        where: the path of that file in the image, for packages whose file is written for people
        only.

    """
    try:
        paragraphs = Copyright(text.splitlines(keepends=True), strict=False)
    except NotMachineReadableError:
        mentioned = {name.rstrip(".") for name in re.findall(r"/common-licenses/([\w.+-]+)", text)}
        return [
            _factory.make_with_name(f"{name}, see {where}".lstrip(", "))
            for name in sorted(mentioned or {""})
        ]
    # its descriptor has no type
    said = (cast("DebianLicense | None", p.license) for p in paragraphs.all_files_paragraphs())
    names = {spdx_of_debian(one.synopsis) for one in said if one}
    return [_named(name) for name in sorted(names)]


def of_python(expression: str, names: Iterable[str]) -> list[License]:
    """
    Return the licence of a Python package.

    Args:
        expression: `License-Expression` of its metadata, or empty.
        names: else what `License` and the classifiers say, the best first.

    """
    if expression:
        return [_factory.make_from_string(expression)]
    for name in filter(None, names):
        found = _factory.make_from_string(PYTHON.get(name.lower(), name))
        if isinstance(found, LicenseExpression) or found.id:
            return [found]
    return []


def of_text(text: str) -> list[License]:
    """Return the licence that a text is; none for an unknown one."""
    words = " ".join(text.split())
    for name, sentence in TEXTS.items():
        if sentence in words:
            return [_factory.make_with_id(name)]
    return []


def _named(name: str) -> DisjunctiveLicense:
    """Return a single licence, by its SPDX identifier where it is one."""
    found = _factory.make_from_string(name)
    return found if isinstance(found, DisjunctiveLicense) else _factory.make_with_name(name)
