"""Reads a PostgreSQL store for an audit, row by row, whatever the size of its tables."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import psycopg
from psycopg import IsolationLevel

from gateway.errors import StoreError
from gateway.receiver.archive import Archive


@contextmanager
def reading(url: str) -> Iterator[Archive]:
    """One snapshot of a store, also while workers write. Raises `StoreError`."""
    names = count()
    try:
        with psycopg.connect(url, options="-c search_path=iomt", application_name="iomt-audit") as connection:
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            connection.read_only = True

            def rows(query: str, values: tuple[object, ...]) -> Iterator[tuple[Any, ...]]:
                with connection.cursor(name=f"audit_{next(names)}") as cursor:
                    cursor.execute(query.replace("?", "%s").encode(), values)
                    yield from cursor

            yield Archive(rows)
    except psycopg.Error as error:
        raise StoreError(f"PostgreSQL: cannot be read: {' '.join(str(error).split())}") from error
