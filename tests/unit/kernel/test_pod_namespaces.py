"""Whose a process is, by its control groups, in the forms that kubelet's drivers write."""

from __future__ import annotations

import pytest

from spiderpool.kernel.pod_namespaces import read_control_groups

UID = "2b3a55f4-6a5e-4d0e-9d4e-0c5c0b8e6a11"
ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"0::/kubepods/besteffort/pod{UID}/{ID}\n", (UID, ID)),
        (
            f"12:cpu,cpuacct:/node1/kubepods/pod{UID}/{ID}\n11:memory:/node1/kubepods/pod{UID}/{ID}\n",
            (UID, ID),
        ),
        (
            f"0::/kubepods.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice/cri-containerd-{ID}.scope\n",
            (UID, ID),
        ),
        (f"0::/../../pod{UID}/{ID}/init.scope\n", (UID, ID)),
        (f"0::/kubepods/pod{UID}\n", (UID, "")),
        (f"0::/kubepods/burstable/pod{'0a' * 16}/{ID}\n", ("0a" * 16, ID)),
        ("0::/system.slice/containerd.service\n", None),
        ("0::/user.slice/podman-1234\n", None),
    ],
)
def test_read_control_groups(text: str, expected: tuple[str, str] | None) -> None:
    """Drivers cgroupfs and systemd, version 1 and 2, seen from inside another group, and pods that kubelet reads from files."""
    assert expected == read_control_groups(text)
