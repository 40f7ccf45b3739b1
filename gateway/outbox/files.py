"""Everything that the outbox does with files, an operation a method; tests put in its place a disk that fails."""

import errno
import fcntl
import os
from pathlib import Path

from gateway.outbox.framing import BLOCK_BYTES

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Files:
    """The real files. Every method raises `OSError`."""

    def lock(self, path: Path) -> int:
        """Create `path`'s directory and lock it; closing the descriptor lets go. Raises `BlockingIOError` if held."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            raise
        return fd

    def make_directory(self, path: Path) -> None:
        """Create a directory that may exist, durably."""
        if not path.is_dir():
            path.mkdir(mode=0o700)
            self.sync_directory(path.parent)

    def names(self, directory: Path, suffix: str) -> list[Path]:
        """Return the files whose names end with `suffix`, sorted."""
        return sorted(directory.glob(f"*{suffix}"))

    def exists(self, path: Path) -> bool:
        """Whether there is something of this name."""
        return path.exists()

    def size(self, path: Path) -> int:
        """Bytes in a file."""
        return path.stat().st_size

    def free_bytes(self, directory: Path) -> int:
        """What an ordinary process may still write to this file system."""
        found = os.statvfs(directory)
        return found.f_bavail * found.f_frsize

    def create(self, path: Path) -> int:
        """Open a new, empty file that only its owner may read."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def open(self, path: Path) -> int:
        """Open a file to write to it."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        """Let go of a file."""
        os.close(fd)

    def allocate(self, fd: int, size: int) -> None:
        """Take `size` bytes of the disk; what was not written reads as zeros."""
        os.posix_fallocate(fd, 0, size)

    def write(self, fd: int, data: bytes, offset: int) -> None:
        """Write all of `data` at `offset`."""
        if os.pwrite(fd, data, offset) != len(data):
            raise OSError(errno.EIO, "a write came back short")

    def sync(self, fd: int) -> None:
        """Make a file durable whose size is durable already. After an error nobody knows what is on the disk."""
        os.fdatasync(fd)

    def sync_all(self, fd: int) -> None:
        """Make a file durable with its size."""
        os.fsync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Give back everything from `size` on."""
        os.ftruncate(fd, size)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file another name, at one stroke; durable after `sync_directory`."""
        old.rename(new)

    def delete(self, path: Path) -> None:
        """Delete a file; durable after `sync_directory`."""
        path.unlink()

    def sync_directory(self, path: Path) -> None:
        """Make created, renamed and deleted names durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def settle(self, path: Path) -> None:
        """Make what a killed process wrote durable, and forget cached pages, so that the next read is of the disk."""
        fd = self.open(path)
        try:
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Read what can be read of `size` bytes at `offset`; blocks that the medium refuses come back as zeros."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            starts = range(offset, offset + size, BLOCK_BYTES)
            return b"".join(_read_block(fd, at, min(BLOCK_BYTES, offset + size - at)) for at in starts)
        finally:
            os.close(fd)


def _read_block(fd: int, offset: int, size: int) -> bytes:
    try:
        return os.pread(fd, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return bytes(size)


def replace_file(files: Files, path: Path, data: bytes, *, durable: bool) -> None:
    """Exchange a small file's content at one stroke. On a full disk the old content stays.

    Raises `OSError`.
    """
    fresh = path.with_suffix(".tmp")
    try:
        fd = files.create(fresh)
        try:
            files.write(fd, data, 0)
            if durable:
                files.sync_all(fd)
        finally:
            files.close(fd)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        files.delete(fresh)
        return
    files.rename(fresh, path)
    if durable:
        files.sync_directory(path.parent)
