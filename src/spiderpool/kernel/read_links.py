"""
The links of a network namespace. Functions block for a moment.

They belong into `Namespaces.run`.
"""

from __future__ import annotations

from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.rtnetlink import GET_LINK, RouteSocket
from spiderpool.model.netns_contents import Link


def read_links() -> dict[str, Link]:
    """Return all interfaces of this thread's network namespace by name."""
    with RouteSocket() as socket:
        links = [wire.read_link(data) for data in socket.dump(GET_LINK, wire.ask_links())]
    return {link.name: link for link in links}


def interface_names() -> frozenset[str]:
    """Return the names of all interfaces of this thread's network namespace."""
    return frozenset(read_links())
