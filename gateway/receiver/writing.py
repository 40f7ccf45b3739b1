"""Writes a plan into SQLite, in bulk and from columns, inside a transaction that is already open."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count, repeat

from gateway.model import Gap
from gateway.receiver.coverage import Coverage
from gateway.receiver.loading import bundle_runs
from gateway.receiver.plan import ChainKey, NewPart, Plan, Quarantined, ReadingColumns, SeriesKey
from gateway.receiver.store import (
    QUARANTINE_BUNDLES,
    QUARANTINE_BUNDLES_PER_GATEWAY,
    QUARANTINE_BYTES,
    QUARANTINED_PAYLOAD_BYTES,
    Committed,
    event_details,
)

_READINGS = """
INSERT INTO reading_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (stream_id, device, metric, sequence, ifnull(session, ''), ifnull(mantissa, ''), exponent)
    WHERE sequence IS NOT NULL DO NOTHING
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
WHERE times.gateway = :gateway AND times.boot = :boot AND reading_rows.stream_id = times.stream_id
    AND reading_rows.chain_id = times.chain_id AND reading_rows.seq = times.seq
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
        self._chain_ids: dict[ChainKey, int] = {}
        self._stream_ids: dict[tuple[str, bytes], int] = {}

    def write(self, plan: Plan) -> Committed:
        """Write everything."""
        self._chains(plan)
        self._bundles(plan)
        self._runs(plan)
        repeated = self._readings(plan.parts)
        self._events(plan.parts)
        self._gaps(plan.parts)
        self._times(plan)
        self._parked(plan)
        self._quarantined(plan.quarantined)
        rows = [(*fork.bundle, fork.cause, self._now_ms) for fork in plan.forks]
        forks = self._many(
            "INSERT INTO forks (gateway, chain, no, hash, cause, received_ms) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            rows,
        )
        counter = self._one("UPDATE store SET receipt_counter = receipt_counter + 1 RETURNING receipt_counter")
        return Committed(counter, repeated, forks, self._one("SELECT count(*) FROM parked"))

    def _one(self, statement: str, *values: object) -> int:
        # Fetched whole: a statement that is not run to its end would hold the transaction open.
        [(value,)] = self._database.execute(statement, values).fetchall()
        number: int = value
        return number

    def _many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> int:
        return self._database.executemany(statement, rows).rowcount

    def _chain_id(self, key: ChainKey) -> int:
        if key not in self._chain_ids:
            select = "SELECT id FROM chains WHERE gateway = ? AND chain = ?"
            self._chain_ids[key] = self._one(select, *key)
        return self._chain_ids[key]

    def _stream_id(self, gateway: str, stream: bytes) -> int:
        key = (gateway, stream)
        if key not in self._stream_ids:
            select = "SELECT id FROM streams WHERE gateway = ? AND stream = ?"
            row = self._database.execute(select, key).fetchone()
            if row is None:
                insert = "INSERT INTO streams (gateway, stream) VALUES (?, ?) RETURNING id"
                self._stream_ids[key] = self._one(insert, *key)
            else:
                self._stream_ids[key] = row[0]
        return self._stream_ids[key]

    def _chains(self, plan: Plan) -> None:
        signers: dict[ChainKey, bytes | None] = {each.chain: None for each in plan.explained}
        signers |= {each.chain: None for each in plan.tombstones}
        signers |= {ChainKey(each.gateway, each.opened.chain): each.signer_kid for each in plan.epochs}
        signers |= {ChainKey(each.gateway, each.chain): each.signer_kid for each in plan.bundles}
        self._many(
            "INSERT INTO chains (gateway, chain, signer) VALUES (?, ?, ?)"
            " ON CONFLICT (gateway, chain) DO UPDATE SET signer = excluded.signer WHERE signer IS NULL",
            ((*key, signer) for key, signer in signers.items()),
        )
        openings = [each for each in plan.bundles if each.no == 0]
        self._many(
            "UPDATE chains SET root = ?, predecessor = ?, predecessor_no = ?, predecessor_hash = ?"
            " WHERE gateway = ? AND chain = ?",
            (
                (each.predecessor is None, *(each.predecessor or (None, None)), each.prev, each.gateway, each.chain)
                for each in openings
            ),
        )

    def _bundles(self, plan: Plan) -> None:
        self._many(
            "INSERT INTO bundles VALUES (?, ?, ?, ?, ?, ?)",
            (
                (self._chain_id(ChainKey(b.gateway, b.chain)), b.no, b.hash, b.prev, self._now_ms, b.sign1)
                for b in plan.bundles
            ),
        )
        for each in plan.epochs:
            opened = each.opened
            place = (
                self._chain_id(ChainKey(each.gateway, opened.chain)),
                opened.epoch,
                self._stream_id(each.gateway, opened.stream),
            )
            self._many("INSERT INTO epoch_parts VALUES (?, ?, ?, ?)", [(*place, each.part.data)])
            self._many("INSERT INTO epoch_secrets VALUES (?, ?, ?, ?, ?)", [(*place, opened.secret, opened.salt)])

        self._many(
            "INSERT INTO erased_epochs VALUES (?, ?, ?)",
            (
                (self._chain_id(each.chain), each.epoch, self._stream_id(each.chain.gateway, each.stream))
                for each in plan.tombstones
            ),
        )

    def _runs(self, plan: Plan) -> None:
        series = plan.series.items()
        self._bundle_runs(plan.runs)
        for each in plan.explained:
            coverage = bundle_runs(self._database, self._chain_id(each.chain))
            coverage.add(each.run)
            self._bundle_runs({each.chain: coverage})
        self._many(
            "DELETE FROM record_runs WHERE stream_id = ? AND chain_id = ? AND first = ?",
            ((*self._series_ids(key), run.first) for key, coverage in series for run in coverage.removed),
        )
        self._many(
            "INSERT INTO record_runs VALUES (?, ?, ?, ?)",
            ((*self._series_ids(key), run.first, run.last) for key, coverage in series for run in coverage.added),
        )

    def _bundle_runs(self, runs: Mapping[ChainKey, Coverage]) -> None:
        self._many(
            "DELETE FROM bundle_runs WHERE chain_id = ? AND first = ?",
            ((self._chain_id(key), run.first) for key, coverage in runs.items() for run in coverage.removed),
        )
        self._many(
            "INSERT INTO bundle_runs VALUES (?, ?, ?, ?)",
            ((self._chain_id(key), *run) for key, coverage in runs.items() for run in coverage.added),
        )

    def _series_ids(self, key: SeriesKey) -> tuple[int, int]:
        return self._stream_id(key.gateway, key.stream), self._chain_id(ChainKey(key.gateway, key.chain))

    def _readings(self, parts: Iterable[NewPart]) -> int:
        """Insert readings; how many were repeated."""
        expected = 0
        rows = []
        for part in parts:
            if isinstance(part.content, ReadingColumns):
                expected += part.count
                rows.append(self._reading_rows(part, part.content))
        return expected - self._many(_READINGS, chain.from_iterable(rows))

    def _reading_rows(self, part: NewPart, columns: ReadingColumns) -> Iterator[tuple[object, ...]]:
        stream_id, chain_id = self._series_ids(part.series)
        return zip(
            repeat(stream_id, part.count),
            repeat(chain_id, part.count),
            count(part.first),
            columns.device,
            columns.metric,
            columns.mantissa,
            columns.exponent,
            columns.time_ms,
            columns.quality,
            columns.sequence,
            columns.session,
            columns.backfilled,
            columns.extras,
            repeat(self._now_ms),
            strict=False,  # it counts and repeats without end
        )

    def _events(self, parts: Iterable[NewPart]) -> None:
        self._many(
            "INSERT INTO event_rows VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (*self._series_ids(part.series), number, event.time_ms, event.code, event_details(event), self._now_ms)
                for part in parts
                if isinstance(part.content, tuple)
                for number, event in enumerate(part.content, part.first)
            ),
        )

    def _times(self, plan: Plan) -> None:
        """Correct the times of all records of each boot of which records or anchors are new."""
        times = [
            (*self._series_ids(part.series), time.no, part.series.gateway, time.boot, time.boot_ms, time.uncertainty_ms)
            for part in plan.parts
            for time in part.boot_times
        ]
        self._many("INSERT INTO boot_times VALUES (?, ?, ?, ?, ?, ?, ?)", times)
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

    def _gaps(self, parts: Iterable[NewPart]) -> None:
        self._many(
            "INSERT INTO gap_rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (*self._series_ids(part.series), part.first, gap.count, gap.cause, gap.from_ms, gap.to_ms, self._now_ms)
                for part in parts
                if isinstance(gap := part.content, Gap)
            ),
        )

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
