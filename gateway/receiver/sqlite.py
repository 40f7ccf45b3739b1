"""The store in one SQLite file: write-ahead log, every commit synced, bulk inserts from columns.

Its methods block; the worker calls them in a thread, one at a time. Several receivers may share one file: a commit that
rests on what another one has changed meanwhile is refused.
"""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

from gateway.envelope.open import SignedBundle
from gateway.errors import StoreChangedError, StoreError
from gateway.model import StoreId
from gateway.receiver import queries, schema
from gateway.receiver.archive import Archive
from gateway.receiver.loading import load
from gateway.receiver.plan import Message, Plan, State
from gateway.receiver.queries import NEWEST, READY
from gateway.receiver.store import INCARNATION, Committed, StoredStream, next_incarnation, read_incarnation
from gateway.receiver.summary import summary
from gateway.receiver.writing import Writer

_log = logging.getLogger(__name__)

DATABASE = "receiver.db"

_BUSY_S = 5.0


class SqliteStore:
    """A `Store` in the file `receiver.db` of a directory, beside the file `incarnation`.

    Everything raises `StoreError` with what SQLite said, and then nothing has changed.
    """

    def __init__(self, database: sqlite3.Connection, store: StoreId) -> None:
        self._database = database
        self._id = store
        self._loaded_version = self._version()

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open or create the store in `directory`, which is made if need be."""
        path = directory / DATABASE
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists() and not (directory / INCARNATION).exists():
                next_incarnation(directory)
            incarnation = read_incarnation(directory)
            # SQLite gives its other files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{path}: cannot be opened: {error}") from error
        try:
            return cls(database, StoreId(_prepared(database, path), incarnation))
        except StoreError:
            database.close()
            raise

    @property
    def id(self) -> StoreId:
        """Random at creation, with the incarnation in force."""
        return self._id

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def load(self, bundles: Sequence[SignedBundle]) -> State:
        """What is known of all that these bundles touch."""
        with _declared("cannot load"):
            self._loaded_version = self._version()
            return load(self._database, bundles)

    def commit(self, plan: Plan, *, now_ms: int) -> Committed:
        """Write all of `plan` durably, or nothing; `StoreChangedError` if another receiver wrote since `load`."""
        with self._transaction() as database:
            if self._version() != self._loaded_version:
                raise StoreChangedError("another receiver wrote to this store meanwhile")
            return Writer(database, now_ms).write(plan)

    def ready(self, *, after: int, limit: int) -> list[tuple[int, Message]]:
        """Parked bundles, numbered beyond `after`, whose epochs have all arrived; ascending."""
        with _declared("cannot load"):
            rows = self._database.execute(READY, (after, limit)).fetchall()
        return [(number, Message(gateway, payload)) for number, gateway, payload in rows]

    def last_received_ms(self) -> dict[str, int]:
        """When the newest bundle of each gateway arrived."""
        with _declared("cannot load"):
            return dict(self._database.execute(NEWEST))

    def summary(self) -> dict[str, Any]:
        """For people: per gateway and stream what is here and what is missing."""
        with _declared("cannot load"):
            return summary(self._database.execute)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """What one of `queries` finds."""
        with _declared("cannot load"):
            return self._database.execute(query, values).fetchall()

    def change(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        """Run some of `queries` with their values, all of them durably or none."""
        with self._transaction() as database:
            for statement, values in statements:
                database.execute(statement, values)

    def erase(self, stream: StoredStream, certify: Callable[[dict[str, int]], str], *, now_ms: int) -> str:
        """Destroy all of a stream and close it; its bytes are overwritten, in the log too."""
        with self._transaction() as database:
            database.execute("PRAGMA secure_delete = ON")
            gone = {what: database.execute(each, (stream.number,)).rowcount for what, each in queries.ERASE}
            for what, each in queries.ERASE_WAITING:
                gone[what] = database.execute(each, (stream.gateway,)).rowcount
            database.execute(queries.CLOSE, (now_ms, stream.number))
            document = certify(gone)
            database.execute(queries.CERTIFY, (stream.stream, document))
        with _declared("cannot empty the log"):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        return document

    def _version(self) -> int:
        """Changes when another connection has committed (https://sqlite.org/pragma.html#pragma_data_version)."""
        [(version,)] = self._database.execute("PRAGMA data_version").fetchall()
        return int(version)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._database
        with _declared("cannot commit"):
            try:
                database.execute("BEGIN IMMEDIATE")
                yield database
                database.execute("COMMIT")
            finally:
                if database.in_transaction:
                    database.execute("ROLLBACK")


@contextmanager
def _declared(what: str) -> Iterator[None]:
    """Turn what SQLite raises into `StoreError`."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{what}: {error}") from error


def read_summary(directory: Path) -> dict[str, Any]:
    """`Store.summary` of the store in `directory`, also while a receiver works there. Raises `StoreError`."""
    path = directory / DATABASE
    address = f"{path.absolute().as_uri()}?mode=ro"
    with _declared(f"{path}: cannot be read"), closing(sqlite3.connect(address, uri=True)) as database:
        database.execute("BEGIN")  # one snapshot for all its queries
        return summary(database.execute)


@contextmanager
def reading(directory: Path) -> Iterator[Archive]:
    """One snapshot of the store in `directory`, also while a receiver works there. Raises `StoreError`."""
    path = directory / DATABASE
    address = f"{path.absolute().as_uri()}?mode=ro"
    with (
        _declared(f"{path}: cannot be read"),
        closing(sqlite3.connect(address, uri=True, isolation_level=None)) as database,
    ):
        database.execute("BEGIN")
        yield Archive(database.execute)


def _prepared(database: sqlite3.Connection, path: Path) -> bytes:
    """The store id of a database of this version; creates the tables in an empty one, brings an older one to it."""
    with _declared(f"{path}: cannot be used"):
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            database.execute(f"PRAGMA {pragma}")
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            _script(database, schema.TABLES)
        version, store = database.execute("SELECT schema, store FROM store").fetchone()
        if version == 1:
            _log.warning("%s: is brought from schema 1 to %d, which may take a while", path, schema.VERSION)
            _script(database, schema.FROM_1)
            version = schema.VERSION
    if version != schema.VERSION:
        raise StoreError(f"{path}: has schema {version}; this receiver knows {schema.VERSION}")
    identity: bytes = store
    return identity


def _script(database: sqlite3.Connection, statements: str) -> None:
    """Run all of them or none."""
    try:
        database.executescript(f"BEGIN IMMEDIATE; {statements} COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")
