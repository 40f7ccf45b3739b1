"""The one thread in which everything is written, and what it does with files."""

import errno
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.errors import OutboxWriteError
from gateway.outbox.framing import BLOCK_BYTES

T = TypeVar("T")

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Disk:
    """Does what it is given in order, in one thread. The first `OSError` is final.

    After a failed sync the kernel may call the next one a success although the data is gone; so nothing is tried again.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._failure: OSError | None = None

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Queue `work`; its future fails with `OutboxWriteError` once anything has failed."""
        return self._thread.submit(self._run, work)

    def check(self) -> None:
        """Raise `OutboxWriteError` if anything has failed."""
        if self._failure is not None:
            raise OutboxWriteError(
                f"the disk refused a write or a sync ({self._failure}); nothing more is written:"
                " check the disk, then start again"
            ) from self._failure

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._thread.shutdown()

    def _run(self, work: Callable[[], T]) -> T:
        self.check()
        try:
            return work()
        except OSError as error:
            self._failure = error
            self.check()
            raise


def write_all(fd: int, data: bytes, offset: int) -> None:
    """Write all of `data` at `offset`.

    Raises `OSError`.
    """
    if os.pwrite(fd, data, offset) != len(data):
        raise OSError(errno.EIO, "a write came back short")


def read_bytes(path: Path, offset: int, size: int) -> bytes:
    """Read what can be read of `size` bytes at `offset`; blocks that the medium refuses come back as zeros.

    Raises `OSError` other than EIO.
    """
    fd = os.open(path, os.O_RDONLY)
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


def settle(path: Path) -> None:
    """Make what a killed process wrote durable, and forget cached pages, so that the next read is of the disk.

    Raises `OSError`.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Make created, renamed and deleted names durable.

    Raises `OSError`.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def delete_file(path: Path) -> None:
    """Delete a file for good.

    Raises `OSError`.
    """
    path.unlink()
    sync_directory(path.parent)


def replace_file(path: Path, data: bytes, *, durable: bool) -> None:
    """Exchange a small file's content at one stroke. On a full disk the old content stays.

    Raises `OSError`.
    """
    fresh = path.with_suffix(".tmp")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(fd, data, 0)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        fresh.unlink(missing_ok=True)
        return
    fresh.rename(path)
    if durable:
        sync_directory(path.parent)
