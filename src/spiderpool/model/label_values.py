"""Label values: what does not fit Kubernetes' rule for them is replaced by a hash."""

from __future__ import annotations

import hashlib
import re
from typing import Final

LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def hashed(text: str) -> str:
    """Return 32 characters that stand for a text."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def label_value(text: str) -> str:
    """Return the text itself when Kubernetes takes it as a label value, else its hash."""
    return text if LABEL_VALUE.fullmatch(text) else hashed(text)
