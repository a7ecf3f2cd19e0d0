"""
The links of a network namespace. Functions block for a moment.

They belong into `Namespaces.run`.
"""

from __future__ import annotations

import socket


def interface_names() -> frozenset[str]:
    """Return the names of all interfaces of this thread's network namespace."""
    return frozenset(name for _, name in socket.if_nameindex())
