"""
Which addresses a NIC's master has, as far as files tell.

Real links are in the contract tests.
"""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from spiderpool.errors import NotFound
from spiderpool.kernel import rtnetlink_objects as wire
from spiderpool.kernel.master_interface import read_master_addresses
from spiderpool.kernel.rtnetlink import number, text

VF = "0000:03:02.1"


def physical_function(devices: Path, *names: str) -> Path:
    """Lay out a virtual function as sysfs does."""
    for name in names:
        (devices / VF / "physfn" / "net" / name).mkdir(parents=True)
    return devices


@pytest.mark.parametrize("names", [("lo",), ("lo", "no-such-link")])
def test_a_virtual_function_by_its_device(tmp_path: Path, names: tuple[str, ...]) -> None:
    """
    The addresses are those of its physical function in this namespace.

    A representor beside it has none.
    """
    found = read_master_addresses("/nowhere", "net1", VF, physical_function(tmp_path, *names))

    assert found is not None
    assert ip_address("127.0.0.1") in found


@pytest.mark.parametrize(
    ("data", "outside", "device"),
    [
        (wire.ask_link(7) + number(37, 0) + number(5, 3), True, ""),
        (wire.ask_link(7) + number(5, 3), False, ""),
        (wire.ask_link(7) + text(56, "0000:03:02.1") + text(57, "pci"), False, "0000:03:02.1"),
    ],
)
def test_what_a_link_stands_on(data: bytes, outside: bool, device: str) -> None:
    """
    The number of the namespace below (IFLA_LINK_NETNSID), and the device (IFLA_PARENT_DEV_NAME).

    Linux/if_link.h.
    """
    assert (outside, device) == (wire.is_parent_outside(data), wire.read_parent_device(data))


@pytest.mark.parametrize("device", ["", "0000:03:02.2", "../0000:03:02.1", "mlx5_core.sf.4"])
def test_other_devices_are_asked_by_their_link(tmp_path: Path, device: str) -> None:
    """
    A device without a physical function, or with an ID of another form, tells nothing.

    The pod's namespace is asked.
    """
    with pytest.raises(NotFound, match="/nowhere"):
        read_master_addresses("/nowhere", "net1", device, physical_function(tmp_path, "lo"))
