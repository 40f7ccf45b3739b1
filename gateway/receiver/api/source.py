"""Where the read API reads: one snapshot a question, through a connection that can do nothing else."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import StoreError
from gateway.receiver import schema
from gateway.receiver.api.reads import Rows
from gateway.receiver.config import ReceiverConfig
from gateway.receiver.sqlite import DATABASE

_LONGEST_S = 10.0
"""What takes longer is given up."""
_STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock."""


@contextmanager
def snapshot(config: ReceiverConfig) -> Iterator[Rows]:
    """Read the store that `config` names. Raises `StoreError`, also for a store of another version."""
    with _sqlite(config.receiver.state_dir) if config.store.url == "sqlite" else _postgres(config.store.url) as rows:
        yield rows


@contextmanager
def _sqlite(directory: Path) -> Iterator[Rows]:
    path = directory / DATABASE
    ends_s = time.monotonic() + _LONGEST_S
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
        ) as database:
            database.set_progress_handler(lambda: time.monotonic() > ends_s, _STEPS)
            database.execute("BEGIN")

            def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
                return database.execute(query, values).fetchall()

            _check(rows("SELECT schema FROM store"), schema.VERSION)
            yield rows
    except sqlite3.Error as error:
        raise StoreError(f"{path}: cannot be read: {error}") from error


@contextmanager
def _postgres(url: str) -> Iterator[Rows]:
    import psycopg
    from psycopg import IsolationLevel

    from gateway.receiver.postgres import schema as postgres_schema

    options = f"-c search_path=iomt -c statement_timeout={_LONGEST_S:g}s"
    try:
        with psycopg.connect(url, options=options, application_name="iomt-api") as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True

            def rows(query: str, *values: object) -> list[tuple[Any, ...]]:
                return connection.execute(query.replace("?", "%s").encode(), values).fetchall()

            _check([(postgres_schema.version(connection),)], postgres_schema.latest())
            yield rows
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error)
        raise StoreError(f"PostgreSQL: cannot be read: {' '.join(said.split())}") from error


def _check(found: list[tuple[Any, ...]], known: int) -> None:
    if found != [(known,)]:
        raise StoreError(f"the store has schema {found[0][0]}; this one knows {known}")
