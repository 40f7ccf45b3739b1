"""What a store holds, for people and for checks: numbers only, never a value."""

import sqlite3
from typing import Any

_BUNDLES = """
SELECT gateway, sum(last - first + 1), sum(highest) FROM (
    SELECT gateway, first, last, iif(last = max(last) OVER (PARTITION BY chain_id), last + 1, 0) AS highest
    FROM bundle_runs JOIN chains ON chains.id = chain_id)
GROUP BY gateway
"""
_NUMBERED = """
SELECT gateway, stream, sum(last - first + 1), sum(highest) FROM (
    SELECT stream_id, first, last, iif(last = max(last) OVER (PARTITION BY stream_id, chain_id), last + 1, 0) AS highest
    FROM record_runs) JOIN streams ON streams.id = stream_id
GROUP BY stream_id ORDER BY gateway, stream
"""
_READINGS = """
SELECT gateway, stream, count(*), min(time_ms), max(time_ms)
FROM reading_rows JOIN streams ON streams.id = stream_id GROUP BY stream_id
"""
_EXPLAINED = (
    "SELECT gateway, stream, sum(count) FROM gap_rows JOIN streams ON streams.id = stream_id GROUP BY stream_id"
)


def summary(database: sqlite3.Connection) -> dict[str, Any]:
    """Per gateway the bundles here and missing, per stream (hex) the records here, explained and missing.

    `missing` counts numbers below the highest known of each chain; what follows it nobody can know of. JSON-ready:
    {"gateways": {id: {"bundles", "missing_bundles", "forks", "streams": {hex: {"records", "readings", "explained",
    "missing", "first_ms", "last_ms"}}}}, "parked": n, "quarantined": {cause: n}}.
    """
    gateways: dict[str, dict[str, Any]] = {}
    for gateway, covered, expected in database.execute(_BUNDLES):
        gateways[gateway] = {
            "bundles": covered,
            "missing_bundles": expected - covered,
            "forks": 0,
            "streams": {},
        }
    for gateway, count in database.execute("SELECT gateway, count(*) FROM forks GROUP BY gateway"):
        gateways[gateway]["forks"] = count
    for gateway, stream, covered, expected in database.execute(_NUMBERED):
        gateways[gateway]["streams"][stream.hex()] = {
            "records": covered,
            "readings": 0,
            "explained": 0,
            "missing": expected - covered,
            "first_ms": None,
            "last_ms": None,
        }
    for gateway, stream, count, first_ms, last_ms in database.execute(_READINGS):
        gateways[gateway]["streams"][stream.hex()] |= {"readings": count, "first_ms": first_ms, "last_ms": last_ms}
    for gateway, stream, count in database.execute(_EXPLAINED):
        entry = gateways[gateway]["streams"][stream.hex()]
        entry["explained"] = count
        entry["records"] -= count
    [(parked,)] = database.execute("SELECT count(*) FROM parked")
    quarantined = dict(database.execute("SELECT cause, sum(times) FROM quarantine GROUP BY cause"))
    return {"gateways": gateways, "parked": parked, "quarantined": quarantined}
