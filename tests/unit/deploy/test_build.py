"""How the image's layers are put together."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.image import build

ROOT = Path(__file__).parents[3]
LOCK = """\
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
colorama==0.4.6 \\
    --hash=sha256:cc
prometheus_client==0.26.0 ; python_version >= '3' \\
    --hash=sha256:dd
"""


def test_lock_is_cut_down() -> None:
    """Only the wanted packages stay, each with all its hashes, whatever way its name is written."""
    expected = """\
aiohttp==3.14.5 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
prometheus_client==0.26.0 ; python_version >= '3' \\
    --hash=sha256:dd
"""
    assert expected == build.locked_requirements(LOCK, frozenset({"aiohttp", "prometheus-client"}))


def test_all_of_the_products_packages_are_locked() -> None:
    """
    What the product imports at run time is in the lock file with hashes.

    Tools for tests and builds are not asked for.
    """
    packages = build.runtime_packages()
    assert {"aiohttp", "msgspec", "uvloop", "typer"} <= packages
    assert not {"pytest", "ruff", "kubernetes-asyncio", "spiderpool"} & packages
    lock = build.locked_requirements((ROOT / "requirements.lock").read_text(), packages)
    found = {
        build.normal(name) for name in re.findall(r"^([A-Za-z0-9_.-]+)==", lock, flags=re.MULTILINE)
    }
    assert packages == found


def test_command(tmp_path: Path) -> None:
    """An entry point's script runs the function and exits with what it gives."""
    (tmp_path / "product.py").write_text("def main():\n    return 7\n")
    build.write_command(tmp_path / "bin/tool", "product:main")
    assert (tmp_path / "bin/tool").stat().st_mode & 0o111
    done = subprocess.run(  # noqa: S603
        [sys.executable, tmp_path / "bin/tool"], env={"PYTHONPATH": str(tmp_path)}, check=False
    )
    assert 7 == done.returncode


def test_old_ones_are_forgotten(tmp_path: Path) -> None:
    """The youngest few stay in the cache."""
    for number in range(build.KEPT_ARCHIVES + 2):
        path = tmp_path / f"layer-{number}.tar"
        path.touch()
        os.utime(path, (number, number))
    build.forget_old(tmp_path.glob("*.tar"))
    assert ["layer-2.tar", "layer-3.tar", "layer-4.tar"] == sorted(
        path.name for path in tmp_path.iterdir()
    )


def test_key_follows_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another byte or another text is another key; the same input is the same key."""
    monkeypatch.setattr(build, "ROOT", Path("/"))
    source = tmp_path / "source.py"
    source.write_text("1")
    keys = [build.key_of([source]), build.key_of([source]), build.key_of([source], "more")]
    source.write_text("2")
    keys.append(build.key_of([source]))
    assert keys[0] == keys[1]
    assert 3 == len(set(keys))


def test_plugins() -> None:
    """The image has the CNI project's plugins that the chart's table of values names, and no others."""
    keys = yaml.safe_load((ROOT / "deploy/chart/keys.yaml").read_text())
    about = keys["plugins"]["installCNI"][2]
    promised = about.split(":")[1].split(".")[0].replace(" ", "").split(",")
    names = [package.rpartition("/")[2] for package in build.plugin_packages()]
    assert sorted(promised) == sorted(names)
    assert 14 == len(names)
