"""The store in one SQLite file: write-ahead log, every commit synced, bulk inserts from columns.

One writer. Its methods block; the worker calls them in a thread, one at a time.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, Self

from gateway.envelope.open import SignedBundle
from gateway.errors import StoreError
from gateway.model import Event, Gap, StoreId
from gateway.receiver import schema
from gateway.receiver.loading import load
from gateway.receiver.plan import ChainKey, Message, NewPart, Plan, Quarantined, ReadingColumns, SeriesKey, State
from gateway.receiver.store import INCARNATION, Committed, next_incarnation, read_incarnation
from gateway.receiver.summary import summary

DATABASE = "receiver.db"

QUARANTINE_BUNDLES = 1024
QUARANTINE_BYTES = 16 << 20
_QUARANTINED_PAYLOAD_BYTES = 65_536
_BUSY_S = 5.0

_READINGS = """
INSERT INTO reading_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (stream_id, device, metric, sequence, ifnull(session, ''), ifnull(mantissa, ''), exponent)
    WHERE sequence IS NOT NULL DO NOTHING
"""
_READY = """
SELECT id, gateway, payload FROM parked WHERE id > ? AND NOT EXISTS (
    SELECT 1 FROM parked_needs WHERE parked_id = parked.id AND epoch NOT IN (
        SELECT epoch FROM epoch_secrets JOIN chains ON chains.id = chain_id
        WHERE chains.gateway = parked.gateway AND chains.chain = parked.chain))
ORDER BY id LIMIT ?
"""
_QUARANTINE = """
INSERT INTO quarantine (hash, gateway, cause, times, first_ms, last_ms, size_bytes, payload)
VALUES (?, ?, ?, 1, ?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET times = times + 1, last_ms = excluded.last_ms
"""
_FORGET_OLDEST = """
DELETE FROM quarantine WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(size_bytes) OVER newest AS total
        FROM quarantine WINDOW newest AS (ORDER BY id DESC))
    WHERE place > ? OR total > ?)
