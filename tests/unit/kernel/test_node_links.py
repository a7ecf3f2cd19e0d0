"""Messages to the kernel that make VLANs and bonds, byte by byte (include/uapi/linux/if_link.h)."""

from __future__ import annotations

import struct

import pytest

from spiderpool.datapath.ifacer import Bond, MakeVlan, read_options
from spiderpool.kernel import node_links
from spiderpool.kernel.node_links import bond_message, vlan_message
from spiderpool.kernel.rtnetlink import Message

IFINFOMSG = 16
IFLA_IFNAME, IFLA_LINK, IFLA_LINKINFO = 3, 5, 18
INFO_KIND, INFO_DATA = 1, 2
VLAN_ID = 1


def attributes(data: bytes) -> dict[int, bytes]:
    """Read attributes: length, number, value, each to a multiple of four bytes."""
    found, offset = {}, 0
    while offset < len(data):
        length, number = struct.unpack_from("=HH", data, offset)
        found[number & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def encoded(message: Message) -> dict[int, bytes]:
    """Return the attributes of a message as it is sent."""
    return attributes(message.body[IFINFOMSG:])


def test_vlan() -> None:
    """A VLAN interface is named, on its parent, of kind vlan, with its number in 16 bits."""
    found = encoded(vlan_message(MakeVlan("ens192.100", "ens192", 100), 7))
    info = attributes(found[IFLA_LINKINFO])

    assert (b"ens192.100\0", struct.pack("=I", 7)) == (found[IFLA_IFNAME], found[IFLA_LINK])
    assert b"vlan" == info[INFO_KIND].rstrip(b"\0")
    assert {VLAN_ID: struct.pack("=H", 100)} == attributes(info[INFO_DATA])


def test_bond(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A bond has its mode and options under the kernel's numbers.

    An interface among them is its index.
    """
    monkeypatch.setattr(node_links.socket, "if_nametoindex", {"ens192": 7}.__getitem__)
    text = "miimon=100;up_delay=200;lacp_rate=fast;primary=ens192;xmit_hash_policy=layer3+4;ad_actor_system=02:00:00:00:00:01"
    found = encoded(
        bond_message(Bond("bond0", 4, (*read_options(text), ("arp_ip_target", ("10.6.0.1",)))))
    )
    info = attributes(found[IFLA_LINKINFO])
    expected = {
        1: b"\4",  # mode
        3: struct.pack("=I", 100),  # miimon
        4: struct.pack("=I", 200),  # updelay
        # arp_ip_target: a list, whose numbers nobody reads
        8: struct.pack("=HH", 8, 1) + bytes([10, 6, 0, 1]),
        11: struct.pack("=I", 7),  # primary
        14: b"\1",  # xmit_hash_policy
        21: b"\1",  # ad_lacp_rate
        26: bytes([2, 0, 0, 0, 0, 1]),  # ad_actor_system
    }

    assert b"bond" == info[INFO_KIND].rstrip(b"\0")
    assert expected == attributes(info[INFO_DATA])
