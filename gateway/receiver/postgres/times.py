"""Corrects records whose time counts from a boot of their gateway, by the best anchor of that boot."""

import json

from psycopg import Connection

from gateway.model import Extra, TimeSource

_AT_ONCE = 10_000
_DRIFT = 10_000
"""A clock drifts by up to 1 in so many."""

_BEST_ANCHOR = """
SELECT boot_ms, wall_ms, error_ms FROM clock_anchors WHERE gateway = %s AND boot = %s
ORDER BY error_ms, boot_ms DESC LIMIT 1
"""
_READINGS = """
SELECT times.stream_id, times.chain_id, times.seq, times.time_ms, times.received_ms, boot_ms, uncertainty_ms, extras
FROM boot_times AS times JOIN reading_rows USING (stream_id, time_ms, received_ms, chain_id, seq)
WHERE gateway = %s AND boot = %s AND corrected_by IS DISTINCT FROM %s LIMIT %s
"""
_CORRECT_READINGS = """
UPDATE reading_rows SET time_ms = fresh.time_ms, extras = fresh.extras
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[])
    AS fresh (stream_id, chain_id, seq, old_ms, received_ms, time_ms, extras)
WHERE reading_rows.stream_id = fresh.stream_id AND reading_rows.time_ms = fresh.old_ms
    AND reading_rows.received_ms = fresh.received_ms AND reading_rows.chain_id = fresh.chain_id
    AND reading_rows.seq = fresh.seq
"""
_MARK = """
UPDATE boot_times SET time_ms = fresh.time_ms, corrected_by = %s
FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS fresh (stream_id, chain_id, seq, time_ms)
WHERE boot_times.stream_id = fresh.stream_id AND boot_times.chain_id = fresh.chain_id AND boot_times.seq = fresh.seq
"""
_CORRECT_EVENTS = """
UPDATE event_rows SET time_ms = greatest(0, %s::bigint + times.boot_ms) FROM boot_times AS times
WHERE times.gateway = %s AND times.boot = %s AND corrected_by IS DISTINCT FROM %s
    AND event_rows.stream_id = times.stream_id AND event_rows.chain_id = times.chain_id AND event_rows.seq = times.seq
"""
_MARK_EVENTS = """
UPDATE boot_times SET corrected_by = %s WHERE gateway = %s AND boot = %s AND corrected_by IS DISTINCT FROM %s
"""


def correct(connection: Connection, gateway: str, boot: bytes) -> None:
    """Correct what the best anchor of `boot`, if there is one, has not corrected yet. Raises `psycopg.Error`."""
    anchors = connection.execute(_BEST_ANCHOR, (gateway, boot)).fetchall()
    for anchor_ms, wall_ms, error_ms in anchors:
        of_boot = (gateway, boot, anchor_ms)
        while rows := connection.execute(_READINGS, (*of_boot, _AT_ONCE)).fetchall():
            corrected = []
            for *place, boot_ms, uncertainty_ms, extras in rows:
                away_ms = boot_ms - anchor_ms
                within_ms = uncertainty_ms + error_ms + abs(away_ms) // _DRIFT
                corrected.append((*place, max(0, wall_ms + away_ms), _anchored(extras, within_ms)))
            columns = [list(column) for column in zip(*corrected, strict=True)]
            connection.execute(_CORRECT_READINGS, columns)
            connection.execute(_MARK, (anchor_ms, *columns[:3], columns[5]))
        connection.execute(_CORRECT_EVENTS, (wall_ms - anchor_ms, *of_boot))
        connection.execute(_MARK_EVENTS, (anchor_ms, *of_boot))


def _anchored(extras: str, within_ms: int) -> str:
    told = json.loads(extras)
    told[str(int(Extra.TIME_SOURCE))] = int(TimeSource.ANCHORED)
    told[str(int(Extra.UNCERTAINTY_MS))] = within_ms
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))
