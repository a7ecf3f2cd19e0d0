"""A caller is the process that called, not the one that has its number now."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spiderpool.agent.node.caller import Peer, host_of, read_peer
from spiderpool.errors import TryAgain


@pytest.fixture
def ended() -> Peer:
    """Return a caller that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        peer = Peer.of_process(process.pid)
        process.kill()
    return peer


def test_the_other_end_of_a_socket() -> None:
    """The kernel says who is at the other end, and whether it lives."""
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other, read_peer(one) as peer:
        assert (os.getpid(), True) == (peer.pid, peer.is_alive)


def test_a_living_caller_s_namespaces_are_opened() -> None:
    """The namespaces of a process that lives are those of its number."""
    with Peer.of_process(os.getpid()) as peer, host_of(peer) as host:
        assert 2 == len(host.fds)


def test_the_number_of_a_dead_caller_is_not_trusted(ended: Peer) -> None:
    """A caller that has ended, and whose number another process has, gets nothing opened."""
    before = len(list(Path("/proc/self/fd").iterdir()))

    with ended, pytest.raises(TryAgain, match=f"process {os.getpid()}, is gone"):
        host_of(replace(ended, pid=os.getpid()))

    assert before - 1 == len(list(Path("/proc/self/fd").iterdir()))


def test_a_caller_that_is_gone(ended: Peer) -> None:
    """A number that nobody has is told."""
    with ended, pytest.raises(TryAgain, match="is gone"):
        host_of(ended)
    with pytest.raises(TryAgain, match="is gone"):
        Peer.of_process(ended.pid)
