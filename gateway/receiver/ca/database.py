"""What a CA must remember: its generations, every certificate it issued, one-time codes; and its audit log.

One SQLite file in the CA's directory, shared by the server and the commands; times are UTC milliseconds since 1970.
"""

import contextlib
import datetime as dt
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from gateway.errors import StoreError

DATABASE = "ca.sqlite"
AUDIT_LOG = "audit.log"
_VERSION = 1
_BUSY_TIMEOUT_S = 10

_TABLES = """
PRAGMA user_version = 1;
CREATE TABLE generations (
    no INTEGER PRIMARY KEY,
    root BLOB NOT NULL,
    link BLOB,
    issuer BLOB NOT NULL,
    active_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generations,
    profile TEXT NOT NULL,
    name TEXT NOT NULL,
    key BLOB NOT NULL,
    not_after_ms INTEGER NOT NULL,
    issued_ms INTEGER NOT NULL,
    revoked_ms INTEGER,
    certificate BLOB NOT NULL
) STRICT;
CREATE INDEX certificates_by_name ON certificates (name, profile);
CREATE INDEX certificates_by_key ON certificates (key);
CREATE TABLE codes (
    gateway TEXT PRIMARY KEY,
    hash BLOB NOT NULL,
    expires_ms INTEGER NOT NULL,
    gateway_key BLOB,
    signing_key BLOB
) STRICT;
CREATE TABLE crl (number INTEGER NOT NULL) STRICT;
INSERT INTO crl VALUES (0);
"""


class Database:
    """The open file. Every method raises `StoreError` if it fails, and then has changed nothing."""

    def __init__(self, directory: Path, database: sqlite3.Connection) -> None:
        self._database = database
        self._audit_log = directory / AUDIT_LOG

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open, or make, the database in `directory`."""
        path = directory / DATABASE
        with _declared(path):
            database = sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
            path.chmod(0o600)
            database.execute("PRAGMA synchronous = FULL")
            (version,) = database.execute("PRAGMA user_version").fetchone()
            if version == 0:
                database.executescript(f"BEGIN; {_TABLES} COMMIT;")
            elif version != _VERSION:
                raise StoreError(f"{path}: is of version {version}; this program knows {_VERSION}")
        return cls(directory, database)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing; other processes wait."""
        with _declared(self._audit_log.parent):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    def audit(self, act: str, now: dt.datetime, **facts: str | float | None) -> None:
        """Append one line, durably; within a transaction, so that nothing is issued that is not told."""
        line = json.dumps({"time": now.isoformat(timespec="seconds"), "act": act, **facts}) + "\n"
        with _declared(self._audit_log):
            descriptor = os.open(self._audit_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())


@contextlib.contextmanager
def _declared(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{path}: {error}") from error
