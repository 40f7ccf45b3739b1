"""Writes a plan into PostgreSQL by COPY and arrays, inside a transaction that is already open."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import count, repeat
from typing import Any

from psycopg import Connection

from gateway.model import Gap
from gateway.receiver.coverage import Coverage, Run
from gateway.receiver.plan import ChainKey, NewPart, Plan, Quarantined, ReadingColumns, SeriesKey
from gateway.receiver.postgres import statements
from gateway.receiver.postgres.loading import coverages
from gateway.receiver.postgres.times import correct
from gateway.receiver.store import (
    QUARANTINE_BUNDLES,
    QUARANTINE_BUNDLES_PER_GATEWAY,
    QUARANTINE_BYTES,
    QUARANTINED_PAYLOAD_BYTES,
    Committed,
    event_details,
)

Row = tuple[Any, ...]
_Ids = Mapping[Any, int]


class Writer:
    """Writes one plan; whoever opened the transaction ends it. Raises `psycopg.Error`."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms
        self._chain_ids: dict[ChainKey, int] = {}
        self._stream_ids: dict[tuple[str, bytes], int] = {}

    def write(self, plan: Plan) -> Committed:
        """Write everything."""
        self._chains(plan)
        self._streams(plan)
        self._bundles(plan)
        self._bundle_runs(plan)
        self._record_runs(plan.series)
        repeated = self._readings(plan.parts)
        self._events(plan.parts)
        self._gaps(plan.parts)
        self._times(plan)
        self._parked(plan)
        forks = self._many(
            statements.FORKS,
            ((each.bundle.gateway, each.cause, *each.bundle[1:], self._now_ms) for each in plan.forks),
        )
        self._quarantined(plan.quarantined)
        counter = self._one("SELECT nextval('receipt_counter')")
        return Committed(counter, repeated, forks, self._one("SELECT count(*) FROM parked"))

    def _one(self, statement: str, *values: object) -> int:
        [(value,)] = self._connection.execute(statement.encode(), values).fetchall()
        return int(value)

    def _many(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Run `statement` once with `rows` as arrays, if there are any; how many rows it touched."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        return self._connection.execute(statement.encode(), columns).rowcount if columns else 0

    def _returning(self, statement: str, rows: Iterable[Sequence[object]]) -> list[Row]:
        columns = [list(column) for column in zip(*rows, strict=True)]
        return self._connection.execute(statement.encode(), columns).fetchall() if columns else []

    def _copy(self, statement: str, types: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        held = list(rows)
        if not held:
            return
        with self._connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types(types)
            for row in held:
                copy.write_row(row)

    def _chains(self, plan: Plan) -> None:
        signers: dict[ChainKey, bytes | None] = {each.chain: None for each in plan.explained}
        signers |= {each.chain: None for each in plan.tombstones}
        signers |= {ChainKey(each.gateway, each.opened.chain): each.signer_kid for each in plan.epochs}
        signers |= {ChainKey(each.gateway, each.chain): each.signer_kid for each in plan.bundles}
        rows = self._returning(statements.CHAINS, ((*key, signer) for key, signer in signers.items()))
        self._chain_ids = {ChainKey(gateway, chain): number for gateway, chain, number in rows}
        self._many(
            statements.OPENINGS,
            (
                (
                    self._chain_id(b.gateway, b.chain),
                    int(b.predecessor is None),
                    *(b.predecessor or (None,) * 2),
                    b.prev,
                )
                for b in plan.bundles
                if b.no == 0
            ),
        )

    def _chain_id(self, gateway: str, chain: bytes) -> int:
        return self._chain_ids[ChainKey(gateway, chain)]

    def _streams(self, plan: Plan) -> None:
        wanted = {(key.gateway, key.stream) for key in plan.series}
        wanted |= {(each.gateway, each.opened.stream) for each in plan.epochs}
        wanted |= {(each.chain.gateway, each.stream) for each in plan.tombstones}
        for statement in (statements.FIND_STREAMS, statements.NEW_STREAMS):
            missing = sorted(wanted - self._stream_ids.keys())
            for gateway, stream, number in self._returning(statement, missing):
                self._stream_ids[gateway, stream] = number

    def _bundles(self, plan: Plan) -> None:
        places = [(self._chain_id(b.gateway, b.chain), b.no, self._now_ms) for b in plan.bundles]
        links = ((*place, b.hash, b.prev) for place, b in zip(places, plan.bundles, strict=True))
        self._copy(statements.COPY_LINKS, ("int8", "int8", "int8", "bytea", "bytea"), links)
        signed = ((*place, b.sign1) for place, b in zip(places, plan.bundles, strict=True))
        self._copy(statements.COPY_ARCHIVE, ("int8", "int8", "int8", "bytea"), signed)
        epochs = [
            (
                (
                    self._chain_id(each.gateway, each.opened.chain),
                    each.opened.epoch,
                    self._stream_ids[each.gateway, each.opened.stream],
                    self._now_ms,
                ),
                each,
            )
            for each in plan.epochs
        ]
        self._many(statements.EPOCH_PARTS, ((*place, each.part.data) for place, each in epochs))
        self._many(statements.EPOCH_SECRETS, ((*place, each.opened.secret, each.opened.salt) for place, each in epochs))

        self._many(
            statements.TOMBSTONES,
            (
                (self._chain_ids[each.chain], each.epoch, self._stream_ids[each.chain.gateway, each.stream])
                for each in plan.tombstones
            ),
        )

    def _bundle_runs(self, plan: Plan) -> None:
        changed: dict[int, Coverage] = {
            self._chain_ids[key]: coverage
            for key, coverage in plan.runs.items()
            if key in self._chain_ids and (coverage.added or coverage.removed)
        }
        explained: dict[int, list[Run]] = {}
        for each in plan.explained:
            explained.setdefault(self._chain_ids[each.chain], []).append(each.run)
        self._runs(changed)
        if explained:
            known = coverages(self._connection, explained)
            for number, runs in explained.items():
                for run in runs:
                    known[number].add(run)
            self._runs(known)

    def _runs(self, changed: Mapping[int, Coverage]) -> None:
        gone = ((number, run.first) for number, coverage in changed.items() for run in coverage.removed)
        self._many(statements.DROP_BUNDLE_RUNS, gone)
        self._many(
            statements.BUNDLE_RUNS, ((number, *run) for number, coverage in changed.items() for run in coverage.added)
        )

    def _record_runs(self, series: Mapping[SeriesKey, Coverage]) -> None:
        changed = [(self._series_ids(key), coverage) for key, coverage in series.items() if coverage.added]
        self._many(
            statements.DROP_RECORD_RUNS, ((*ids, run.first) for ids, coverage in changed for run in coverage.removed)
        )
        self._many(
            statements.RECORD_RUNS, ((*ids, run.first, run.last) for ids, coverage in changed for run in coverage.added)
        )

    def _series_ids(self, key: SeriesKey) -> tuple[int, int]:
        return self._stream_ids[key.gateway, key.stream], self._chain_id(key.gateway, key.chain)

    def _readings(self, parts: Iterable[NewPart]) -> int:
        """Insert readings; how many were repeated."""
        rows: list[Row] = []
        for part in parts:
            if isinstance(part.content, ReadingColumns):
                rows += self._reading_rows(part, part.content)
        fresh = self._fresh(rows)
        self._copy(statements.COPY_READINGS, statements.READING_TYPES, fresh)
        return len(rows) - len(fresh)

    def _reading_rows(self, part: NewPart, columns: ReadingColumns) -> Iterator[Row]:
        stream_id, chain_id = self._series_ids(part.series)
        return zip(
            repeat(stream_id, part.count),
            repeat(chain_id, part.count),
            count(part.first),
            columns.metric,
            columns.mantissa,
            columns.time_ms,
            columns.sequence,
            repeat(self._now_ms),
            columns.exponent,
            columns.quality,
            columns.backfilled,
            _texts(columns.device),
            _texts(columns.session),
            columns.extras,
            strict=False,  # it counts and repeats without end
        )

    def _fresh(self, rows: list[Row]) -> list[Row]:
        """Leave out a wearable's stored records that their stream has already."""
        marks = [_record(row) for row in rows]
        marked = dict.fromkeys(mark for mark in marks if mark is not None)
        if not marked:
            return rows
        # Ordered, so that two workers never wait for each other crosswise.
        new = set(self._returning(statements.DEVICE_RECORDS, ((*mark, self._now_ms) for mark in sorted(marked))))
        fresh = []
        for row, mark in zip(rows, marks, strict=True):
            if mark is None:
                fresh.append(row)
            elif mark in new:
                new.remove(mark)
                fresh.append(row)
        return fresh

    def _events(self, parts: Iterable[NewPart]) -> None:
        self._copy(
            statements.COPY_EVENTS,
            ("int8", "int8", "int8", "int8", "text", "text", "int8"),
            (
                (
                    *self._series_ids(part.series),
                    number,
                    event.time_ms,
                    _text(event.code),
                    event_details(event),
                    self._now_ms,
                )
                for part in parts
                if isinstance(part.content, tuple)
                for number, event in enumerate(part.content, part.first)
            ),
        )

    def _gaps(self, parts: Iterable[NewPart]) -> None:
        self._copy(
            statements.COPY_GAPS,
            ("int8", "int8", "int8", "int8", "text", "int8", "int8", "int8"),
            (
                (
                    *self._series_ids(part.series),
                    part.first,
                    gap.count,
                    _text(gap.cause),
                    gap.from_ms,
                    gap.to_ms,
                    self._now_ms,
                )
                for part in parts
                if isinstance(gap := part.content, Gap)
            ),
        )

    def _times(self, plan: Plan) -> None:
        """Correct the times of all records of each boot of which records or anchors are new."""
        fresh = [
            (
                *self._series_ids(part.series),
                time.no,
                part.series.gateway,
                time.boot,
                time.boot_ms,
                time.uncertainty_ms,
                _sent_ms(part, time.no),
                self._now_ms,
            )
            for part in plan.parts
            for time in part.boot_times
        ]
        self._many(statements.BOOT_TIMES, fresh)
        self._many(statements.ANCHORS, plan.anchors)
        boots = {(each.gateway, each.boot) for each in plan.anchors} | {(time[3], time[4]) for time in fresh}
        for gateway, boot in sorted(boots):
            correct(self._connection, gateway, boot)

    def _parked(self, plan: Plan) -> None:
        self._many(statements.UNPARK, plan.unparked)
        for arrival in plan.parked:
            key = (arrival.bundle.gateway, arrival.bundle.chain, arrival.bundle.no, arrival.bundle.hash)
            number = self._one(statements.PARK, *key, self._now_ms, arrival.message.payload)
            needs = {part.epoch for part in arrival.bundle.parts}
            self._many(
                "INSERT INTO parked_needs SELECT * FROM unnest(%s::bigint[], %s::bigint[])",
                ((number, epoch) for epoch in needs),
            )

    def _quarantined(self, quarantined: Sequence[Quarantined]) -> None:
        if not quarantined:
            return
        times = Counter(each.hash for each in quarantined)
        once = {each.hash: each for each in quarantined}
        self._connection.execute(statements.ONE_AT_A_TIME)
        self._many(
            statements.QUARANTINE,
            (
                (
                    digest,
                    each.message.gateway,
                    each.cause,
                    times[digest],
                    self._now_ms,
                    each.message.payload[:QUARANTINED_PAYLOAD_BYTES],
                )
                for digest, each in once.items()
            ),
        )
        self._connection.execute(
            statements.FORGET_OLDEST, (QUARANTINE_BUNDLES, QUARANTINE_BYTES, QUARANTINE_BUNDLES_PER_GATEWAY)
        )


def _record(row: Row) -> tuple[int, bytes] | None:
    """What makes a wearable's stored record the same one again; None for what is not numbered by it."""
    stream_id, _, _, metric, mantissa, _, sequence, _, exponent, _, _, device, session, _ = row
    if sequence is None:
        return None
    identity = f"{device}\0{session or ''}\0{metric},{sequence},{mantissa},{exponent}"
    return stream_id, sha256(identity.encode()).digest()[:16]


def _sent_ms(part: NewPart, number: int) -> int:
    """The time of a record as it came."""
    place = number - part.first
    if isinstance(part.content, ReadingColumns):
        return part.content.time_ms[place]
    return 0  # events are found by their number


def _text(value: str) -> str:
    """PostgreSQL's text holds no U+0000; the archive holds what was sent."""
    return value.replace("\0", "\N{SYMBOL FOR NULL}")


def _texts(column: list[Any]) -> list[Any]:
    if any("\0" in value for value in set(column) if value):
        return [value and _text(value) for value in column]
    return column
