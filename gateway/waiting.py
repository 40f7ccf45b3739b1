"""What was taken from wearables and is not sealed yet: bounded, in order, by lane and stream. Sans-IO."""

from collections.abc import Iterable, Sequence

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

    def add(self, lane: Lane, stream: bytes, records: Sequence[Record]) -> int:
        """Take records; returns how many of them exceed the bound and become part of a gap."""
        room = 0 if self.full else MOST_RECORDS - self.count
        taken, beyond = records[:room], records[room:]
        if taken:
            self._records[lane].setdefault(stream, []).extend(taken)
            self.count += len(taken)
        if beyond:
            times_ms = [record.time_ms for record in beyond]
            if (known := self._gaps.get((lane, stream))) is not None:
                times_ms += known.from_ms, known.to_ms
            count = len(beyond) + (known.count if known else 0)
            self._gaps[lane, stream] = Gap(count, DISK, min(times_ms), max(times_ms))
        return len(beyond)

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
