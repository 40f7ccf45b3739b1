"""One lane of the outbox: its segments, and what has been appended to the newest and is not durable yet."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

from gateway.envelope.layout import NO_HASH
from gateway.errors import MalformedError, OutboxDamagedError, OutboxFullError, OutboxWriteError
from gateway.model import Cursor, Hole, Lane, Link, SealedBundle
from gateway.outbox.disk import Disk
from gateway.outbox.eviction import lost_with
from gateway.outbox.files import Files
from gateway.outbox.framing import Frame, decode_trailer
from gateway.outbox.receipted import Receipted
from gateway.outbox.recovery import DAMAGED, Memory, named_by, recover
from gateway.outbox.segment import Segment, read_trailers, segment_path, segment_paths
from gateway.outbox.shelf import Shelf

_FIRST_POSITION = {Lane.DATA: 0, Lane.URGENT: 1 << 48}


@dataclass(frozen=True, slots=True)
class Stored:
    """A durable bundle; `position` orders all of its lane that one opened outbox holds, earlier processes' first.

    No two lanes share a position.
    """

    lane: Lane
    position: int
    link: Link
    size: int
    """Bytes on the wire."""
    count: int
    """Records inside, of all streams."""
    from_ms: int
    """The oldest record's time, UTC milliseconds since 1970."""


@dataclass(slots=True)
class _Pending:
    """A bundle that is not durable yet: the same bytes are placed again where a segment fails."""

    bundle: SealedBundle
    cursors: tuple[Cursor, ...]
    told: tuple[Hole, ...]
    frames: bytes
    """As they lie in the present segment; empty: not placed in it."""
    written: bool = False
    """Handed to the disk, which has not answered yet."""


