"""
Flows as the wire shows them: transfers between namespaces, and by which interfaces their first packets came and went.

Sockets are opened by a thread that has entered the namespace, and stay there: no process has to run
in a pod.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import selectors
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final, Self, TypeVar

from spiderlab import Lab
from tests.lab.inside import processes_of
from tests.lab.networks import IPAddress
from tests.lab.story import Pod

T = TypeVar("T")

PORT: Final = 9000
GIVE, TAKE = 3000, 4000  # bytes up and down: several segments each way
_NEWNET: Final = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def within(netns: str, work: Callable[[], T]) -> T:
    """Do something in a network namespace, in a thread of its own."""
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
            try:
                assert _libc.setns(fd, _NEWNET) == 0, (
                    f"setns {netns}: {os.strerror(ctypes.get_errno())}"
                )
            finally:
                os.close(fd)
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
            failure.append(error)

    thread = threading.Thread(target=run, name=f"within {netns}")
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def netns_of(pod: Pod) -> str:
    """Return the file of a pod's network namespace."""
    return f"/proc/{processes_of(pod.uid)[0]}/ns/net"


# --- transfers
# ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transport:
    """
    What came of a transfer.

    How far it came, both ends as the client saw them, the client as the server saw it.
    """

    stage: str  # connect, transfer, done
    client: IPAddress
    port: int
    seen: IPAddress | None = None


def exchange(
    netns: str,
    address: IPAddress,
    port: int = PORT,
    *,
    source: IPAddress | None = None,
    timeout_s: float = 5,
) -> Transport:
    """Transfer some KB both ways; the answer tells how the server saw us."""
    return within(netns, lambda: _exchange(address, port, source, timeout_s))


def _exchange(
    address: IPAddress, port: int, source: IPAddress | None, timeout_s: float
) -> Transport:
    stage = "connect"
    with socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6) as connection:
        connection.settimeout(timeout_s)
        seen = None
        with contextlib.suppress(OSError):
            if source:
                connection.bind((str(source), 0))
            connection.connect((str(address), port))
            stage = "transfer"
            connection.sendall(b"x" * GIVE)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            if len(answer) == TAKE:
                stage, seen = "done", ip_address(answer.decode().strip())
        host, number = connection.getsockname()[:2]
    return Transport(stage, ip_address(host), number, seen)


def _answer(connection: socket.socket, peer: str) -> None:
    with connection, contextlib.suppress(OSError):
        connection.settimeout(30)
        left = GIVE
        while left > 0 and (part := connection.recv(65536)):
            left -= len(part)
        if left <= 0:
            connection.sendall(peer.removeprefix("::ffff:").ljust(TAKE).encode())


