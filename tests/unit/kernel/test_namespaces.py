"""Entering namespaces; `tests/contract/kernel/test_namespaces.py` enters other ones."""

from __future__ import annotations

import os

import pytest

from spiderpool.errors import NotFound
from spiderpool.kernel import namespaces
from spiderpool.kernel.namespaces import Namespaces


async def test_one_s_own_namespaces_need_no_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is not asked to enter what the thread is in already, which only root may."""

    def refuse(fd: int, flag: int) -> int:
        raise AssertionError(f"setns({fd}, {flag:#x})")

    monkeypatch.setattr(namespaces._libc, "setns", refuse)
    with Namespaces.of_process(os.getpid(), "mnt", "net") as own:
        assert os.getpid() == await own.run(os.getpid)


def test_a_process_that_is_gone() -> None:
    """Its namespaces are not found; the error names the file."""
    with pytest.raises(NotFound, match="namespace /proc/0/ns/mnt: No such file or directory"):
        Namespaces.of_process(0, "mnt", "net")
