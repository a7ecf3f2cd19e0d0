"""
What the kernel takes as the name and as the hardware address of an interface.

Sources: net/core/dev.c `dev_valid_name` and `__dev_alloc_name` ("%" is a pattern),
net/core/neighbour.c and net/ipv4/devinet.c (a name is a directory of sysctl, where `all` and
`default` are taken); libcni `ValidateInterfaceName` (":"); IEEE 802, 8.2 (group bit).
"""

from __future__ import annotations

import re
from typing import Final

from spiderpool.errors import InvalidRequest

LOOPBACK: Final = "lo"
INTERFACE_BYTES: Final = 15  # IFNAMSIZ without its end mark
NO_IFNAME: Final = (
    f"is no name of an interface: at most {INTERFACE_BYTES} characters, without '/', ':', '%' and "
    "blanks, and not '.', '..', 'all' or 'default'"
)
_NOT_IN_NAME: Final = re.compile(r"[\s/:%]|[^\x20-\U0010ffff]")
_TAKEN: Final = frozenset({".", "..", "all", "default"})
_ETHERNET: Final = re.compile(
    r"[0-9A-Fa-f]{2}(?P<sep>[:-])([0-9A-Fa-f]{2}(?P=sep)){4}[0-9A-Fa-f]{2}"
    r"|[0-9A-Fa-f]{4}(\.[0-9A-Fa-f]{4}){2}"
)


def valid_ifname(name: str) -> bool:
    """Return whether the kernel and libcni take a name for an interface."""
    return (
        0 < len(name.encode(errors="surrogatepass")) <= INTERFACE_BYTES
        and name not in _TAKEN
        and not _NOT_IN_NAME.search(name)
    )


def checked_ifname(name: str, where: str) -> str:
    """
    Return a name that is asked for.

    Args:
        name: empty where none is asked for.
        where: begins the message of an error.

    Raises:
        InvalidRequest: the kernel would not take it, or every pod has one of that name.
    """
    if name and not valid_ifname(name):
        raise InvalidRequest(f'{where}: interface "{name}" {NO_IFNAME}')
    if name == LOOPBACK:
        raise InvalidRequest(
            f'{where}: interface "{name}" is the loopback that every pod has; name another'
        )
    return name


def mac_problem(text: str) -> str | None:
    """
    Say why no Ethernet interface can have a MAC; None when one can.

    Args:
        text: six octets, as Go's `net.ParseMAC` reads them: with ":" or "-", or dotted.
    """
    if not _ETHERNET.fullmatch(text):
        return "write 6 octets such as 02:00:5e:10:00:01"
    digits = re.sub("[.:-]", "", text)
    if int(digits[:2], 16) & 1:
        return "it is a group address: the first octet must be even, such as 02"
    if not int(digits, 16):
        return "it is all zeros; the first octet of an address of your own is 02"
    return None
