"""Answers the read API's questions from a store, in SQL that both databases understand. It blocks."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import groupby
from typing import Any, Final

from gateway.errors import ControlError
from gateway.health.metrics import METRICS
from gateway.model import Quality
from gateway.receiver.api import models
from gateway.receiver.store import StoredStream

Rows = Callable[..., list[tuple[Any, ...]]]
"""A query with `?` for each of the values that follow it."""

_MOST_GAPS: Final = 1000
_STREAMS: Final = "SELECT id, stream, gateway, erased_ms FROM streams WHERE id > ? ORDER BY id LIMIT ?"
_STREAM: Final = "SELECT id, gateway, erased_ms FROM streams WHERE stream = ? ORDER BY id"
_COLUMNS: Final = (
    "device, metric, mantissa, exponent, time_ms, received_ms, quality, backfilled, sequence, session, chain_id, seq"
)
_READINGS: Final = f"""
SELECT {_COLUMNS} FROM reading_rows JOIN sources ON sources.id = source_id
WHERE reading_rows.stream_id = ? AND time_ms >= ? AND time_ms < ? AND (time_ms, chain_id, seq) > (?, ?, ?)
    {{metric}} ORDER BY time_ms, chain_id, seq LIMIT ?
"""  # noqa: S608 - our own names
_LATEST: Final = f"""
SELECT {_COLUMNS} FROM (
    SELECT newest.*, device, session, row_number() OVER (
        PARTITION BY device, metric ORDER BY time_ms DESC, chain_id DESC, seq DESC) AS place
    FROM (SELECT * FROM reading_rows WHERE stream_id = ? ORDER BY time_ms DESC LIMIT 10000) AS newest
    JOIN sources ON sources.id = source_id WHERE quality < ?) AS placed
WHERE place = 1 ORDER BY device, metric
"""  # noqa: S608 - our own names
_RUNS: Final = """
SELECT chain, first, last FROM record_runs JOIN chains ON chains.id = chain_id WHERE stream_id = ?
ORDER BY chain_id, first
"""
_GAPS: Final = """
SELECT chain, first, count, cause FROM gap_rows JOIN chains ON chains.id = chain_id WHERE stream_id = ?
ORDER BY chain_id, first
"""
_TIMES: Final = "SELECT min(time_ms), max(time_ms) FROM reading_rows WHERE stream_id = ?"


def streams(rows: Rows, wanted: models.StreamsWanted) -> models.Streams:
    """A page of streams. Raises `StoreError`, as all of these do."""
    found = rows(_STREAMS, wanted.after, wanted.limit)
    listed = tuple(models.Stream(stream.hex(), gateway, erased is not None) for _, stream, gateway, erased in found)
    return models.Streams(listed, found[-1][0] if len(found) == wanted.limit else None)


def readings(rows: Rows, stream: str, wanted: models.ReadingsWanted) -> models.Readings:
    """A page of readings. Raises `ControlError` for a stream that is not here."""
    number = _find(rows, stream)[0].number
    after = tuple(map(int, wanted.after.split("."))) if wanted.after else (-1, -1, -1)
    metric = () if wanted.metric is None else (models.METRIC_NAMES[wanted.metric],)
    query = _READINGS.format(metric="AND metric = ?" if metric else "")
    found = rows(query, number, wanted.from_ms, wanted.to_ms, *after, *metric, wanted.limit)
    last = found[-1] if len(found) == wanted.limit else None
    place = f"{last[4]}.{last[-2]}.{last[-1]}" if last else None
    return models.Readings(tuple(map(_reading, found)), place)


def latest(rows: Rows, stream: str, _: models.Nothing) -> models.Latest:
    """Newest values. Raises `ControlError` for a stream that is not here."""
    number = _find(rows, stream)[0].number
    return models.Latest(tuple(map(_reading, rows(_LATEST, number, int(Quality.VOID)))))


def completeness(rows: Rows, stream: str, _: models.Nothing) -> models.Completeness:
    """What is here and what is not. Raises `ControlError` for a stream that is not here."""
    found, forgotten = _find(rows, stream)
    runs, told = rows(_RUNS, found.number), rows(_GAPS, found.number)
    explained = sum(count for _, _, count, _ in told)
    holes = list(_holes(runs))
    gaps = [models.Gap(chain.hex(), first, first + count - 1, cause) for chain, first, count, cause in told]
    [(first_ms, last_ms)] = rows(_TIMES, found.number)
    return models.Completeness(
        stream=stream,
        gateway=found.gateway,
        forgotten=forgotten,
        records=sum(last - first + 1 for _, first, last in runs) - explained,
        explained=explained,
        missing=sum(hole.last - hole.first + 1 for hole in holes),
        first_ms=first_ms,
        last_ms=last_ms,
        gaps=tuple((*holes, *gaps)[:_MOST_GAPS]),
    )


def _find(rows: Rows, stream: str) -> tuple[StoredStream, bool]:
    """A stream, and whether it was forgotten. Where several gateways serve it, the first is meant."""
    identity = bytes.fromhex(stream)
    found = rows(_STREAM, identity)
    if not found:
        raise ControlError("not-found", f"{stream}: there is no such stream")
    number, gateway, erased_ms = found[0]
    return StoredStream(number, gateway, identity), erased_ms is not None


def _holes(runs: list[tuple[Any, ...]]) -> Iterator[models.Gap]:
    for chain, members in groupby(runs, key=lambda run: run[0]):
        expected = 0
        for _, first, last in members:
            if first > expected:
                yield models.Gap(chain.hex(), expected, first - 1, None)
            expected = last + 1


def _reading(row: tuple[Any, ...]) -> models.Reading:
    device, code, mantissa, exponent, time_ms, received_ms, quality, backfilled, sequence, session, *_ = row
    metric = METRICS.get(code)
    return models.Reading(
        device=device,
        metric=metric.name if metric else None,
        mdc=code,
        value=None if mantissa is None else f"{Decimal(mantissa).scaleb(exponent):f}",
        unit=metric.unit if metric else None,
        time_ms=time_ms,
        received_ms=received_ms,
        quality=Quality(quality).name.lower(),
        backfilled=bool(backfilled),
        sequence=sequence,
        session=session,
    )
