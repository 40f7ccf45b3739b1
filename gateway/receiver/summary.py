"""What a store holds, for people and for checks: numbers only, never a value."""

from collections.abc import Callable, Iterable
from typing import Any

from gateway.receiver import queries


def summary(rows: Callable[[str], Iterable[tuple[Any, ...]]]) -> dict[str, Any]:
    """Per gateway the bundles here and missing, per stream (hex) the records here, explained and missing.

    `missing` counts numbers below the highest known of each chain; what follows it nobody can know of. JSON-ready:
    {"gateways": {id: {"bundles", "missing_bundles", "forks", "streams": {hex: {"records", "readings", "explained",
    "missing", "first_ms", "last_ms"}}}}, "parked": n, "quarantined": {cause: n}}. `rows` runs one of `queries`.
    """
    gateways: dict[str, dict[str, Any]] = {}
    for gateway, covered, expected in rows(queries.BUNDLES):
        gateways[gateway] = {
            "bundles": int(covered),
            "missing_bundles": int(expected - covered),
            "forks": 0,
            "streams": {},
        }
    for gateway, count in rows(queries.FORKS):
        gateways[gateway]["forks"] = count
    for gateway, stream, covered, expected in rows(queries.RECORDS):
        gateways[gateway]["streams"][stream.hex()] = {
            "records": int(covered),
            "readings": 0,
            "explained": 0,
            "missing": int(expected - covered),
            "first_ms": None,
            "last_ms": None,
        }
    for gateway, stream, count, first_ms, last_ms in rows(queries.READINGS):
        gateways[gateway]["streams"][stream.hex()] |= {"readings": count, "first_ms": first_ms, "last_ms": last_ms}
    for gateway, stream, count in rows(queries.EXPLAINED):
        entry = gateways[gateway]["streams"][stream.hex()]
        entry["explained"] = int(count)
        entry["records"] -= int(count)
    [(parked,)] = rows(queries.PARKED)
    quarantined = {cause: int(times) for cause, times in rows(queries.QUARANTINED)}
    return {"gateways": gateways, "parked": parked, "quarantined": quarantined}
