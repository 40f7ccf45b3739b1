"""Numbered migrations in plain SQL, and the partitions that retention drops. For the role that owns the tables."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import resources

import psycopg

from gateway.errors import StoreError

_MIGRATIONS = resources.files("gateway.receiver.postgres") / "migrations"
_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('iomt.migrate'))"
_PREPARE = """
CREATE SCHEMA IF NOT EXISTS iomt;
CREATE TABLE IF NOT EXISTS iomt.migrations (
    version integer PRIMARY KEY, name text NOT NULL, applied timestamptz NOT NULL DEFAULT now());
"""
_PARTITIONS = """
SELECT relname, pg_get_expr(relpartbound, pg_class.oid) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
WHERE inhparent IN ('iomt.reading_rows'::regclass, 'iomt.archive'::regclass) ORDER BY relname
"""
_UNUSED_SOURCES = """
DELETE FROM sources WHERE NOT EXISTS (
    SELECT FROM reading_rows WHERE reading_rows.stream_id = sources.stream_id AND source_id = sources.id)
"""


def migrations() -> list[tuple[int, str, str]]:
    """(version, name, SQL) of every migration, ascending."""
    files = sorted(each.name for each in _MIGRATIONS.iterdir() if each.name.endswith(".sql"))
    return [(int(name[:4]), name, (_MIGRATIONS / name).read_text(encoding="utf-8")) for name in files]


def latest() -> int:
    """The version that this receiver works with."""
    return migrations()[-1][0]


def version(connection: psycopg.Connection) -> int:
    """The version of a database; 0 before the first migration. Raises `psycopg.Error`."""
    [(present,)] = connection.execute("SELECT to_regclass('iomt.migrations') IS NOT NULL").fetchall()
    if not present:
        return 0
    [(number,)] = connection.execute("SELECT coalesce(max(version), 0) FROM iomt.migrations").fetchall()
    return int(number)


def migrate(url: str) -> list[str]:
    """Apply what the database lacks, all or nothing; the names of what was applied.

    Raises `StoreError`, also for a database of a later version.
    """
    with _owned(url) as connection:
        connection.execute(_ONE_AT_A_TIME)
        connection.execute(_PREPARE)
        connection.execute("SET LOCAL search_path TO iomt")
        present = version(connection)
        if present > latest():
            raise StoreError(f"the database has schema {present}; this receiver knows {latest()}")
        applied = []
        for number, name, statements in migrations():
            if number > present:
                connection.execute(statements.encode())
                connection.execute("INSERT INTO migrations (version, name) VALUES (%s, %s)", (number, name))
                applied.append(name)
        return applied


def retain(url: str, *, days: int, now_ms: int) -> list[str]:
    """Drop every partition whose last moment is more than `days` ago, and the epochs and record marks of that time.

    Devices and sessions of which no reading is left go with them.

    Returns the names of what was dropped. Raises `StoreError`.
    """
    cutoff_ms = now_ms - int(timedelta(days=days).total_seconds() * 1000)
    with _owned(url) as connection:
        connection.execute("SET LOCAL search_path TO iomt")
        # Whoever inserts meanwhile waits no longer than this; then it is tried again another day.
        connection.execute("SET LOCAL lock_timeout TO '10s'")
        # What a worker has looked up of a gateway is there until it commits.
        connection.execute("LOCK TABLE gateways IN EXCLUSIVE MODE")
        old = [name for name, bounds in connection.execute(_PARTITIONS).fetchall() if _end_ms(bounds) <= cutoff_ms]
        for name in old:
            connection.execute(psycopg.sql.SQL("DROP TABLE {}").format(psycopg.sql.Identifier(name)))
        for table in ("device_records", "epoch_secrets", "epoch_parts", "event_rows", "gap_rows", "boot_times"):
            statement = psycopg.sql.SQL("DELETE FROM {} WHERE received_ms < %s")
            connection.execute(statement.format(psycopg.sql.Identifier(table)), (_month_start_ms(cutoff_ms),))
        if old:
            connection.execute(_UNUSED_SOURCES)
        return old


def _end_ms(bounds: str) -> int:
    """Where a partition ends; `bounds` as PostgreSQL prints them."""
    match = re.search(r"TO \('?(\d+)'?\)", bounds)
    if match is None:
        raise StoreError(f"a partition is bounded by {bounds}, which no receiver made")
    return int(match[1])


def _month_start_ms(at_ms: int) -> int:
    day = datetime.fromtimestamp(at_ms / 1000, UTC)
    return int(day.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000)


@contextmanager
def _owned(url: str) -> Iterator[psycopg.Connection]:
    """One transaction of the owner. Raises `StoreError` and has then changed nothing."""
    try:
        with psycopg.connect(url) as connection:
            yield connection
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL: {error}") from error
