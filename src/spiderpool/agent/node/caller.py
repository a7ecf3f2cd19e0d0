"""
Who calls: the process at the other end of the agent's socket, and the pod that its call is about.

The process number alone is not enough: the process may end, and another one may get the number,
before its namespaces are opened by it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from spiderpool.cni.request import Call
from spiderpool.errors import BadEnvironment, InvalidRequest, NotFound, TryAgain
from spiderpool.kernel.namespaces import Namespaces

SO_PEERPIDFD: Final = 77  # Linux 6.5, asm-generic/socket.h; Python 3.11 does not name it


@dataclass(frozen=True, slots=True)
class Peer:
    """
    A process that calls, and a descriptor that means this process alone (pidfd_open(2)).

    Its mount namespace is where a CNI call means its paths. A context manager: leaving it closes
    the descriptor.
    """

    pid: int
    pidfd: int

    @classmethod
    def of_process(cls, pid: int) -> Self:
        """
        Return the process that has this number now.

        Raises:
            TryAgain: there is none.
        """
        try:
            return cls(pid, os.pidfd_open(pid))
        except OSError as error:
            raise TryAgain(f"the caller, process {pid}, is gone") from error

    @property
    def is_alive(self) -> bool:
        """Return whether the process has not ended: only then its number still means it."""
        try:
            signal.pidfd_send_signal(self.pidfd, 0)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.pidfd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_peer(connection: socket.socket) -> Peer:
    """
    Ask the kernel who is at the other end of a unix socket.

    Raises:
        TryAgain: the process is gone.
    """
    credentials = connection.getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid = struct.unpack("3i", credentials)[0]
    with contextlib.suppress(OSError):
        # Kernels before 6.5 do not have it; a caller that is gone already gives ESRCH.
        return Peer(pid, connection.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD))
    return Peer.of_process(pid)


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


@dataclass(frozen=True, slots=True)
class PodCall:
    """Which pod a CNI call is about; `uid` is empty when the runtime does not tell."""

    namespace: str
    name: str
    uid: str

    @property
    def key(self) -> tuple[str, str]:
        """(namespace, name)."""
        return (self.namespace, self.name)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def read_pod(call: Call) -> PodCall:
    """Return the pod that a call is about."""
    if not call.args.namespace or not call.args.name:
        raise BadEnvironment(
            "CNI_ARGS has no K8S_POD_NAMESPACE or no K8S_POD_NAME; spiderpool gives addresses to "
            "pods of Kubernetes only"
        )
    return PodCall(call.args.namespace, call.args.name, call.args.uid)


def pod_call(namespace: str | None, name: str | None, uid: str | None = None) -> PodCall:
    """Name a pod; raises `InvalidRequest` where that is no name."""
    if not (namespace and name):
        raise InvalidRequest(
            f'wrong input: podNamespace is "{namespace}" and podName is "{name}"; name a pod'
        )
    return PodCall(namespace, name, uid or "")