class Servers:
    """A server in each of some namespaces, both families."""

    def __init__(self, *places: str) -> None:
        """Listen in all of them."""
        self._listening = [within(place, _listen) for place in places]

    def __enter__(self) -> Self:
        """Serve."""
        for listening in self._listening:
            threading.Thread(target=self._serve, args=(listening,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Listen no more."""
        for listening in self._listening:
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            listening.close()

    def _serve(self, listening: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, (peer, *_) = listening.accept()
                threading.Thread(target=_answer, args=(connection, peer), daemon=True).start()


def _listen() -> socket.socket:
    return socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True)


# --- taps
# -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seen:
    """A SYN, or the SYN and ACK that answers one, where it came in or went out."""

    place: str
    nic: str
    out: bool
    answer: bool
    source: IPAddress
    source_port: int
    destination: IPAddress
    destination_port: int


def _bpf(*steps: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("HBBI", *step) for step in steps)


# Packets with the flag SYN, of either family without extension headers (classic BPF,
# linux/filter.h).
SYN_ONLY: Final = _bpf(
    (0x28, 0, 0, 12),  # 0 ldh [12]: EtherType
    (0x15, 0, 5, 0x0800),  # 1 IPv4, or go to 7
    (0x30, 0, 0, 23),  # 2 ldb [23]: protocol
    (0x15, 0, 9, 6),  # 3 TCP, or go to 13
    (0xB1, 0, 0, 14),  # 4 x = length of the IPv4 header
    (0x50, 0, 0, 27),  # 5 ldb [x + 14 + 13]: flags
    (0x45, 5, 6, 2),  # 6 SYN: go to 12, or to 13
    (0x15, 0, 5, 0x86DD),  # 7 IPv6, or go to 13
    (0x30, 0, 0, 20),  # 8 ldb [20]: next header
    (0x15, 0, 3, 6),  # 9 TCP, or go to 13
    (0x30, 0, 0, 67),  # 10 ldb [14 + 40 + 13]: flags
    (0x45, 0, 1, 2),  # 11 SYN, or go to 13
    (0x06, 0, 0, 0xFFFF),  # 12 take it
    (0x06, 0, 0, 0),  # 13 leave it
)


class Taps:
    """Watches namespaces for the first packets of connections to some ports."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """
        Open a tap in each namespace.

        Args:
            places: name → file of the namespace.
        """
        self._places = [
            (name, within(path, _open_tap), within(path, _macs)) for name, path in places.items()
        ]
        self._seen: list[Seen] = []
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="taps", daemon=True)

    def __enter__(self) -> Self:
        """Watch."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self._ends.set()
        self._thread.join()
        for _name, tap, _macs in self._places:
            tap.close()

    def path(
        self, family: int, ports: set[int], *, answer: bool, client: int | None = None
    ) -> dict[str, tuple[str, str]]:
        """
        Return the interfaces by which the first packet since `forget` came in and went out, by place; empty for none.

        Args:
            family: 4 or 6.
            ports: those that the server has on the way.
            answer: the SYN and ACK, or the SYN.
            client: only from this port of the client, where nobody on the way changes it.
        """
        found: dict[str, tuple[str, str]] = {}
        for each in list(self._seen):
            client_port, server_port = each.source_port, each.destination_port
            if each.answer:
                client_port, server_port = server_port, client_port
            if (each.answer, each.source.version) != (answer, family) or server_port not in ports:
                continue
            if client in {None, client_port}:
                came, went = found.get(each.place, ("", ""))
                found[each.place] = (came, each.nic) if each.out else (each.nic, went)
        return found

    def forget(self) -> None:
        """Begin again."""
        self._seen.clear()

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for name, tap, macs in self._places:
                selector.register(tap, selectors.EVENT_READ, (name, macs))
            while not self._ends.is_set():
                for key, _ in selector.select(0.1):
                    self._read(key.fileobj, *key.data)  # type: ignore[arg-type]

    def _read(self, tap: socket.socket, place: str, macs: Mapping[str, bytes]) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                frame, (nic, _, kind, _, _) = tap.recvfrom(65536)
                out = kind == socket.PACKET_OUTGOING
                # A macvlan child's frames also pass its parent: out with another MAC address, in
                # for another host.
                if (out and frame[6:12] == macs.get(nic)) or kind == socket.PACKET_HOST:
                    self._seen.append(_read_frame(place, nic, frame, out=out))


def _open_tap() -> socket.socket:
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(3))
    buffer = ctypes.create_string_buffer(SYN_ONLY)
    program = struct.pack("HL", len(SYN_ONLY) // 8, ctypes.addressof(buffer))
    tap.setsockopt(socket.SOL_SOCKET, 26, program)  # SO_ATTACH_FILTER
    return tap


def _macs() -> dict[str, bytes]:
    """Return the MAC address of each interface."""
    links = json.loads(_printed("ip", "-j", "link", "show"))
    return {
        link["ifname"]: bytes.fromhex(link["address"].replace(":", ""))
        for link in links
        if "address" in link
    }


def _printed(*command: str) -> str:
    """Return what a program prints in this thread's namespace."""
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout


def _read_frame(place: str, nic: str, frame: bytes, *, out: bool) -> Seen:
    """Take a frame that passed the filter apart."""
    source: IPAddress
    destination: IPAddress
    if frame[12:14] == b"\x08\x00":
        source, destination = IPv4Address(frame[26:30]), IPv4Address(frame[30:34])
        segment = frame[14 + (frame[14] & 0xF) * 4 :]
    else:
        source, destination = IPv6Address(frame[22:38]), IPv6Address(frame[38:54])
        segment = frame[54:]
    source_port, destination_port = struct.unpack_from("!HH", segment)
    return Seen(
        place,
        nic,
        out,
        bool(segment[13] & 0x10),
        source,
        source_port,
        destination,
        destination_port,
    )


# --- what the kernel remembers
# ----------------------------------------------------------------------------------------------


def connections(netns: str, *ends: IPAddress) -> list[str]:
    """Return the lines of conntrack that name all these addresses."""
    text = within(
        netns, lambda: _printed("conntrack", "-L") + _printed("conntrack", "-L", "-f", "ipv6")
    )
    wanted = [str(end) for end in ends]
    words = [
        (line, {word.partition("=")[2] for word in line.split()}) for line in text.splitlines()
    ]
    return [line for line, values in words if all(each in values for each in wanted)]


def host_end(lab: Lab, pod: Pod, nic: str) -> str:
    """Return the name that the other half of a pod's veth has on its node."""
    shown: list[dict[str, Any]] = json.loads(
        pod.inside.run("ip", "-j", "link", "show", "dev", nic).stdout
    )
    links = json.loads(lab.node(pod.node).exec(["ip", "-j", "link", "show"]).stdout)
    return next(link["ifname"] for link in links if link["ifindex"] == shown[0]["link_index"])


def node_address(lab: Lab, node: str, nic: str, family: int) -> IPAddress:
    """Return a node's own address on one of its NICs."""
    shown = json.loads(
        lab.node(node).exec(["ip", "-j", f"-{family}", "address", "show", "dev", nic]).stdout
    )
    return ip_address(
        next(info["local"] for info in shown[0]["addr_info"] if info["scope"] == "global")
    )
