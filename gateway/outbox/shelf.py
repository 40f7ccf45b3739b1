"""All segments in order: where a bundle lies, what no receipt covers, and what may go."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.model import ReceiptRange
from gateway.outbox.receipted import Receipted
from gateway.outbox.segment import Segment


@dataclass(frozen=True, slots=True)
class OutboxStats:
    """The outbox at a glance."""

    bundles: int
    """Durable and unreceipted."""
    bytes: int
    """What these take of the disk."""
    oldest_ms: int | None
    """Time of the oldest record in the first of them."""
    segments: int
    disk_bytes: int
    """What all segments take, receipted and preallocated ones included."""
    room_bytes: int
    """What may still be written before something unreceipted has to go."""
    appended_bytes: int
    """What this process made durable, second copies included."""
    missing: int
    """Bundles that were durable and cannot be read, found at open or since: damage of the medium."""


class Shelf:
    """Segments, oldest first. A position counts bundles across them; it stays while older ones are removed."""

    def __init__(self, book: Receipted, *, first: int) -> None:
        self._book = book
        self._first = first
        self.segments: list[Segment] = []
        self.durable = first
        """Positions below are durable."""

    def add(self, segment: Segment) -> None:
        """Put `segment` behind the others."""
        newest = self.segments[-1] if self.segments else None
        segment.base = self._first if newest is None else newest.base + newest.count
        self.segments.append(segment)

    def remove(self, segment: Segment) -> None:
        """Take `segment` away, and out of the book each chain of which nothing is left."""
        self.segments.remove(segment)
        left = {run.chain for each in self.segments for run in each.runs}
        for chain in {run.chain for run in segment.runs} - left:
            self._book.forget(chain)

    def waiting(self, after: int) -> Iterator[tuple[Segment, int, int]]:
        """Yield durable, unreceipted bundles beyond position `after` as (segment, first index, last index)."""
        for segment in self.segments[max(self._place(after), 0) :]:
            low, high = after + 1 - segment.base, self.durable - 1 - segment.base
            for run in segment.runs:
                shift = run.index - run.no
                for first, last in self._book.holes(run.chain, run.no, run.last):
                    if first + shift <= high and last + shift >= low:
                        yield segment, max(first + shift, low), min(last + shift, high)

    def count_uncovered(self, asked: ReceiptRange) -> int:
        """Return how many bundles of a range are held here and not receipted."""
        total = 0
        for segment in self.segments:
            for run in segment.runs:
                low, high = max(run.no, asked.first), min(run.last, asked.last)
                if run.chain == asked.chain and low <= high:
                    total += sum(last - first + 1 for first, last in self._book.holes(run.chain, low, high))
        return total

    def removable(self, *, damaged: bool = False) -> Iterator[Segment]:
        """Yield segments that are receipted whole and could be read whole, oldest first; never the newest.

        With `damaged` those instead in which something could not be read.
        """
        for segment in self.segments[:-1]:
            waits = any(any(self._book.holes(run.chain, run.no, run.last)) for run in segment.runs)
            if not waits and segment.suspect == damaged and (segment.runs or not damaged):
                yield segment

    def never_used(self) -> list[Segment]:
        """Return segments that hold no bundle and never did; not the newest."""
        return [segment for segment in self.segments[:-1] if not segment.count and not segment.suspect]

    def find(self, chain: bytes, no: int) -> tuple[Segment, int] | None:
        """Return segment and index of a bundle."""
        for segment in reversed(self.segments):
            for run in segment.runs:
                if run.chain == chain and run.no <= no <= run.last:
                    return segment, run.index + no - run.no
        return None

    def at(self, position: int) -> tuple[Segment, int] | None:
        """Return segment and index of the bundle at `position`."""
        place = self._place(position)
        if place < 0:
            return None
        segment = self.segments[place]
        index = position - segment.base
        return (segment, index) if index < segment.count else None

    def _place(self, position: int) -> int:
        return bisect_right(self.segments, position, key=lambda segment: segment.base) - 1
