"""The executable that calls: its namespaces are where the paths and links of a call are."""

from __future__ import annotations

from spiderpool.agent.api.peer import Peer
from spiderpool.errors import NotFound, TryAgain
from spiderpool.kernel.namespaces import Namespaces


def host_of(peer: Peer) -> Namespaces:
    """
    Open the mount and network namespaces of the executable that calls.

    Raises:
        TryAgain: the caller is gone. Then its number may mean another process already, so what was
            opened by it is not used.
    """
    try:
        opened = Namespaces.of_process(peer.pid, "mnt", "net")
    except NotFound as error:
        raise TryAgain(f"the caller, process {peer.pid}, is gone") from error
    if not peer.is_alive:
        opened.close()
        raise TryAgain(f"the caller, process {peer.pid}, is gone")
    return opened
