"""The hallway: Reading -> quality -> Record -> Batch -> Bundle -> outbox, once a tick, and nothing else.

One tick serves all streams. It opens with the first reading after the last flush, so an idle gateway has no timer but
the heartbeat's; an urgent record ends it at once. Seal, append, fdatasync: from then on the readings are safe.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, groupby

from gateway.clock.system import Clock
from gateway.envelope.layout import NO_HASH, not_patient_stream, urgent_root
from gateway.envelope.records import encode_events, encode_records
from gateway.envelope.seal import ChainWriter, self_stream
from gateway.errors import MalformedError, OutboxFullError, OutboxWriteError
from gateway.health.metrics import METRICS
from gateway.health.quality import Assessor, urgent
from gateway.model import SECURITY_EVENTS, Batch, Cursor, Event, Extra, Gap, Hole, Lane, Link, Quality, Reading, Record
from gateway.observe.metrics import GatewayMetrics
from gateway.observe.progress import Pulse
from gateway.outbox.outbox import Outbox, Tale
from gateway.waiting import DISK, REFUSED, Waiting

_log = logging.getLogger(__name__)

_LOOK_S = 0.1
_RETRY_S = 1.0
_BACKFILLED = (Extra.BACKFILLED, 1)
_HOLE_BYTES, _SPAN_BYTES, _TOLD_BYTES = 128, 64, 32_768
"""More than an eviction and each of its streams take, and what one bundle tells of them."""


class Pipeline:
    """Gathers what wearables say and makes it durable once a tick.

    `tick_ms` is how long a reading may wait while online, `offline_tick_ms` otherwise; 0 flushes at once and gathers
    only while the previous flush runs. Without readings one heartbeat is sealed every `heartbeat_s`; it names the
    newest bundle of the urgent lane, and one follows every urgent flush. `profile` says what kind of wearable has an
    address.
    """

    def __init__(
        self,
        *,
        gateway: str,
        writers: Mapping[Lane, ChainWriter],
        outbox: Outbox,
        assessor: Assessor,
        metrics: GatewayMetrics,
        tick_ms: int,
        offline_tick_ms: int,
        heartbeat_s: float,
        online: Callable[[], bool],
        clock: Clock,
        profile: Callable[[str], str],
    ) -> None:
        self.trouble: str | None = None
        """Why nothing can be made durable now."""
        self.pulse = Pulse()
        self._self_stream = self_stream(gateway)
        self._writers = writers
        self._outbox = outbox
        self._assessor = assessor
        self._metrics = metrics
        self._tick_s = tick_ms / 1000
        self._offline_tick_s = offline_tick_ms / 1000
        self._heartbeat_s = heartbeat_s
        self._online = online
        self._clock = clock
        self._profile = profile
        self._waiting = Waiting()
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._closing = False
        self._roll_due = False
        self._failed_at_s = 0.0

    def submit(self, stream: bytes, readings: Iterable[Reading], cursor: Cursor | None = None) -> None:
        """Take readings of one stream; `cursor` becomes durable together with them.

        What is no patient's (control solution, demonstration, test data) goes to a stream of its own. While the disk
        refuses, about 65,536 records wait; after that a signed gap takes the place of more. What a wearable stores is
        then refused, with `OutboxFullError`: ask for it again later, from the cursor that is durable.
        """
        readings = tuple(readings)
        backfilled = sum(_BACKFILLED in reading.extras for reading in readings)
        if (backfilled or cursor is not None) and self._waiting.full:
            raise OutboxFullError("nothing more can be kept until the disk is back")
        records = [self._clock.settle(self._assessor.assess(reading)) for reading in readings]
        refused = 0
        for (alarming, patient), alike in groupby(records, _lot):
            lane = Lane.URGENT if alarming else Lane.DATA
            refused += self._waiting.add(lane, stream if patient else not_patient_stream(stream), list(alike))
            if alarming:
                self._hurry.set()
        self._count(records)
        self._metrics.backfilled.inc(backfilled)
        self._metrics.lost_records.labels(cause=DISK).inc(refused)
        if cursor is not None:
            self._waiting.cursors[cursor.device] = cursor
        self._arrived.set()

    def _count(self, records: Sequence[Record]) -> None:
        kinds = Counter((record.device, record.metric, record.quality) for record in records)
        for (device, code, quality), count in kinds.items():
            metric = METRICS.get(code)
            name = metric.name if metric else "unknown"
            labels = {"profile": self._profile(device), "metric": name, "quality": quality.name.lower()}
            self._metrics.captured.labels(**labels).inc(count)

    def event(self, code: str, *details: int | str | bytes | None) -> None:
        """Take a record of the gateway's own stream."""
        self.tell([self._clock.event(code, *details)])

    def tell(self, events: Iterable[Event]) -> None:
        """Take records of the gateway's own stream that have their time; what a person has to see goes out at once."""
        for event in events:
            lane = Lane.URGENT if event.code in SECURITY_EVENTS else Lane.DATA
            self._waiting.add_event(lane, event)
            if lane is Lane.URGENT:
                self._metrics.security_events.labels(kind=event.code).inc()
                self._hurry.set()
        self._arrived.set()

    def begin_segment(self) -> None:
        """Let the next flush begin a segment, so that from then on nothing needs the keys of what lies before it."""
        self._roll_due = True
        self._arrived.set()

    def wake(self) -> None:
        """Let a flush come soon: the outbox has something to tell."""
        self._arrived.set()

    async def run(self) -> None:
        """Flush once a tick until closed; while the disk refuses, try again and again."""
        while not self._closing:
            self.pulse.expect(self._heartbeat_s)
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._arrived.wait()
            except TimeoutError:
                self.event("heartbeat", *self._urgent_head())
            else:
                self.pulse.expect(max(self._tick_s, self._offline_tick_s))
                await self._rest_of_tick()
            self.pulse.expect(0.0)
            await self._try_flush()
        await self._try_flush()

    def close(self) -> None:
        """Let `run` make a last bundle, which says that the shutdown was orderly, and return."""
        self._closing = True
        self.event("shutdown", *self._urgent_head())
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

    async def _try_flush(self) -> None:
        """Flush, or say why that is not possible now and wait a little."""
        try:
            await self.flush()
        except (OutboxFullError, OutboxWriteError) as error:
            self._metrics.outbox_failures.labels(cause=error.cause).inc()
            self._metrics.outbox_refusing.set(1)
            if self.trouble is None:
                self._failed_at_s = time.monotonic()
            if self.trouble != str(error):
                self.trouble = str(error)
                _log.error("nothing can be made durable, readings wait in memory: %s", error)
            self._arrived.set()
            if not self._closing:
                await asyncio.sleep(_RETRY_S)
            else:
                _log.error("stopped with readings that could not be stored", extra={"count": self._waiting.count})
        else:
            if self.trouble is not None:
                seconds = round(time.monotonic() - self._failed_at_s)
                self.event("outbox-failure", self.trouble, seconds)
                self.trouble = None
                self._metrics.outbox_refusing.set(0)
                _log.warning("the disk takes readings again", extra={"seconds": seconds})

    async def flush(self) -> None:
        """Seal and make durable everything that has been taken, urgent things first.

        Raises `OutboxFullError` and `OutboxWriteError`; nothing is lost then, and the next flush tries again.
        """
        if not self._closing:
            self._hurry.clear()
        self._arrived.clear()
        await self._make_room()
        await self._flush_lanes()
        if self._waiting.close_gaps():
            await self._flush_lanes()
        await self._make_room()

    async def _flush_lanes(self) -> None:
        if await self._flush_lane(Lane.URGENT):
            self._waiting.add_event(Lane.DATA, self._clock.event("heartbeat", *self._urgent_head()))
        if self._roll_due:
            await self._roll(Lane.DATA)
            self._roll_due = False
        await self._flush_lane(Lane.DATA)

    async def _flush_lane(self, lane: Lane) -> int:
        """Seal and sync what waits in a lane; returns how many records that were."""
        batches = self._waiting.take(lane, self._self_stream)
        sealed = 0
        try:
            while batches or self._outbox.unplaced(lane):
                if not self._outbox.fits(lane):
                    await self._roll(lane)
                elif batches:
                    batches = self._seal_next(lane, batches)
                    sealed += 1
        finally:
            self._waiting.put_back(lane, batches)
        await self._outbox.sync(lane)
        return sealed

    async def _roll(self, lane: Lane) -> None:
        await self._outbox.roll(lane)
        self._writers[lane].end_segment()

    def _seal_next(self, lane: Lane, batches: tuple[Batch, ...]) -> tuple[Batch, ...]:
        """Append one bundle; returns what found no room in it."""
        started = time.perf_counter()
        writer = self._writers[lane]
        try:
            bundle, rest = writer.seal(batches, now_ms=self._clock.boot_ms())
        except MalformedError:
            batches = tuple(chain.from_iterable(map(self._sift, batches)))
            bundle, rest = writer.seal(batches, now_ms=self._clock.boot_ms())
        self._metrics.seal_seconds.observe(time.perf_counter() - started)
        cursors: tuple[Cursor, ...] = ()
        if lane is Lane.DATA and not rest:
            # Cursors stand with the last records they speak for, never before them.
            cursors = tuple(self._waiting.cursors.values())
            self._waiting.cursors = {}
        self._outbox.append(bundle, cursors, lane=lane)
        self._metrics.bundles.inc()
        self._metrics.bundle_bytes.observe(len(bundle.data))
        self._metrics.sealed.inc(sum(span.count for span in bundle.spans))
        return rest

    async def _make_room(self) -> None:
        """Tell what the outbox lost to damage or has to let go, and let it go only then."""
        while (tale := await self._outbox.tale()) is not None:
            for holes in _parts(tale):
                if not self._outbox.fits():
                    await self._roll(Lane.DATA)
                events = tuple(self._clock.event("eviction", *_details(hole)) for hole in holes)
                bundle, _ = self._writers[Lane.DATA].seal(
                    [Batch(self._self_stream, events)], now_ms=self._clock.boot_ms()
                )
                self._outbox.append(bundle, told=holes)
            await self._outbox.sync()
            self._outbox.conclude(tale)
            for hole in tale.holes:
                self._metrics.holes.labels(cause=hole.cause).inc(hole.count)
            _log.error("told the receiver what it will never get", extra={"holes": len(tale.holes)})

    def _urgent_head(self) -> tuple[bytes, int, bytes] | tuple[()]:
        head = self._outbox.head(Lane.URGENT)
        return (head.chain, head.no, head.hash) if head else ()

    def _sift(self, batch: Batch) -> Iterator[Batch]:
        """The same batch with a gap in place of each record that the format has no room for."""
        if isinstance(batch.content, Gap):
            yield batch
            return
        for sound, entries in groupby(batch.content, _fits_format):
            content = tuple(entries)
            if not sound:
                self._metrics.device_errors.labels(cause=MalformedError.cause).inc(len(content))
                self._metrics.lost_records.labels(cause=REFUSED).inc(len(content))
                now_ms = self._clock.now_ms()
                yield Batch(batch.stream, Gap(len(content), REFUSED, now_ms, now_ms))
            elif isinstance(batch.content[0], Record):
                yield Batch(batch.stream, tuple(entry for entry in content if isinstance(entry, Record)))
            else:
                yield Batch(batch.stream, tuple(entry for entry in content if isinstance(entry, Event)))


