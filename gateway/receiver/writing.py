"""Writes a plan into SQLite, in bulk, inside a transaction that is already open."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, count

from gateway.receiver.coverage import Coverage
from gateway.receiver.loading import load_runs
from gateway.receiver.plan import Plan, Quarantined
from gateway.receiver.rows import READING, Row, Rows, bundle_runs
from gateway.receiver.store import (
    QUARANTINE_BUNDLES,
    QUARANTINE_BUNDLES_PER_GATEWAY,
    QUARANTINE_BYTES,
    QUARANTINED_PAYLOAD_BYTES,
    Committed,
)

_READINGS = f"""
INSERT INTO reading_rows ({", ".join(READING)}, id) VALUES ({"?, " * len(READING)} ?) ON CONFLICT DO NOTHING
"""  # noqa: S608 - our own names
_SOURCE = "SELECT id FROM sources WHERE stream_id = ? AND device = ? AND ifnull(session, '') = ifnull(?, '')"
_BUNDLE_RUNS = """
INSERT INTO bundle_runs VALUES (?, ?, ?, ?)
ON CONFLICT (chain_id, first) DO UPDATE SET last = excluded.last, hash = excluded.hash
"""
_RECORD_RUNS = """
INSERT INTO record_runs VALUES (?, ?, ?, ?) ON CONFLICT (stream_id, chain_id, first) DO UPDATE SET last = excluded.last
"""
_QUARANTINE = """
INSERT INTO quarantine (hash, gateway, cause, times, first_ms, last_ms, size_bytes, payload)
VALUES (?, ?, ?, 1, ?, ?, ?, ?)
ON CONFLICT (hash) DO UPDATE SET times = times + 1, last_ms = excluded.last_ms
"""
_FORGET_OLDEST = """
DELETE FROM quarantine WHERE id IN (
    SELECT id FROM (
        SELECT id, row_number() OVER newest AS place, sum(size_bytes) OVER newest AS total,
            row_number() OVER (PARTITION BY gateway ORDER BY id DESC) AS own
        FROM quarantine WINDOW newest AS (ORDER BY id DESC))
    WHERE place > ? OR total > ? OR own > ?)
"""
_BEST_ANCHOR = """
SELECT boot_ms, wall_ms, error_ms FROM clock_anchors WHERE gateway = ? AND boot = ?
ORDER BY error_ms, boot_ms DESC LIMIT 1
"""
# 1 and 2 are the keys of time source and uncertainty, 5 is `anchored`; a clock drifts by up to 1 in 10,000.
_CORRECT_READINGS = """
UPDATE reading_rows SET
    time_ms = max(0, :wall_ms + times.boot_ms - :boot_ms),
    extras = json_set(extras, '$."1"', 5,
        '$."2"', times.uncertainty_ms + :error_ms + abs(times.boot_ms - :boot_ms) / 10000)
FROM boot_times AS times
WHERE times.gateway = :gateway AND times.boot = :boot AND reading_rows.id = times.reading_id
    AND reading_rows.stream_id = times.stream_id AND reading_rows.chain_id = times.chain_id
    AND reading_rows.seq = times.seq
"""
_CORRECT_EVENTS = """
UPDATE event_rows SET time_ms = max(0, :wall_ms + times.boot_ms - :boot_ms)
FROM boot_times AS times
WHERE times.gateway = :gateway AND times.boot = :boot AND event_rows.stream_id = times.stream_id
    AND event_rows.chain_id = times.chain_id AND event_rows.seq = times.seq