class Log:
    """Appended to, synced and rolled by one task; read at any time."""

    def __init__(self, lane: Lane, directory: Path, *, gateway: str, files: Files, disk: Disk, book: Receipted) -> None:
        self.on_durable: Callable[[float], None] = lambda _: None
        """Called with the seconds that each write and fdatasync took, after what it wrote counts as durable."""
        self.on_damage: Callable[[], None] = lambda: None
        self.memory = Memory(gateway)
        self.active: Segment | None = None
        self.appended_bytes = 0
        """What this process made durable here."""
        self._lane = lane
        self._directory = directory
        self._files = files
        self._disk = disk
        self._book = book
        self.shelf = Shelf(book, first=_FIRST_POSITION[lane])
        self._numbers = count(1)
        self._pending: list[_Pending] = []
        self._untold: dict[int, list[Hole]] = {}
        """Damage that no signed record tells of yet, by segment number."""

    def recover(self, after: Link | None) -> None:
        """Scan what earlier processes left; without anything, go on `after` that. Raises `OutboxError`, `OSError`."""
        self.memory.head = after
        for unfinished in self._files.names(self._directory, ".tmp"):
            self._files.delete(unfinished)
        paths = segment_paths(self._files, self._directory)
        if paths:
            self._files.settle(paths[-1])
        before: Segment | None = None
        for path in paths:
            segment, state = recover(self._files, path, self.memory, before)
            if state is not None:
                self._book.believe(state)
            self.shelf.add(segment)
            if segment.holes and not segment.marked:
                self._untold[segment.number] = list(segment.holes)
            before = segment
        self.shelf.durable += sum(segment.count for segment in self.shelf.segments)
        self._numbers = count(1 if before is None else before.number + 1)

    @property
    def missing(self) -> int:
        """How many bundles were durable and cannot be read."""
        return sum(segment.missing for segment in self.shelf.segments)

    def fits(self) -> bool:
        """Whether the largest bundle, written twice, still fits in the present segment."""
        return self.active is not None and not self.unplaced and self.active.fits()

    @property
    def unplaced(self) -> bool:
        """Whether something waits for another segment."""
        return not all(each.frames for each in self._pending)

    def append(self, bundle: SealedBundle, cursors: Sequence[Cursor], told: Sequence[Hole]) -> None:
        """Give a bundle the next place. Raises `OutboxError`, `OutboxFullError` where it does not fit."""
        if self.active is None or self.unplaced:
            raise OutboxFullError("there is no segment to append to: roll first")
        frames = self.active.append(bundle, cursors, told)
        self._pending.append(_Pending(bundle, tuple(cursors), tuple(told), frames))

    async def sync(self) -> None:
        """Make everything that was appended durable, with one fdatasync.

        Raises `OutboxWriteError`, also as long as something waits for another segment.
        """
        await self._sync_placed()
        if self.unplaced:
            raise OutboxWriteError("bundles that a segment did not keep wait for the next one")

    async def _sync_placed(self) -> None:
        segment = self.active
        batch = [each for each in self._pending if each.frames and not each.written]
        if segment is not None and batch:
            for each in batch:
                each.written = True
            frames = b"".join(each.frames for each in batch)
            await self._disk.run(
                partial(_write, segment, frames, segment.end - len(frames)),
                done=partial(self._became_durable, batch),
                failed=partial(self._withdraw, segment),
            )
        else:
            await self._disk.run(lambda: None)

    async def settle(self) -> None:
        """Sync until nothing is left that has its place. Raises `OutboxWriteError`."""
        while any(each.frames for each in self._pending):
            await self._sync_placed()

    def create(self, room: Path, segment_bytes: int) -> Callable[[], Segment]:
        """Return the work that makes the next segment of the `room` allocated for it; `begin` takes its result."""
        path = segment_path(self._directory, next(self._numbers))
        return partial(Segment.create, self._files, room, path, segment_bytes, self.memory.snapshot(self._book.state))

    def begin(self, segment: Segment) -> None:
        """Append to `segment` from now on, and first again what a segment that failed did not keep."""
        self.retire()
        self.shelf.add(segment)
        self.active = segment
        for unused in self.shelf.never_used():
            self.delete(unused)
        for each in self._pending:
            try:
                each.frames = segment.append(each.bundle, each.cursors, each.told)
            except OutboxFullError:
                break

    def delete(self, segment: Segment) -> None:
        """Delete a segment for good."""
        self.shelf.remove(segment)
        self._untold.pop(segment.number, None)
        self._disk.submit(partial(_delete_file, self._files, segment.path))

    def retire(self) -> None:
        """Append to the present segment no more."""
        if self.active is not None:
            self.active.size = self.active.end
            self._disk.submit(self.active.finish)
            self.active = None

    def unreceipted(self, after: int, limit: int) -> list[Stored]:
        """Return up to `limit` durable bundles beyond position `after`, ascending, without those unreadable."""
        found: list[Stored] = []
        for segment, first, last in self.shelf.waiting(after):
            for index in range(first, last + 1):
                if len(found) >= limit:
                    return found
                with suppress(OutboxDamagedError):
                    found.append(self._describe(segment.base + index, self.read(segment, index)))
        return found

    def read(self, segment: Segment, index: int) -> Frame:
        """Read a bundle's frame. Raises `OutboxDamagedError`, and tells `on_damage` the first time."""
        try:
            return segment.read(index)
        except OutboxDamagedError:
            chain, no = segment.numbered(index)
            if not any(hole.chain == chain and hole.first <= no <= hole.last for hole in segment.holes):
                hole = Hole(chain, no, no, self._hash_from_next(segment, index), DAMAGED)
                segment.holes.append(hole)
                segment.suspect = True
                self._untold.setdefault(segment.number, []).append(hole)
                self.on_damage()
            raise

    def _hash_from_next(self, segment: Segment, index: int) -> bytes:
        """Return the hash of a bundle that cannot be read, as the one after it tells; zeros if that is gone too."""
        head = self.memory.head
        if head is not None and (head.chain, head.no) == segment.numbered(index):
            return head.hash
        place = self.shelf.at(segment.base + index + 1)
        with suppress(OutboxDamagedError, MalformedError):
            if place is not None:
                frame = place[0].read(place[1])
                before = named_by(frame, decode_trailer(frame.trailer).link)
                if before is not None and (before.chain, before.no) == segment.numbered(index):
                    return before.hash
        return NO_HASH

    def untold_damage(self) -> tuple[Segment, tuple[Hole, ...]] | None:
        """Return the oldest segment with damage that has not been told, and that damage."""
        if not self._untold:
            return None
        segment = next(each for each in self.shelf.segments if each.number in self._untold)
        return segment, tuple(self._untold[segment.number])

    def was_told(self, segment: Segment, holes: Sequence[Hole]) -> None:
        """Note that a durable bundle tells of a segment's damage, and mark it, so that the next start knows."""
        left = [hole for hole in self._untold.pop(segment.number, []) if hole not in holes]
        if left:
            self._untold[segment.number] = left
        elif segment is not self.active and not segment.marked:
            try:
                segment.mark()
            except OSError as error:
                self._disk.on_failure(error)

    def lost_with(self, segment: Segment, cause: str) -> Callable[[], tuple[Hole, ...]]:
        """Return the work that says which holes a segment leaves when it goes unreceipted."""
        ranges = [
            (run.chain, first, last)
            for run in segment.runs
            for first, last in self._book.holes(run.chain, run.no, run.last)
        ]
        return lambda: lost_with(read_trailers(self._files, segment.path), ranges, cause)

    def hash_of(self, chain: bytes, no: int) -> bytes | None:
        """Return the hash of a bundle that was written here; None if it cannot be known any more, b"" if none was."""
        head = self.memory.head
        if head is not None and head.chain == chain and no > head.no:
            return b""
        if (place := self.shelf.find(chain, no)) is not None:
            with suppress(OutboxDamagedError):
                return decode_trailer(self.read(*place).trailer).link.hash
        return None

    def waiting(self) -> Iterator[tuple[Segment, int, int]]:
        """Yield all durable, unreceipted bundles as (segment, first index, last index)."""
        return self.shelf.waiting(-1)

    def _describe(self, position: int, frame: Frame) -> Stored:
        trailer = decode_trailer(frame.trailer)
        return Stored(
            lane=self._lane,
            position=position,
            link=trailer.link,
            size=len(frame.bundle),
            count=sum(span.count for span in trailer.spans),
            from_ms=min((span.from_ms for span in trailer.spans), default=0),
        )

    def _became_durable(self, batch: Sequence[_Pending], seconds: float) -> None:
        del self._pending[: len(batch)]
        for each in batch:
            self.appended_bytes += len(each.frames)
            self.memory.note(each.bundle.link, each.cursors)
        self.shelf.durable += len(batch)
        self.on_durable(seconds)

    def _withdraw(self, segment: Segment) -> None:
        """A write or a sync was refused: what is not durable now waits for another segment."""
        if self.active is segment:
            segment.forget(sum(1 for each in self._pending if each.frames))
            self.retire()
            for each in self._pending:
                each.frames, each.written = b"", False


def _delete_file(files: Files, path: Path) -> None:
    files.delete(path)
    files.sync_directory(path.parent)


def _write(segment: Segment, frames: bytes, offset: int) -> float:
    started_s = time.perf_counter()
    segment.write(frames, offset)
    return time.perf_counter() - started_s
