"""The executable that calls: its namespaces are where the paths and links of a call are."""

from __future__ import annotations

from spiderpool.agent.api.server import Peer
from spiderpool.errors import NotFound, TryAgain
from spiderpool.kernel.namespaces import Namespaces


def host_of(peer: Peer) -> Namespaces:
    """Open the mount and network namespaces of the executable that calls."""
    try:
        return Namespaces.of_process(peer.pid, "mnt", "net")
    except NotFound as error:
        raise TryAgain(f"the caller, process {peer.pid}, is gone") from error