"""
_FRESH = "AND times.stream_id = :stream AND times.chain_id = :chain AND times.seq >= :first"


class Writer:
    """Writes one plan; whoever opened the transaction ends it. Raises `sqlite3.Error`."""

    def __init__(self, database: sqlite3.Connection, now_ms: int) -> None:
        self._database = database
        self._now_ms = now_ms

    def write(self, plan: Plan) -> Committed:
        """Write everything."""
        rows = Rows(plan, self._now_ms)
        self._numbers(rows)
        self._bundles(plan, rows)
        self._runs(rows)
        self._many("INSERT INTO event_rows VALUES (?, ?, ?, ?, ?, ?, ?)", rows.events())
        self._many("INSERT INTO gap_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows.gaps())
        repeated = plan.readings - self._readings(plan, rows)
        self._parked(plan)
        self._quarantined(plan.quarantined)
        forks = self._many(
            "INSERT INTO forks (gateway, chain, no, hash, cause, received_ms) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            [(*fork.bundle, fork.cause, self._now_ms) for fork in plan.forks],
        )
        counter = self._one("UPDATE store SET receipt_counter = receipt_counter + 1 RETURNING receipt_counter")
        return Committed(counter, repeated, forks, self._one("SELECT count(*) FROM parked"))

    def _one(self, statement: str, *values: object) -> int:
        # Fetched whole: a statement that is not run to its end would hold the transaction open.
        [(value,)] = self._database.execute(statement, values).fetchall()
        number: int = value
        return number

    def _many(self, statement: str, rows: Iterable[Row]) -> int:
        return self._database.executemany(statement, rows).rowcount

    def _numbers(self, rows: Rows) -> None:
        """Find the numbers of chains, streams and sources, and give new ones theirs."""
        self._many(
            "INSERT INTO chains (gateway, chain, signer) VALUES (?, ?, ?)"
            " ON CONFLICT (gateway, chain) DO UPDATE SET signer = excluded.signer WHERE signer IS NULL",
            ((*key, signer) for key, signer in rows.chains().items()),
        )
        for key in rows.chains():
            rows.chain_ids[key] = self._one("SELECT id FROM chains WHERE gateway = ? AND chain = ?", *key)
        for stream in sorted(rows.streams()):
            rows.stream_ids[stream] = self._number(
                "SELECT id FROM streams WHERE gateway = ? AND stream = ?",
                "INSERT INTO streams (gateway, stream) VALUES (?, ?) RETURNING id",
                *stream,
            )
        for source in rows.sources():
            rows.source_ids[source] = self._number(
                _SOURCE,
                "INSERT INTO sources (stream_id, device, session) VALUES (?, ?, ?) RETURNING id",
                *(rows.stream_ids[source[:2]], source.device, source.session),
            )

    def _number(self, select: str, insert: str, *values: object) -> int:
        found: tuple[int] | None = self._database.execute(select, values).fetchone()
        return self._one(insert, *values) if found is None else found[0]

    def _bundles(self, plan: Plan, rows: Rows) -> None:
        self._many(
            "UPDATE chains SET root = ?2, predecessor = ?3, predecessor_no = ?4, predecessor_hash = ?5 WHERE id = ?1",
            rows.openings(),
        )
        self._many(
            "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?)",
            ((rows.chain_ids[b.gateway, b.chain], b.no, b.hash, b.prev, self._now_ms, b.sign1) for b in plan.bundles),
        )
        epochs = list(rows.epochs())
        self._many("INSERT INTO epoch_parts VALUES (?, ?, ?, ?)", ((*place, each.part.data) for place, each in epochs))
        self._many(
            "INSERT INTO epoch_secrets VALUES (?, ?, ?, ?, ?)",
            ((*place, each.opened.secret, each.opened.salt) for place, each in epochs),
        )
        self._many("INSERT INTO erased_epochs VALUES (?, ?, ?)", rows.tombstones())

    def _runs(self, rows: Rows) -> None:
        self._bundle_runs(rows.runs())
        for chain_id, runs in rows.explained().items():
            coverage = load_runs(self._database, chain_id)
            for run in runs:
                coverage.add(run)
            self._bundle_runs({chain_id: coverage})
        gone, changed = rows.record_runs()
        self._many("DELETE FROM record_runs WHERE stream_id = ? AND chain_id = ? AND first = ?", gone)
        self._many(_RECORD_RUNS, changed)

    def _bundle_runs(self, coverages: Mapping[int, Coverage]) -> None:
        gone, changed = bundle_runs(coverages)
        self._many("DELETE FROM bundle_runs WHERE chain_id = ? AND first = ?", gone)
        self._many(_BUNDLE_RUNS, changed)

    def _readings(self, plan: Plan, rows: Rows) -> int:
        """Insert readings, numbered on from the last one; how many were not here yet."""
        first = self._one("SELECT ifnull(max(id), 0) + 1 FROM reading_rows")
        numbers = count(first)  # last, so that the end of a part costs no number
        stored = self._many(
            _READINGS, chain.from_iterable(zip(*columns, numbers, strict=False) for columns in rows.readings())
        )
        self._times(plan, rows, first)
        return stored

    def _times(self, plan: Plan, rows: Rows, first: int) -> None:
        """Correct the times of all records of each boot of which records or anchors are new."""
        times = [(*row, None if place is None else first + place) for row, _, place in rows.boot_times()]
        self._many("INSERT INTO boot_times VALUES (?, ?, ?, ?, ?, ?, ?, ?)", times)
        self._many("INSERT INTO clock_anchors VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", plan.anchors)
        for gateway, boot in dict.fromkeys((anchor.gateway, anchor.boot) for anchor in plan.anchors):
            self._correct(gateway, boot, "")
        fresh = {(*time[:2], time[3], time[4]): time[2] for time in reversed(times)}
        for (stream_id, chain_id, gateway, boot), seq in fresh.items():
            self._correct(gateway, boot, _FRESH, stream=stream_id, chain=chain_id, first=seq)

    def _correct(self, gateway: str, boot: bytes, which: str, **place: int) -> None:
        anchor = self._database.execute(_BEST_ANCHOR, (gateway, boot)).fetchone()
        if anchor is not None:
            named = dict(zip(("boot_ms", "wall_ms", "error_ms"), anchor, strict=True)) | place
            for statement in (_CORRECT_READINGS, _CORRECT_EVENTS):
                self._database.execute(statement + which, named | {"gateway": gateway, "boot": boot})

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
            payload = each.message.payload[:QUARANTINED_PAYLOAD_BYTES]
            rows.append(
                (each.hash, each.message.gateway, each.cause, self._now_ms, self._now_ms, len(payload), payload)
            )
        self._many(_QUARANTINE, rows)
        self._many(_FORGET_OLDEST, [(QUARANTINE_BUNDLES, QUARANTINE_BYTES, QUARANTINE_BUNDLES_PER_GATEWAY)])