"""
_NEWEST = """
SELECT gateway, max(received_ms) FROM chains
JOIN bundle_runs ON bundle_runs.chain_id = chains.id
JOIN bundles ON bundles.chain_id = chains.id AND bundles.no = bundle_runs.last
GROUP BY gateway
"""


class SqliteStore:
    """A `Store` in the file `receiver.db` of a directory, beside the file `incarnation`.

    Everything raises `StoreError` with what SQLite said, and then nothing has changed.
    """

    def __init__(self, database: sqlite3.Connection, store: StoreId) -> None:
        self._database = database
        self._id = store

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
            return load(self._database, bundles)

    def commit(self, plan: Plan, *, now_ms: int) -> Committed:
        """Write all of `plan` durably, or nothing."""
        with self._transaction() as database:
            return _Writer(database, now_ms).write(plan)

    def ready(self, *, after: int, limit: int) -> list[tuple[int, Message]]:
        """Parked bundles, numbered beyond `after`, whose epochs have all arrived; ascending."""
        with _declared("cannot load"):
            rows = self._database.execute(_READY, (after, limit)).fetchall()
        return [(number, Message(gateway, payload)) for number, gateway, payload in rows]

    def last_received_ms(self) -> dict[str, int]:
        """When the newest bundle of each gateway arrived."""
        with _declared("cannot load"):
            return dict(self._database.execute(_NEWEST))

    def summary(self) -> dict[str, Any]:
        """For people: per gateway and stream what is here and what is missing."""
        with _declared("cannot load"):
            return summary(self._database)

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
        return summary(database)


def _prepared(database: sqlite3.Connection, path: Path) -> bytes:
    """The store id of a database of this version; creates the tables in an empty one."""
    with _declared(f"{path}: cannot be used"):
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            database.execute(f"PRAGMA {pragma}")
        if not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            database.executescript(f"BEGIN IMMEDIATE; {schema.TABLES} COMMIT")
        version, store = database.execute("SELECT schema, store FROM store").fetchone()
    if version != schema.VERSION:
        raise StoreError(f"{path}: has schema {version}; this receiver knows {schema.VERSION}")
    identity: bytes = store
    return identity


class _Writer:
    """Writes one plan inside an open transaction."""

    def __init__(self, database: sqlite3.Connection, now_ms: int) -> None:
        self._database = database
        self._now_ms = now_ms
        self._chain_ids: dict[ChainKey, int] = {}
        self._stream_ids: dict[tuple[str, bytes], int] = {}

    def write(self, plan: Plan) -> Committed:
        self._chains(plan)
        self._bundles(plan)
        self._runs(plan)
        repeated = self._readings(plan.parts)
        self._events(plan.parts)
        self._gaps(plan.parts)
        self._parked(plan)
        self._quarantined(plan.quarantined)
        rows = [(*fork.bundle, fork.cause, self._now_ms) for fork in plan.forks]
        forks = self._many(
            "INSERT INTO forks (gateway, chain, no, hash, cause, received_ms) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            rows,
        )
        advance = "UPDATE store SET receipt_counter = receipt_counter + ? RETURNING receipt_counter"
        counter = self._one(advance, len(plan.answers)) - len(plan.answers) + 1
        return Committed(counter, repeated, forks, self._one("SELECT count(*) FROM parked"))

    def _one(self, statement: str, *values: object) -> int:
        # Fetched whole: a statement that is not run to its end would hold the transaction open.
        [(value,)] = self._database.execute(statement, values).fetchall()
        number: int = value
        return number

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        return self._database.executemany(statement, rows).rowcount

    def _chain_id(self, key: ChainKey) -> int:
        if key not in self._chain_ids:
            select = "SELECT id FROM chains WHERE gateway = ? AND chain = ?"
            self._chain_ids[key] = self._one(select, *key)
        return self._chain_ids[key]

    def _stream_id(self, gateway: str, stream: bytes) -> int:
        key = (gateway, stream)
        if key not in self._stream_ids:
            select = "SELECT id FROM streams WHERE gateway = ? AND stream = ?"
            row = self._database.execute(select, key).fetchone()
            if row is None:
                insert = "INSERT INTO streams (gateway, stream) VALUES (?, ?) RETURNING id"
                self._stream_ids[key] = self._one(insert, *key)
            else:
                self._stream_ids[key] = row[0]
        return self._stream_ids[key]

    def _chains(self, plan: Plan) -> None:
        signers = {ChainKey(each.gateway, each.opened.chain): each.signer_kid for each in plan.epochs}
        signers |= {ChainKey(each.gateway, each.chain): each.signer_kid for each in plan.bundles}
        insert = "INSERT INTO chains (gateway, chain, signer) VALUES (?, ?, ?) ON CONFLICT (gateway, chain) DO NOTHING"
        self._many(insert, ((*key, signer) for key, signer in signers.items()))
        openings = [each for each in plan.bundles if each.no == 0]
        self._many(
            "UPDATE chains SET root = ?, predecessor = ?, predecessor_no = ?, predecessor_hash = ?"
            " WHERE gateway = ? AND chain = ?",
            (
                (each.predecessor is None, *(each.predecessor or (None, None)), each.prev, each.gateway, each.chain)
                for each in openings
            ),
        )

    def _bundles(self, plan: Plan) -> None:
        self._many(
            "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?)",
            (
                (self._chain_id(ChainKey(b.gateway, b.chain)), b.no, b.hash, b.prev, self._now_ms, b.sign1)
                for b in plan.bundles
            ),
        )
        for each in plan.epochs:
            opened = each.opened
            place = (
                self._chain_id(ChainKey(each.gateway, opened.chain)),
                opened.epoch,
                self._stream_id(each.gateway, opened.stream),
            )
            self._many("INSERT INTO epoch_parts VALUES (?, ?, ?, ?)", [(*place, each.part.data)])
            self._many("INSERT INTO epoch_secrets VALUES (?, ?, ?, ?, ?)", [(*place, opened.secret, opened.salt)])

    def _runs(self, plan: Plan) -> None:
        chains, series = plan.runs.items(), plan.series.items()
        self._many(
            "DELETE FROM bundle_runs WHERE chain_id = ? AND first = ?",
            ((self._chain_id(key), run.first) for key, coverage in chains for run in coverage.removed),
        )
        self._many(
            "INSERT INTO bundle_runs VALUES (?, ?, ?, ?)",
            ((self._chain_id(key), *run) for key, coverage in chains for run in coverage.added),
        )
        self._many(
            "DELETE FROM record_runs WHERE stream_id = ? AND chain_id = ? AND first = ?",
            ((*self._series_ids(key), run.first) for key, coverage in series for run in coverage.removed),
        )
        self._many(
            "INSERT INTO record_runs VALUES (?, ?, ?, ?)",
            ((*self._series_ids(key), run.first, run.last) for key, coverage in series for run in coverage.added),
        )

    def _series_ids(self, key: SeriesKey) -> tuple[int, int]:
        return self._stream_id(key.gateway, key.stream), self._chain_id(ChainKey(key.gateway, key.chain))

    def _readings(self, parts: Iterable[NewPart]) -> int:
        """Insert readings; how many were repeated."""
        expected = 0
        rows = []
        for part in parts:
            if isinstance(part.content, ReadingColumns):
                expected += part.count
                rows.append(self._reading_rows(part, part.content))
        return expected - self._many(_READINGS, chain.from_iterable(rows))

    def _reading_rows(self, part: NewPart, columns: ReadingColumns) -> Iterator[tuple[object, ...]]:
        stream_id, chain_id = self._series_ids(part.series)
        return zip(
            repeat(stream_id, part.count),
            repeat(chain_id, part.count),
            count(part.first),
            columns.device,
            columns.metric,
            columns.mantissa,
            columns.exponent,
            columns.time_ms,
            columns.quality,
            columns.sequence,
            columns.session,
            columns.backfilled,
            columns.extras,
            repeat(self._now_ms),
            strict=False,  # it counts and repeats without end
        )

    def _events(self, parts: Iterable[NewPart]) -> None:
        self._many(
            "INSERT INTO event_rows VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (*self._series_ids(part.series), number, event.time_ms, event.code, _details(event), self._now_ms)
                for part in parts
                if isinstance(part.content, tuple)
                for number, event in enumerate(part.content, part.first)
            ),
        )

    def _gaps(self, parts: Iterable[NewPart]) -> None:
        self._many(
            "INSERT INTO gap_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (*self._series_ids(part.series), part.first, gap.count, gap.cause, gap.from_ms, gap.to_ms, self._now_ms)
                for part in parts
                if isinstance(gap := part.content, Gap)
            ),
        )

    def _parked(self, plan: Plan) -> None:
        self._many("DELETE FROM parked WHERE gateway = ? AND chain = ? AND no = ? AND hash = ?", plan.unparked)
        for arrival in plan.parked:
            bundle = arrival.bundle
            number = self._one(
                "INSERT INTO parked (gateway, chain, no, hash, received_ms, payload) VALUES (?, ?, ?, ?, ?, ?)"
                " RETURNING id",
                *(bundle.gateway, bundle.chain, bundle.no, bundle.hash, self._now_ms, arrival.message.payload),
            )
            needs = {part.epoch for part in bundle.parts}
            self._many("INSERT INTO parked_needs VALUES (?, ?)", ((number, epoch) for epoch in needs))

    def _quarantined(self, quarantined: Sequence[Quarantined]) -> None:
        if not quarantined:
            return
        rows = []
        for each in quarantined:
            payload = each.message.payload[:_QUARANTINED_PAYLOAD_BYTES]
            rows.append(
                (each.hash, each.message.gateway, each.cause, self._now_ms, self._now_ms, len(payload), payload)
            )
        self._many(_QUARANTINE, rows)
        self._many(_FORGET_OLDEST, [(QUARANTINE_BUNDLES, QUARANTINE_BYTES)])


def _details(event: Event) -> str:
    """An event's details as a JSON array, byte strings in hex."""
    return json.dumps(event.details, ensure_ascii=False, separators=(",", ":"), default=bytes.hex)
