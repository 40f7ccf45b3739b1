"""What was taken from wearables and is not sealed yet: bounded, in order, by lane and stream. Sans-IO."""

from collections.abc import Iterable

from gateway.model import Batch, Cursor, Event, Gap, Lane, Record

MOST_RECORDS = 65_536
DISK, REFUSED = "disk", "refused"
"""Why a gap: the disk refused for so long that no more could wait; the format has no room for such a record."""


class Waiting:
    """Holds 65,536 records at most. What comes beyond is counted, and becomes a gap once the others are sealed."""

    def __init__(self) -> None:
        self.cursors: dict[str, Cursor] = {}
        """What becomes durable with the last record that waits."""
        self._records: dict[Lane, dict[bytes, list[Record]]] = {lane: {} for lane in Lane}
        self._events: dict[Lane, list[Event]] = {lane: [] for lane in Lane}
        self._batches: dict[Lane, tuple[Batch, ...]] = dict.fromkeys(Lane, ())
        self._gaps: dict[tuple[Lane, bytes], Gap] = {}
        self.count = 0
        """How many records and events wait."""

    @property
    def full(self) -> bool:
        """Whether what comes next becomes part of a gap."""
        return bool(self._gaps) or self.count >= MOST_RECORDS

    def add(self, lane: Lane, stream: bytes, record: Record) -> bool:
        """Take a record; False if it exceeds the bound and becomes part of a gap."""
        if self.full:
            known = self._gaps.get((lane, stream), Gap(0, DISK, record.time_ms, record.time_ms))
            from_ms, to_ms = min(known.from_ms, record.time_ms), max(known.to_ms, record.time_ms)
            self._gaps[lane, stream] = Gap(known.count + 1, DISK, from_ms, to_ms)
            return False
        self._records[lane].setdefault(stream, []).append(record)
        self.count += 1
        return True

    def add_event(self, lane: Lane, event: Event) -> None:
        """Take a record of the gateway's own stream; there are few."""
        self._events[lane].append(event)
        self.count += 1

    def take(self, lane: Lane, own_stream: bytes) -> tuple[Batch, ...]:
        """Take out all that waits in a lane, what was put back first."""
        arrived = [Batch(stream, tuple(records)) for stream, records in self._records[lane].items()]
        if self._events[lane]:
            arrived.append(Batch(own_stream, tuple(self._events[lane])))
        batches = self._batches[lane] + tuple(arrived)
        self._records[lane], self._events[lane], self._batches[lane] = {}, [], ()
        self.count -= _count(batches)
        return batches

    def put_back(self, lane: Lane, batches: tuple[Batch, ...]) -> None:
        """Let what could not be sealed wait in front of all that came since."""
        self._batches[lane] = batches
        self.count += _count(batches)

    def close_gaps(self) -> bool:
        """Let gaps stand behind the records that came before them; whether there are any."""
        gaps, self._gaps = self._gaps, {}
        for (lane, stream), gap in gaps.items():
            self._batches[lane] += (Batch(stream, gap),)
        return bool(gaps)


def _count(batches: Iterable[Batch]) -> int:
    return sum(batch.count for batch in batches if not isinstance(batch.content, Gap))
