"""Messages to the kernel that make VLANs and bonds, byte by byte (include/uapi/linux/if_link.h)."""

from __future__ import annotations

import socket
import struct

import pytest

from spiderpool.datapath.ifacer import OPTIONS as KNOWN
from spiderpool.datapath.ifacer import Bond, MakeVlan, read_options
from spiderpool.errors import InvalidRequest
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
    monkeypatch.setattr(socket, "if_nametoindex", {"ens192": 7}.__getitem__)
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


# Bytes of a little-endian machine, attribute by attribute: length, type (0x8000: it holds others),
# value, padding.
HEADER = "00" * IFINFOMSG
VLAN = (
    HEADER
    + "0f000300 656e733139322e313030 00 00"  # IFLA_IFNAME ens192.100
    + "08000500 07000000"  # IFLA_LINK 7
    + "1c001280"  # IFLA_LINKINFO
    + "09000100 766c616e00 000000"  # IFLA_INFO_KIND vlan
    + "0c000280"  # IFLA_INFO_DATA
    + "06000100 6400 0000"  # IFLA_VLAN_ID 100
)
BOND = (
    HEADER
    + "0a000300 626f6e643000 0000"  # IFLA_IFNAME bond0
    + "1c001280"  # IFLA_LINKINFO
    + "09000100 626f6e6400 000000"  # IFLA_INFO_KIND bond
    + "0c000280"  # IFLA_INFO_DATA
    + "05000100 04 000000"  # IFLA_BOND_MODE 4
)
LINKINFO_AT, INFO_DATA_AT = 28, 44  # where the lengths of these two are
# Numbers by enum of if_link.h, sizes by bond_policy of bond_netlink.c.
OPTIONS = {
    "active_slave=ens192": "08000200 07000000",
    "miimon=100": "08000300 64000000",
    "up_delay=200": "08000400 c8000000",
    "downdelay=300": "08000500 2c010000",
    "use_carrier=1": "05000600 01 000000",
    "arp_interval=500": "08000700 f4010000",
    'arp_ip_target=["10.6.0.1","10.6.0.2"]': "14000880 08000100 0a060001 08000200 0a060002",
    "arp_validate=all": "08000900 03000000",
    "arp_all_targets=all": "08000a00 01000000",
    "primary=ens192": "08000b00 07000000",
    "primary_reselect=failure": "05000c00 02 000000",
    "fail_over_mac=active": "05000d00 01 000000",
    "xmit_hash_policy=layer2+3": "05000e00 02 000000",
    "resend_igmp=3": "08000f00 03000000",
    "all_slaves_active=1": "05001100 01 000000",
    "min_links=2": "08001200 02000000",
    "lp_interval=7": "08001300 07000000",
    "packets_per_slave=9": "08001400 09000000",
    "lacp_rate=fast": "05001500 01 000000",
    "ad_select=count": "05001600 02 000000",
    "ad_actor_sys_prio=65535": "06001800 ffff 0000",
    "ad_user_port_key=1000": "06001900 e803 0000",
    "ad_actor_system=02:00:00:00:00:01": "0a001a00 020000000001 0000",
    "tlb_dynamic_lb=1": "05001b00 01 000000",
    "peer_notif_delay=300": "08001c00 2c010000",  # IFLA_BOND_PEER_NOTIF_DELAY, 28
}


def test_bytes_of_a_vlan() -> None:
    """The whole message, as the kernel's headers say; it is refused when the name is taken."""
    message = vlan_message(MakeVlan("ens192.100", "ens192", 100), 7)

    assert bytes.fromhex(VLAN) == message.body
    # RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL
    assert (16, 0x400 | 0x200) == (message.kind, message.flags)


def test_bytes_of_a_bond() -> None:
    """The whole message of a bond without options."""
    assert bytes.fromhex(BOND) == bond_message(Bond("bond0", 4)).body


@pytest.mark.parametrize("text", OPTIONS)
def test_bytes_of_an_option(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Each option of a bond is one attribute behind the mode."""
    monkeypatch.setattr(socket, "if_nametoindex", {"ens192": 7}.__getitem__)
    option, bond = bytes.fromhex(OPTIONS[text]), bytearray.fromhex(BOND)
    bond[LINKINFO_AT] += len(option)
    bond[INFO_DATA_AT] += len(option)

    assert bytes(bond) + option == bond_message(Bond("bond0", 4, read_options(text))).body


def test_every_option_has_its_bytes() -> None:
    """No option that may be configured is left out of the table above."""
    assert KNOWN == {text.partition("=")[0] for text in OPTIONS}


@pytest.mark.parametrize("text", ["use_carrier=256", "ad_user_port_key=65536", "miimon=4294967296"])
def test_number_that_has_no_room(text: str) -> None:
    """A number that the kernel's field cannot hold is refused with the largest that it can."""
    with pytest.raises(InvalidRequest, match=r"is \d+; the kernel takes numbers up to \d+"):
        bond_message(Bond("bond0", 4, read_options(text)))
