"""
Names of Kubernetes objects.

Which are possible, in the words in which Kubernetes refuses others.
"""

from __future__ import annotations

import re
from typing import Final

LONGEST_NAME: Final = 253
SUBDOMAIN: Final = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"

_SUBDOMAIN: Final = re.compile(SUBDOMAIN)


def name_problem(name: str) -> str | None:
    """
    Return why a name cannot be an object's, None when it can.

    Source: Kubernetes, Object Names and IDs, DNS subdomain names; the sentences are what an API
    server answers.
    """
    if len(name) > LONGEST_NAME:
        return f"must be no more than {LONGEST_NAME} characters"
    if not _SUBDOMAIN.fullmatch(name):
        return (
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
            "'-' or '.', and must start and end with an alphanumeric character (e.g. "
            f"'example.com', regex used for validation is '{SUBDOMAIN}')"
        )
    return None
