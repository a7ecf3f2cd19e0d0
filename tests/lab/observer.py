"""
Watches an underlay from the router: whether ever two machines say that they have one address.

As a program: asks for each address every second by ARP, and prints a line of JSON for each round in
which an address had more than one answer, and for each answer of a new machine.
"""

from __future__ import annotations

import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Self

ARP: Final = 0x0806
REQUEST, REPLY = 1, 2
# RFC 826: hardware and protocol, their lengths, operation, and both ends
PACKET: Final = struct.Struct("!HHBBH6s4s6s4s")
ROUND_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Shared:
    """An address that two machines had in one round."""

    at_s: float
    ip: str
    macs: tuple[str, ...]


class Observer:
    """Observes from the start of the block to its end."""

    def __init__(self, netns: str, source: str, ips: Sequence[str], folder: Path) -> None:
        """
        Prepare.

        Args:
            netns: name of the network namespace of the router.
            source: the router's own address on the underlay.
            ips: what to ask for.
            folder: for what is seen.
        """
        self._netns, self._source, self._ips = netns, source, list(ips)
        self._seen = folder / "observed.jsonl"

    def __enter__(self) -> Self:
        """Begin."""
        self._file = self._seen.open("w")
        inside = ["ip", "netns", "exec", self._netns, sys.executable, "-IS", __file__]
        self._process = subprocess.Popen(
            [*inside, self._source, *self._ips], stdout=self._file, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        self._file.close()

    @property
    def _lines(self) -> Iterator[dict[str, object]]:
        for line in self._seen.read_text().splitlines():
            yield json.loads(line)

    @property
    def rounds(self) -> int:
        """How often everybody was asked, after the end."""
        return sum(int(str(line.get("rounds", 0))) for line in self._lines)

    @property
    def machines(self) -> set[str]:
        """All machines that answered."""
        return {str(line["new"]) for line in self._lines if "new" in line}

    @property
    def shared(self) -> list[Shared]:
        """Return what was seen twice."""
        return [
            Shared(float(str(line["at"])), str(line["ip"]), tuple(str(line["macs"]).split()))
            for line in self._lines
            if "macs" in line
        ]


def _link_of(source: str) -> tuple[str, bytes]:
    """Return the interface that has an address, and its hardware address."""
    shown = json.loads(subprocess.check_output(["ip", "-j", "address", "show"]))  # noqa: S607
    for link in shown:
        if any(info.get("local") == source for info in link["addr_info"]):
            return link["ifname"], bytes.fromhex(link["address"].replace(":", ""))
    raise SystemExit(f"no interface has {source}")


def _observe(source: str, ips: Sequence[str]) -> None:
    name, mac = _link_of(source)
    link = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    link.bind((name, ARP))
    known: set[bytes] = set()
    rounds = 0
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    while not ending:
        for ip in ips:
            ends = (mac, IPv4Address(source).packed, bytes(6), IPv4Address(ip).packed)
            link.sendto(
                PACKET.pack(1, 0x0800, 6, 4, REQUEST, *ends), (name, ARP, 0, 1, b"\xff" * 6)
            )
        for ip, macs in _answers(link, set(ips)).items():
            for new in macs - known:
                print(json.dumps({"new": new.hex(":"), "ip": ip}), flush=True)  # noqa: T201
            known |= macs
            if len(macs) > 1:
                text = " ".join(sorted(each.hex(":") for each in macs))
                print(json.dumps({"at": time.time(), "ip": ip, "macs": text}), flush=True)  # noqa: T201
        rounds += 1
    print(json.dumps({"rounds": rounds}), flush=True)  # noqa: T201


def _answers(link: socket.socket, asked: set[str]) -> dict[str, set[bytes]]:
    """Listen for the rest of the round."""
    found: dict[str, set[bytes]] = {}
    end = time.monotonic() + ROUND_S
    while (left := end - time.monotonic()) > 0:
        link.settimeout(left)
        try:
            packet = link.recv(64)
        except TimeoutError:
            break
        if len(packet) < PACKET.size:
            continue
        *_, operation, mac, sender, _, _ = PACKET.unpack_from(packet)
        ip = str(IPv4Address(sender))
        if operation == REPLY and ip in asked:
            found.setdefault(ip, set()).add(mac)
    return found


if __name__ == "__main__":
    _observe(sys.argv[1], sys.argv[2:])
