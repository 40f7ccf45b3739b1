"""The hallway: Reading -> quality -> Record -> Batch -> Bundle -> outbox, once a tick, and nothing else.

One tick serves all streams. It opens with the first reading after the last flush, so an idle gateway has no timer but
the heartbeat's. Seal, append, fdatasync: from then on the readings are safe.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, groupby

from gateway.clock.system import Clock
from gateway.envelope.layout import not_patient_stream
from gateway.envelope.records import encode_events, encode_records
from gateway.envelope.seal import ChainWriter, self_stream
from gateway.errors import MalformedError, OutboxFullError
from gateway.health.metrics import METRICS
from gateway.health.quality import Assessor
from gateway.model import Batch, Cursor, Event, Extra, Gap, Quality, Reading, Record
from gateway.observe.metrics import GatewayMetrics
from gateway.outbox.outbox import Outbox

_MOST_WAITING = 65_536
_LOOK_S = 0.1
_BACKFILLED = (Extra.BACKFILLED, 1)


class Pipeline:
    """Gathers what wearables say and makes it durable once a tick.

    `tick_ms` is how long a reading may wait while online, `offline_tick_ms` otherwise; 0 flushes at once and gathers
    only while the previous flush runs. Without readings one heartbeat is sealed every `heartbeat_s`.
    """

    def __init__(
        self,
        *,
        gateway: str,
        writer: ChainWriter,
        outbox: Outbox,
        assessor: Assessor,
        metrics: GatewayMetrics,
        tick_ms: int,
        offline_tick_ms: int,
        heartbeat_s: float,
        online: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self._self_stream = self_stream(gateway)
        self._writer = writer
        self._outbox = outbox
        self._assessor = assessor
        self._metrics = metrics
        self._tick_s = tick_ms / 1000
        self._offline_tick_s = offline_tick_ms / 1000
        self._heartbeat_s = heartbeat_s
        self._online = online
        self._clock = clock
        self._records: dict[bytes, list[Record]] = {}
        self._events: list[Event] = []
        self._batches: tuple[Batch, ...] = ()
        self._cursors: dict[str, Cursor] = {}
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._roll_due = False

    def submit(self, stream: bytes, readings: Iterable[Reading], cursor: Cursor | None = None) -> None:
        """Take readings of one stream; `cursor` becomes durable together with them.

        What is no patient's (control solution, demonstration, test data) goes to a stream of its own.
        """
        records = [self._clock.settle(self._assessor.assess(reading)) for reading in readings]
        for record in records:
            where = not_patient_stream(stream) if record.quality is Quality.NOT_PATIENT else stream
            self._records.setdefault(where, []).append(record)
        self._count(records)
        if cursor is not None:
            self._cursors[cursor.device] = cursor
        self._arrived.set()

    def _count(self, records: Sequence[Record]) -> None:
        kinds = Counter((record.metric, record.quality) for record in records)
        for (code, quality), count in kinds.items():
            metric = METRICS.get(code)
            name = metric.name if metric else "unknown"
            self._metrics.captured.labels(metric=name, quality=quality.name.lower()).inc(count)
        backfilled = sum(_BACKFILLED in record.extras for record in records)
        self._metrics.backfilled.inc(backfilled)

    def event(self, code: str, *details: int | str | bytes | None) -> None:
        """Take a record of the gateway's own stream."""
        self.tell([self._clock.event(code, *details)])

    def tell(self, events: Iterable[Event]) -> None:
        """Take records of the gateway's own stream that have their time."""
        self._events += events
        self._arrived.set()

    def begin_segment(self) -> None:
        """Let the next flush begin a segment, so that from then on nothing needs the keys of what lies before it."""
        self._roll_due = True
        self._arrived.set()

    async def run(self) -> None:
        """Flush once a tick until closed. Raises `OutboxError` when readings can no longer be kept."""
        while not self._closing:
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._arrived.wait()
            except TimeoutError:
                self.event("heartbeat")
            else:
                await self._rest_of_tick()
            await self.flush()
        await self.flush()

    def close(self) -> None:
        """Let `run` make a last bundle, which says that the shutdown was orderly, and return."""
        self._closing = True
        self.event("shutdown")
        self._hurry.set()

    async def _rest_of_tick(self) -> None:
        """Wait one tick; while offline a longer one, which ends soon after the uplink is back."""
        waited_s = 0.0
        while not self._hurry.is_set():
            left_s = (self._tick_s if self._online() else self._offline_tick_s) - waited_s
            if left_s <= 0:
                return
            step_s = min(left_s, max(self._tick_s, _LOOK_S))
            with suppress(TimeoutError):
                async with asyncio.timeout(step_s):
                    await self._hurry.wait()
            waited_s += step_s

    async def flush(self) -> None:
        """Seal and make durable everything that has been taken.

        While the outbox is full, readings wait in memory, up to 65,536 of them; then `OutboxFullError` is raised.
        """
        self._take()
        sealed = 0
        while self._batches or self._roll_due:
            try:
                if self._roll_due or not self._outbox.fits():
                    await self._outbox.roll()
                    self._writer.end_segment()
                    self._roll_due = False
                    continue
            except OutboxFullError:
                if sum(batch.count for batch in self._batches) > _MOST_WAITING:
                    raise
                self._metrics.outbox_full.inc()
                break
            sealed += self._seal_next()
        await self._outbox.sync()
        self._metrics.sealed.inc(sealed)

    def _seal_next(self) -> int:
        """Append one bundle; how many records it holds."""
        started = time.perf_counter()
        try:
            bundle, self._batches = self._writer.seal(self._batches, now_ms=self._clock.boot_ms())
        except MalformedError:
            self._batches = tuple(chain.from_iterable(map(self._sift, self._batches)))
            bundle, self._batches = self._writer.seal(self._batches, now_ms=self._clock.boot_ms())
        self._metrics.seal_seconds.observe(time.perf_counter() - started)
        # Cursors stand with the last records they speak for, never before them.
        cursors = () if self._batches else tuple(self._cursors.values())
        self._outbox.append(bundle, cursors)
        if cursors:
            self._cursors = {}
        self._metrics.bundles.inc()
        return sum(span.count for span in bundle.spans)

    def _sift(self, batch: Batch) -> Iterator[Batch]:
        """The same batch with a gap in place of each record that the format has no room for."""
        if isinstance(batch.content, Gap):
            yield batch
            return
        for sound, entries in groupby(batch.content, _fits_format):
            content = tuple(entries)
            if not sound:
                self._metrics.device_errors.labels(cause=MalformedError.cause).inc(len(content))
                now_ms = self._clock.now_ms()
                yield Batch(batch.stream, Gap(len(content), "refused", now_ms, now_ms))
            elif isinstance(batch.content[0], Record):
                yield Batch(batch.stream, tuple(entry for entry in content if isinstance(entry, Record)))
            else:
                yield Batch(batch.stream, tuple(entry for entry in content if isinstance(entry, Event)))

    def _take(self) -> None:
        """Move what has arrived behind what still waits."""
        batches = [Batch(stream, tuple(records)) for stream, records in self._records.items()]
        if self._events:
            batches.append(Batch(self._self_stream, tuple(self._events)))
        self._batches += tuple(batches)
        self._records, self._events = {}, []
        self._arrived.clear()


def _fits_format(entry: Record | Event) -> bool:
    try:
        encode_records([entry]) if isinstance(entry, Record) else encode_events([entry])
    except MalformedError:
        return False
    return True
