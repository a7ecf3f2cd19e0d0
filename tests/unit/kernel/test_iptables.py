"""
Reading rules with programs that a test wrote.

What a missing chain is, and what a failure (exit codes: iptables(8)).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.errors import TryAgain
from spiderpool.kernel import iptables

RULES = ["-N KUBE-FORWARD", "-A KUBE-FORWARD -j ACCEPT"]
TOLD = "\n".join(f"echo '{rule}'" for rule in RULES)
FAILS = "echo 'Resource temporarily unavailable' >&2; exit 4"


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str, legacy: str = "") -> None:
    """Make `iptables-nft` a script of these lines, and `iptables-legacy` too if it is to be asked."""
    for name, lines in (("iptables-nft", body), ("iptables-legacy", legacy)):
        (folder / name).write_text(f"#!/bin/sh\n{lines}\n")
        (folder / name).chmod(0o755)
    (folder / "tables").write_text("filter\n" if legacy else "")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(iptables, "LEGACY_TABLES", {4: folder / "tables"})


async def test_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the chain."""
    install(tmp_path, monkeypatch, TOLD)

    assert RULES == await iptables.read_chain("KUBE-FORWARD", (4,))


async def test_no_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1: there is none."""
    install(
        tmp_path, monkeypatch, "echo 'iptables: No chain/target/match by that name.' >&2; exit 1"
    )

    assert [] == await iptables.read_chain("KUBE-FORWARD", (4,))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (FAILS, "iptables-nft ended with 4: Resource temporarily unavailable"),
        ("kill -9 $$", "iptables-nft ended with -9"),
    ],
)
async def test_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, words: str
) -> None:
    """Anything else tells nothing of the chain, and says so."""
    install(tmp_path, monkeypatch, body)

    with pytest.raises(TryAgain, match=words):
        await iptables.read_chain("KUBE-FORWARD", (4,))


async def test_program_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is stopped, as one that waits for a lock that nobody gives back."""
    install(tmp_path, monkeypatch, "exec sleep 30")
    monkeypatch.setattr(iptables, "WAIT_S", 0.2)

    with pytest.raises(TryAgain, match=r"iptables-nft did not end within 0\.2 s"):
        await iptables.read_chain("KUBE-FORWARD", (4,))


async def test_program_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no program."""
    install(tmp_path, monkeypatch, "")
    (tmp_path / "iptables-nft").write_text("#!/no/such/interpreter\n")

    with pytest.raises(TryAgain, match="iptables-nft does not start: No such file"):
        await iptables.read_chain("KUBE-FORWARD", (4,))


@pytest.mark.parametrize(("nft", "legacy"), [(FAILS, TOLD), (TOLD, FAILS)])
async def test_other_backend_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nft: str, legacy: str
) -> None:
    """A backend that fails, perhaps always since the kernel lacks it, does not hide what the other one has."""
    install(tmp_path, monkeypatch, nft, legacy)

    assert RULES == await iptables.read_chain("KUBE-FORWARD", (4,))
