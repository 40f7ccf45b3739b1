"""A disk that fails on demand and forgets in a crash what was not synced, as real ones do."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from gateway.outbox.files import Files

PAGE_BYTES = 4096
FAILING = (
    "create", "open", "allocate", "write", "sync", "sync_all", "truncate", "rename", "delete", "sync_directory",
)  # fmt: skip


@dataclass
class Content:
    """A file's bytes as processes see them, and those that a crash leaves."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)

    def flush(self, pages: set[int]) -> None:
        """Make these pages durable."""
        for page in pages:
            start, end = page * PAGE_BYTES, (page + 1) * PAGE_BYTES
            if len(self.durable) < len(self.seen[:end]):
                self.durable.extend(bytes(len(self.seen[:end]) - len(self.durable)))
            self.durable[start:end] = self.seen[start:end]


class SimulatedDisk(Files):
    """Files in memory. Names are journalled: a crash keeps those operations on them that came first."""

    def __init__(self) -> None:
        self.random = Random(0)
        self.free = 1 << 40
        self.failures: dict[str, tuple[int, int]] = {}
        """By operation: after how many more calls it fails, and how; with 0 the power fails."""
        self.dead = False
        self._names: dict[Path, Content] = {}
        self._durable_names: dict[Path, Content] = {}
        self._journal: list[Callable[[dict[Path, Content]], object]] = []
        self._open: dict[int, Content] = {}
        self._next_fd = 1000
        self._locked: set[int] = set()

    def crash(self) -> None:
        """Lose any subset of the pages that were not synced, and the newest changes of names."""
        for change in self._journal[: self.random.randint(0, len(self._journal))]:
            change(self._durable_names)
        for content in self._durable_names.values():
            content.flush({page for page in content.dirty if self.random.random() < 0.5})
            content.seen = bytearray(content.durable)
            content.dirty.clear()
        self._names = dict(self._durable_names)
        self._journal, self._open, self._locked, self.failures, self.dead = [], {}, set(), {}, False

    def _fail(self, operation: str) -> bool:
        """Whether this call fails; if so, raise, unless the caller does so itself after half of its work."""
        if self.dead:
            raise OSError(errno.EIO, "the power failed")
        calls, code = self.failures.get(operation, (-1, 0))
        if calls > 0:
            self.failures[operation] = calls - 1, code
        elif calls == 0:
            del self.failures[operation]
            self.dead = code == 0
            if operation not in {"write", "sync", "sync_all"}:
                raise OSError(code, os.strerror(code))
            return True
        return False

    def _change(self, change: Callable[[dict[Path, Content]], object]) -> None:
        change(self._names)
        self._journal.append(change)

    def _descriptor(self, content: Content) -> int:
        self._next_fd += 1
        self._open[self._next_fd] = content
        return self._next_fd

    def lock(self, path: Path) -> int:
        if self._locked:
            raise BlockingIOError(errno.EWOULDBLOCK, "held", str(path))
        fd = self._descriptor(Content())
        self._locked.add(fd)
        return fd

    def make_directory(self, path: Path) -> None:
        """Directories are always there."""

    def names(self, directory: Path, suffix: str) -> list[Path]:
        return sorted(path for path in self._names if path.parent == directory and path.name.endswith(suffix))

    def exists(self, path: Path) -> bool:
        return path in self._names

    def size(self, path: Path) -> int:
        return len(self._content(path).seen)

    def _content(self, path: Path) -> Content:
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._names[path]

    def free_bytes(self, directory: Path) -> int:  # noqa: ARG002 - there is one file system
        return self.free - sum(len(content.seen) for content in self._names.values())

    def create(self, path: Path) -> int:
        self._fail("create")
        content = Content()
        self._change(lambda names: names.__setitem__(path, content))
        return self._descriptor(content)

    def open(self, path: Path) -> int:
        self._fail("open")
        return self._descriptor(self._content(path))

    def close(self, fd: int) -> None:
        if fd not in self._open:
            raise OSError(errno.EBADF, "bad descriptor")
        del self._open[fd]
        self._locked.discard(fd)

    def allocate(self, fd: int, size: int) -> None:
        self._fail("allocate")
        if self.free_bytes(Path()) < size:
            raise OSError(errno.ENOSPC, "no space")
        content = self._open[fd]
        content.dirty.update(range(len(content.seen) // PAGE_BYTES, -(-size // PAGE_BYTES)))
        content.seen.extend(bytes(size - len(content.seen)))

    def write(self, fd: int, data: bytes, offset: int) -> None:
        failed = self._fail("write")
        content = self._open[fd]
        if failed:
            data = data[: self.random.randint(0, len(data))]
        content.seen.extend(bytes(max(0, offset - len(content.seen))))
        content.seen[offset : offset + len(data)] = data
        content.dirty.update(range(offset // PAGE_BYTES, -(-(offset + len(data)) // PAGE_BYTES)))
        if failed:
            raise OSError(errno.EIO, "a write came back short")

    def sync(self, fd: int) -> None:
        self._sync("sync", self._open[fd])

    def sync_all(self, fd: int) -> None:
        self._sync("sync_all", self._open[fd])

    def _sync(self, operation: str, content: Content) -> None:
        """As Linux: pages that could not be written count as clean afterwards, and no later sync writes them."""
        if self._fail(operation):
            if self.dead:
                raise OSError(errno.EIO, "the power failed")
            content.flush({page for page in content.dirty if self.random.random() < 0.5})
            content.dirty.clear()
            raise OSError(errno.EIO, "the sync failed")
        content.flush(content.dirty)
        content.dirty.clear()
        del content.durable[len(content.seen) :]

    def truncate(self, fd: int, size: int) -> None:
        self._fail("truncate")
        content = self._open[fd]
        del content.seen[size:]
        content.dirty = {page for page in content.dirty if page * PAGE_BYTES < size}

    def rename(self, old: Path, new: Path) -> None:
        self._fail("rename")
        self._content(old)
        self._change(lambda names: names.__setitem__(new, names.pop(old)))

    def delete(self, path: Path) -> None:
        self._fail("delete")
        self._content(path)
        self._change(lambda names: names.pop(path))

    def sync_directory(self, path: Path) -> None:  # noqa: ARG002 - one journal serves all
        self._fail("sync_directory")
        for change in self._journal:
            change(self._durable_names)
        self._journal.clear()

    def settle(self, path: Path) -> None:
        content = self._content(path)
        content.flush(content.dirty)
        content.dirty.clear()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        return bytes(self._content(path).seen[offset : offset + size])

    def damage(self, path: Path, offset: int) -> None:
        """Let the medium change a byte."""
        content = self._content(path)
        for data in (content.seen, content.durable):
            if offset < len(data):
                data[offset] ^= 0xFF
