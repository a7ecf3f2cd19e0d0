"""Reading folders that others write to."""

from __future__ import annotations

from pathlib import Path

import pytest

from spiderpool.kernel.directories import read_texts


def test_texts(tmp_path: Path) -> None:
    """
    Only files with the suffixes are read.

    Bytes that are no text do not stop it, and a dangling link is passed over.
    """
    (tmp_path / "a.conf").write_bytes(b"\xff{")
    (tmp_path / "b.yaml").write_text("no")
    (tmp_path / "c.conf").mkdir()
    (tmp_path / "d.conf").symlink_to("nowhere")

    assert {"a.conf": "\ufffd{"} == read_texts(tmp_path, (".conf",))


def test_no_folder(tmp_path: Path) -> None:
    """A folder that is not there is the caller's to explain."""
    with pytest.raises(FileNotFoundError):
        read_texts(tmp_path / "none", (".conf",))
