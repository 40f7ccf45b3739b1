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
_START = bytes(32)


class AuditLog:
    """Appends to the file; one at a time. `head` is the newest entry's SHA-256, `count` its number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = asyncio.Lock()
        self.head = _START
        self.count = 0
        self.fault: str | None = None
        """What was wrong with the file when it was opened; new entries follow what is there."""

    @classmethod
    def open(cls, path: Path) -> Self:
        """Continue the file at `path`; without one, begin it. Raises `AuditError` if it cannot be read.

        A last line without its end was never answered for: a power cut's. It is taken away.
        """
        log = cls(path)
        try:
            data = path.read_bytes() if path.exists() else b""
            whole = data.rfind(b"\n") + 1
            if whole < len(data):
                os.truncate(path, whole)
        except OSError as error:
            raise AuditError(f"{path}: cannot be read: {error.strerror}") from error
        lines = data[:whole].splitlines()
        log.count = len(lines)
        log.head = _hash(lines[-1]) if lines else _START
        try:
            for _ in verify(path):
                pass
        except AuditError as error:
            log.fault = str(error)
        return log

    async def append(
        self, *, at_ms: int | None, who: str, role: str, act: str, what: Mapping[str, object], outcome: str
    ) -> None:
        """Add an entry; `at_ms` is UTC, None while that is not known. Raises `AuditError`; then nothing was added."""
        async with self._lock:
            entry = {
                "no": self.count + 1,
                "at_ms": at_ms,
                "who": who,
                "role": role,
                "act": act,
                "what": what,
                "outcome": outcome,
                "before": self.head.hex(),
            }
            line = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
            try:
                await asyncio.to_thread(_append, self._path, line + b"\n")
            except OSError as error:
                raise AuditError(f"{self._path}: cannot be written: {error.strerror}") from error
            self.head = _hash(line)
            self.count += 1


def verify(path: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Every entry with its hash, oldest first; a file that is not there has none.

    Raises `AuditError` at the first that is not what it was: changed, missing, or out of place.
    """
    before = _START
    try:
        lines = path.read_bytes().splitlines() if path.exists() else []
    except OSError as error:
        raise AuditError(f"{path}: cannot be read: {error.strerror}") from error
    for no, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except ValueError:
            raise AuditError(f"{path}: line {no} is no entry") from None
        if not isinstance(entry, dict) or entry.get("no") != no or entry.get("before") != before.hex():
            raise AuditError(f"{path}: line {no} does not follow the one before: something was changed or taken away")
        before = _hash(line)
        yield entry, before


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
