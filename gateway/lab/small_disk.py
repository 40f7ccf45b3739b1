"""A small file system of its own for a gateway's state: ext4 in a file on the same medium. Only root can mount one."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from gateway.errors import ConfigError

SIZE_BYTES = 48 << 20
_PROBE_BYTES = 1 << 20


def impossible(directory: Path) -> str:
    """Why none can be had below `directory`, found out by mounting one; empty: it can."""
    if os.geteuid() != 0:
        return "only root can mount a small file system"
    if shutil.which("mkfs.ext4", path=_PATH) is None:
        return "mkfs.ext4 is not installed; on Debian: apt install e2fsprogs"
    with TemporaryDirectory(dir=directory) as probe:
        at = Path(probe) / "mount"
        at.mkdir()
        try:
            with mounted(Path(probe) / "image", at, _PROBE_BYTES):
                return ""
        except ConfigError as error:
            return str(error)


@contextmanager
def mounted(image: Path, at: Path, size_bytes: int = SIZE_BYTES) -> Iterator[None]:
    """Make a file system in the new file `image` and mount it at the directory `at`. Raises `ConfigError`."""
    with image.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    _do("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
    _do("mount", "-o", "loop", str(image), str(at))
    try:
        yield
    finally:
        unmount(at)


def unmount(at: Path) -> None:
    """End a mount, as one that a killed run left behind. Raises `ConfigError`."""
    _do("umount", str(at))


_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH})
    if done.returncode != 0:
        raise ConfigError(f"{command[0]}: {done.stderr.strip()}")
