"""The audit log: who did what, when, and what came of it. Lines of JSON, each with the hash of the one before.

Every entry is on the disk before `append` returns. An act has two: `begun` before it is done, so that nothing is done
that is not logged, then what came of it. Whoever rewrites the file changes its head, and the cloud has seen that.
"""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from gateway.durable import sync_directory
from gateway.errors import AuditError

FILE = "audit.jsonl"
FORGOTTEN = "forget-oldest"
"""The act of an entry which says that a file was deleted, and what its last entry was."""
FILE_BYTES = 1 << 20
FULL_FILES = 15
"""Together 16 MiB: some 25,000 acts."""
_DIGITS = 10
_START = bytes(32)


class AuditLog:
    """Appends to the file; one at a time. `head` is the newest entry's SHA-256, `count` its number.

    A file that is full stays beside it; of those the newest `keep` are kept, or all with None: the oldest is deleted
    once an entry that says so is on the disk.
    """

    def __init__(self, path: Path, keep: int | None = FULL_FILES) -> None:
        self._path = path
        self._keep = keep
        self._lock = asyncio.Lock()
        self.head = _START
        self.count = 0
        self.fault: str | None = None
        """What was wrong with the log when it was opened; new entries follow what is there."""

    @classmethod
    def open(cls, path: Path, keep: int | None = FULL_FILES) -> Self:
        """Continue the log at `path`; without one, begin it. Raises `AuditError` if it cannot be read.

        A last line without its end was never answered for: a power cut's. It is taken away.
        """
        log = cls(path, keep)
        try:
            data = path.read_bytes() if path.exists() else b""
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.truncate(path, whole)
        except OSError as error:
            raise AuditError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            for entry, head in verify(path):
                log.count, log.head = entry["no"], head
        except AuditError as error:
            log.fault = str(error)
            lines = [line for _, line in _lines(path)]
            log.count, log.head = max(log.count, len(lines)), _hash(lines[-1])
        return log

    async def append(
        self, *, at_ms: int | None, who: str, role: str, act: str, what: Mapping[str, object], outcome: str
    ) -> None:
        """Add an entry; `at_ms` is UTC, None while that is not known. Raises `AuditError`; then it was not added."""
        said = {"at_ms": at_ms, "who": who, "role": role, "act": act, "what": what, "outcome": outcome}
        async with self._lock:
            try:
                await asyncio.to_thread(self._append, said)
            except OSError as error:
                raise AuditError(f"{self._path}: cannot be written: {error.strerror}") from error

    def _append(self, said: Mapping[str, object]) -> None:
        if self._path.exists() and self._path.stat().st_size >= FILE_BYTES:
            self._path.rename(self._path.with_stem(f"{self._path.stem}-{self.count:0{_DIGITS}}"))
        full = _full(self._path)
        for file in full[: 0 if self._keep is None else max(len(full) - self._keep, 0)]:
            lines = [line for _, line in _lines_of(file)]
            gone = {"last": int(file.stem.rpartition("-")[2]), "hash": _hash(b"".join(lines[-1:])).hex()}
            own = {"at_ms": said["at_ms"], "who": "gateway", "role": "gateway", "act": FORGOTTEN, "what": gone}
            self._write(own | {"outcome": "done"})
            file.unlink()
        self._write(said)

    def _write(self, said: Mapping[str, object]) -> None:
        entry = {"no": self.count + 1, "before": self.head.hex(), **said}
        line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        _append(self._path, line + b"\n")
        self.head = _hash(line)
        self.count += 1


def verify(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Every entry with its hash, oldest first; a log that is not there has none.

    Raises `AuditError` at the first that is not what it was: changed, missing, or out of place; at the end, if the
    first entries are missing and no later one says that they were deleted for want of room.
    """
    no, before = 0, _START.hex()
    missing: tuple[int, str] | None = None
    for where, line in _lines(path):
        try:
            entry = json.loads(line)
        except ValueError:
            raise AuditError(f"{where} is no entry") from None
        match entry:
            case {"no": int(first), "before": str(hash_before)} if no == 0 and first > 1:
                no, before = missing = first - 1, hash_before
            case {"act": str(act), "what": {"last": last, "hash": hash_last}} if act == FORGOTTEN:
                missing = None if missing == (last, hash_last) else missing
        if not isinstance(entry, dict) or entry.get("no") != no + 1 or entry.get("before") != before:
            raise AuditError(f"{where} does not follow the one before: something was changed or taken away")
        no, digest = no + 1, _hash(line)
        before = digest.hex()
        yield entry, digest
    if missing:
        raise AuditError(f"{path}: its first {missing[0]} entries were taken away")


def _full(path: Path) -> list[Path]:
    """The files before the one at `path`, oldest first."""
    return sorted(path.parent.glob(f"{path.stem}-{'[0-9]' * _DIGITS}{path.suffix}"))


def _lines(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every line of the log, and where it stands. Raises `AuditError` if it cannot be read."""
    for file in (*_full(path), path):
        yield from _lines_of(file)


def _lines_of(file: Path) -> Iterator[tuple[str, bytes]]:
    try:
        lines = file.read_bytes().splitlines() if file.exists() else []
    except OSError as error:
        raise AuditError(f"{file}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        yield f"{file}: line {number}", line


def _hash(line: bytes) -> bytes:
    return hashlib.sha256(line).digest()


def _append(path: Path, line: bytes) -> None:
    """All of it on the disk, or none. Raises `OSError`."""
    fresh = not path.exists()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        try:
            while line:
                line = line[os.write(descriptor, line) :]
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)
    if fresh:
        sync_directory(path.parent)
