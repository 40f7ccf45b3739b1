"""Rows into PostgreSQL: psycopg's COPY, its arrays, and asyncpg's COPY where it is installed; the server is private."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg

from bench._measure import spread
from gateway.lab.postgres import Cluster

_ROWS = 16_384
_ROUNDS = 9
_TYPES = ("int8",) * 8 + ("int2",) * 3 + ("text",) * 3
_COLUMNS = ", ".join(f"c{place} {kind}" for place, kind in enumerate(_TYPES))


def run() -> dict[str, Any]:
    """Measure the readings of 1,024 batches of 16."""
    times: dict[str, list[float]] = {}
    with Cluster() as cluster, psycopg.connect(cluster.url(), autocommit=True) as connection:
        connection.execute(f"CREATE TABLE rows ({_COLUMNS})".encode())
        ways = _psycopg(connection) | _asyncpg(cluster.url())
        for _ in range(_ROUNDS):
            for name, way in ways.items():
                started, cpu = time.perf_counter(), time.process_time()
                way()
                times.setdefault(f"{name}, CPU here", []).append(1e6 * (time.process_time() - cpu) / _ROWS)
                times.setdefault(name, []).append(1e6 * (time.perf_counter() - started) / _ROWS)
            connection.execute("TRUNCATE rows")
    results = {name: spread(values, "µs/row") for name, values in sorted(times.items())}
    arrays, copy = (float(results[name]["median"]) for name in ("psycopg arrays", "psycopg COPY binary"))
    return {"results": results, "ratios": {"arrays / COPY binary": arrays / copy}}


def _rows() -> Iterator[tuple[Any, ...]]:
    for number in range(_ROWS):
        numbers = (1, 2, number, 160212, 100 + number % 40, 1_790_000_000_000 + number, number, 1_790_000_000_000)
        yield (*numbers, 0, 0, 0, "F0:00:00:00:00:01", "2026-11-01T08:00:00", None)


def _psycopg(connection: psycopg.Connection) -> dict[str, Callable[[], None]]:
    def binary() -> None:
        statement = "COPY rows FROM STDIN (FORMAT BINARY)"
        with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.set_types(_TYPES)
            for row in rows:
                copy.write_row(row)

    def text() -> None:
        with connection.transaction(), connection.cursor() as cursor, cursor.copy("COPY rows FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def arrays() -> None:
        statement = f"INSERT INTO rows SELECT * FROM unnest({', '.join(f'%s::{kind}[]' for kind in _TYPES)})"  # noqa: S608 - our own words
        with connection.transaction():
            connection.execute(statement.encode(), [list(column) for column in zip(*rows, strict=True)])

    rows: Sequence[tuple[Any, ...]] = list(_rows())
    return {"psycopg COPY binary": binary, "psycopg COPY text": text, "psycopg arrays": arrays}


def _asyncpg(url: str) -> dict[str, Callable[[], None]]:
    try:
        import asyncpg  # type: ignore[import-not-found]  # optional: a peer to compare with
    except ImportError:
        return {}
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(url))
    rows = list(_rows())

    async def copy() -> None:
        async with connection.transaction():
            await connection.copy_records_to_table("rows", records=rows)

    return {"asyncpg COPY binary": lambda: loop.run_until_complete(copy())}
