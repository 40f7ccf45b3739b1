"""What the receiver's store holds, read from its database by somebody who trusts neither side's counters."""

import json
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway.health.metrics import METRICS
from gateway.lab.verdict import Row
from gateway.receiver.schema import TABLES
from gateway.receiver.sqlite import DATABASE

_LATEST = """
SELECT device, metric, mantissa, exponent, max(time_ms), count(*), sum(backfilled) FROM readings
GROUP BY device, metric ORDER BY device, metric
"""
_GAPS = "SELECT stream, count FROM gap_rows JOIN streams ON streams.id = stream_id"
_EVENTS = "SELECT details FROM event_rows WHERE code = ? ORDER BY chain_id, seq"
_SPAN_ITEMS = 5
_ROWS = "SELECT device, metric, mantissa, exponent, time_ms, session, sequence, backfilled FROM readings"


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest value of one metric of one wearable, how many there are, and how many came from its own store."""

    device: str
    metric: str
    value: str
    time_ms: int
    count: int
    backfilled: int


@dataclass(frozen=True, slots=True)
class Hole:
    """Bundles of a chain that a gateway says will never come, and why."""

    chain: bytes
    numbers: range
    cause: str
    counts: Mapping[str, int]
    """Records by stream (hex); empty where the gateway does not know."""


class Cloud:
    """A read-only view of a receiver's SQLite store; empty until the receiver has made it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / DATABASE

    def latest(self) -> list[Latest]:
        """One line per wearable and metric."""
        with self._cursor() as cursor:
            return [
                Latest(device, METRICS[metric].name, _text(metric, mantissa, exponent), time_ms, *counts)
                for device, metric, mantissa, exponent, time_ms, *counts in cursor.execute(_LATEST)
            ]

    def rows(self) -> list[Row]:
        """Every reading."""
        with self._cursor() as cursor:
            return [
                Row(device, metric, _value(mantissa, exponent), time_ms, session, sequence, bool(backfilled))
                for device, metric, mantissa, exponent, time_ms, session, sequence, backfilled in cursor.execute(_ROWS)
            ]

    def bundles(self) -> set[tuple[bytes, int]]:
        """Every bundle committed, as (chain, number)."""
        with self._cursor() as cursor:
            return set(cursor.execute("SELECT chain, no FROM bundles JOIN chains ON chains.id = chain_id"))

    def gaps(self, streams: Collection[str]) -> int:
        """Numbers of these streams (hex) that a signed gap stands for."""
        with self._cursor() as cursor:
            return sum(count for stream, count in cursor.execute(_GAPS) if stream.hex() in streams)

    def holes(self) -> list[Hole]:
        """What gateways say will never come."""
        return [_hole(*details) for details in self.events("eviction")]

    def events(self, code: str) -> list[list[Any]]:
        """The details of every event of that code."""
        with self._cursor() as cursor:
            return [json.loads(details) for (details,) in cursor.execute(_EVENTS, (code,))]

    def quarantined(self) -> int:
        """Messages that the receiver would not believe, and forks that it saw."""
        return self._number("SELECT (SELECT count(*) FROM quarantine) + (SELECT count(*) FROM forks)")

    def _number(self, query: str) -> int:
        with self._cursor() as cursor:
            row = cursor.execute(query).fetchone()
            return int(row[0]) if row else 0

    @contextmanager
    def _cursor(self) -> Iterator[sqlite3.Cursor]:
        if not self._path.exists():
            with closing(sqlite3.connect(":memory:")) as empty:
                empty.executescript(TABLES)
                yield empty.cursor()
            return
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            yield database.cursor()


def _hole(chain: str, first: int, last: int, _digest: str, cause: str, *spans: Any) -> Hole:  # noqa: ANN401 - as told
    counts: Counter[str] = Counter()
    for at in range(0, len(spans), _SPAN_ITEMS):
        stream, _, count = spans[at : at + 3]
        counts[stream] += count
    return Hole(bytes.fromhex(chain), range(first, last + 1), cause, counts)


def _value(mantissa: int | None, exponent: int) -> Decimal | None:
    return None if mantissa is None else Decimal(mantissa).scaleb(exponent)


def _text(metric: int, mantissa: int | None, exponent: int) -> str:
    value = _value(mantissa, exponent)
    return "no value" if value is None else f"{value:f} {METRICS[metric].unit}"
