"""Kernel settings of the node that underlay networks need (reference ipam.md 7.2); on by `tuneSysctlConfig`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

ROOT: Final = Path("/proc/sys/net")
NEIGHBOURS: Final = "28160"
# By family; forwarding also for the node's own routes to its pods.
SETTINGS: Final = {
    4: {
        "ipv4/neigh/default/gc_thresh3": NEIGHBOURS,
        "ipv4/conf/all/arp_notify": "1",
        "ipv4/conf/all/forwarding": "1",
        "ipv4/conf/all/rp_filter": "0",
    },
    6: {"ipv6/neigh/default/gc_thresh3": NEIGHBOURS, "ipv6/conf/all/forwarding": "1"},
}

log = structlog.get_logger(__name__)


def tune(families: Iterable[int], root: Path = ROOT) -> None:
    """Set what is not set yet; keys that this kernel or namespace lacks are left out."""
    for family in families:
        for key, value in SETTINGS[family].items():
            _set(root / key, value)


def _set(file: Path, value: str) -> None:
    try:
        if file.read_text().strip() != value:
            file.write_text(value)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("kernel setting not changed", file=str(file), value=value, reason=error.strerror)
