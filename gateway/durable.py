"""Small files that a power cut leaves whole: with the old content or the new, or not at all."""

import os
import shutil
from pathlib import Path


def write_durably(path: Path, data: bytes) -> None:
    """Replace `path`, which only its owner may read; it is on the disk before this returns. Raises `OSError`."""
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable. Raises `OSError`."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_once(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file that does not exist yet; one that does is kept. Raises `OSError`."""
    if not path.exists():
        write_durably(path, data)
        path.chmod(mode)


def write_readable(path: Path, data: bytes) -> None:
    """Replace `path`, which everybody may read, such as a configuration. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, data)
    path.chmod(0o644)
    give_to_owner(path)


def make_private_directory(path: Path) -> None:
    """Make a directory, and what is missing above it, for the owner of the one above alone. Raises `OSError`."""
    if not path.exists():
        make_private_directory(path.parent)
        path.mkdir(mode=0o700)
        give_to_owner(path)


def give_to_owner(path: Path) -> None:
    """Let root work for a service: what lies in a directory belongs to the directory's owner. Raises `OSError`."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        shutil.chown(path, owner.st_uid, owner.st_gid)


def shred(path: Path) -> None:
    """Overwrite a file once and delete it; on flash that erases nothing for sure. Raises `OSError`."""
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()
