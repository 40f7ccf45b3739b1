"""Writes a plan into PostgreSQL by COPY and arrays, inside a transaction that is already open."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter

from psycopg import Connection

from gateway.receiver.coverage import Coverage
from gateway.receiver.plan import Plan, Quarantined
from gateway.receiver.postgres import statements
from gateway.receiver.postgres.loading import coverages
from gateway.receiver.postgres.times import correct
from gateway.receiver.rows import READING, Row, Rows, bundle_runs
from gateway.receiver.store import (
    QUARANTINE_BUNDLES,
    QUARANTINE_BUNDLES_PER_GATEWAY,
    QUARANTINE_BYTES,
    QUARANTINED_PAYLOAD_BYTES,
    Committed,
)

_RECORD = itemgetter(*map(READING.index, ("source_id", "metric", "sequence", "mantissa", "exponent")))
"""What makes a wearable's stored record the same one again."""
_SEQUENCE = READING.index("sequence")


class Writer:
    """Writes one plan; whoever opened the transaction ends it. Raises `psycopg.Error`."""

    def __init__(self, connection: Connection, now_ms: int) -> None:
        self._connection = connection
        self._now_ms = now_ms

    def write(self, plan: Plan) -> Committed:
        """Write everything."""
        rows = Rows(plan, self._now_ms)
        self._numbers(rows)
        self._bundles(plan, rows)
        self._runs(rows)
        repeated = self._readings(rows)
        self._copy(statements.COPY_EVENTS, statements.EVENT_TYPES, rows.events())
        self._copy(statements.COPY_GAPS, statements.GAP_TYPES, rows.gaps())
        self._times(plan, rows)
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

    def _numbers(self, rows: Rows) -> None:
        """Find the numbers of chains, streams and sources, and give new ones theirs."""
        signers = ((*key, signer) for key, signer in rows.chains().items())
        for gateway, chain_id, number in self._returning(statements.CHAINS, signers):
            rows.chain_ids[gateway, chain_id] = number
        for statement in (statements.FIND_STREAMS, statements.NEW_STREAMS):
            missing = sorted(rows.streams() - rows.stream_ids.keys())
            for gateway, stream, number in self._returning(statement, missing):
                rows.stream_ids[gateway, stream] = number
        wanted = {(rows.stream_ids[each[:2]], each.device, each.session): each for each in rows.sources()}
        for statement in (statements.FIND_SOURCES, statements.NEW_SOURCES):
            missing_sources = [names for names, source in wanted.items() if source not in rows.source_ids]
            for *names, number in self._returning(statement, missing_sources):
                rows.source_ids[wanted[*names]] = number

    def _bundles(self, plan: Plan, rows: Rows) -> None:
        self._many(statements.OPENINGS, rows.openings())
        places = [(rows.chain_ids[b.gateway, b.chain], b.no, self._now_ms) for b in plan.bundles]
        links = ((*place, b.hash, b.prev) for place, b in zip(places, plan.bundles, strict=True))
        self._copy(statements.COPY_LINKS, ("int8", "int8", "int8", "bytea", "bytea"), links)
        signed = ((*place, b.sign1) for place, b in zip(places, plan.bundles, strict=True))
        self._copy(statements.COPY_ARCHIVE, ("int8", "int8", "int8", "bytea"), signed)
        epochs = [((*place, self._now_ms), each) for place, each in rows.epochs()]
        self._many(statements.EPOCH_PARTS, ((*place, each.part.data) for place, each in epochs))
        self._many(statements.EPOCH_SECRETS, ((*place, each.opened.secret, each.opened.salt) for place, each in epochs))
        self._many(statements.TOMBSTONES, rows.tombstones())

    def _runs(self, rows: Rows) -> None:
        self._bundle_runs(rows.runs())
        explained = rows.explained()
        if explained:
            known = coverages(self._connection, explained)
            for chain_id, runs in explained.items():
                for run in runs:
                    known[chain_id].add(run)
            self._bundle_runs(known)
        gone, changed = rows.record_runs()
        self._many(statements.DROP_RECORD_RUNS, gone)
        self._many(statements.RECORD_RUNS, changed)

    def _bundle_runs(self, runs: Mapping[int, Coverage]) -> None:
        gone, changed = bundle_runs(runs)
        self._many(statements.DROP_BUNDLE_RUNS, gone)
        self._many(statements.BUNDLE_RUNS, changed)

    def _readings(self, rows: Rows) -> int:
        """Insert readings; how many were repeated."""
        arrived = list(chain.from_iterable(zip(*columns, strict=False) for columns in rows.readings()))
        fresh = self._fresh(arrived)
        self._copy(statements.COPY_READINGS, statements.READING_TYPES, fresh)
        return len(arrived) - len(fresh)

    def _fresh(self, rows: list[Row]) -> list[Row]:
        """Leave out a wearable's stored records that their stream has already."""
        records = [_RECORD(row) for row in rows if row[_SEQUENCE] is not None]
        if not records:
            return rows
        marks = ((*record, self._now_ms) for record in dict.fromkeys(records))
        new = set(self._returning(statements.DEVICE_RECORDS, marks))
        fresh = []
        for row in rows:
            record = _RECORD(row)
            if row[_SEQUENCE] is None or record in new:
                new.discard(record)
                fresh.append(row)
        return fresh

    def _times(self, plan: Plan, rows: Rows) -> None:
        """Correct the times of all records of each boot of which records or anchors are new."""
        fresh = [(*row, sent_ms, self._now_ms) for row, sent_ms, _ in rows.boot_times()]
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
