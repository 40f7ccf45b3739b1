"""A small file system of its own: full when it is, gone when the run is."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.lab import small_disk
from gateway.lab.site import own_folder

KILLED = """
import os, pathlib
from gateway.lab import small_disk
with small_disk.mounted(pathlib.Path("image"), pathlib.Path("root/gateway-state"), 8 << 20):
    os._exit(0)
"""


def needs_mounts(directory: Path) -> None:
    if why := small_disk.impossible(directory):
        pytest.skip(why)


def test_it_holds_what_it_has_room_for_and_leaves_no_mount(tmp_path: Path) -> None:
    needs_mounts(tmp_path)
    at = tmp_path / "at"
    at.mkdir()
    with small_disk.mounted(tmp_path / "image", at, 8 << 20):
        assert at.is_mount()
        with pytest.raises(OSError, match="No space left") as refused:
            (at / "file").write_bytes(bytes(16 << 20))
        assert refused.value.errno == errno.ENOSPC
    assert not at.is_mount()


def test_a_mount_that_a_killed_run_left_behind_makes_way(tmp_path: Path) -> None:
    needs_mounts(tmp_path)
    at = tmp_path / "root" / "gateway-state"
    at.mkdir(parents=True)
    subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=True)
    assert at.is_mount()
    with own_folder(tmp_path / "root"):
        assert not at.exists()


def test_without_root_it_is_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert small_disk.impossible(tmp_path) == "only root can mount a small file system"