def _lot(record: Record) -> tuple[bool, bool]:
    """Whether it cannot wait, and whether it is a patient's."""
    return urgent(record), record.quality is not Quality.NOT_PATIENT


def root(gateway: str, lane: Lane) -> Link | None:
    """What a lane's very first chain names as the one before (docs/format.md)."""
    return Link(urgent_root(gateway), 0, NO_HASH) if lane is Lane.URGENT else None


def _parts(tale: Tale) -> Iterator[tuple[Hole, ...]]:
    """Divide what has to be told into what one bundle has room for."""
    part: list[Hole] = []
    room_bytes = _TOLD_BYTES
    for hole in chain.from_iterable(map(_split, tale.holes)):
        size = _HOLE_BYTES + _SPAN_BYTES * len(hole.spans)
        if part and size > room_bytes:
            yield tuple(part)
            part, room_bytes = [], _TOLD_BYTES
        part.append(hole)
        room_bytes -= size
    if part:
        yield tuple(part)


def _split(hole: Hole) -> Iterator[Hole]:
    """Divide the streams of a hole among several of the same bundles, if they are too many for one event."""
    most = (_TOLD_BYTES - _HOLE_BYTES) // _SPAN_BYTES
    for at in range(0, max(len(hole.spans), 1), most):
        yield replace(hole, spans=hole.spans[at : at + most])


def _details(hole: Hole) -> tuple[int | str | bytes, ...]:
    """The details of an eviction, as `docs/format.md` has them."""
    spans = [(span.stream, span.first, span.count, span.from_ms, span.to_ms) for span in hole.spans]
    return hole.chain, hole.first, hole.last, hole.hash, hole.cause, *(item for span in spans for item in span)


def _fits_format(entry: Record | Event) -> bool:
    try:
        encode_records([entry]) if isinstance(entry, Record) else encode_events([entry])
    except MalformedError:
        return False
    return True
