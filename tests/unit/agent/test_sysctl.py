"""Kernel settings."""

from __future__ import annotations

from pathlib import Path

from spiderpool.agent.sysctl import tune


def test_settings_are_made_and_absent_ones_left_out(tmp_path: Path) -> None:
    """Only keys that the kernel has are written, for the enabled families only."""
    keys = ("ipv4/conf/all/rp_filter", "ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding")
    for key in keys:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text("2\n")

    tune((4,), tmp_path)

    assert ("0", "1", "2\n") == tuple(
        (tmp_path / key).read_text()
        for key in ("ipv4/conf/all/rp_filter", "ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding")
    )
    assert not (tmp_path / "ipv4/neigh").exists()
